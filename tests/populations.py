"""Made-up populations whose true answers are known, and surveys of them."""

import dataclasses

import numpy as np
from scipy.special import softmax

from survey_jax.survey.table import Answer

OPTIONS = tuple("abcd")


def table(questions: int, groups: int, scale: str = "ordinal", n: float | None = None) -> list[Answer]:
    """Every question asked of every group; rows by question, then group. Shares are still to be filled in."""
    return [
        Answer("S", f"Q{q}", "How?", OPTIONS, (("country", f"C{g}"),), (0.25,) * 4, scale=scale, n=n)
        for q in range(questions)
        for g in range(groups)
    ]


def with_shares(rows: list[Answer], shares: np.ndarray) -> list[Answer]:
    flat = shares.reshape(-1, len(OPTIONS)).tolist()
    return [dataclasses.replace(row, probs=tuple(p)) for row, p in zip(rows, flat, strict=True)]


def draw(rng: np.random.Generator, questions: int, groups: int, use: float = 0.5, error: float = 0.5):
    """True and predicted shares, Float[questions groups 4] each.

    Groups stand apart on one scale that questions measure more or less strongly. The prediction knows the question but
    for an error of its own and one of the group, and moves the share `use` of the way between the groups.
    """
    level = rng.normal(size=(questions, 1, 4))
    apart = 0.7 * rng.normal(size=(questions, 1, 4)) * rng.normal(size=(1, groups, 1))
    wrong = rng.normal(size=(questions, 1, 4)) + 0.5 * rng.normal(size=(1, groups, 4))
    noise = rng.normal(size=(2, questions, groups, 4))
    truth = softmax(level + apart + 0.2 * noise[0], -1)
    return truth, softmax(level + use * apart + error * (wrong + 0.3 * noise[1]), -1)


def ask(truth: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """The shares of a sample of n people a cell."""
    return rng.multinomial(n, truth) / n
