"""What is predicted of a question put to a group."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from scipy import special

from survey_jax.common.errors import UserError
from survey_jax.survey.prediction import dirichlet
from survey_jax.survey.splits.kinds import FEW_ANSWERS, KNOWN, KNOWN_GROUP, NEW, SAME_CELL
from survey_jax.survey.table import Answer

# Kind of row -> the part of the error's variance that all groups of a question share. Measured on the World Values
# Survey with rules that had not seen the rows: of a new question .65, of a known one 0 (docs/human_answers.md).
SHARED = {NEW: 0.6} | dict.fromkeys((KNOWN, KNOWN_GROUP, SAME_CELL, FEW_ANSWERS), 0.05)


@dataclasses.dataclass(frozen=True)
class Similar:
    """A question of train, and how similar its text is to the one asked: a cosine, in [0, 1]."""

    question: Answer
    similarity: float


@dataclasses.dataclass(frozen=True)
class Forecast:
    """A question put to a group, and what is predicted.

    Attributes:
      answer: the question and the group. Nobody has answered: its own shares are even ones that nothing reads.
      shares: predicted, in the order of the options; they sum to 1.
      concentration: of the Dirichlet distribution around them, which is what the prediction is worth in interviews.
      kind: what train knows of question and group, see `splits.kinds`.
      members: what each member of the stack says, with the weight it has in it; "model" is the language model.
      similar: the questions of train that read most like this one, the most similar first.
      cautions: sentences on what is unlike anything in train; empty where nothing is.
    """

    answer: Answer
    shares: Float[np.ndarray, " K"]
    concentration: float
    kind: str
    members: Mapping[str, tuple[float, Float[np.ndarray, " K"]]]
    similar: tuple[Similar, ...] = ()
    cautions: tuple[str, ...] = ()

    def interval(self, level: float = 0.95) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
        """The low and high ends of the shares' intervals, each for itself."""
        return dirichlet.intervals(self.shares, np.array(self.concentration), level)

    @property
    def misplaced(self) -> float:
        """How many answers of a hundred are expected to be misplaced."""
        return 100 * dirichlet.misplaced(self.shares[None], np.array([self.concentration])).item()

    @property
    def shared(self) -> float:
        """See SHARED; 0 for any other kind, which makes differences less sure."""
        return SHARED.get(self.kind, 0.0)

    @property
    def spread(self) -> Float[np.ndarray, " K"]:
        """The standard deviation of each share."""
        return np.sqrt(self.shares * (1 - self.shares) / (self.concentration + 1))


def difference(
    first: Forecast, second: Forecast, level: float = 0.95
) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
    """The shares of `second` less those of `first`, to the same question, and the ends of their intervals.

    Both are wrong in the same way, in part: with rho of SHARED (the lesser one, where the kinds differ), a difference
    has the variance a^2 + b^2 - 2 rho a b, and is taken as normal.

    Raises:
      UserError: the options differ.
    """
    if first.answer.options != second.answer.options:
        raise UserError(f"{first.answer.describe()} and {second.answer.describe()}: not the same options")
    rho = min(first.shared, second.shared)
    a, b = first.spread, second.spread
    half = special.ndtri((1 + level) / 2) * np.sqrt(a**2 + b**2 - 2 * rho * a * b)
    apart = second.shares - first.shares
    return apart, np.maximum(apart - half, -1), np.minimum(apart + half, 1)
