"""When two texts, two questions or two groups are the same to a reader."""

import functools
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

from survey_jax.survey import countries
from survey_jax.survey.table import Answer, Group

LEAD_IN = 6  # words; a shorter text is too little to be a question of its own
_PUNCTUATION = {"Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "Sk"}  # categories of Unicode
Wording = tuple[str, tuple[str, ...]]  # question and options


def fold(text: str) -> str:
    """Text for comparison: letter case and runs of white space do not matter.

    >>> fold("  Very   GOOD ")
    'very good'
    """
    return " ".join(text.casefold().split())


def shorten(text: str, width: int) -> str:
    """The text in one line of at most `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"


@functools.cache
def plain(text: str) -> str:
    """Text for comparison: as `fold`, and punctuation does not matter either; symbols do, and marks of letters.

    >>> plain("Fair, or not?"), plain("> 5 years"), plain("हाँ।")
    ('fair or not', '> 5 years', 'हाँ')
    """
    return fold("".join(" " if unicodedata.category(c) in _PUNCTUATION else c for c in text))


def wording(answer: Answer) -> Wording:
    """What makes two questions the same to a reader: plain question text, and plain options in any order."""
    return _wording(answer.question, answer.options)


@functools.cache
def _wording(question: str, options: tuple[str, ...]) -> Wording:
    return plain(question) or fold(question), tuple(sorted(plain(o) or fold(o) for o in options))


class Questions:
    """Questions in which others are looked up: one is the same with another punctuation, order of options or lead-in.

    A lead-in is text before the question: with the same options, "Now some countries. What do you think of India?" is
    "What do you think of India?", if the shorter one has at least LEAD_IN words. Text after it is not, as it mostly
    asks for something else ("... if the family requests it").
    """

    def __init__(self, answers: Iterable[Answer]):
        self._texts: dict[tuple[str, ...], dict[str, Answer]] = defaultdict(dict)
        for answer in answers:
            text, options = wording(answer)
            self._texts[options].setdefault(text, answer)
        self._found: dict[Wording, Answer | None] = {}

    def find(self, answer: Answer) -> Answer | None:
        """An answer to the same question, or None."""
        key = wording(answer)
        if key not in self._found:
            text, options = key
            texts = self._texts.get(options, {})
            leads = (a for other, a in texts.items() if _led_in(text, other) or _led_in(other, text))
            self._found[key] = texts.get(text) or next(leads, None)
        return self._found[key]


def _led_in(longer: str, shorter: str) -> bool:
    return longer.endswith(" " + shorter) and shorter.count(" ") + 1 >= LEAD_IN


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
