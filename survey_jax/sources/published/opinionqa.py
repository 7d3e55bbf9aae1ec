"""OpinionQA (Santurkar et al. 2023, arXiv 2303.17548) as published: `human_resp`, a directory a wave of Pew's panel.

American_Trends_Panel_W26/ holds responses.csv (a row a respondent: answers as texts under the question's key,
attributes such as POLPARTY, WEIGHT_W26), info.csv (key, question, references, option_ordinal) and metadata.csv (key,
options: an attribute's groups). SubPOP's processed copy is read too: one file with SubPOP's columns.
"""

import collections
import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from survey_jax.common.errors import UserError
from survey_jax.sources import Prepared, Request
from survey_jax.sources.files import read_csv
from survey_jax.sources.ledger import Ledger, option_problem
from survey_jax.sources.microdata.counting import Counts, count
from survey_jax.sources.published import option_texts, subpop

ACCEPTS = frozenset({"min_n", "unweighted"})
SURVEY = "OpinionQA"
NO_COLUMN = "question without a column in responses.csv"
SHARED_KEY = "several questions under one key"
_WAVE = re.compile(r"American_Trends_Panel_W(\d+)")
_FILES = ("responses.csv", "info.csv", "metadata.csv")


@dataclasses.dataclass(frozen=True)
class _WaveQuestion:
    """A line of info.csv: `ordinal` has a value for each of the first `texts`; the rest are refusals."""

    key: str
    text: str
    texts: list[str]
    ordinal: list[float]


def load(request: Request) -> Prepared:
    """Every question by every attribute's groups, and of everybody, weighted by the wave's weight.

    Options after those with an ordinal value are refusals: left out, their weighted share kept as item_nonresponse.
    Further extra columns: attribute, ordinal_values. Raises UserError: no wave in the directory, or a file of it is
    absent or not what is published.
    """
    path = Path(request.input)
    if not path.is_dir():
        if request.min_n is not None or request.unweighted:
            raise UserError("--min_n, --unweighted: need the respondents; give the directory human_resp")
        return subpop.load(request, SURVEY)
    waves = {d: m[1] for d in sorted([path, *path.iterdir()]) if d.is_dir() and (m := _WAVE.fullmatch(d.name))}
    if not waves:
        raise UserError(f"{path}: has no directory American_Trends_Panel_W..; give OpinionQA's human_resp")
    ledger, notes = Ledger(), []
    for directory, wave in waves.items():
        notes += _add_wave(ledger, directory, wave, request)
    return ledger.prepared(str(path), notes)


def _add_wave(ledger: Ledger, directory: Path, wave: str, request: Request) -> list[str]:
    """Adds a wave's rows; returns notes about answers that have no place."""
    responses, info, metadata = (read_csv(directory / name) for name in _FILES)
    notes = []
    weights = np.ones(len(responses))
    if not request.unweighted:
        if f"WEIGHT_W{wave}" not in responses:
            raise UserError(f"{directory / 'responses.csv'}: has no column WEIGHT_W{wave}")
        weights = pd.to_numeric(responses[f"WEIGHT_W{wave}"], errors="coerce").to_numpy(float)
        if np.isinf(weights).any():
            raise UserError(f"{directory / 'responses.csv'}: WEIGHT_W{wave} holds an infinite weight; mend the file")
        weights = np.where(weights > 0, weights, 0.0)  # without one, a respondent counts nowhere
        if without := int((weights == 0).sum()):
            notes.append(
                f"W{wave}: {without:,} of {len(weights):,} respondents are left out: they have no weight above 0"
            )
    attributes = {"Overall": ["Overall"]}
    responses = responses.assign(Overall="Overall")
    try:
        attributes |= {str(m.key): _texts(m.options) for m in metadata.itertuples() if str(m.key) in responses}
        questions = [
            _WaveQuestion(q.key, q.question, _texts(q.references), _numbers(q.option_ordinal))
            for q in info.itertuples()
        ]
    except (AttributeError, ValueError) as error:
        raise UserError(f"{directory}: {error}") from error
    keys = collections.Counter(q.key for q in questions)
    rows = sum(map(len, attributes.values()))
    for question in questions:
        if keys[question.key] > 1 or question.key not in responses:
            ledger.dropped[SHARED_KEY if keys[question.key] > 1 else NO_COLUMN] += rows
            continue
        cells = responses[question.key]
        answers = cells.map({text: i for i, text in enumerate(question.texts)}).fillna(-1).to_numpy(int)
        if (stray := cells[(answers < 0) & (cells.str.strip() != "")]).any():
            notes.append(f"{question.key}: {len(stray):,} answers are none of its options, such as {stray.iloc[0]!r}")
        refused = len(question.ordinal) + 1  # the last place of Counts; blank and stray answers have the first
        answers = np.minimum(answers + 1, refused)
        for attribute, values in attributes.items():
            position = {value: i for i, value in enumerate(values)}
            members = responses[attribute].map(position).where(weights > 0).fillna(len(values)).to_numpy(int)
            counts = count(members, answers, weights, (len(values) + 1, refused + 1))
            _add_groups(ledger, question, (attribute, values), counts, request.min_n or 1)
    return notes


def _add_groups(
    ledger: Ledger, question: _WaveQuestion, attribute: tuple[str, list[str]], counts: Counts, min_n: int
) -> None:
    """A row per group of an attribute."""
    name, values = attribute
    scale, places = subpop.order(question.ordinal)
    options = [question.texts[i] for i in places]
    problem = option_problem(options)
    for g, value in enumerate(values):
        figures = problem or counts.row(g, min_n)
        if isinstance(figures, str):
            ledger.dropped[figures] += 1
            continue
        row = {
            "survey": SURVEY, "wave": subpop.wave(question.key), "question_id": question.key,
            "question": question.text, "options": options, "scale": scale, "group": subpop.group(name, value),
            "source": SURVEY, "language": "en", "attribute": name,
            "ordinal_values": [question.ordinal[i] for i in places],
            **figures, "counts": [figures["counts"][i] for i in places],
        }  # fmt: skip
        ledger.keep(row, [subpop.REORDERED] * (places != sorted(places)))


def _list(cell: object) -> Iterable[object]:
    found = option_texts.literal(str(cell))
    if not isinstance(found, list):
        raise ValueError(f"expected a printed list, got {str(cell)[:60]!r}")
    return found


def _texts(cell: object) -> list[str]:
    return [str(text) for text in _list(cell)]


def _numbers(cell: object) -> list[float]:
    return [float(str(value)) for value in _list(cell)]
