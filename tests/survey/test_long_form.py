"""Results for other programs: SPSS, Stata, CSV and Parquet files against pyreadstat, pandas and pyarrow."""

import datetime
import functools
from pathlib import Path

import pandas as pd
import pyarrow.parquet
import pyreadstat
import pytest

from survey_jax.common.errors import UserError
from survey_jax.survey.long_form import SPSS, STATA, Column, variable_names, write_long
from survey_jax.survey.long_table import COLUMNS, write_long_table
from survey_jax.survey.table import DEMO, Answer, parse_rows, read_table

SUFFIXES = (".csv", ".long.parquet", ".sav", ".dta")
ROW = {
    "survey": "Town", "question_id": "q1", "question": "Is it far?\nOr near? 很老", "options": ["Yes", "No"],
    "scale": "nominal", "group": {"country": "Kenya", "age group": "18-29"}, "counts": [30, 10], "n": 41,
}  # fmt: skip
SECOND = {
    "survey": "Town", "question_id": "q2", "question": "How far?", "options": ["0", "1", "2"], "wave": "2024",
    "group": {"country": "Peru"}, "probs": [0.5, 0.25, 0.25], "topic": "roads", "item_nonresponse": 0.5,
    "ordinal_values": [1.0, None, 3.0], "about": {"sponsor": "City", "mode": "web"}, "tags": ["a", "b"],
    "approved": True, "share": 7, "id": 2**60, "when": datetime.date(2024, 5, 1),
}  # fmt: skip


def table() -> list[Answer]:
    return parse_rows([ROW, SECOND], "made up")


