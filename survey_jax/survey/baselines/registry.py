"""Every baseline by name. docs/baselines.md has the formulas, and what each may know.

>>> from survey_jax.survey.table import DEMO, read_table
>>> train, answers = read_table(DEMO)[:200], read_table(DEMO)[200:240]
>>> shares, how_made = BASELINES["seen_group_mean"](train, answers)
>>> len(shares), sorted(set(how_made))
(40, ['same options', 'same question'])
"""

import functools
from collections.abc import Mapping, Sequence

from survey_jax.survey.baselines import by_group, by_text, paper, seen_groups, text_and_group
from survey_jax.survey.baselines.seen_groups import UNIFORM, Baseline, Filled
from survey_jax.survey.embeddings import Embeddings
from survey_jax.survey.table import Answer


def _uniform(train: Sequence[Answer], answers: Sequence[Answer]) -> Filled:
    return seen_groups.uniform(answers), [UNIFORM] * len(answers)


BASELINES: Mapping[str, Baseline] = {
    "uniform": _uniform,
    "seen_group_mean": seen_groups.seen_group_mean,
    "half_seen_mean": seen_groups.half_seen_mean,
    "seen_group_mean_by_n": by_group.seen_group_mean_by_n,
    "nearest_groups": by_group.nearest_groups,
    "factor_model": by_group.factor_model,
    "covariates": by_group.covariates,
    "text_neighbours": by_text.text_neighbours,
    "text_ridge": by_text.text_ridge,
    "text_and_group": text_and_group.text_and_group,
    "paper_average": paper.paper_average,
    "paper_average_answer": paper.paper_average_answer,
    "paper_knn": paper.paper_knn,
    "paper_knn_answer": paper.paper_knn_answer,
}

# What readers call the baselines, and the systems that stand beside them.
IN_WORDS: Mapping[str, str] = {
    "uniform": "even guess",
    "seen_group_mean": "average of the groups asked before",
    "half_seen_mean": "half the average of the groups asked before, half even",
    "seen_group_mean_by_n": "average of the groups asked before, large samples counting more",
    "nearest_groups": "average of the groups most alike in other answers",
    "factor_model": "few traits estimated from a group's other answers",
    "covariates": "regression on what is known of the group",
    "text_neighbours": "average of the questions most alike in words",
    "text_ridge": "regression on the question's words",
    "text_and_group": "similar groups' answers to similar questions",
    "paper_average": "the paper's average of countries",
    "paper_average_answer": "the likeliest answer of the paper's average",
    "paper_knn": "copy of the most similar question and group",
    "paper_knn_answer": "the likeliest answer of that copy",
    "embedding_neighbours": "average of the questions most alike in meaning",
    "embedding_ridge": "regression on the question's meaning",
    "embedding_and_group": "similar groups' answers to questions alike in meaning",
    "stack": "rules and model together",
    "rules_pooled": "the rules together",
    "model": "the model",
    "zero_shot": "the same model untrained",
    "uncalibrated": "the model without calibration",
    "group_swapped": "the model asked about the wrong group",
    "no_group": "the model asked about no group",
    "reversed": "the model, options in reverse order",
    "shuffled": "the model, options in random order",
}


def with_embeddings(embeddings: Embeddings) -> Mapping[str, Baseline]:
    """All baselines, and those on question texts a second time, with embeddings."""
    return {
        **BASELINES,
        "embedding_neighbours": functools.partial(by_text.text_neighbours, embeddings=embeddings),
        "embedding_ridge": functools.partial(by_text.text_ridge, embeddings=embeddings),
        "embedding_and_group": functools.partial(text_and_group.text_and_group, embeddings=embeddings),
    }
