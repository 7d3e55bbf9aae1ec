"""Counts answers by group, and computes the figures of a row from them, for all sources alike."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float, Int

NOT_ASKED = "question not asked of the group"
NOBODY = "nobody in the group gave an answer"
NO_WEIGHT = "everyone who answered has a weight of 0"


@dataclasses.dataclass(frozen=True)
class Counts:
    """Answers to one question. The last axis: not asked, the options in order, no answer.

    Attributes:
      n: respondents whose weight is above 0.
      weightless: respondents whose weight is 0; they count nowhere.
      weight: sum of their weights.
      square: sum of their squared weights.
    """

    n: Int[np.ndarray, "groups answers"]
    weightless: Int[np.ndarray, "groups answers"]
    weight: Float[np.ndarray, "groups answers"]
    square: Float[np.ndarray, "groups answers"]

    def row(self, group: int, min_n: int) -> dict[str, Any] | str:
        """The figures of a group's row, or the reason why it has none.

        `counts` are sums of weights; `n` is the number of respondents with a valid answer and a weight above 0;
        `n_effective` is (sum w)^2 / sum w^2 over them (Kish 1965, Survey Sampling); `item_nonresponse` is the weighted
        share, of those who were asked, who gave no answer. Who was not asked counts nowhere. Both numbers of
        respondents must reach `min_n`.
        """
        valid = slice(1, -1)
        n, weights = int(self.n[group, valid].sum()), self.weight[group, valid]
        total, no_answer = float(weights.sum()), float(self.weight[group, -1])
        if n == 0 and self.weightless[group, valid].any():
            return NO_WEIGHT
        if n == 0:
            return NOBODY if self.n[group, -1] or self.weightless[group, -1] else NOT_ASKED
        if n < min_n:
            return f"fewer than {min_n} respondents in the group answered (min_n)"
        n_effective = total**2 / float(self.square[group, valid].sum())
        if n_effective < min_n * (1 - 1e-9):  # of equal weights, n but for rounding
            return f"fewer than {min_n} effective respondents in the group, as their weights differ (min_n)"
        return {
            "counts": weights.tolist(),
            "n": n,
            "n_effective": n_effective,
            "item_nonresponse": no_answer / (total + no_answer),
        }


def count(
    groups: Int[np.ndarray, " respondents"],
    answers: Int[np.ndarray, " respondents"],
    weight: Float[np.ndarray, " respondents"] | None,
    size: tuple[int, int],
) -> Counts:
    """Counts respondents.

    Args:
      groups: index of each respondent's group; the last is for those who count nowhere.
      answers: index of each respondent's answer, as on the last axis of `Counts`.
      weight: finite and not negative; None if all count the same.
      size: how many groups and answers there are.
    """
    index, length = groups * size[1] + answers, size[0] * size[1]
    everybody = np.bincount(index, minlength=length).reshape(size)
    if weight is None:
        return Counts(everybody, np.zeros_like(everybody), everybody.astype(float), everybody.astype(float))
    n = np.bincount(index[weight > 0], minlength=length).reshape(size)
    sums = (np.bincount(index, w, length).reshape(size) for w in (weight, weight**2))
    return Counts(n, everybody - n, *sums)
