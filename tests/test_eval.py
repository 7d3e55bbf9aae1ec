"""A whole small run, trained and evaluated by the real binaries: what a user finds in the files."""

import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pandas as pd
import pytest
import scipy.stats
from scipy.spatial.distance import jensenshannon

import tiny
from survey_jax.inputs.prompts import Prompter
from survey_jax.survey.baselines.registry import BASELINES
from survey_jax.survey.table import read_table
from survey_jax.survey.table_files import fold

SPLITS = ("valid", "unseen_question", "unseen_group", "unseen_both")
EVIL = "<script>alert(1)</script> thing"


def run(world: Path, module: str, *flags: str) -> str:
    """A binary's output; it must succeed."""
    command = [sys.executable, "-m", f"survey_jax.{module}", *flags]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=world, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A folder with a trained and evaluated run under checkpoints/tiny_config."""
    directory = tmp_path_factory.mktemp("eval")
    rows = tiny.rows()
    for row in rows:
        row["survey"] = EVIL
    table = tiny.write_rows(directory / "table.jsonl", rows)
    model = tiny.write_model(directory / EVIL.split("/")[0])  # the report names it
    tiny.write_config(directory, model, table, optim__steps="20", run__eval_every="10")
    run(directory, "train", "--config=tiny_config.py")
    run(directory, "eval", "--step=last", "--name=last")
    return directory


def results(world: Path, name: str) -> dict:
    def refuse(constant: str):
        raise AssertionError(f"{constant} is not JSON")

    text = (world / "checkpoints" / "tiny_config" / "eval" / name / "metrics.json").read_text()
    return json.loads(text, parse_constant=refuse)["splits"]


def predictions(world: Path, name: str) -> list[dict]:
    file = world / "checkpoints" / "tiny_config" / "eval" / name / "predictions.parquet"
    return [fold(row) for row in datasets.Dataset.from_parquet(str(file), cache_dir=str(world / "cache")).to_list()]


def test_metrics_have_every_split_system_and_interval(world: Path) -> None:
    splits = results(world, "last")
    assert tuple(splits) == SPLITS
    for split in splits.values():
        assert set(split) >= {"n", "model", "baselines", "ceiling"}
        assert set(split["baselines"]) == {*BASELINES, "zero_shot", "uncalibrated", "group_swapped"}
        for metric in ("paper_1_minus_jsd", "kl", "tv", "emd"):
            entry = split["model"][metric]
            assert set(entry) == {"value", "low", "high"}
            assert entry["low"] is None or entry["low"] <= entry["value"] <= entry["high"]
        assert split["differences"].keys() >= {"zero_shot"}
        assert set(split["skill"]) <= {"paper_1_minus_jsd", "kl", "tv"}
        assert split["diagnostics"].keys() >= {"collapse", "calibration", "position_bias"}
        assert split["failures"] == {}  # unseen_group has one group: nobody to swap it with did not fail
    assert "group_swapped" in splits["valid"]["differences"]
    assert "group_swapped" not in splits["unseen_group"]["differences"]


def test_predictions_are_distributions_and_carry_their_metrics(world: Path) -> None:
    rows = predictions(world, "last")
    splits = results(world, "last")
    for name in SPLITS:
        mine = [row for row in rows if row["split"] == name]
        assert len(mine) == splits[name]["n"]
        scores = [1 - jensenshannon(row["target"], row["prediction"]) for row in mine]
        assert np.mean(scores) == pytest.approx(splits[name]["model"]["paper_1_minus_jsd"]["value"], abs=1e-6)
    for row in rows:
        assert len(row["prediction"]) == len(row["options"]) == len(row["target"])
        assert sum(row["prediction"]) == pytest.approx(1, abs=1e-5)
        assert {"survey", "question_id", "question", "group", "n"} <= row.keys()
        target, prediction = np.array(row["target"]), np.array(row["prediction"])
        assert row["kl"] == pytest.approx(scipy.stats.entropy(target, prediction), rel=1e-5)
        assert row["tv"] == pytest.approx(np.abs(target - prediction).sum() / 2, rel=1e-5)
        steps = len(target) - 1  # between the first option and the last
        distance = scipy.stats.wasserstein_distance(range(steps + 1), range(steps + 1), target, prediction)
        assert row["emd"] == pytest.approx(distance / steps, rel=1e-4)


def test_report_escapes_and_stands_alone(world: Path) -> None:
    page = (world / "checkpoints" / "tiny_config" / "eval" / "last" / "report.html").read_text()
    assert all(name in page for name in SPLITS)
    assert "&lt;script&gt;alert(1)&lt;" in page
    assert "<script" not in page
    assert "http" not in page.replace("<meta http-equiv=", "")


def test_report_discloses_data_and_model(world: Path) -> None:
    """Among others an example of a prompt, and the fingerprints that the run's manifest has."""
    folder = world / "checkpoints" / "tiny_config"
    page = html.unescape((folder / "eval" / "last" / "report.html").read_text())
    card = page.split('<section id="card">')[1]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["identity"]["base model"] in card
    assert manifest["identity"]["training set"] in card
    assert re.search(r"Is .* good\?\n\(A\) option 0 of \d\n\(B\) option 1 of \d", card)
    assert "tiny_config step 20" in card
    assert "LoRA of rank 4" in card
    assert f"jax {manifest['starts'][0]['versions']['jax']}" in card
    headings = [card.index(f"<h3>{h}</h3>") for h in ("Whose data", "Population under study", "Weights", "Splits",
                                                      "Leakage audit", "Prompt", "Model")]  # fmt: skip
    assert headings == sorted(headings)


