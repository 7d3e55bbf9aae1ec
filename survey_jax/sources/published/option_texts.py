"""Answer options as published files write them: quotes, bare numbers, non-answers, lists split at commas."""

import ast
import itertools
import re
from collections.abc import Sequence
from typing import Any

from survey_jax.survey.text import fold

# Respondents who were asked and gave no answer. "Never heard of", "Can't rate" and "(VOL)" options are answers.
_NO_ANSWER = re.compile(
    r"(dk|don[’']?t know|do not know|refused|refusal|no answer|no response|declined to answer|not sure/refused)"
    r"([\s/,&]+(or\s+)?(dk|don[’']?t know|refused|refusal|no answer|na))*(\s*\(vol\.?\))?",
)
# Respondents who were not asked: no part of the answers, nor of the non-answers.
_NOT_ASKED = re.compile(r"((other )?missing\b.*|not asked\b.*|not applicable\b.*|inap\b.*|n/?a\b.*)")


def clean(option: Any) -> str:
    """An option's text: without quotes around it, whole numbers without decimals (2.0 -> "2"), single spaces."""
    if isinstance(option, float) and option.is_integer():
        option = int(option)
    text = " ".join(str(option).split())
    while len(text) > 1 and text[0] == text[-1] and text[0] in "\"'“”":
        text = text[1:-1].strip()
    return text


def is_no_answer(option: str) -> bool:
    """Don't know, refused, no answer."""
    return _NO_ANSWER.fullmatch(fold(option)) is not None


def is_not_asked(option: str) -> bool:
    """Missing, not asked, not applicable."""
    return _NOT_ASKED.fullmatch(fold(option)) is not None


def scale(options: Sequence[str]) -> str | None:
    """ "ordinal" for a scale of numbers whose ends alone may have names ("Never", "2", ..., "10"); else unknown."""
    inner = options[1:-1]
    numbers = [int(o) for o in inner if o.isdigit()]
    rising = all(b - a == 1 for a, b in itertools.pairwise(numbers))
    return "ordinal" if len(inner) > 2 and len(numbers) == len(inner) and rising else None


def literal(text: str) -> Any:
    """A Python literal, such as a published CSV's lists, without running any code. Raises ValueError."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"is no Python literal: {text[:60]!r}") from error


def mend_split(options: Sequence[str], used: int, exact: bool) -> tuple[str, ...] | None:
    """Undoes a split at commas inside option texts, if there is exactly one way that fits.

    Fragments are joined again where a bracket or a double quote is open, and, in a second reading, also where a
    fragment starts in lower case while the list's first option does not.

    Args:
      options: the published texts, perhaps split.
      used: how many options have shares; if not `exact`, the last of the true options may have none.

    Returns:
      `options` itself where nothing speaks for a split; the mended texts; or None: it is split and cannot be mended.
    """
    readings = {tuple(_join(options, lower_case)) for lower_case in (False, True)} - {tuple(options)}
    if not readings and (used == len(options) or not exact):
        return tuple(options)
    if used == len(options) and tuple(_join(options, False)) == tuple(options):
        return tuple(options)  # each text has a share of its own: a list of options in lower case
    fits = [r for r in readings if (len(r) == used if exact else used <= len(r))]
    return fits[0] if len(fits) == 1 else None


def _join(options: Sequence[str], lower_case: bool) -> list[str]:
    joined: list[str] = []
    capitals = options[0][:1].isupper() or not options[0][:1].isalpha()
    for option in options:
        is_open = bool(joined) and (joined[-1].count("(") > joined[-1].count(")") or joined[-1].count('"') % 2 == 1)
        continues = lower_case and capitals and option[:1].islower()
        if joined and (is_open or continues):
            joined[-1] += f", {option}"
        else:
            joined.append(option)
    return [clean(o) for o in joined]
