"""World Values Survey wave 7: small files with the published names, codes, labels and quirks, and invented texts."""

import numpy as np
import pandas as pd
import pyreadstat
import pytest

from survey_jax import sources
from survey_jax.common.errors import UserError
from survey_jax.sources.microdata import counting, wvs

CODEBOOK = """
questions:
  Q1:
    text: How do you like tea?
    options: {1: Very much, 2: Somewhat, 3: Not at all}
    scale: ordinal
  Q241:
    text: Does tea matter?
    options: {0: It is against tea, 1: Not essential, 2: "2", 3: "3", 4: Essential}
"""
MISSING = {-1: "Don't know", -2: "No answer", -4: "Not asked", -5: "Missing; Not available"}
LABELS = {"Q1": "Q1: Important in life: Tea", "Q241": "Q241: Democracy: Tea", "Q259": "Q259: Closeness"}
VALUE_LABELS = {
    "Q1": {**MISSING, 1: "Very important", 2: "Rather important", 3: "Not at all important"},
    "Q241": {**MISSING, 0: "It is against tea (spontaneous)", 1: "Not essential", 2: "2", 3: "3", 4: "Essential"},
    "Q259": {**MISSING, 1: "Very close", 2: "Close"},
}
COUNTRIES = {404: ("KEN", 2021), 158: ("TWN", 2019), 826: ("GBR", 2022)}


def respondents(size=600, seed=0) -> pd.DataFrame:
    """Published names and codes; every question has every missing code."""
    rng = np.random.default_rng(seed)
    country = rng.choice(list(COUNTRIES), size)
    columns = {
        "version": "6-0-0", "A_WAVE": 7, "A_YEAR": [COUNTRIES[c][1] for c in country], "B_COUNTRY": country,
        "B_COUNTRY_ALPHA": [COUNTRIES[c][0] for c in country], "D_INTERVIEW": np.arange(size),
        "W_WEIGHT": rng.uniform(0.2, 3, size).round(4),
        "Q1": rng.choice([1, 2, 3, -1, -2, -4, -5], size, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05]),
        "Q82": rng.choice([1, 2], size), "Q94": rng.choice([0, 1, 2], size), "Q105": rng.choice([0, 1, 2], size),
        "Q223": rng.choice([404001, 158002, -1], size),
        "Q241": rng.choice([0, 1, 2, 3, 4, -1], size),
        "Q259": rng.choice([1, 2, -2], size),
        "Q260": rng.choice([1, 2, -5], size, p=[0.48, 0.48, 0.04]),
        "Q262": rng.choice([17, 29, 30, 64, 65, 90, -2], size),
        "Q275": rng.choice([0, 2, 3, 4, 5, 8, -1], size), "Q290": 1,
    }  # fmt: skip
    return pd.DataFrame(columns)


def load(path, frame=None, suffix=".csv", codebook=CODEBOOK, separator=",", **request):
    frame = respondents() if frame is None else frame
    file = path / f"wvs{suffix}"
    if suffix == ".csv":
        frame.to_csv(file, index=False, sep=separator, decimal="," if separator == ";" else ".", encoding="utf-8-sig")
    else:
        declared = {q: [{"lo": -5, "hi": -1}] for q in ("Q1", "Q241", "Q259")}
        pyreadstat.write_sav(
            frame, file, column_labels=LABELS, variable_value_labels=VALUE_LABELS, missing_ranges=declared
        )
    if codebook:
        (path / "codebook.yaml").write_text(codebook)
        request["codebook"] = path / "codebook.yaml"
    return sources.load("wvs", sources.Request(str(file), **request))


def answers(prepared, question):
    return {dict(a.group)["country"]: a for a in prepared.answers if a.question_id == question}


def kish(weights):
    return sum(weights) ** 2 / sum(w**2 for w in weights)


@pytest.mark.parametrize("question", ["Q1", "Q241"])
def test_weighted_distributions_equal_an_independent_computation(tmp_path, question):
    from statsmodels.stats.weightstats import DescrStatsW

    frame = respondents()
    found = answers(load(tmp_path, frame), question)
    assert set(found) == {"Kenya", "Taiwan", "United Kingdom"}
    for code, name in ((404, "Kenya"), (158, "Taiwan"), (826, "United Kingdom")):
        answered = frame[(frame["B_COUNTRY"] == code) & (frame[question] >= 0)]
        dummies = pd.get_dummies(answered[question]).to_numpy(float)
        expected = DescrStatsW(dummies, weights=answered.W_WEIGHT)
        assert found[name].probs == pytest.approx(expected.mean, abs=1e-12)
        assert found[name].counts == pytest.approx(expected.sum)
        assert found[name].n == len(answered)
        assert found[name].n_effective == pytest.approx(kish(list(answered.W_WEIGHT)))
        assert found[name].n_effective < found[name].n


