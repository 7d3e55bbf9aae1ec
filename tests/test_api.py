"""The page on notebooks is run as it stands, but for the run: a tiny one. Predictions are those of the evaluation."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from places import ROOT
from survey_jax import api
from survey_jax.common.errors import UserError
from survey_jax.inputs.prompts import Prompter
from survey_jax.inputs.task import open_tokenizer
from tiny import rows, write_config, write_model, write_rows

PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("api")
    model, table = write_model(folder / "model"), write_rows(folder / "table.jsonl", rows())
    config = write_config(folder, model, table, optim__steps="2", run__eval_every="2", batch__seq_len="4096")
    command = [sys.executable, "-m", "survey_jax.train", f"--config={config}", f"--workdir={folder / 'run'}"]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "run"


def test_the_page_runs(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block.replace("checkpoints/demo", str(run)), names)
    printed = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"KL 0\.\d{3} \[0\.\d{3}, 0\.\d{3}\]", printed[0])
    assert printed[-2].startswith("step 2, temperatures {")
    for row, forecast in zip(names["test"][:20], names["forecasts"], strict=True):
        assert len(forecast.shares) == len(row.options)
        assert sum(forecast.shares) == pytest.approx(1)


def test_predictions_are_those_of_the_evaluation(run: Path) -> None:
    command = [sys.executable, "-m", "survey_jax.eval", f"--workdir={run}", "--name=api"]
    subprocess.run(command, check=True, capture_output=True)
    evaluated = pyarrow.parquet.read_table(run / "eval" / "api" / "predictions.parquet").to_pylist()
    by_key = {(row["question_id"], row["group.country"]): row["prediction"] for row in evaluated}
    opened = api.load_run(str(run))
    asked = [
        a for a in api.read_table(run.parent / "table.jsonl") if (a.question_id, dict(a.group)["country"]) in by_key
    ]
    for part in (asked[:7], asked):  # other rows are other batches, and may have fewer options
        for row, shares in zip(part, opened.model_shares(part), strict=True):
            np.testing.assert_allclose(shares, by_key[row.question_id, dict(row.group)["country"]], atol=1e-6)


def test_the_mean_over_orders_and_templates(run: Path) -> None:
    plain, one, two = api.load_run(str(run)), api.load_run(str(run), orders=1), api.load_run(str(run), orders=2)
    four = api.load_run(str(run), orders=2, templates=["group_last"])
    asked = api.read_table(run.parent / "table.jsonl")[:24]
    by_hand = []
    for template, order, seed in (
        *(("question_first", "listed", 0), ("question_first", "shuffled", 1)),
        *(("group_last", "listed", 0), ("group_last", "shuffled", 1)),
    ):
        config = plain.config
        tokenizer, cache = open_tokenizer(config, plain._pretrained)
        prompter = Prompter(tokenizer, template, order=order, seed=config.run.seed + seed, cache=cache)
        other = api.load_run(str(run))
        other._prompters = (prompter,)
        by_hand.append(other._shares(asked))
    np.testing.assert_array_equal(one._shares(asked), plain._shares(asked))
    np.testing.assert_array_equal(by_hand[0], plain._shares(asked))
    np.testing.assert_allclose(two._shares(asked), np.mean(by_hand[:2], axis=0), atol=1e-6)
    np.testing.assert_allclose(four._shares(asked), np.mean(by_hand, axis=0), atol=1e-6)
    assert all(np.abs(by_hand[0] - other).max() > 1e-3 for other in by_hand[1:])


def test_a_stack_is_kept_for_each_way_of_asking(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = api.read_table(run.parent / "table.jsonl")[:2]
    ways: list[tuple[int, tuple[str, ...]]] = [(1, ()), (2, ()), (1, ("group_last",))]
    for (orders, templates), fits in zip([*ways, *ways], [None, True, True, False, False, False], strict=True):
        api.load_run(str(run), orders=orders, templates=templates).predict(asked)
        fitted = "fitting weights" in capsys.readouterr().out
        assert fits is None or fitted == fits
    assert (run / "prediction" / "step_2_orders_2.json").exists()
    assert (run / "prediction" / "step_2_group_last.json").exists()
    with pytest.raises(UserError, match="orders: 0"):
        api.load_run(str(run), orders=0)
    for wrong, why in (
        ("nonsense", "unknown; choose"),
        ("question_first", "asked already"),
        ("paper", "asked already"),
    ):
        with pytest.raises(UserError, match=why):
            api.load_run(str(run), templates=["paper", wrong])


def test_tables_and_scores_need_no_jax() -> None:
    code = "import sys; from survey_jax import api; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_run_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run here"):
        api.load_run(str(tmp_path))
