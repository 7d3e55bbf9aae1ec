"""Whether an attention back end computes what the model is, for benchmarks.gpu; on random weights and tokens.

`python -m benchmarks.speed.parity_worker SPECIFICATION` is not for people. A specification is that of made_model.py,
and "what": "parity" or "leak".

parity   How far option logits, probabilities and the gradient in the specification's dtype are from those of dense
         attention in float32 on the same weights.
leak     How far other answers move when one branch's tokens change; they must not.
"""

from typing import Any

import numpy as np

from benchmarks.speed import made_model
from benchmarks.speed.made_model import Made
from survey_jax.model.architecture import DecoderConfig


def measure(spec: dict[str, Any], decoder: DecoderConfig | None = None) -> dict[str, Any]:
    """What the process prints.

    Args:
      decoder: in place of the specification's model.
    """
    made = made_model.make(spec, decoder)
    return parity(made) if spec["what"] == "parity" else {"leak": leak(made)}


def parity(made: Made) -> dict[str, float]:
    """Distances to dense attention in float32.

    Returns:
      "logits", "gradient": relative, by the Euclidean norm of all of them; "probabilities": the largest absolute one;
      "loss" and "loss_float32".
    """
    import dataclasses

    import jax

    from survey_jax.model.block import Numerics

    exact = Numerics(lora_scale=made.step_config.numerics.lora_scale)
    reference = dataclasses.replace(made.step_config, numerics=exact, tree_shape=None)
    with jax.default_matmul_precision("highest"):
        logits_there, gradient_there, loss_there = forward_and_back(made, reference)
    logits, gradient, loss = forward_and_back(made, made.step_config)
    real = made.batch["weight"] > 0
    options = made.batch["option_mask"][real]
    shares, shares_there = (softmax(x[real], options) for x in (logits, logits_there))
    return {
        "logits": distance(logits[real][options], logits_there[real][options]),
        "gradient": distance(gradient, gradient_there),
        "probabilities": float(np.abs(shares - shares_there).max()),
        "loss": loss,
        "loss_float32": loss_there,
    }


def forward_and_back(made: Made, step_config: Any) -> tuple[np.ndarray, np.ndarray, float]:
    """Logits [B, A, K], the gradient of all trained parameters as one vector, and the loss."""
    import jax
    from flax import nnx

    from survey_jax.training.step import gradients, option_logits

    letters = jax.numpy.arange(made_model.OPTIONS)

    @jax.jit
    def compute(train: Any, frozen: Any, batch: dict[str, Any]) -> Any:
        logits = option_logits(nnx.merge(made.graphdef, train, frozen), batch, letters, step_config)
        micro = {name: array[None] for name, array in batch.items()}
        loss, gradient, _ = gradients(made.graphdef, train, frozen, micro, letters, step_config)
        return logits, gradient, loss

    logits, gradient, loss = jax.device_get(compute(made.train, made.frozen, made.batch))
    return logits, np.concatenate([np.ravel(x) for x in jax.tree.leaves(gradient)]), float(loss)


def softmax(logits: np.ndarray, exists: np.ndarray) -> np.ndarray:
    """Over the last axis, where options exist; 0 elsewhere."""
    raised = np.where(exists, np.exp(logits - logits.max(axis=-1, keepdims=True)), 0)
    return raised / raised.sum(axis=-1, keepdims=True)


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    """Norm of the difference over the norm of what is expected. ValueError where a number is not finite."""
    if not np.isfinite(found).all() or not np.isfinite(expected).all():
        raise ValueError("a result is not finite")
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def leak(made: Made) -> float:
    """How far other answers' logits move when one branch's tokens change, [0, infinity); must be 0.

    Raises:
      ValueError: the branch's own answer does not move, or a logit is not finite.
    """
    import jax
    from flax import nnx

    from survey_jax.training.step import option_logits

    letters = jax.numpy.arange(made_model.OPTIONS)

    @jax.jit
    def logits(train: Any, frozen: Any, batch: dict[str, Any]) -> Any:
        return option_logits(nnx.merge(made.graphdef, train, frozen), batch, letters, made.step_config)

    batch = made.batch
    before = np.asarray(logits(made.train, made.frozen, batch))
    own = (batch["trees"][0] == 1) & (batch["branches"][0] == 1)
    tokens = batch["tokens"].copy()
    tokens[0, own] = (tokens[0, own] + 1) % made.decoder.vocab_size
    after = np.asarray(logits(made.train, made.frozen, batch | {"tokens": tokens}))
    real = batch["weight"] > 0
    if not np.isfinite(before[real]).all() or not np.isfinite(after[real]).all():
        raise ValueError("a logit is not finite")
    moved = np.abs(after - before).max(axis=-1)
    answers = own[batch["answer_index"]] & (np.arange(len(moved)) == 0)[:, None]
    if not moved[answers].max() > 0:
        raise ValueError("a branch's answer does not go by its tokens")
    return float(moved[~answers & real].max())


if __name__ == "__main__":
    made_model.tell(measure)
