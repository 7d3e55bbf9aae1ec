"""One decoder for all families: its layers are stacked and scanned, and attention follows answer trees.

Letters in shapes, beside those of block.py: V vocabulary, N layers of the model.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from survey_jax.model import attention
from survey_jax.model.architecture import SHARED, DecoderConfig, LayerKind, Stack, segments, stacks
from survey_jax.model.attention_kernels import ATTENDED
from survey_jax.model.attention_mask import TreeShape
from survey_jax.model.block import FLOAT32, Block, KeysValues, Numerics, block, param, rms_norm
from survey_jax.model.delta_net import paths
from survey_jax.model.experts import PRODUCT, imbalance, routing
from survey_jax.model.layer_scan import over_layers
from survey_jax.model.matmul import product
from survey_jax.parallel.sharding import LOOKUP, LOOKUP_TOKENS, ROWS, constrain

Batch = dict[str, Array]
Remembered = dict[str, KeysValues]  # by what the layers that share them have in common

REMAT = {
    "none": None,  # keep every activation
    # keep products with weights and attention's result, recompute the rest
    "dots": jax.checkpoint_policies.save_only_these_names(PRODUCT, ATTENDED),
    "full": jax.checkpoint_policies.nothing_saveable,  # keep only the layers' inputs
}


class Decoder(nnx.Module):
    """The parameters of a model. Made without memory by `abstract_model` and filled by pretrained/load.py."""

    def __init__(self, c: DecoderConfig):
        self.embedding = param((c.vocab_size, c.width), ("vocab", "embed"))
        for stack in stacks(c):
            setattr(self, stack.name, Block(c, stack))
        if c.token_inputs:
            every = c.layers * c.token_inputs  # the inputs of all layers
            self.token_embedding = param((c.token_inputs_vocab, every), ("vocab", "embed"))
            self.token_projection = param((c.width, every), ("embed", None))
            self.token_projection_norm = param((c.token_inputs,), (None,))
        self.final_norm = param((c.width,), (None,))
        if not c.tied_head:
            self.head = param((c.vocab_size, c.width), ("vocab", "embed"))


def blocks_of(model: Decoder) -> list[Block]:
    """A model's stacks of layers."""
    return [value for value in vars(model).values() if isinstance(value, Block)]


def look_up(table: Float[Array, "V D"], tokens: Int[Array, "B T"]) -> Float[Array, "B T D"]:
    """Embeddings of tokens.

    Each device looks up its own columns of the table, for all sequences of the devices that share the table; then they
    exchange the results. So the table itself is never sent.
    """
    shared = constrain(tokens, LOOKUP_TOKENS)
    return constrain(constrain(table.at[shared].get(mode="clip"), LOOKUP), ROWS)


