"""How far predicted answer distributions are from the human ones: two tracks, per row and per split.

Every metric has the signature (target, prediction, option_count) -> Float[n]. Distributions of different lengths are
stacked with zeros at the end: an absent option has no mass in either, and `option_count` tells it from a real zero.
docs/metrics.md has the formulas, ranges and sources.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse, special

from survey_jax.errors import UserError
from survey_jax.survey.table import Answer

Array = np.ndarray
Shares = Float[Array, "n k"]
Scores = Float[Array, " n"]
Counts = Int[Array, " n"]
Distributions = Sequence[Sequence[float] | Array] | Array  # one a row, ragged or padded
Interval = dict[str, float]  # "value", and the 95 % interval "low", "high"

CLIP = 1e-12  # least predicted share in KL: finite where a model rules out what somebody answered
BY_QUESTION = "_by_question"  # suffix of a metric's macro average over questions
BETWEEN_GROUP_VARIANCE_RATIO = "between_group_variance_ratio"


def paper_1_minus_jsd(target: Shares, prediction: Shares, option_count: Counts) -> Scores:
    """One minus the square root of the Jensen-Shannon divergence in nats, as scipy's `jensenshannon` gives it."""
    return 1 - np.sqrt(jsd(target, prediction, option_count) * np.log(2))


def paper_emd(target: Shares, prediction: Shares, option_count: Counts) -> Scores:
    """Mean |sort(p) - sort(q)|: scipy's `wasserstein_distance(p, q)`, the shares taken as samples; blind to order."""
    # Absent options sort first in both and cancel.
    return np.abs(np.sort(target) - np.sort(prediction)).sum(-1) / option_count


def paper_kl(target: Shares, prediction: Shares, option_count: Counts) -> Scores:
    """KL in nats over the number of options: the published code's loss."""
    return kl(target, prediction, option_count) / option_count


def kl(target: Shares, prediction: Shares, option_count: Counts) -> Scores:
    """KL(target || prediction) in nats; 0 log 0 = 0; the prediction is clipped from below at `CLIP`."""
    return special.rel_entr(target, np.maximum(prediction, CLIP)).sum(-1)


def jsd(target: Shares, prediction: Shares, option_count: Counts) -> Scores:
    """Jensen-Shannon divergence in bits, in [0, 1] (Lin 1991)."""
    middle = (target + prediction) / 2
    nats = (special.rel_entr(target, middle) + special.rel_entr(prediction, middle)).sum(-1) / 2
    return np.maximum(nats, 0) / np.log(2)  # rounding can leave -1e-17, which has no square root


def tv(target: Shares, prediction: Shares, option_count: Counts) -> Scores:
    """Total variation distance: the share of respondents to move, in [0, 1]."""
    return np.abs(target - prediction).sum(-1) / 2


def emd(target: Shares, prediction: Shares, option_count: Counts) -> Scores:
    """Earth mover's distance between ordered options over its maximum K - 1 (SubPOP's WD), in [0, 1]."""
    return np.abs(np.cumsum(target - prediction, axis=-1)).sum(-1) / (option_count - 1)


def mean_error(target: Shares, prediction: Shares, option_count: Counts) -> Scores:
    """|difference of the mean answers| in scale points, options at 1..K."""
    return np.abs(_moments(target)[0] - _moments(prediction)[0])


def sd_error(target: Shares, prediction: Shares, option_count: Counts) -> Scores:
    """|difference of the standard deviations of the answers| in scale points, options at 1..K."""
    return np.abs(_moments(target)[1] - _moments(prediction)[1])


def entropy_ratio(target: Shares, prediction: Shares, option_count: Counts) -> Scores:
    """H(prediction) / H(target): below 1 is too sure of itself. NaN where all respondents gave one answer."""
    entropy = special.entr(target).sum(-1)
    return special.entr(prediction).sum(-1) / np.where(entropy > 0, entropy, np.nan)


def mode_accuracy(target: Shares, prediction: Shares, option_count: Counts) -> Scores:
    """Chance that the prediction's most likely option, drawn among ties, is a most frequent one of the target."""
    predicted, actual = (p >= p.max(-1, keepdims=True) - 1e-9 for p in (prediction, target))
    return (predicted & actual).sum(-1) / np.maximum(predicted.sum(-1), 1)


def simbench(target: Shares, prediction: Shares, option_count: Counts) -> Scores:
    """SimBench score 100 (1 - TV / mean TV of the uniform prediction), the mean being over the rows given.

    100 is perfect, 0 no better than uniform on average. NaN if uniform is exact everywhere.
    """
    baseline = tv(target, uniform(option_count, target.shape[-1]), option_count).mean()
    return 100 * (1 - tv(target, prediction, option_count) / (baseline if baseline > 0 else np.nan))


