"""What a drafted codebook makes of a file's columns, and that it counts as it says once its texts are written."""

import itertools
from pathlib import Path
from typing import Any

import pandas as pd
import pyreadstat
import pytest
import yaml

from command import Prepare
from survey_jax.sources.microdata.guesses import doubtful_ages
from survey_jax.survey.table import Answer, read_table

ROWS = 60


def cycle(*values: Any) -> list[Any]:
    return list(itertools.islice(itertools.cycle(values), ROWS))


@pytest.fixture
def draft(capfd, monkeypatch, tmp_path):
    """Writes columns as a file, and gives its draft's text."""

    def run(columns: dict[str, list[Any]], suffix: str = ".csv", **labels: Any) -> str:
        data, path = tmp_path / f"own{suffix}", tmp_path / "own.yaml"
        frame = pd.DataFrame({"sex": cycle("male", "female")} | columns)
        path.unlink(missing_ok=True)
        if suffix == ".csv":
            frame.to_csv(data, index=False)
        elif suffix == ".parquet":
            frame.to_parquet(data)
        else:
            writer = pyreadstat.write_sav if suffix == ".sav" else pyreadstat.write_dta
            writer(frame, data, **labels)
        code, _, error = Prepare(capfd, monkeypatch)(input=data, draft_codebook=path)
        assert code == 0, error
        return path.read_text()

    return run


@pytest.fixture
def counted(capfd, monkeypatch, tmp_path):
    """Counts the file by its draft, every TODO of which is taken as it stands: the rows, and what was printed."""

    def run(text: str, suffix: str = ".csv") -> tuple[list[Answer], str]:
        (tmp_path / "done.yaml").write_text(text.replace("TODO: ", "").replace("min_n: 50", "min_n: 1"))
        output: Path = tmp_path / "own.jsonl"
        files = {"input": tmp_path / f"own{suffix}", "codebook": tmp_path / "done.yaml", "output": output}
        code, out, error = Prepare(capfd, monkeypatch)(source="microdata", **files)
        assert (code, error) == (0, ""), error
        return read_table(output), out

    return run


AGES = [*range(20, 70), *[99] * 7, 30, 40, 50]


def test_asks_whether_99_is_an_age(draft, counted):
    text = draft({"age": AGES, "q": cycle("Yes", "No")})
    assert "    recode: [18-29, 30-44, 45-64, 65+]  # 99 occurs 7 times: an age, or no answer?\n" in text
    rows, out = counted(text)
    assert sum(a.n for a in rows if dict(a.group).get("age") == "65+") == 5 + 7
    assert "note: " not in out  # no question says that 99 is missing


def test_99_is_no_age_where_questions_have_it_for_no_answer(draft, counted):
    items = {f"q{i}": cycle(1, 2, 3, 99) for i in range(3)}
    text = draft({"age": AGES} | items)
    assert "missing: [99]  # a guess: without a label, and apart from the answers (99 in 3 questions)" in text
    assert "65+]  # 99 occurs 7 times: an age, or no answer?\n    missing: [99]\n" in text
    rows, out = counted(text)
    assert sum(a.n for a in rows if dict(a.group).get("age") == "65+" and a.question_id == "q0") <= 5
    assert "7 of 60 respondents are in no group by age" in out
    rows, out = counted(text.replace("    missing: [99]\n", "    missing: []\n"))  # the user: it is an age
    assert "note: age: code 99 (7 respondents) counts as 65+, but questions q0, q1, q2 list it as missing\n" in out


def test_ages_that_cannot_be_are_listed_with_a_remark(draft):
    text = draft({"age": [*range(16, 74), 999, 999], "q": cycle("Yes", "No")})
    assert "    missing: [16, 17, 999]  # 999 occurs 2 times: no age\n" in text
    assert "an age, or no answer?" not in text


@pytest.mark.parametrize(
    ("counts", "doubtful"),
    [
        ({str(a): 10 for a in range(18, 95)}, []),
        ({str(a): 100 - a for a in range(18, 100)}, []),  # fewer and fewer, to the last
        ({str(a): 10 for a in range(18, 90)} | {"98": 5, "99": 5}, ["98", "99"]),
        ({str(a): 10 for a in range(18, 90)} | {"77": 300, "88": 60}, ["77", "88"]),
    ],
)
def test_which_ages_are_doubtful(counts, doubtful):
    assert list(doubtful_ages(counts)) == doubtful


