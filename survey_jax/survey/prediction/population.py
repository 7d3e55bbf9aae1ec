"""What a whole population would answer: interviews with a sample of it, helped by predictions of its groups.

The groups are all of the population, each person in one of them, and come with their sizes. The sample is rows of a
survey table for some of these groups, with people drawn from the whole population, so that a group of twice the size
has about twice the interviews. Where groups were drawn in other proportions, the table's column "weight" says what an
interview with the group counts. `rectify` has the statistics.
"""

import csv
import dataclasses
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from survey_jax.common.errors import UserError, some
from survey_jax.common.files import atomic_write
from survey_jax.survey.evaluation.metrics import scale_points
from survey_jax.survey.evaluation.worth import sizes
from survey_jax.survey.prediction.cells import Cells, in_order
from survey_jax.survey.prediction.forecast import Forecast
from survey_jax.survey.prediction.rectify import LEAST, Rectified, rectified
from survey_jax.survey.table import Answer, group_name
from survey_jax.survey.text import fold, same_group, wording

WEIGHT = "weight"  # extra column of the sample
_COLUMNS = (
    *("survey", "question_id", "question", "measure", "option_number", "option", "value", "low", "high"),
    *("interviews_value", "interviews_low", "interviews_high", "predicted_value", "interviews", "as_good_as", "power"),
)
_FAR = 4.0  # standard errors between a group's part of the sample and of the population that chance does not make
_DIGITS = 6  # of shares that are compared

Array = np.ndarray