def test_unweighted_equals_plain_counts_for_parity_with_the_paper(tmp_path):
    frame = respondents()
    for name, answer in answers(load(tmp_path, frame, unweighted=True), "Q1").items():
        code = {"Kenya": 404, "Taiwan": 158, "United Kingdom": 826}[name]
        plain = [((frame["B_COUNTRY"] == code) & (frame["Q1"] == option)).sum() for option in (1, 2, 3)]
        assert answer.counts == tuple(plain)
        assert answer.n == answer.n_effective == sum(plain)


def test_item_nonresponse_is_dont_know_and_no_answer_among_those_asked(tmp_path):
    frame = respondents()
    kenya = frame[frame["B_COUNTRY"] == 404]
    silent, answered = (kenya.W_WEIGHT[which].sum() for which in (kenya.Q1.isin([-1, -2]), kenya.Q1 > 0))
    assert (kenya.Q1 == -4).any()
    assert (kenya.Q1 == -5).any()
    share = answers(load(tmp_path, frame), "Q1")["Kenya"].extra["item_nonresponse"]
    assert share == pytest.approx(silent / (silent + answered))


def test_sav_labels_give_the_texts_and_declared_missing_codes_stay_apart(tmp_path):
    from_csv, from_sav = load(tmp_path), load(tmp_path, suffix=".sav", codebook=None)
    found, plain = answers(from_sav, "Q1")["Kenya"], answers(from_csv, "Q1")["Kenya"]
    assert (found.question, found.options) == (
        "Important in life: Tea",
        ("Very important", "Rather important", "Not at all important"),
    )
    assert (found.probs, found.n, found.n_effective) == (plain.probs, plain.n, plain.n_effective)
    assert found.extra == plain.extra
    assert found.extra["item_nonresponse"] > 0
    assert set(answers(from_sav, "Q259")["Kenya"].options) == {"Very close", "Close"}


def test_code_0_is_an_answer(tmp_path):
    answer = answers(load(tmp_path), "Q241")["Taiwan"]
    assert answer.options[0] == "It is against tea"
    assert answer.probs[0] > 0


def test_codebook_goes_before_the_savs_labels(tmp_path):
    prepared = load(tmp_path, suffix=".sav")
    assert answers(prepared, "Q1")["Kenya"].question == "How do you like tea?"
    assert answers(prepared, "Q1")["Kenya"].scale == "ordinal"
    assert answers(prepared, "Q259")["Kenya"].question == "Closeness"


def test_exclusions_and_questions_without_text_are_named(tmp_path):
    prepared = load(tmp_path)
    assert {a.question_id for a in prepared.answers} == {"Q1", "Q241"}
    assert prepared.dropped == {}
    assert prepared.notes[-2:] == [
        "left out, as in the paper: Q105, Q223, Q82, Q94",
        "left out for lack of a text: Q259",
    ]
    assert len(wvs.EXCLUDED) == 14
    assert {"Q82", "Q94", "Q105", "Q223"} <= wvs.EXCLUDED
    assert not {"Q93", "Q106"} & wvs.EXCLUDED


def test_a_question_not_asked_in_a_country_is_no_row(tmp_path):
    frame = respondents()
    frame.loc[frame["B_COUNTRY"] == 158, "Q1"] = -4
    prepared = load(tmp_path, frame)
    assert set(answers(prepared, "Q1")) == {"Kenya", "United Kingdom"}
    assert prepared.dropped == {counting.NOT_ASKED: 1}


