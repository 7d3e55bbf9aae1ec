"""A table that is in the schema already: validated, and written in whatever format is asked for."""

from survey_jax.sources import Prepared, Request
from survey_jax.survey.table import read_table

ACCEPTS: frozenset[str] = frozenset()


def load(request: Request) -> Prepared:
    """All rows. Raises UserError for the first bad one, with its number: a table is kept whole or refused."""
    return Prepared(read_table(request.input))