def uniform(option_count: Counts, width: int) -> Shares:
    """Equal shares over each row's options, zeros up to `width`."""
    return np.where(np.arange(width) < option_count[:, None], 1 / option_count[:, None], 0.0)


def _moments(probs: Shares) -> tuple[Scores, Scores]:
    """Mean and standard deviation of the option number, counted from 1."""
    points = np.arange(1, probs.shape[-1] + 1)
    mean = probs @ points
    return mean, np.sqrt(np.maximum(probs @ points**2 - mean**2, 0))


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric's function and how to read it."""

    function: Callable[[Array, Array, Array], Array]
    better: Literal["higher", "lower", "one"]  # "one": the closer to 1 the better
    ordinal_only: bool = False  # meaningless unless the options are ordered; NaN on other rows


METRICS: dict[str, Metric] = {
    "paper_1_minus_jsd": Metric(paper_1_minus_jsd, "higher"),
    "paper_emd": Metric(paper_emd, "lower"),
    "paper_kl": Metric(paper_kl, "lower"),
    "kl": Metric(kl, "lower"),
    "jsd": Metric(jsd, "lower"),
    "tv": Metric(tv, "lower"),
    "emd": Metric(emd, "lower", ordinal_only=True),
    "mean_error": Metric(mean_error, "lower", ordinal_only=True),
    "sd_error": Metric(sd_error, "lower", ordinal_only=True),
    "entropy_ratio": Metric(entropy_ratio, "one"),
    "mode_accuracy": Metric(mode_accuracy, "higher"),
    "simbench": Metric(simbench, "higher"),
}


def row_metrics(answers: Sequence[Answer], predictions: Distributions) -> dict[str, Scores]:
    """Every metric of every row.

    Args:
      answers: n rows.
      predictions: one distribution a row, either of the row's own number of options or with zeros after them.
        A row of NaN says that there is no prediction; its metrics are NaN.

    Raises:
      UserError: the number of predictions, or a prediction's length, sign or sum, does not fit its row.
    """
    prediction = _stack(answers, predictions)
    target, option_count = _targets(answers)
    ordinal = np.array([a.scale == "ordinal" for a in answers], bool)
    surveys = np.array([a.survey for a in answers])
    result = {name: np.full(len(answers), np.nan) for name in METRICS}
    for survey in np.unique(surveys):  # simbench is relative to a survey's mean; the others do not care
        rows = surveys == survey
        for name, metric in METRICS.items():
            result[name][rows] = metric.function(target[rows], prediction[rows], option_count[rows])
    missing = np.isnan(prediction).any(-1)
    for name, metric in METRICS.items():
        result[name][missing | (~ordinal & metric.ordinal_only)] = np.nan
    return result


def summarise(
    answers: Sequence[Answer], metrics: Mapping[str, Scores], seed: int = 0, samples: int = 1000
) -> dict[str, Interval]:
    """Means of row metrics with 95 % intervals: over rows as NAME, over questions' means as NAME_by_question.

    NaN rows do not count; a metric that is NaN on every row is left out. The interval is the pigeonhole bootstrap
    (Owen 2007): questions and groups are drawn with replacement, each on its own, and a row weighs the product of
    their multiplicities. With one question or one group only the other is resampled; with one of both, low and high
    are NaN.
    """
    bootstrap = _Bootstrap(answers, seed, samples)
    result: dict[str, Interval] = {}
    for name, values in metrics.items():
        if not np.isnan(values).all():
            known = ~np.isnan(values)
            result[name], result[name + BY_QUESTION] = bootstrap.means(
                np.where(known, values, 0.0), known.astype(float)
            )
    return result


def between_group_variance_ratio(
    answers: Sequence[Answer], predictions: Distributions, seed: int = 0, samples: int = 1000
) -> Interval:
    """Variance collapse: how much the groups differ in the prediction, relative to how much they differ in truth.

    For each question, the squared Euclidean distances of the groups' distributions from the question's mean
    distribution are summed; predicted sums over human sums, pooled over questions. 1: as diverse as people; 0: all
    groups get one answer. Rows without prediction (NaN) do not count. Sampling noise of small groups is part of the
    human variance, so a perfect model scores below 1. Interval as in `summarise`. NaN if groups do not differ.

    Raises:
      UserError: as `row_metrics`.
    """
    prediction = _stack(answers, predictions)
    known = ~np.isnan(prediction).any(-1)
    target, _ = _targets(answers)
    question = _codes([(a.question_key, a.options) for a in answers])

    def squared_deviation(probs: Array) -> Array:
        used = np.where(known[:, None], probs, 0.0)
        total = np.zeros((question.max() + 1, probs.shape[1]))
        np.add.at(total, question, used)
        size = np.bincount(question, weights=known)[:, None]
        mean = total / np.maximum(size, 1)
        distance = ((used - mean[question]) ** 2).sum(-1)
        return np.where(known & (distance > 1e-24), distance, 0.0)  # below: rounding of equal distributions

    return _Bootstrap(answers, seed, samples).means(squared_deviation(prediction), squared_deviation(target))[0]


