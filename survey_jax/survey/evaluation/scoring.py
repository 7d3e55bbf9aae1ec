"""Scores a split: the model, every rule and control, calibrated alike, and their differences."""

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from survey_jax.common.errors import UserError
from survey_jax.common.files import atomic_write
from survey_jax.survey.evaluation import metrics, paired
from survey_jax.survey.evaluation.calibration import Temperature, calibrate
from survey_jax.survey.evaluation.choice import best_rules, can_choose
from survey_jax.survey.evaluation.diagnostics import diagnose
from survey_jax.survey.evaluation.metrics import RowMetrics
from survey_jax.survey.evaluation.stacked import score_stack
from survey_jax.survey.evaluation.worth import respondents, worth
from survey_jax.survey.prediction.stack import Stack, Stacked
from survey_jax.survey.table import Answer
from survey_jax.survey.table_files import write_rows

# Metrics that systems are compared by -> their titles. Verdicts are spoken in the first one.
HEADLINE = {"tv": "misplaced of 100", "kl": "KL", "paper_1_minus_jsd": "1-√JSD"}
ON_VALID, ON_THIS_SPLIT = "valid", "this split"  # where the best rule was chosen
Role = Literal["subject", "rule", "variant", "control"]


@dataclasses.dataclass(frozen=True)
class System:
    """What a system predicts for the rows of a split.

    Attributes:
      role: "subject" is the one to evaluate; a "rule" needs no model; a "variant" is the model without training or
        without calibration; a "control" is the model asked otherwise, where a row of NaN has nothing to predict (such
        as a survey's only group to swap). Elsewhere a row of NaN is a prediction that failed.
      raw: before calibration.
      calibration: kind of row -> its temperature; empty for a system that is not calibrated.
      sources: how a rule made each row.
    """

    role: Role
    raw: Float[np.ndarray, "n K"]
    calibration: Mapping[str, Temperature] = dataclasses.field(default_factory=dict)
    sources: Sequence[str] = ()

    def calibrated(self, kinds: Sequence[str]) -> Float[np.ndarray, "n K"]:
        """The predictions as scored, given the kind of each row."""
        return calibrate(self.raw, kinds, self.calibration)

    def select(self, rows: Bool[np.ndarray, " n"]) -> "System":
        """The predictions for some of the rows."""
        sources = [source for source, chosen in zip(self.sources, rows, strict=True) if chosen] if self.sources else ()
        return dataclasses.replace(self, raw=self.raw[rows], sources=sources)


