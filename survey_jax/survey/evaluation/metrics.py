"""How far predicted answer distributions are from the human ones: metrics of a row, and their means over a split.

Every metric has the signature (target, prediction, option_count) -> Float[n]; those of ordered options have `points`
(Float[n k]) as their third argument. Distributions of different lengths are padded with zeros, which `option_count`
tells from real ones. docs/metrics.md has the formulas, ranges and sources, and says what the `paper_` metrics are for.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special

from survey_jax.common.errors import UserError
from survey_jax.survey.evaluation.bootstrap import SAMPLES, Bootstrap, Interval, factorize
from survey_jax.survey.table import Answer

Array = np.ndarray
Shares = Float[Array, "n k"]
Scores = Float[Array, " n"]
OptionCounts = Int[Array, " n"]
RowMetrics = Mapping[str, Float[Array, " _"]]  # metric -> its value in each row, as `row_metrics` gives them
Distributions = Sequence[Sequence[float] | Array] | Array  # one a row, ragged or padded

POINTS = "ordinal_values"  # extra column with the place of each option on the question's scale
CLIP = 1e-12  # least predicted share in KL: finite where a model rules out what somebody answered
BY_QUESTION = "_by_question"  # suffix of a metric's macro average over questions
BETWEEN_GROUP_VARIANCE_RATIO = "between_group_variance_ratio"


def paper_1_minus_jsd(target: Shares, prediction: Shares, option_count: OptionCounts) -> Scores:
    """One minus the square root of the Jensen-Shannon divergence in nats, as scipy's `jensenshannon` gives it."""
    return 1 - np.sqrt(_js_nats(target, prediction))


def paper_emd(target: Shares, prediction: Shares, option_count: OptionCounts) -> Scores:
    """Mean |sort(p) - sort(q)|: scipy's `wasserstein_distance(p, q)`, the shares taken as samples; blind to order."""
    # Absent options sort first in both and cancel.
    return np.abs(np.sort(target) - np.sort(prediction)).sum(-1) / option_count


def paper_kl(target: Shares, prediction: Shares, option_count: OptionCounts) -> Scores:
    """KL in nats over the number of options: the published code's loss."""
    return kl(target, prediction, option_count) / option_count


def kl(target: Shares, prediction: Shares, option_count: OptionCounts) -> Scores:
    """KL(target || prediction) in nats; 0 log 0 = 0; the prediction is clipped from below at `CLIP`."""
    return special.rel_entr(target, np.maximum(prediction, CLIP)).sum(-1)


def jsd(target: Shares, prediction: Shares, option_count: OptionCounts) -> Scores:
    """Jensen-Shannon divergence in bits, in [0, 1] (Lin 1991)."""
    return _js_nats(target, prediction) / np.log(2)


def tv(target: Shares, prediction: Shares, option_count: OptionCounts) -> Scores:
    """Total variation distance: the share of respondents to move, in [0, 1]."""
    return np.abs(target - prediction).sum(-1) / 2


def emd(target: Shares, prediction: Shares, points: Shares) -> Scores:
    """Earth mover's distance between ordered options over its maximum, the scale's range (SubPOP's WD), in [0, 1]."""
    moved = np.abs(np.cumsum(target - prediction, axis=-1))[:, :-1] * np.diff(points, axis=-1)
    return moved.sum(-1) / (points[:, -1] - points[:, 0])


def mean_error(target: Shares, prediction: Shares, points: Shares) -> Scores:
    """|difference of the mean answers| in scale points."""
    return np.abs(mean_answer(target, points) - mean_answer(prediction, points))


def sd_error(target: Shares, prediction: Shares, points: Shares) -> Scores:
    """|difference of the standard deviations of the answers| in scale points."""
    deviations = []
    for probs in (target, prediction):
        variance = (probs * (points - mean_answer(probs, points)[:, None]) ** 2).sum(-1)
        deviations.append(np.sqrt(variance))
    return np.abs(deviations[0] - deviations[1])


def entropy_ratio(target: Shares, prediction: Shares, option_count: OptionCounts) -> Scores:
    """H(prediction) / H(target): below 1 is overconfident. NaN where all respondents gave the same answer."""
    entropy = special.entr(target).sum(-1)
    return special.entr(prediction).sum(-1) / np.where(entropy > 0, entropy, np.nan)


def mode_accuracy(target: Shares, prediction: Shares, option_count: OptionCounts) -> Scores:
    """Chance that the prediction's most likely option, ties drawn at random, is a most frequent one of the target."""
    predicted, actual = (p >= p.max(-1, keepdims=True) - 1e-9 for p in (prediction, target))
    return (predicted & actual).sum(-1) / np.maximum(predicted.sum(-1), 1)


