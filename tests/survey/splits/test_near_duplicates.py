"""The audit finds copies of training questions that were planted, and only those."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity

from survey_jax.survey.splits.near_duplicates import NearDuplicates
from survey_jax.survey.table import Answer

TRAINED = {
    "Q1": "Generally speaking, can most people be trusted, or can one not be too careful?",
    "Q2": "How often do you follow politics in the news?",
    "Q3": "Should the state provide a basic income for everybody?",
    "Q4": "How satisfied are you with your household's finances?",
    "Q5": "How many hours a week do you work for pay?",
}
FRESH = {
    "N1": "Is a hot summer better than a cold winter?",
    "N2": "Which of these animals would you rather keep?",
    "N3": "Do you believe in life after death?",
}
PLANTED = {
    "P1": "GENERALLY SPEAKING -- can most people be trusted or can one not be too careful",  # case, punctuation
    "P2": "And how often do you follow politics in the news?",  # a word more
    "P3": "Should the state provide basic income for everybody?",  # a word less
}


def rows(questions, survey, countries=("Kenya", "Peru"), probs=(0.3, 0.7)):
    options = ("Yes", "No")
    return [
        Answer(survey, q, text, options, (("country", c),), probs) for q, text in questions.items() for c in countries
    ]


def splits():
    return {
        "train": rows(TRAINED, "S"),
        "valid": rows({"N1": FRESH["N1"]}, "S"),
        "unseen_survey": rows(FRESH | PLANTED, "T", ("Peru", "Chad")),
    }


def test_planted_duplicates_are_found_and_nothing_else():
    found = NearDuplicates(splits()).questions()
    assert {(d.split, d.question.question_id, d.trained.question_id) for d in found} == {
        ("unseen_survey", f"P{i}", f"Q{i}") for i in (1, 2, 3)
    }
    assert all(d.rows == 2 and d.same_options for d in found)
    assert found[0].question.question_id == "P1"
    assert found[0].similarity == pytest.approx(1)


def test_similarity_equals_scikit_learns_cosine():
    texts = [*TRAINED.values(), *FRESH.values(), *PLANTED.values()]
    plain = ["".join(c if c.isalnum() or c == " " else " " for c in t.lower()) for t in texts]
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5)).fit_transform(
        [" ".join(t.split()) for t in plain]
    )
    similarity = cosine_similarity(vectors[len(TRAINED) :], vectors[: len(TRAINED)])
    only = {"train": splits()["train"], "test": splits()["unseen_survey"]}
    found = {d.question.question_id: d for d in NearDuplicates(only, 0.0).questions()}
    for name, row in zip([*FRESH, *PLANTED], similarity, strict=True):
        assert found[name].similarity == pytest.approx(row.max())
        assert found[name].trained.question_id == f"Q{row.argmax() + 1}"


def test_options_are_compared_and_reported():
    test = [
        Answer("T", "P2", TRAINED["Q2"], options, (("country", "Peru"),), (0.5,) * len(options), wave=str(len(options)))
        for options in (("Never", "Daily", "Weekly"),)
    ]
    (found,) = NearDuplicates({"train": rows(TRAINED, "S"), "unseen_survey": test}).questions()
    assert not found.same_options


def test_shared_cells_are_the_same_group_under_any_name():
    parts = splits() | {"unseen_survey": rows(PLANTED, "T", ("PER", "Chad"), (0.5, 0.5))}
    cells = NearDuplicates(parts).shared_cells()
    assert {(c.row.question_id, dict(c.row.group)["country"]) for c in cells} == {(p, "PER") for p in PLANTED}
    assert all(dict(c.trained.group)["country"] == "Peru" for c in cells)
    assert all(c.tv == pytest.approx(0.2) for c in cells)


def test_leaked_rows_are_those_of_the_planted_questions():
    parts = splits()
    leaked = NearDuplicates(parts).leaked_rows("unseen_survey")
    assert leaked.dtype == bool
    np.testing.assert_array_equal(leaked, [a.question_id.startswith("P") for a in parts["unseen_survey"]])
    assert not NearDuplicates(parts).leaked_rows("valid").any()


def test_seen_questions_are_no_finding():
    parts = {"train": rows(TRAINED, "S"), "unseen_group": rows(TRAINED, "S", ("Chad",))}
    assert NearDuplicates(parts).questions() == []
    assert not NearDuplicates(parts).leaked_rows("unseen_group").any()


def test_threshold_of_one_means_copies():
    found = NearDuplicates(splits(), 1.0).questions()
    assert [d.question.question_id for d in found] == ["P1"]


def test_without_anything_to_compare():
    assert NearDuplicates({"train": [], "valid": rows(FRESH, "S")}).questions() == []
    assert NearDuplicates({"train": rows(FRESH, "S")}).shared_cells() == []


def test_table():
    lines = NearDuplicates(splits()).table().splitlines()
    counts = {line.split()[0]: line.split()[1:] for line in lines[2:4]}
    assert counts == {"valid": ["0", "0", "0"], "unseen_survey": ["3", "6", "3"]}
    assert any(line.startswith("1.000 unseen_survey, 2 rows, same options: T / P1") for line in lines)
    assert "same cell, TV 0.000: T / P1 / country=Peru = S / Q1 / country=Peru" in lines
    short = NearDuplicates(splits()).table(limit=1)
    assert "... and 2 more questions" in short
