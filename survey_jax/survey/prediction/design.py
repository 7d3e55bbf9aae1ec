"""How many people to interview, and in which groups, when predictions are already there.

A prediction worth k interviews leaves, after n more, the uncertainty of k + n (see `update`).
"""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from survey_jax.common.errors import UserError, plural
from survey_jax.survey.prediction import dirichlet
from survey_jax.survey.prediction.forecast import Forecast
from survey_jax.survey.table import Group, group_name
from survey_jax.survey.text import same_group

Array = np.ndarray
_STEPS = 2000  # a large budget is given out in so many parts
_LEAST, _MOST = 0.5, 1e9  # of the concentration at which an interval is as short as wanted
_HALVINGS = 50
_WIDTH = 60  # of a group's name in a text


@dataclasses.dataclass(frozen=True)
class Needed:
    """Interviews of a group that make an interval as short as wanted, with the prediction and without one."""

    with_prediction: int
    without: int


def interviews_needed(
    forecast: Forecast, half_width: float = 0.03, level: float = 0.95, option: int | None = None
) -> Needed:
    """The interviews after which the interval of a share is expected to be +- `half_width`.

    Both counts are for the share that is predicted, in the Beta distribution of `Forecast.interval`.

    Args:
      option: the number of an option, from 0; None: the option with the widest interval.

    Raises:
      UserError: a half-width outside (0, 0.5), a level outside (0, 1), or no such option.

    >>> from survey_jax.survey.table import Answer
    >>> row = Answer("S", "q1", "Fair?", ("Yes", "No"), (("age", "18-29"),), (0.5, 0.5))
    >>> interviews_needed(Forecast(row, np.array([0.5, 0.5]), 100.0, "new question", {}))
    Needed(with_prediction=966, without=1066)
    """
    count = len(forecast.shares)
    if option is not None and not 0 <= option < count:
        raise UserError(f"{forecast.answer.describe()}: has no option {option}; they are 0 to {count - 1}")
    share = _widest(forecast) if option is None else float(forecast.shares[option])
    total = float(_concentrations(np.array([share]), half_width, level)[0])
    return Needed(max(0, math.ceil(total - forecast.concentration)), math.ceil(total))


def _widest(forecast: Forecast) -> float:
    """The share with the widest interval: the one nearest to a half."""
    return float(forecast.shares[np.argmin(np.abs(forecast.shares - 0.5))])


def _concentrations(shares: Float[Array, " n"], half_width: float, level: float) -> Float[Array, " n"]:
    """The least concentration at which each share's interval is as short as wanted, by bisection of its logarithm."""
    if not 0 < half_width < 0.5 or not 0 < level < 1:
        raise UserError(
            f"a half-width of {half_width} at the level {level}: they lie in (0, 0.5) and (0, 1), as in .03 and .95"
        )
    least, most = (np.full(shares.shape, np.log(end)) for end in (_LEAST, _MOST))
    for _ in range(_HALVINGS):
        middle = (least + most) / 2
        low, high = dirichlet.intervals(shares[:, None], np.exp(middle), level)
        short = (high - low)[:, 0] / 2 <= half_width
        least, most = np.where(short, least, middle), np.where(short, middle, most)
    return np.exp(most)


def first_to_ask(forecasts: Sequence[Forecast], budget: int) -> list[tuple[Group, int]]:
    """Divides interviews among groups so that the fewest answers are expected to be misplaced, summed over all cells.

    Each interview answers all questions of its group. It goes where it lowers the sum most, of the total variation
    distance to expect from a Dirichlet distribution with the predicted shares and the concentration k + n
    (`dirichlet.misplaced`). As each further interview of a group brings less, no other division is better. A budget of
    more than 2,000 is given out in 2,000 parts.

    Returns:
      each group and its interviews, the most first; groups without any are there too.

    Raises:
      UserError: the budget is negative, or there are no forecasts.
    """
    cells = _by_group(forecasts)
    if budget < 0:
        raise UserError(f"a budget of {budget} interviews; it must be 0 or more")
    given = dict.fromkeys(cells, 0)
    part = max(1, math.ceil(budget / _STEPS))

    def gain(group: Group, size: int) -> float:
        n = given[group]
        return _expected(cells[group], n) - _expected(cells[group], n + size)

    gains = {group: gain(group, part) for group in cells}
    left = budget
    while left:
        size = min(part, left)
        best = max(gains, key=lambda group: gains[group])
        given[best] += size
        left -= size
        gains[best] = gain(best, part)
    return sorted(given.items(), key=lambda pair: -pair[1])


def design_text(forecasts: Sequence[Forecast], budget: int, half_width: float = 0.03) -> str:
    """Plain text: the interviews that a precise share takes, and where a budget of interviews does most.

    Raises:
      UserError: as `interviews_needed` and `first_to_ask`.
    """
    plan, cells = first_to_ask(forecasts, budget), _by_group(forecasts)
    totals = _concentrations(np.array([_widest(f) for f in forecasts]), half_width, 0.95)
    more = np.maximum(totals - [f.concentration for f in forecasts], 0)
    with_prediction, without = (f"{math.ceil(np.median(counts)):,}" for counts in (more, totals))
    named = {group: _short(group_name(group)) for group, _ in plan}
    width = max(5, *map(len, named.values()))
    head = [
        f"For the widest share of a question to be known to +-{100 * half_width:g} points in a group, ask "
        f"{with_prediction} of its people together with the prediction, or {without} without (medians).",
        f"Where {plural(budget, 'interview')} with all questions do most; misplaced: expected of 100 answers.",
        "",
        f"{'group':<{width}}  interviews  misplaced before  after",
    ]
    lines = []
    for group, n in plan:
        own = cells[group]
        before, after = (100 * _expected(own, size) / len(own) for size in (0, n))
        lines.append(f"{named[group]:<{width}}  {n:>10,}  {before:>16.1f}  {after:>5.1f}")
    return "\n".join(head + lines)


def _by_group(forecasts: Sequence[Forecast]) -> dict[Group, list[Forecast]]:
    """Forecasts by group, as it is spelled first."""
    if not forecasts:
        raise UserError("there are no predictions to plan interviews for")
    names: dict[Group, Group] = {}
    cells: dict[Group, list[Forecast]] = defaultdict(list)
    for forecast in forecasts:
        group = forecast.answer.group
        cells[names.setdefault(same_group(group), group)].append(forecast)
    return cells


def _expected(forecasts: Sequence[Forecast], n: int) -> float:
    """The expected total variation distance after n interviews of a group, summed over its questions."""
    width = max(len(f.shares) for f in forecasts)
    shares = np.stack([np.pad(f.shares, (0, width - len(f.shares))) for f in forecasts])
    return float(dirichlet.misplaced(shares, np.array([f.concentration + n for f in forecasts])).sum())


def _short(name: str) -> str:
    return name if len(name) <= _WIDTH else name[: _WIDTH - 3] + "..."
