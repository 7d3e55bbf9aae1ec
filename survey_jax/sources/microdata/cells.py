"""Sorts respondents into groups, and finds their weights."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Int

from survey_jax.common.errors import UserError, plural, some
from survey_jax.common.problems import Problems
from survey_jax.sources.microdata import remarks
from survey_jax.sources.microdata.codebook import Codebook, CodebookAttribute, CodebookQuestion
from survey_jax.sources.microdata.respondents import Column, Respondents
from survey_jax.survey import countries
from survey_jax.survey.text import is_country
from survey_jax.survey.weights import Weights, weigh

_WEIGHTS = (1e-12, 1e12)  # bounds of weights other than 0: beyond them sums of squares are no numbers
MAX_VALUES = 10_000  # a column with more is an identifier or a measurement, not an attribute


@dataclasses.dataclass(frozen=True)
class Cells:
    """Respondents by cell: those in one cell have the same wave and the same value of every attribute.

    The groups of a breakdown are unions of cells, so that answers are counted once, however many breakdowns there are.

    Attributes:
      index: the cell of each respondent; `len(values)` for those who count nowhere.
      values: for each cell, attribute -> value, without the attributes whose value is unknown.
      waves: the wave of each cell.
      weight: the weight of each respondent, finite and not negative; None if all count the same.
      weights: what they do; None if all count the same.
      notes: for the user.
    """

    index: Int[np.ndarray, " respondents"]
    values: Sequence[Mapping[str, str]]
    waves: Sequence[str | None]
    weight: Float[np.ndarray, " respondents"] | None
    weights: Weights | None
    notes: Sequence[str]


@dataclasses.dataclass(frozen=True)
class _Values:
    """A variable's distinct values, and which one each respondent has (-1: none)."""

    labels: list[str]
    index: Int[np.ndarray, " respondents"]


def sort_respondents(
    respondents: Respondents, codebook: Codebook, attributes: Iterable[str], unweighted: bool
) -> Cells:
    """Sorts respondents by the named attributes and by wave.

    Raises:
      UserError: a column is absent; an attribute's column holds a code that the codebook does not mention; a weight is
        negative or no number.
    """
    notes: list[str] = []
    by_name: dict[str, _Values] = {}
    constant: dict[str, str] = {}
    problems = Problems(codebook.path)
    for name in attributes:
        attribute = codebook.attributes[name]
        if attribute.value is not None:
            names, found = _country_names([attribute.value]) if is_country(name) else ([attribute.value], [])
            constant[name] = names[0]
            notes += found
        elif read := problems.tried(partial(_values, respondents, attribute, codebook.questions)):
            by_name[name], found = read
            notes += found
            notes += _count_note(by_name[name].index < 0, f"are in no group by {name}: no value, or a missing code")
    waves = problems.tried(lambda: _waves(respondents, codebook))
    if codebook.weights and not unweighted:
        for name in codebook.weights:
            problems.tried(partial(respondents.require, name, f"{codebook.path}: weight"))
    problems.check()
    question = codebook.questions[0]  # any column will do where only the number of respondents is wanted
    sized = waves or next(iter(by_name.values()), None)
    size = len((sized or respondents.column(respondents.require(question.column, question.where))).index)
    left_out = np.zeros(size, bool) if waves is None else waves.index < 0
    notes += _count_note(left_out, f"are left out: {codebook.wave_column}, their wave, is blank")
    weight = weights = None
    if codebook.weights and not unweighted:
        weight, used = _weights(respondents, codebook, waves, size)
        weights = weigh(weight, codebook.weights)
        notes += used
        notes += _count_note(np.isnan(weight), "are left out: they have no weight")
        notes += _count_note(weight == 0, "have a weight of 0: they count nowhere")
        left_out |= np.isnan(weight)
        weight = np.where(left_out, 0.0, weight)

    parts = list(by_name.values()) + ([waves] if waves else [])
    index, combinations = _combine(parts, left_out, size)
    values, cell_waves = [], []
    for combination in combinations:
        pairs = zip(by_name.items(), combination, strict=False)
        values.append(constant | {name: part.labels[i] for (name, part), i in pairs if i >= 0})
        cell_waves.append(waves.labels[combination[-1]] if waves else codebook.wave)
    return Cells(index, values, cell_waves, weight, weights, notes)


