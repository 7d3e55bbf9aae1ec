"""Files of respondents as platforms and programs write them: encodings, headers, delimiters, kinds of files."""

import csv
import gzip
import io
import itertools
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pyreadstat
import pytest

from command import Prepare
from drafts import as_it_stands
from survey_jax import sources
from survey_jax.common import reading
from survey_jax.common.errors import UserError
from survey_jax.sources.microdata.readers import open_respondents
from survey_jax.survey.table import Answer, read_table

ROWS = 60
Counted = Callable[[Path], tuple[str, list[Answer], str]]


@pytest.fixture
def counted(capfd, monkeypatch, tmp_path) -> Counted:
    """Drafts a codebook of a file, counts by it as it stands: the draft's text, the rows, and what was printed."""

    def run(data: Path, **flags: object) -> tuple[str, list[Answer], str]:
        command, draft, output = Prepare(capfd, monkeypatch), tmp_path / "draft.yaml", tmp_path / "table.jsonl"
        draft.unlink(missing_ok=True)
        code, _, error = command(input=data, draft_codebook=draft, **flags)
        assert code == 0, error
        text = draft.read_text(encoding="utf-8")
        draft.write_text(as_it_stands(text), encoding="utf-8")
        code, out, error = command(source="microdata", input=data, codebook=draft, output=output)
        assert (code, error) == (0, ""), error
        return text, read_table(output), out

    return run


@pytest.fixture
def refused(capfd, monkeypatch, tmp_path) -> Callable[[Path], str]:
    """The one line that a draft of a file ends with."""

    def run(data: Path) -> str:
        code, _, error = Prepare(capfd, monkeypatch)(input=data, draft_codebook=tmp_path / "draft.yaml")
        assert code == 2, error
        assert error.startswith(f"error: {data}: ")
        assert error.count("\n") == 1
        assert not (tmp_path / "draft.yaml").exists()
        return error

    return run


def cycle(*values: Any) -> list[Any]:
    return list(itertools.islice(itertools.cycle(values), ROWS))


def text_of(header: Sequence[Sequence[str]], *columns: Sequence[str], delimiter: str = ",") -> str:
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter).writerows([*header, *zip(*columns, strict=True)])
    return file.getvalue()


def shares(rows: Sequence[Answer]) -> dict[tuple[str, str], dict[str, float]]:
    """(question id, group) -> option -> respondents."""
    return {
        (a.question_id, dict(a.group)["sex"]): dict(zip(a.options, a.counts or (), strict=True))
        for a in rows
        if "sex" in dict(a.group)
    }


# ---------------------------------------------------------------------------------------------- encodings

ANSWERS = {  # encoding -> what a draft records of it, and answers in a language that is written in it
    "cp1252": ("cp1252", ("It’s 5 €", "Yes – a lot", "Nö, überhaupt nicht")),
    "latin1": ("cp1252", ("Tout à fait d'accord", "Plutôt d'accord", "Pas d'accord, étant né ici")),
    "gbk": ("gb18030", ("同意", "不同意", "无所谓")),
    "gb18030": ("gb18030", ("非常同意", "部分同意", "比较不同意")),
    "shift_jis": ("cp932", ("賛成", "反対", "どちらともいえない")),
    "cp949": ("cp949", ("찬성", "반대", "그저 그렇다")),
    "big5": ("big5", ("贊成", "反對", "普通，都可以")),
    "cp1251": ("cp1251", ("Согласен", "Не согласен", "Отчасти согласен")),
    "koi8_r": ("koi8_r", ("Согласен", "Не согласен", "Отчасти согласен")),
    "cp1253": ("cp1253", ("Συμφωνώ απόλυτα", "Μάλλον διαφωνώ", "Λίγο, ή καθόλου ένα")),
    "cp1250": ("cp1250", ("Zdecydowanie się zgadzam", "Raczej się nie zgadzam", "Ani tak, ani nie, może później")),
}