def simbench(target: Shares, prediction: Shares, option_count: OptionCounts) -> Scores:
    """SimBench score 100 (1 - TV / mean TV of the uniform prediction), the mean being over the rows given.

    100 is perfect, 0 no better than uniform on average. NaN if uniform is exact everywhere.
    """
    baseline = tv(target, uniform(option_count, target.shape[-1]), option_count).mean()
    return 100 * (1 - tv(target, prediction, option_count) / (baseline if baseline > 0 else np.nan))


def uniform(option_count: OptionCounts, width: int) -> Shares:
    """Equal shares over each row's options, zeros up to `width`."""
    return np.where(np.arange(width) < option_count[:, None], 1 / option_count[:, None], 0.0)


def mean_answer(probs: Shares, points: Shares) -> Scores:
    """Mean of the answers in scale points."""
    return (probs * points).sum(-1)


def _js_nats(target: Shares, prediction: Shares) -> Scores:
    """Jensen-Shannon divergence in nats, in the order of scipy's operations."""
    middle = (target + prediction) / 2
    sums = special.rel_entr(target, middle).sum(-1) + special.rel_entr(prediction, middle).sum(-1)
    return np.maximum(sums / 2, 0)  # rounding can leave -1e-17, which has no square root


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric's function and how to read it."""

    function: Callable[[Array, Array, Array], Array]
    better: Literal["higher", "lower", "one"]  # "one": the closer to 1 the better
    ordinal_only: bool = False  # meaningless unless the options are ordered; NaN on other rows
    limits: tuple[float, float] = (0.0, math.inf)  # no mean can be outside, and so no end of an interval


_SHARE = (0.0, 1.0)
METRICS: dict[str, Metric] = {
    "paper_1_minus_jsd": Metric(paper_1_minus_jsd, "higher", limits=_SHARE),
    "paper_emd": Metric(paper_emd, "lower", limits=_SHARE),
    "paper_kl": Metric(paper_kl, "lower"),
    "kl": Metric(kl, "lower"),
    "jsd": Metric(jsd, "lower", limits=_SHARE),
    "tv": Metric(tv, "lower", limits=_SHARE),
    "emd": Metric(emd, "lower", ordinal_only=True, limits=_SHARE),
    "mean_error": Metric(mean_error, "lower", ordinal_only=True),
    "sd_error": Metric(sd_error, "lower", ordinal_only=True),
    "entropy_ratio": Metric(entropy_ratio, "one"),
    "mode_accuracy": Metric(mode_accuracy, "higher", limits=_SHARE),
    "simbench": Metric(simbench, "higher", limits=(-math.inf, 100.0)),
}


@dataclasses.dataclass(frozen=True)
class Humans:
    """What metrics need to know of a table, as arrays.

    Attributes:
      target: human distributions, zeros after a row's last option.
      option_count: how many options each row has.
      points: where the options stand on the row's scale; see `scale_points`.
      ordinal: whether the options are ordered.
      survey: a number for the row's survey.
    """

    target: Shares
    option_count: OptionCounts
    points: Shares
    ordinal: Bool[Array, " n"]
    survey: Int[Array, " n"]


def humans(answers: Sequence[Answer]) -> Humans:
    """Raises UserError for scale points that are not in order."""
    return Humans(
        target=stack(answers, [a.probs for a in answers]),
        option_count=np.array([len(a.options) for a in answers]),
        points=scale_points(answers),
        ordinal=np.array([a.scale == "ordinal" for a in answers], bool),
        survey=factorize([a.survey for a in answers]),
    )


def scale_points(answers: Sequence[Answer]) -> Shares:
    """Where each option stands on its question's scale: at 1, 2, ..., K, or spaced as the codebook says.

    In ordinal rows whose extra column `ordinal_values` has the options' values x, options stand at
    1 + (K - 1) (x - x_1) / (x_K - x_1): only the spacing is the codebook's, and the scale is K - 1 points long either
    way. Places after the last option repeat it.

    Raises:
      UserError: there is not one value for each option, or they neither rise nor fall throughout.
    """
    count = np.array([len(a.options) for a in answers])
    points = np.minimum(np.arange(1.0, count.max() + 1), count[:, None])
    for row, answer in zip(points, answers, strict=True):
        values = answer.extra.get(POINTS)
        if answer.scale != "ordinal" or values is None:
            continue
        try:
            x = np.array(values, float)
        except (TypeError, ValueError):
            x = np.array([])
        if len(x) != len(answer.options) or not ((np.diff(x) > 0).all() or (np.diff(x) < 0).all()):
            raise UserError(
                f"{POINTS} {list(values)} are not {len(answer.options)} values in order: {answer.describe()}"
            )
        row[: len(x)] = 1 + (len(x) - 1) * (x - x[0]) / (x[-1] - x[0])
    return points


