"""Every baseline by name. docs/baselines.md has the formulas, and what each may know."""

import functools
from collections.abc import Mapping, Sequence

from survey_jax.survey import baselines, baselines_groups, baselines_paper, baselines_text
from survey_jax.survey.baselines import UNIFORM, Baseline, Filled
from survey_jax.survey.embeddings import Embeddings
from survey_jax.survey.table import Answer


def _uniform(train: Sequence[Answer], answers: Sequence[Answer]) -> Filled:
    return baselines.uniform(answers), [UNIFORM] * len(answers)


BASELINES: Mapping[str, Baseline] = {
    "uniform": _uniform,
    "seen_group_mean": baselines.seen_group_mean,
    "seen_group_mean_by_n": baselines_groups.seen_group_mean_by_n,
    "nearest_groups": baselines_groups.nearest_groups,
    "factor_model": baselines_groups.factor_model,
    "covariates": baselines_groups.covariates,
    "text_neighbours": baselines_text.text_neighbours,
    "text_ridge": baselines_text.text_ridge,
    "paper_average": baselines_paper.paper_average,
    "paper_average_answer": baselines_paper.paper_average_answer,
    "paper_knn": baselines_paper.paper_knn,
    "paper_knn_answer": baselines_paper.paper_knn_answer,
}


def with_embeddings(embeddings: Embeddings) -> Mapping[str, Baseline]:
    """All baselines, and the two on question texts once more with embeddings."""
    return {
        **BASELINES,
        "embedding_neighbours": functools.partial(baselines_text.text_neighbours, embeddings=embeddings),
        "embedding_ridge": functools.partial(baselines_text.text_ridge, embeddings=embeddings),
    }
