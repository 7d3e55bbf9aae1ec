"""Shares and means of a population from few interviews and a prediction for everybody, with intervals that hold anyway.

Prediction-powered inference (Angelopoulos et al. 2023, arXiv 2301.09633), power-tuned (PPI++, arXiv 2311.01453), with
survey weights. Respondent i answers y_i; f_i is what was predicted of the group he belongs to, and F the mean of the
predictions over the population, in which every group counts by its size. The estimate is what the sample says plus what
the predictions say of the people who happen not to be in it:

    value = y_w + power (F - f_w),    y_w = sum_i w_i y_i / sum_i w_i,  f_w likewise

(with power 1 the difference estimator of survey sampling). Power makes the variance smallest, over all options
together. With a_i = w_i / sum w, the deviations Y_i = y_i - y_w and G_i = f_i - f_w, and S = sum_i a_i^2 |G_i|^2:

    power = sum_i a_i^2 G_i . Y_i / S,    residuals e_i = Y_i - power G_i

The variance is linearised: a respondent changes the value by

    a_i e_i + a_i^2 (G_i . e_i) / S (F - f_w)    (itself, and by way of power)

over 1 - h_i, with h_i = a_i + a_i^2 |G_i|^2 / S, as a residual of what was fitted to it is too small. The variance is
the sum of the squares (HC3 of MacKinnon & White 1985: what the jackknife gives).

Power tends to 0 where predictions say nothing of who answers what: the interval is then that of the interviews alone.
Nothing is assumed of the predictions but that they were made without the answers of these respondents.
"""

import dataclasses

import numpy as np
from jaxtyping import Float
from scipy import stats

from survey_jax.common.errors import UserError

Array = np.ndarray
LEAST = 10  # respondents; with fewer a variance says nothing
Value = Float[Array, "..."]  # of K options, or of none: one number


@dataclasses.dataclass(frozen=True)
class Rectified:
    """An estimate for a population.

    Attributes:
      value, low, high: of each option's share, or of the mean.
      power: how far predictions were trusted: 0 not at all, 1 as if they were right but for a constant.
      as_good_as: the number of interviews without predictions whose variance would be the same.
    """

    value: Value
    low: Value
    high: Value
    power: float
    as_good_as: float


def rectified(
    predicted_unit: Float[Array, "n ..."],
    answered: Float[Array, "n ..."],
    weights: Float[Array, " n"],
    predicted_population: Value | float,
    level: float = 0.95,
    times: Float[Array, " n"] | None = None,
) -> Rectified:
    """Estimates shares or a mean of a population.

    Shares have Wilson's interval for a sample of the size that has the same variance; its ends are inside [0, 1]. A
    mean has Student's, for Kish's effective number of respondents.

    Args:
      predicted_unit: what was predicted of each respondent's group: the shares of K options, or a mean.
      answered: what each answered: 1 for the option chosen and 0 for the others, or a number.
      weights: of the respondents; one over their probability to be in the sample, up to a constant.
      predicted_population: the mean of the predictions over the population: shares of K options, or a mean.
      level: of the intervals.
      times: how many respondents each line stands for, who all have its prediction, answer and weight; need not be
        whole. None: one.

    Raises:
      UserError: arguments that do not fit together, fewer than LEAST respondents, weights or times that are not
        positive, values that are not finite, or shares outside [0, 1].

    >>> rng = np.random.default_rng(0)
    >>> town = rng.random(200) < 0.5  # half of the respondents, as of the people
    >>> yes = np.where(town, 0.9, 0.1) > rng.random(200)
    >>> found = rectified(np.where(town, 0.85, 0.2), yes.astype(float), np.ones(200), 0.525)
    >>> float(found.low) < 0.5 < float(found.high), found.as_good_as > 350
    (True, True)
    """
    f, y, w, population = (np.asarray(x, float) for x in (predicted_unit, answered, weights, predicted_population))
    m = np.ones(w.shape) if times is None else np.asarray(times, float)
    _check(f, y, w, population, m)
    a = w / (m @ w)  # of one respondent
    kish, rows = 1 / (m @ a**2), (len(w), -1)
    y_off, f_off = (x.reshape(rows) - (m * a) @ x.reshape(rows) for x in (y, f))
    pull = a[:, None] ** 2 * f_off
    spread = float(m @ (pull * f_off).sum(-1))
    if spread < 1e-12 / kish:  # the same prediction for everybody
        pull, spread = np.zeros_like(pull), 1.0
    power = float(m @ (pull * y_off).sum(-1)) / spread
    alone, gap = (m * a) @ y, population - (m * a) @ f
    value = np.asarray(alone + power * gap)
    residual = y_off - power * f_off
    influence = a[:, None] * residual + (pull * residual).sum(-1, keepdims=True) / spread * np.reshape(gap, -1)
    leverage = a + (pull * f_off).sum(-1) / spread
    variance = (m / (1 - leverage) ** 2) @ influence**2
    variance_alone = (m * (a / (1 - a)) ** 2) @ y_off**2
    if y.ndim == 2:
        value = np.clip(value, 0.0, 1.0)
        low, high = _wilson(value, _size(np.asarray(alone), variance, kish), level)
    else:
        half = stats.t.ppf((1 + level) / 2, kish - 1) * np.sqrt(variance.reshape(value.shape))
        low, high = value - half, value + half
    before, after = float(variance_alone.sum()), float(variance.sum())
    gain = before / after if after else np.inf if before else 1.0
    return Rectified(value, np.asarray(low), np.asarray(high), power, float(m.sum()) * gain)


def _size(share: Value, variance: Value, respondents: float) -> Value:
    """The number of independent answers whose share has this variance; where all or none say so, of the respondents."""
    varies = (share > 0) & (share < 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(varies, share * (1 - share) / variance, respondents))


def _wilson(share: Value, n: Value, level: float) -> tuple[Value, Value]:
    """Wilson's interval of a share among n answers (Wilson 1927); a point where n is infinite."""
    z = stats.norm.ppf((1 + level) / 2) ** 2 / n
    middle = (share + z / 2) / (1 + z)
    half = np.sqrt(share * (1 - share) * z + z**2 / 4) / (1 + z)
    return middle - half, middle + half


def _check(f: Array, y: Array, w: Array, population: Array, m: Array) -> None:
    lines = y.shape[:1]
    if y.ndim not in (1, 2) or f.shape != y.shape or {w.shape, m.shape} != {lines} or population.shape != y.shape[1:]:
        raise UserError(
            f"predictions {f.shape}, answers {y.shape}, weights {w.shape} and the population's prediction "
            f"{population.shape} do not fit together; they are n x K, n x K, n and K, or n, n, n and a number"
        )
    if not all(np.isfinite(x).all() for x in (f, y, w, population, m)):
        raise UserError("predictions, answers and weights must be finite numbers; leave out who did not answer")
    for what, x in (("weight", w), ("number", m)):
        if (x <= 0).any():
            raise UserError(f"respondent {int(np.argmin(x > 0)) + 1} has the {what} {x.min():g}; {what}s are positive")
    if m.sum() < LEAST:
        raise UserError(f"{m.sum():.3g} respondents; at least {LEAST} are needed for an interval")
    if y.ndim == 2 and not all(((x >= 0) & (x <= 1)).all() for x in (f, y, population)):
        raise UserError("shares and answers to options lie between 0 and 1")