def read(path: Path) -> pd.DataFrame:
    """A file by a reader that is not ours; names as in CSV where SPSS and Stata have underscores."""
    if path.suffix == ".csv":
        return pd.read_csv(path, dtype={"wave": str, "option": str, "id": str}, keep_default_na=False, na_values=[""])
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    frame, meta = (pyreadstat.read_sav if path.suffix == ".sav" else pyreadstat.read_dta)(
        path, apply_value_formats=True
    )
    frame = frame.astype(object).replace({"": None}).where(frame.notna(), None)
    assert meta.column_names_to_labels["n_effective"] == "Effective number of respondents (Kish)"
    assert list(meta.variable_value_labels["scale"].values()) == ["nominal", "ordinal"]
    assert list(meta.variable_value_labels["approved"].values()) in (["yes", "no"], ["no", "yes"])
    return frame.rename(columns={n: n.replace("_", ".", 1) for n in frame if n.startswith(("group_", "about_"))})


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_table_has_a_line_for_each_option_of_each_row(tmp_path, suffix, capfd):
    path = tmp_path / f"table{suffix}"
    write_long_table(table(), path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    frame = read(path)
    assert list(frame.columns[:5]) == ["survey", "wave", "question_id", "question", "scale"]
    assert frame["question_id"].tolist() == ["q1"] * 2 + ["q2"] * 3
    assert frame["option_number"].tolist() == [1, 2, 1, 2, 3]
    assert frame["option"].tolist() == ["Yes", "No", "0", "1", "2"]
    assert frame["share"].tolist() == [0.75, 0.25, 0.5, 0.25, 0.25]
    assert frame["count"].tolist()[:2] == [30, 10]
    assert frame["group.country"].tolist() == ["Kenya"] * 2 + ["Peru"] * 3
    first, last = frame.iloc[0], frame.iloc[4]
    spelled = "group.age_group" if suffix in (".sav", ".dta") else "group.age group"
    assert (first["question"], first[spelled], first["n"]) == (ROW["question"], "18-29", 41)
    assert first["scale"] == "nominal"
    assert (last["wave"], last["topic"], last["item_nonresponse"]) == ("2024", "roads", 0.5)
    assert (last["about.sponsor"], last["about.mode"], last["tags"]) == ("City", "web", '["a", "b"]')
    assert (last["ordinal_values"], last["id"], last["when"]) == (3.0, str(2**60), '"2024-05-01"')
    assert last["approved"] in (True, "yes")
    assert last["extra_share" if suffix in (".sav", ".dta") else "extra.share"] == 7
    empty = [spelled, "n", "count", "n_effective", "scale"]
    assert last[empty].isna().all()
    assert first[["wave", "topic", "about.sponsor", "approved", "tags"]].isna().all()
    assert frame["ordinal_values"].isna().tolist() == [True, True, False, True, False]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_figure_of_the_demo_travels(tmp_path, suffix):
    answers = read_table(DEMO)[::40]
    path = tmp_path / f"demo{suffix}"
    write_long_table(answers, path)
    read_csv = functools.partial(pd.read_csv, keep_default_na=False, na_values=[""])
    frame = {"csv": read_csv, "parquet": pd.read_parquet, "sav": pd.read_spss, "dta": pd.read_stata}[path.suffix[1:]](
        path
    )
    assert frame["share"].tolist() == [p for a in answers for p in a.probs]
    assert frame["option"].tolist() == [option for a in answers for option in a.options]
    assert frame["n"].dropna().tolist() == [a.n for a in answers for _ in a.options if a.n is not None]
    country = frame[next(name for name in frame if name in ("group.country", "group_country"))]
    assert [c or None for c in country.fillna("")] == [dict(a.group).get("country") for a in answers for _ in a.options]


def test_parquet_holds_texts_and_numbers_alone(tmp_path):
    write_long_table(table(), tmp_path / "t.long.parquet")
    kinds = {field.name: str(field.type) for field in pyarrow.parquet.read_schema(tmp_path / "t.long.parquet")}
    assert set(kinds.values()) == {"string", "int64", "double", "bool"}
    assert set(COLUMNS) <= set(kinds)


# What SPSS and Stata take for a name, by their manuals: bytes or characters, a first letter, no words with a meaning.
NAMES = [
    "group.age",
    "group.Age",
    "AGE GROUP ÅR",
    "x" * 100,
    "x" * 101,
    "å" * 50,
    "1st",
    "_x",
    "by",
    "In",
    "²µª",
    "",
    "…",
]


@pytest.mark.parametrize("program", [SPSS, STATA])
def test_names_are_what_the_program_holds_and_differ(tmp_path, program, capfd):
    names = variable_names(NAMES, program)
    assert len({name.casefold() for name in names.values()}) == len(NAMES)
    for name in names.values():
        assert name[0].isalpha()
        assert name.replace("_", "x").isalnum()
        assert name.casefold() not in ("by", "in")
        assert len(name.encode()) <= 64 if program is SPSS else len(name) <= 32
    path = tmp_path / ("a.sav" if program is SPSS else "a.dta")
    write_long({name: Column(f"What {name} is", float) for name in NAMES}, [dict.fromkeys(NAMES, 0.5)], path)
    frame, meta = (pyreadstat.read_sav if program is SPSS else pyreadstat.read_dta)(path)
    assert list(frame.columns) == list(names.values())
    longest = 256 if program is SPSS else 80
    assert meta.column_labels == [f"What {name} is"[:longest] for name in NAMES]
    note = capfd.readouterr().out
    assert f"note: {path}: names that {program.name} cannot hold: " in note
    assert f"{'x' * 101} is {'x' * ((64 if program is SPSS else 32) - 2)}_2" in note
    assert (f"note: {path}: labels that Stata holds the start of: " in note) == (program is STATA)


def test_a_name_with_a_dot_is_not_worth_a_note(tmp_path, capfd):
    write_long({"group.age": Column("Group: age", str)}, [{"group.age": "18"}], tmp_path / "a.dta")
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("length", [0, 1, 244, 245, 2045, 2046, 32767])
@pytest.mark.parametrize("suffix", [".sav", ".dta"])
def test_texts_of_any_length_that_a_format_holds_are_whole(tmp_path, suffix, length):
    path, texts = tmp_path / f"a{suffix}", ["å" * (length // 2) + "x" * (length % 2), "short"]
    write_long({"text": Column("Text", str)}, [{"text": text} for text in texts], path)
    frame, _ = (pyreadstat.read_sav if suffix == ".sav" else pyreadstat.read_dta)(path)
    assert frame["text"].tolist() == texts
    assert (pd.read_spss if suffix == ".sav" else pd.read_stata)(path)["text"].tolist() == texts


REFUSED = {
    "a text beyond SPSS": (
        ".sav",
        "x" * 32768,
        str,
        r"text \('x+' \.\.\.\) has 32,768 bytes, of which SPSS holds 32,767",
    ),
    "a text that ends early in SPSS": (".sav", "a\0b", str, "holds a null character, where SPSS ends a text"),
    "a text that ends early in Stata": (".dta", "a\0b", str, "holds a null character, where Stata ends a text"),
    "a number beyond Stata": (".dta", 1e308, float, "cannot be written: "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_cut_is_refused_and_nothing_written(tmp_path, name):
    suffix, value, kind, message = REFUSED[name]
    with pytest.raises(UserError, match=message) as error:
        write_long({"text": Column("Text", kind)}, [{"text": value}], tmp_path / f"a{suffix}")
    assert str(error.value).startswith(f"{tmp_path}/a{suffix}: cannot be written: ")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())
    write_long({"text": Column("Text", kind)}, [{"text": value}], tmp_path / "a.parquet")
    assert pd.read_parquet(tmp_path / "a.parquet")["text"].tolist() == [value]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_no_table_to_read(tmp_path, suffix):
    write_long_table(table(), tmp_path / f"t{suffix}")
    with pytest.raises(UserError, match="not a survey table, but results in long form, which are not read back"):
        read_table(tmp_path / f"t{suffix}")
