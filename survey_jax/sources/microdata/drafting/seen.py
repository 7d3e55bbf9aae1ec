"""A column that was read for a draft: how many respondents have each code, and its labels as plain text."""

import dataclasses
import html
import re
from collections import Counter
from collections.abc import Mapping
from html.entities import html5

import numpy as np

from survey_jax.sources.microdata.codes import order
from survey_jax.sources.microdata.respondents import Column, Variable

_NOTHING = ("na", "nan", "n/a", ".", "null", "#null!")  # how CSV files write blank cells; "None" and "-" are answers
_INLINE = "a|abbr|b|big|em|font|i|mark|s|small|span|strike|strong|sub|sup|u"
_BLOCK = "br|div|h[1-6]|hr|img|input|label|li|ol|p|table|tbody|td|th|tr|ul"
_ATTRIBUTES = r"(?:\s+[\w:-]+\s*=[^<>]*)?\s*/?"
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|(\w+));")


@dataclasses.dataclass(frozen=True)
class Seen:
    """A column that was read.

    Attributes:
      variable: what the file says of it, with labels as plain text, and without labels that are empty.
      counts: code -> how many respondents; numbers first, in order; neither blank nor declared missing.
      blank: codes that stand for blank cells.
      individual: every respondent has a value of their own.
    """

    name: str
    variable: Variable
    counts: Mapping[str, int]
    blank: tuple[str, ...]
    individual: bool

    @property
    def known(self) -> list[str]:
        """The codes that occur or have a label, in order; none that the file declares missing."""
        labelled = {c for c in self.variable.values if not self.variable.declared_missing(c)}
        return sorted({*self.counts, *labelled}, key=order)

    def label(self, code: str) -> str | None:
        """What the file calls a code; a text stands for itself."""
        return self.variable.values.get(code) or (code if order(code)[0] else None)


def see(name: str, variable: Variable, column: Column) -> Seen:
    """Counts a column's codes."""
    values = {code: text for code, label in variable.values.items() if (text := plain(label))}
    variable = dataclasses.replace(variable, label=plain(variable.label or "") or None, values=values)
    present = column.index[column.index >= 0]
    counts: Counter[str] = Counter()
    for code, n in zip(column.codes, np.bincount(present, minlength=len(column.codes)).tolist(), strict=True):
        counts[code] += n
    codes = sorted((c for c, n in counts.items() if c and n), key=order)
    blank = () if variable.values else tuple(c for c in codes if c.lower() in _NOTHING)
    kept = {c: counts[c] for c in codes if c not in blank and not variable.declared_missing(c)}
    individual = len(set(column.codes)) == len(column.index) > 2
    return Seen(name, variable, kept, blank, individual)


def plain(label: str) -> str:
    """A label without the tags and entities of HTML, which survey software leaves in it; any other "<" or "&" stays.

    >>> plain("<p>Parks&nbsp;&amp; <b>gardens</b></p>"), plain("< 5 & more")
    ('Parks & gardens', '< 5 & more')
    """
    text = re.sub(rf"</?(?:{_INLINE}){_ATTRIBUTES}>", "", label, flags=re.IGNORECASE)
    text = re.sub(rf"</?(?:{_BLOCK}){_ATTRIBUTES}>", " ", text, flags=re.IGNORECASE)
    text = _ENTITY.sub(lambda e: e[0] if e[1] and f"{e[1]};" not in html5 else html.unescape(e[0]), text)
    return label.strip() if text == label else " ".join(text.split())