def test_zero_shot_is_the_trained_run_s_baseline(world: Path) -> None:
    """In the wording that suits the base model best on `valid`, which the output tells."""
    trained = results(world, "last")
    template = trained["valid"]["zero_shot_template"]
    flags = ("--config=tiny_config.py", "--zero_shot", f"--config.data.template={template}", "--controls=")
    run(world, "eval", *flags, "--name=zero")
    zero = results(world, "zero")
    for name in SPLITS:
        for metric in ("paper_1_minus_jsd", "kl"):
            expected = trained[name]["baselines"]["zero_shot"][metric]["value"]
            assert zero[name]["model"][metric]["value"] == pytest.approx(expected, rel=1e-6)


def test_attention_back_ends_evaluate_alike(world: Path) -> None:
    for attention in ("dense", "two_part"):
        changed = (f"--config.model.attention={attention}", f"--name={attention}")
        run(world, "eval", "--config=tiny_config.py", "--zero_shot", "--controls=", *changed)
    dense, two_part = results(world, "dense"), results(world, "two_part")
    for name in SPLITS:
        expected = dense[name]["model"]["kl"]["value"]
        assert two_part[name]["model"]["kl"]["value"] == pytest.approx(expected, rel=1e-5)


def test_two_evaluations_are_compared(world: Path) -> None:
    run(world, "eval", "--config=tiny_config.py", "--zero_shot", "--controls=", "--name=compared")
    folder = world / "checkpoints" / "tiny_config" / "eval"
    output = run(world, "compare", str(folder / "compared"), str(folder / "last"))
    assert "difference in KL" in output
    splits = json.loads((folder / "compared" / "comparison.json").read_text())["splits"]
    trained, zero = results(world, "last"), results(world, "compared")
    for name in SPLITS:
        found = splits[name]["differences"][str(folder / "last")]["kl"]["value"]
        expected = trained[name]["model"]["kl"]["value"] - zero[name]["model"]["kl"]["value"]
        assert found == pytest.approx(expected, abs=1e-6)


def test_controls_are_columns(world: Path) -> None:
    """A control equals a run of its own under the setting that it stands for."""
    flags = ("--config=tiny_config.py", "--zero_shot")
    run(world, "eval", *flags, "--controls=reversed,template:paper,no_group", "--name=controls")
    run(world, "eval", *flags, "--config.data.option_order=reversed", "--controls=", "--name=c_reversed")
    run(world, "eval", *flags, "--config.data.template=paper", "--controls=", "--name=c_paper")
    found = results(world, "controls")
    for control, name in (("reversed", "c_reversed"), ("template:paper", "c_paper")):
        alone = results(world, name)
        for split in SPLITS:
            assert set(alone[split]["baselines"]) == {*BASELINES}
            for metric in ("kl", "tv"):
                expected = alone[split]["model"][metric]["value"]
                assert found[split]["baselines"][control][metric]["value"] == pytest.approx(expected, rel=1e-5)
    assert found["valid"]["baselines"]["no_group"]["kl"]["value"] != found["valid"]["model"]["kl"]["value"]