def decode(
    model: Decoder,
    batch: Batch,
    c: DecoderConfig,
    *,
    numerics: Numerics = FLOAT32,
    tree_shape: TreeShape | None = None,
    remat: str = "none",
    balance: bool = False,
) -> tuple[Float[Array, "B T D"], Float[Array, ""]]:
    """The hidden state of every token after the last layer and the final norm; and how unevenly experts were chosen.

    Args:
      batch: `tokens`, `positions`, `trees` and `branches`, int32 [B, T], as inputs/trees.py makes them.
      tree_shape: how sequences are ordered, and the back end that relies on it; None: dense attention.
      remat: what the backward pass recomputes, a key of REMAT.
      balance: whether to measure the imbalance (experts.py) over tokens that are no padding; else it is 0.
    """
    x = look_up(model.embedding[...], batch["tokens"]).astype(numerics.activations)
    x *= jnp.asarray(c.embed_scale, x.dtype)
    told = token_inputs(model, x, batch["tokens"], c, numerics) if c.token_inputs else None
    attending = [kind for kind in c.kinds if kind.delta is None]
    contexts = attention.contexts(batch, attending, c.head_width, c.attention_softcap, tree_shape)
    of_kind: dict[LayerKind, Any] = dict(zip(attending, contexts, strict=True))
    if len(attending) < len(c.kinds):
        of_kind |= dict.fromkeys((kind for kind in c.kinds if kind.delta), paths(batch, tree_shape))
    stacked = {
        stack.name: (
            getattr(model, stack.name),
            np.array(stack.layer_kinds, np.int32),
            None if told is None else jnp.moveaxis(told, 2, 0)[np.array(stack.layers)],
        )
        for stack in stacks(c)
    }

    def layers(stack: Stack, some: Any, carry: tuple[Array, Remembered, Array]) -> tuple[Array, Remembered, Array]:
        """Successive layers of a stack."""
        (x, remembered, sums), like = carry, stack.kinds[0].attends_like
        given = remembered[like] if stack.shape.keys == SHARED else None
        mine = tuple(of_kind[kind] for kind in stack.kinds)

        def body(carry, scanned):
            layer, kind, told = scanned
            x, _, sums = carry
            x, used, routed = block(layer, x, given, told, attention.select(mine, kind), stack.shape, c, numerics)
            if balance and routed is not None:
                sums += routing(routed, real)
            return (constrain(x, ROWS), used if stack.remembered else None, sums), None

        if REMAT[remat] is not None:
            body = jax.checkpoint(body, policy=REMAT[remat])
        start = (x, remembered.get(like) if stack.remembered else None, sums)
        (x, last, sums), _ = jax.lax.scan(body, start, some)
        return x, remembered | {like: last} if last is not None else remembered, sums

    real, none_chosen = batch["trees"] > 0, jnp.zeros((2, c.experts if balance else 0))
    x, _, sums = over_layers(segments(c), stacked, layers, (x, _nothing_yet(x, c), none_chosen))
    routers = sum(len(stack.layers) for stack in stacks(c) if stack.shape.experts)
    uneven = imbalance(sums, jnp.sum(real, dtype=jnp.float32) * routers) if balance else jnp.zeros(())
    return rms_norm(x, model.final_norm, c), uneven


def _nothing_yet(x: Float[Array, "B T D"], c: DecoderConfig) -> Remembered:
    """Room for the keys and values that later layers share."""
    result = {}
    for stack in stacks(c):
        if stack.remembered:
            zeros = jnp.zeros((*x.shape[:2], stack.shape.kv_heads, stack.shape.head_width), x.dtype)
            result[stack.kinds[0].attends_like] = (zeros, zeros)
    return result


def token_inputs(
    model: Decoder, x: Float[Array, "B T D"], tokens: Int[Array, "B T"], c: DecoderConfig, numerics: Numerics
) -> Float[Array, "B T N P"]:
    """What each of all N layers is told about each token: by its embedding for that layer, and by its embedding x."""
    shape = (*tokens.shape, c.layers, c.token_inputs)
    embedded = look_up(model.token_embedding[...], tokens).astype(x.dtype) * jnp.asarray(c.token_inputs**0.5, x.dtype)
    projected = product(x, model.token_projection[...], jnp.dtype(numerics.dtype)) * jnp.asarray(c.width**-0.5, x.dtype)
    projected = rms_norm(projected.reshape(shape), model.token_projection_norm, c)
    return (projected + embedded.reshape(shape)) * jnp.asarray(0.5**0.5, x.dtype)


def token_logits(
    model: Decoder, hidden: Float[Array, "... D"], ids: Int[Array, " N"], c: DecoderConfig
) -> Float[Array, "... N"]:
    """Logits of N tokens, float32; only their N rows of the output head are used, not all V."""
    head = model.embedding if c.tied_head else model.head
    rows = head[...].at[ids].get(mode="clip").astype(hidden.dtype)
    logits = jnp.einsum("...d,nd->...n", hidden, rows, preferred_element_type=jnp.float32) * c.logit_scale
    return logits if c.logit_softcap is None else jnp.tanh(logits / c.logit_softcap) * c.logit_softcap