def unlisted(respondents: Respondents, column_name: str, column: Column, codes: Sequence[int]) -> str:
    """Describes codes (by position in `column.codes`) that a codebook should mention: code, count, label."""
    counts = np.bincount(column.index[column.index >= 0], minlength=len(column.codes))
    labels = respondents.variables[column_name].values
    parts = []
    for i in sorted(codes, key=lambda i: -counts[i])[:5]:
        label = f', "{labels[column.codes[i]]}"' if column.codes[i] in labels else ""
        parts.append(f"{column.codes[i]} ({plural(int(counts[i]), 'time')}{label})")
    more = f" and {len(codes) - 5} more" if len(codes) > 5 else ""
    kind = "code" if len(codes) == 1 else "codes"
    return f"column {column_name} of {respondents.path} holds the {kind} {', '.join(parts)}{more}"


def _values(
    respondents: Respondents, attribute: CodebookAttribute, questions: Sequence[CodebookQuestion]
) -> tuple[_Values, list[str]]:
    """An attribute's values, and notes on them."""
    name = respondents.require(attribute.column or "", attribute.where)
    column = respondents.column(name)
    found = _meanings(respondents, attribute, name, column)
    known = [*attribute.labels.values(), *attribute.bands.values()] or sorted(set(found.values()))
    labels = list(dict.fromkeys(known))
    position = {label: i for i, label in enumerate(labels)}
    lookup = np.array([position[found[i]] if i in found else -1 for i in range(len(column.codes))] + [-1])
    index = lookup[column.index]
    notes = remarks.missing_in_bands(attribute, column, questions) if attribute.bands else []
    if is_country(attribute.name):
        names, more = _country_names(labels)  # one for each country, whatever the file calls it
        notes += more
        labels = list(dict.fromkeys(names))
        index = np.array([labels.index(name) for name in names] + [-1])[index]
    return _Values(labels, index), notes


def _meanings(respondents: Respondents, attribute: CodebookAttribute, name: str, column: Column) -> dict[int, str]:
    """The value that each code (by its position in `column.codes`) stands for, if any.

    A label of the codebook comes first, then the codebook's and the file's missing codes.
    """
    variable = respondents.variables[name]
    free = not attribute.labels and not attribute.bands
    found: dict[int, str] = {}
    strangers: list[int] = []
    for i, code in enumerate(column.codes):
        band = next((label for band, label in attribute.bands.items() if code in band), None)
        if code in attribute.labels:
            found[i] = attribute.labels[code]
        elif code in attribute.missing:
            if band is not None and not attribute.own_missing:
                raise UserError(
                    f"{attribute.where}: the code {code} is both in the common list of missing codes and in the band "
                    f"{band}; give the attribute a `missing` of its own, such as missing: [999]"
                )
        elif code == "" or variable.declared_missing(code):
            continue
        elif free:
            found[i] = variable.values.get(code, code)
        elif band is not None:
            found[i] = band
        else:
            strangers.append(i)
    if strangers:
        what = unlisted(respondents, name, column, strangers)
        raise UserError(f"{attribute.where}: {what}; add each to the attribute's recode or missing")
    if len(set(found.values())) > MAX_VALUES:
        raise UserError(
            f"{attribute.where}: column {name} of {respondents.path} has {len(set(found.values())):,} values, "
            "which are no groups; put them in bands with `recode`, or leave the attribute out"
        )
    return found


def _country_names(labels: Sequence[str]) -> tuple[list[str], list[str]]:
    """The one name of each country, and notes on rewritten and unknown ones."""
    names = [countries.one_name(label) for label in labels]
    notes = [f"{note}; kept as written" for note in countries.report_unknown(labels)]
    rewritten = [f"{label} to {name}" for label, name in zip(labels, names, strict=True) if label != name]
    if rewritten:
        notes.append(f"{len(rewritten)} of {plural(len(names), 'country name')} rewritten: {some(rewritten)}")
    return names, notes


