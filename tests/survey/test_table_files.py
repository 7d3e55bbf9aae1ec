"""Files of tables that are not what they should be: refused when they are read, in one line and little memory."""

import gzip
import json
import os
import tracemalloc
from collections import Counter

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from survey_jax.common import reading
from survey_jax.common.errors import UserError
from survey_jax.survey.bad_rows import BadRows
from survey_jax.survey.table import parse_rows, read_table, write_table

ROW = {
    "survey": "S", "question_id": "Q1", "question": "How?", "options": ["Yes", "No"], "group": {"country": "Kenya"},
    "counts": [3, 1],
}  # fmt: skip
TEXT = json.dumps(ROW)


def refusal(path) -> str:
    with pytest.raises(UserError) as error:
        read_table(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
    return str(error.value)


REPEATED = {  # a line -> the name that is there twice
    "a column": (TEXT.replace('"counts"', '"counts": [1, 0], "counts"'), "counts"),
    "an attribute": (TEXT.replace('"country": "Kenya"', '"country": "Kenya", "country": "Peru"'), "country"),
    "within an extra column": (TEXT.replace('"survey"', '"facts": {"a": [{"b": 1, "b": 1}]}, "survey"'), "b"),
}


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".json"])
@pytest.mark.parametrize("name", REPEATED)
def test_a_name_twice_is_refused_by_its_line(tmp_path, name, suffix):
    line, twice = REPEATED[name]
    path = tmp_path / f"t{suffix}"
    content = (f"[{TEXT}, {line}]" if suffix == ".json" else f"{TEXT}\n{line}\n").encode()
    path.write_bytes(gzip.compress(content) if suffix == ".jsonl.gz" else content)
    place = "element 2" if suffix == ".json" else "line 2"
    assert f"cannot be read as a json table: {place}: the name '{twice}' is there twice" in refusal(path)


@pytest.mark.parametrize("names", [["country", "Country"], ["age  group", "age group"], ["sex", " sex"]])
def test_an_attribute_twice_in_another_spelling(names):
    with pytest.raises(BadRows, match="t row 1: group has an attribute twice"):
        parse_rows([ROW | {"group": dict.fromkeys(names, "x")}], "t")


def test_a_column_of_parquet_twice_is_refused_by_name(tmp_path):
    columns = {name: pa.array([value]) for name, value in ROW.items()}
    table = pa.table([*columns.values(), pa.array([[1, 2]])], names=[*columns, "counts"])
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    assert "the column 'counts' is there twice" in refusal(tmp_path / "t.parquet")
    group = pa.StructArray.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["sex", "sex"])
    pyarrow.parquet.write_table(pa.table(columns | {"group": group}), tmp_path / "t.parquet")
    assert "the column 'group.sex' is there twice" in refusal(tmp_path / "t.parquet")
    group = pa.array([[("sex", "a"), ("sex", "b")]], pa.map_(pa.string(), pa.string()))
    pyarrow.parquet.write_table(pa.table(columns | {"group": group}), tmp_path / "t.parquet")
    assert "duplicate key was 'sex'" in refusal(tmp_path / "t.parquet")


def test_parquet_has_a_column_for_each_attribute_and_no_group_has_an_empty_one(tmp_path):
    """Arrow gives every object of a column the names of all others, as null."""
    rows = [ROW, ROW | {"group": {"age": "18-29"}, "about": {"mode": "web"}}, ROW | {"group": {"sex": "male"}}]
    answers = parse_rows(rows, "t")
    write_table(answers, tmp_path / "t.parquet")
    frame = pd.read_parquet(tmp_path / "t.parquet")
    assert frame["group.country"].tolist()[0] == "Kenya"
    assert frame["group.country"].isna().tolist() == [False, True, True]
    assert frame["about.mode"].notna().tolist() == [False, True, False]
    assert not [f.name for f in pyarrow.parquet.read_schema(tmp_path / "t.parquet") if pa.types.is_struct(f.type)]
    back = read_table(tmp_path / "t.parquet")
    assert back == answers
    assert [a.extra for a in back] == [a.extra for a in answers]


@pytest.mark.parametrize("kind", [None, pa.map_(pa.string(), pa.string())])
def test_tables_with_a_column_of_groups_are_read(tmp_path, kind):
    """As other programs and earlier versions write them."""
    groups = [{"country": "Kenya"}, {"age": "18-29"}]
    answers = parse_rows([ROW | {"group": group} for group in groups], "t")
    columns = {name: [value] * 2 for name, value in ROW.items()} | {"group": pa.array(groups, kind)}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet") == answers


def test_a_column_that_would_be_read_as_an_attribute_is_refused(tmp_path):
    answers = parse_rows([ROW | {"group.size": 7}], "t")
    with pytest.raises(
        UserError, match=r"t\.parquet: cannot be written: the column 'group\.size' would be read as a part"
    ):
        write_table(answers, tmp_path / "t.parquet")
    assert not list(tmp_path.iterdir())


