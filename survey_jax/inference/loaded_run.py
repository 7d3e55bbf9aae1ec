"""A trained run, opened to predict with: its language model alone, or the stack of which the model is a member."""

import contextlib
import dataclasses
import functools
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import Float

from survey_jax.checkpointing.manager import TOKENIZER, TRAINING_SET, Checkpoints, check_identity
from survey_jax.common.files import open_workdir, read_json
from survey_jax.inference import controls
from survey_jax.inference.asking import AS_TRAINED, Asking, stack_file, stack_key
from survey_jax.inference.predictor import Predictor
from survey_jax.inputs.prompts import Prompt, Prompter, limited, with_prior
from survey_jax.inputs.task import known_answers, make_prompter, make_splits, open_tokenizer, read_answers, rules_prior
from survey_jax.inputs.trees import BatchShape, group_questions
from survey_jax.parallel.sharding import row_devices
from survey_jax.pretrained.open import open_pretrained
from survey_jax.survey.evaluation import metrics
from survey_jax.survey.evaluation.calibration import Temperature, calibrate
from survey_jax.survey.prediction.forecast import Forecast
from survey_jax.survey.prediction.forecaster import Forecaster
from survey_jax.survey.splits.config import TRAIN, VALID
from survey_jax.survey.splits.kinds import kinds
from survey_jax.survey.splits.split import Splits, fingerprint
from survey_jax.survey.table import Answer
from survey_jax.telemetry.manifest import read_config
from survey_jax.training.build import Model, build_model, on_these_devices

if TYPE_CHECKING:
    from survey_jax.survey.prediction.prior import RulesPrior

# Tokens of a sequence, at least and at most: in longer ones, more groups share a question's tokens.
SHORT_SEQ, LONG_SEQ = 512, 2048
_ANSWER = 4  # tokens that an answer takes at least