@pytest.mark.parametrize("encoding", ANSWERS)
def test_a_draft_records_the_encoding_that_it_guesses_and_counts_by_it(counted, tmp_path, encoding):
    recorded, answers = ANSWERS[encoding]
    sexes, given = cycle("Female", "Male", "Male"), [answers[i % 7 % 3] for i in range(ROWS)]
    (tmp_path / "a.csv").write_bytes(text_of([("sex", "q1")], sexes, given).encode(encoding))
    text, rows, _ = counted(tmp_path / "a.csv")
    assert f"\nencoding: {recorded}  # a guess, by the text itself" in text
    expected = pd.crosstab(sexes, given)
    found = shares(rows)
    assert {key[1] for key in found} == {"Female", "Male"}
    for (_, sex), counts in found.items():
        assert counts == dict(expected.loc[sex])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_what_a_file_declares_is_no_guess(counted, tmp_path, encoding):
    answers = cycle("größer", "同意", "–")
    data = text_of([("sex", "q1")], cycle("Female", "Male"), answers, delimiter="\t")
    (tmp_path / "a.csv").write_bytes(data.encode(encoding))
    text, rows, out = counted(tmp_path / "a.csv")
    assert "\nencoding:" not in text
    assert set(rows[0].options) == set(answers)
    assert "read as separated by tabs" in out


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_a_guess(counted, tmp_path, encoding):
    data = text_of([("sex", "q1")], cycle("Female", "Male"), cycle("yes", "größer", "no"))
    (tmp_path / "a.csv").write_bytes(data.encode(encoding))
    text, rows, _ = counted(tmp_path / "a.csv")
    assert f"\nencoding: {encoding}  # a guess" in text
    assert set(rows[0].options) == {"yes", "größer", "no"}


def test_the_flag_says_the_encoding_of_a_draft(counted, capfd, monkeypatch, tmp_path):
    answers = cycle("Kadın", "Erkek")
    (tmp_path / "a.csv").write_bytes(text_of([("sex", "q1")], cycle("f", "m", "m"), answers).encode("cp1254"))
    text, rows, _ = counted(tmp_path / "a.csv", encoding="cp1254")
    assert "\nencoding: cp1254\n" in text
    assert set(rows[0].options) == {"Kadın", "Erkek"}
    command = Prepare(capfd, monkeypatch)
    code, _, error = command(
        source="microdata", input=tmp_path / "a.csv", output=tmp_path / "t.jsonl", encoding="utf-8"
    )
    assert (code, "--encoding: is for --draft_codebook" in error) == (2, True)


@pytest.mark.parametrize("encoding", ["klingon", "hex", "a\0b", "", "x" * 5000])
def test_an_encoding_that_is_none_is_refused(tmp_path, encoding):
    (tmp_path / "a.csv").write_text("q,sex\n1,2\n")
    with pytest.raises(UserError, match="unknown encoding"):
        open_respondents(tmp_path / "a.csv", encoding)


def old_stata(path: Path, answers: Sequence[str], encoding: str) -> Path:
    """A file of Stata 13 or earlier, whose text is in whatever encoding the machine had that wrote it."""
    columns = {"q1": cycle(1.0, 2.0, 3.0), "sex": cycle("f", "m"), "town": cycle(*answers)}
    marked = {f"<{i}>": answer for i, answer in enumerate(answers)}
    frame = pd.DataFrame(columns | {"town": cycle(*(m.ljust(40, "~") for m in marked))})
    labels = {"q1": {i + 1.0: m.ljust(40, "~") for i, m in enumerate(marked)}}
    pyreadstat.write_dta(frame, path, version=13, variable_value_labels=labels)
    content = path.read_bytes()
    for mark, answer in marked.items():  # the bytes in place, as no writer writes old encodings
        content = content.replace(mark.ljust(40, "~").encode(), answer.encode(encoding).ljust(40, b"\0"))
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "gbk", "cp1252", "shift_jis", "cp1251"])
def test_old_stata_files_are_read_by_their_text_and_say_so(counted, tmp_path, encoding):
    recorded, answers = ("utf-8", ANSWERS["cp1252"][1]) if encoding == "utf-8" else ANSWERS[encoding]
    text, rows, out = counted(old_stata(tmp_path / "a.dta", answers, encoding))
    assert f"\nencoding: {recorded}  # a guess" in text
    (labelled,) = {a.options for a in rows if a.question_id == "q1"}
    assert sorted(labelled) == sorted(answers)  # the draft puts them in the scale's order
    respondents = open_respondents(tmp_path / "a.dta")
    assert set(respondents.column("town").codes) == set(answers)
    assert f"read as {recorded}, a guess" in respondents.notes[0]
    assert "a guess" not in out  # the codebook says it now


