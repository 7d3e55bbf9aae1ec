"""Where a system is good and where it fails: a metric by question, topic, group, region and more, worst first."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from survey_jax.survey import countries
from survey_jax.survey.evaluation.bootstrap import SAMPLES
from survey_jax.survey.evaluation.metrics import Scores, losses, summarise
from survey_jax.survey.table import Answer, group_name
from survey_jax.survey.text import is_country

NO_LABEL = "(not known)"  # rows without a label, in a breakdown where others have one
TOPIC = "topic"  # extra column

Part = dict[str, Any]


def _regions(answer: Answer) -> list[str]:
    return sorted({region for k, v in answer.group if is_country(k) for region in countries.regions(v)})


# What to break down by -> the labels of a row: none, one or several; a row with several counts in each of their parts.
BREAKDOWNS: dict[str, Callable[[Answer], list[str]]] = {
    "question": lambda a: [" / ".join(a.question_key)],
    "topic": lambda a: [str(a.extra[TOPIC])] if TOPIC in a.extra else [],
    "group": lambda a: [group_name(a.group)],
    "attribute": lambda a: [f"{k} = {v}" for k, v in a.group],
    "attributes": lambda a: [", ".join(k for k, _ in a.group)],
    "region": _regions,
    "options": lambda a: [str(len(a.options))],
    "scale": lambda a: [a.scale] if a.scale else [],
}


def breakdown(
    answers: Sequence[Answer], values: Scores, metric: str, by: str, seed: int = 0, samples: int = SAMPLES
) -> dict[str, Part]:
    """A metric's mean in each part of a table.

    Args:
      values: the metric's value in each row, NaN where it has none.
      by: a key of BREAKDOWNS.

    Returns:
      label -> value, low, high (NaN for a part with one question), n (rows that count) and questions; worst first.
      Rows without a label form the part NO_LABEL; parts without any value are left out. Empty if no row has a label.
    """
    parts = {}
    for label, rows in _rows_by_label(answers, by).items():
        known = [i for i in rows if not np.isnan(values[i])]
        if known:
            some = [answers[i] for i in known]
            interval = summarise(some, {metric: values[known]}, seed, samples)[metric]
            parts[label] = interval | {"n": len(known), "questions": len({a.question_key for a in some})}
    loss = dict(zip(parts, losses(metric, np.array([p["value"] for p in parts.values()])), strict=True))
    return {label: parts[label] for label in sorted(parts, key=lambda label: -loss[label])}


def cross_table(
    answers: Sequence[Answer], values: Scores, by: str, across: str
) -> tuple[list[str], list[str], Float[np.ndarray, "R C"]]:
    """A metric's mean for each pair of labels, such as topic x group.

    `by` and `across` are keys of BREAKDOWNS. Returns the labels of the rows and those of the columns, sorted, and the
    means, NaN where a pair has no value.
    """
    down, right = (_rows_by_label(answers, kind) for kind in (by, across))
    total, count = (np.zeros((len(down), len(right))) for _ in range(2))
    place = defaultdict(list)
    for column, label in enumerate(sorted(right)):
        for i in right[label]:
            place[i].append(column)
    for row, label in enumerate(sorted(down)):
        for i in down[label]:
            if not np.isnan(values[i]):
                total[row, place[i]] += values[i]
                count[row, place[i]] += 1
    return sorted(down), sorted(right), total / np.where(count > 0, count, np.nan)


def worst_questions(answers: Sequence[Answer], values: Scores, metric: str, k: int = 10) -> dict[str, Part]:
    """The k questions with the worst means over their groups, worst first; entries as in `breakdown`."""
    parts = breakdown(answers, values, metric, "question", samples=0)  # one question has no interval
    return dict(list(parts.items())[:k])


def _rows_by_label(answers: Sequence[Answer], by: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for i, answer in enumerate(answers):
        for label in BREAKDOWNS[by](answer) or [NO_LABEL]:
            found[label].append(i)
    return {} if found.keys() == {NO_LABEL} else dict(found)