def _waves(respondents: Respondents, codebook: Codebook) -> _Values | None:
    if codebook.wave_column is None:
        return None
    name = respondents.require(codebook.wave_column, f"{codebook.path}: wave")
    column, variable = respondents.column(name), respondents.variables[name]
    unknown = [code == "" or variable.declared_missing(code) for code in column.codes]
    lookup = np.array([-1 if unknown[i] else i for i in range(len(column.codes))] + [-1])
    return _Values([variable.values.get(code, code) for code in column.codes], lookup[column.index])


def _weights(
    respondents: Respondents, codebook: Codebook, waves: _Values | None, size: int
) -> tuple[Float[np.ndarray, " respondents"], list[str]]:
    """Each respondent's weight (NaN: none), and notes.

    Where there are several weight columns, each wave uses the first in which any of its respondents has a value.
    """
    names = [respondents.require(name, f"{codebook.path}: weight") for name in codebook.weights]
    index = waves.index if waves else np.zeros(size, np.int64)
    labels = waves.labels if waves else [""]
    weight, open_waves = np.full(size, np.nan), set(range(len(labels)))
    # -1 for "no weight" is a missing code; a weight of 9 is a weight, though 9 be a missing code of the questions
    blank = {code for code in codebook.common.exact if not code[0].isdigit()}
    notes = []
    for name, column in respondents.columns(names):
        values = _numbers(respondents, name, column, blank)
        filled = open_waves & set(np.unique(index[~np.isnan(values)]).tolist())
        here = np.isin(index, list(filled))
        weight[here] = values[here]
        open_waves -= filled
        if filled and len(names) > 1:
            used = sorted(labels[i] for i in filled)
            span = f"{used[0]} to {used[-1]} ({len(used)} waves)" if len(used) > 3 else ", ".join(used)
            notes.append(f"weight {name}" + (f": {span}" if waves else ""))
    return weight, notes


def _numbers(respondents: Respondents, name: str, column: Column, blank: set[str]) -> Float[np.ndarray, " respondents"]:
    """A weight column as numbers, NaN where blank or declared missing."""
    variable = respondents.variables[name]
    distinct = np.full(len(column.codes) + 1, np.nan)
    for i, code in enumerate(column.codes):
        if code == "" or code in blank or variable.declared_missing(code):
            continue
        try:
            number = float(code.replace(",", ".") if respondents.comma else code)
        except ValueError:
            number = -1.0
        distinct[i] = number if number == 0 or _WEIGHTS[0] <= number <= _WEIGHTS[1] else -1.0
    if wrong := np.flatnonzero(distinct < 0).tolist():
        what = unlisted(respondents, name, column, wrong)
        raise UserError(
            f"{what}: a weight must be a number, not negative, at most {_WEIGHTS[1]:.0e} and if not 0 at least "
            f"{_WEIGHTS[0]:.0e}, or blank; mend the file or use another weight"
        )
    return distinct[column.index]


def _combine(
    parts: Sequence[_Values], left_out: Bool[np.ndarray, " respondents"], size: int
) -> tuple[Int[np.ndarray, " respondents"], list[tuple[int, ...]]]:
    """The distinct combinations of values that occur, and which one each respondent has."""
    if math.prod(len(part.labels) + 1 for part in parts) >= 2**63:
        raise UserError("--breakdowns: the attributes have too many values to be crossed; recode some of them")
    key = np.zeros(size, np.int64)
    for part in parts:
        key = key * (len(part.labels) + 1) + part.index + 1
    distinct, index = np.unique(key[~left_out], return_inverse=True)
    result = np.full(size, len(distinct), np.int64)
    result[~left_out] = index
    combinations = []
    for code in distinct.tolist():
        combination = []
        for part in reversed(parts):
            code, remainder = divmod(code, len(part.labels) + 1)
            combination.append(remainder - 1)
        combinations.append(tuple(reversed(combination)))
    return result, combinations


def _count_note(which: Bool[np.ndarray, " respondents"], what: str) -> list[str]:
    count = int(which.sum())
    return [f"{count:,} of {len(which):,} respondents {what}"] if count else []
