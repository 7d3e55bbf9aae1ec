"""Predictions for any prompts, batch by batch; cached, so that nothing is predicted twice, nor lost by interruption."""

import dataclasses
import hashlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from etils import epath
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Float

from survey_jax.common.console import is_first, say, track
from survey_jax.common.errors import UserError, plural
from survey_jax.common.files import NpzStore
from survey_jax.inputs.batches import evaluation_batches, local_rows, on_every_device, to_device
from survey_jax.inputs.prompts import Prompt
from survey_jax.inputs.task import Task
from survey_jax.inputs.trees import BatchShape, group_questions, tree_shape, trunk_room
from survey_jax.parallel.distributed import Poll, all_gather_text, check_stop
from survey_jax.training.build import Model
from survey_jax.training.step import StepConfig, letter_mass, predict_step

T = TypeVar("T")
_SAVE_EVERY = 60.0  # seconds of predicting that may be lost


class PredictionCache:
    """Finished and partial predictions, so that evaluations can be resumed and share them; process 0 reads and writes.

    Args:
      folder: beside the evaluations' results.
      settings: what predictions depend on besides weights, prompts and letters.
    """

    def __init__(self, folder: epath.Path, settings: str):
        self._store, self._settings = NpzStore(folder, ("batches", "predictions")), settings
        self._saved = time.monotonic()

    def key(self, weights: str, prompts: Sequence[Prompt], letters: np.ndarray) -> str:
        """The name under which the predictions for some prompts are saved; `weights` says who makes them."""
        digest = hashlib.sha256(f"{self._settings} {weights}".encode() + letters.tobytes())
        for prompt in prompts:
            digest.update(prompt.tokens.tobytes() + b"|")
            if prompt.prior is not None:
                digest.update(prompt.prior.tobytes())
        return digest.hexdigest()[:16]

    def load(self, key: str, predictions: np.ndarray) -> int:
        """Fills in saved predictions on process 0. Returns of how many batches they are, on all processes."""
        batches = 0
        if is_first():
            found = self._store.get(key, lambda a: a["predictions"].shape == predictions.shape)
            if found is not None:
                batches, predictions[...] = int(found["batches"]), found["predictions"]
        return int(all_gather_text(str(batches))[0])

    def save(self, key: str, batches: int, predictions: np.ndarray, now: bool = False) -> None:
        """Saves the predictions of the first so many batches if the last time is a while ago, or `now`."""
        if is_first() and batches and (now or time.monotonic() - self._saved > _SAVE_EVERY):
            self._store.put(key, batches=batches, predictions=predictions)
            self._saved = time.monotonic()


def evaluation_layout(model: Model, prompts: Sequence[Prompt]) -> tuple[BatchShape, StepConfig]:
    """Shape and step configuration for `evaluation_batches` of these prompts.

    Both depend on the prompts: what those of a question share depends on which of them are present.
    """
    questions = group_questions(prompts)
    room = trunk_room(questions, model.shape.seq_len, model.shape.answers_per_seq)
    shape = dataclasses.replace(model.shape, trunk_len=room)
    step_config = dataclasses.replace(model.step_config, remat="none")  # there is no backward pass
    if step_config.tree_shape is not None:
        sizes = tree_shape(questions, shape, step_config.tree_shape.back_end)
        step_config = dataclasses.replace(step_config, tree_shape=sizes)
    return shape, step_config


def evaluation_step(model: Model, step: Callable[..., jax.Array]) -> Any:
    """Compiles `step` for evaluation batches; returns its answers [B, A, ...] and the indices of their prompts [B, A].

    Every process gets the answers of all rows.
    """

    def both(graphdef: Any, params: Any, frozen: Any, batch: Any, letters: Any, *, step_config: StepConfig) -> Any:
        return step(graphdef, params, frozen, batch, letters, step_config=step_config), batch["prompt"]

    replicated = NamedSharding(model.mesh, P())
    return jax.jit(both, static_argnums=0, static_argnames="step_config", out_shardings=replicated)


