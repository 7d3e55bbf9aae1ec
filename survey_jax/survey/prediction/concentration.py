"""The concentration of a prediction's Dirichlet distribution: how far from it the truth may be, by what foretells it.

log k = level + slopes . x, with features x such as how even the prediction is and how unlike train the row is. Slopes
have the best likelihood of people's answers (Dirichlet-multinomial distribution, Mosimann 1962), which takes the
answers' own sampling noise into account, so that k is about the true shares of the group. The level is not the
likeliest: real errors have heavier tails than a Dirichlet distribution, so that with that one too few intervals hold.
It is the highest with which, among rows left out, they hold as often as they say.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import optimize, special

from survey_jax.survey.evaluation import metrics
from survey_jax.survey.evaluation.bootstrap import factorize
from survey_jax.survey.evaluation.worth import sizes
from survey_jax.survey.prediction import dirichlet
from survey_jax.survey.prediction.dirichlet import LEAST_SHARE
from survey_jax.survey.table import Answer

Array = np.ndarray
ASSUMED_N = 1000.0  # respondents of a row that does not say: what national surveys ask
LEAST, MOST = 0.5, 10_000.0  # what is found lies between them
_PENALTIES = (np.inf, 3.0, 0.3)  # on squared slopes, for each question; infinite: none of the features counts
_FOLDS = 10
LEVELS = (0.8, 0.95)  # of the intervals that are given
_SHIFTS = np.linspace(-4.0, 4.0, 81)  # of log k, tried for its level
# Of the margin of conformal risk control. With all of it, 80 % intervals held 83 to 84 % in made-up surveys; with none,
# 95 % intervals held 92 % on real new questions.
_MARGIN = 0.5


@dataclasses.dataclass(frozen=True)
class Concentration:
    """log k = intercept + slopes . (x - means) / spreads; features beyond those it was fitted on count as the ends.

    Attributes:
      lows, highs: of each feature, as fitted on.
    """

    intercept: float
    slopes: tuple[float, ...] = ()
    means: tuple[float, ...] = ()
    spreads: tuple[float, ...] = ()
    lows: tuple[float, ...] = ()
    highs: tuple[float, ...] = ()

    def __call__(self, features: Float[Array, "n f"]) -> Float[Array, " n"]:
        """The concentration of each row."""
        logs = np.full(len(features), self.intercept)
        if any(self.slopes):
            inside = np.clip(features, self.lows, self.highs)
            logs += (inside - self.means) / self.spreads @ np.array(self.slopes)
        return np.clip(np.exp(logs), LEAST, MOST)


@dataclasses.dataclass(frozen=True)
class Predicted:
    """Rows whose answers are known, and what was predicted without them.

    Attributes:
      shares: 0 where an option does not exist.
      features: of each row.
    """

    answers: list[Answer]
    shares: Float[Array, "n K"]
    features: Float[Array, "n f"]

    def __add__(self, other: "Predicted") -> "Predicted":
        answers = self.answers + other.answers
        shares = metrics.stack(answers, [*self.shares, *other.shares])
        return Predicted(answers, shares, np.concatenate([self.features, other.features]))


def fit_concentration(hidden: Predicted, valid: Predicted | None = None) -> Concentration:
    """The concentration under which people's answers are likeliest, but for its level, which makes intervals hold.

    Every question counts the same. The penalty on slopes is the one with the best likelihood on questions left out, a
    tenth at a time; if that is infinite, the concentration is the same for all rows.

    The level is the highest with which intervals of the questions left out, and of `valid`, hold often enough: the mean
    of LEVELS, times (n + 1/2) / n for n questions, as their level is chosen on these. It is (n + 1) / n in Angelopoulos
    et al. 2024 (Conformal Risk Control, ICLR, theorem 1; the risk is the share of intervals that do not hold), which is
    safe even where no interval of the next question holds: the usual case needs about half of that.

    Args:
      valid: rows that count for the level only.

    >>> rng = np.random.default_rng(0)
    >>> people = rng.dirichlet([20, 10, 20], size=300)  # as far from .4, .2, .4 as the answers of some fifty people
    >>> asked = rng.multinomial(1000, people) / 1000
    >>> rows = [Answer("S", f"q{i}", "Fair?", ("A", "B", "C"), (), tuple(p), n=1000) for i, p in enumerate(asked)]
    >>> fitted = fit_concentration(Predicted(rows, np.array([[0.4, 0.2, 0.4]] * 300), np.zeros((300, 0))))
    >>> bool(40 < np.exp(fitted.intercept) < 60)
    True
    """
    fit, features = _Fit.of(hidden), hidden.features
    folds = np.random.default_rng(0).permutation(fit.question.max() + 1)[fit.question] % _FOLDS
    penalties = _PENALTIES if features.shape[1] and fit.question.max() + 1 >= 2 * _FOLDS else _PENALTIES[:1]
    left_out = [fit.left_out(folds, penalty) for penalty in penalties]
    best = int(np.argmin([-fit.likelihood(k)[0] @ fit.share for k in left_out]))
    weights = fit.best(np.ones(len(fit.share), bool), penalties[best])
    fitted = Concentration(float(weights[0]), *(tuple(map(float, part)) for part in (
        weights[1:], fit.means, fit.spreads, features.min(0, initial=np.inf), features.max(0, initial=-np.inf)
    )))  # fmt: skip
    rows = hidden if valid is None else hidden + valid
    k = left_out[best] if valid is None else np.append(left_out[best], fitted(valid.features))
    questions = len({a.question_key for a in rows.answers})
    return _shifted(fitted, _shift(rows, k, 1 + _MARGIN / questions))


def with_gain(fitted: Concentration, without: Predicted, together: Predicted) -> Concentration:
    """The concentration of better predictions: its level is higher by what they gain on rows that both predict.

    As the rows are the same, it does not count whether they are easier than others.
    """
    levels = [_shift(rows, fitted(rows.features)) for rows in (together, without)]
    return _shifted(fitted, levels[0] - levels[1])


def holds(rows: Predicted, concentration: Float[Array, " n"], level: float) -> Float[Array, " n"]:
    """For each row, the share of its options whose interval holds the share that people gave.

    The intervals are those of `dirichlet.intervals`, of the shares that as many people give as were asked; where a row
    does not say how many, of ASSUMED_N.
    """
    exists = _exists(rows)
    return ((_needed(rows, concentration) <= level) & exists).sum(-1) / exists.sum(-1)


def _needed(rows: Predicted, concentration: Float[Array, "*s n"]) -> Float[Array, "*s n K"]:
    """For each option, the level of the narrowest interval that holds the share that people gave."""
    people = np.nan_to_num(sizes(rows.answers), nan=ASSUMED_N)
    asked = metrics.stack(rows.answers, [a.probs for a in rows.answers])
    given = np.pad(asked, ((0, 0), (0, rows.shares.shape[1] - asked.shape[1])))
    half = 0.5 / people[:, None]  # a share of so many answers is a multiple of 1 / n: half a step is rounding
    wide = dirichlet.with_sampling(concentration, people)
    below = dirichlet.chance_below(rows.shares, wide, given - half)
    above = 1 - dirichlet.chance_below(rows.shares, wide, given + half)
    return np.asarray(2 * np.maximum(below, above) - 1)


def _shift(rows: Predicted, concentration: Float[Array, " n"], margin: float = 1.0) -> float:
    """What to add to log k: the most with which intervals hold `margin` times as often as they say, or nearly so."""
    question = factorize([a.question_key for a in rows.answers])
    share = 1 / np.bincount(question)[question]
    k = np.clip(concentration * np.exp(_SHIFTS)[:, None], LEAST, MOST)
    needed, exists = _needed(rows, k), _exists(rows)
    inside = np.mean([(needed <= level) & exists for level in LEVELS], axis=0)
    held = (inside.sum(-1) / exists.sum(-1)) @ share / share.sum()
    enough = min(margin * np.mean(LEVELS), held.max())
    last = slice(int(np.flatnonzero(held >= enough)[-1]), None)  # and a part of the step to the next
    return float(np.interp(-enough, -held[last][:2], _SHIFTS[last][:2]))


def _shifted(fitted: Concentration, shift: float) -> Concentration:
    return dataclasses.replace(fitted, intercept=fitted.intercept + shift)


def _exists(rows: Predicted) -> Bool[Array, "n K"]:
    return np.arange(rows.shares.shape[1]) < np.array([len(a.options) for a in rows.answers])[:, None]


@dataclasses.dataclass(frozen=True)
class _Fit:
    """Rows as arrays; `share` is one over the number of rows of a row's question."""

    counts: Float[Array, "n K"]
    shares: Float[Array, "n K"]  # positive where an option exists
    scaled: Float[Array, "n f"]
    means: Float[Array, " f"]
    spreads: Float[Array, " f"]
    question: Int[Array, " n"]
    share: Float[Array, " n"]

    @classmethod
    def of(cls, rows: Predicted) -> "_Fit":
        people = np.nan_to_num(sizes(rows.answers), nan=ASSUMED_N)
        counts = metrics.stack(rows.answers, [a.probs for a in rows.answers]) * people[:, None]
        means, spreads = rows.features.mean(0), rows.features.std(0) + 1e-9
        inside = np.where(_exists(rows), np.maximum(rows.shares, LEAST_SHARE), 0.0)
        question = factorize([a.question_key for a in rows.answers])
        share = 1 / np.bincount(question)[question]
        return cls(counts, inside, (rows.features - means) / spreads, means, spreads, question, share)

    def left_out(self, folds: Int[Array, " n"], penalty: float) -> Float[Array, " n"]:
        """The concentration of each row, fitted on the other folds; on all rows where there is one fold only."""
        found = np.zeros(len(folds))
        for fold in np.unique(folds):
            own = folds == fold
            weights = self.best(own if own.all() else ~own, penalty)
            found[own] = weights[0] + self.scaled[own] @ weights[1:]
        return np.exp(np.clip(found, np.log(LEAST), np.log(MOST)))

    def best(self, rows: Array, penalty: float) -> Float[Array, " w"]:
        """Intercept and slopes of the least penalised loss on some rows; slopes of 0 if the penalty is infinite."""
        width = self.scaled.shape[1] if np.isfinite(penalty) else 0
        unused = self.scaled.shape[1] - width
        questions = len(np.unique(self.question[rows]))

        def loss(w: Float[Array, " w"]) -> tuple[float, Float[Array, " w"]]:
            value, slope = self.loss(rows, np.append(w, np.zeros(unused)))
            pull = penalty * w[1:] if width else np.zeros(0)
            return (value + float(pull @ w[1:]) / 2) / questions, (slope[: len(w)] + np.append(0.0, pull)) / questions

        start = np.append(np.log(20.0), np.zeros(width))
        bounds = [(np.log(LEAST), np.log(MOST)), *[(-3.0, 3.0)] * width]
        found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
        return np.append(found.x, np.zeros(unused))

    def loss(self, rows: Array, weights: Float[Array, " w"]) -> tuple[float, Float[Array, " w"]]:
        """Negative log likelihood of some rows, each question's mean over its rows; and its slope in the weights."""
        x, share = self.scaled[rows], self.share[rows]
        k = np.exp(np.clip(weights[0] + x @ weights[1:], np.log(LEAST), np.log(MOST)))
        value, by_log_k = self.likelihood(k, rows)
        return -float(value @ share), -np.append((by_log_k * share).sum(), (by_log_k * share) @ x)

    def likelihood(
        self, k: Float[Array, " n"], rows: Array | slice = slice(None)
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """The log likelihood of each row, less what k does not change; and its slope in log k."""
        counts, shares = self.counts[rows], self.shares[rows]
        total, exists = counts.sum(-1), shares > 0
        alpha = np.where(exists, k[:, None] * shares, 1.0)
        options = np.where(exists, special.gammaln(counts + alpha) - special.gammaln(alpha), 0.0).sum(-1)
        slopes = np.where(exists, shares * (special.digamma(counts + alpha) - special.digamma(alpha)), 0.0).sum(-1)
        value = special.gammaln(k) - special.gammaln(total + k) + options
        return value, k * (special.digamma(k) - special.digamma(total + k) + slopes)