def roomy(shape: BatchShape, prompts: Sequence[Prompt], rows: int) -> BatchShape:
    """A batch of as many tokens, in sequences that hold what is asked of an average question, up to LONG_SEQ tokens.

    Args:
      rows: over which the sequences of a batch must divide.
    """
    trees = [len(q.trunk) + sum(map(len, q.branches)) for q in group_questions(prompts)]
    seq_len = shape.seq_len
    while seq_len < np.mean(trees) and 2 * seq_len <= LONG_SEQ:
        seq_len *= 2
    batch_size = max(1, shape.batch_size * shape.seq_len // seq_len // rows) * rows
    answers = max(shape.answers_per_seq, seq_len // _ANSWER)
    return dataclasses.replace(shape, batch_size=batch_size, seq_len=seq_len, answers_per_seq=answers)


class LoadedRun:
    """A trained run. See `api.load_run`.

    Attributes:
      config: its settings, on the devices that are here.
      asking: in how many ways the language model is asked.
      step: of the checkpoint.
      temperatures: kind of row -> the temperature of the language model's predictions; 1 for a kind that is not there.
    """

    def __init__(self, workdir: str, step: str, asking: Asking = AS_TRAINED):
        self._folder, self.asking = open_workdir(workdir), asking
        config = on_these_devices(read_config(self._folder))
        asking.check(config.data.template)
        self._longest = config.batch.seq_len  # tokens of a prompt; those of a sequence may be more
        batch = dataclasses.replace(config.batch, seq_len=max(config.batch.seq_len, SHORT_SEQ))
        self.config = dataclasses.replace(config, batch=batch)
        model = self.config.model
        self._pretrained = open_pretrained(model.weights, model.revision, model.ignore_fields)
        self._checkpoints = Checkpoints(self._folder)
        self._reading = contextlib.ExitStack()  # until the parameters are restored
        weakref.finalize(self, self._reading.close)
        self.step = self._reading.enter_context(self._checkpoints.reading(step))
        self._base_model = self._pretrained.fingerprint(self.config.model.quantize)
        self._identity, self._digest = self._checkpoints.identity(self.step), self._checkpoints.digest(self.step)
        check_identity(self._identity, {"base model": self._base_model}, self._folder)
        self.temperatures = self._checkpoints.temperatures(self.step)
        self._model: Model | None = None
        self._predictors: dict[BatchShape, Predictor] = {}  # jax compiles anew for other sizes

    @property
    def manifest(self) -> dict[str, Any]:
        """The run's manifest.json: versions, seeds, data and devices of each start."""
        return read_json(self._folder / "manifest.json")

    @functools.cached_property
    def splits(self) -> Splits:
        """The rows of the run. Raises UserError where its tables are gone, or are not those that it was trained on."""
        splits = make_splits(read_answers(self.config), self.config)
        trained = {TRAINING_SET: fingerprint(splits.rows[TRAIN])}
        check_identity(self._identity, trained, self._folder)
        return splits

    @functools.cached_property
    def _prompters(self) -> list[Prompter]:
        told = self.config.data.known_answers  # without any, the run's tables need not be there
        known = known_answers(self.config, self.splits.rows[TRAIN]) if told else None
        tokenizer, asking = open_tokenizer(self.config, self._pretrained), self.asking
        check_identity(self._identity, {TOKENIZER: make_prompter(self.config, *tokenizer).fingerprint()}, self._folder)
        asked = controls.prompters(self.config, *tokenizer, asking.orders, asking.templates)
        return [prompter.telling(known) for prompter in asked]

    @functools.cached_property
    def _prior(self) -> "RulesPrior | None":
        return rules_prior(self.config, self.splits.rows[TRAIN]) if self.config.model.prior else None

    @functools.cached_property
    def forecaster(self) -> Forecaster:
        """The stack; it reads the run's tables."""
        train, valid = self.splits.rows[TRAIN], self._short(self.splits.rows.get(VALID, []))
        key = stack_key(self._base_model, self._digest, train, valid, self.asking)
        return Forecaster(train, valid, self._shares, stack_file(self._folder, self.step, self.asking), key)

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

        The temperatures are those of predictions in the run's own order of options.

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
        for prompter in self._prompters if answers else ():
            limited(prompter.tokenise(answers)[0], self._longest, False)

    def _short(self, rows: Sequence[Answer]) -> list[Answer]:
        """The rows whose prompt is not too long; where the run leaves such rows out, so does this."""
        for prompter in self._prompters:
            prompts = prompter.tokenise(rows)[0] if rows else []
            rows = [p.answer for p in limited(prompts, self._longest, self.config.data.drop_long)]
        return list(rows)

    def _shares(self, answers: Sequence[Answer]) -> Float[np.ndarray, "n K"]:
        """The language model's predictions, without calibration; the mean over the ways of asking."""
        said = [] if self._prior is None else self._prior(answers)
        prior = None if self._prior is None else lambda rows: said
        asked = []
        for prompter in self._prompters:
            prompts, letters = prompter.tokenise(answers)
            limited(prompts, self._longest, False)
            asked.append((with_prior(prompts, prior), letters))
        prompts, letters = asked[0]
        if self._model is None:
            model = build_model(self.config, self._pretrained, prompts, len(letters))
            params = self._checkpoints.restore_parameters(self.step, model.params)
            self._model = dataclasses.replace(model, params=params)
            self._reading.close()
        mesh = self._model.mesh
        shape = roomy(self._model.shape, prompts, row_devices(mesh))
        shape = dataclasses.replace(shape, options=len(letters))
        if shape not in self._predictors:
            self._predictors[shape] = Predictor(dataclasses.replace(self._model, shape=shape), letters)
        predict = self._predictors[shape]
        with jax.set_mesh(mesh):  # another run may have set its own
            each = [predict(self._model.params, prompts, "predicting", letters) for prompts, letters in asked]
        raw = np.mean(each, axis=0)
        return metrics.stack(answers, [shares[: len(a.options)] for shares, a in zip(raw, answers, strict=True)])
