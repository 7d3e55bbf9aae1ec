"""Every baseline by name. docs/baselines.md has the formulas, and what each may know.

>>> from survey_jax.survey.table import DEMO, read_table
>>> train, answers = read_table(DEMO)[:200], read_table(DEMO)[200:240]
>>> shares, how_made = BASELINES["seen_group_mean"](train, answers)
>>> len(shares), sorted(set(how_made))
(40, ['same options', 'same question'])
"""

import functools
from collections.abc import Mapping, Sequence

from survey_jax.survey.baselines import by_group, by_text, paper, seen_groups
from survey_jax.survey.baselines.by_text import Embeddings
from survey_jax.survey.baselines.seen_groups import UNIFORM, Baseline, Filled
from survey_jax.survey.table import Answer


def _uniform(train: Sequence[Answer], answers: Sequence[Answer]) -> Filled:
    return seen_groups.uniform(answers), [UNIFORM] * len(answers)


BASELINES: Mapping[str, Baseline] = {
    "uniform": _uniform,
    "seen_group_mean": seen_groups.seen_group_mean,
    "seen_group_mean_by_n": by_group.seen_group_mean_by_n,
    "nearest_groups": by_group.nearest_groups,
    "factor_model": by_group.factor_model,
    "covariates": by_group.covariates,
    "text_neighbours": by_text.text_neighbours,
    "text_ridge": by_text.text_ridge,
    "paper_average": paper.paper_average,
    "paper_average_answer": paper.paper_average_answer,
    "paper_knn": paper.paper_knn,
    "paper_knn_answer": paper.paper_knn_answer,
}


IN_WORDS: Mapping[str, str] = {  # rule -> what it is, for readers of a report
    "uniform": "all options alike",
    "seen_group_mean": "average of the groups asked before",
}


def with_embeddings(embeddings: Embeddings) -> Mapping[str, Baseline]:
    """All baselines, and the two on question texts a second time, with embeddings."""
    return {
        **BASELINES,
        "embedding_neighbours": functools.partial(by_text.text_neighbours, embeddings=embeddings),
        "embedding_ridge": functools.partial(by_text.text_ridge, embeddings=embeddings),
    }
