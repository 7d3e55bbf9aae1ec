"""Answer codes: one spelling of a code, whether it comes from YAML, CSV text or a binary file; and bands of numbers."""

import dataclasses
import math
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

_NUMBER = re.compile(r"[+-]?\d{1,18}(\.\d{1,18})?")
_BAND = re.compile(r"(\d{1,18}) *[-–] *(\d{1,18})|(\d{1,18}) *\+")
_LETTER = re.compile(r"\.[a-zA-Z_]")


def canonical(value: Any) -> str:
    """The one spelling of a code: 1, 1.0, "1" and "01" are "1"; blank, None and NaN are ""; text is stripped.

    A number of fewer bits has the shortest text that reads back as it: numpy.float32(2.1) is "2.1". One that was stored
    in 64 bits since (2.0999999046325684) stays as it is: it may be a weight, of which every digit counts.
    Extended missing values of Stata and SAS are lower case with their dot: ".d".
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, np.float16 | np.float32):
        value = float(str(value))
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        return str(int(value)) if value.is_integer() else repr(value)
    text = str(value).strip()
    if _NUMBER.fullmatch(text):
        return canonical(float(text)) if "." in text else str(int(text))
    return text.lower() if _LETTER.fullmatch(text) else text


def order(code: str) -> tuple[bool, float, str]:
    """Sorts numbers before texts: (whether it is a text, its number, itself)."""
    try:
        return (False, float(code), code)
    except ValueError:
        return (True, 0.0, code)


@dataclasses.dataclass(frozen=True)
class Band:
    """Numbers from `low` to `high` (None: no end), both included; 29.5 is in 18-29, as an age of 29 years is."""

    low: int
    high: int | None

    def __contains__(self, code: str) -> bool:
        if not _NUMBER.fullmatch(code):
            return False
        number = math.floor(float(code))
        return self.low <= number and (self.high is None or number <= self.high)

    def __str__(self) -> str:
        return f"{self.low}+" if self.high is None else f"{self.low}-{self.high}"

    def overlaps(self, other: "Band") -> bool:
        """Whether some number is in both."""
        first, second = sorted((self, other), key=lambda band: band.low)
        return first.high is None or second.low <= first.high


def parse_band(text: str) -> Band | None:
    """ "18-29" or "65+"; None where the text is no band. Raises ValueError for one that ends before it begins."""
    match = _BAND.fullmatch(text.strip())
    if match is None:
        return None
    if match[3]:
        return Band(int(match[3]), None)
    if int(match[1]) > int(match[2]):
        raise ValueError(f"the band {text} ends before it begins")
    return Band(int(match[1]), int(match[2]))


@dataclasses.dataclass(frozen=True)
class Codes:
    """A set of codes, some of them given as bands."""

    exact: frozenset[str] = frozenset()
    bands: tuple[Band, ...] = ()

    def __or__(self, other: "Codes") -> "Codes":
        return Codes(self.exact | other.exact, self.bands + other.bands)

    def __contains__(self, code: str) -> bool:
        return code in self.exact or any(code in band for band in self.bands)


def parse_codes(texts: Iterable[str]) -> Codes:
    """Codes and bands as they stand in a codebook. Raises ValueError."""
    exact, bands = set(), []
    for text in texts:
        if band := parse_band(text):
            bands.append(band)
        elif code := canonical(text):
            exact.add(code)
        else:
            raise ValueError("an empty code; blank cells count as not asked by themselves")
    return Codes(frozenset(exact), tuple(bands))
