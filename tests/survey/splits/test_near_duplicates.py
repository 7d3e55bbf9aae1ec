"""The audit finds copies of training questions that were planted, and only those."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity

from survey_jax.common.errors import UserError
from survey_jax.survey.embeddings import Embeddings
from survey_jax.survey.splits.config import SplitConfig
from survey_jax.survey.splits.near_duplicates import NearDuplicates
from survey_jax.survey.splits.split import split
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


PARTY = tuple(f"{how} {party}" for how in ("Strong", "Weak", "Leaning") for party in ("left", "right"))
ASKED = "In politics, do you think of yourself as left or right, and how strongly or toward which side?"
AGAIN = "Do you see yourself as left or right, and how strongly or closer to which side?"


def party(question, survey, number=1, options=PARTY):
    probs = tuple(float(o == options[0]) for o in options)
    return Answer(survey, f"party{number}", question, options, (("country", "Peru"),), probs)


def found_party(train, test):
    others = rows(TRAINED | FRESH, "X")  # so that words have their usual weight
    return [d.similarity for d in NearDuplicates({"train": [*others, *train], "unseen_survey": test}).questions()]


def test_paraphrases_with_the_same_rare_options_of_another_survey_are_found():
    (similarity,) = found_party([party(ASKED, "S")], [party(AGAIN, "T", options=PARTY[::-1])])
    assert 0.6 <= similarity < 0.87
    assert found_party([party(ASKED, "S")], [party(AGAIN, "S", 2)]) == []  # the next item of a battery
    assert found_party([party(ASKED, "S")], [party(AGAIN, "T", options=PARTY[:5])]) == []
    battery = [party(TRAINED[f"Q{n}"], "S", n + 1) for n in (1, 2, 3)]
    assert len(found_party([party(ASKED, "S"), *battery[:2]], [party(AGAIN, "T")])) == 1
    assert found_party([party(ASKED, "S"), *battery], [party(AGAIN, "T")]) == []  # options that many questions have


def test_options_that_a_question_lists_do_not_make_it_similar():
    listed = ", ".join(PARTY)
    train = party(f"How did you vote in the last general election for the lower house: {listed}?", "S")
    test = party(f"What were your father's opinions while you were growing up at home: {listed}?", "T")
    assert found_party([train], [test]) == []


def test_shared_cells_need_the_same_options_and_the_nearest_are_shown():
    asked = party("In politics, are you strongly or weakly of the left or of the right?", "S")
    again = []
    for i in range(5):
        probs = (i / 10, 0.0, 0.0, 0.0, 0.0, 1 - i / 10)  # as far from the ones in train as i tells
        question = asked.question + "?" * i
        row = Answer("T", f"p{i}", question, PARTY[::-1], asked.group, probs)
        again.append(row)
    other = dataclasses.replace(asked, survey="T", question_id="other", options=(*PARTY[1:], "None"))
    duplicates = NearDuplicates({"train": [asked], "unseen_survey": [*again[::-1], other]})
    assert [c.tv for c in duplicates.shared_cells()] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert len(duplicates.questions()) == 6
    lines = duplicates.table().splitlines()
    assert "5 rows of a group that answers the similar question in train; nearest:" in lines
    assert [line.split(":")[0] for line in lines if "same cell" in line] == [f"same cell, TV 0.{i}00" for i in range(3)]


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


# --- by meaning


def embedded(path, vectors) -> Embeddings:
    pq.write_table(pa.table({"question": list(vectors), "embedding": list(vectors.values())}), path)
    return Embeddings(path, [])


def test_embeddings_find_what_another_survey_asks_in_other_words(tmp_path):
    vectors = {text: np.eye(9)[i].tolist() for i, text in enumerate([*TRAINED.values(), *FRESH.values(), "?"])}
    other = "Would you say that one can rely on others?"
    vectors[other] = (0.8 * np.eye(9)[0] + 0.6 * np.eye(9)[8]).tolist()
    meant = embedded(tmp_path / "e.parquet", vectors)
    for survey, found in (("T", [("B", "Q1")]), ("S", [])):  # items of one survey may be alike
        parts = {"train": rows(TRAINED, "S"), "unseen_question": rows({"B": other} | FRESH, survey)}
        duplicates = NearDuplicates(parts, embeddings=meant)
        assert [(d.question.question_id, d.trained.question_id) for d in duplicates.questions()] == found
        assert all(d.similarity == pytest.approx(0.8) for d in duplicates.questions())
        assert NearDuplicates(parts).questions() == []
    assert "or 0.8 by meaning" in duplicates.table()


def test_splits_leave_them_out(tmp_path):
    other = "Would you say that one can rely on others?"
    table = rows(TRAINED, "S") + rows({"B": other} | FRESH, "T")
    vectors = {text: np.eye(9)[i].tolist() for i, text in enumerate([*TRAINED.values(), *FRESH.values()])}
    embedded(tmp_path / "e.parquet", vectors | {other: vectors[TRAINED["Q1"]]})
    config = SplitConfig(unseen_surveys=("T",), remove_near_duplicates=0.87, embeddings=str(tmp_path / "e.parquet"))
    found = split(table, config)
    assert {a.question_id for a in found.rows["unseen_survey"]} == set(FRESH)
    assert "near-duplicate of a question of train (unseen_survey)" in found.left_out
    embedded(tmp_path / "e.parquet", vectors)
    with pytest.raises(UserError, match="has no embedding of 1 questions, such as 'Would you say"):
        split(table, config)
    with pytest.raises(UserError, match="remove_near_duplicates, which uses them, is not"):
        split(table, SplitConfig(unseen_surveys=("T",), embeddings="e.parquet"))
