"""The pigeonhole bootstrap (Owen 2007): intervals for tables whose rows share questions and groups.

Questions and groups are drawn with replacement, independently of each other. A row's weight is the number of times that
its question was drawn, times the number of times that its group was. Every number here is a ratio of two sums over
rows, so one draw needs only two matrix products. Where questions or groups are few, what is drawn varies too little,
and the sampled values are spread about the value as Student's t asks (`Bootstrap.widening`).
"""

import dataclasses
from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Float, Int, UInt
from scipy import sparse, special

from survey_jax.survey.table import Answer

Array = np.ndarray
Interval = dict[str, float]  # "value", and the 95 % interval "low", "high"; NaN where there is none
SAMPLES = 1000
LEVEL = 0.05  # a difference is called clear where p is below it, which is where its interval excludes zero
_CELLS = 2**21  # questions x samples worked on at once: bounds the memory of tables with very many questions


@dataclasses.dataclass(frozen=True)
class Replicates:
    """A number, and the values that it takes in the bootstrap samples.

    Interval and p-value agree: p is below LEVEL if and only if the interval excludes zero.

    Attributes:
      value: on the rows as they are; NaN where it is not defined.
      sampled: the value in each sample, NaN where a sample leaves it undefined; empty if there is only one question.
      comparisons: how many numbers are tested together. Bonferroni's correction divides the level of each by it.
    """

    value: float
    sampled: Float[Array, " samples"]
    comparisons: int = 1

    def interval(self, limits: tuple[float, float] = (-np.inf, np.inf)) -> Interval:
        """The percentile interval that holds the true value in 95 % or, corrected, in 1 - LEVEL / comparisons.

        Its ends are NaN where there are no samples, or too few of them for the level: 40 times the comparisons are the
        least. They are moved into `limits`, which the number cannot leave.
        """
        known = self._known()
        outside = int((self._p_values(len(known)) < LEVEL).sum()) - 1  # samples that may lie beyond each end
        low, high = (known[outside], known[-1 - outside]) if outside >= 0 else (np.nan, np.nan)
        low, high = np.clip([low, high], *limits)
        return {"value": float(self.value), "low": float(low), "high": float(high)}

    def p_value(self) -> float:
        """Two-sided p-value of a true value of zero, times `comparisons` (at most 1).

        It is never below 2 comparisons / (samples + 1) (Davison & Hinkley 1997, section 4.2); NaN without samples.
        """
        known = self._known()
        tail = min(int((known <= 0).sum()), int((known >= 0).sum()))
        return float(self._p_values(len(known))[tail]) if len(known) else np.nan

    def _known(self) -> Float[Array, " known"]:
        """The samples that have a value, sorted: a sparse table's sample can miss every row."""
        return np.sort(self.sampled[np.isfinite(self.sampled)]) if np.isfinite(self.value) else np.array([])

    def _p_values(self, samples: int) -> Float[Array, " tails"]:
        """The p-value for each number of samples, 0 to all, on the rarer side of zero or at it."""
        return np.minimum(1.0, self.comparisons * 2 * (np.arange(samples + 1) + 1) / (samples + 1))