VALUES = {
    "half a character": ({"topic": "t\ud800"}, "topic holds half a character"),
    "half a character in a list": ({"tags": [["a", "t\udfff"]]}, "tags holds half a character"),
    "half a character in a name": ({"facts": {"\ud800": 1}}, "facts holds half a character"),
    "half a character in a column's name": ({"\ud800": 1}, "the name of a column holds half a character"),
    "infinity": ({"topic": float("inf")}, "topic holds inf"),
    "no number in a list": ({"tags": [1.0, float("nan")]}, "tags holds nan"),
    "an integer of 65 bits": ({"topic": 2**64}, "topic holds an integer of more than 64 bits"),
    "too many respondents": ({"n": 1e308}, "n must be at least 1e-09 and at most 1e+12, got 1e+308"),
    "too many after weighting": ({"n_effective": 1e13}, "n_effective must be at least"),
    "no respondents to speak of": ({"n_effective": 1e-300}, "n_effective must be at least"),
    "too large a count": ({"counts": [1e308, 0]}, "counts holds 1e+308, more than 1e+12"),
    "nested": ({"topic": json.loads("[" * 50 + "]" * 50)}, "topic is nested too deeply"),
    "nested in the group": ({"group": {"country": json.loads("[" * 900 + "]" * 900)}}, "nested too deeply"),
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_what_no_report_could_hold_is_refused_when_it_is_read(name):
    changes, reason = VALUES[name]
    with pytest.raises(BadRows) as error:
        parse_rows([ROW | changes], "t")
    assert str(error.value).startswith("t row 1: ")
    assert reason in str(error.value) or (name == "nested in the group" and "must be text" in str(error.value))


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_what_is_read_can_be_written(tmp_path, suffix):
    extra = {"topic": "é😀", "tags": ["a"], "facts": {"a": 2**63 - 1}, "share": 0.1, "absent": float("nan")}
    answers = parse_rows([ROW | extra | {"n": 1e12, "n_effective": 1e-9, "counts": [1e12, 0]}], "t")
    write_table(answers, tmp_path / f"t{suffix}")
    (back,) = read_table(tmp_path / f"t{suffix}")
    assert (back, dict(back.extra)) == (answers[0], dict(answers[0].extra))


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".json.gz"])
def test_gzip_that_unpacks_without_end_is_refused(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(reading, "_FREE", 1 << 16)
    path = tmp_path / f"bomb{suffix}"
    path.write_bytes(gzip.compress(b"{}\n" * 3_000_000, 9))
    tracemalloc.start()
    assert "unpacks to more than 200 times its size" in refusal(path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_very_many_bad_rows_take_little_memory(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    if suffix == ".parquet":
        pyarrow.parquet.write_table(pa.table({"survey": ["S"] * 100_000}), path)
    else:
        path.write_text("{}\n" * 100_000)
    tracemalloc.start()
    assert "row 1: options must be a list, got None (and 99,999 more bad rows)" in refusal(path)
    assert tracemalloc.get_traced_memory()[1] < 30e6
    tracemalloc.stop()


def test_a_json_list_is_read_an_element_at_a_time(tmp_path):
    path = tmp_path / "t.json"
    path.write_text(f"\ufeff [ {TEXT} ,\n {json.dumps(ROW | {'wave': 2})}\n ] \n", encoding="utf-8")
    assert [a.wave for a in read_table(path)] == [None, "2"]
    for text, reason in {
        f"[{TEXT} {TEXT}]": "element 1: no comma follows it", f"[{TEXT},]": "element 2: Expecting value",
        f"[{TEXT}": "element 1: no comma follows it", f"[{TEXT}] 1": "something follows the list", "[]": "has no rows",
    }.items():  # fmt: skip
        path.write_text(text)
        assert reason in refusal(path)


@pytest.mark.parametrize("name", ["t.jsonl", "t.json"])
def test_deep_nesting_is_one_line(tmp_path, name):
    (tmp_path / name).write_text("[" * 100_000)
    assert "1: is nested too deeply" in refusal(tmp_path / name)


def test_pipes_devices_and_folders_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "t.jsonl")
    assert "is a pipe or device; give a file" in refusal(tmp_path / "t.jsonl")
    (tmp_path / "t.parquet").symlink_to("/dev/zero")
    assert "is a pipe or device; give a file" in refusal(tmp_path / "t.parquet")
    (tmp_path / "t.json").mkdir()
    assert "is a folder; give a file" in refusal(tmp_path / "t.json")


MIXED = [  # as of a survey with one question of too many options
    *(ROW | {"group": {"country": f"C{i}"}} for i in range(5)),
    *(
        ROW | {"question_id": f"Q{i + 10}", "options": [str(j) for j in range(36)], "counts": [1] * 36}
        for i in range(4)
    ),
    *(ROW | {"question_id": "Q3", "probs": [0.5, 0.1 * i], "group": {"country": f"C{i}"}} for i in range(3)),
    ROW | {"group": {"country": "C1"}},
]  # fmt: skip


def test_all_reasons_are_told_with_their_counts():
    with pytest.raises(BadRows) as error:
        parse_rows(MIXED, "t")
    assert str(error.value) == (
        "t row 6: has 36 options; at most 26 can have a letter (and 3 more bad rows); "
        "row 10: probs sum to 0.5000, not 1 (and 2 more bad rows); "
        "row 13: same question and group as row 2 (S / Q1 / country=C1)"
    )
    many = [ROW | {"group": {"country": "Kenya"}, "scale": "x" * 3, f"\ud800{'y' * i}": 1} for i in range(2)]
    with pytest.raises(BadRows, match=r"row 1: .*\(and 1 more bad row\)$"):
        parse_rows(many, "t")


def test_bad_rows_are_left_out_and_counted_where_this_is_asked_for():
    dropped: Counter[str] = Counter()
    assert len(parse_rows(MIXED, "t", dropped=dropped)) == 5
    assert dropped == {
        "has 36 options; at most 26 can have a letter": 4,
        "probs sum to 0.5000, not 1": 3,
        "same question and group as row 2 (S / Q1 / country=C1)": 1,
    }


def test_a_table_of_bad_rows_alone_is_refused_all_the_same(tmp_path):
    (tmp_path / "t.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match=r"t\.jsonl: has no rows that are not bad"):
        read_table(tmp_path / "t.jsonl", dropped=Counter())