def test_new_stata_and_spss_files_need_no_guess(tmp_path):
    frame = pd.DataFrame({"town": cycle("Köln", "北京")})
    pyreadstat.write_dta(frame, tmp_path / "a.dta", version=15)
    pyreadstat.write_sav(frame, tmp_path / "a.sav")
    for name in ("a.dta", "a.sav"):
        respondents = open_respondents(tmp_path / name)
        assert (respondents.encoding, respondents.notes) == (None, ())
        assert set(respondents.column("town").codes) == {"Köln", "北京"}


# ----------------------------------------------------------------------------------- headers and delimiters


def import_ids(count: int) -> list[str]:
    return [json.dumps({"ImportId": f"QID{i}", "timeZone": "Europe/Oslo"}) for i in range(count)]


def test_the_three_header_rows_of_qualtrics(counted, tmp_path):
    texts = ["Start Date", "Do you agree\n\nthat, all in all, it is well?", "Your sex"]
    header = [["StartDate", "Q1", "gender"], texts, import_ids(3)]
    given = cycle("Agree", "Neither", "Disagree")
    data = text_of(header, [f"2024-01-01 10:{i:02}:00" for i in range(ROWS)], given, cycle("f", "m"))
    (tmp_path / "a.csv").write_text("\ufeff" + data, encoding="utf-8", newline="")
    text, rows, out = counted(tmp_path / "a.csv")
    assert f"text: {json.dumps(texts[1])}" in text  # what respondents read
    assert {a.question for a in rows} == {texts[1]}
    assert sum(sum(counts.values()) for counts in shares(rows).values()) == ROWS
    assert "three rows, as Qualtrics writes it" in out


def test_the_two_header_rows_of_surveymonkey(counted, tmp_path):
    first = ["Respondent ID", "Collector ID", "Is it well, or not?", "What do you use?", "", "gender"]
    second = ["", "", "Response", "Bus", "Other (please specify)", "Response"]
    data = text_of(
        [first, second], [str(i) for i in range(ROWS)], ["7"] * ROWS, cycle("Yes", "No"), cycle("Bus", ""),
        [f"by foot {i}" for i in range(ROWS)], cycle("f", "m", "m"),
    )  # fmt: skip
    (tmp_path / "a.csv").write_text(data, encoding="utf-8", newline="")
    names = list(open_respondents(tmp_path / "a.csv").variables)
    assert names[2:] == [
        "Is it well, or not?", "What do you use? - Bus", "What do you use? - Other (please specify)", "gender",
    ]  # fmt: skip
    _, rows, out = counted(tmp_path / "a.csv")
    assert sum(sum(counts.values()) for counts in shares(rows).values()) == ROWS
    assert "two rows, as SurveyMonkey writes it" in out


