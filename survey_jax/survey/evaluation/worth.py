"""How many interviews a prediction is worth.

A prediction q of a group's answer is taken as what is known before anybody is asked: the group's true distribution is
drawn from a Dirichlet distribution with mean q and concentration k. Its variance is q (1 - q) / (k + 1), which is that
of the answers of k + 1 people, and it weighs as much as k answers once real ones are added. So k is what the prediction
is worth in respondents. It is the k that makes the answers people gave most likely (maximum likelihood of the
Dirichlet-multinomial distribution, Mosimann 1962), over all rows together.

Huang, Wu & Wang (arXiv 2502.17773) ask instead how many simulated answers may be treated as real ones, for confidence
sets from them to cover a survey's true mean as often as they say.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import special

from survey_jax.survey.evaluation.bootstrap import SAMPLES, Bootstrap, Interval, Replicates
from survey_jax.survey.evaluation.metrics import Distributions, Shares, stack, uniform
from survey_jax.survey.table import Answer

Array = np.ndarray
LEAST, MOST = 0.1, 10_000.0  # what is found lies between them; at MOST, read "or more", at LEAST "or less"
UNIFORM = 1e-3  # of this is mixed into predictions: one that rules out what somebody answered would be worth nothing
_GRID = np.linspace(np.log(LEAST), np.log(MOST), 93)  # of log k, an eighth apart; maxima between points are refined


def worth(answers: Sequence[Answer], predictions: Distributions, seed: int = 0, samples: int = SAMPLES) -> Interval:
    """The number of respondents that predictions are worth, as the module explains.

    A row's answers are its shares times `n_effective` (Kish, after weighting), else `n`, else the sum of `counts`. Rows
    with none of them and rows without a prediction (NaN) do not count.

    Returns:
      value, low, high: in respondents, from LEAST ("or less") to MOST ("or more"). The interval is that of `bootstrap`,
      on the scale of log k. All are NaN where no row counts, low and high where the rows belong to one question.

    Raises:
      UserError: as `metrics.row_metrics`.

    >>> options, rng = ("Yes", "Perhaps", "No"), np.random.default_rng(0)
    >>> people = rng.dirichlet([20, 10, 20], size=400)  # as far from .4, .2, .4 as the answers of some fifty people
    >>> asked = rng.multinomial(1000, people) / 1000
    >>> answers = [Answer("S", f"q{i}", "Fair?", options, (), tuple(p), n=1000) for i, p in enumerate(asked)]
    >>> found = worth(answers, [[0.4, 0.2, 0.4]] * 400)
    >>> round(found["low"]), round(found["value"]), round(found["high"])
    (46, 51, 57)
    """
    prediction, size = stack(answers, predictions), sizes(answers)
    known = ~np.isnan(prediction).any(-1) & ~np.isnan(size)
    if not known.any():
        return {"value": np.nan, "low": np.nan, "high": np.nan}
    counts = stack(answers, [a.probs for a in answers]) * size[:, None]
    even = uniform(np.array([len(a.options) for a in answers]), prediction.shape[1])
    likelihood = np.zeros((len(answers), len(_GRID)))
    likelihood[known] = log_likelihood(
        counts[known], ((1 - UNIFORM) * prediction + UNIFORM * even)[known], np.exp(_GRID)
    )
    best = float(_maxima(likelihood.sum(0, keepdims=True))[0])
    bootstrap = Bootstrap(answers, seed, samples)
    nearest = int(np.clip(np.abs(_GRID - best).argmin(), 1, len(_GRID) - 2))
    pull = likelihood[:, nearest + 1] - likelihood[:, nearest - 1]  # of each row on log k, at the value found
    one_question = len(np.unique(bootstrap.question[known])) == 1
    maxima = np.array([]) if one_question else _maxima(bootstrap.sums(likelihood))
    spread = best + bootstrap.widening(pull, known.astype(float)) * (maxima - best)
    interval = Replicates(best, spread).interval()
    return {end: float(np.clip(np.exp(value), LEAST, MOST)) for end, value in interval.items()}


def respondents(answers: Sequence[Answer]) -> float:
    """The median number of respondents of a row, after weighting where known; NaN where no row has one."""
    known = sizes(answers)
    return float(np.nanmedian(known)) if not np.isnan(known).all() else np.nan


def log_likelihood(counts: Shares, shares: Shares, concentrations: Float[Array, " m"]) -> Float[Array, "n m"]:
    """The log likelihood of each row's counts, less the multinomial coefficient, which no concentration changes.

    Args:
      counts: answers an option; need not be whole.
      shares: predicted; positive for every option that a row has, and zero for others.
    """
    total, exists = counts.sum(-1), shares > 0
    columns = []
    for concentration in concentrations:
        alpha = np.where(exists, concentration * shares, 1.0)
        options = np.where(exists, special.gammaln(counts + alpha) - special.gammaln(alpha), 0.0).sum(-1)
        columns.append(special.gammaln(concentration) - special.gammaln(total + concentration) + options)
    return np.stack(columns, -1)


def _maxima(likelihood: Float[Array, "s m"]) -> Float[Array, " s"]:
    """Where on the axis of _GRID each row of values is largest: the top of the parabola through three points."""
    step = _GRID[1] - _GRID[0]
    top = likelihood.argmax(1)
    middle = np.clip(top, 1, len(_GRID) - 2)[:, None]
    left, centre, right = np.take_along_axis(likelihood, middle + np.arange(-1, 2), 1).T
    curved = np.minimum(left - 2 * centre + right, -np.finfo(float).tiny)
    inside = _GRID[middle[:, 0]] + step * np.clip((left - right) / (2 * curved), -1, 1)
    return np.where(top == middle[:, 0], inside, _GRID[top])


def sizes(answers: Sequence[Answer]) -> Float[Array, " n"]:
    """The respondents of each row: `n_effective`, else `n`, else the sum of `counts`; NaN where none is known."""
    return np.array([a.n_effective or a.n or sum(a.counts or ()) or np.nan for a in answers], float)