def losses(metric: str, values: Scores) -> Scores:
    """A metric's values as losses: negated where higher is better, the distance from 1 where 1 is best."""
    better = METRICS[metric].better
    return np.abs(values - 1) if better == "one" else -values if better == "higher" else values


def row_metrics(answers: Sequence[Answer], predictions: Distributions) -> dict[str, Scores]:
    """Every metric of every row.

    Args:
      answers: n rows.
      predictions: a distribution for each row, of the row's own number of options or with zeros after them. A row of
        NaN says that there is no prediction; its metrics are NaN.

    Raises:
      UserError: the number of predictions, or a prediction's length, sign or sum, does not fit its row; scale points
        that are not in order.

    >>> answer = Answer("S", "q", "Fair?", ("Yes", "No"), (("country", "Kenya"),), (0.75, 0.25))
    >>> row_metrics([answer], [[0.5, 0.5]])["tv"]
    array([0.25])
    """
    prediction = stack(answers, predictions)  # first: it says so where there are no rows
    table = humans(answers)
    return _scores(table, table.target, prediction)


def _scores(table: Humans, target: Shares, prediction: Shares) -> dict[str, Scores]:
    """Row metrics for targets other than the table's own; NaN where there is no target or no prediction."""
    result = {name: np.full(len(target), np.nan) for name in METRICS}
    known = ~(np.isnan(prediction) | np.isnan(target)).any(-1)
    target = np.where(known[:, None], target, table.target)
    for survey in np.unique(table.survey):  # simbench is relative to a survey's mean; the others do not care
        for name, metric in METRICS.items():
            rows = table.survey == survey
            rows = rows & known & table.ordinal if metric.ordinal_only else rows
            scale = (table.points if metric.ordinal_only else table.option_count)[rows]
            result[name][rows] = metric.function(target[rows], prediction[rows], scale)
    for values in result.values():
        values[~known] = np.nan
    return result


def summarise(
    answers: Sequence[Answer], metrics: RowMetrics, seed: int = 0, samples: int = SAMPLES
) -> dict[str, Interval]:
    """Means of row metrics with 95 % intervals: over rows as NAME, over questions' means as NAME_by_question.

    NaN rows do not count (`paired.without_failures` is for predictions that failed); a metric that is NaN on every row
    is left out. Intervals are those of `bootstrap`, cut where the metric ends: with one group, only questions are
    resampled; two questions say next to nothing; with one there is no interval, and low and high are NaN.

    >>> answers = [Answer("S", q, "Fair?", ("Yes", "No"), (("country", "Kenya"),), (0.5, 0.5)) for q in ("q1", "q2")]
    >>> summarise(answers, {"tv": np.array([0.25, 0.5])})["tv"]
    {'value': 0.375, 'low': 0.0, 'high': 1.0}
    """
    bootstrap = Bootstrap(answers, seed, samples)
    result: dict[str, Interval] = {}
    for name, values in metrics.items():
        known = ~np.isnan(values)
        if known.any():
            ratios = bootstrap.ratios(np.where(known, values, 0.0), known.astype(float))
            limits = METRICS[name].limits if name in METRICS else (-math.inf, math.inf)
            result[name], result[name + BY_QUESTION] = (replicates.interval(limits) for replicates in ratios)
    return result


def between_group_variance_ratio(
    answers: Sequence[Answer], predictions: Distributions, seed: int = 0, samples: int = SAMPLES
) -> Interval:
    """Variance collapse: how much the groups differ in the prediction, relative to how much they differ in truth.

    The squared Euclidean distances of the groups' distributions from their question's mean distribution are summed over
    all questions, and the predicted sum is divided by the human one. 1: as diverse as people; 0: one prediction for all
    groups. Rows without a prediction (NaN) do not count. Sampling noise of small groups is part of the human variance,
    so a perfect model scores below 1. The interval is that of `summarise`. NaN if groups do not differ.

    Raises:
      UserError: as `row_metrics`.
    """
    target, prediction = deviations(answers, predictions)
    above, below = ((d**2).sum(-1) for d in (prediction, target))
    return Bootstrap(answers, seed, samples).ratios(above, below)[0].interval((0.0, math.inf))


