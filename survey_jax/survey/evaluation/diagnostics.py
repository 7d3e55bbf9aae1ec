"""What kind of mistakes a system makes: whether it ignores the group, is overconfident, or favours a place in the list.

Each function takes answers and predictions as `metrics.row_metrics` does, and returns numbers with the intervals of
`bootstrap`. Rows without a prediction (NaN) do not count. docs/metrics.md has the formulas and their sources.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import special

from survey_jax.survey.evaluation.bootstrap import SAMPLES, Bootstrap, Interval
from survey_jax.survey.evaluation.metrics import Distributions, Shares, deviations, mean_answer, scale_points, stack
from survey_jax.survey.table import Answer

Array = np.ndarray
MIN_GROUPS = 3  # an order of two groups says little
POSITIVE = (0.0, np.inf)  # the limits of a ratio or a distance


def collapse(
    answers: Sequence[Answer], predictions: Distributions, seed: int = 0, samples: int = SAMPLES
) -> dict[str, Interval]:
    """Whether predictions differ between groups as much as people do, and in the same way.

    Each number compares how rows depart from their question's mean distribution, in truth (d) and in prediction (e),
    pooled over options, groups and questions.

    Returns:
      between_group_variance_ratio: sum e^2 / sum d^2, as `metrics.between_group_variance_ratio`.
      slope: sum d e / sum e^2, the slope of a regression of the true departures on the predicted ones. 1: differences
        are predicted in full; above 1: predictions are too alike; below 1: their differences are exaggerated; 0: they
        mean nothing. NaN if all groups get the same prediction.
      explained: 1 - sum (d - e)^2 / sum d^2, the share of the differences between groups that is predicted. 0 if all
        groups get the same prediction; negative if that would have been better than the differences predicted.
    """
    d, e = deviations(answers, predictions)
    bootstrap = Bootstrap(answers, seed, samples)
    human, predicted = (d**2).sum(-1), (e**2).sum(-1)
    return {
        "between_group_variance_ratio": bootstrap.ratios(predicted, human)[0].interval(POSITIVE),
        "slope": bootstrap.ratios((d * e).sum(-1), predicted)[0].interval(),
        "explained": bootstrap.ratios(human - ((d - e) ** 2).sum(-1), human)[0].interval(),
    }


def diversity(
    answers: Sequence[Answer], predictions: Distributions, seed: int = 0, samples: int = SAMPLES
) -> dict[str, Interval]:
    """How much the answers to one question vary across groups, in prediction and in truth.

    The generalised Jensen-Shannon divergence of the groups' distributions in bits (Lin 1991, section 5): the mean over
    groups of KL(group || the question's mean). Cao et al. 2025 compare the diversity of predictions across countries
    with that of the survey, by a formula that they do not give; this one is ours.

    Returns:
      predicted, human: mean over rows, in bits; ratio: predicted over human, 1 if predictions are as diverse as people.
      The ratio is NaN where people do not differ.
    """
    target, prediction, known = _both(answers, predictions)
    from_mean = deviations(answers, predictions)
    d, e = _to_mean(target, from_mean[0], known), _to_mean(prediction, from_mean[1], known)
    bootstrap = Bootstrap(answers, seed, samples)
    return {
        "predicted": bootstrap.mean(e, known).interval(POSITIVE),
        "human": bootstrap.mean(d, known).interval(POSITIVE),
        "ratio": bootstrap.ratios(e, d)[0].interval(POSITIVE),
    }


def sharpness(
    answers: Sequence[Answer], predictions: Distributions, seed: int = 0, samples: int = SAMPLES
) -> dict[str, Interval]:
    """Whether the distributions are as flat as people's.

    Returns:
      entropy_ratio: the sum of the predictions' entropies over that of the targets. Unlike the metric of this name, a
        mean of ratios, it copes with rows in which everybody agrees.
      entropy_error: the mean absolute difference of the entropies, in bits.
    """
    target, prediction, known = _both(answers, predictions)
    h_target, h_prediction = (np.where(known, special.entr(p).sum(-1) / np.log(2), 0.0) for p in (target, prediction))
    bootstrap = Bootstrap(answers, seed, samples)
    return {
        "entropy_ratio": bootstrap.ratios(h_prediction, h_target)[0].interval(POSITIVE),
        "entropy_error": bootstrap.mean(np.abs(h_prediction - h_target), known).interval(POSITIVE),
    }


def rank_correlations(answers: Sequence[Answer], predictions: Distributions) -> dict[tuple[str, str], float]:
    """Whether the groups are in the right order: Spearman's correlation over the groups of each question.

    Where options are ordered, it is the correlation of the groups' mean answers; elsewhere that of their shares of an
    option, averaged over the options on which groups differ. The same prediction for all groups gets 0.

    Returns:
      (survey, question id) -> correlation in [-1, 1]; only questions with at least MIN_GROUPS groups that differ.
    """
    target, prediction, known = _both(answers, predictions)
    points = scale_points(answers)
    rows: dict[tuple[tuple[str, str], str | None, tuple[str, ...]], list[int]] = defaultdict(list)
    for i in np.flatnonzero(known).tolist():
        rows[(answers[i].question_key, answers[i].wave, answers[i].options)].append(i)
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for (question, _, options), members in rows.items():
        if len(members) < MIN_GROUPS:
            continue
        if all(answers[i].scale == "ordinal" for i in members):
            columns = [mean_answer(p[members], points[members])[:, None] for p in (target, prediction)]
        else:
            columns = [p[members][:, : len(options)] for p in (target, prediction)]
        correlations = _spearman(*columns)
        if not np.isnan(correlations).all():
            found[question].append(float(np.nanmean(correlations)))
    return {question: float(np.mean(values)) for question, values in found.items()}


def rank_correlation(
    answers: Sequence[Answer], predictions: Distributions, seed: int = 0, samples: int = SAMPLES
) -> Interval:
    """The mean of `rank_correlations` over questions; NaN if there are none.

    Only questions are resampled, since ranks cannot be weighted.
    """
    of_question = rank_correlations(answers, predictions)
    first = {a.question_key: a for a in reversed(answers)}
    if not of_question:
        return {"value": np.nan, "low": np.nan, "high": np.nan}
    values = np.array(list(of_question.values()))
    one_group = [dataclasses.replace(first[question], group=()) for question in of_question]
    bootstrap = Bootstrap(one_group, seed, samples)
    return bootstrap.mean(values, np.ones(len(values), bool)).interval((-1.0, 1.0))


def calibration(
    answers: Sequence[Answer], predictions: Distributions, bins: int = 10, seed: int = 0, samples: int = SAMPLES
) -> dict[str, Any]:
    """Whether options that are predicted to get about 30 % do get 30 %, and so on; pooled over options and rows.

    Args:
      bins: how many bins of equal width [0, 1] is cut into; an option with predicted share 1 is in the last one.

    Returns:
      table: one entry for each bin that is not empty: its edges ("from", "to"), n (options), predicted (mean share) and
        human (mean share with its interval).
      error: sum over bins of n |predicted - human| / sum of n (the expected calibration error of Guo et al. 2017, with
        the human share in place of the accuracy), in [0, 1].
    """
    target, prediction, known = _both(answers, predictions)
    count = np.array([len(a.options) for a in answers])
    exists = known[:, None] & (np.arange(target.shape[1]) < count[:, None])
    place = np.minimum((np.where(exists, prediction, 0.0) * bins).astype(int), bins - 1)
    bootstrap = Bootstrap(answers, seed, samples)
    table, error = [], 0.0
    for number in range(bins):
        inside = exists & (place == number)
        if inside.any():
            human = bootstrap.ratios((target * inside).sum(-1), inside.sum(-1).astype(float))[0].interval((0.0, 1.0))
            n, predicted = int(inside.sum()), float(prediction[inside].mean())
            table.append(
                {"from": number / bins, "to": (number + 1) / bins, "n": n, "predicted": predicted, "human": human}
            )
            error += n * abs(predicted - human["value"]) / exists.sum()
    return {"table": table, "error": float(error) if table else np.nan}


def position_bias(
    answers: Sequence[Answer],
    predictions: Distributions,
    orders: Sequence[Sequence[int]],
    seed: int = 0,
    samples: int = SAMPLES,
) -> dict[str, Interval]:
    """Whether the option shown first (A-bias) or last (recency) gets a larger share than people give it.

    Args:
      orders: for each row, which of its options was shown at each place, first place first.

    Returns:
      first, last: mean predicted less mean human share of the option at that place, in [-1, 1]; 0 without bias.
    """
    target, prediction, known = _both(answers, predictions)
    bootstrap = Bootstrap(answers, seed, samples)
    every = np.arange(len(answers))
    result = {}
    for name, place in (("first", 0), ("last", -1)):
        option = np.array([order[place] for order in orders])
        result[name] = bootstrap.mean(prediction[every, option] - target[every, option], known).interval((-1.0, 1.0))
    return result


def diagnose(
    answers: Sequence[Answer],
    predictions: Distributions,
    orders: Sequence[Sequence[int]] | None = None,
    seed: int = 0,
    samples: int = SAMPLES,
) -> dict[str, Any]:
    """All of the above by name, as an entry of metrics.json; `position_bias` where `orders` are given."""
    result: dict[str, Any] = {
        "collapse": collapse(answers, predictions, seed, samples),
        "diversity": diversity(answers, predictions, seed, samples),
        "sharpness": sharpness(answers, predictions, seed, samples),
        "rank_correlation": rank_correlation(answers, predictions, seed, samples),
        "calibration": calibration(answers, predictions, seed=seed, samples=samples),
    }
    if orders is not None:
        result["position_bias"] = position_bias(answers, predictions, orders, seed, samples)
    return result


def _both(answers: Sequence[Answer], predictions: Distributions) -> tuple[Shares, Shares, Array]:
    """Target, prediction (zeros where there is none), and which rows have one."""
    prediction = stack(answers, predictions)
    known = ~np.isnan(prediction).any(-1)
    return stack(answers, [a.probs for a in answers]), np.where(known[:, None], prediction, 0.0), known


def _to_mean(probs: Shares, deviation: Float[Array, "n k"], known: Array) -> Float[Array, " n"]:
    """KL of each row from its question's mean, in bits; 0 where there is no deviation."""
    mean = np.maximum(probs - deviation, 0)
    bits = special.rel_entr(probs, mean).sum(-1) / np.log(2)
    return np.where(known & (deviation != 0).any(-1), np.maximum(bits, 0), 0.0)


def _spearman(truth: Float[Array, "G k"], predicted: Float[Array, "G k"]) -> Float[Array, " k"]:
    """Column by column; NaN where the truth is level, 0 where only the prediction is."""
    from scipy.stats import rankdata  # here: it takes most of a second to import

    # to 12 digits, so that shares equal but for rounding are level
    x, y = (rankdata(np.round(v, 12), axis=0) - (len(v) + 1) / 2 for v in (truth, predicted))
    size = np.sqrt((x**2).sum(0) * (y**2).sum(0))
    correlation = np.divide((x * y).sum(0), size, out=np.zeros_like(size), where=size > 0)
    return np.where((x**2).sum(0) > 0, correlation, np.nan)
