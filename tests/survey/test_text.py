"""When two questions are the same to a reader, and when they only look so."""

import pytest

from survey_jax.survey.table import Answer
from survey_jax.survey.text import Questions, plain, wording

INDIA = "What is your opinion of India these days?"
SCALE = ("Very good", "Fairly good", "Poor")


def answer(question=INDIA, options=SCALE, survey="S") -> Answer:
    return Answer(survey, "Q1", question, options, (("country", "KEN"),), (1 / len(options),) * len(options))


SAME = {
    "case, spacing, punctuation": answer("what is  YOUR opinion -- of 'India', these days"),
    "reversed options": answer(options=SCALE[::-1]),
    "any order, other punctuation": answer(options=("Fairly good.", "very good", "POOR")),
    "a lead-in": answer("I will now read you some countries. " + INDIA),
}
OTHER = {
    "an option more": answer(options=(*SCALE, "Very poor")),
    "other options": answer(options=("Yes", "No", "Maybe")),
    "text after it": answer(INDIA + " And of its neighbours?"),
    "a word": answer(INDIA.replace("India", "China")),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_question(name):
    assert Questions([answer()]).find(SAME[name]) == answer()
    assert Questions([SAME[name]]).find(answer()) == SAME[name]


@pytest.mark.parametrize("name", OTHER)
def test_another_question(name):
    assert Questions([answer()]).find(OTHER[name]) is None
    assert Questions([OTHER[name]]).find(answer()) is None


def test_a_short_text_is_no_question_with_a_lead_in():
    assert Questions([answer("And the police?")]).find(answer("How far do you trust these? And the police?")) is None


def test_the_first_of_equal_ones_is_found():
    rows = [answer("Now this: " + INDIA), answer(survey="T"), answer(survey="U")]
    assert Questions(rows).find(answer()).survey == "T"
    assert Questions([]).find(answer()) is None


def test_symbols_and_marks_of_letters_count():
    assert plain("< 5") != plain("> 5")
    assert plain("कि") != plain("की")
    assert wording(answer("?!"))[0] == "?!"  # nothing but punctuation is still a text
