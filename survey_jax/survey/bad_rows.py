"""Why rows of a table are refused: every kind of reason, with how many rows have it."""

import functools
import re

from survey_jax.common.errors import UserError, plural

_KINDS = 10  # of reasons that are told
_DETAILS = re.compile(r"\(.*\)|'.*'|\".*\"|[-+]?\d[\d.,e+-]*", re.DOTALL)


class BadRows(UserError):
    """Some rows of a table are not as they must be."""


class Reasons:
    """Why rows are bad: of each kind of reason the first row, and how many there are."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[int, str, int]] = {}  # kind -> first row, its reason, number of rows
        self._others = 0  # rows of further kinds

    def add(self, number: int, error: Exception) -> None:
        """Adds a row. Reasons are of one kind if they differ in numbers, in quoted texts or in brackets alone."""
        reason = {OverflowError: "holds a number that is too large", RecursionError: "is nested too deeply"}.get(
            type(error), str(error)
        )
        kind = _kind(reason)
        if kind in self.found or len(self.found) < _KINDS:
            first, text, count = self.found.get(kind, (number, reason, 0))
            self.found[kind] = (first, text, count + 1)
        else:
            self._others += 1

    def counts(self) -> dict[str, int]:
        """The reason of the first row of each kind -> rows of its kind."""
        others = {"other reasons": self._others} if self._others else {}
        return {reason: count for _, reason, count in self.found.values()} | others

    def describe(self, where: str) -> str:
        """All kinds in one line."""
        parts: list[str] = []
        for number, reason, count in self.found.values():
            more = f" (and {plural(count - 1, 'more bad row')})" if count > 1 else ""
            parts.append(f"{'' if parts else f'{where} '}row {number}: {reason}{more}")
        others = [f"and {plural(self._others, 'bad row')} for other reasons"] if self._others else []
        return "; ".join([*parts, *others])


@functools.lru_cache(1000)
def _kind(reason: str) -> str:
    return _DETAILS.sub("", reason)