def deviations(
    answers: Sequence[Answer], predictions: Distributions
) -> tuple[Float[Array, "n k"], Float[Array, "n k"]]:
    """How each row departs from the mean distribution of its question's groups, in truth and in prediction.

    Rows without a prediction (NaN) are 0, and do not count in the mean. A mean is over one wave of a question with one
    list of options: a change over time is not a difference between groups.
    """
    prediction = stack(answers, predictions)
    known = ~np.isnan(prediction).any(-1, keepdims=True)
    question = factorize([(a.question_key, a.wave, a.options) for a in answers])
    size = np.maximum(np.bincount(question, weights=known[:, 0]), 1)[:, None]

    def deviation(probs: Array) -> Array:
        used = np.where(known, probs, 0.0)
        total = np.zeros((len(size), probs.shape[1]))
        np.add.at(total, question, used)
        result = used - (total / size)[question]
        return np.where(known & (np.abs(result).max(-1, keepdims=True) > 1e-12), result, 0.0)  # below: rounding

    return deviation(stack(answers, [a.probs for a in answers])), deviation(prediction)


def sampling_ceiling(answers: Sequence[Answer], rng: np.random.Generator, draws: int = 10) -> dict[str, Scores]:
    """What the population's own shares would score against a survey of this size: the best to hope for.

    Each row is surveyed again, by a multinomial sample of `n_effective` (else `n`) respondents from its distribution,
    and that distribution is the prediction; metrics are averaged over `draws` samples. For distances this is a floor.
    Rows with neither number are NaN. The result has the form of `row_metrics`.
    """
    table = humans(answers)
    return _mean_of_draws(lambda: _scores(table, resample(answers, rng), table.target), draws)


def second_survey(answers: Sequence[Answer], rng: np.random.Generator, draws: int = 10) -> dict[str, Scores]:
    """What a second, independent survey of the same size would score as a prediction of this one.

    Both have sampling error, so this is below the ceiling: a model between the two is as good as asking people again.
    Arguments and result as in `sampling_ceiling`.
    """
    table = humans(answers)
    return _mean_of_draws(lambda: _scores(table, resample(answers, rng), resample(answers, rng)), draws)


def resample(answers: Sequence[Answer], rng: np.random.Generator) -> Shares:
    """The shares of a second sample of `n_effective` (else `n`) respondents; NaN in rows that have neither."""
    target = stack(answers, [a.probs for a in answers])
    size = np.array([a.n_effective or a.n or np.nan for a in answers])
    known = ~np.isnan(size)
    respondents = np.maximum(np.round(np.where(known, size, 1)), 1).astype(int)
    sample = rng.multinomial(respondents, target) / respondents[:, None]
    sample[~known] = np.nan
    return sample


def _mean_of_draws(draw: Callable[[], dict[str, Scores]], draws: int) -> dict[str, Scores]:
    """Means over the draws in which the metric is defined; NaN where it never is."""
    total: dict[str, Scores] = {}
    defined: dict[str, Scores] = {}
    for _ in range(draws):
        for name, values in draw().items():
            finite = ~np.isnan(values)
            total[name] = total.get(name, 0.0) + np.where(finite, values, 0.0)
            defined[name] = defined.get(name, 0) + finite
    return {name: total[name] / np.where(defined[name] > 0, defined[name], np.nan) for name in total}


def stack(answers: Sequence[Answer], distributions: Distributions) -> Shares:
    """Distributions as one array, padded with zeros, checked, and normalised where they sum to 1 within 1e-3.

    Rows of NaN stay. Raises UserError as `row_metrics` does.
    """
    if len(distributions) != len(answers) or not len(answers):
        raise UserError(f"{len(distributions)} predictions for {len(answers)} rows")
    count = np.array([len(a.options) for a in answers])
    given = np.array([len(d) for d in distributions])
    padded = np.zeros((len(answers), max(given.max(), count.max())))
    padded[np.arange(padded.shape[1]) < given[:, None]] = np.fromiter(
        itertools.chain.from_iterable(distributions), float
    )
    inside = np.arange(padded.shape[1]) < count[:, None]
    missing = (np.isnan(padded) | ~inside).all(-1)
    good = np.abs(np.where(inside, padded, 0.0).sum(-1) - 1) < 1e-3
    ok = (given >= count) & (good | missing) & ~(~inside & (padded > 0)).any(-1) & ~(padded < 0).any(-1)
    if not ok.all():
        row = int(np.argmin(ok))
        values = np.asarray(distributions[row], float)
        raise UserError(f"not a distribution over {count[row]} options: {values} for {answers[row].describe()}")
    stacked = np.where(inside, padded, 0.0)[:, : count.max()]
    stacked[missing] = np.nan
    return stacked / stacked.sum(-1, keepdims=True)
