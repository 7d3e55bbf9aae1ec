"""Keeps account of what an adapter keeps, drops and mends on the way to a table."""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from survey_jax.common.errors import UserError
from survey_jax.sources import Prepared
from survey_jax.survey import countries
from survey_jax.survey.table import MAX_OPTIONS, parse_rows
from survey_jax.survey.text import fold


@dataclasses.dataclass
class Ledger:
    """The rows collected so far, and how many were dropped or mended, by reason."""

    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    dropped: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    repaired: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def keep(self, row: Mapping[str, Any], repairs: Iterable[str] = ()) -> None:
        """Takes a row, and counts what had to be mended on it."""
        self.rows.append(dict(row))
        self.repaired.update(repairs)

    def prepared(self, where: str, notes: Sequence[str] = ()) -> Prepared:
        """Validates the rows, and adds each whole country's code. Raises UserError: a bad row, or none at all.

        Args:
          where: names the file in messages.
          notes: sentences for the user.
        """
        if not self.rows:
            reasons = "; ".join(f"{reason}: {count:,}" for reason, count in self.dropped.items())
            raise UserError(f"{where}: no row is left: {reasons or 'nothing in it is one'}")
        for row in self.rows:
            if code := countries.code(row["group"].get("country", "")):
                row["country_iso3"] = code
        return Prepared(parse_rows(self.rows, where), dict(+self.dropped), dict(+self.repaired), list(notes))


def option_problem(options: Sequence[str]) -> str | None:
    """Why a question with these options must be dropped; None if it need not be."""
    if len(options) < 2:
        return "fewer than two answer options"
    if len(options) > MAX_OPTIONS:
        return f"more than {MAX_OPTIONS} answer options"
    if any(not o.strip() for o in options):
        return "an answer option without text"
    if len({fold(o) for o in options}) < len(options):
        return "two equal answer options"
    return None
