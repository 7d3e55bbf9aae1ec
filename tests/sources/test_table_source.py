"""The source `table`: a table in the schema is checked and converted."""

import json

import pandas as pd
import pytest

from command import Prepare
from survey_jax.survey.table import read_table


@pytest.fixture
def command(capfd, monkeypatch) -> Prepare:
    return Prepare(capfd, monkeypatch)


ROWS = [
    {"survey": "S", "question_id": f"q{i}", "question": "How?", "options": ["Yes", "No"], "group": {"country": "Kenya"},
     "dist": [1 / 3, 2 / 3], "n": 90 + i, "topic": "x"}
    for i in range(3)
]  # fmt: skip


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".jsonl.gz"])
def test_conversion_changes_nothing(command, tmp_path, suffix):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    code, out, _ = command(source="table", input=tmp_path / "a.jsonl", output=tmp_path / f"b{suffix}")
    assert code == 0
    assert "kept 3 rows: 3 questions, 1 group, 1 survey\ndropped 0 rows\n" in out
    before, after = read_table(tmp_path / "a.jsonl"), read_table(tmp_path / f"b{suffix}")
    assert after == before
    assert [a.extra for a in after] == [a.extra for a in before]


@pytest.mark.parametrize("suffix", [".csv", ".sav", ".dta", ".long.parquet"])
def test_a_table_goes_out_in_long_form_and_says_that_it_is_not_read_back(command, tmp_path, suffix):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    code, out, _ = command(source="table", input=tmp_path / "a.jsonl", output=tmp_path / f"b{suffix}")
    assert code == 0
    assert out.endswith(f"table in long form, which is not read back: {tmp_path}/b{suffix}\n")
    read = {".csv": pd.read_csv, ".sav": pd.read_spss, ".dta": pd.read_stata, ".long.parquet": pd.read_parquet}[suffix]
    frame = read(tmp_path / f"b{suffix}")
    assert frame["question_id"].tolist() == ["q0", "q0", "q1", "q1", "q2", "q2"]
    assert frame["share"].tolist() == [1 / 3, 2 / 3] * 3
    code, _, error = command(source="table", input=tmp_path / f"b{suffix}", output=tmp_path / "c.parquet")
    assert code == 2
    assert "not a survey table, but results in long form" in error


def test_a_bad_row_is_told_by_its_number_and_nothing_is_written(command, tmp_path):
    rows = [*ROWS, ROWS[0] | {"question_id": "q9", "dist": [1, 2]}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, error = command(source="table", input=tmp_path / "a.jsonl", output=tmp_path / "b.parquet")
    assert code == 2
    assert error == f"error: {tmp_path}/a.jsonl row 4: dist sum to 3.0000, not 1\n"
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]


def test_values_that_parquet_cannot_hold_in_one_column(command, tmp_path):
    rows = [ROWS[0], ROWS[1] | {"topic": 7}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, error = command(source="table", input=tmp_path / "a.jsonl", output=tmp_path / "b.parquet")
    assert code == 2
    assert "b.parquet: cannot be written: the values of column 'topic' are not of one kind" in error
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]


def test_flags_without_a_use_are_refused(command, tmp_path):
    code, _, error = command("unweighted", source="table", input="a.jsonl", output=tmp_path / "b.parquet")
    assert (code, error) == (2, "error: --unweighted: the source table has no use for it; leave it out\n")
