"""The General Social Survey's cumulative file, as NORC publishes it for Stata (.dta) or SPSS (.sav).

Years are waves. Without a codebook of the user's, the one that comes with the package says which questions and groups
(data/gss.yaml); an extract of the file that lacks some of its columns gives the rest.
"""

import dataclasses
from pathlib import Path

import survey_jax
from survey_jax.sources import Prepared, Request
from survey_jax.sources.microdata import own
from survey_jax.sources.microdata.codebook import Codebook, read_codebook
from survey_jax.sources.microdata.readers import open_respondents
from survey_jax.sources.microdata.respondents import Respondents
from survey_jax.sources.microdata.tabulate import tabulate

ACCEPTS = frozenset({"codebook", "breakdowns", "min_n", "unweighted"})
CODEBOOK = Path(survey_jax.__file__).parent / "data" / "gss.yaml"


def load(request: Request) -> Prepared:
    """A row for each question, year and group. Raises UserError; see `tabulate`."""
    if request.codebook:
        return own.load(request)
    codebook = read_codebook(CODEBOOK)
    respondents = open_respondents(Path(request.input), codebook.encoding)
    respondents.require(codebook.wave_column or "", "the year of the survey")
    part, note = _available(codebook, respondents)
    prepared = tabulate(respondents, part, request)
    return dataclasses.replace(prepared, notes=[*note, *prepared.notes])


def _available(codebook: Codebook, respondents: Respondents) -> tuple[Codebook, list[str]]:
    """The part of a codebook that a file has the columns for, and what is absent."""
    questions = tuple(q for q in codebook.questions if respondents.find(q.column))
    attributes = {n: a for n, a in codebook.attributes.items() if a.column is None or respondents.find(a.column)}
    part = dataclasses.replace(
        codebook,
        questions=questions or codebook.questions,  # with none at all, counting says which one it looked for
        attributes=attributes,
        breakdowns=tuple(names for names in codebook.breakdowns if set(names) <= set(attributes)),
        weights=tuple(w for w in codebook.weights if respondents.find(w)) or codebook.weights,
    )
    absent = [q.column for q in codebook.questions if q not in questions]
    absent += [name for name in codebook.attributes if name not in attributes]
    return part, [f"not in this file, so left out: {', '.join(absent)}"] if absent else []