def test_options_shown_in_reverse_are_predicted_as_listed(world: Path) -> None:
    """The same prompts come about by reversing the table, or by the setting; predictions must differ in order only."""
    rows = [json.loads(line) for line in (world / "table.jsonl").read_text().splitlines()]
    mirrored = [row | {"options": row["options"][::-1], "counts": row["counts"][::-1]} for row in rows]
    tiny.write_rows(world / "mirrored.jsonl", mirrored)
    flags = ("--config=tiny_config.py", "--zero_shot")
    run(world, "eval", *flags, "--config.data.option_order=reversed", "--name=reversed")
    run(world, "eval", *flags, "--config.data.tables=('mirrored.jsonl',)", "--name=mirrored")
    shown, stored = predictions(world, "reversed"), predictions(world, "mirrored")
    assert [row["question_id"] for row in shown] == [row["question_id"] for row in stored]
    for ours, theirs in zip(shown, stored, strict=True):
        assert ours["options"] == theirs["options"][::-1]
        assert ours["target"] == pytest.approx(theirs["target"][::-1])
        assert ours["prediction"] == pytest.approx(theirs["prediction"][::-1], abs=1e-6)
        assert ours["option_order"] == list(range(len(ours["options"])))[::-1]
        assert theirs["option_order"] == list(range(len(ours["options"])))
    run(world, "eval", *flags, "--controls=", "--name=plain")
    plain = [row["prediction"] for row in predictions(world, "plain")]
    assert any(np.abs(np.subtract(a["prediction"], b)).max() > 1e-3 for a, b in zip(shown, plain, strict=True))


def test_alone_it_takes_the_newest_run_and_its_best_step(world: Path) -> None:
    older = world / "checkpoints" / "older"
    older.mkdir()
    shutil.copy(world / "checkpoints" / "tiny_config" / "config.json", older)
    os.utime(older / "config.json", (0, 0))
    lines = (world / "checkpoints" / "tiny_config" / "metrics.jsonl").read_text().splitlines()
    scored = "eval/valid/kl_by_question"
    losses = {line["step"]: line[scored] for line in map(json.loads, lines) if scored in line}
    assert set(losses) == {10, 20}
    best = min(losses, key=losses.__getitem__)
    output = run(world, "eval")
    assert f"results: checkpoints/tiny_config/eval/step_{best}/report.html" in output
    assert all(output.count(f"\n{name}: ") == 1 for name in SPLITS)
    assert output.count(" of 100 answers, the best rule that needs no model (") == len(SPLITS)
    score = results(world, f"step_{best}")["valid"]["model"]["kl_by_question"]["value"]
    assert score == pytest.approx(losses[best], rel=1e-5)


def test_near_duplicates_of_training_questions_are_left_out_of_a_second_score(world: Path) -> None:
    config = json.loads((world / "checkpoints" / "tiny_config" / "config.json").read_text())
    trained = tiny.rows()[0]
    assert trained["question_id"] not in config["data"]["splits"]["unseen_questions"]
    other = tiny.rows(questions=2, survey="Other")
    for row in other:
        copied = row["question_id"] == "q0"
        row["question"] = trained["question"].upper() if copied else "Which of these numbers would you rather have?"
    tiny.write_rows(world / "copied.jsonl", other)
    output = run(world, "eval", "--workdir=checkpoints/tiny_config", "--data=copied.jsonl", "--step=20")
    assert "1.000 data" in output
    splits = results(world, "step_20_copied")
    assert set(splits) == {"data", "data_distinct"}
    assert splits["data"]["n"] == 2 * splits["data_distinct"]["n"] == len(other)
    assert (splits["data"]["questions"], splits["data_distinct"]["questions"]) == (2, 1)
    file = world / "checkpoints" / "tiny_config" / "eval" / "step_20_copied" / "predictions.parquet"
    rows = datasets.Dataset.from_parquet(str(file), cache_dir=str(world / "cache")).to_list()
    kept = [row["kl"] for row in rows if row["question_id"] == "q1"]
    assert len(rows) == len(other)
    assert splits["data_distinct"]["model"]["kl"]["value"] == pytest.approx(np.mean(kept), rel=1e-6)


