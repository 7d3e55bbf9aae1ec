"""What a drafted codebook makes of a file's columns, and that it counts as it says once its texts are written."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyreadstat
import pytest
import yaml

from command import Prepare
from drafts import as_it_stands
from survey_jax.sources.microdata.drafting.guesses import doubtful_ages
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
        elif suffix == ".dta" and not labels:
            frame.to_stata(data, write_index=False)  # unlike pyreadstat, it keeps numbers of 32 bits
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
        (tmp_path / "done.yaml").write_text(as_it_stands(text))
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
    assert (
        text.count("    missing: [8, 99]  # a guess: 8 Don't know\n") == 3
    )  # a list of a question's own stands in place of the common one
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
    assert "  # id is left out: an identifier, by its name or label\n" in text
    assert "  # same is left out: 1 different value\n" in text
    assert "  # empty is left out: no values\n" in text
    assert "  # many is left out: 30 different values\n" in text


def test_the_remark_on_breakdowns_can_be_taken_as_it_stands(draft, counted):
    text = draft({"age": [*range(20, 80)], "q": cycle("Yes", "No", "Perhaps")})
    line, remark = next(x for x in text.splitlines() if x.startswith("breakdowns")).split("  # ")
    assert line == "breakdowns: [[country], [sex], [age]]"
    assert remark == "[[country], [sex], [age], [sex, age]]: all of them, by sex, by age, and by both crossed"
    rows, _ = counted(text.replace(line, f"breakdowns: {remark.split(': ')[0]}"))
    assert {tuple(dict(a.group)) for a in rows} == {("sex",), ("age",), ("age", "sex")}
    country = draft({"country": cycle("Peru", "Kenya"), "q": cycle("Yes", "No", "Perhaps")})
    assert "breakdowns: [[country], [country, sex]]  # [country, sex]: by both crossed\n" in country


def test_a_file_in_another_language_is_drafted_as_an_english_one(draft, counted):
    rng = np.random.default_rng(0)
    columns = {
        "idenpa": cycle(604.0, 32.0),
        "sexo": cycle(1.0, 2.0),
        "edad": cycle(*range(20, 80)),
        "wt": (weights := rng.lognormal(0, 0.3, ROWS).round(4).tolist()),
        "P1": cycle(1.0, 2.0, 3.0, -1.0, -4.0),
        "P2": cycle(1.0, 2.0, 8.0, 9.0),
    }
    labels = {
        "idenpa": {32.0: "Argentina", 604.0: "Perú"},
        "sexo": {1.0: "Hombre", 2.0: "Mujer"},
        "P1": {1.0: "Muy", 2.0: "Algo", 3.0: "Nada", -1.0: "No sabe", -4.0: "No preguntada"},
        "P2": {1.0: "Sí", 2.0: "No", 8.0: "NS", 9.0: "NC"},
    }
    text = draft(columns, ".sav", variable_value_labels=labels, column_labels={"P1": "¿Satisfecho?"})
    assert "language: es  # a guess, by words of its labels\n" in text
    assert "weight: wt  # a guess, by its name" in text
    assert list(yaml.safe_load(text)["attributes"]) == ["sex", "country", "age"]
    assert "  sexo:  # or an attribute: sex\n" in text  # `sex` is one already
    assert "    missing: [-1]  # a guess: -1 No sabe\n    not_asked: [-4]  # a guess: -4 No preguntada\n" in text
    assert "    missing: [8, 9]  # a guess: 8 NS, 9 NC\n" in text
    rows, _ = counted(text, ".sav")
    assert {a.options for a in rows if a.question_id == "P1"} == {("Muy", "Algo", "Nada")}
    assert {a.options for a in rows if a.question_id == "P2"} == {("Sí", "No")}
    everyone = [a for a in rows if a.question_id == "P2" and [name for name, _ in a.group] == ["country"]]
    assert sum(sum(a.counts) for a in everyone) == pytest.approx(sum(weights[::4]) + sum(weights[1::4]))


def test_a_doubtful_code_is_left_to_the_user_and_refused_until_then(draft, tmp_path, capfd, monkeypatch):
    labels = {"q": {1.0: "hen", 2.0: "dva", 9.0: "kvit"}, "r": {1.0: "Yes", 2.0: "No", 3.0: "No opinion"}}
    text = draft({"q": cycle(1.0, 2.0, 9.0), "r": cycle(1.0, 2.0, 3.0)}, ".sav", variable_value_labels=labels)
    assert '      9: "TODO: kvit"  # an answer, or no answer?\n' in text
    assert '      3: "TODO: No opinion"  # an answer, or no answer?\n' in text
    done = text.replace("TODO: the question", "Question").replace("min_n: 50", "min_n: 1")
    (tmp_path / "done.yaml").write_text(done)
    files = {"input": tmp_path / "own.sav", "codebook": tmp_path / "done.yaml", "output": tmp_path / "own.jsonl"}
    code, _, error = Prepare(capfd, monkeypatch)(source="microdata", **files)
    assert (code, "options: 9 is still to be written: 'TODO: kvit'" in error) == (2, True), error


def test_all_that_is_to_be_written_is_told_at_once(draft, tmp_path, capfd, monkeypatch):
    text = draft({"q": cycle(1, 2), "r": cycle(3, 4)})
    (tmp_path / "own.yaml").write_text(text.replace("min_n: 50", "min_n: none"))
    files = {"input": tmp_path / "own.csv", "codebook": tmp_path / "own.yaml", "output": tmp_path / "own.jsonl"}
    code, _, error = Prepare(capfd, monkeypatch)(source="microdata", **files)
    assert (code, error.count("\n")) == (2, 1)
    assert error.startswith(f"error: {tmp_path / 'own.yaml'}: 8 things to mend: line ")
    told = [
        "min_n must be",
        "country: value is",
        "q: text is",
        "q: options: 1 is",
        "q: options: 2 is",
        "r: options: 4 is",
    ]
    assert all(part in error for part in told), error


def test_options_that_questions_share_are_written_once(draft, counted):
    never, yes = {1.0: "Never", 2.0: "Often", 3.0: "Always"}, {1.0: "Yes", 2.0: "No"}
    labels = {"a": never, "b": never, "c": never, "d": yes}
    columns = dict.fromkeys("abc", cycle(1.0, 2.0, 3.0)) | {"d": cycle(1.0, 2.0)}
    text = draft(columns, ".sav", variable_value_labels=labels)
    assert text.count('"Often"') == 1
    assert (text.count("options: &a\n"), text.count("options: *a\n"), text.count("options:\n")) == (1, 2, 1)
    rows, _ = counted(text, ".sav")
    assert {a.question_id: a.options for a in rows} == {
        **dict.fromkeys("abc", ("Never", "Often", "Always")),
        "d": ("Yes", "No"),
    }
    assert {(a.question_id, a.scale) for a in rows} == {*((q, "ordinal") for q in "abc"), ("d", "nominal")}


def test_columns_of_the_survey_itself(draft, counted):
    rng = np.random.default_rng(0)
    design = {"caseid": [*range(50), *range(10)], "strata": cycle(1, 2, 3), "upm": cycle(*range(9))}
    rest = {
        "year": cycle(2019, 2021),
        "income": rng.lognormal(8, 1, ROWS).round().tolist(),
        "q": cycle("Yes", "No", "No"),
    }
    text = draft(design | rest)
    assert "wave: {column: year}  # a guess" in text
    assert "  # caseid is left out: an identifier, by its name or label\n" in text
    assert "  # strata is left out: a stratum of the sample, by its name or label\n" in text
    assert "  # upm is left out: a sampling unit (PSU, cluster), by its name or label\n" in text
    rows, _ = counted(text)
    assert {a.wave for a in rows} == {"2019", "2021"}
    bands = {dict(a.group)["income"] for a in rows if "income" in dict(a.group)}
    assert 4 <= len(bands) <= 5
    assert sum(a.n for a in rows if "income" in dict(a.group)) == ROWS


def test_the_language_is_that_of_most_labels_and_english_where_none_is_known(draft):
    german = {"q": {1.0: "stimme zu", 2.0: "stimme nicht zu", 9.0: "weiß nicht"}}
    codes = {"q": cycle(1.0, 2.0, 9.0)}
    assert "language: de  # a guess, by words of its labels\n" in draft(codes, ".sav", variable_value_labels=german)
    odd = {"q": {1.0: "hen", 2.0: "dva"}, "sex": {}}
    assert "\nlanguage: en  # a guess" in draft(codes, ".sav", variable_value_labels=odd)


def test_equally_likely_weights_are_left_to_the_user(draft, tmp_path, capfd, monkeypatch):
    rng = np.random.default_rng(0)
    first, second = (rng.lognormal(0, 0.3, ROWS).round(4) for _ in range(2))
    columns = {"withinwt": first / first.mean(), "combinwt": second / second.mean(), "fexp": first * 900}
    text = draft(columns | {"q": cycle("Yes", "No")})
    assert 'weight: "TODO: which, withinwt or combinwt?"\n# weight: fexp  # another column that may be one\n' in text
    (tmp_path / "done.yaml").write_text(text.replace("TODO: the question", "Question"))
    files = {"input": tmp_path / "own.csv", "codebook": tmp_path / "done.yaml", "output": tmp_path / "own.jsonl"}
    code, _, error = Prepare(capfd, monkeypatch)(source="microdata", **files)
    assert (code, "weight is still to be written: 'TODO: which, withinwt or combinwt?'" in error) == (2, True), error


def test_of_many_weights_a_few_are_named(draft):
    rng = np.random.default_rng(0)
    replicates = {f"repwt{i}": rng.lognormal(0, 0.3, ROWS).round(4) for i in range(20)}
    likely = {name: (data / data.mean()).round(4) for name, data in replicates.items()}
    text = draft(likely | {"q": cycle("Yes", "No")})
    assert 'weight: "TODO: which, repwt0 or repwt1 or repwt2 or repwt3 ... (20 in all)?"\n' in text


def test_a_declared_missing_code_that_was_not_asked_counts_nowhere_in_any_language(draft, counted):
    labels = {"v": {1.0: "stimme zu", 2.0: "stimme nicht zu", 8.0: "weiß nicht", -10.0: "trifft nicht zu"}}
    declared = {"v": [{"lo": 8.0, "hi": 8.0}, {"lo": -10.0, "hi": -10.0}]}
    codes = cycle(1.0, 2.0, 8.0, -10.0)
    text = draft({"v": codes}, ".sav", variable_value_labels=labels, missing_ranges=declared)
    rows, out = counted(text, ".sav")
    assert 'taken as "not asked": -10 trifft nicht zu\n' in out
    assert sum(a.n for a in rows) == 30
    assert {a.extra["item_nonresponse"] for a in rows} <= {0.0, 0.5}


def test_ages_with_a_labelled_code_of_no_answer_keep_their_bands(draft):
    labels = {"edad": {98.0: "98 y más", 99.0: "No contesta"}}
    text = draft(
        {"edad": [*map(float, range(20, 78)), 99.0, 98.0], "q": cycle(1.0, 2.0)}, ".sav", variable_value_labels=labels
    )
    assert "    recode: [18-29, 30-44, 45-64, 65+]" in text
    assert "    missing: [99]  # a guess: 99 No contesta\n" in text


@pytest.mark.parametrize("suffix", [".parquet", ".dta"])
def test_codes_of_32_bits_are_their_shortest_text(draft, counted, suffix):
    narrow = np.array(cycle(1.1, 2.2, 2.1, 3.0), np.float32)
    text = draft({"q": narrow}, suffix)
    assert list(yaml.safe_load(text)["questions"]["q"]["options"]) == [1.1, 2.1, 2.2, 3]
    rows, _ = counted(text, suffix)
    assert sum(a.n for a in rows) == ROWS


def test_labels_lose_html_and_an_empty_one_is_to_be_written(draft):
    labels = {"q": {0.0: " ", 1.0: "<b>Good</b>", 2.0: "Bad &amp; ugly"}}
    name = {"q": "<p>How&nbsp;are the <strong>parks</strong>?</p>", "sex": "", "r": ""}
    text = draft(
        {"q": cycle(0.0, 1.0, 2.0), "r": cycle(1.0, 2.0)}, ".sav", variable_value_labels=labels, column_labels=name
    )
    question = yaml.safe_load(text)["questions"]["q"]
    assert question["text"] == "How are the parks?"  # a label that is a question
    assert question["options"] == {0: "TODO: what 0 means", 1: "Good", 2: "Bad & ugly"}


def test_a_label_that_is_a_question_is_its_text(draft):
    labels = {
        "trapped": "do you feel trapped in your role?",
        "worthwhile": "您觉得照顾家人是有意义的吗？",
        "covid": "Covid (or not)?",  # a key word
        "a": "How much do you trust each of these?",  # of several
        "b": "How much do you trust each of these?",
        "relation": "relationship to elder",
    }
    answers = {name: cycle(1.0, 2.0, 3.0) for name in labels}
    values = {name: {1.0: "Never", 2.0: "Often", 3.0: "Always"} for name in labels}
    text = draft(answers, ".sav", variable_value_labels=values, column_labels=labels)
    questions = yaml.safe_load(text)["questions"]
    assert {name for name in labels if "TODO" not in questions[name]["text"]} == {"trapped", "worthwhile"}
    remark = "# the file's label; is it what respondents read?"
    assert f'    text: "do you feel trapped in your role?"  {remark}\n' in text
    assert questions["worthwhile"]["text"] == labels["worthwhile"]


def test_counts_and_totals_are_no_questions(draft):
    """More numbers than a scale in numbers alone has, and not one of them with a label."""
    columns = {"quality": cycle(*range(26)), "negative": cycle(*range(7, 19)), "points": cycle(*range(11), 99, -9)}
    text = draft(columns | {"q": cycle(1, 2, 3)})
    assert "  # quality is left out: 26 different numbers without labels\n" in text
    assert "  # negative is left out: 12 different numbers without labels\n" in text
    assert {"points", "q"} == set(yaml.safe_load(text)["questions"])


def test_a_second_column_for_an_attribute_is_named_beside_the_first(draft):
    """Of a survey of carers about their elders, say."""
    sexes, ages = cycle("male", "female"), cycle(*range(20, 70))
    text = draft({"sex": sexes, "carer_sex": sexes, "age": ages, "carer_age": ages, "q": cycle(1, 2, 3)})
    assert "    column: sex  # or carer_sex?\n" in text
    assert "    column: age  # or carer_age?\n" in text


def test_columns_that_may_be_attributes_say_so(draft):
    columns = {"educacion_padre": cycle(1, 2, 3), "edad_conyuge": cycle(*range(20, 70)), "q": cycle("Yes", "No")}
    text = draft(columns)
    assert "  educacion_padre:  # or an attribute: education\n" in text
    assert "  # edad_conyuge is left out: 50 different values; or an attribute, age?\n" in text