NAMES = ['Trust: high, low; or what | "ever"?', "Do you trust\nthe council?\r\n\tPick one", "sex"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt", ".csv.gz"])
def test_names_are_read_whole_whatever_is_in_them(tmp_path, delimiter, suffix):
    answers = cycle("a, b", 'c "d"', "e\nf", "g; h\t|")
    text = text_of([NAMES], answers, cycle("1,5", "2,5", "3"), cycle("f", "m"), delimiter=delimiter)
    path, content = tmp_path / f"a{suffix}", text.encode()
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    respondents = open_respondents(path)
    assert list(respondents.variables) == NAMES
    column = respondents.column(NAMES[0])
    assert [column.codes[i] for i in column.index] == answers


@pytest.mark.parametrize("line", ["sep=;\n", '"sep=;"\r\n', "sep=;\r\n\r\n", "\n\n"])
def test_lines_before_the_header(tmp_path, line):
    (tmp_path / "a.csv").write_text(f"{line}id;w\n1;0,5\n2;1,5\n", newline="")
    respondents = open_respondents(tmp_path / "a.csv")
    assert respondents.column("w").codes == ["0,5", "1,5"]
    assert respondents.comma


def test_a_delimiter_of_its_own_that_excel_is_told(tmp_path):
    (tmp_path / "a.csv").write_text("sep=^\nid^w\n1^2\n")
    assert list(open_respondents(tmp_path / "a.csv").variables) == ["id", "w"]


def test_columns_without_a_name_are_not_read_and_said(tmp_path):
    (tmp_path / "a.csv").write_text(",q,,\n1,Yes,,\n2,No,,\n")  # as R numbers rows, and spreadsheets end them
    respondents = open_respondents(tmp_path / "a.csv")
    assert list(respondents.variables) == ["q"]
    assert respondents.column("q").codes == ["Yes", "No"]
    assert respondents.notes == ("3 columns without a name: not read",)


def test_a_name_too_long_to_be_one_is_refused_in_one_line(refused, tmp_path):
    (tmp_path / "a.csv").write_text(f'id,"{"x" * 200_000}"\n1,2\n')
    assert "field larger than field limit" in refused(tmp_path / "a.csv")


# ------------------------------------------------------------------------------------- several answers in a cell

USED = [
    ("Bus", "Car"),
    ("Walk",),
    ("Bike", "Walk"),
    ("Bus",),
    ("Bike",),
    (),
    ("Bus", "Train", "Car"),
    ("Car",),
    ("Train",),
]


@pytest.mark.parametrize("separator", [";", ", ", ",", "|", "\n", "; "])
def test_several_answers_in_a_cell_are_a_question_each(counted, tmp_path, separator):
    used = cycle(*USED)
    cells = [separator.join(chosen) + (separator.strip(" ") if separator == ";" and chosen else "") for chosen in used]
    (tmp_path / "a.csv").write_text(text_of([("sex", "How?")], cycle("f", "m"), cells), newline="")
    text, rows, _ = counted(tmp_path / "a.csv")
    assert "cells hold several answers" in text
    found = shares(rows)
    ways = {way for chosen in used for way in chosen}
    assert found.keys() == {(f"How?: {way}", sex) for way in ways for sex in ("f", "m")}
    for (question, sex), counts in found.items():
        way = question.removeprefix("How?: ")
        asked = [chosen for chosen, s in zip(used, cycle("f", "m"), strict=True) if s == sex and chosen]
        assert counts == {"Yes": sum(way in c for c in asked), "No": sum(way not in c for c in asked)}


def test_codes_of_several_answers_and_one_that_is_no_answer(counted, tmp_path):
    cells = cycle("1 3", "2", "1", "99", "3 2 1", "3", "99")
    (tmp_path / "a.csv").write_text(text_of([("sex", "q")], cycle("f", "m"), cells))
    text, _, _ = counted(tmp_path / "a.csv")
    assert 'separator: " "' in text
    (tmp_path / "c.yaml").write_text(
        "survey: S\nmin_n: 1\nattributes: {sex: sex}\nquestions:\n  bus: {column: q, chosen: 1, separator: ' ', "
        "text: By bus, options: ['Yes', 'No'], missing: [99]}\n"
    )
    rows = sources.load("microdata", sources.Request(str(tmp_path / "a.csv"), tmp_path / "c.yaml")).answers
    assert sum(a.n for a in rows) == sum(cell != "99" for cell in cells)
    assert sum(a.counts[0] for a in rows) == sum("1" in cell.split() for cell in cells)
    assert all(a.extra["item_nonresponse"] > 0 for a in rows)


NO_SETS = {
    "commas within answers": ["Agree, strongly", "Agree, somewhat", "Disagree, strongly", "Disagree, somewhat"],
    "decimal commas": ["0,5", "1", "1,5", "2", "2,5", "3"],
    "one answer each": ["Bus", "Car", "Walk"],
    "places": ["Oslo, Norway", "Bergen, Norway", "Lima, Peru", "Cusco, Peru", "Quito, Ecuador"],
}


@pytest.mark.parametrize("name", NO_SETS)
def test_answers_with_separators_in_them_are_one_answer(counted, tmp_path, name):
    data = text_of([("sex", "q")], cycle("f", "m", "m"), cycle(*NO_SETS[name]), delimiter=";")
    (tmp_path / "a.csv").write_text(data)
    text, rows, _ = counted(tmp_path / "a.csv")
    assert "several answers" not in text
    assert {len(a.options) for a in rows} == {len(NO_SETS[name])}


BAD_CHOICES = {
    "no separator": ("chosen: Bus, options: ['Yes', 'No']", "need each other"),
    "nothing chosen": ("separator: ';', options: ['Yes', 'No']", "need each other"),
    "three options": ("chosen: Bus, separator: ';', options: ['Yes', 'No', Maybe]", "chosen needs two options"),
}


@pytest.mark.parametrize("name", BAD_CHOICES)
def test_a_choice_that_is_not_whole_is_refused(tmp_path, name):
    entry, reason = BAD_CHOICES[name]
    (tmp_path / "a.csv").write_text("sex,q\nf,Bus;Car\n")
    (tmp_path / "c.yaml").write_text(f"survey: S\nattributes: {{sex: sex}}\nquestions:\n  q: {{text: How, {entry}}}\n")
    with pytest.raises(UserError, match=f"questions: q: {reason}|{reason}"):
        sources.load("microdata", sources.Request(str(tmp_path / "a.csv"), tmp_path / "c.yaml"))


# ----------------------------------------------------------------------------------------- kinds of files

OTHERS = {
    "a.xlsx": "CSV UTF-8", "a.XLS": "CSV UTF-8", "a.rds": "haven::write_sav", "a.RData": "arrow::write_parquet",
    "a.feather": "arrow::write_parquet", "a.zip": "unpack it", "a.dta.gz": "unpack it", "a.sav.zip": "unpack it",
    "a.dat": "haven::write_sav", "a.jsonl": "save it as CSV", "a.pdf": "not a kind of file that can be read",
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_what_cannot_be_read_says_how_to_convert_it(refused, tmp_path, name):
    (tmp_path / name).write_bytes(b"whatever")
    assert OTHERS[name] in refused(tmp_path / name)


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"\x1f\x8b", b"\xd0\xcf\x11\xe0", b"$FL2", b"PAR1"])
def test_a_text_file_that_is_none(refused, tmp_path, start):
    (tmp_path / "a.csv").write_bytes(start + b"\0" * 100)
    assert "not text" in refused(tmp_path / "a.csv")


