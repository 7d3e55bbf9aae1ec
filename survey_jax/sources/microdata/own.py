"""The user's own respondents x questions file, with a codebook that says what its columns mean."""

import dataclasses
from pathlib import Path

from survey_jax.common.errors import UserError
from survey_jax.sources import Prepared, Request
from survey_jax.sources.microdata import remarks
from survey_jax.sources.microdata.codebook import read_codebook
from survey_jax.sources.microdata.readers import open_respondents
from survey_jax.sources.microdata.tabulate import tabulate

ACCEPTS = frozenset({"codebook", "breakdowns", "min_n", "unweighted"})


def load(request: Request) -> Prepared:
    """A row for each question and group of the codebook. Raises UserError; see `tabulate`."""
    if request.codebook is None:
        raise UserError("--codebook: microdata need one; --draft_codebook=FILE.yaml drafts it from the file's labels")
    codebook = read_codebook(request.codebook)
    prepared = tabulate(open_respondents(Path(request.input), codebook.encoding), codebook, request)
    notes = remarks.on_codebook(codebook, bool(request.breakdowns))
    return dataclasses.replace(prepared, notes=[*prepared.notes, *notes])
