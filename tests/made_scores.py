"""Scored splits as an evaluation has them, of made-up predictions: the summary's schema without models or training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from survey_jax.survey.evaluation import metrics, paired
from survey_jax.survey.evaluation.diagnostics import diagnose
from survey_jax.survey.evaluation.scoring import HEADLINE, SplitScore
from survey_jax.survey.table import Answer

SAMPLES = 100
TEMPERATURE = {"value": 1.25, "fitted": 1.5, "questions": 20, "rows": 300}
NOTHING = {"value": None, "low": None, "high": None}


def mixed(rows: Sequence[Answer], share: float) -> np.ndarray:
    """People's answers, mixed with a guess that is alike for all options: `share` of 1 knows all."""
    even = metrics.stack(rows, [[1 / len(a.probs)] * len(a.probs) for a in rows])
    return share * metrics.stack(rows, [a.probs for a in rows]) + (1 - share) * even


def noisy(rows: Sequence[Answer], noise: float, seed: int = 2) -> np.ndarray:
    """People's answers with noise in their logarithms."""
    shares = mixed(rows, 1.0)
    moved = (shares + 1e-3) * np.exp(noise * np.random.default_rng(seed).normal(size=shares.shape))
    moved[mixed(rows, 0.0) == 0] = 0
    return moved / moved.sum(-1, keepdims=True)


def split(
    rows: list[Answer],
    name: str = "unseen_question",
    model: np.ndarray | None = None,
    rules: Mapping[str, np.ndarray] | None = None,
    others: Mapping[str, np.ndarray] | None = None,
    best: str = "uniform",
    orders: Sequence[Sequence[int]] | None = None,
    **changes: Any,
) -> SplitScore:
    """A scored split.

    Args:
      model: its predictions, NaN in rows where it failed.
      rules, others: predictions of rules, and of the model asked otherwise; the first include `best`.
      changes: entries of the summary in place of those made here.
    """
    model = noisy(rows, 0.3) if model is None else model
    rules = {"uniform": mixed(rows, 0.0), "seen_group_mean": noisy(rows, 0.6, 3)} if rules is None else rules
    others = {"zero_shot": noisy(rows, 1.0, 4), "uncalibrated": model} if others is None else others
    filled, failed = paired.without_failures(rows, model)
    scored = {s: metrics.row_metrics(rows, p) for s, p in {"model": filled, **rules, **others}.items()}
    orders = [range(len(a.options)) for a in rows] if orders is None else orders
    systems = {s: metrics.summarise(rows, values, 0, SAMPLES) for s, values in scored.items()}
    rng = np.random.default_rng(0)
    known = [a.n_effective or a.n for a in rows if a.n_effective or a.n]
    summary: dict[str, Any] = {
        "n": len(rows),
        "questions": len({a.question_key for a in rows}),
        "groups": len({a.group for a in rows}),
        "kinds": {"new question": len(rows)},
        "model": systems["model"],
        "baselines": {s: values for s, values in systems.items() if s != "model"},
        "raw": {s: {m: systems[s][m] for m in HEADLINE} for s in ("model", *rules)},
        "calibration": {s: {"new question": TEMPERATURE} for s in ("model", *rules)},
        "best_baseline": dict.fromkeys(HEADLINE, best),
        "chosen_on": "valid",
        "same_as": {},
        "sources": {s: {"same options": len(rows)} for s in rules},
        "differences": _differences(rows, scored, best, others),
        "skill": {m: {"baseline": best, "value": 0.4, "low": 0.1, "high": 0.7} for m in HEADLINE} if known else {},
        "worth": {
            s: {"value": 14.0, "low": 11.0, "high": 18.0} if known else NOTHING for s in ("model", best, "uniform")
        },
        "respondents": float(np.median(known)) if known else None,
        "zero_shot_template": "paper",
        "ceiling": metrics.summarise(rows, metrics.sampling_ceiling(rows, rng), 0, SAMPLES),
        "ceiling_n": len(known),
        "second_survey": metrics.summarise(rows, metrics.second_survey(rows, rng), 0, SAMPLES),
        "diagnostics": diagnose(rows, filled, orders, 0, SAMPLES),
        "failures": {"model": failed} if failed else {},
    }
    warnings = [f"{name}: {paired.failures_sentence('model', failed, len(rows))}"] if failed else []
    return SplitScore(name, rows, filled, np.isnan(model).any(-1), scored["model"], plain(summary) | changes, warnings,
                      orders)  # fmt: skip


def _differences(rows: list[Answer], scored: Mapping[str, Any], best: str, others: Mapping[str, Any]) -> dict[str, Any]:
    pairs = {best: 1} | dict.fromkeys(others, len(others))
    return {
        rival: {
            m: paired.difference(rows, scored["model"], scored[rival], m, 0, SAMPLES) | {"comparisons": comparisons}
            for m in HEADLINE
        }
        for rival, comparisons in pairs.items()
    }


def plain(value: Any) -> Any:
    """NaN becomes None, as in metrics.json."""
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and np.isnan(value) else value