@dataclasses.dataclass(frozen=True)
class Validation:
    """Validation rows to choose the best rule on, the kind of each, and rule -> its metrics, calibrated."""

    answers: Sequence[Answer]
    kinds: Sequence[str]
    rules: Mapping[str, RowMetrics]


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
      stacked: the predictions of the stack, where there is one.
    """

    name: str
    answers: list[Answer]
    predictions: Float[np.ndarray, "n K"]
    failed: Bool[np.ndarray, " n"]
    rows: RowMetrics
    summary: dict[str, Any]
    warnings: list[str]
    orders: Sequence[Sequence[int]]
    stacked: Stacked | None = None


def score_split(
    name: str,
    answers: list[Answer],
    kinds: Sequence[str],
    systems: Mapping[str, System],
    orders: Sequence[Sequence[int]],
    validation: Validation | None = None,
    seed: int = 0,
    pooled: tuple[Stack, Stacked] | None = None,
) -> SplitScore:
    """Scores one split.

    Args:
      kinds: of the rows, see `splits.kinds`.
      systems: by name; one is the subject, and `uniform` is among the rules.
      orders: for each row, which of its options was shown at each place.
      validation: to choose the best rule on; without it, or where it has too little of a kind of row, the rule that is
        best on the split itself is the one to beat, which favours the rule.
      seed: seeds the bootstrap and the sampling ceiling.
      pooled: the stack, and what it predicts for the rows.

    Raises:
      UserError: none of the subject's predictions is a distribution.

    >>> from survey_jax.survey.baselines.registry import BASELINES
    >>> from survey_jax.survey.table import DEMO, read_table
    >>> train, answers = read_table(DEMO)[:200], read_table(DEMO)[200:240]
    >>> systems = {"model": System("subject", metrics.stack(answers, [a.probs for a in answers]))}
    >>> for rule in ("uniform", "seen_group_mean"):
    ...     shares, sources = BASELINES[rule](train, answers)
    ...     systems[rule] = System("rule", metrics.stack(answers, shares), sources=sources)
    >>> orders = [range(len(a.options)) for a in answers]
    >>> score_split("valid", answers, ["new question"] * 40, systems, orders).summary["model"]["tv"]
    {'value': 0.0, 'low': 0.0, 'high': 0.0}
    """
    subject = next(system for system, s in systems.items() if s.role == "subject")
    predictions, failed = _without_failures(name, answers, kinds, systems, subject)
    rows = {system: metrics.row_metrics(answers, p) for system, p in predictions.items()}
    same_as = _same_as({s: predictions[s] for s in systems if systems[s].role == "rule"})
    rules = {s: rows[s] for s in systems if systems[s].role == "rule" and s not in same_as}
    best, chosen_on = _best_rules(kinds, rules, same_as, validation)
    ceiling = metrics.sampling_ceiling(answers, np.random.default_rng(seed))
    second = metrics.second_survey(answers, np.random.default_rng(seed))
    others = {s: rows[s] for s in systems if systems[s].role in ("variant", "control")}
    for s in [s for s in others if np.array_equal(predictions[s], predictions[subject], equal_nan=True)]:
        del others[s]  # as the model is without calibration where there is none: nothing to compare
    calibrated = {s: system for s, system in systems.items() if system.role == "rule" or s in (subject, "zero_shot")}
    summary = {
        "n": len(answers),
        "questions": len({a.question_key for a in answers}),
        "groups": len({a.group for a in answers}),
        "kinds": dict(Counter(kinds)),
        "model": _summary(answers, predictions[subject], rows[subject], seed),
        "baselines": {s: _summary(answers, predictions[s], rows[s], seed) for s in systems if s != subject},
        "raw": {_title(s, subject): _raw(answers, system.raw, seed) for s, system in calibrated.items()},
        "calibration": {
            _title(s, subject): {kind: dataclasses.asdict(t) for kind, t in system.calibration.items()}
            for s, system in calibrated.items()
        },
        "best_baseline": best,
        "chosen_on": chosen_on,
        "same_as": same_as,
        "sources": {s: dict(Counter(system.sources)) for s, system in systems.items() if system.role == "rule"},
        "differences": _differences(answers, rows[subject], rules, best, others, seed),
        "skill": _skill(answers, rows[subject], rules, best, ceiling, seed),
        "worth": {
            _title(s, subject): worth(answers, predictions[s], seed)
            for s in dict.fromkeys([subject, *best.values(), "uniform", *({"zero_shot"} & systems.keys())])
        },
        "respondents": respondents(answers),
        "ceiling": metrics.summarise(answers, ceiling, seed),
        "ceiling_n": int(sum(a.n is not None or a.n_effective is not None for a in answers)),
        "second_survey": metrics.summarise(answers, second, seed),
        "diagnostics": diagnose(answers, predictions[subject], orders, seed),
        "failures": {_title(s, subject): names for s, names in failed.items()},
    }
    if pooled:
        summary["stack"] = score_stack(answers, kinds, *pooled, rows[subject], rules, best, seed)
    warnings = [
        f"{name}: {paired.failures_sentence(_title(s, subject), names, len(answers))}" for s, names in failed.items()
    ]
    failed_rows = np.isnan(systems[subject].raw).any(-1)
    scored, stacked = predictions[subject], pooled[1] if pooled else None
    return SplitScore(name, answers, scored, failed_rows, rows[subject], plain(summary), warnings, orders, stacked)


def _title(system: str, subject: str) -> str:
    return "model" if system == subject else system


def _without_failures(
    name: str, answers: Sequence[Answer], kinds: Sequence[str], systems: Mapping[str, System], subject: str
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Calibrated predictions, uniform where they failed, and the rows that failed, by system where any did."""
    predictions: dict[str, Any] = {}
    failed: dict[str, list[str]] = {}
    for s, system in systems.items():
        predictions[s] = system.calibrated(kinds)
        if system.role != "control":
            predictions[s], names = paired.without_failures(answers, predictions[s])
            failed |= {s: names} if names else {}
    if len(failed.get(subject, ())) == len(answers):
        raise UserError(
            f"{name}: none of the model's {len(answers)} predictions is a distribution (its numbers are not finite): "
            "the checkpoint or the weights are broken, or config.model.dtype cannot hold their values"
        )
    return predictions, failed


