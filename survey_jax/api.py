"""The parts of survey_jax for notebooks and scripts of your own: docs/api.md has an example.

Tables (`read_table`, `write_table`, `Answer`, `DEMO`), splits (`split`, `SplitConfig`), predictions that need no model
(`BASELINES`), scores of any predictions (`score`), and trained runs (`open_run`).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from survey_jax.common.files import open_workdir, read_json
from survey_jax.survey.baselines.registry import BASELINES
from survey_jax.survey.evaluation import metrics
from survey_jax.survey.evaluation.calibration import Temperature, calibrate
from survey_jax.survey.splits.config import TRAIN, SplitConfig
from survey_jax.survey.splits.kinds import kind_of
from survey_jax.survey.splits.split import split
from survey_jax.survey.table import DEMO, Answer, read_table, write_table
from survey_jax.survey.text import same_group

if TYPE_CHECKING:
    from survey_jax.inference.predictor import Predictor
    from survey_jax.training.build import Model

__all__ = [
    "BASELINES",
    "DEMO",
    "Answer",
    "OpenedRun",
    "SplitConfig",
    "open_run",
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


class OpenedRun:
    """A trained run, opened to predict with. See `open_run`.

    Attributes:
      step: of the checkpoint.
      temperatures: kind of row -> the temperature of its predictions; 1 for a kind that is not there.
    """

    def __init__(self, workdir: str, step: str):
        # Here, so that whoever needs tables and scores alone does not wait for jax.
        from survey_jax.checkpointing.manager import Checkpoints, check_identity
        from survey_jax.inputs.task import make_prompter, open_tokenizer
        from survey_jax.pretrained.open import open_pretrained
        from survey_jax.telemetry.manifest import read_config
        from survey_jax.training.build import on_these_devices

        folder = open_workdir(workdir)
        self._config = on_these_devices(read_config(folder))
        self._pretrained = open_pretrained(self._config.model.weights, self._config.model.revision)
        self._checkpoints = Checkpoints(folder)
        self.step = self._checkpoints.step(step)
        base_model = {"base model": self._pretrained.fingerprint(self._config.model.quantize)}
        check_identity(self._checkpoints.identity(self.step), base_model, folder)
        self.temperatures = self._checkpoints.temperatures(self.step)
        trained = read_json(folder / "splits.json")[TRAIN]
        self._asked = {(survey, number) for survey, number in trained["questions"]}
        self._groups = {same_group(tuple(sorted(group.items()))) for group in trained["groups"]}
        self._prompter = make_prompter(self._config, *open_tokenizer(self._config, self._pretrained))
        self._model: Model | None = None
        self._params: Any = None
        self._predictors: dict[int, Predictor] = {}  # by the number of letters; jax compiles anew for other sizes

    def predict(self, answers: Sequence[Answer]) -> list[np.ndarray]:
        """What the model says of rows, whose own answers it does not see.

        Returns:
          for each row a distribution over its options, in their order.

        Raises:
          UserError: a prompt that is longer than the run's `batch.seq_len`.
        """
        import jax

        from survey_jax.inference.predictor import Predictor
        from survey_jax.inputs.prompts import limited
        from survey_jax.training.build import build_model

        if not answers:
            return []
        prompts, letters = self._prompter.tokenise(answers)
        limited(prompts, self._config.batch.seq_len, False)
        if self._model is None:
            model = build_model(self._config, self._pretrained, prompts, len(letters))
            self._params = self._checkpoints.restore_parameters(self.step, model.params)
            self._model = model
        if len(letters) not in self._predictors:
            shape = dataclasses.replace(self._model.shape, options=len(letters))
            self._predictors[len(letters)] = Predictor(dataclasses.replace(self._model, shape=shape), letters)
        with jax.set_mesh(self._model.mesh):  # another run may have set its own
            raw = self._predictors[len(letters)](self._params, prompts, "predicting")
        kinds = [kind_of(answer, self._asked, self._groups) for answer in answers]
        calibration = {kind: Temperature(value, value, 0, 0) for kind, value in self.temperatures.items()}
        predictions = calibrate(raw, kinds, calibration)
        return [shares[: len(answer.options)] for answer, shares in zip(answers, predictions, strict=True)]


def open_run(workdir: str, step: str = "best") -> OpenedRun:
    """Opens a run to predict with.

    Args:
      workdir: of `survey_jax.train`: a folder or gs://BUCKET/RUN.
      step: which checkpoint: "best" (on the validation split), "last", or a number.

    Raises:
      UserError: there is no run, no such checkpoint, or the base model is another one now.
    """
    return OpenedRun(workdir, step)
