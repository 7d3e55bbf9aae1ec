"""From a downloaded file to a survey table: an adapter for each source, run by `prepare.py`.

Adapters in microdata/ count respondents by a codebook (`tabulate`); those in published/ tidy published shares. Both
collect their rows in a `Ledger`. The module of an adapter defines

    ACCEPTS: frozenset[str]                      the optional fields of Request that it reads; others are refused
    def load(request: Request) -> Prepared       raises UserError where the file is not what it should be
"""

import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from survey_jax.common.errors import UserError
from survey_jax.survey.table import Answer
from survey_jax.survey.weights import Weights

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
      input: a file, a directory, or the source's id on the Hugging Face hub, if it has one.
      codebook: the codebook of a user's own microdata.
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
    """A table, and what was left out of it.

    Attributes:
      answers: rows that pass `table.parse_rows`.
      dropped: reason -> how many rows were dropped for it; nothing is dropped without a reason here.
      repaired: defect -> how many rows with it were mended by a rule, and kept.
      notes: sentences for the user, such as names that were not recognised.
      toplines: for each question and wave the answers of all respondents, who are no group; only where they are counted
        and stand for one population.
      respondents: how many the file has; None where a source publishes shares.
      weights: what their weights do; None where all count the same.
    """

    answers: list[Answer]
    dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)
    repaired: Mapping[str, int] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()
    toplines: Sequence[Answer] = ()
    respondents: int | None = None
    weights: Weights | None = None


def load(source: str, request: Request) -> Prepared:
    """Runs an adapter. Raises UserError: an unknown source, an option that it has no use for, or a bad file."""
    if source not in SOURCES:
        raise UserError(f"--source={source}: unknown; choose from {', '.join(SOURCES)}")
    adapter = importlib.import_module(f"{__name__}.{SOURCES[source]}")
    for field in dataclasses.fields(Request):
        given = getattr(request, field.name) != field.default
        if field.default is not dataclasses.MISSING and given and field.name not in adapter.ACCEPTS:
            raise UserError(f"--{field.name}: the source {source} has no use for it; leave it out")
    return adapter.load(request)
