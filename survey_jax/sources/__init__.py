"""From a downloaded file to a survey table: one adapter a module, run by `prepare.py`.

Adapters of respondents (microdata, wvs, gss) are a codebook, counted by `tabulate`; those of published shares tidy rows
into a `ledger`. An adapter module defines

    ACCEPTS: frozenset[str]                      which optional fields of Request it reads; others are refused
    def load(request: Request) -> Prepared       raises UserError where the file is not what it should be
"""

import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from survey_jax.common.errors import UserError
from survey_jax.survey.table import Answer

SOURCES = {  # --source -> module of its adapter
    "microdata": "microdata.own",
    "wvs": "microdata.wvs",
    "gss": "microdata.gss",
    "global_opinion_qa": "published.global_opinion_qa",
    "opinionqa": "published.opinionqa",
    "subpop": "published.subpop",
    "paper_json": "published.paper_json",
    "table": "published.own_table",
}


@dataclasses.dataclass(frozen=True)
class Request:
    """What a user asks of an adapter.

    Attributes:
      input: a file, a directory, or where the source has one its hub id.
      codebook: of a user's own microdata.
      breakdowns: which groups, each a tuple of attributes: (("country",), ("country", "age")); () = the adapter's own.
      min_n: least unweighted respondents of a group's answer to one question; smaller ones are dropped and counted.
      unweighted: ignore weights, for parity with published numbers.
    """

    input: str
    codebook: Path | None = None
    breakdowns: tuple[tuple[str, ...], ...] = ()
    min_n: int | None = None
    unweighted: bool = False


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A table, and what did not make it into the table.

    Attributes:
      answers: rows that pass `table.parse_rows`.
      dropped: reason -> how many rows of the table-to-be; nothing is dropped without a reason here.
      repaired: defect -> how many rows were mended by rule, and kept.
      notes: sentences for the user, such as names that were not recognised.
    """

    answers: list[Answer]
    dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)
    repaired: Mapping[str, int] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()


def load(source: str, request: Request) -> Prepared:
    """Runs an adapter. Raises UserError: an unknown source, an option that it has no use for, or a bad file."""
    if source not in SOURCES:
        raise UserError(f"--source={source}: unknown; choose from {', '.join(SOURCES)}")
    adapter = importlib.import_module(f"{__name__}.{SOURCES[source]}")
    for field in dataclasses.fields(Request):
        given = getattr(request, field.name) != field.default
        if field.default is not dataclasses.MISSING and given and field.name not in adapter.ACCEPTS:
            raise UserError(f"--{field.name}: the source {source} has no use for it; leave it out")
    prepared: Prepared = adapter.load(request)
    return prepared
