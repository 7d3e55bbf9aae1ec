"""Runs side by side: the paired figures against plain numpy, and runs that do not fit together."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from survey_jax.common.errors import UserError
from survey_jax.survey.evaluation import metrics
from survey_jax.survey.evaluation.comparison import (
    compare,
    find_predictions,
    print_comparison,
    read_predictions,
    to_json,
)
from survey_jax.survey.table import Answer

COUNTRIES = [f"country {i}" for i in range(8)]


def answers(questions: int = 10, seed: int = 0) -> list[Answer]:
    rng = np.random.default_rng(seed)
    return [
        Answer(
            "S", f"q{q}", f"Is it {q}?", ("a", "b", "c"), (("country", c),), tuple(rng.dirichlet([2, 2, 2])), wave="1"
        )
        for q in range(questions)
        for c in COUNTRIES
    ]


def write(path: Path, rows: list[Answer], noise: float, seed: int = 1, split: str = "valid") -> Path:
    """Predictions that are the truth and some noise; the more noise the worse."""
    rng = np.random.default_rng(seed)
    predictions = np.array([(1 - noise) * np.array(a.probs) + noise * rng.dirichlet([1, 1, 1]) for a in rows])
    scores = metrics.row_metrics(rows, predictions)
    columns = [
        {
            "split": split, "survey": a.survey, "wave": a.wave, "question_id": a.question_id, "question": a.question,
            "options": list(a.options), "group": dict(a.group), "target": list(a.probs),
            "prediction": predictions[i].tolist(), **{m: float(v[i]) for m, v in scores.items()},
        }
        for i, a in enumerate(rows)
    ]  # fmt: skip
    path.mkdir(parents=True)
    pa.parquet.write_table(pa.Table.from_pylist(columns), path / "predictions.parquet")
    return path


def read(path: Path) -> dict:
    return read_predictions(find_predictions([path])[0])


def test_differences_are_paired_means(tmp_path: Path) -> None:
    rows = answers()
    good, bad = read(write(tmp_path / "good", rows, 0.1)), read(write(tmp_path / "bad", rows, 0.6))
    [found] = compare({"good": good, "bad": bad})
    assert (found.split, found.n, found.left_out) == ("valid", 80, 0)
    kl = np.array([bad[key]["kl"] - good[key]["kl"] for key in good])
    entry = found.differences["bad"]["kl"]
    assert entry["value"] == pytest.approx(kl.mean())
    assert 0 < entry["low"] < entry["value"] < entry["high"]
    assert entry["p"] < 0.05
    assert entry["comparisons"] == 1
    assert found.differences["bad"]["paper_1_minus_jsd"]["high"] < 0
    assert found.scores["good"]["kl"]["value"] == pytest.approx(np.mean([row["kl"] for row in good.values()]))


def test_equal_runs_do_not_differ(tmp_path: Path, capsys) -> None:
    rows = answers()
    runs = {name: read(write(tmp_path / name, rows, 0.3, seed=2)) for name in ("a", "b")}
    found = compare(runs)
    entry = found[0].differences["b"]["kl"]
    assert (entry["value"], entry["low"], entry["high"], entry["p"]) == (0, 0, 0, 1)
    print_comparison(found)
    assert "+0.000 [+0.000, +0.000] p = 1.000" in capsys.readouterr().out


def test_only_common_rows_count(tmp_path: Path) -> None:
    rows = answers()
    runs = {"all": read(write(tmp_path / "all", rows, 0.1)), "some": read(write(tmp_path / "some", rows[16:], 0.1))}
    [found] = compare(runs)
    assert (found.n, found.left_out) == (64, 16)


def test_one_question_has_a_difference_but_no_interval(tmp_path: Path) -> None:
    rows = answers(questions=1)
    found = compare({"a": read(write(tmp_path / "a", rows, 0.1)), "b": read(write(tmp_path / "b", rows, 0.5))})
    plain = to_json(found, {})["splits"]["valid"]["differences"]["b"]["kl"]
    assert plain["value"] > 0
    assert plain["low"] is None
    assert plain["p"] is None
    json.dumps(plain, allow_nan=False)


def test_runs_that_do_not_fit_together(tmp_path: Path) -> None:
    rows = answers()
    a = read(write(tmp_path / "a", rows, 0.1))
    with pytest.raises(UserError, match="a and b have no split in common"):
        compare({"a": a, "b": read(write(tmp_path / "b", rows, 0.1, split="test"))})
    with pytest.raises(UserError, match=r"S / q0 / country=country 0: a and c were scored against different answers"):
        compare({"a": a, "c": read(write(tmp_path / "c", answers(seed=5), 0.1))})
    others = [Answer(**{**vars(r), "question_id": f"other{i}"}) for i, r in enumerate(rows)]
    with pytest.raises(UserError, match="split valid: a, d have no row in common"):
        compare({"a": a, "d": read(write(tmp_path / "d", others, 0.1))})


def test_a_row_without_a_score_counts_for_no_run(tmp_path: Path) -> None:
    rows = answers()
    a, b = (read(write(tmp_path / name, rows, noise)) for name, noise in (("a", 0.1), ("b", 0.6)))
    for key in list(a)[:40]:
        a[key]["kl"] = np.nan
    [found] = compare({"a": a, "b": b})
    rest = list(a)[40:]
    assert found.scores["b"]["kl"]["value"] == pytest.approx(np.mean([b[key]["kl"] for key in rest]))


def test_rows_that_no_evaluation_writes(tmp_path: Path) -> None:
    file = write(tmp_path / "a", answers(), 0.1) / "predictions.parquet"
    table = pa.parquet.read_table(file).to_pylist()
    pa.parquet.write_table(pa.Table.from_pylist([*table, table[0]]), file)
    with pytest.raises(UserError, match="row 81: is there twice"):
        read(tmp_path / "a")
    pa.parquet.write_table(pa.Table.from_pylist([table[0], table[1] | {"group": None}]), file)
    with pytest.raises(UserError, match="row 2: not as an evaluation writes it"):
        read(tmp_path / "a")


def test_of_a_run_the_newest_evaluation_of_the_same_splits_is_taken(tmp_path: Path) -> None:
    rows = answers(questions=2)
    for number, (run, name, split) in enumerate(
        [("a", "step_2", "valid"), ("b", "step_4", "valid"), ("b", "step_4_ess", "data"), ("c", "step_4_ess", "data")]
    ):
        file = write(tmp_path / run / "eval" / name, rows, 0.1, split=split) / "predictions.parquet"
        os.utime(file, (number, number))
    a, b, c = (tmp_path / run for run in "abc")
    assert [file.parent.name for file in find_predictions([a, b])] == ["step_2", "step_4"]
    assert [file.parent.name for file in find_predictions([b, c])] == ["step_4_ess", "step_4_ess"]
    with pytest.raises(UserError, match=r"c: no evaluation of valid, .* of .*step_2, only step_4_ess: data"):
        find_predictions([a, c])


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no predictions\.parquet here or under eval/"):
        find_predictions([tmp_path])
    (tmp_path / "predictions.parquet").write_text("no")
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path)
    pa.parquet.write_table(pa.table({"split": ["valid"]}), tmp_path / "predictions.parquet")
    with pytest.raises(UserError, match="has no column 'emd'"):
        read(tmp_path)
