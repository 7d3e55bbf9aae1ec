"""The groups to ask: from files and by words, compared with those of the training data as a reader would."""

import json

import pytest

from survey_jax.common.errors import UserError
from survey_jax.survey.prediction.groups import ask, read_groups
from survey_jax.survey.prediction.questions import Question

TRAINED = [
    (("age", "18-29"), ("country", "United Kingdom")),
    (("age", "65 or older"), ("country", "United Kingdom")),
    (("age", "18-29"), ("country", "Kenya")),
    (("country", "Kenya"),),
    (("country", "kenya"),),  # of another survey
    (("sex", "female"),),
]


def refusal(source) -> str:
    with pytest.raises(UserError) as error:
        read_groups(source, TRAINED)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_train_is_every_group_once():
    assert read_groups("train", TRAINED) == ([*TRAINED[:4], TRAINED[5]], [])


def test_an_attribute_is_a_group_for_each_of_its_values():
    assert read_groups("Country", TRAINED) == ([(("country", "United Kingdom"),), (("country", "Kenya"),)], [])


@pytest.mark.parametrize("words", ["country x age", "country,age", " country ,  age "])
def test_several_attributes_are_every_combination_seen_or_not(words):
    groups, remarks = read_groups(words, TRAINED)
    ages = ("18-29", "65 or older")
    assert groups == [(("age", age), ("country", place)) for place in ("United Kingdom", "Kenya") for age in ages]
    assert remarks == []


@pytest.mark.parametrize("name", ["groups.csv", "groups.jsonl", "groups.json"])
def test_a_file_gives_its_groups_in_the_spelling_of_train(tmp_path, name):
    rows = [{"Country": "KENYA", "age": None}, {"Country": "Kenya", "age": "18-29"}, {"Country": None, "age": "18-29"}]
    texts = {
        "groups.csv": "Country,age\nKENYA,\nKenya,18-29\n,18-29\n",
        "groups.jsonl": "\n".join(map(json.dumps, rows)),
        "groups.json": json.dumps(rows),
    }
    (tmp_path / name).write_text(texts[name], encoding="utf-8")
    groups, remarks = read_groups(tmp_path / name, TRAINED)
    assert groups == [(("country", "Kenya"),), (("age", "18-29"), ("country", "Kenya")), (("age", "18-29"),)]
    assert remarks == ["Country = KENYA, asked as Kenya, which is how the training data spells it"]


def test_a_value_that_train_lacks_is_asked_and_told_once(tmp_path):
    (tmp_path / "a.csv").write_text(
        "country,age\nGreat Britain,18-29\nRussian Federation,90 or older\nKenya,90 or older\nAtlantis,\n",
        encoding="utf-8",
    )
    groups, remarks = read_groups(str(tmp_path / "a.csv"), TRAINED)
    assert [dict(group).get("country") for group in groups] == ["United Kingdom", "Russia", "Kenya", "Atlantis"]
    assert remarks == [
        "country = Great Britain, asked as United Kingdom, which is how the training data spells it",
        "country = Russian Federation, asked as Russia: no group of the training data has this value",
        "age = 90 or older: no group of the training data has this value",
        "country = Atlantis: no group of the training data has this value",
    ]


BAD = {
    "unknown attribute": (
        {"contry": "Kenya"},
        "no attribute 'contry' in the training data; did you mean country? it has age, country, sex",
    ),
    "strange attribute": ({"shoe": "42"}, "no attribute 'shoe' in the training data; it has age, country, sex"),
    "list": ({"age": ["18-29"]}, "age must be text, got ['18-29']"),
    "none": ({}, "is a group without any attribute"),
    "empty": ({"age": None}, "is a group without any attribute"),
    "again": ({"country": "Great Britain"}, "the same group as FILE row 1 (United Kingdom)"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_group_is_refused_with_file_row_and_reason(tmp_path, name):
    row, reason = BAD[name]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"country": "GBR"}) + "\n" + json.dumps(row), encoding="utf-8")
    assert refusal(path) == f"{path} row 2: {reason.replace('FILE', str(path))}"


def test_files_of_no_use_are_refused(tmp_path):
    (tmp_path / "none.json").write_text("[]", encoding="utf-8")
    (tmp_path / "empty.csv").write_text("", encoding="utf-8")
    assert refusal(tmp_path / "none.json").endswith("none.json: has no groups")
    assert refusal(tmp_path / "empty.csv").endswith("empty.csv: is empty")
    assert refusal(tmp_path / "missing.csv").endswith("missing.csv: no such file")


def test_words_that_are_no_attributes_are_refused():
    assert refusal("contry x age") == (
        "contry x age: is no .csv, .jsonl, .json file, not `train`, and no attribute 'contry' in the training data; "
        "did you mean country? it has age, country, sex; several attributes are joined as in: country x age"
    )
    assert refusal("age x Age") == "age x Age: has an attribute twice"


def test_every_question_is_put_to_every_group():
    questions = [Question("a", "Is it far?", ("Yes", "No")), Question("b", "Is it new?", ("Yes", "No", "Partly"))]
    groups = [(("sex", "female"),), (("age", "18-29"),)]
    answers = ask(questions, groups)
    assert [(a.question_id, a.group) for a in answers] == [(q, g) for q in ("a", "b") for g in groups]
    assert [len(a.probs) for a in answers] == [2, 2, 3, 3]
    assert all(a.counts is None and sum(a.probs) == pytest.approx(1) for a in answers)