def test_codes_that_many_questions_share_are_proposed_once(draft, counted):
    items = {f"q{i}": cycle(1, 2, 3, 4, -9, 99) for i in range(5)}
    text = draft({"educ": cycle(1, 2, -9)} | items | {"scale": cycle(*range(11), -9)})
    guess = "missing: [-9, 99]  # a guess: without a label, and apart from the answers (-9 in 6 questions, 99 in 5"
    assert guess in text
    assert text.count("missing: [") == 1
    assert "what -9 means" not in text
    assert "what 99 means" not in text
    rows, _ = counted(text)
    first = next(a for a in rows if a.question_id == "q0" and dict(a.group) == {"sex": "male"})
    assert (len(first.options), first.n) == (4, 20)
    assert first.extra["item_nonresponse"] == pytest.approx(1 / 3)


def test_a_shared_code_stays_an_answer_where_it_is_one(draft, counted):
    items = {f"q{i}": cycle(1, 2, 3, 9) for i in range(3)}
    text = draft(items | {"out_of_ten": cycle(*range(1, 11))})
    assert "missing: [9]  # a guess" in text
    assert "missing: []  # in place of the common list, since 9 may mean something else here\n" in text
    rows, _ = counted(text)
    assert {len(a.options) for a in rows if a.question_id == "out_of_ten"} == {10}
    assert {len(a.options) for a in rows if a.question_id == "q0"} == {3}


@pytest.mark.parametrize(
    "codes",
    [(-2, -1, 0, 1, 2), (1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 99), (10, 20, 30)],
    ids=["signed", "1-9", "two", "tens"],
)
def test_codes_of_a_scale_are_answers_however_many_questions_share_them(draft, codes):
    text = draft({f"q{i}": cycle(*codes) for i in range(4)})
    assert "missing: [" not in text
    assert all(f"what {code} means" in text for code in codes)


def test_unlabelled_codes_in_a_labelled_file(draft, counted):
    items = {f"q{i}": cycle(1.0, 2.0, 8.0, 99.0) for i in range(3)}
    labels = {item: {1.0: "No", 2.0: "Yes", 8.0: "Don't know"} for item in items}
    text = draft(items, ".sav", variable_value_labels=labels)
    assert "missing: [99]  # a guess" in text
    assert text.count("    missing: [8, 99]\n") == 3  # a list of a question's own stands in place of the common one
    rows, _ = counted(text, ".sav")
    assert {a.options for a in rows} == {("No", "Yes")}


def test_a_list_of_an_attribute_s_own_keeps_the_blank_codes(draft, counted):
    text = draft({"age": [999, "NA", *range(20, 78)], "q": cycle("Yes", "No")})
    assert "not_asked: [NA]  # a guess: read as blank cells (NA in age)\n" in text
    assert "2 of 60 respondents are in no group by age" in counted(text)[1]


def test_none_and_a_dash_are_answers(draft, counted):
    text = draft({"religion": cycle("None", "Islam"), "kids": cycle("None", "One", "Two"), "sign": cycle("-", "+")})
    assert "\nnot_asked:" not in text
    rows, _ = counted(text)
    assert {dict(a.group)["religion"] for a in rows if "religion" in dict(a.group)} == {"None", "Islam"}
    kids = next(a for a in rows if a.question_id == "kids" and dict(a.group) == {"sex": "male"})
    assert (set(kids.options), kids.n) == ({"None", "One", "Two"}, 30)
    assert {a.options for a in rows if a.question_id == "sign"} == {("+", "-")}


def test_says_which_texts_it_reads_as_blank_and_where(draft):
    items = {f"q{i}": cycle("Yes", "No", "n/a") for i in range(4)}
    text = draft({"country": cycle("NA", "KE")} | items)
    guess = "# a guess: read as blank cells (NA in country; n/a in q0, q1, q2, ... (4 in all))\n"
    assert f'not_asked: [NA, "n/a"]  {guess}' in text


