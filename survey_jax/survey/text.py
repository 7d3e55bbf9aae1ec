"""When two texts, two questions or two groups are the same to a reader."""

import functools
import re

from survey_jax.survey import countries
from survey_jax.survey.table import Answer, Group


def fold(text: str) -> str:
    """Text for comparison: letter case and runs of white space do not matter.

    >>> fold("  Very   GOOD ")
    'very good'
    """
    return " ".join(text.casefold().split())


def plain(text: str) -> str:
    """Text for comparison: as `fold`, and punctuation does not matter either.

    >>> plain("Fair, or not?")
    'fair or not'
    """
    return fold(re.sub(r"[^\w\s]|_", " ", text))


def wording(answer: Answer) -> tuple[str, ...]:
    """What makes two questions the same to a reader: folded question text and options, in order."""
    return (fold(answer.question), *map(fold, answer.options))


def is_country(attribute: str) -> bool:
    """Whether a group's attribute of this name holds countries."""
    return fold(attribute) == "country"


@functools.cache
def same_group(group: Group) -> Group:
    """A group for comparison across surveys: folded, and countries by their ISO code where the name is known.

    >>> same_group((("age", "18-29"), ("Country", "Great Britain")))
    (('age', '18-29'), ('country', 'GBR'))
    """
    return tuple((fold(k), (is_country(k) and countries.code(v)) or fold(v)) for k, v in group)