@dataclasses.dataclass(frozen=True)
class Measure:
    """The shares of a question's options in a population, or the mean of its answers.

    Attributes:
      found: from interviews and predictions.
      alone: from the interviews alone.
      predicted: what it would be if the predictions were right.
    """

    found: Rectified
    alone: Rectified
    predicted: Float[Array, "..."]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a population answers to a question.

    Attributes:
      question: a row that asks it.
      interviews: how many people answered, as `worth.sizes` counts them.
      mean: of the options' places on the scale, from 1; None if the question is not ordinal.
    """

    question: Answer
    interviews: float
    shares: Measure
    mean: Measure | None


@dataclasses.dataclass(frozen=True)
class _Row:
    """Interviews with a group: the number of its cell, shares of options, respondents, and what each of them counts."""

    cell: int
    shares: Float[Array, " K"]
    size: float
    weight: float


class Sample:
    """Interviews with a sample of a population, checked before anything is predicted.

    Args:
      rows: of a survey table.
      asked: every question put to every group of the population.
      people: the size of the group of each of `asked`; only proportions matter.

    Raises:
      UserError: groups that may share people, as they have not the same attributes; a row that `Cells` refuses, or that
        does not say how many people answered; a weight that is not a positive number, or is not in every row; a
        question with fewer than LEAST respondents.
    """

    def __init__(self, rows: Sequence[Answer], asked: Sequence[Answer], people: Sequence[float]):
        _check_apart(asked)
        self._asked, self._people = asked, np.array(people, float)
        self._cells: dict[tuple[str, str], list[int]] = defaultdict(list)  # of each question
        for number, answer in enumerate(asked):
            self._cells[answer.question_key].append(number)
        self._rows: dict[tuple[str, str], list[_Row]] = defaultdict(list)  # of each question
        for row, place, size, weight in zip(rows, Cells(asked).places(rows), sizes(rows), _weights(rows), strict=True):
            if math.isnan(size):
                raise UserError(f"{row.describe()}: does not say how many people answered; give counts, or n")
            counted = sum(row.counts or ()) or row.n or size  # n_effective is what they tell, not what they count
            line = _Row(place.cell, in_order(row.probs, place), float(size), weight * counted / float(size))
            self._rows[asked[place.cell].question_key].append(line)
        for key, lines in self._rows.items():
            if (count := sum(line.size for line in lines)) < LEAST:
                raise UserError(f"{' / '.join(key)}: {count:.3g} respondents; {LEAST} are needed for an interval")

    def estimates(self, forecasts: Sequence[Forecast]) -> list[Estimate]:
        """What the population answers to each question of the sample.

        Args:
          forecasts: of the cells, in their order, made without the answers of this sample.
        """
        return [self._estimate(forecasts, self._cells[key], rows) for key, rows in self._rows.items()]

    def _estimate(self, forecasts: Sequence[Forecast], cells: list[int], rows: Sequence[_Row]) -> Estimate:
        question = self._asked[cells[0]]
        options = np.eye(len(question.options))
        lines = [  # one for each option that people of a group chose
            (forecasts[row.cell].shares, options[k], row.weight, row.size * share)
            for row in rows
            for k, share in enumerate(row.shares)
            if share > 0
        ]
        said, answered, weights, times = (np.array(column) for column in zip(*lines, strict=True))
        predicted = self._parts(cells) @ np.stack([forecasts[i].shares for i in cells])

        def measure(values: Float[Array, "K ..."]) -> Measure:
            """What is measured, by the value of each option."""
            y = answered @ values
            found = rectified(said @ values, y, weights, predicted @ values, times=times)
            alone = rectified(np.zeros_like(y), y, weights, np.zeros(y.shape[1:]), times=times)
            return Measure(found, alone, np.asarray(predicted @ values))

        mean = measure(scale_points([question])[0]) if question.scale == "ordinal" else None
        return Estimate(question, float(times.sum()), measure(options), mean)

    def cautions(self) -> list[str]:
        """Sentences on groups whose part of the interviews is further from their part of the people than by chance."""
        found: dict[str, str] = {}
        for key, rows in self._rows.items():
            cells = self._cells[key]
            parts, counted = self._parts(cells), np.zeros(len(self._asked))
            for row in rows:
                counted[row.cell] += row.size * row.weight
            got = counted[cells] / counted.sum()
            kish = counted.sum() ** 2 / sum(row.size * row.weight**2 for row in rows)
            far = np.abs(got - parts) / np.sqrt(np.maximum(parts * (1 - parts), 1e-12) / kish)
            worst = int(far.argmax())
            if far[worst] > _FAR:
                name = group_name(self._asked[cells[worst]].group)
                found[name] = (
                    f"{name} has {got[worst]:.0%} of the interviews and {parts[worst]:.0%} of the people; unless "
                    f"everybody had the same chance to be asked, the intervals hold only with a column `{WEIGHT}`"
                )
        return list(found.values())

    def _parts(self, cells: list[int]) -> Float[Array, " cells"]:
        """What part of the population each group is."""
        return self._people[cells] / self._people[cells].sum()


def _check_apart(asked: Sequence[Answer]) -> None:
    first = asked[0].group
    for answer in asked:
        if [name for name, _ in answer.group] != [name for name, _ in first]:
            raise UserError(
                f"the groups {group_name(first)!r} and {group_name(answer.group)!r} may share people; groups that "
                "make up a population give the same attributes"
            )


def _weights(rows: Sequence[Answer]) -> list[float]:
    """What each respondent of a row counts; 1 where the table has no such column."""
    given = [row.extra.get(WEIGHT) for row in rows]
    if all(value is None for value in given):
        return [1.0] * len(rows)
    for row, value in zip(rows, given, strict=True):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
            got = "nothing" if value is None else repr(value)
            raise UserError(f"{row.describe()}: {WEIGHT} must be a positive number in every row, got {got}")
    return [float(value) for value in given if value is not None]


def check_unseen(rows: Sequence[Answer], seen: Sequence[Answer], by: str) -> None:
    """Raises UserError where rows of a sample are among those that predictions are made from, which `by` names.

    >>> row = Answer("S", "q1", "Fair?", ("Yes", "No"), (("age", "18-29"),), (0.6, 0.4))
    >>> check_unseen([row], [dataclasses.replace(row, probs=(0.5, 0.5))], "--answers")
    """
    known = {_content(row) for row in seen}
    if found := [row.describe() for row in rows if _content(row) in known]:
        raise UserError(
            f"{some(found, 3)}: the same answers are in {by}; an estimate holds only if predictions were made "
            "without them"
        )


def _content(row: Answer) -> Any:
    """What two rows have in common that hold the same answers, whatever their ids and order of options."""
    shares = sorted(zip(map(fold, row.options), (round(p, _DIGITS) for p in row.probs), strict=True))
    return wording(row), same_group(row.group), tuple(shares)


def write_estimates(estimates: Sequence[Estimate], path: Path) -> None:
    """Writes a .csv file with a line for each option of a question, and one for the mean where it is ordinal."""
    with atomic_write(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        for estimate in estimates:
            writer.writerows(_lines(estimate))


def _lines(estimate: Estimate) -> list[dict[str, Any]]:
    question = estimate.question
    same = {"survey": question.survey, "question_id": question.question_id, "question": question.question}
    same |= {"interviews": f"{estimate.interviews:g}"}
    places = [("share", number, option) for number, option in enumerate(question.options, start=1)]
    lines = [(place, estimate.shares, number) for number, place in enumerate(places)]
    if estimate.mean is not None:
        lines.append((("mean", 0, ""), estimate.mean, 0))
    return [
        same
        | {"measure": name, "option_number": number or "", "option": option}
        | {end: _at(getattr(measure.found, end), i) for end in ("value", "low", "high")}
        | {f"interviews_{end}": _at(getattr(measure.alone, end), i) for end in ("value", "low", "high")}
        | {"predicted_value": _at(measure.predicted, i)}
        | {"as_good_as": measure.found.as_good_as, "power": measure.found.power}
        for (name, number, option), measure, i in lines
    ]


def _at(values: Float[Array, "..."], number: int) -> float:
    return float(np.ravel(values)[number])


def estimates_text(estimates: Sequence[Estimate]) -> str:
    """Plain text: a line for each question."""
    return "\n".join(map(_in_words, estimates))


def _in_words(estimate: Estimate) -> str:
    found, question = estimate.shares.found, estimate.question
    shares = "; ".join(
        f"{option} {100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
        for option, value, low, high in zip(question.options, found.value, found.low, found.high, strict=True)
    )
    worth = f"{estimate.interviews:,.0f} interviews, as good as {found.as_good_as:,.0f}"
    return f"population, {' / '.join(question.question_key)}, in %: {shares} ({worth})"
