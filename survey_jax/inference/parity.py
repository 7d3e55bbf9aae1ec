"""Compares logits with those of transformers on the run's own prompts; needs torch."""

import dataclasses
import importlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from survey_jax.common.console import say
from survey_jax.common.errors import UserError
from survey_jax.inference.predictor import evaluation_step, over_prompts
from survey_jax.inputs.prompts import Prompt
from survey_jax.inputs.task import Task
from survey_jax.pretrained.open import Pretrained
from survey_jax.training.build import Model
from survey_jax.training.step import StepConfig, option_logits

TOLERANCE = 1e-3  # for float32 logits on real weights


def report_parity(pretrained: Pretrained, model: Model, task: Task, exact: bool = True, count: int = 8) -> None:
    """Prints the largest difference from transformers in the letters' logits, over prompts of all lengths.

    Args:
      exact: whether they should be equal; those of a quantised model are not.

    Raises:
      UserError: torch is not installed, or float32 logits differ by more than TOLERANCE.
    """
    reference = load_reference(pretrained)
    prompts = spread([p for part in task.prompts.values() for p in part], count)
    ours, theirs = our_logits(model, prompts, task.letters), their_logits(reference, prompts, task.letters)
    difference = float(np.abs(ours - theirs).max())
    say(f"parity with transformers: max |logit difference| {difference:.2e} on {len(prompts)} prompts")
    if exact and difference > TOLERANCE and model.step_config.numerics.dtype == "float32":
        raise UserError(f"{pretrained.path}: logits differ from transformers' by {difference:.2e}, over {TOLERANCE}")


def load_reference(pretrained: Pretrained) -> Any:
    """The model in transformers, float32 on the CPU."""
    _torch()
    import transformers  # here: training imports this module

    path, gguf = pretrained.path, None
    if path.suffix == ".gguf":
        path, gguf = path.parent, path.name
    return transformers.AutoModelForCausalLM.from_pretrained(path, gguf_file=gguf, dtype="float32").eval()


def spread(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """`count` prompts, evenly from the shortest to the longest."""
    ordered = sorted(prompts, key=lambda p: len(p.tokens))
    return [ordered[i] for i in np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int)]


def our_logits(model: Model, prompts: Sequence[Prompt], letters: np.ndarray) -> np.ndarray:
    """Letter logits through trees, [n, K]; adapters have no effect yet, since B is zero at the start."""

    def logits(
        graphdef: Any, params: Any, frozen: Any, batch: Any, letters: Any, *, step_config: StepConfig
    ) -> jax.Array:
        return option_logits(nnx.merge(graphdef, params, frozen), batch, letters, step_config)

    result = np.zeros((len(prompts), len(letters)), np.float32)
    prompts = [dataclasses.replace(p, prior=None) for p in prompts]
    for found, indices in over_prompts(model, evaluation_step(model, logits), model.params, prompts, letters, "parity"):
        result[indices] = found
    return result


def their_logits(reference: Any, prompts: Sequence[Prompt], letters: np.ndarray) -> np.ndarray:
    """Letter logits of transformers, one prompt at a time, [n, K]."""
    torch = _torch()
    with torch.no_grad():
        tokens = [torch.tensor(p.tokens[None].astype("int64")) for p in prompts]
        rows = [reference(t, logits_to_keep=1).logits[0, -1, letters.tolist()] for t in tokens]
    return torch.stack(rows).float().numpy()


def _torch() -> Any:
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise UserError("config.model.check_parity: needs torch; install it, or set check_parity to False") from error
