"""Counts answers: a file of respondents and its codebook become the rows of a survey table."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from survey_jax.common.console import track
from survey_jax.common.errors import UserError, plural, some
from survey_jax.sources import Prepared, Request
from survey_jax.sources.ledger import Ledger
from survey_jax.sources.microdata import remarks
from survey_jax.sources.microdata.cells import Cells, sort_respondents, unlisted
from survey_jax.sources.microdata.codebook import Codebook, CodebookQuestion, check_breakdowns
from survey_jax.sources.microdata.codes import NOT_ASKED_LABEL
from survey_jax.sources.microdata.counting import Counts, count
from survey_jax.sources.microdata.readers import Column, Respondents

OWN = "question that the group is made of"


def tabulate(respondents: Respondents, codebook: Codebook, request: Request) -> Prepared:
    """A row for each question, wave and group, with the figures of `counting.Counts.row`.

    Raises UserError where file and codebook do not fit together, or no row is left.
    """
    breakdowns = codebook.breakdowns
    if request.breakdowns:
        breakdowns = check_breakdowns(codebook.attributes, request.breakdowns, "--breakdowns")
    used = list(dict.fromkeys(name for names in breakdowns for name in names))
    by_column: dict[str, list[CodebookQuestion]] = defaultdict(list)
    for question in codebook.questions:
        by_column[respondents.require(question.column, question.where)].append(question)
    cells = sort_respondents(respondents, codebook, used, request.unweighted)
    groups = _Groups(cells, breakdowns)

    min_n = request.min_n or codebook.min_n
    ledger = Ledger()
    rows: dict[str, list[dict[str, Any]]] = {}
    chosen: dict[str, list[int]] = {}
    declared: dict[str, set[str]] = {"no answer": set(), "not asked": set()}  # codes that only the file declares so
    problems: list[str] = []
    for name, column in track(respondents.columns(list(by_column)), len(by_column), "questions counted"):
        for question in by_column[name]:
            answer, strangers = _answers(respondents, name, column, question, declared)
            if strangers:
                problems.append(f"{question.where}: {unlisted(respondents, name, column, strangers)}")
            elif not problems:
                size = (len(cells.values) + 1, len(question.options) + 2)
                by_cell = count(cells.index, answer, cells.weight, size)
                chosen[question.id] = by_cell.n.sum(axis=0)[1:-1].tolist()
                own = {a.name for a in codebook.attributes.values() if a.column and respondents.find(a.column) == name}
                rows[question.id] = list(_rows(question, groups, groups.sum(by_cell), own, min_n, ledger.dropped))
    if problems:
        others = len(problems) - 1
        more = f" ({plural(others, 'more question')} {'has' if others == 1 else 'have'} such codes)" if others else ""
        raise UserError(f"{problems[0]}; add each to the question's options, missing or not_asked{more}")
    same = {"survey": codebook.survey, "language": codebook.language, "about": dict(codebook.about) or None,
            "source": codebook.source or respondents.path.name}  # fmt: skip
    for question in codebook.questions:
        for row in rows[question.id]:
            ledger.keep({**same, **row})
    notes = [respondents.note] if respondents.note else []
    notes += cells.notes
    for kind, codes in declared.items():
        if codes:
            notes.append(f'declared missing by the file and taken as "{kind}": {some(codes)}')
    notes += remarks.unused_options(chosen, codebook.questions)
    return ledger.prepared(str(respondents.path), notes)


class _Groups:
    """The groups of all breakdowns, each with its wave, and the cells that they are made of."""

    def __init__(self, cells: Cells, breakdowns: Sequence[Sequence[str]]):
        self.groups: list[tuple[str | None, dict[str, str]]] = []
        pairs: list[tuple[int, int]] = []
        for names in breakdowns:
            position: dict[Any, int] = {}
            for cell, (values, wave) in enumerate(zip(cells.values, cells.waves, strict=True)):
                if all(name in values for name in names):
                    group = {name: values[name] for name in names}
                    key = (wave, *group.values())
                    if key not in position:
                        position[key] = len(self.groups)
                        self.groups.append((wave, group))
                    pairs.append((position[key], cell))
        self._group, self._cell = np.array(pairs, np.int64).reshape(-1, 2).T

    def sum(self, cells: Counts) -> Counts:
        """Sums over each group's cells."""
        return Counts(*(self._sum(getattr(cells, f.name)) for f in dataclasses.fields(cells)))

    def _sum(self, cells: np.ndarray) -> np.ndarray:
        total = np.zeros((len(self.groups), cells.shape[1]), cells.dtype)
        np.add.at(total, self._group, cells[self._cell])
        return total


def _answers(
    respondents: Respondents, name: str, column: Column, question: CodebookQuestion, declared: dict[str, set[str]]
) -> tuple[Int[np.ndarray, " respondents"], list[int]]:
    """Each respondent's answer (0: not asked; 1 and on: the options; last: no answer), and the codes not accounted for.

    The codebook overrules the file: a code that the file declares missing may be an option.
    """
    variable, no_answer = respondents.variables[name], len(question.options) + 1
    meaning = np.zeros(len(column.codes) + 1, np.int64)  # the last one is for index -1: blank
    strangers = []
    for i, code in enumerate(column.codes):
        label = variable.values.get(code, "")
        if code in question.codes:
            meaning[i] = 1 + question.codes[code]
        elif code == "" or code in question.not_asked:
            meaning[i] = 0
        elif code in question.missing:
            meaning[i] = no_answer
        elif variable.declared_missing(code):
            meaning[i] = 0 if NOT_ASKED_LABEL.search(label) else no_answer
            kind = "no answer" if meaning[i] else "not asked"
            declared[kind].add(f"{code} {label}".rstrip())
        else:
            strangers.append(i)
    return meaning[column.index], strangers


def _rows(
    question: CodebookQuestion, groups: _Groups, counts: Counts, own: set[str], min_n: int, dropped: Counter[str]
) -> Iterator[dict[str, Any]]:
    """The rows of one question; counts in `dropped` what gives none. `own`: the attributes made of its column."""
    for i, (wave, group) in enumerate(groups.groups):
        figures = OWN if own & group.keys() else counts.row(i, min_n)
        if isinstance(figures, str):
            dropped[figures] += 1
        else:
            yield {
                "question_id": question.id,
                "question": question.text,
                "options": list(question.options),
                "scale": question.scale,
                "group": group,
                "wave": wave,
                **figures,
            }
