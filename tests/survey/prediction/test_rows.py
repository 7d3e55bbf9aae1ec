"""Small tables that people write by hand: what is read, and what is refused with which words."""

import json

import pytest

from survey_jax.common.errors import UserError
from survey_jax.survey.prediction.rows import read_rows
from survey_jax.survey.table import as_text


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_spreadsheets_csv_is_read_cell_by_cell(tmp_path):
    content = b'\xef\xbb\xbfplace, note\r\nOslo,"two\r\nlines, and a comma"\r\n  Lima  ,\r\n\r\n'
    path = write(tmp_path / "a.csv", content)
    assert read_rows(path) == [
        (f"{path} row 2", {"place": "Oslo", "note": "two\r\nlines, and a comma"}),
        (f"{path} row 3", {"place": "Lima", "note": None}),
    ]


def test_a_line_separator_within_a_cell_ends_no_row(tmp_path):
    path = write(tmp_path / "a.csv", "place,note\nOslo,one\u2028two\n")
    assert [row for _, row in read_rows(path)] == [{"place": "Oslo", "note": "one\u2028two"}]


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_json_lines_and_a_json_list_have_the_same_rows(tmp_path, suffix):
    rows = [{"place": "Oslo", "year": 2020}, {"place": "Lima", "year": None}]
    lines = write(tmp_path / f"lines{suffix}", "\n".join(json.dumps(row) for row in rows) + "\n")
    whole = write(tmp_path / "whole.json", json.dumps(rows, indent=1))
    assert [row for _, row in read_rows(lines)] == [row for _, row in read_rows(whole)] == rows
    assert [where for where, _ in read_rows(whole)] == [f"{whole} row 1", f"{whole} row 2"]


REFUSED = {
    "latin1.csv": ("place\nKöln\n".encode("latin1"), ": is not UTF-8 text"),
    "excel.csv": ("place\nOslo\n".encode("utf-16"), ": is not UTF-8 text"),
    "empty.csv": ("", ": is empty"),
    "blank.jsonl": ("\n \n", ": is empty"),
    "header.csv": ("place,note\n", ": has a header and no rows"),
    "semicolons.csv": ("place;note\nOslo;x\n", " row 1: columns are separated by ';'; save the file with commas"),
    "tabs.csv": ("place\tnote\nOslo\tx\n", r" row 1: columns are separated by '\t'; save the file with commas"),
    "nameless.csv": ("place,\nOslo,x\n", " row 1: column 2 has no name"),
    "twice.csv": ("place,Place\nOslo,x\n", " row 1: the column 'Place' is there twice"),
    "long.csv": ("place,note\nOslo,a, b\n", " row 2: has 3 cells for 2 columns; put quotation marks around"),
    "short.csv": ("place,note\nOslo,x\nLima\n", " row 3: has 1 cells for 2 columns"),
    "gap.csv": ("place,note\nOslo,x\n\nLima,y\n", " row 3: is empty; delete it"),
    "commas.csv": ("place,note\nOslo,x\n,\n", " row 3: is empty; delete it"),
    "open.csv": ('place,note\nOslo,"x\n', ": not a CSV file: unexpected end of data"),
    "broken.jsonl": ('{"place": "Oslo"}\n{"place": \n', " row 2: not JSON: Expecting value"),
    "gap.jsonl": ('{"place": "Oslo"}\n\n{"place": "Lima"}\n', " row 2: is empty; delete it"),
    "twice.jsonl": ('{"place": "Oslo", "place": "Lima"}', " row 1: not JSON: the column 'place' is there twice"),
    "text.json": ('[{"place": "Oslo"}, "Lima"]', " row 2: must be an object with names and values, got 'Lima'"),
    "broken.json": ('[{"place": "Oslo"}', ": not JSON: "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path, name):
    content, reason = REFUSED[name]
    path = write(tmp_path / name, content)
    with pytest.raises(UserError) as error:
        read_rows(path)
    assert str(error.value).startswith(f"{path}{reason}")
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.csv: no such file"):
        read_rows(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "year is missing"),
        ("  ", "year is empty"),
        (True, "year must be text, got True"),
        ([1], r"year must be text, got \[1\]"),
        (float("nan"), "year must be text, got nan"),
        ("\ud800", "year holds half a character"),
    ],
)
def test_what_is_no_text_is_refused(value, reason):
    with pytest.raises(ValueError, match=reason):
        as_text(value, "year")
