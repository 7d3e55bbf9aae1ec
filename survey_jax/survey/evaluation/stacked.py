"""Scores the stack: is it better than the best rule, than the model alone, than the rules alone; do intervals hold?"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from survey_jax.survey.evaluation import metrics, paired
from survey_jax.survey.evaluation.bootstrap import Bootstrap, Interval
from survey_jax.survey.evaluation.metrics import RowMetrics
from survey_jax.survey.evaluation.worth import worth
from survey_jax.survey.prediction import dirichlet
from survey_jax.survey.prediction.concentration import LEVELS, Predicted, holds
from survey_jax.survey.prediction.stack import Stack, Stacked
from survey_jax.survey.table import Answer

STACK, RULES_POOLED = "stack", "rules_pooled"
Array = np.ndarray


def score_stack(
    answers: Sequence[Answer],
    kinds: Sequence[str],
    stack: Stack,
    stacked: Stacked,
    model: RowMetrics,
    rules: Mapping[str, RowMetrics],
    best: Mapping[str, str],
    seed: int,
) -> dict[str, Any]:
    """The split's "stack" in metrics.json; docs/report.md has its keys.

    Args:
      stacked: what the stack predicts for the rows.
      model: the metrics of the language model's rows; rules: those of each rule.
      best: headline metric -> the best rule. The difference from it is the primary comparison; those from the model and
        from the rules' pool are two secondary ones.
    """
    rows, pooled = (metrics.row_metrics(answers, shares) for shares in (stacked.shares, stacked.rules))
    differences: dict[str, dict[str, Any]] = {}
    for metric, rule in best.items():
        rivals = {rule: (rules[rule], 1), "model": (model, 2), RULES_POOLED: (pooled, 2)}
        for rival, (scores, many) in rivals.items():
            found = paired.difference(answers, rows, scores, metric, seed, comparisons=many)
            differences.setdefault(rival, {})[metric] = found
    used = [kind for kind in dict.fromkeys(kinds) if kind in stack.kinds]
    return {
        STACK: metrics.summarise(answers, rows, seed),
        RULES_POOLED: metrics.summarise(answers, pooled, seed),
        "differences": differences,
        "worth": worth(answers, stacked.shares, seed),
        "expected": float(np.mean(dirichlet.misplaced(stacked.shares, stacked.concentration))),
        "coverage": {f"{100 * level:.0f}": coverage(answers, stacked, level, seed) for level in LEVELS},
        "weights": {
            kind: {"members": stack.kinds[kind].members.weights, "rules": stack.kinds[kind].rules.weights}
            for kind in used
        },
        "model_adds": {kind: stack.kinds[kind].model_adds for kind in used},
    }


def coverage(answers: Sequence[Answer], stacked: Stacked, level: float, seed: int = 0) -> Interval:
    """The share of intervals that hold what people answered, over options and rows; 95 % interval by bootstrap.

    The intervals are those of `concentration.holds`.
    """
    held = covered(answers, stacked, level)
    return Bootstrap(answers, seed).mean(held, np.ones(len(answers), bool)).interval((0.0, 1.0))


def covered(answers: Sequence[Answer], stacked: Stacked, level: float) -> Float[Array, " n"]:
    """For each row, the share of its options whose interval holds the share that people gave."""
    rows = Predicted(list(answers), stacked.shares, np.zeros((len(answers), 0)))
    return holds(rows, stacked.concentration, level)