def over_prompts(
    model: Model,
    step: Any,
    params: nnx.State,
    prompts: Sequence[Prompt],
    letters: np.ndarray,
    label: str,
    done: int = 0,
    most: int | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Runs an `evaluation_step` on all batches; yields answers [n, ...] and the indices of their prompts [n].

    A batch is fetched when the next one has been dispatched, so that the devices do not wait for the host.

    Args:
      label: shown with the progress.
      done: how many batches to skip at the beginning.
      most: how many batches to run; None: all.

    Raises:
      Stopped: between two batches, see `distributed.check_stop`.
    """
    shape, step_config = evaluation_layout(model, prompts)
    batches = evaluation_batches(prompts, shape, local_rows(model.mesh, shape.batch_size))[done:][:most]
    poll, on_devices = Poll(), on_every_device(model.mesh, letters)

    def dispatched() -> Iterator[Any]:
        for batch in batches:
            on_mesh = to_device(batch, model.mesh, shape.batch_size, False)
            with jax.transfer_guard("disallow"):
                found = step(model.graphdef, params, model.frozen, on_mesh, on_devices, step_config=step_config)
            yield found

    for found in track(one_ahead(dispatched()), len(batches), label):
        check_stop(label, poll=poll)
        answers, prompt = jax.device_get(found)
        yield answers[prompt >= 0], prompt[prompt >= 0]


def one_ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items; each is taken from `items` before the one ahead of it is given out."""
    waiting = deque(itertools.islice(items, 1))
    for item in items:
        waiting.append(item)
        yield waiting.popleft()
    yield from waiting


class Predictor:
    """Predicts option probabilities for any prompts; with dense attention it compiles once.

    Args:
      letters: token ids of the run's letters.
      cache: of predictions, so that none is made twice.
    """

    def __init__(self, model: Model, letters: np.ndarray, cache: PredictionCache | None = None):
        self._model, self._letters, self._cache, self.options = model, letters, cache, model.shape.options
        self._predict, self._mass = evaluation_step(model, predict_step), evaluation_step(model, letter_mass)

    def __call__(
        self,
        params: nnx.State,
        prompts: Sequence[Prompt],
        label: str,
        letters: np.ndarray | None = None,
        weights: str = "",
    ) -> Float[np.ndarray, "n K"]:
        """Predictions in the order of `prompts`, 0 where an option does not exist; a progress bar on a terminal.

        All processes get the same, unless some come from the cache: then only process 0 has all of them.

        Args:
          letters: token ids of the letters, if the prompts have another template than the run's.
          weights: what `params` are, for the cache.

        Raises:
          Stopped: see `over_prompts`.
          UserError: no prediction at all is a distribution.
        """
        letters = self._letters if letters is None else letters
        result, done, kept = np.zeros((len(prompts), self.options), np.float64), 0, 0
        if self._cache:
            key = self._cache.key(weights, prompts, letters)
            done = kept = self._cache.load(key, result)
        try:
            for probs, indices in over_prompts(self._model, self._predict, params, prompts, letters, label, done):
                result[indices] = probs
                done += 1
                if self._cache:
                    self._cache.save(key, done, result)
        finally:
            if self._cache and done > kept:
                self._cache.save(key, done, result, now=True)
        if len(result) and not np.isfinite(result).all(axis=1).any():
            raise UserError(
                f"{label}: none of {plural(len(result), 'prediction')} is a distribution (its numbers are not finite): "
                "the checkpoint or the weights are broken, or config.model.dtype cannot hold their values"
            )
        for row, prompt in zip(result, prompts, strict=True):  # from the order of letters to that of options
            row[list(prompt.order)] = row[: len(prompt.order)].copy()
        return result

    def letter_mass(self, params: nnx.State, prompts: Sequence[Prompt]) -> float:
        """Mean probability of the options' letters among all tokens, over the first batch of prompts."""
        prompts = prompts[: self._model.shape.batch_size * self._model.shape.answers_per_seq]  # no batch has more
        mass, _ = next(
            over_prompts(self._model, self._mass, params, prompts, self._letters, "the letters' mass", most=1)
        )
        return float(mass.mean())


def predict_all(
    predictor: Predictor, params: Any, task: Task, names: Sequence[str], label: str, weights: str
) -> dict[str, Float[np.ndarray, "n K"]]:
    """Predictions for every split; `weights` says what the parameters are, for the predictor's cache."""
    predictions = {}
    for name in names:
        predictions[name] = predictor(params, task.prompts[name], f"{label} on {name}", weights=weights)
        say(f"{label}: {name} done")
    return predictions
