"""Kinds of rows, by what train knows of their question and group; calibration and the rule to beat go by kind."""

from collections.abc import Hashable, Sequence
from collections.abc import Set as AbstractSet

from survey_jax.survey.table import Answer
from survey_jax.survey.text import same_group

NEW = "new question"  # train does not ask it, by survey and id
KNOWN = "known question"  # train asks it, and has nothing of the group
KNOWN_GROUP = "known question and group"  # train asks it of others, and has other answers of the group
SAME_CELL = "known answer of another wave"  # train has the group's answer to the question, from another wave
FEW_ANSWERS = "known question and few answers of the group"  # of few-shot splits: no validation rows are like them

LEAST_QUESTIONS = 15  # of validation; fewer say nothing of others of their kind
LEAST_GROUPS = 2  # of validation, to say something of new groups


def kinds(train: Sequence[Answer], answers: Sequence[Answer]) -> list[str]:
    """The kind of each row of `answers`."""
    cells = {(a.question_key, same_group(a.group)) for a in train}
    asked, groups = {question for question, _ in cells}, {group for _, group in cells}
    return [kind_of(answer, asked, groups, cells) for answer in answers]


def kind_of(
    answer: Answer,
    asked: AbstractSet[tuple[str, str]],
    groups: AbstractSet[Hashable],
    cells: AbstractSet[tuple[tuple[str, str], Hashable]] = frozenset(),
) -> str:
    """The kind of a row.

    Args:
      asked, groups, cells: the questions of train, its groups as `text.same_group` has them, and its pairs of both.
    """
    group = same_group(answer.group)
    if answer.question_key not in asked:
        return NEW
    if (answer.question_key, group) in cells:
        return SAME_CELL
    return KNOWN_GROUP if group in groups else KNOWN


def is_evidence(kind: str, questions: int, groups: int) -> bool:
    """Whether validation rows of a kind, with so many questions and groups, say something of other rows of the kind."""
    return questions >= LEAST_QUESTIONS and (kind != KNOWN or groups >= LEAST_GROUPS)
