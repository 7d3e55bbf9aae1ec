"""The concentration of a prediction's Dirichlet distribution: how far from it the truth may be, by what foretells it.

log k = a + b x, with features x such as how even the prediction is and how unlike train the row is. Fitted on rows
whose answers are known, by the likelihood of these answers (Dirichlet-multinomial distribution, Mosimann 1962): it
takes the answers' own sampling noise into account, so that k is about the true shares of the group.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy import optimize, special

from survey_jax.survey.evaluation import metrics
from survey_jax.survey.evaluation.bootstrap import factorize
from survey_jax.survey.evaluation.worth import sizes
from survey_jax.survey.prediction.dirichlet import LEAST_SHARE
from survey_jax.survey.table import Answer

Array = np.ndarray
ASSUMED_N = 1000.0  # respondents of a row that does not say: what national surveys ask
LEAST, MOST = 0.5, 10_000.0  # what is found lies between them
_PENALTIES = (np.inf, 3.0, 0.3)  # on squared slopes, for each question; infinite: none of the features counts
_FOLDS = 10
_SHIFT = 0.5  # standard deviation of the prior of a shift of log k


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


def fit_concentration(
    answers: Sequence[Answer], shares: Float[Array, "n K"], features: Float[Array, "n f"]
) -> Concentration:
    """The concentration under which people's answers are likeliest, every question counting the same.

    The penalty on slopes is the one with the best likelihood on questions left out, a tenth at a time; if that is
    infinite, the concentration is the same for all rows.

    Args:
      shares: predicted without having seen the rows; 0 where an option does not exist.
      features: of each row.

    >>> rng = np.random.default_rng(0)
    >>> people = rng.dirichlet([20, 10, 20], size=300)  # as far from .4, .2, .4 as the answers of some fifty people
    >>> asked = rng.multinomial(1000, people) / 1000
    >>> rows = [Answer("S", f"q{i}", "Fair?", ("A", "B", "C"), (), tuple(p), n=1000) for i, p in enumerate(asked)]
    >>> fitted = fit_concentration(rows, np.array([[0.4, 0.2, 0.4]] * 300), np.zeros((300, 0)))
    >>> bool(40 < np.exp(fitted.intercept) < 60)
    True
    """
    fit = _Fit.of(answers, shares, features)
    folds = np.random.default_rng(0).permutation(fit.question.max() + 1)[fit.question] % _FOLDS
    penalties = _PENALTIES if features.shape[1] and fit.question.max() + 1 >= 2 * _FOLDS else _PENALTIES[:1]
    losses = [sum(_left_out(fit, folds == fold, p) for fold in range(_FOLDS)) for p in penalties]
    weights = fit.best(np.ones(len(answers), bool), penalties[int(np.argmin(losses))])
    return Concentration(float(weights[0]), *(tuple(map(float, part)) for part in (
        weights[1:], fit.means, fit.spreads, features.min(0, initial=np.inf), features.max(0, initial=-np.inf)
    )))  # fmt: skip


def shifted(
    fitted: Concentration, answers: Sequence[Answer], shares: Float[Array, "n K"], features: Float[Array, "n f"]
) -> Concentration:
    """The same but for its level, fitted on other rows: these may be too few to tell more.

    The shift of log k has a normal prior of standard deviation _SHIFT, which weighs as much as one question.
    """
    fit, logs = _Fit.of(answers, shares, features), np.log(fitted(features))

    def loss(shift: float) -> float:
        return -float(fit.likelihood(np.exp(logs + shift))[0] @ fit.share) + shift**2 / (2 * _SHIFT**2)

    found = optimize.minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded")
    return dataclasses.replace(fitted, intercept=fitted.intercept + float(found.x))


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
    def of(cls, answers: Sequence[Answer], shares: Float[Array, "n K"], features: Float[Array, "n f"]) -> "_Fit":
        exists = np.arange(shares.shape[1]) < np.array([len(a.options) for a in answers])[:, None]
        people = np.nan_to_num(sizes(answers), nan=ASSUMED_N)
        counts = metrics.stack(answers, [a.probs for a in answers]) * people[:, None]
        means, spreads = features.mean(0), features.std(0) + 1e-9
        inside = np.where(exists, np.maximum(shares, LEAST_SHARE), 0.0)
        question = factorize([a.question_key for a in answers])
        share = 1 / np.bincount(question)[question]
        return cls(counts, inside, (features - means) / spreads, means, spreads, question, share)

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


def _left_out(fit: _Fit, own: Array, penalty: float) -> float:
    """The loss on some rows, fitted on the others."""
    return fit.loss(own, fit.best(~own, penalty))[0] if own.any() and not own.all() else 0.0
