"""Option logits and probabilities, the loss, and the training step."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from survey_jax.config import OptimConfig
from survey_jax.model.architecture import DecoderConfig
from survey_jax.model.attention_mask import TreeShape
from survey_jax.model.block import FLOAT32, Numerics
from survey_jax.model.decoder import Batch, decode, token_logits
from survey_jax.model.lora import gain
from survey_jax.training.dropout import with_dropout
from survey_jax.training.losses import LOSSES
from survey_jax.training.optimizer import learning_rate, make_optimizer, steps_done


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """Static (hashable) configuration of the forward pass and the loss."""

    decoder: DecoderConfig
    numerics: Numerics = FLOAT32
    remat: str = "none"
    tree_shape: TreeShape | None = None
    loss: str = "kl"  # a key of LOSSES
    dropout: float = 0.0  # share of adapters' ranks
    seed: int = 0  # of dropout
    balance: float = 0.0  # times the imbalance of experts is added to the loss


class TrainState(NamedTuple):
    """What a training step updates and a checkpoint holds."""

    params: nnx.State
    opt_state: optax.OptState


def answer_states(model: Any, batch: Batch, c: StepConfig) -> tuple[Float[Array, "B A D"], Float[Array, ""]]:
    """Final hidden states at the answer positions only, and the imbalance of experts (0 where it has no weight)."""
    hidden, uneven = decode(
        model, batch, c.decoder,
        numerics=c.numerics, tree_shape=c.tree_shape, remat=c.remat, balance=c.balance > 0,
    )  # fmt: skip
    return jnp.take_along_axis(hidden, batch["answer_index"][..., None], axis=1), uneven


def option_logits(model: Any, batch: Batch, letters: Int[Array, " K"], c: StepConfig) -> Float[Array, "B A K"]:
    """Logits of the option letters at each answer position, float32.

    Where the batch has a prior (its logarithms), the model's own logits are added to it, times their trained gain.

    `letters`: token id of each letter; by the letter-token contract the same for all prompts of a run.
    """
    return logits_and_imbalance(model, batch, letters, c)[0]


def logits_and_imbalance(
    model: Any, batch: Batch, letters: Int[Array, " K"], c: StepConfig
) -> tuple[Float[Array, "B A K"], Float[Array, ""]]:
    """`option_logits`, and the imbalance of experts (0 where it has no weight)."""
    states, uneven = answer_states(model, batch, c)
    logits = token_logits(model, states, letters, c.decoder)
    return batch["prior"] + gain(model) * logits if "prior" in batch else logits, uneven


def loss_sums(
    logits: Float[Array, "B A K"], batch: Batch, loss: str = "kl"
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Weighted sum of a loss over all answers, and the sum of weights.

    They are sums, not means, so that microbatches and devices add up exactly, however many answers each has.

    Args:
      loss: a key of LOSSES; by default KL(target || softmax over the options), in nats.
    """
    rows = LOSSES[loss](logits, batch["target"], batch["option_mask"])
    return jnp.sum(rows * batch["weight"]), jnp.sum(batch["weight"])


def probabilities(logits: Float[Array, "B A K"], batch: Batch) -> Float[Array, "B A K"]:
    """Softmax over the options that exist; 0 elsewhere."""
    probs = jax.nn.softmax(logits, axis=-1, where=batch["option_mask"])
    return jnp.where(batch["option_mask"], probs, 0.0)