def test_breakdowns(tmp_path):
    frame = respondents()
    prepared = load(tmp_path, frame, breakdowns=(("country", "sex", "age"), ("country", "education")), min_n=1)
    groups = {a.group: a for a in prepared.answers if a.question_id == "Q1"}
    assert {dict(g)["age"] for g in groups if "age" in dict(g)} == {"16-29", "30-49", "50-64", "65+"}
    assert {dict(g)["education"] for g in groups if "education" in dict(g)} == {
        "lower secondary or below", "upper secondary", "tertiary"
    }  # fmt: skip
    one = groups[(("age", "50-64"), ("country", "Kenya"), ("sex", "female"))]
    members = frame[(frame["B_COUNTRY"] == 404) & (frame["Q260"] == 2) & (frame["Q262"] == 64) & (frame["Q1"] > 0)]
    assert one.n == len(members)
    assert one.probs[0] == pytest.approx(members.W_WEIGHT[members.Q1 == 1].sum() / members.W_WEIGHT.sum())
    tertiary = frame[(frame["B_COUNTRY"] == 404) & frame["Q275"].isin([5, 8]) & (frame["Q1"] > 0)]
    assert groups[(("country", "Kenya"), ("education", "tertiary"))].n == len(tertiary)
    lost = (frame["Q262"] < 0).sum()
    assert f"{lost} of 600 respondents are in no group by age: no value, or a missing code" in prepared.notes


def test_recoded_education_serves_where_the_full_one_is_absent(tmp_path):
    frame = respondents().drop(columns="Q275").assign(Q275R=[1, 2, 3] * 200)
    prepared = load(tmp_path, frame, breakdowns=(("country", "education"),), min_n=30)
    members = frame[(frame["B_COUNTRY"] == 404) & (frame["Q275R"] == 3) & (frame["Q1"] > 0)]
    (answer,) = [a for a in prepared.answers if a.question_id == "Q1" and a.group == (("country", "Kenya"), ("education", "tertiary"))]  # fmt: skip  # noqa: E501
    assert answer.n == len(members)


def test_small_groups_are_dropped_and_counted(tmp_path):
    few = respondents(5, seed=1).assign(B_COUNTRY=566, B_COUNTRY_ALPHA="NGA", Q1=1, Q241=1, W_WEIGHT=1)
    frame = pd.concat([respondents(), few])
    assert "Nigeria" in answers(load(tmp_path, frame, min_n=5), "Q1")
    prepared = load(tmp_path, frame)
    assert set(answers(prepared, "Q1")) == {"Kenya", "Taiwan", "United Kingdom"}
    assert prepared.dropped == {"fewer than 50 respondents in the group answered (min_n)": 2}


def test_northern_ireland_is_its_own_group_and_unknown_codes_are_reported(tmp_path):
    frame = respondents()
    frame.loc[frame["B_COUNTRY"] == 404, "B_COUNTRY"] = 909
    frame.loc[frame["B_COUNTRY"] == 158, "B_COUNTRY"] = 998
    prepared = load(tmp_path, frame)
    assert set(answers(prepared, "Q1")) == {"Northern Ireland", "United Kingdom", "998"}
    assert "1 country name not recognised: 998; kept as written" in prepared.notes
    codes = {name: a.extra.get("country_iso3") for name, a in answers(prepared, "Q1").items()}
    assert codes == {"Northern Ireland": None, "United Kingdom": "GBR", "998": None}


def test_alpha_codes_serve_where_numeric_ones_are_absent(tmp_path):
    prepared = load(tmp_path, respondents().drop(columns="B_COUNTRY"))
    assert set(answers(prepared, "Q1")) == {"Kenya", "Taiwan", "United Kingdom"}


def test_respondents_without_a_weight_do_not_count_and_are_reported(tmp_path):
    frame = respondents()
    frame.loc[frame.index[:7], "W_WEIGHT"] = [np.nan, -1, -5, np.nan, np.nan, np.nan, np.nan]
    prepared = load(tmp_path, frame)
    assert "7 of 600 respondents are left out: they have no weight" in prepared.notes
    rest = frame[frame["W_WEIGHT"] > 0]
    assert answers(prepared, "Q1")["Kenya"].n == ((rest.B_COUNTRY == 404) & (rest.Q1 > 0)).sum()


def test_semicolons_and_decimal_commas(tmp_path):
    assert load(tmp_path, separator=";").answers == load(tmp_path).answers


