"""Scores a split: the model, every baseline and control, their differences, and what the model beats."""

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from jaxtyping import Bool, Float

from survey_jax.survey.baselines.seen_groups import Filled
from survey_jax.survey.evaluation import metrics, paired
from survey_jax.survey.evaluation.diagnostics import diagnose
from survey_jax.survey.evaluation.metrics import RowMetrics
from survey_jax.survey.table import Answer

HEADLINE = {"paper_1_minus_jsd": "1-√JSD", "kl": "KL"}  # metrics that systems are compared by -> their titles


@dataclasses.dataclass(frozen=True)
class SplitScore:
    """One split's evaluation.

    Attributes:
      predictions: those of the subject, which is the model or the untrained base model; uniform where it failed.
      failed: the rows where it failed.
      rows: the subject's metrics of each row.
      summary: the split's entry in metrics.json.
      warnings: sentences on predictions that failed.
      orders: for each row, which of its options was shown at each place.
    """

    name: str
    answers: list[Answer]
    predictions: Float[np.ndarray, "n K"]
    failed: Bool[np.ndarray, " n"]
    rows: RowMetrics
    summary: dict[str, Any]
    warnings: list[str]
    orders: Sequence[Sequence[int]]


def score_split(
    name: str,
    answers: list[Answer],
    systems: Mapping[str, Float[np.ndarray, "n K"]],
    subject: str,
    filled: Mapping[str, Filled],
    orders: Sequence[Sequence[int]],
    seed: int,
    controls: Collection[str] = (),
) -> SplitScore:
    """Scores one split.

    Args:
      systems: predictions by system. `subject` is the one to evaluate; it is compared with the others.
      filled: the predictions of each baseline and how each row was made; uniform and seen_group_mean among them.
      orders: for each row, which of its options was shown at each place.
      seed: seeds the bootstrap and the sampling ceiling.
      controls: systems whose rows of NaN have nothing to predict, such as a survey's only group to swap. In any other
        system a row of NaN is a prediction that failed.

    >>> from survey_jax.survey.baselines.registry import BASELINES
    >>> from survey_jax.survey.table import DEMO, read_table
    >>> train, answers = read_table(DEMO)[:200], read_table(DEMO)[200:240]
    >>> filled = {name: BASELINES[name](train, answers) for name in ("uniform", "seen_group_mean")}
    >>> orders = [range(len(a.options)) for a in answers]
    >>> perfect = metrics.stack(answers, [a.probs for a in answers])
    >>> score_split("valid", answers, {"model": perfect}, "model", filled, orders, seed=0).summary["model"]["tv"]
    {'value': 0.0, 'low': 0.0, 'high': 0.0}
    """
    baselines = {baseline: shares for baseline, (shares, _) in filled.items()}
    predictions: dict[str, Any] = {**baselines, **systems}
    failures: dict[str, list[str]] = {}
    for system in [s for s in predictions if s not in controls]:
        predictions[system], failed = paired.without_failures(answers, predictions[system])
        failures |= {system: failed} if failed else {}
    rows = {system: metrics.row_metrics(answers, p) for system, p in predictions.items()}
    subject_rows = rows.pop(subject)
    same_as = _same_as(baselines)
    distinct = {baseline: rows[baseline] for baseline in baselines if baseline not in same_as}
    best = {metric: _best(metric, distinct) for metric in HEADLINE}
    ceiling = metrics.sampling_ceiling(answers, np.random.default_rng(seed))
    second = metrics.second_survey(answers, np.random.default_rng(seed))
    others = [system for system in systems if system != subject]
    differences = _differences(answers, subject_rows, {r: rows[r] for r in [*best.values(), *others]}, best, seed)
    summary = {
        "n": len(answers),
        "questions": len({a.question_key for a in answers}),
        "groups": len({a.group for a in answers}),
        "model": _summary(answers, predictions[subject], subject_rows, seed),
        "baselines": {system: _summary(answers, predictions[system], rows[system], seed) for system in rows},
        "best_baseline": best,
        "same_as": same_as,
        "sources": {baseline: dict(Counter(sources)) for baseline, (_, sources) in filled.items()},
        "differences": differences,
        "skill": _skill(answers, subject_rows, distinct, ceiling, seed),
        "ceiling": metrics.summarise(answers, ceiling, seed),
        "ceiling_n": int(sum(a.n is not None or a.n_effective is not None for a in answers)),
        "second_survey": metrics.summarise(answers, second, seed),
        "diagnostics": diagnose(answers, predictions[subject], orders, seed),
        "failures": {"model" if system == subject else system: names for system, names in failures.items()},
    }
    warnings = [
        f"{name}: {paired.failures_sentence('model' if system == subject else system, names, len(answers))}"
        for system, names in failures.items()
    ]
    failed_rows = np.isnan(metrics.stack(answers, systems[subject])).any(-1)
    scored = predictions[subject]
    return SplitScore(name, answers, scored, failed_rows, subject_rows, _plain(summary), warnings, orders)