def test_a_weight_is_a_guess_and_a_few_whole_numbers_are_answers(draft, counted):
    weights = {"v_wt": [0.5 + 0.1 * i for i in range(ROWS)], "w_cell": cycle(0.5, 1, 2)}
    text = draft({"w_happy": cycle(1, 2, 3, 4, 5)} | weights | {"q": cycle("Yes", "No")})
    assert "weight: v_wt  # a guess, by its name\n# weight: w_cell  # another column that may be one\n" in text
    assert "  w_happy:  # called like a weight, but it has only a few whole numbers\n    text: " in text
    rows, _ = counted(text)
    assert {a.question_id for a in rows} == {"w_happy", "q"}
    assert "# weight: no column looks like one\n" in draft({"w_happy": cycle(1, 2, 3)})
    assert "\n# about: {sponsor: ..." in draft({"w_happy": cycle(1, 2, 3)})


DATES = {
    "ISO": ("2024-03-01", "2024-03-02"),
    "with a time": ("2024-03-01 12:30:00", "2024-03-02 09:10:11"),
    "European": ("1.3.2024", "02.03.2024"),
    "American": ("3/1/24", "12/31/24"),
    "one number": (20240301, 20241231),
    "a month's name": ("1 March 2024", "02-Apr-2024"),
    "a time of day": ("9:05", "17:45"),
}


@pytest.mark.parametrize("name", DATES)
def test_dates_are_no_questions(draft, name):
    text = draft({"day": cycle(*DATES[name]), "q": cycle("Yes", "No")})
    assert "  # day is left out: dates or times\n" in text
    assert list(yaml.safe_load(text)["questions"]) == ["q"]


@pytest.mark.parametrize("suffix", [".sav", ".dta", ".parquet"])
def test_dates_that_a_file_declares_are_no_questions(draft, suffix):
    days = pd.Series(cycle(*pd.to_datetime(["2024-03-01", "2024-03-02", "2024-03-05"])))
    text = draft({"day": days, "q": cycle("Yes", "No")}, suffix)
    assert "  # day is left out: dates or times\n" in text
    assert list(yaml.safe_load(text)["questions"]) == ["q"]


def test_what_respondents_write_is_no_question(draft):
    remarks = ["", *["nothing"] * 40, "too long", "a good survey", "ask about buses", "no", *[""] * 15]
    text = draft({"anything_else": remarks, "comments": cycle("ok", "fine"), "q": cycle("Often", "Never")})
    assert "  # anything_else is left out: texts in the respondents' own words\n" in text
    assert "  # comments is left out: texts in the respondents' own words\n" in text
    assert list(yaml.safe_load(text)["questions"]) == ["q"]


def test_other_columns_are_left_out_with_a_reason(draft):
    text = draft({"id": list(range(ROWS)), "same": cycle(1), "empty": cycle(""), "many": cycle(*range(30))})
    assert "  # id is left out: a value of its own for every respondent\n" in text
    assert "  # same is left out: 1 different value\n" in text
    assert "  # empty is left out: no values\n" in text
    assert "  # many is left out: 30 different values\n" in text


def test_the_remark_on_breakdowns_can_be_taken_as_it_stands(draft, counted):
    text = draft({"age": [*range(20, 80)], "q": cycle("Yes", "No", "Perhaps")})
    line, remark = next(x for x in text.splitlines() if x.startswith("breakdowns")).split("  # ")
    assert line == "breakdowns: [[sex], [age]]"
    assert remark == "[[sex], [age], [sex, age]]: by sex, by age, and by both crossed"
    rows, _ = counted(text.replace(line, f"breakdowns: {remark.split(': ')[0]}"))
    assert {tuple(dict(a.group)) for a in rows} == {("sex",), ("age",), ("age", "sex")}
    country = draft({"country": cycle("Peru", "Kenya"), "q": cycle("Yes", "No", "Perhaps")})
    assert "breakdowns: [[country], [country, sex]]  # [country, sex]: by both crossed\n" in country
