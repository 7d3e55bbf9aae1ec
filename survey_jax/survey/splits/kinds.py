"""Kinds of rows: questions that train asks, and others. Each kind is calibrated by itself."""

from collections.abc import Sequence

from survey_jax.survey.table import Answer

KNOWN, NEW = "known question", "new question"  # whether train asks the row's question, by survey and id


def kinds(train: Sequence[Answer], answers: Sequence[Answer]) -> list[str]:
    """The kind of each row of `answers`: KNOWN or NEW."""
    asked = {a.question_key for a in train}
    return [KNOWN if a.question_key in asked else NEW for a in answers]
