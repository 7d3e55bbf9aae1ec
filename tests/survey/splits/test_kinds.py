"""Kinds of rows are about questions by survey and id, whoever is asked."""

from survey_jax.survey.splits.kinds import KNOWN, NEW, kinds
from survey_jax.survey.table import Answer


def answer(survey, question, country):
    return Answer(survey, question, "Fair?", ("Yes", "No"), (("country", country),), (0.5, 0.5))


def test_a_question_is_known_if_train_asks_it_by_survey_and_id():
    train = [answer("S", "Q1", "Kenya")]
    rows = [answer("S", "Q1", "Peru"), answer("S", "Q2", "Kenya"), answer("T", "Q1", "Kenya")]
    assert kinds(train, rows) == [KNOWN, NEW, NEW]
    assert kinds([], rows) == [NEW] * 3
