"""Compares systems on the same rows: paired differences, skill between baseline and ceiling, predictions that failed.

All intervals are those of `bootstrap`; with the same seed, every system is scored on the same draws of questions and
groups. docs/metrics.md says how to read the numbers.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from survey_jax.common.errors import UserError, some
from survey_jax.survey.evaluation.bootstrap import SAMPLES, Bootstrap, Interval, Replicates
from survey_jax.survey.evaluation.metrics import (
    METRICS,
    Distributions,
    RowMetrics,
    Scores,
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
) -> Interval:
    """The mean of A's metric less B's, over the rows that both have; for a metric that is best at 1, the mean of A's
    distance from 1 less B's.

    Args:
      rows_a, rows_b: row metrics of two systems on the same answers.

    Returns:
      value, low, high; p: two-sided, by the same bootstrap, never below 2 / (samples + 1); n: rows compared; unpaired:
      rows that only one of the two has. low, high and p are NaN where all rows belong to one question.

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
    replicates = Bootstrap(answers, seed, samples).mean(change, known)
    unpaired = int((np.isnan(a) != np.isnan(b)).sum())
    return replicates.interval() | {"p": replicates.p_value(), "n": int(known.sum()), "unpaired": unpaired}


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Corrects p-values for their number, so that the chance of any false claim stays at the level (Holm 1979).

    NaN (a comparison without a p-value) stays, and does not count.

    >>> holm({"zero_shot": 0.01, "best baseline": 0.04})
    {'zero_shot': 0.02, 'best baseline': 0.04}
    """
    ordered = sorted((p, name) for name, p in p_values.items() if not np.isnan(p))
    corrected, least = dict(p_values), 0.0
    for rank, (p, name) in enumerate(ordered):
        least = max(least, min(1.0, p * (len(ordered) - rank)))
        corrected[name] = least
    return corrected


def skill(
    answers: Sequence[Answer],
    rows: RowMetrics,
    baselines: Mapping[str, RowMetrics],
    ceiling: RowMetrics,
    metric: str,
    seed: int = 0,
    samples: int = SAMPLES,
) -> tuple[str, Interval]:
    """Share of the way from the best baseline to the sampling ceiling: (score - best) / (ceiling - best).

    0: no better than the best baseline. 1: as good as knowing the population. Below 0: worse than the baseline. Only
    rows that all of them have count. Every bootstrap sample chooses its own best baseline, as that choice is uncertain.

    Args:
      baselines: row metrics by baseline, on the same answers.
      ceiling: as from `metrics.sampling_ceiling`.

    Returns:
      The best baseline, and the skill; NaN where the baseline is at the ceiling, and nothing is left to gain.

    Raises:
      UserError: there is no row that all have, for instance because no number of respondents is known.
    """
    if not baselines:
        raise UserError("skill needs at least one baseline")
    scores = {name: losses(metric, r[metric]) for name, r in baselines.items()}
    system, best_possible = losses(metric, rows[metric]), losses(metric, ceiling[metric])
    known = ~np.isnan(np.array([system, best_possible, *scores.values()])).any(axis=0)
    if not known.any():
        raise UserError(f"{metric}: no row has a prediction, every baseline and a sampling ceiling (which needs n)")
    bootstrap = Bootstrap(answers, seed, samples)
    reference = {name: bootstrap.mean(s, known) for name, s in scores.items()}
    model, top = bootstrap.mean(system, known), bootstrap.mean(best_possible, known)
    name = min(reference, key=lambda n: reference[n].value)
    least = np.min([r.sampled for r in reference.values()], axis=0)
    (value,) = _skill(*(np.array([x]) for x in (model.value, reference[name].value, top.value)))
    return name, Replicates(float(value), _skill(model.sampled, least, top.sampled)).interval()


def _skill(model: Scores, baseline: Scores, ceiling: Scores) -> Scores:
    """The skill that losses amount to (less is better); NaN where there is nothing to gain."""
    to_gain = baseline - ceiling
    return (baseline - model) / np.where(to_gain > 0, to_gain, np.nan)


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
