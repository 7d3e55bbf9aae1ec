"""A trained run, opened to predict with: its language model alone, or the stack of which the model is a member."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from jaxtyping import Float

from survey_jax.checkpointing.manager import TRAINING_SET, Checkpoints, check_identity
from survey_jax.common.files import open_workdir, read_json
from survey_jax.inference.predictor import Predictor
from survey_jax.inputs.prompts import limited, with_prior
from survey_jax.inputs.task import make_prompter, open_tokenizer, read_answers
from survey_jax.pretrained.open import open_pretrained
from survey_jax.survey.evaluation import metrics
from survey_jax.survey.evaluation.calibration import Temperature, calibrate
from survey_jax.survey.prediction.forecast import Forecast
from survey_jax.survey.prediction.forecaster import Forecaster
from survey_jax.survey.prediction.prior import RulesPrior
from survey_jax.survey.splits.config import TRAIN, VALID
from survey_jax.survey.splits.kinds import kinds
from survey_jax.survey.splits.split import Splits, fingerprint, split
from survey_jax.survey.table import Answer
from survey_jax.telemetry.manifest import read_config
from survey_jax.training.build import Model, build_model, on_these_devices

# At least so many tokens and answers in a sequence: many groups then share a question's tokens.
SEQ_LEN, ANSWERS_PER_SEQ = 512, 64


def stack_file(workdir: epath.Path, step: int) -> epath.Path:
    """Where a run keeps the stack of a checkpoint."""
    return workdir / "prediction" / f"step_{step}.json"


def stack_key(base_model: str, checkpoint: str, train: Sequence[Answer], valid: Sequence[Answer]) -> dict[str, str]:
    """What the stack of a checkpoint depends on, besides this program."""
    rows = {"training rows": fingerprint(train), "validation rows": fingerprint(valid) if valid else "none"}
    return {"base model": base_model, "checkpoint": checkpoint} | rows


class LoadedRun:
    """A trained run. See `api.load_run`.

    Attributes:
      config: its settings, on the devices that are here.
      step: of the checkpoint.
      temperatures: kind of row -> the temperature of the language model's predictions; 1 for a kind that is not there.
    """

    def __init__(self, workdir: str, step: str):
        self._folder = open_workdir(workdir)
        config = on_these_devices(read_config(self._folder))
        self._longest = config.batch.seq_len  # tokens of a prompt; those of a sequence may be more
        batch = dataclasses.replace(
            config.batch,
            seq_len=max(config.batch.seq_len, SEQ_LEN),
            answers_per_seq=max(config.batch.answers_per_seq, ANSWERS_PER_SEQ),
        )
        self.config = dataclasses.replace(config, batch=batch)
        self._pretrained = open_pretrained(self.config.model.weights, self.config.model.revision)
        self._checkpoints = Checkpoints(self._folder)
        self.step = self._checkpoints.step(step)
        self._base_model = self._pretrained.fingerprint(self.config.model.quantize)
        check_identity(self._checkpoints.identity(self.step), {"base model": self._base_model}, self._folder)
        self.temperatures = self._checkpoints.temperatures(self.step)
        self._prompter = make_prompter(self.config, *open_tokenizer(self.config, self._pretrained))
        self._model: Model | None = None
        self._predictors: dict[int, Predictor] = {}  # by the number of letters; jax compiles anew for other sizes

    @property
    def manifest(self) -> dict[str, Any]:
        """The run's manifest.json: versions, seeds, data and devices of each start."""
        return read_json(self._folder / "manifest.json")

    @functools.cached_property
    def splits(self) -> Splits:
        """The rows of the run. Raises UserError where its tables are gone, or are not those that it was trained on."""
        splits = split(read_answers(self.config), self.config.data.splits)
        trained = {TRAINING_SET: fingerprint(splits.rows[TRAIN])}
        check_identity(self._checkpoints.identity(self.step), trained, self._folder)
        return splits

    @functools.cached_property
    def _prior(self) -> RulesPrior | None:
        return RulesPrior(self.splits.rows[TRAIN]) if self.config.model.prior else None

    @functools.cached_property
    def forecaster(self) -> Forecaster:
        """The stack; it reads the run's tables."""
        train, valid = self.splits.rows[TRAIN], self._short(self.splits.rows.get(VALID, []))
        key = stack_key(self._base_model, self._checkpoints.digest(self.step), train, valid)
        return Forecaster(train, valid, self._shares, stack_file(self._folder, self.step), key)

    def predict(self, answers: Sequence[Answer]) -> list[Forecast]:
        """What the stack predicts for questions put to groups; it does not see the rows' own answers.

        The first call fits the stack's weights, which takes a minute or two, and saves them in the run's folder.

        Raises:
          UserError: a prompt that is longer than the run's `batch.seq_len`; the run's tables are gone or others.
        """
        self.check(answers)
        return self.forecaster.predict(answers)

    def model_shares(self, answers: Sequence[Answer]) -> list[Float[np.ndarray, " k"]]:
        """What the language model alone says of rows, calibrated; it does not see their own answers.

        Returns:
          for each row a distribution over its options, in their order.

        Raises:
          UserError: as `predict`.
        """
        if not answers:
            return []
        calibration = {kind: Temperature(value, value, 0, 0) for kind, value in self.temperatures.items()}
        row_kinds = kinds(self.splits.rows[TRAIN], answers)
        predictions = calibrate(self._shares(answers), row_kinds, calibration)
        return [shares[: len(answer.options)] for answer, shares in zip(answers, predictions, strict=True)]

    def check(self, answers: Sequence[Answer]) -> None:
        """Raises UserError for a prompt that is too long, before anything is computed."""
        if answers:
            limited(self._prompter.tokenise(answers)[0], self._longest, False)

    def _short(self, rows: Sequence[Answer]) -> list[Answer]:
        """The rows whose prompt is not too long; where the run leaves such rows out, so does this."""
        if not rows:
            return []
        prompts, _ = self._prompter.tokenise(rows)
        return [p.answer for p in limited(prompts, self._longest, self.config.data.drop_long)]

    def _shares(self, answers: Sequence[Answer]) -> Float[np.ndarray, "n K"]:
        """The language model's predictions, without calibration."""
        prompts, letters = self._prompter.tokenise(answers)
        limited(prompts, self._longest, False)
        prompts = with_prior(prompts, self._prior)
        if self._model is None:
            model = build_model(self.config, self._pretrained, prompts, len(letters))
            params = self._checkpoints.restore_parameters(self.step, model.params)
            self._model = dataclasses.replace(model, params=params)
        if len(letters) not in self._predictors:
            shape = dataclasses.replace(self._model.shape, options=len(letters))
            self._predictors[len(letters)] = Predictor(dataclasses.replace(self._model, shape=shape), letters)
        with jax.set_mesh(self._model.mesh):  # another run may have set its own
            raw = self._predictors[len(letters)](self._model.params, prompts, "predicting")
        return metrics.stack(answers, [shares[: len(a.options)] for shares, a in zip(raw, answers, strict=True)])