def gradients(
    graphdef: nnx.GraphDef[Any],
    params: nnx.State,
    frozen: nnx.State,
    batch: Batch,
    letters: Int[Array, " K"],
    step_config: StepConfig,
    step: Int[Array, ""] | int = 0,
) -> tuple[Float[Array, ""], nnx.State, Float[Array, ""]]:
    """(loss, gradients, answers) of a step: the mean of `step_config.loss` over all answers of all microbatches.

    The imbalance of experts, where it has a weight, is that of each microbatch, averaged like the loss.

    Args:
      graphdef, params, frozen: from `nnx.split(model, trainable, ...)`.
      batch: arrays with a leading microbatch axis, [M, B, ...]; they are summed up one after another.
      step: the number of steps done, by which dropout is drawn.
    """
    c = step_config

    def loss(params, microbatch):
        model = nnx.merge(graphdef, with_dropout(params, c.dropout, c.seed, step), frozen)
        logits, uneven = logits_and_imbalance(model, microbatch, letters, c)
        value, weight = loss_sums(logits, microbatch, c.loss)
        return value + c.balance * uneven * weight if c.balance else value, weight

    def add(total, microbatch):
        (value, weight), grads = jax.value_and_grad(loss, has_aux=True)(params, microbatch)
        return jax.tree.map(jnp.add, total, (value, weight, grads)), None

    zeros = (jnp.zeros(()), jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
    (value, weight, grads), _ = jax.lax.scan(add, zeros, batch)
    return value / weight, jax.tree.map(lambda g: g / weight, grads), weight


def train_step(
    state: TrainState,
    frozen: nnx.State,
    batch: Batch,
    letters: Int[Array, " K"],
    *,
    graphdef: nnx.GraphDef[Any],
    step_config: StepConfig,
    optim: OptimConfig,
) -> tuple[TrainState, dict[str, Array]]:
    """One optimizer step; pure.

    Returns:
      the new state, and what was measured: "loss" per answer, "grad_norm" before clipping, "lr", "answers", and how
      many tokens all processes computed, see `counts`.
    """
    done = steps_done(state.opt_state)
    loss, grads, answers = gradients(graphdef, state.params, frozen, batch, letters, step_config, done)
    updates, opt_state = make_optimizer(optim).update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    measured = {
        "loss": loss,
        "grad_norm": optax.global_norm(grads),
        "lr": learning_rate(optim, state.opt_state),
        "answers": answers,
    }
    return TrainState(params, opt_state), measured | counts(batch)


def counts(batch: Batch) -> dict[str, Int[Array, ""]]:
    """How much text a batch holds: "tokens" that are computed, and "prompt_tokens" of its prompts one by one.

    There are more of the latter, since trees compute what prompts share once.
    """
    last = jnp.take_along_axis(batch["positions"], batch["answer_index"], axis=-1)  # of a prompt: its length less 1
    return {
        "tokens": jnp.sum(batch["trees"] > 0),
        "prompt_tokens": jnp.sum(jnp.where(batch["weight"] > 0, last + 1, 0)),
    }


def predict_step(graphdef, params, frozen, batch: Batch, letters, *, step_config: StepConfig) -> Float[Array, "B A K"]:
    """Option probabilities of a batch without microbatches."""
    model = nnx.merge(graphdef, params, frozen)
    return probabilities(option_logits(model, batch, letters, step_config), batch)


def letter_mass(graphdef, params, frozen, batch: Batch, letters, *, step_config: StepConfig) -> Float[Array, "B A"]:
    """Probability of any of the options' letters among all tokens of the vocabulary, per answer.

    A diagnostic of prompt and model; the only place where full-vocabulary logits are formed, at answer positions.
    """
    model = nnx.merge(graphdef, params, frozen)
    hidden, _ = answer_states(model, batch, step_config)
    options = jnp.where(batch["option_mask"], token_logits(model, hidden, letters, step_config.decoder), -jnp.inf)
    everything = token_logits(model, hidden, jnp.arange(step_config.decoder.vocab_size), step_config.decoder)
    return jnp.exp(jax.nn.logsumexp(options, axis=-1) - jax.nn.logsumexp(everything, axis=-1))


def compiled_train_step(
    graphdef: nnx.GraphDef[Any], step_config: StepConfig, optim: OptimConfig, state: TrainState
) -> Any:
    """`train_step` under `jax.jit`: (state, frozen, batch, letters) -> (state, measured).

    The state is updated in place (the arrays given are deleted) and keeps the sharding of `state`, whose leaves may be
    arrays or `jax.ShapeDtypeStruct`s.
    """
    return jax.jit(
        functools.partial(train_step, graphdef=graphdef, step_config=step_config, optim=optim),
        donate_argnums=0,
        out_shardings=(jax.tree.map(lambda x: x.sharding, state), None),
    )