def test_without_calibration_the_model_is_the_uncalibrated_one(world: Path) -> None:
    flags = ("--config=tiny_config.py", "--workdir=checkpoints/plain")
    run(world, "train", *flags, "--config.run.calibrate=False", "--config.optim.steps=10")
    run(world, "eval", "--workdir=checkpoints/plain", "--name=plain")
    folder = world / "checkpoints" / "plain"
    assert "eval/valid/temperature" not in (folder / "metrics.jsonl").read_text()
    for split in json.loads((folder / "eval" / "plain" / "metrics.json").read_text())["splits"].values():
        scored = {metric: score["value"] for metric, score in split["model"].items() if score["value"] is not None}
        assert {"kl", "kl_by_question", "paper_1_minus_jsd"} <= scored.keys()
        for metric, value in scored.items():
            assert value == pytest.approx(split["baselines"]["uncalibrated"][metric]["value"], rel=1e-5)
    trained = (world / "checkpoints" / "tiny_config" / "metrics.jsonl").read_text()
    assert '"eval/valid/temperature_new_question": 1.0' in trained  # from one question nothing is fitted


def test_another_table_with_more_options(world: Path) -> None:
    other = tiny.rows(questions=3, survey="Other", seed=1)
    for row in other:
        row["options"], row["counts"] = [f"choice {k}" for k in range(9)], list(range(1, 10))
    tiny.write_rows(world / "other.jsonl", other)
    asked = sorted({row["question"] for row in [*other, *tiny.rows()]})
    vectors = list(np.random.default_rng(0).normal(size=(len(asked), 64)))  # no two alike
    pd.DataFrame({"question": asked, "embedding": vectors}).to_parquet(world / "vectors.parquet")
    flags = ("--workdir=checkpoints/tiny_config", "--data=other.jsonl", "--step=20", "--embeddings=vectors.parquet")
    assert "step_20_other" in run(world, "eval", *flags)
    splits = results(world, "step_20_other")
    assert set(splits) == {"data"}
    assert splits["data"]["n"] == len(other)
    assert splits["data"]["baselines"].keys() >= {*BASELINES, "embedding_neighbours", "embedding_ridge"}


def refused(world: Path, *flags: str) -> str:
    """The one line with which an evaluation refuses to start."""
    command = [sys.executable, "-m", "survey_jax.eval", *flags]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=world, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_a_checkpoint_is_not_scored_under_other_settings(world: Path) -> None:
    flags = ("--workdir=checkpoints/tiny_config", "--config=tiny_config.py")
    line = refused(world, *flags, "--config.lora.alpha=99.0")
    assert "config.lora.alpha = 99.0" in line
    assert "was trained with 16.0" in line
    assert "config.data.template" in refused(world, *flags, "--config.data.template=paper")


def prompts(world: Path) -> list[bytes]:
    """All prompts of the tiny run, whose tokens are bytes."""
    prompter = Prompter(SimpleNamespace(chat_template=None), "question_first")
    return [prompter.text(answer).encode() for answer in read_table(world / "table.jsonl")]


def test_what_only_changes_how_to_compute_has_flags(world: Path) -> None:
    sizes = ("--batch_size=3", "--seq_len=500", "--answers_per_seq=7", "--mesh=data:1,fsdp:1", "--cache=other_cache")
    chosen = ("--workdir=checkpoints/tiny_config", "--step=last")
    run(world, "eval", *chosen, "--name=sizes", "--controls=", *sizes)
    assert (world / "other_cache" / "tokens").is_dir()
    for name, found in results(world, "sizes").items():
        expected = results(world, "last")[name]["model"]["kl"]["value"]
        assert found["model"]["kl"]["value"] == pytest.approx(expected, rel=1e-5)
    assert "--seq_len" in refused(world, *chosen, "--seq_len=20")
    longest = max(len(tiny_prompt) for tiny_prompt in prompts(world))
    assert "left out" in run(world, "eval", *chosen, "--name=short", f"--seq_len={longest - 1}", "--drop_long")


