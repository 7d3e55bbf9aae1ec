"""Predictions from the groups that training has seen: simple baselines to beat; and the group-swapped control."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float

from survey_jax.survey.table import Answer, Group
from survey_jax.survey.text import fold

# How `seen_group_mean` filled a row, best first.
SAME_QUESTION = "same question"
SAME_OPTIONS = "same options"
SAME_SCALE = "same number of options and scale"
SAME_NUMBER = "same number of options"
UNIFORM = "uniform"

K = TypeVar("K", bound=Hashable)
Key = Callable[[Answer], Hashable]
Filled = tuple[list[Float[np.ndarray, " _"]], list[str]]  # a distribution for each row, and how it was made
Baseline = Callable[[Sequence[Answer], Sequence[Answer]], Filled]  # from the rows of train and the rows to predict

FALLBACK = "fallback: "  # begins the source of a row that a baseline left to the seen-group mean


def uniform(answers: Sequence[Answer]) -> list[Float[np.ndarray, " _"]]:
    """Equal shares over the options of each row.

    >>> uniform([Answer("S", "q", "Fair?", ("Yes", "No"), (("country", "Kenya"),), (0.75, 0.25))])
    [array([0.5, 0.5])]
    """
    return [np.full(len(a.options), 1 / len(a.options)) for a in answers]


def seen_group_mean(train: Sequence[Answer], answers: Sequence[Answer]) -> Filled:
    """What the groups of train answer on average: the baseline to beat on seen questions.

    A question that train has with the same options gets the mean of its rows there. Any other question gets the mean
    over the questions of train (each counting once) that have the same option texts in order; failing that, the same
    number of options and the same known scale; failing that, the same number; failing that, equal shares. Letter case
    and spacing of options are ignored. A row that is itself in train is part of its own mean.

    Args:
      train: rows that may be known.
      answers: n rows to predict; their own distributions are not used.

    Returns:
      n distributions, and how each was made: SAME_QUESTION, SAME_OPTIONS, SAME_SCALE, SAME_NUMBER or UNIFORM. Tables
      must show the counts of these beside the scores.

    >>> kenya = Answer("S", "q", "Fair?", ("Yes", "No"), (("country", "Kenya"),), (0.75, 0.25))
    >>> seen_group_mean([kenya], [replace(kenya, group=(("country", "Peru"),))])
    ([array([0.75, 0.25])], ['same question'])
    """
    questions = means([(question_of(a), np.array(a.probs)) for a in train])
    examples = {question_of(a): a for a in train}
    steps: list[tuple[str, Key, dict[Hashable, np.ndarray]]] = [(SAME_QUESTION, question_of, questions)]
    for source, key in ((SAME_OPTIONS, folded_options), (SAME_SCALE, _number_and_scale), (SAME_NUMBER, _number)):
        steps.append((source, key, means([(key(examples[q]), mean) for q, mean in questions.items()])))
    filled = [_first_known(answer, steps) for answer in answers]
    return [prediction for prediction, _ in filled], [source for _, source in filled]


def half_seen_mean(train: Sequence[Answer], answers: Sequence[Answer]) -> Filled:
    """Half `seen_group_mean`, half equal shares: a cautious guess at a new question. Sources are those of the mean."""
    mean, sources = seen_group_mean(train, answers)
    return [(m + u) / 2 for m, u in zip(mean, uniform(answers), strict=True)], sources


def fill_in(
    train: Sequence[Answer],
    answers: Sequence[Answer],
    predict: Callable[[Answer], tuple[Float[np.ndarray, " k"], str] | None],
) -> Filled:
    """Predicts each row by `predict` (a distribution and its source), or by the seen-group mean where that is None."""
    mean, sources = seen_group_mean(train, answers)
    filled = [predict(a) or (mean[i], FALLBACK + sources[i]) for i, a in enumerate(answers)]
    return [prediction for prediction, _ in filled], [source for _, source in filled]


def select(filled: Filled, kept: Bool[np.ndarray, " n"]) -> Filled:
    """The predictions of some of the rows."""
    shares, sources = filled
    return list(itertools.compress(shares, kept)), list(itertools.compress(sources, kept))


def swap_groups(answers: Sequence[Answer], seed: int) -> list[Answer]:
    """The group-swapped control: each row names a wrong group, and keeps the right group's answers as its target.

    A model that uses the group does worse on these rows than on the originals; for one that does not, nothing changes.
    A group is replaced by another group of its survey, drawn by seed and never by itself: among those described by the
    same attributes if there are two, else among all others.

    Returns:
      n rows in the order of `answers`. The only group of a survey has nothing to be swapped with and stays; whoever
      predicts the rows must set the prediction to NaN where `group` has not changed.

    >>> kenya = Answer("S", "q", "Fair?", ("Yes", "No"), (("country", "Kenya"),), (0.75, 0.25))
    >>> [a.group for a in swap_groups([kenya, replace(kenya, group=(("country", "Peru"),))], seed=0)]
    [(('country', 'Peru'),), (('country', 'Kenya'),)]
    """
    substitute = _derangement(answers, seed)
    return [replace(a, group=substitute.get((a.survey, a.group), a.group)) for a in answers]


def _derangement(answers: Sequence[Answer], seed: int) -> dict[tuple[str, Group], Group]:
    """(survey, group) -> another group of that survey, where it has one."""
    rng = np.random.default_rng(seed)
    groups: dict[str, set[Group]] = defaultdict(set)
    for answer in answers:
        groups[answer.survey].add(answer.group)
    result: dict[tuple[str, Group], Group] = {}
    for survey in sorted(groups):
        alike: dict[tuple[str, ...], list[Group]] = defaultdict(list)
        for group in sorted(groups[survey]):
            alike[tuple(attribute for attribute, _ in group)].append(group)
        for attributes in sorted(alike):
            members = alike[attributes]
            others = sorted(groups[survey] - set(members))
            if len(members) > 1:  # a cycle through a random order leaves nobody in place
                order = [members[i] for i in rng.permutation(len(members))]
                result |= {(survey, g): order[i - 1] for i, g in enumerate(order)}
            elif others:
                result[survey, members[0]] = others[rng.integers(len(others))]
    return result


def _first_known(
    answer: Answer, steps: Sequence[tuple[str, Key, dict[Hashable, np.ndarray]]]
) -> tuple[Float[np.ndarray, " k"], str]:
    """The first step that knows this row's key."""
    for source, key, means in steps:
        if key(answer) in means:
            return means[key(answer)], source
    return uniform([answer])[0], UNIFORM


def means(items: Iterable[tuple[K | None, np.ndarray]]) -> dict[K, np.ndarray]:
    """Mean distribution per key; items whose key is None belong to none."""
    members: dict[K, list[np.ndarray]] = defaultdict(list)
    for key, probs in items:
        if key is not None:
            members[key].append(probs)
    return {key: np.mean(probs, axis=0) for key, probs in members.items()}


def question_of(answer: Answer) -> Hashable:
    """What makes a question the same to a baseline: one whose options changed is another question."""
    return (answer.question_key, folded_options(answer))


def folded_options(answer: Answer) -> Hashable:
    """An option list for comparison."""
    return tuple(map(fold, answer.options))


def _number_and_scale(answer: Answer) -> Hashable:
    return (len(answer.options), answer.scale) if answer.scale else None


def _number(answer: Answer) -> Hashable:
    return len(answer.options)
