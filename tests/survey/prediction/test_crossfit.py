"""Rules never see what they predict: not the question, not the group nor its relatives, not the row."""

from collections.abc import Sequence

import pytest

from survey_jax.survey.baselines.seen_groups import Filled, uniform
from survey_jax.survey.prediction.crossfit import CrossFit, Hide, crossfit
from survey_jax.survey.splits.kinds import KNOWN, KNOWN_GROUP, NEW, kinds
from survey_jax.survey.table import Answer

AGES, COUNTRIES = ("young", "middle", "old", "oldest"), [f"C{i}" for i in range(10)]
GROUPS = [(("country", c),) for c in COUNTRIES] + [(("age", a), ("country", c)) for a in AGES for c in COUNTRIES]
TRAIN = [
    Answer("S", f"q{q}", f"Question number {q}?", ("Yes", "No"), group, (0.6, 0.4))
    for q in range(12)
    for group in GROUPS
]
# Another survey, with one question in the same words and one of its own.
TRAIN += [Answer("T", "other", "Question number 3?", ("Yes", "No"), group, (0.7, 0.3)) for group in GROUPS]
TRAIN += [Answer("T", "own", "Is the bus on time?", ("Yes", "No"), group, (0.7, 0.3)) for group in GROUPS]


class Spy:
    """A rule that notes what it is shown and asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[Sequence[Answer], Sequence[Answer]]] = []

    def __call__(self, train: Sequence[Answer], answers: Sequence[Answer]) -> Filled:
        self.calls.append((train, answers))
        return uniform(answers), ["spy"] * len(answers)


def spied(hide: Hide, **settings: int) -> tuple[CrossFit, list[tuple[Sequence[Answer], Sequence[Answer]]]]:
    spy = Spy()
    found = crossfit(TRAIN, {"spy": spy}, hide, **settings)
    assert found is not None
    return found, spy.calls


@pytest.mark.parametrize(
    ("hide", "kind"),
    [("question", NEW), ("group", KNOWN), ("value", KNOWN), ("row", KNOWN_GROUP), ("most of a group", KNOWN_GROUP)],
)
def test_rows_are_of_the_kind_asked_for(hide: Hide, kind: str) -> None:
    found, calls = spied(hide, known=3)
    assert len(found.answers) == len(found.predicted["spy"]) == len(found.unlike) > 50
    for shown, asked in calls:
        assert set(kinds(shown, asked)) == {kind}


def test_a_hidden_question_is_hidden_in_every_survey() -> None:
    for shown, asked in spied("question")[1]:
        assert not {a.question for a in shown} & {a.question for a in asked}


def test_a_hidden_survey_is_new_and_so_are_its_questions() -> None:
    found, calls = spied("survey")
    for shown, asked in calls:
        assert not {a.survey for a in shown} & {a.survey for a in asked}
        assert not {a.question for a in shown} & {a.question for a in asked}
    assert (found.unlike[:, 1] == 1).all()


@pytest.mark.parametrize("hide", ["group", "value"])
def test_relatives_of_a_hidden_group_are_hidden(hide: Hide) -> None:
    for shown, asked in spied(hide)[1]:
        for hidden in {frozenset(a.group) for a in asked}:
            assert not any(hidden <= set(a.group) or set(a.group) <= hidden for a in shown)


def test_a_hidden_value_is_nowhere_to_be_seen() -> None:
    found, calls = spied("value")
    for shown, asked in calls:
        everybody = {pair for a in shown for pair in a.group}
        assert all(not everybody.issuperset(a.group) for a in asked)
    assert (found.unlike[:, 2] == 1).all()


def test_a_group_with_few_answers_has_that_many() -> None:
    for shown, asked in spied("most of a group", known=3)[1]:
        for group in {a.group for a in asked}:
            assert sum(a.group == group for a in shown) == 3


def test_rows_are_limited_and_from_all_questions() -> None:
    found, _ = spied("question", rows=15)
    assert len(found.answers) == 15
    assert len({a.question for a in found.answers}) == 13


def test_train_of_one_question_has_nothing_to_hide() -> None:
    assert crossfit([a for a in TRAIN if a.question_id == "q1"], {"spy": Spy()}, "question") is None


def test_groups_of_one_attribute_have_no_value_to_hide_that_is_not_a_group() -> None:
    assert crossfit([a for a in TRAIN if len(a.group) == 1], {"spy": Spy()}, "value") is None
