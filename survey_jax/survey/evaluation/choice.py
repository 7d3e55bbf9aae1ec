"""Which rule a model has to beat: the best one as chosen on validation rows, so that the scored rows have no say."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from survey_jax.survey.evaluation.metrics import RowMetrics, losses
from survey_jax.survey.splits.kinds import is_evidence
from survey_jax.survey.table import Answer


def best_rules(
    asked: Sequence[str], kinds: Sequence[str], rules: Mapping[str, RowMetrics], metrics: Iterable[str]
) -> dict[str, str]:
    """The rule with the best mean of each metric. Returns metric -> rule.

    Args:
      asked: the kinds of the rows to predict (`splits.kinds`). Rows to choose on weigh as much, by kind, as these.
      kinds: the kinds of the rows to choose on; every kind that is asked is among them.
      rules: rule -> its metrics of the rows to choose on.

    >>> scores = {"uniform": {"tv": np.array([0.5, 0.25])}, "mean": {"tv": np.array([0.25, 0.5])}}
    >>> best_rules(["new question"], ["known question", "new question"], scores, ["tv"])
    {'tv': 'uniform'}
    """
    wanted, there = Counter(asked), Counter(kinds)
    weight = np.array([wanted[kind] / there[kind] for kind in kinds])

    def loss(rule: str, metric: str) -> float:
        return float(weight @ losses(metric, np.asarray(rules[rule][metric])))

    return {metric: min(rules, key=lambda rule: loss(rule, metric)) for metric in metrics}


def can_choose(asked: Sequence[str], answers: Sequence[Answer], kinds: Sequence[str]) -> bool:
    """Whether validation rows are enough to choose a rule on, for rows of the kinds `asked`."""
    for kind in set(asked):
        rows = [a for a, own in zip(answers, kinds, strict=True) if own == kind]
        if not is_evidence(kind, len({a.question_key for a in rows}), len({a.group for a in rows})):
            return False
    return True
