"""Which rule a model has to beat: the best one as chosen on validation rows, so that the scored rows have no say."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from survey_jax.survey.evaluation.metrics import RowMetrics, losses


def best_rules(
    asked: Sequence[str], kinds: Sequence[str], rules: Mapping[str, RowMetrics], metrics: Iterable[str]
) -> dict[str, str]:
    """The rule with the best mean of each metric over rows of the same kinds.

    Args:
      asked: the kinds of the rows to predict (`splits.kinds`).
      kinds: the kinds of the rows to choose on. Each kind counts as much as it is asked.
      rules: rule -> its metrics of the rows to choose on.

    Returns:
      metric -> rule; empty if a kind that is asked has no row to choose on.

    >>> scores = {"uniform": {"tv": np.array([0.5, 0.25])}, "mean": {"tv": np.array([0.25, 0.5])}}
    >>> best_rules(["new question"], ["known question", "new question"], scores, ["tv"])
    {'tv': 'uniform'}
    >>> best_rules(["new question"], ["known question", "known question"], scores, ["tv"])
    {}
    """
    wanted, there = Counter(asked), Counter(kinds)
    if not wanted.keys() <= there.keys():
        return {}
    weight = np.array([wanted[kind] / there[kind] for kind in kinds])

    def loss(rule: str, metric: str) -> float:
        return float(weight @ losses(metric, np.asarray(rules[rule][metric])))

    return {metric: min(rules, key=lambda rule: loss(rule, metric)) for metric in metrics}
