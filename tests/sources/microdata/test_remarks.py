"""The notes of `prepare` on what a codebook may not have meant: said, with nothing changed."""

import pandas as pd
import pytest

from command import Prepare
from survey_jax.survey.table import Answer, read_table

CODEBOOK = """survey: Test
min_n: 1
attributes:
  country: {value: Peru}
  sex: {column: sex, recode: {1: male, 2: female}}
  age: {column: age, recode: [18-29, 30-64, 65+]}
breakdowns: [[sex], [age]]
questions:
  news: {text: "How often do you follow the news?", options: {1: Daily, 2: Weekly, 3: Monthly}, missing: [-9, 99]}
  spend: {text: "Is too little spent?", options: {1: Too little, 2: Enough, 3: Too much}, missing: [-9, 99]}
"""


@pytest.fixture
def prepare(capfd, monkeypatch, tmp_path):
    """Runs the command on 12 respondents with a changed codebook: its table, and its notes."""
    frame = pd.DataFrame({
        "sex": [1, 2] * 6, "age": [20, 35, 50, 70, 99, 99, 25, 40, 60, 99, 80, 30],
        "news": [1, 2, 3, 99] * 3, "spend": [1, 2, 3, -9] * 3,
    })  # fmt: skip
    frame.to_csv(tmp_path / "data.csv", index=False)

    def run(*changes: tuple[str, str], **flags: object) -> tuple[list[Answer], list[str]]:
        text = CODEBOOK
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "book.yaml").write_text(text)
        files = {"input": tmp_path / "data.csv", "codebook": tmp_path / "book.yaml", "output": tmp_path / "t.jsonl"}
        code, out, error = Prepare(capfd, monkeypatch)(source="microdata", **files, **flags)
        assert (code, error) == (0, ""), error
        return read_table(tmp_path / "t.jsonl"), [x.removeprefix("note: ") for x in out.splitlines() if "note: " in x]

    return run


def test_a_missing_code_of_questions_in_a_band(prepare):
    rows, notes = prepare()
    assert notes == ["age: code 99 (3 respondents) counts as 65+, but questions news, spend list it as missing"]
    assert sum(a.n for a in rows if dict(a.group).get("age") == "65+" and a.question_id == "spend") == 4
    one = ("Too much}, missing: [-9, 99]}", "Too much}, missing: [-9]}")
    assert "65+, but question news lists it as missing" in prepare(one)[1][0]


@pytest.mark.parametrize("own", ["missing: [0-17]", "missing: []"])
def test_a_list_of_the_attribute_s_own_hides_no_common_missing_code(prepare, own):
    common = [("min_n: 1", "min_n: 1\nmissing: [-9, 99]"), (", missing: [-9, 99]}", "}")]
    assert "questions news, spend list it" in prepare(*common, ("65+]", f"65+], {own}"))[1][0]
    rows, notes = prepare(*common, ("65+]", "65+], missing: [99]"))
    assert notes == ["3 of 12 respondents are in no group by age: no value, or a missing code"]
    assert sum(a.n for a in rows if dict(a.group).get("age") == "65+" and a.question_id == "spend") == 1


def test_a_missing_code_that_the_attribute_names_itself_is_meant(prepare):
    bands = ("recode: [18-29, 30-64, 65+]", "recode: {18-29: young, 30-98: older, 99: 99 or older}")
    assert prepare(bands)[1] == []


def test_a_constant_country_gets_one_name_and_notes_as_a_column_does(prepare):
    rows, notes = prepare(("value: Peru", "value: USA"), breakdowns="sex")
    assert notes == ["1 of 1 country name rewritten: USA to United States"]
    assert {(dict(a.group)["country"], a.extra["country_iso3"]) for a in rows} == {("United States", "USA")}
    rows, notes = prepare(("value: Peru", "value: Untied States"), breakdowns="sex")
    assert notes == ["1 country name not recognised: Untied States (did you mean United States?); kept as written"]
    assert {(dict(a.group)["country"], a.extra.get("country_iso3")) for a in rows} == {("Untied States", None)}
    assert prepare(breakdowns="sex")[1] == []


def test_attributes_in_no_breakdown(prepare):
    assert prepare(("[[sex], [age]]", "[[sex]]"))[1] == ["in no breakdown, so not used: age"]
    assert prepare(("[[sex], [age]]", "[[sex]]"), breakdowns="sex")[1] == []  # asked for on the command line


def test_codes_with_one_text(prepare):
    rows, notes = prepare(("3: Too much", "3: Too little"), ("2: female", "2: male"), breakdowns="sex")
    assert notes == [
        "spend: codes 1, 3 are one option 'Too little'",
        "sex: codes 1, 2 are one value 'male'",
    ]
    assert {a.counts for a in rows if a.question_id == "spend"} == {(6, 3)}
    bands = ("[18-29, 30-64, 65+]", "{18-29: under 65, 30-64: under 65, 65+: 65 and over}")
    assert "age: codes 18-29, 30-64 are one value 'under 65'" in prepare(bands)[1]


def test_questions_that_share_a_remark_share_a_line(prepare):
    scale = "{1: A, 2: A, 3: B, 4: C, 5: D}"
    _, notes = prepare(
        ("{1: Daily, 2: Weekly, 3: Monthly}", scale),
        ("{1: Too little, 2: Enough, 3: Too much}", scale),
        breakdowns="sex",
    )
    assert notes == ["news, spend: options 'C', 'D' never occur", "news, spend: codes 1, 2 are one option 'A'"]


def test_an_option_that_never_occurs(prepare):
    rows, notes = prepare(("3: Monthly", "3: Monthly, 4: Never"), breakdowns="sex")
    assert notes == ["news: option 'Never' never occurs"]
    assert {a.counts[-1] for a in rows if a.question_id == "news"} == {0}
