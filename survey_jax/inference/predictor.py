"""Predictions for any prompts, batch by batch; partial ones are cached so that an interrupted evaluation can resume."""

import dataclasses
import hashlib
import io
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Float
from rich.progress import track

from survey_jax.common.console import is_first, say
from survey_jax.common.files import write_bytes
from survey_jax.inputs.batches import evaluation_batches, local_rows, to_device
from survey_jax.inputs.prompts import Prompt
from survey_jax.inputs.task import Task
from survey_jax.inputs.trees import BatchShape, group_questions, tree_shape, trunk_room
from survey_jax.parallel.distributed import Poll, all_gather_text, check_stop
from survey_jax.training.build import Model
from survey_jax.training.step import StepConfig, letter_mass, predict_step

EVERY = 60.0  # seconds of predicting that may be lost


class PredictionCache:
    """Files under a folder, one for each set of prompts; process 0 reads and writes them.

    Args:
      key: what the predictions depend on besides label, prompts and letters: model, checkpoint, settings.
    """

    def __init__(self, folder: epath.Path, key: str):
        self._folder, self._key, self._saved = folder, key, time.monotonic()

    def file(self, label: str, prompts: Sequence[Prompt], letters: np.ndarray) -> epath.Path:
        """Where the predictions for some prompts are kept; another file if anything about them is different."""
        digest = hashlib.sha256(f"{self._key} {label}".encode() + letters.tobytes())
        for prompt in prompts:
            digest.update(prompt.tokens.tobytes() + b"|")
        return self._folder / f"{digest.hexdigest()[:16]}.npz"

    def load(self, file: epath.Path, result: np.ndarray) -> int:
        """Fills in what is kept, on process 0. Returns how many batches that was, on all."""
        done = 0
        if is_first() and file.exists():
            try:
                with np.load(io.BytesIO(file.read_bytes())) as cache:
                    done, result[...] = int(cache["done"]), cache["result"]
            except (ValueError, KeyError, zipfile.BadZipFile) as error:
                say(f"warning: {file}: damaged ({error}); these predictions are made anew")
        return int(all_gather_text(str(done))[0])

    def save(self, file: epath.Path, done: int, result: np.ndarray, now: bool = False) -> None:
        """Keeps the predictions of the first `done` batches if the last time is a while ago, or `now`."""
        if is_first() and done and (now or time.monotonic() - self._saved > EVERY):
            buffer = io.BytesIO()
            np.savez(buffer, done=done, result=result)
            self._folder.mkdir(parents=True, exist_ok=True)
            write_bytes(file, buffer.getvalue())
            self._saved = time.monotonic()

    def clear(self) -> None:
        """The results are there."""
        if is_first() and self._folder.exists():
            self._folder.rmtree()


def evaluation_layout(model: Model, prompts: Sequence[Prompt]) -> tuple[BatchShape, StepConfig]:
    """Shape of, and computation for, `evaluation_batches` of these prompts.

    Both go by them: what prompts of a question share depends on which of them there are.
    """
    questions = group_questions(prompts)
    room = trunk_room(questions, model.shape.seq_len, model.shape.answers_per_seq)
    shape = dataclasses.replace(model.shape, trunk_len=room)
    step_config = dataclasses.replace(model.step_config, remat="none")  # no backward pass, nothing to save
    if step_config.tree_shape is not None:
        sizes = tree_shape(questions, shape, step_config.tree_shape.back_end)
        step_config = dataclasses.replace(step_config, tree_shape=sizes)
    return shape, step_config


def evaluation_step(model: Model, step: Callable[..., jax.Array]) -> Any:
    """A step over an evaluation batch, compiled; gives its answers [B, A, ...] and whose they are [B, A].

    Every process gets those of all rows, whoever computed them.
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
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """An `evaluation_step` batch after batch: answers [n, ...] and the indices of their prompts [n].

    Args:
      label: what is being done, for the progress bar on a terminal.
      done: batches to leave out at the beginning.

    Raises:
      Stopped: see `distributed.check_stop`, between two batches.
    """
    shape, step_config = evaluation_layout(model, prompts)
    batches = evaluation_batches(prompts, shape, local_rows(model.mesh, shape.batch_size))[done:]
    poll, hidden = Poll(), not (is_first() and sys.stdout.isatty())
    for batch in track(batches, label, transient=True, disable=hidden):
        check_stop(label, poll=poll)
        on_mesh = to_device(batch, model.mesh, shape.batch_size, False)
        answers, prompt = jax.device_get(
            step(model.graphdef, params, model.frozen, on_mesh, letters, step_config=step_config)
        )
        yield answers[prompt >= 0], prompt[prompt >= 0]


class Predictor:
    """Option probabilities of any prompts under a model's current parameters; with dense attention compiled once.

    Args:
      letters: token ids of the run's letters.
      kept: where predictions under way are kept, so that the next start need not make them again.
    """

    def __init__(self, model: Model, letters: np.ndarray, cache: PredictionCache | None = None):
        self._model, self._letters, self._cache, self.options = model, letters, cache, model.shape.options
        self._predict, self._mass = evaluation_step(model, predict_step), evaluation_step(model, letter_mass)

    def __call__(
        self, params: nnx.State, prompts: Sequence[Prompt], label: str, letters: np.ndarray | None = None
    ) -> Float[np.ndarray, "n K"]:
        """Predictions in the order of `prompts`, 0 where an option does not exist; a progress bar on a terminal.

        Several processes get the same, unless some were kept: then process 0 alone has all.

        Args:
          letters: token ids of the letters, where the prompts are of another template than the run's.

        Raises:
          Stopped: see `over_prompts`.
        """
        letters = self._letters if letters is None else letters
        result, done = np.zeros((len(prompts), self.options), np.float64), 0
        if self._cache:
            file = self._cache.file(label, prompts, letters)
            done = self._cache.load(file, result)
        try:
            for probs, indices in over_prompts(self._model, self._predict, params, prompts, letters, label, done):
                result[indices] = probs
                done += 1
                if self._cache:
                    self._cache.save(file, done, result)
        finally:
            if self._cache:
                self._cache.save(file, done, result, now=True)
        for row, prompt in zip(result, prompts, strict=True):  # from the letters' order to the options'
            row[list(prompt.order)] = row[: len(prompt.order)].copy()
        return result

    def letter_mass(self, params: nnx.State, prompts: Sequence[Prompt]) -> float:
        """Mean probability of the options' letters among all tokens, over the first batch of prompts."""
        prompts = prompts[: self._model.shape.batch_size * self._model.shape.answers_per_seq]  # no more are in it
        mass, _ = next(over_prompts(self._model, self._mass, params, prompts, self._letters, "the letters' mass"))
        return float(mass.mean())


def predict_all(
    predictor: Predictor, params: Any, task: Task, names: Sequence[str], label: str
) -> dict[str, Float[np.ndarray, "n K"]]:
    """Predictions for every split."""
    predictions = {}
    for name in names:
        predictions[name] = predictor(params, task.prompts[name], f"{label} on {name}")
        say(f"{label}: {name} done")
    return predictions