def _differences(
    answers: Sequence[Answer], subject: RowMetrics, rivals: Mapping[str, RowMetrics], best: Mapping[str, str], seed: int
) -> dict[str, dict[str, dict[str, float]]]:
    """The subject less each rival, paired by row, by rival and headline metric.

    A baseline is a rival only in the metric in which it is the best baseline. That comparison is the primary one; the
    others are corrected for their number.
    """
    found: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for metric in HEADLINE:
        compared = [r for r in rivals if r == best[metric] or r not in best.values()]
        some_rows = [r for r in compared if not np.isnan(rivals[r][metric]).all()]  # None: nobody to swap groups with
        others = len([r for r in some_rows if r != best[metric]])
        for rival in some_rows:
            count = 1 if rival == best[metric] else others
            entry = paired.difference(answers, subject, rivals[rival], metric, seed, comparisons=count)
            found[rival][metric] = entry | {"p_holm": entry["p"]}
    return dict(found)


def _skill(
    answers: Sequence[Answer], subject: RowMetrics, baselines: Mapping[str, RowMetrics], ceiling: RowMetrics, seed: int
) -> dict[str, dict[str, Any]]:
    """Skill by headline metric; empty where no row has a number of respondents, and so no ceiling."""
    found = {}
    for metric in HEADLINE:
        if not np.isnan(ceiling[metric]).all():
            baseline = _best(metric, baselines)
            interval = paired.skill(answers, subject, baselines[baseline], ceiling, metric, seed)
            found[metric] = {"baseline": baseline, **interval}
    return found


def _same_as(shares: Mapping[str, Sequence[np.ndarray]]) -> dict[str, str]:
    """Baselines that predict what an earlier one predicts on every row, such as those that always fall back on it."""
    flat = {baseline: np.concatenate(rows) for baseline, rows in shares.items()}
    same: dict[str, str] = {}
    for number, (baseline, predicted) in enumerate(flat.items()):
        earlier = (b for b in list(flat)[:number] if np.allclose(flat[b], predicted, rtol=0, atol=1e-9))
        if twin := next(earlier, None):
            same[baseline] = twin
    return same


def _best(metric: str, rows: Mapping[str, RowMetrics]) -> str:
    """The system with the best mean over rows."""
    sign = 1 if metrics.METRICS[metric].better == "higher" else -1
    return max(rows, key=lambda system: sign * rows[system][metric].mean())


def _summary(answers: Sequence[Answer], predictions: Any, rows: RowMetrics, seed: int) -> dict[str, metrics.Interval]:
    ratio = metrics.between_group_variance_ratio(answers, predictions, seed)
    return metrics.summarise(answers, rows, seed) | {metrics.BETWEEN_GROUP_VARIANCE_RATIO: ratio}


def _plain(value: Any) -> Any:
    """The value as strict JSON can hold it: NaN (there is no such number) becomes null, at any depth."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    return value


def write_predictions(splits: Iterable[SplitScore], path: Path) -> None:
    """Writes predictions.parquet, a row for each answer; `target` and `prediction` are in the order of `options`."""
    rows = []
    for split in splits:
        for i, answer in enumerate(split.answers):
            row = {
                "survey": answer.survey,
                "wave": answer.wave,
                "question_id": answer.question_id,
                "question": answer.question,
                "options": list(answer.options),
                "option_order": list(split.orders[i]),
                "group": dict(answer.group),
                "target": list(answer.probs),
                "prediction": split.predictions[i, : len(answer.probs)].tolist(),
                "failed": bool(split.failed[i]),
                "n": answer.n,
                "split": split.name,
            }
            rows.append(row | {metric: float(values[i]) for metric, values in split.rows.items()})
    partial = path.with_name(f".partial-{path.name}")
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), partial)
    partial.replace(path)
