"""The parts of survey_jax for notebooks and scripts of your own: docs/api.md has an example.

Tables (`read_table`, `write_table`, `Answer`, `DEMO`), splits (`split`, `SplitConfig`), predictions that need no model
(`BASELINES`), scores of any predictions (`score`), new questions (`read_questions`, `read_groups`, `ask`), and trained
runs that predict (`load_run`).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from survey_jax.survey.baselines.registry import BASELINES
from survey_jax.survey.evaluation import metrics
from survey_jax.survey.prediction.groups import ask, read_groups
from survey_jax.survey.prediction.questions import read_questions
from survey_jax.survey.splits.config import SplitConfig
from survey_jax.survey.splits.split import split
from survey_jax.survey.table import DEMO, Answer, read_table, write_table

if TYPE_CHECKING:
    from survey_jax.inference.loaded_run import LoadedRun

__all__ = [
    "BASELINES",
    "DEMO",
    "Answer",
    "SplitConfig",
    "ask",
    "load_run",
    "read_groups",
    "read_questions",
    "read_table",
    "score",
    "split",
    "write_table",
]


def score(
    answers: Sequence[Answer], predictions: Sequence[Sequence[float]] | Float[np.ndarray, "n K"], seed: int = 0
) -> Mapping[str, Mapping[str, float]]:
    """The mean of every metric over rows, with its 95 % interval, as `metrics.json` has them (docs/metrics.md).

    Args:
      answers: rows of a survey table.
      predictions: for each, a distribution over its options in their order.
      seed: of the bootstrap.

    Returns:
      metric -> "value", "low" and "high".

    Raises:
      UserError: a prediction that is no distribution over its row's options.
    """
    return metrics.summarise(answers, metrics.row_metrics(answers, predictions), seed)


def load_run(workdir: str, step: str = "best", orders: int = 1, templates: Sequence[str] = ()) -> "LoadedRun":
    """Opens a run to predict with: `load_run("checkpoints/demo").predict(rows)`.

    Args:
      workdir: of `survey_jax.train`: a folder or gs://BUCKET/RUN.
      step: which checkpoint: "best" (on the validation split), "last", or a number.
      orders: in how many orders of the options the language model is asked, to take the mean; 1: in the run's own.
      templates: in which it is asked beside the run's own, to take the mean (docs/prompts.md).

    Raises:
      UserError: there is no run, no such checkpoint, no such template, or the base model is another one now.
    """
    from survey_jax.inference.asking import Asking
    from survey_jax.inference.loaded_run import LoadedRun  # here: tables and scores alone need not wait for jax

    return LoadedRun(workdir, step, Asking(orders, tuple(templates)))
