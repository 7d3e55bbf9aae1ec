"""Counts answers: a file of respondents and its codebook become the rows of a survey table."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Int

from survey_jax.common.console import track
from survey_jax.common.errors import some
from survey_jax.common.problems import Problems
from survey_jax.sources import Prepared, Request
from survey_jax.sources.ledger import Ledger
from survey_jax.sources.microdata import remarks, several
from survey_jax.sources.microdata.cells import Cells, sort_respondents, unlisted
from survey_jax.sources.microdata.codebook import Codebook, CodebookQuestion, check_breakdowns
from survey_jax.sources.microdata.counting import Counts, count
from survey_jax.sources.microdata.respondents import Column, Respondents
from survey_jax.sources.microdata.words import says_not_asked
from survey_jax.survey.table import Answer

OWN = "question that the group is made of"


def tabulate(respondents: Respondents, codebook: Codebook, request: Request) -> Prepared:
    """A row for each question, wave and group, with the figures of `counting.Counts.row`.

    Raises UserError where file and codebook do not fit together, or no row is left.
    """
    breakdowns = codebook.breakdowns
    if request.breakdowns:
        breakdowns = check_breakdowns(codebook.attributes, request.breakdowns, "--breakdowns")
    used = list(dict.fromkeys(name for names in breakdowns for name in names))
    problems = Problems(codebook.path)
    by_column: dict[str, list[CodebookQuestion]] = defaultdict(list)
    for question in codebook.questions:
        if name := problems.tried(partial(respondents.require, question.column, question.where)):
            by_column[name].append(question)
    cells = problems.tried(lambda: sort_respondents(respondents, codebook, used, request.unweighted))
    groups, everybody = (_Groups(cells, b) if cells else None for b in (breakdowns, [()]))

    min_n = request.min_n or codebook.min_n
    ledger = Ledger()
    rows: dict[str, list[dict[str, Any]]] = {}
    overall: dict[str, list[dict[str, Any]]] = {}
    chosen: dict[str, list[int]] = {}
    declared: dict[str, set[str]] = {"no answer": set(), "not asked": set()}  # codes that only the file declares so
    for name, column in track(respondents.columns(list(by_column)), len(by_column), "questions counted"):
        for question in by_column[name]:
            answer, strangers = _answers(respondents, name, column, question, declared)
            if strangers:
                what = unlisted(respondents, name, column, strangers)
                problems.add(f"{question.where}: {what}; add each to the question's options, missing or not_asked")
            elif cells and groups and everybody and not problems:
                size = (len(cells.values) + 1, len(question.options) + 2)
                by_cell = count(cells.index, answer, cells.weight, size)
                chosen[question.id] = (by_cell.n + by_cell.weightless).sum(axis=0)[1:-1].tolist()
                own = {a.name for a in codebook.attributes.values() if a.column and respondents.find(a.column) == name}
                rows[question.id] = list(_rows(question, groups, groups.sum(by_cell), own, min_n, ledger.dropped))
                overall[question.id] = list(_rows(question, everybody, everybody.sum(by_cell), set(), 1, Counter()))
    problems.check()
    assert cells is not None  # otherwise there was a problem
    same = {"survey": codebook.survey, "language": codebook.language, "about": dict(codebook.about) or None,
            "source": codebook.source or respondents.path.name}  # fmt: skip
    for question in codebook.questions:
        for row in rows[question.id]:
            ledger.keep({**same, **row})
    notes = [*respondents.notes, *cells.notes]
    for kind, codes in declared.items():
        if codes:
            notes.append(f'declared missing by the file and taken as "{kind}": {some(codes)}')
    notes += remarks.unused_options(chosen, codebook.questions)
    return dataclasses.replace(
        ledger.prepared(str(respondents.path), notes),
        toplines=[_topline(codebook, row) for question in codebook.questions for row in overall[question.id]],
        respondents=len(cells.index),
        weights=cells.weights,
    )


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
        codes = several.split(code, question.separator) if question.chosen else [code]
        if not any(codes) or any(c in question.not_asked for c in codes):
            meaning[i] = 0
        elif any(c in question.missing for c in codes):
            meaning[i] = no_answer
        elif question.chosen:
            meaning[i] = 1 if question.chosen in codes else 2
        elif code in question.codes:
            meaning[i] = 1 + question.codes[code]
        elif variable.declared_missing(code):
            meaning[i] = 0 if says_not_asked(label) else no_answer
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


def _topline(codebook: Codebook, row: Mapping[str, Any]) -> Answer:
    """A row of all respondents, whose group has no attributes: a table could not hold it."""
    total = sum(row["counts"])
    return Answer(
        survey=codebook.survey,
        question_id=row["question_id"],
        question=row["question"],
        options=tuple(row["options"]),
        group=(),
        probs=tuple(count / total for count in row["counts"]),
        counts=tuple(row["counts"]),
        n=float(row["n"]),
        n_effective=row["n_effective"],
        scale=row["scale"],
        wave=row["wave"],
        language=codebook.language,
        extra={"item_nonresponse": row["item_nonresponse"]},
    )
