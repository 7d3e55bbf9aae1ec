"""Compares systems on the same rows: paired differences, skill between baseline and ceiling, predictions that failed.

All intervals are those of `bootstrap`; with the same seed, every system is scored on the same draws of questions and
groups. docs/metrics.md says how to read the numbers.
"""

from collections.abc import Sequence

import numpy as np

from survey_jax.common.errors import UserError, some
from survey_jax.survey.evaluation.bootstrap import SAMPLES, Bootstrap, Interval
from survey_jax.survey.evaluation.metrics import (
    METRICS,
    Distributions,
    RowMetrics,
    Shares,
    losses,
    stack,
    uniform,
)
from survey_jax.survey.table import Answer


def difference(
    answers: Sequence[Answer],
    rows_a: RowMetrics,
    rows_b: RowMetrics,
    metric: str,
    seed: int = 0,
    samples: int = SAMPLES,
    comparisons: int = 1,
) -> Interval:
    """The mean of A's metric less B's, over the rows that both have; for a metric that is best at 1, the mean of A's
    distance from 1 less B's.

    Args:
      rows_a, rows_b: row metrics of two systems on the same answers.
      comparisons: how many differences are looked at together. Interval and p-value are corrected for it (Bonferroni),
        so that the chance that any of them is called clear by mistake stays at 5 %.

    Returns:
      value, low, high; p: two-sided, below 0.05 if and only if the interval excludes zero; comparisons; n: rows
      compared; unpaired: rows that only one of the two has. low, high and p are NaN where all rows belong to one
      question. At least 200 samples a comparison are taken, for enough of them beyond the ends of the interval.

    Raises:
      UserError: the rows are not of the same table, or there is none that both have.

    >>> answers = [Answer("S", q, "Fair?", ("Yes", "No"), (("country", "Kenya"),), (0.5, 0.5)) for q in ("q1", "q2")]
    >>> difference(answers, {"tv": np.array([0.25, 0.5])}, {"tv": np.array([0.5, 0.5])}, "tv")["value"]
    -0.125
    """
    a, b = rows_a[metric], rows_b[metric]
    if not len(a) == len(b) == len(answers):
        raise UserError(f"{metric}: {len(a)} and {len(b)} rows to compare for {len(answers)} answers")
    sign = -1 if METRICS[metric].better == "higher" else 1  # undoes the sign that `losses` gives such metrics
    change = sign * (losses(metric, a) - losses(metric, b))
    known = ~np.isnan(change)
    if not known.any():
        raise UserError(f"{metric}: there is no row that both systems have")
    replicates = Bootstrap(answers, seed, max(samples, 200 * comparisons), comparisons).mean(change, known)
    unpaired = int((np.isnan(a) != np.isnan(b)).sum())
    counts = {"n": int(known.sum()), "unpaired": unpaired, "comparisons": comparisons}
    return replicates.interval() | {"p": replicates.p_value()} | counts


def skill(
    answers: Sequence[Answer],
    rows: RowMetrics,
    baseline: RowMetrics,
    ceiling: RowMetrics,
    metric: str,
    seed: int = 0,
    samples: int = SAMPLES,
) -> Interval:
    """Share of the way from a baseline to the sampling ceiling: (score - baseline) / (ceiling - baseline).

    0: no better than the baseline. 1: as good as knowing the population. Below 0: worse than the baseline. Only rows
    that all three have count.

    Args:
      baseline: row metrics of one baseline on the same answers, chosen without them (on the validation rows). One that
        is the best of several on these very rows is better here than it would be elsewhere.
      ceiling: as from `metrics.sampling_ceiling`.

    Returns:
      The skill; NaN where the baseline is at the ceiling, and nothing is left to gain.

    Raises:
      UserError: there is no row that all have, for instance because no number of respondents is known.

    >>> answers = [Answer("S", q, "Fair?", ("Yes", "No"), (("country", "Kenya"),), (0.5, 0.5)) for q in ("q1", "q2")]
    >>> model, rule, ceiling = ({"tv": np.full(2, loss)} for loss in (0.125, 0.25, 0.0))
    >>> skill(answers, model, rule, ceiling, "tv")["value"]
    0.5
    """
    model, reference, best_possible = (losses(metric, r[metric]) for r in (rows, baseline, ceiling))
    known = ~np.isnan([model, reference, best_possible]).any(axis=0)
    if not known.any():
        raise UserError(f"{metric}: no row has a prediction, the baseline and a sampling ceiling (which needs n)")
    gained, to_gain = (np.where(known, reference - loss, 0.0) for loss in (model, best_possible))
    return Bootstrap(answers, seed, samples).ratios(gained, to_gain)[0].interval()


def without_failures(answers: Sequence[Answer], predictions: Distributions) -> tuple[Shares, list[str]]:
    """Replaces predictions that failed (rows of NaN) by uniform ones, and names their rows.

    Leaving them out would raise the score of a system that fails where questions are difficult.

    Raises:
      UserError: as `metrics.row_metrics`.
    """
    stacked = stack(answers, predictions)
    failed = np.isnan(stacked).any(-1)
    nothing = uniform(np.array([len(a.options) for a in answers]), stacked.shape[1])
    names = [a.describe() for a, missing in zip(answers, failed, strict=True) if missing]
    return np.where(failed[:, None], nothing, stacked), names


def failures_sentence(system: str, names: Sequence[str], total: int) -> str:
    """E.g. "model: 2 of 900 predictions failed and are scored as uniform: ..."; empty if none did."""
    if not names:
        return ""
    return f"{system}: {len(names)} of {total} predictions failed and are scored as uniform: {some(names)}"
