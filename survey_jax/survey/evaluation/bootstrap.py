"""The pigeonhole bootstrap (Owen 2007): intervals for tables whose rows share questions and groups.

Questions and groups are drawn with replacement, independently of each other. A row's weight is the number of times that
its question was drawn, times the number of times that its group was. Every number here is a ratio of two sums over
rows, so one draw needs only two matrix products.
"""

import dataclasses
from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Float, Int, UInt
from scipy import sparse

from survey_jax.survey.table import Answer

Array = np.ndarray
Interval = dict[str, float]  # "value", and the 95 % interval "low", "high"; NaN where there is none
SAMPLES = 1000
_CELLS = 2**21  # questions x samples worked on at once: bounds the memory of tables with very many questions


@dataclasses.dataclass(frozen=True)
class Replicates:
    """A number, and the values that it takes in the bootstrap samples.

    Attributes:
      value: on the rows as they are; NaN where it is not defined.
      sampled: the value in each sample, NaN where a sample leaves it undefined; empty if there is only one question.
    """

    value: float
    sampled: Float[Array, " samples"]

    def interval(self) -> Interval:
        """The 95 % percentile interval."""
        known = self.sampled[np.isfinite(self.sampled)]  # a sparse table's sample can miss every row
        low, high = np.percentile(known, [2.5, 97.5]) if len(known) and np.isfinite(self.value) else (np.nan, np.nan)
        return {"value": float(self.value), "low": float(low), "high": float(high)}

    def p_value(self) -> float:
        """Two-sided p-value of a true value of zero: the least level at which the percentile interval excludes zero.

        It is never below 2 / (samples + 1) (Davison & Hinkley 1997, section 4.2); NaN where there is no interval.
        """
        known = self.sampled[np.isfinite(self.sampled)]
        if not len(known) or not np.isfinite(self.value):
            return np.nan
        tail = min(int((known <= 0).sum()), int((known >= 0).sum()))
        return min(1.0, 2 * (tail + 1) / (len(known) + 1))


class Bootstrap:
    """Draws of questions and groups. Numbers computed with one object, or with the same seed, share their draws.

    >>> answers = [Answer("S", f"q{i}", "Fair?", ("Yes", "No"), (("country", "Kenya"),), (0.5, 0.5)) for i in range(9)]
    >>> interval = Bootstrap(answers).mean(np.arange(9.0), np.ones(9, bool)).interval()
    >>> interval["value"], interval["low"] < 4 < interval["high"]
    (4.0, True)
    """

    def __init__(self, answers: Sequence[Answer], seed: int = 0, samples: int = SAMPLES):
        self.question = factorize([a.question_key for a in answers])
        self.group = factorize([a.group for a in answers])
        self.shape = (int(self.question.max()) + 1, int(self.group.max()) + 1)
        rng, samples = np.random.default_rng(seed), samples if self.shape[0] > 1 else 0
        self.question_draws, self.group_draws = (_multiplicities(size, samples, rng) for size in self.shape)

    def ratios(self, numerator: Float[Array, " n"], denominator: Float[Array, " n"]) -> tuple[Replicates, Replicates]:
        """The ratio of the two sums over all rows, and the mean over questions of each question's own ratio.

        With `denominator` 1 for the rows that count and 0 for the others, these are the mean over rows and the macro
        average over questions. Rows with denominator 0 do not count. If the others all belong to one question, nothing
        is sampled, because one question says nothing about the next.
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
        return Replicates(float(values[0][0]), over_rows), Replicates(float(values[1][0]), by_question)

    def mean(self, values: Float[Array, " n"], known: Array) -> Replicates:
        """Mean over the rows that are `known`, a boolean mask."""
        return self.ratios(np.where(known, values, 0.0), known.astype(float))[0]


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
