"""Kinds of rows, by what train knows of their question and group; calibration and the rule to beat go by kind."""

from collections.abc import Sequence

from survey_jax.survey.table import Answer
from survey_jax.survey.text import same_group

NEW = "new question"  # train does not ask it, by survey and id
KNOWN = "known question"  # train asks it, of other groups
KNOWN_GROUP = "known question and group"  # train has other answers of the group, too


def kinds(train: Sequence[Answer], answers: Sequence[Answer]) -> list[str]:
    """The kind of each row of `answers`."""
    asked = {a.question_key for a in train}
    groups = {same_group(a.group) for a in train}

    def kind(answer: Answer) -> str:
        if answer.question_key not in asked:
            return NEW
        return KNOWN_GROUP if same_group(answer.group) in groups else KNOWN

    return [kind(answer) for answer in answers]