def sampling_ceiling(answers: Sequence[Answer], rng: np.random.Generator, draws: int = 10) -> dict[str, Scores]:
    """What a second, independent survey of the same size would score against this one: the best to hope for.

    Each row's prediction is a multinomial sample of `n_effective` (else `n`) respondents from its own distribution;
    metrics are averaged over `draws` samples. Rows without either number are NaN. Same form as `row_metrics`.
    """
    target, _ = _targets(answers)
    size = np.array([a.n_effective or a.n or np.nan for a in answers])
    known = ~np.isnan(size)
    respondents = np.maximum(np.round(np.where(known, size, 1)), 1).astype(int)
    total = {name: np.zeros(len(answers)) for name in METRICS}
    for _ in range(draws):
        sample = rng.multinomial(respondents, target) / respondents[:, None]
        sample[~known] = np.nan
        for name, values in row_metrics(answers, sample).items():
            total[name] += values / draws
    return total


class _Bootstrap:
    """Draws of questions and groups, shared by all metrics of a split so that their intervals are comparable."""

    def __init__(self, answers: Sequence[Answer], seed: int, samples: int):
        self.question = _codes([a.question_key for a in answers])
        self.group = _codes([a.group for a in answers])
        self.shape = (self.question.max() + 1, self.group.max() + 1)
        rng = np.random.default_rng(seed)
        self.questions, self.groups = (
            rng.multinomial(m, np.full(m, 1 / m), samples).T.astype(float) for m in self.shape
        )

    def means(self, numerator: Scores, denominator: Scores) -> tuple[Interval, Interval]:
        """Ratio of weighted sums over all rows, and the mean of the questions' own ratios, with intervals."""
        one_each = (np.ones((self.shape[0], 1)), np.ones((self.shape[1], 1)))
        values = self._ratios(numerator, denominator, *one_each)
        sampled = self._ratios(numerator, denominator, self.questions, self.groups)
        return self._interval(values[0][0], sampled[0]), self._interval(values[1][0], sampled[1])

    def _ratios(self, numerator: Array, denominator: Array, questions: Array, groups: Array) -> tuple[Array, Array]:
        """Both ratios for each sample; questions, groups: Float[Q samples], Float[G samples] multiplicities."""
        # A question's sums over its resampled groups, Float[Q samples].
        above, below = (
            sparse.csr_matrix((x, (self.question, self.group)), self.shape) @ groups for x in (numerator, denominator)
        )
        answered = questions * (below > 0)
        own = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
        over_rows = _ratio((questions * above).sum(0), (questions * below).sum(0))
        return over_rows, _ratio((answered * own).sum(0), answered.sum(0))

    def _interval(self, value: float, sampled: Array) -> Interval:
        sampled = sampled[np.isfinite(sampled)]  # a sparse table's sample can miss every row
        low, high = np.percentile(sampled, [2.5, 97.5]) if len(sampled) and max(self.shape) > 1 else (np.nan, np.nan)
        return {"value": float(value), "low": float(low), "high": float(high)}


def _ratio(above: Array, below: Array) -> Array:
    return above / np.where(below > 0, below, np.nan)


def _codes(keys: Sequence[object]) -> Array:
    """Numbers the distinct keys 0.. in order of appearance."""
    number: dict[object, int] = {}
    return np.array([number.setdefault(key, len(number)) for key in keys])


def _targets(answers: Sequence[Answer]) -> tuple[Shares, Counts]:
    """Human distributions padded with zeros, and how many options each row has."""
    return _stack(answers, [a.probs for a in answers]), np.array([len(a.options) for a in answers])


def _stack(answers: Sequence[Answer], distributions: Distributions) -> Shares:
    """Pads to the longest row's number of options; checks every row; rows that sum to 1 within 1e-3 are normalised."""
    if len(distributions) != len(answers) or not len(answers):
        raise UserError(f"{len(distributions)} predictions for {len(answers)} rows")
    stacked = np.zeros((len(answers), max(len(a.options) for a in answers)))
    for row, answer, given in zip(stacked, answers, distributions, strict=True):
        values, count = np.asarray(given, float), len(answer.options)
        row[:count] = values[:count] if len(values) >= count else np.nan
        ok = len(values) >= count and not (values[count:] > 0).any() and not (values < 0).any()
        if not (ok and (abs(values[:count].sum() - 1) < 1e-3 or np.isnan(values[:count]).all())):
            raise UserError(f"not a distribution over {count} options: {values} for {answer.describe()}")
    return stacked / stacked.sum(-1, keepdims=True)
