"""The survey table: what it refuses, with which words, and that it gives back what it wrote."""

import dataclasses
import gzip
import json

import pytest

from places import SHARED
from survey_jax.common.errors import UserError
from survey_jax.survey.table import MAX_OPTIONS, Answer, group_name, parse_rows, read_table, write_table


def good_row(**changes):
    row = {
        "survey": "S",
        "question_id": "Q1",
        "question": "How?",
        "options": ["Yes", "No", "Maybe"],
        "group": {"country": "Kenya"},
        "probs": [0.5, 0.25, 0.25],
    }
    return {k: v for k, v in (row | changes).items() if v is not ...}


BAD_ROWS: dict[str, tuple[dict, str]] = {
    "negative": ({"probs": [1.5, -0.25, -0.25]}, "probs holds the negative value -0.25"),
    "negative count": ({"probs": None, "counts": [3, -1, 2]}, "counts holds the negative value -1"),
    "NaN": ({"probs": [float("nan"), 0.5, 0.5]}, "probs holds nan"),
    "infinite": ({"probs": None, "counts": [float("inf"), 1, 1]}, "counts holds inf"),
    "text as number": ({"probs": ["0.5", 0.25, 0.25]}, "probs holds '0.5', not a number"),
    "missing share": ({"probs": [None, 0.5, 0.5]}, "probs holds None, not a number"),
    "too short": ({"probs": [0.5, 0.5]}, "probs has 2 values for 3 options"),
    "too long": ({"probs": [0.5, 0.25, 0.25, 0.0]}, "probs has 4 values for 3 options"),
    "sum above 1": ({"probs": [0.5, 0.5, 0.5]}, "probs sum to 1.5000, not 1"),
    "sum below 1": ({"probs": [0.5, 0.25, 0.24]}, "probs sum to 0.9900, not 1"),
    "percentages": ({"probs": [50, 25, 25]}, "probs sum to 100.0000, not 1"),
    "nobody": ({"probs": None, "counts": [0, 0, 0]}, "nobody answered: counts sum to 0"),
    "no answers": ({"probs": ...}, "has neither counts nor probs"),
    "empty option": ({"options": ["Yes", " ", "Maybe"]}, "option is empty"),
    "one option": ({"options": ["Yes"], "probs": [1.0]}, "needs at least two options, has 1"),
    "equal options": ({"options": ["Yes", "No", "YES"]}, "two equal options: 'YES'"),
    "too many options": ({"options": [str(i) for i in range(MAX_OPTIONS + 1)]}, "has 27 options; at most 26"),
    "options not a list": ({"options": "Yes, No"}, "options must be a list, got 'Yes, No'"),
    "empty group": ({"group": {}}, "group is empty"),
    "group of absent values": ({"group": {"country": None}}, "group is empty"),
    "group not a mapping": ({"group": "Kenya"}, "group must map attributes to values, got 'Kenya'"),
    "no survey": ({"survey": ...}, "survey is missing"),
    "blank question": ({"question": "  "}, "question is empty"),
    "n of zero": ({"n": 0}, "n must be a positive number, got 0"),
    "about of text": ({"about": "a panel"}, "about must map names to texts, got 'a panel'"),
    "about of lists": ({"about": {"mode": ["web", "phone"]}}, "about[mode] must be text, got ['web', 'phone']"),
    "unknown scale": ({"scale": "interval"}, 'scale must be "ordinal" or "nominal", got \'interval\''),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_row_is_refused_with_file_row_and_reason(name):
    changes, reason = BAD_ROWS[name]
    rows = [good_row(), good_row(question_id="Q2", **changes)]
    with pytest.raises(UserError) as error:
        parse_rows(rows, "table.jsonl")
    assert str(error.value).startswith("table.jsonl row 2: ")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_duplicate_names_both_rows():
    rows = [good_row(), good_row(question_id="Q2"), good_row(probs=[0, 0, 1])]
    with pytest.raises(UserError, match=r"t row 3: same question and group as row 1 \(S / Q1 / country=Kenya\)"):
        parse_rows(rows, "t")


def test_same_question_in_another_wave_is_not_a_duplicate():
    assert len(parse_rows([good_row(), good_row(wave="7")], "t")) == 2


def test_order_of_attributes_carries_no_meaning():
    one, two = {"country": "Kenya", "age": "18-29"}, {"age": "18-29", "country": "Kenya"}
    with pytest.raises(UserError, match="same question and group as row 1"):
        parse_rows([good_row(group=one), good_row(group=two)], "t")


def test_further_bad_rows_are_counted():
    with pytest.raises(UserError, match=r"t row 1: .*\(and 2 more bad rows\)"):
        parse_rows([good_row(probs=[1])] * 3, "t")


def test_bad_row_in_a_file_names_the_file(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(good_row()) + "\n" + json.dumps(good_row(question_id="Q2", probs=[1, 1, -1])) + "\n")
    with pytest.raises(UserError, match=rf"{path} row 2: probs holds the negative value -1"):
        read_table(path)


def test_values_are_understood():
    row = good_row(probs=..., counts=[2, 1, 1], ordinal=True, group={"year": 2016, "age": None}, topic="x")
    (answer,) = parse_rows([row], "t")
    assert answer.probs == (0.5, 0.25, 0.25)
    assert answer.counts == (2, 1, 1)
    assert answer.scale == "ordinal"
    assert answer.group == (("year", "2016"),)
    assert answer.extra == {"topic": "x"}
    assert group_name((("age", "18-29"), ("country", "Kenya"))) == "18-29, Kenya"


def test_rounded_shares_are_normalised_and_win_over_counts():
    (answer,) = parse_rows([good_row(probs=..., dist=[0.333, 0.333, 0.3335], counts=[9, 0, 0])], "t")
    assert sum(answer.probs) == pytest.approx(1, abs=1e-15)
    assert answer.probs[0] == pytest.approx(1 / 3, abs=1e-3)


def test_first_question_column_that_a_row_has_is_its_wording():
    rows = [good_row(question_paper="As published?"), good_row(question_id="Q2", question_paper=None)]
    answers = parse_rows(rows, "t", question_columns=("question_paper", "question"))
    assert [a.question for a in answers] == ["As published?", "How?"]
    with pytest.raises(UserError, match="t row 1: nowhere is missing"):
        parse_rows(rows, "t", question_columns=("nowhere",))


UNREADABLE = {
    "missing.jsonl": (None, "no such file"),
    "table.csv": (b"a,b\n1,2\n", "not a survey table, but results in long form, which are not read back, or a file of"),
    "empty.jsonl": (b"", "empty.jsonl"),
    "noise.jsonl": (b"\x00\x01 not json", "cannot be read as a json table"),
    "noise.parquet": (b"PAR1 not parquet", "cannot be read as a parquet table"),
    "scalar.jsonl": (b"3\n", "scalar.jsonl"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_not_a_table_is_refused_in_one_line(tmp_path, name):
    content, reason = UNREADABLE[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        read_table(tmp_path / name)
    assert str(error.value).startswith(str(tmp_path / name))
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".parquet"])
def test_truncated_file_is_refused(tmp_path, suffix):
    path = tmp_path / f"table{suffix}"
    write_table(many_answers(), path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match="cannot be read as a"):
        read_table(path)


def many_answers() -> list[Answer]:
    rows = []
    for i in range(300):
        shares = [1 / 3, i / 997, 2 / 3 - i / 997]
        options = ["Yes", "No, never", 'Möglich \u2028 "quoted"'][: 3 - i % 2]
        shares = shares if i % 2 == 0 else [1 / 7, 6 / 7]
        rows.append(good_row(question_id=f"Q{i}", options=options, probs=shares, n=i + 1, topic=f"t{i % 3}"))
    rows[0] |= {"scale": "ordinal", "wave": "7", "language": "sw", "source": "s", "n_effective": 0.5}
    rows[1] |= {"group": {"age": "18-29", "sex": "f"}, "counts": [1, 6], "scale": "nominal"}
    rows[2] |= {"about": {"sponsor": "A", "mode": "web"}}
    rows[3] |= {"about": {"sponsor": "B", "population": "adults"}}
    return parse_rows(rows, "made up")


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
def test_round_trip(tmp_path, suffix):
    answers = many_answers()
    path = tmp_path / f"table{suffix}"
    write_table(answers, path)
    back = read_table(path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert [dict(a.extra) for a in back] == [dict(a.extra) for a in answers]
    assert back[3].extra["about"] == {"sponsor": "B", "population": "adults"}  # not the names that other rows have
    if suffix == ".parquet":
        assert back == answers
        return
    for one, other in zip(back, answers, strict=True):
        assert one.probs == pytest.approx(other.probs, abs=1e-12)
        assert dataclasses.replace(one, probs=()) == dataclasses.replace(other, probs=())


def test_gzip_is_gzip(tmp_path):
    write_table(many_answers(), tmp_path / "t.jsonl.gz")
    with gzip.open(tmp_path / "t.jsonl.gz", "rt") as lines:
        assert json.loads(next(lines))["survey"] == "S"


def test_unknown_suffix_is_not_written(tmp_path):
    with pytest.raises(UserError, match=r"t\.csv: tables are written as \.jsonl"):
        write_table(many_answers(), tmp_path / "t.csv")
    assert not list(tmp_path.iterdir())


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "rows"),
    [("wvs7_country", 10579), ("pew_global_sample", 2588), ("ess", 2136), ("gss_us_by_year", 6940)],
)
def test_real_files_load(name, rows):
    path = SHARED / f"{name}.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    answers = read_table(path)
    assert len(answers) == rows
    assert all(abs(sum(a.probs) - 1) < 1e-9 for a in answers)