def test_points_of_a_scale_without_a_label_are_answers_and_equal_labels_are_reported(tmp_path, monkeypatch):
    monkeypatch.setitem(VALUE_LABELS, "Q241", {**MISSING, 0: "Against", 4: "Essential"})
    monkeypatch.setitem(VALUE_LABELS, "Q259", {**MISSING, 1: "Close", 2: "close"})
    prepared = load(tmp_path, suffix=".sav", codebook=None)
    assert answers(prepared, "Q241")["Kenya"].options == ("Against", "1", "2", "3", "Essential")
    assert answers(prepared, "Q241")["Kenya"].scale == "ordinal"
    assert (
        "Q259 left out: two equal answer options among the file's labels; --codebook can give others" in prepared.notes
    )


def test_a_code_beyond_the_labels_is_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(VALUE_LABELS, "Q1", {**MISSING, 1: "Very", 2: "Rather"})
    with pytest.raises(
        UserError, match=r"Q1, by the file's labels \(--codebook can give others\): column Q1 .* code 3 "
    ):
        load(tmp_path, suffix=".sav", codebook=None)


CODEBOOKS = {
    "old key": ("questions: {Q1: {question: A, options: {1: a}}}", "line 1: questions: Q1: unknown key 'question'"),
    "no such question": ("questions: {Q300: {text: A, options: {1: a, 2: b}}}", "Q300: is not one of Q1-Q259"),
    "no options": ("questions: {Q1: {text: A}}", "questions: Q1: options must map codes to texts"),
    "no text": ("questions:\n  Q1:\n    options: {1: a, 2: b, 3: c}", "line 2: questions: Q1: text is missing"),
    "missing code": ("questions: {Q1: {text: A, options: {-1: a, 2: b}}}", "the code -1 is an option and also in"),
    "weights": ("weight: w\nquestions: {Q1: {text: A, options: {1: a, 2: b}}}", "line 1: unknown key 'weight'"),
    "no questions": ("language: en", "line 1: questions must map names to entries"),
    "no YAML": ("questions: [", "line 1: not YAML: "),
    "code without option": (
        "questions: {Q1: {text: A, options: {1: a, 2: b}}}",
        "questions: Q1: column Q1 of {data} holds the code 3 (",
    ),
}


@pytest.mark.parametrize("name", CODEBOOKS)
def test_a_codebook_that_is_not_right_is_refused(tmp_path, name):
    text, reason = CODEBOOKS[name]
    with pytest.raises(UserError) as error:
        load(tmp_path, codebook=text)
    assert reason.replace("{data}", str(tmp_path / "wvs.csv")) in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "codebook.yaml"))
    assert "\n" not in str(error.value)


FRAMES = {
    "no texts": (lambda f: f, None, {}, "has no question texts; give them with --codebook=FILE"),
    "no weight": (
        lambda f: f.drop(columns="W_WEIGHT"),
        CODEBOOK,
        {},
        "the weights, unless --unweighted: {data} has no column 'W_WEIGHT'",
    ),
    "no questions": (lambda f: f[["B_COUNTRY", "W_WEIGHT"]], CODEBOOK, {}, "has none of the columns Q1-Q259"),
    "labels": (lambda f: f.assign(Q1="Very"), CODEBOOK, {}, "column Q1 of {data} holds the code Very (600 times)"),
    "no age": (
        lambda f: f.drop(columns="Q262"),
        CODEBOOK,
        {"breakdowns": (("country", "age"),)},
        "{data}: age: {data} has no column 'Q262'",
    ),
    "unknown attribute": (
        lambda f: f,
        CODEBOOK,
        {"breakdowns": (("country", "car"),)},
        "--breakdowns: unknown attribute 'car'; choose from country, sex, age, education",
    ),
    "without country": (lambda f: f, CODEBOOK, {"breakdowns": (("age",),)}, "--breakdowns: age lacks country"),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_file_or_request_that_is_not_right_is_refused(tmp_path, name):
    change, codebook, request, reason = FRAMES[name]
    with pytest.raises(UserError) as error:
        load(tmp_path, change(respondents()), codebook=codebook, **request)
    assert reason.replace("{data}", str(tmp_path / "wvs.csv")) in str(error.value)
    assert "\n" not in str(error.value)


def test_absent_or_other_file(tmp_path):
    with pytest.raises(UserError, match=r"none\.sav: no such file"):
        sources.load("wvs", sources.Request(str(tmp_path / "none.sav")))
    (tmp_path / "x.sav").write_text("not SPSS")
    with pytest.raises(UserError, match=r"x\.sav: cannot be read: "):
        sources.load("wvs", sources.Request(str(tmp_path / "x.sav")))