def test_bad_rows_of_other_tables_are_left_out_where_this_is_asked_for(world: Path) -> None:
    values = tiny.rows(questions=2, survey="Other")
    values[1] |= {"options": [str(i) for i in range(36)], "counts": [1] * 36}
    table = tiny.write_rows(world / "other.jsonl", values)
    chosen = ("--workdir=checkpoints/tiny_config", "--step=last", f"--data={table}", "--controls=")
    assert f"{table} row 2: has 36 options; at most 26 can have a letter" in refused(world, *chosen)
    output = run(world, "eval", *chosen, "--name=bad", "--drop_bad")
    assert f"left out 1 row of {table} (data.drop_bad): has 36 options" in output
    assert results(world, "bad")["data"]["n"] == len(values) - 1


def test_nothing_is_predicted_twice(world: Path) -> None:
    """Another name predicts nothing, another control only itself, another step does not ask the base model again."""
    folder = world / "checkpoints" / "tiny_config" / "eval" / ".predictions"

    def new_files(*flags: str) -> int:
        before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
        run(world, "eval", "--workdir=checkpoints/tiny_config", *flags)
        return sum(before.get(file) != file.stat().st_mtime_ns for file in folder.iterdir())

    new_files("--step=last", "--name=first")
    assert new_files("--step=last", "--name=second") == 0
    assert new_files("--step=last", "--name=third", "--controls=no_group") == len(SPLITS)
    new_files("--step=10", "--name=earlier", "--controls=")
    shutil.rmtree(world / "checkpoints" / "tiny_config" / "eval" / "earlier")
    assert new_files("--step=10", "--name=earlier", "--controls=") == 0


def test_results_go_elsewhere_where_the_run_cannot_be_written(world: Path, tmp_path: Path) -> None:
    copied = tmp_path / "run"
    shutil.copytree(world / "checkpoints" / "tiny_config", copied, ignore=shutil.ignore_patterns("eval"))
    before = set(copied.rglob("*"))
    output = run(world, "eval", f"--workdir={copied}", "--step=last", f"--output={tmp_path / 'results'}")
    assert f"results: {tmp_path / 'results' / 'step_20'}" in output
    assert set(copied.rglob("*")) == before
    found = json.loads((tmp_path / "results" / "step_20" / "metrics.json").read_text())["splits"]
    expected = results(world, "last")["valid"]["model"]["kl"]["value"]
    assert found["valid"]["model"]["kl"]["value"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ("eval", []),
        ("predict", ["--questions=new.csv", "--groups=country", "--output=new_answers.csv"]),
        ("export", ["--output=exported", "--format=peft"]),
    ],
)
def test_a_tokenizer_that_has_changed_since_training_is_refused(world: Path, command: str, flags: list[str]) -> None:
    """The same rows would be other prompts."""
    (world / "new.csv").write_text("question,options\nIs it?,Yes|No\n")
    file = world / EVIL.split("/")[0] / "tokenizer.json"
    before = file.read_text()
    vocabulary = json.loads(before)["model"]["vocab"]
    swapped = vocabulary | {"A": vocabulary["B"], "B": vocabulary["A"]}
    made = json.loads(before)
    made["model"]["vocab"] = swapped
    words = [sys.executable, "-m", f"survey_jax.{command}", "--workdir=checkpoints/tiny_config", *flags]
    try:
        file.write_text(json.dumps(made))
        done = subprocess.run(words, cwd=world, capture_output=True, text=True, timeout=300, check=False)
    finally:
        file.write_text(before)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "made with another tokenizer or chat template" in done.stderr.splitlines()[-1]


def test_weights_that_are_broken_end_in_an_error(world: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    model = world / EVIL.split("/")[0]
    broken = shutil.copytree(model, tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    save_file({name: np.full_like(value, np.nan) for name, value in tensors.items()}, broken / "model.safetensors")
    flags = ("--config=tiny_config.py", f"--config.model.weights={broken}", "--zero_shot", "--controls=")
    line = refused(world, *flags, f"--workdir={tmp_path / 'nothing'}")
    assert re.search(r"tensor model\.\S+ holds NaN or infinity", line)
    assert not (tmp_path / "nothing" / "eval" / "zero_shot").exists()
