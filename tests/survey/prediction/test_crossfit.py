"""Rules never see what they predict: not the question, not the group nor its relatives, not the row."""

from collections.abc import Sequence

import pytest

from survey_jax.survey.baselines.seen_groups import Filled, uniform
from survey_jax.survey.prediction.crossfit import crossfit
from survey_jax.survey.splits.kinds import FEW_ANSWERS, KNOWN, KNOWN_GROUP, NEW, kinds
from survey_jax.survey.table import Answer

AGES, COUNTRIES = ("young", "old"), [f"C{i}" for i in range(10)]
GROUPS = [(("country", c),) for c in COUNTRIES] + [(("age", a), ("country", c)) for a in AGES for c in COUNTRIES]
TRAIN = [
    Answer("S", f"q{q}", f"Question number {q}?", ("Yes", "No"), group, (0.6, 0.4))
    for q in range(12)
    for group in GROUPS
]
# The same question in another survey, in the same words.
TRAIN += [Answer("T", "other", "Question number 3?", ("Yes", "No"), GROUPS[0], (0.7, 0.3))]


class Spy:
    """A rule that notes what it is shown and asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[Sequence[Answer], Sequence[Answer]]] = []

    def __call__(self, train: Sequence[Answer], answers: Sequence[Answer]) -> Filled:
        self.calls.append((train, answers))
        return uniform(answers), ["spy"] * len(answers)


@pytest.mark.parametrize("kind", [NEW, KNOWN, KNOWN_GROUP, FEW_ANSWERS])
def test_rows_are_of_the_kind_asked_for(kind: str) -> None:
    spy = Spy()
    answers, predicted = crossfit(TRAIN, {"spy": spy}, kind, known=3)
    assert len(answers) == len(predicted["spy"]) > 100
    assert len({a.key for a in answers}) == len(answers)
    as_seen = KNOWN_GROUP if kind == FEW_ANSWERS else kind
    for shown, asked in spy.calls:
        assert set(kinds(shown, asked)) == {as_seen}


def test_a_hidden_question_is_hidden_in_every_survey() -> None:
    spy = Spy()
    crossfit(TRAIN, {"spy": spy}, NEW)
    for shown, asked in spy.calls:
        assert not {a.question for a in shown} & {a.question for a in asked}


def test_relatives_of_a_hidden_group_are_hidden() -> None:
    spy = Spy()
    crossfit(TRAIN, {"spy": spy}, KNOWN)
    for shown, asked in spy.calls:
        for hidden in {frozenset(a.group) for a in asked}:
            assert not any(hidden <= set(a.group) or set(a.group) <= hidden for a in shown)


def test_a_group_with_few_answers_has_that_many() -> None:
    spy = Spy()
    crossfit(TRAIN, {"spy": spy}, FEW_ANSWERS, known=3)
    for shown, asked in spy.calls:
        for group in {a.group for a in asked}:
            assert sum(a.group == group for a in shown) == 3


def test_rows_are_limited_and_from_all_questions() -> None:
    answers, _ = crossfit(TRAIN, {"spy": Spy()}, NEW, rows=24)
    assert len(answers) == 24
    assert len({a.question for a in answers}) == 12


def test_train_of_one_question_has_nothing_to_hide() -> None:
    assert crossfit([a for a in TRAIN if a.question_id == "q1"], {"spy": Spy()}, NEW) == ([], {})
