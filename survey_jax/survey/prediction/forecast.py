"""What is predicted of a question put to a group."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from survey_jax.survey.prediction import dirichlet
from survey_jax.survey.table import Answer


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