def test_portable_spss_files(counted, tmp_path):
    frame = pd.DataFrame({"SEX": cycle(1.0, 2.0), "Q1": cycle(1.0, 2.0, 3.0)})
    pyreadstat.write_por(frame, tmp_path / "a.por")
    assert open_respondents(tmp_path / "a.por").column("Q1").codes == ["1", "2", "3"]
    _, rows, out = counted(tmp_path / "a.por")
    assert sum(a.n for a in rows if "sex" in dict(a.group)) == ROWS
    assert "declares missing are read as blank" in out


def test_pipes_devices_and_folders_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "device.parquet").symlink_to("/dev/zero")
    (tmp_path / "folder.sav").mkdir()
    for name, what in (("pipe.csv", "pipe or device"), ("device.parquet", "pipe or device"), ("folder.sav", "folder")):
        with pytest.raises(UserError, match=f"{name}: is a {what}; give a file"):
            open_respondents(tmp_path / name)


def test_gzip_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "_FREE", 1 << 16)
    lines = b"q,sex\n" + b"Yes,f\nNo,m\n" * 200_000
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(lines, 9))
    with pytest.raises(UserError, match=r"a\.csv\.gz: unpacks to more than 200 times its size"):
        open_respondents(tmp_path / "a.csv.gz")
    (tmp_path / "a.csv").write_bytes(lines)
    assert len(open_respondents(tmp_path / "a.csv").column("q").index) == 400_000


def parquet(path: Path, names: Sequence[str], *columns: Sequence[Any]) -> Path:
    pyarrow.parquet.write_table(pa.table([pa.array(c) for c in columns], names=list(names)), path)
    return path


@pytest.mark.parametrize("names", [("q", "q"), ("q", " q ")])
def test_a_column_twice_is_refused_by_name(refused, tmp_path, names):
    if len(set(names)) == 1:
        assert "two columns named 'q'" in refused(parquet(tmp_path / "a.parquet", names, [1, 2], [3, 4]))
    (tmp_path / "a.csv").write_text(",".join(names) + "\n1,2\n")
    assert "two columns named 'q'" in refused(tmp_path / "a.csv")


def test_names_of_parquet_columns_come_as_they_are(tmp_path):
    """Parquet takes a.b for a part of a, and names may hold line breaks."""
    names = ["a.b", "a", "id\nsurvey: EVIL\nx", "q2: [", "co{x}\x7f", " padded "]
    path = parquet(tmp_path / "a.parquet", names, *([f"{name}!", "x"] for name in names))
    respondents = open_respondents(path)
    assert list(respondents.variables) == names
    for name in names:
        assert respondents.column(name).codes == [f"{name}!".strip(), "x"]


def test_columns_of_lists_are_said(tmp_path):
    respondents = open_respondents(parquet(tmp_path / "a.parquet", ["q", "l"], [1, 2], [[1], [2]]))
    assert list(respondents.variables) == ["q"]
    assert "'l'" in respondents.notes[0]
