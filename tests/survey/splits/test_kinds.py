"""Kinds of rows are about questions by survey and id, and about groups wherever train has them."""

from survey_jax.survey.splits.kinds import KNOWN, KNOWN_GROUP, NEW, SAME_CELL, is_evidence, kinds
from survey_jax.survey.table import Answer


def answer(survey, question, country):
    return Answer(survey, question, "Fair?", ("Yes", "No"), (("country", country),), (0.5, 0.5))


def test_a_question_is_known_if_train_asks_it_by_survey_and_id():
    train = [answer("S", "Q1", "Kenya")]
    rows = [answer("S", "Q1", "Peru"), answer("S", "Q2", "Kenya"), answer("T", "Q1", "Kenya")]
    assert kinds(train, rows) == [KNOWN, NEW, NEW]
    assert kinds([], rows) == [NEW] * 3


def test_a_known_group_is_one_that_train_has_whatever_its_country_is_called():
    train = [answer("S", "Q1", "Peru"), answer("S", "Q2", "Great Britain")]
    assert kinds(train, [answer("S", "Q1", "GBR"), answer("S", "Q1", "Kenya")]) == [KNOWN_GROUP, KNOWN]


def test_another_wave_of_a_known_answer_is_a_kind_of_its_own():
    train = [answer("S", "Q1", "Peru"), answer("S", "Q2", "Kenya")]
    assert kinds(train, [answer("S", "Q1", "Peru"), answer("S", "Q1", "Kenya")]) == [SAME_CELL, KNOWN_GROUP]


def test_few_questions_or_one_group_are_no_evidence():
    assert is_evidence(NEW, questions=15, groups=1)
    assert not is_evidence(NEW, questions=14, groups=99)
    assert not is_evidence(KNOWN, questions=99, groups=1)  # of a new group, which is one of many
    assert is_evidence(KNOWN, questions=15, groups=2)