class Bootstrap:
    """Draws of questions and groups. Numbers computed with one object, or with the same seed, share their draws.

    Args:
      comparisons: as in `Replicates`.

    >>> answers = [Answer("S", f"q{i}", "Fair?", ("Yes", "No"), (("country", "Kenya"),), (0.5, 0.5)) for i in range(9)]
    >>> interval = Bootstrap(answers).mean(np.arange(9.0), np.ones(9, bool)).interval()
    >>> interval["value"], interval["low"] < 4 < interval["high"]
    (4.0, True)
    """

    def __init__(self, answers: Sequence[Answer], seed: int = 0, samples: int = SAMPLES, comparisons: int = 1):
        self.question = factorize([a.question_key for a in answers])
        self.group = factorize([a.group for a in answers])
        self.shape = (int(self.question.max()) + 1, int(self.group.max()) + 1)
        self.comparisons = comparisons
        rng, samples = np.random.default_rng(seed), samples if self.shape[0] > 1 else 0
        self.question_draws, self.group_draws = (_multiplicities(size, samples, rng) for size in self.shape)

    def ratios(self, numerator: Float[Array, " n"], denominator: Float[Array, " n"]) -> tuple[Replicates, Replicates]:
        """The ratio of the two sums over all rows, and the mean over questions of each question's own ratio.

        With `denominator` 1 for the rows that count and 0 for the others, these are the mean over rows and the macro
        average over questions. Rows with denominator 0 do not count. If the others all belong to one question, nothing
        is sampled, because one question says nothing about the next.

        Each sampled value's distance from the value is multiplied by `widening`, so that intervals cover where
        questions or groups are few.
        """
        cells = [sparse.csr_matrix((x, (self.question, self.group)), self.shape) for x in (numerator, denominator)]
        one_each = [np.ones((size, 1)) for size in self.shape]
        values = _ratios(*cells, *one_each)
        samples = self.question_draws.shape[1] if len(np.unique(self.question[denominator != 0])) > 1 else 0
        step = max(1, _CELLS // max(self.shape))
        sampled = [np.zeros((2, 0))]
        for begin in range(0, samples, step):
            part = slice(begin, begin + step)
            draws = (d[:, part].astype(float) for d in (self.question_draws, self.group_draws))
            sampled.append(np.stack(_ratios(*cells, *draws)))
        over_rows, by_question = np.concatenate(sampled, axis=1)
        below = np.bincount(self.question, denominator)[self.question]
        share = np.divide(1, below, out=np.zeros_like(below), where=below > 0)  # all questions weigh the same
        return (
            self._spread(values[0], over_rows, numerator, denominator),
            self._spread(values[1], by_question, share * numerator, share * denominator),
        )

    def _spread(self, value: Array, sampled: Array, numerator: Array, denominator: Array) -> Replicates:
        center = float(value[0])
        return Replicates(center, center + self.widening(numerator, denominator) * (sampled - center), self.comparisons)

    def widening(self, numerator: Float[Array, " n"], denominator: Float[Array, " n"]) -> float:
        """How many times further from the value the samples of a ratio of sums must lie, for intervals to cover.

        The variance of the ratio is v_q + v_g: a part from questions and one from groups, each the sum over the C
        clusters of the square of the cluster's influence on the ratio. The bootstrap finds about z sqrt(v_q + v_g) for
        half an interval, z being the normal quantile. With few clusters it should be sqrt(t_q^2 c_q v_q + t_g^2 c_g
        v_g), where c = C / (C - 1) and t is the quantile of Student's t with C - 1 degrees of freedom: each part with
        its own t, which is never too narrow for independent normal parts (Banerjee 1961, Sankhya A 23). Groups do not
        count where there is one: the interval is about that group.

        Returns:
          The second over the first: 1.04 with 50 questions and 50 groups, 1.9 with 4 and 4. 1 where nothing varies.
        """
        total = denominator.sum()
        if not total:
            return 1.0
        influence = (numerator - numerator.sum() / total * denominator) / total
        counted = denominator != 0
        tail = LEVEL / self.comparisons / 2
        normal = student = 0.0
        for clusters in (self.question, self.group):
            count = len(np.unique(clusters[counted]))
            if count > 1:
                variance = float((np.bincount(clusters, influence) ** 2).sum())
                normal += variance * special.ndtri(tail) ** 2
                student += variance * special.stdtrit(count - 1, tail) ** 2 * count / (count - 1)
        return float(np.sqrt(student / normal)) if normal else 1.0

    def mean(self, values: Float[Array, " n"], known: Array) -> Replicates:
        """Mean over the rows that are `known`, a boolean mask."""
        return self.ratios(np.where(known, values, 0.0), known.astype(float))[0]

    def sums(self, values: Float[Array, "n m"]) -> Float[Array, "samples m"]:
        """The sum over rows in each sample, column by column."""
        result = np.empty((self.question_draws.shape[1], values.shape[1]))
        step = max(1, _CELLS // len(values))
        for begin in range(0, len(result), step):
            part = slice(begin, begin + step)
            draws = self.question_draws[self.question, part].astype(float) * self.group_draws[self.group, part]
            result[part] = draws.T @ values
        return result


def factorize(keys: Sequence[Hashable]) -> Int[Array, " n"]:
    """Replaces keys by numbers: the distinct keys are 0, 1, 2, ... in order of appearance.

    >>> factorize(["Kenya", "Peru", "Kenya"])
    array([0, 1, 0])
    """
    number: dict[Hashable, int] = {}
    return np.array([number.setdefault(key, len(number)) for key in keys], int)


def _multiplicities(size: int, samples: int, rng: np.random.Generator) -> UInt[Array, "size samples"]:
    """How often each of `size` items is drawn, in `size` draws with replacement; one column a sample."""
    result = np.empty((size, samples), np.uint16)
    step = max(1, _CELLS // size)
    for begin in range(0, samples, step):
        count = min(step, samples - begin)
        drawn = rng.integers(size, size=(count, size)) + size * np.arange(count)[:, None]
        result[:, begin : begin + count] = np.bincount(drawn.ravel(), minlength=count * size).reshape(count, size).T
    return result


def _ratios(
    numerator: sparse.csr_matrix,
    denominator: sparse.csr_matrix,
    questions: Float[Array, "Q samples"],
    groups: Float[Array, "G samples"],
) -> tuple[Float[Array, " samples"], Float[Array, " samples"]]:
    """Both ratios for each sample.

    Args:
      numerator, denominator: a question's sum over the rows of a group, Float[Q G].
      questions, groups: how often each was drawn.
    """
    above, below = numerator @ groups, denominator @ groups  # a question's sums over its groups, Float[Q samples]
    answered = questions * (below > 0)
    own = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    over_rows = _ratio((questions * above).sum(0), (questions * below).sum(0))
    return over_rows, _ratio((answered * own).sum(0), answered.sum(0))


def _ratio(above: Array, below: Array) -> Array:
    return above / np.where(below > 0, below, np.nan)