def _best_rules(
    kinds: Sequence[str],
    rules: Mapping[str, RowMetrics],
    same_as: Mapping[str, str],
    validation: Validation | None,
) -> tuple[dict[str, str], str]:
    """Metric -> the rule to beat, and where it was chosen."""
    if validation and can_choose(kinds, validation.answers, validation.kinds):
        chosen = best_rules(kinds, validation.kinds, validation.rules, HEADLINE)
        return {metric: same_as.get(rule, rule) for metric, rule in chosen.items()}, ON_VALID
    return best_rules(kinds, kinds, rules, HEADLINE), ON_THIS_SPLIT


def _differences(
    answers: Sequence[Answer],
    subject: RowMetrics,
    rules: Mapping[str, RowMetrics],
    best: Mapping[str, str],
    others: Mapping[str, RowMetrics],
    seed: int,
) -> dict[str, dict[str, dict[str, float]]]:
    """The subject less each rival, paired by row: rival -> headline metric -> the difference.

    The one with the best rule is the primary comparison, and does not depend on what else is compared. Those with the
    other systems are corrected for their number.
    """
    found: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for metric in HEADLINE:
        rule = best[metric]
        found[rule][metric] = _difference(answers, subject, rules[rule], metric, seed, 1)
        compared = {s: rows for s, rows in others.items() if not np.isnan(rows[metric]).all()}  # None: nobody to swap
        for s, rows in compared.items():
            found[s][metric] = _difference(answers, subject, rows, metric, seed, len(compared))
    return dict(found)


def _difference(
    answers: Sequence[Answer], subject: RowMetrics, rival: RowMetrics, metric: str, seed: int, comparisons: int
) -> dict[str, float]:
    found = paired.difference(answers, subject, rival, metric, seed, comparisons=comparisons)
    return found | {"comparisons": comparisons}


def _skill(
    answers: Sequence[Answer],
    subject: RowMetrics,
    rules: Mapping[str, RowMetrics],
    best: Mapping[str, str],
    ceiling: RowMetrics,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Skill by headline metric; empty where no row has a number of respondents, and so no ceiling."""
    return {
        metric: {"baseline": best[metric]} | paired.skill(answers, subject, rules[best[metric]], ceiling, metric, seed)
        for metric in HEADLINE
        if not np.isnan(ceiling[metric]).all()
    }


def _same_as(predictions: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Rules that predict what an earlier one predicts on every row, such as those that always fall back on it."""
    same: dict[str, str] = {}
    for number, (rule, predicted) in enumerate(predictions.items()):
        earlier = (r for r in list(predictions)[:number] if np.allclose(predictions[r], predicted, rtol=0, atol=1e-9))
        if twin := next(earlier, None):
            same[rule] = twin
    return same


def _summary(answers: Sequence[Answer], predictions: Any, rows: RowMetrics, seed: int) -> dict[str, metrics.Interval]:
    ratio = metrics.between_group_variance_ratio(answers, predictions, seed)
    return metrics.summarise(answers, rows, seed) | {metrics.BETWEEN_GROUP_VARIANCE_RATIO: ratio}


def _raw(answers: Sequence[Answer], predictions: np.ndarray, seed: int) -> dict[str, metrics.Interval]:
    """Headline metrics without calibration."""
    rows = metrics.row_metrics(answers, paired.without_failures(answers, predictions)[0])
    return metrics.summarise(answers, {metric: rows[metric] for metric in HEADLINE}, seed)


def plain(value: Any) -> Any:
    """The value as strict JSON can hold it: NaN (there is no such number) becomes null, at any depth."""
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    return value


def _stack_columns(stacked: Stacked, row: int, options: int) -> dict[str, Any]:
    return {"stack": stacked.shares[row, :options].tolist(), "concentration": float(stacked.concentration[row])}


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
                **({} if split.stacked is None else _stack_columns(split.stacked, i, len(answer.probs))),
                "n": answer.n,
                "split": split.name,
            }
            rows.append(row | {metric: float(values[i]) for metric, values in split.rows.items()})
    with atomic_write(path) as partial:
        write_rows(rows, partial, {})
