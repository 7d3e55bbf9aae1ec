"""Predictions that need no model: the bars that a model must clear, and a control that it must fail."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from survey_jax.survey.splits import fold, wording
from survey_jax.survey.table import Answer, Group

# How `seen_group_mean` filled a row, best first.
SAME_QUESTION = "same question"
SAME_OPTIONS = "same options"
SAME_SCALE = "same number of options and scale"
SAME_NUMBER = "same number of options"
UNIFORM = "uniform"


def uniform(answers: Sequence[Answer]) -> list[Float[np.ndarray, " k"]]:
    """Equal shares over the options of each row."""
    return [np.full(len(a.options), 1 / len(a.options)) for a in answers]


def seen_group_mean(
    train: Sequence[Answer], answers: Sequence[Answer]
) -> tuple[list[Float[np.ndarray, " k"]], list[str]]:
    """What the groups of train answer on average: the bar on seen questions.

    A question of train with the same options: the mean of its groups, each counting once. Any other question: the mean
    over the questions of train (each counting once) that have the same option texts in order; failing that, the same
    number of options and scale, where the scale is known; failing that, the same number; failing that, uniform.
    Letter case and spacing of options are ignored. A row that is itself in train is part of its own mean.

    Args:
      train: rows that may be known.
      answers: n rows to predict; their own distributions are not used.

    Returns:
      n distributions, and how each was come by: SAME_QUESTION, SAME_OPTIONS, SAME_SCALE, SAME_NUMBER or UNIFORM.
      Tables must show the counts of these beside the scores.
    """
    # Keyed with the wording, options included: a question whose options changed is not the same question.
    questions = _means([((a.question_key, _options(a)), np.array(a.probs)) for a in train])
    example = {(a.question_key, _options(a)): a for a in train}
    steps: list[tuple[str, dict[Hashable, np.ndarray], Callable[[Answer], Hashable]]] = [
        (SAME_QUESTION, questions, lambda a: (a.question_key, _options(a)))
    ]
    for source, key in ((SAME_OPTIONS, _options), (SAME_SCALE, _number_and_scale), (SAME_NUMBER, _number)):
        steps.append((source, _means([(key(example[q]), mean) for q, mean in questions.items()]), key))
    predictions, sources = [], []
    for answer, fallback in zip(answers, uniform(answers), strict=True):
        found = next(((means[key(answer)], source) for source, means, key in steps if key(answer) in means), None)
        prediction, source = found or (fallback, UNIFORM)
        predictions.append(prediction)
        sources.append(source)
    return predictions, sources
