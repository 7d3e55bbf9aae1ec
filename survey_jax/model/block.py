"""The layers of the decoder: their parameters, and what one layer computes.

Letters in shapes: B sequences of a batch, T tokens of a sequence, D model width, H query heads, K key/value heads, E
head width, F feed-forward width, L layers of a stack, P width of a layer's token inputs, R adapter rank.

A layer's parameters are attributes of `Block`, found by name: projection "q" has its weight in `q`, and where the model
has them a bias in `q_bias`, adapters in `q_lora_a` and `q_lora_b` (lora.py), and scales in `q_scale` (quantize.py).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from survey_jax.model import latent
from survey_jax.model.architecture import AS_VALUES, SHARED, DecoderConfig, DeltaNet, Latent, LayerShape, Stack
from survey_jax.model.attention import Context
from survey_jax.model.delta_net import Paths, remember
from survey_jax.model.experts import PRODUCT, ROUTER, Gated, Routed, mix, route
from survey_jax.model.matmul import low_rank
from survey_jax.model.quantize import project
from survey_jax.parallel.sharding import ROWS

KeysValues = tuple[Float[Array, "B T K E"], Float[Array, "B T K E"]]


@dataclasses.dataclass(frozen=True)
class Numerics:
    """The precision in which a decoder is computed, and its adapters' scale.

    Attributes:
      dtype: the dtype of the operands of matrix products with weights.
      activations: the dtype of all other activations; norms and softmax are always float32.
      lora_scale: the factor on what adapters add (alpha / rank).
    """

    dtype: str = "float32"
    activations: str = "float32"
    lora_scale: float = 0.0


FLOAT32 = Numerics()


def param(shape: tuple[int, ...], axes: tuple[str | None, ...], kind: type[nnx.Variable] = nnx.Param) -> Any:
    """A zero parameter with logical axis names, which parallel/sharding.py maps to the mesh."""
    return kind(jnp.zeros(shape, jnp.float32), axes=axes)


class Fixed(nnx.Variable):
    """A stored number that no training changes."""


class Exact(nnx.Param):
    """A parameter that is float32 whatever the model's dtype: its rounding would be multiplied over a whole path."""


class Block(nnx.Module):
    """The L layers of a stack: every parameter has a leading layer axis, over which the decoder scans."""

    def __init__(self, c: DecoderConfig, stack: Stack):
        shape, n, d = stack.shape, len(stack.layers), c.width
        f, e, keys = shape.ff_width, shape.head_width, shape.kv_heads * shape.head_width
        if shape.delta:
            self._add_delta_net(d, n, shape.delta)
        else:
            self.q = param((n, d, c.heads * e * (1 + c.gated_attention)), ("layers", "embed", "heads"))
            self.o = param((n, c.heads * e, d), ("layers", "heads", "embed"))
        if c.latent:
            self._add_latent(n, d, c.heads, e, c.latent)
        if not shape.delta and not c.latent and shape.keys != SHARED:
            self.k = param((n, d, keys), ("layers", "embed", "kv_heads"))
        if not shape.delta and not c.latent and shape.keys not in (SHARED, AS_VALUES):
            self.v = param((n, d, keys), ("layers", "embed", "kv_heads"))
        if f:
            self.gate = param((n, d, f), ("layers", "embed", "ff"))
            self.up = param((n, d, f), ("layers", "embed", "ff"))
            self.down = param((n, f, d), ("layers", "ff", "embed"))
        if shape.experts:
            self._add_experts(c, n, shape.experts)
        for name in c.biases:
            if (weight := getattr(self, name, None)) is not None:
                axis = weight.get_metadata()["axes"][-1]
                setattr(self, f"{name}_bias", param((n, weight.shape[-1]), ("layers", axis)))
        if c.pre_norms:
            self.attention_norm = param((n, d), ("layers", None))
            if not c.parallel:
                self.ff_norm = param((n, d), ("layers", None))
        if c.post_norms:
            self.attention_post_norm = param((n, d), ("layers", None))
            self.ff_post_norm = param((n, d), ("layers", None))
        if c.qk_norm and not shape.delta:
            whole = c.qk_norm == "projection"
            self.q_norm = param((n, c.heads * e if whole else e), ("layers", None))
            if shape.keys != SHARED:
                self.k_norm = param((n, keys if whole else e), ("layers", None))
        if c.sinks and not shape.delta:
            self.sinks = param((n, c.heads), ("layers", None))
        if c.token_inputs:
            self.token_gate = param((n, d, c.token_inputs), ("layers", "embed", None))
            self.token_out = param((n, c.token_inputs, d), ("layers", None, "embed"))
            self.token_norm = param((n, d), ("layers", None))
        if c.layer_scalars:
            self.scalar = param((n, 1), ("layers", None), Fixed)

    def _add_latent(self, n: int, d: int, heads: int, e: int, sizes: Latent) -> None:
        if sizes.queries is not None:
            self.q_down = param((n, d, sizes.queries), ("layers", "embed", None))
            self.q_down_norm = param((n, sizes.queries), ("layers", None))
            self.q = param((n, sizes.queries, heads * e), ("layers", "embed", "heads"))
        self.k_down = param((n, d, sizes.keys + sizes.turned), ("layers", "embed", None))
        self.k_down_norm = param((n, sizes.keys), ("layers", None))
        self.latent_kv = param((n, sizes.keys, heads * (2 * e - sizes.turned)), ("layers", "embed", "heads"))

    def _add_delta_net(self, d: int, n: int, delta: DeltaNet) -> None:
        heads, values = delta.value_heads, delta.value_heads * delta.value_width
        self.delta_qkv = param((n, d, delta.channels), ("layers", "embed", None))
        self.delta_gate = param((n, d, values), ("layers", "embed", None))
        self.delta_beta = param((n, d, heads), ("layers", "embed", None))
        self.delta_decay = param((n, d, heads), ("layers", "embed", None))
        self.delta_out = param((n, values, d), ("layers", None, "embed"))
        self.delta_convolution = param((n, delta.channels, 1, delta.kernel), ("layers", None, None, None))
        self.delta_norm = param((n, delta.value_width), ("layers", None), Exact)
        self.delta_log_rate = param((n, heads), ("layers", None), Exact)
        self.delta_shift = param((n, heads), ("layers", None), Exact)

    def _add_experts(self, c: DecoderConfig, n: int, x: int) -> None:
        d, f = c.width, c.expert_width
        self.router = param((n, d, x), ("layers", "embed", None))
        self.expert_gate = param((n, x, d, f), ("layers", "experts", "embed", "ff"))
        self.expert_up = param((n, x, d, f), ("layers", "experts", "embed", "ff"))
        self.expert_down = param((n, x, f, d), ("layers", "experts", "ff", "embed"))
        if c.shared_gate:
            self.shared_gate = param((n, d, 1), ("layers", "embed", None))
        if c.expert_biases:
            self.router_bias = param((n, x), ("layers", None))
            self.expert_gate_bias = param((n, x, f), ("layers", "experts", "ff"))
            self.expert_up_bias = param((n, x, f), ("layers", "experts", "ff"))
            self.expert_down_bias = param((n, x, d), ("layers", "experts", "embed"))
        if c.expert_norms:
            self.router_norm = param((n, d), ("layers", None))
            self.expert_factor = param((n, x), ("layers", None))
            self.experts_norm = param((n, d), ("layers", None))
            self.experts_post_norm = param((n, d), ("layers", None))
            self.beside_post_norm = param((n, d), ("layers", None))


def linear(x: Float[Array, "B T i"], layer: Block, name: str, numerics: Numerics) -> Float[Array, "B T o"]:
    """x W, plus the projection's bias and low-rank update (x A) B * scale (Hu et al. 2021, eq. 3) if it has them."""
    y = checkpoint_name(project(x, layer, name, jnp.dtype(numerics.dtype)), PRODUCT)
    if (bias := getattr(layer, f"{name}_bias", None)) is not None:
        y += bias[...].astype(x.dtype)
    if (a := getattr(layer, f"{name}_lora_a", None)) is not None:
        b = getattr(layer, f"{name}_lora_b")
        y += low_rank(low_rank(x, a[...].astype(x.dtype)), b[...].astype(x.dtype)) * numerics.lora_scale
    return y


def rms_norm(x: Float[Array, "... d"], weight: nnx.Param, c: DecoderConfig) -> Float[Array, "... d"]:
    """Root-mean-square normalisation (Zhang & Sennrich 2019), computed in float32 and returned in x's dtype.

    With `centred_norms` it is layer normalisation (Ba et al. 2016), which is the same of x less its mean.
    """
    scale = weight[...].astype(jnp.float32) + c.norm_offset
    if not c.centred_norms:
        return _rms_norm(x, scale, c.norm_eps)
    y = x.astype(jnp.float32)
    return _rms_norm(y - jnp.mean(y, axis=-1, keepdims=True), scale, c.norm_eps).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _rms_norm(x: Float[Array, "... d"], scale: Float[Array, " d"], eps: float) -> Float[Array, "... d"]:
    """`rms_norm`, its gradient written by hand: on CPUs XLA is slow at autodiff's sum of products, fast at einsum's."""
    y = x.astype(jnp.float32)
    return (y * _inverse_norm(y, eps) * scale).astype(x.dtype)


def _rms_norm_backward(eps: float, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, scale = saved
    y, g = x.astype(jnp.float32), g.astype(jnp.float32)
    inverse = _inverse_norm(y, eps)
    scaled = g * scale
    along = jnp.einsum("...d,...d->...", scaled, y)[..., None] * jnp.square(inverse) / x.shape[-1]
    d_x = inverse * (scaled - y * along)
    return d_x.astype(x.dtype), jnp.sum(g * y * inverse, axis=range(x.ndim - 1))


def _inverse_norm(y: Float[Array, "... d"], eps: float) -> Float[Array, "... 1"]:
    return jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + eps)


_rms_norm.defvjp(lambda x, scale, eps: (_rms_norm(x, scale, eps), (x, scale)), _rms_norm_backward)


def normed(layer: Block, name: str, x: Float[Array, "... d"], c: DecoderConfig) -> Float[Array, "... d"]:
    """x normalised by the layer's norm of this name; x itself if the family has no such norm."""
    weight = getattr(layer, name, None)
    return x if weight is None else rms_norm(x, weight, c)


def in_heads(
    layer: Block, name: str, x: Float[Array, "B T D"], shape: LayerShape, c: DecoderConfig, numerics: Numerics
) -> Float[Array, "B T count E"]:
    """A projection split into heads; whole projections are normalised before."""
    y = linear(x, layer, name, numerics)
    if c.qk_norm == "projection":
        y = normed(layer, f"{name}_norm", y, c)
    return y.reshape(*x.shape[:2], -1, shape.head_width)


def keys_and_values(
    layer: Block, x: Float[Array, "B T D"], context: Context, shape: LayerShape, c: DecoderConfig, numerics
) -> KeysValues:
    """A layer's own keys, rotated, and values: [B, T, K, E] each."""
    if c.latent:
        k, v = latent.keys_and_values(x, c.latent, shape.head_width, *parts_of(layer, numerics))
        return turned(k, context, c), v
    k = in_heads(layer, "k", x, shape, c, numerics)
    v = k if shape.keys == AS_VALUES else in_heads(layer, "v", x, shape, c, numerics)
    k = normed(layer, "k_norm", k, c) if c.qk_norm == "head" else k
    if c.value_norm:
        v = _rms_norm(v, jnp.ones(shape.head_width), c.norm_eps)
    return turned(k, context, c), v


def parts_of(layer: Block, numerics: Numerics) -> tuple[latent.Apply, latent.Apply]:
    """A layer's projections and the norms of its short vectors, as functions."""

    def normalise(x: Array, name: str) -> Array:
        return _rms_norm(x, getattr(layer, name)[...].astype(jnp.float32), latent.NORM_EPS)

    return lambda x, name: linear(x, layer, name, numerics), normalise


def turned(x: Float[Array, "B T N E"], context: Context, c: DecoderConfig) -> Float[Array, "B T N E"]:
    """Queries or keys, rotated, and then normalised in the layers that do that."""
    x = context.rotate(x)
    if context.normalises is None:
        return x
    return jnp.where(context.normalises, _rms_norm(x, jnp.ones(x.shape[-1]), c.norm_eps), x)


def attend(
    layer: Block,
    x: Float[Array, "B T D"],
    keys_values: KeysValues,
    context: Context,
    shape: LayerShape,
    c: DecoderConfig,
    numerics: Numerics,
) -> Float[Array, "B T D"]:
    """Self-attention over answer trees."""
    if c.latent:
        q = latent.queries(x, c.latent, shape.head_width, *parts_of(layer, numerics))
    else:
        q = in_heads(layer, "q", x, shape, c, numerics)
    if c.gated_attention:
        q, gate = q[:, :, ::2], q[:, :, 1::2]
    q = normed(layer, "q_norm", q, c) if c.qk_norm == "head" else q
    q = context.grown(turned(q, context, c)) * jnp.asarray(c.query_scale, q.dtype)
    out = context.attend(q, *keys_values, layer.sinks[...] if c.sinks else None)
    if c.gated_attention:
        out *= jax.nn.sigmoid(gate)
    return linear(out.reshape(*x.shape[:2], -1), layer, "o", numerics)


def recall(
    layer: Block, x: Float[Array, "B T D"], way: Paths, delta: DeltaNet, c: DecoderConfig, numerics: Numerics
) -> Float[Array, "B T D"]:
    """A gated delta network (delta_net.py) in place of attention."""
    rate = -jnp.exp(layer.delta_log_rate[...].astype(jnp.float32))
    shift = layer.delta_shift[...].astype(jnp.float32)
    log_decay = rate * jax.nn.softplus(linear(x, layer, "delta_decay", numerics).astype(jnp.float32) + shift)
    beta = jax.nn.sigmoid(linear(x, layer, "delta_beta", numerics).astype(jnp.float32))
    mixed, weight = linear(x, layer, "delta_qkv", numerics), layer.delta_convolution[...][:, 0]
    compute = functools.partial(remember, shape=delta)
    if not jax.sharding.get_abstract_mesh().empty:  # each device has whole rows
        specs = (ROWS, PartitionSpec(), ROWS, ROWS, ROWS)
        compute = jax.shard_map(compute, in_specs=specs, out_specs=ROWS, check_vma=False)
    read = compute(mixed, weight, log_decay, beta, way)
    read = _rms_norm(read, layer.delta_norm[...].astype(jnp.float32), c.norm_eps).reshape(*x.shape[:2], -1)
    gate = jax.nn.silu(linear(x, layer, "delta_gate", numerics).astype(jnp.float32))
    return linear((read * gate).astype(x.dtype), layer, "delta_out", numerics)


def activation(c: DecoderConfig) -> Callable[[Array], Array]:
    """The function between the two halves of a feed-forward part."""
    return jax.nn.silu if c.activation == "silu" else functools.partial(jax.nn.gelu, approximate=True)


def gated(c: DecoderConfig) -> Gated:
    """What a feed-forward part makes of the results of `gate` and `up` (Shazeer 2020)."""
    if c.activation == "clamped_swiglu":
        return clamped_swiglu
    activate = activation(c)
    return lambda gate, up: activate(gate) * up


def clamped_swiglu(gate: Float[Array, "... F"], up: Float[Array, "... F"]) -> Float[Array, "... F"]:
    """gpt-oss's (arXiv 2508.10925, section 2.2): gate and up are limited, and up is moved by one."""
    gate, up = jnp.minimum(gate, 7.0), jnp.clip(up, -7.0, 7.0)
    return gate * jax.nn.sigmoid(1.702 * gate) * (up + 1)


def feed_forward(
    layer: Block, x: Float[Array, "B T D"], c: DecoderConfig, numerics: Numerics
) -> tuple[Float[Array, "B T D"], Routed | None]:
    """The part that every token uses, or the experts that are chosen for it, or both; with the norms around them."""
    h, routed = normed(layer, "ff_norm", x, c), None
    if not hasattr(layer, ROUTER):
        y = shared_part(layer, h, c, numerics)
    elif not c.expert_norms:
        y, routed = chosen_part(layer, h, h, c, numerics)
        if hasattr(layer, "gate"):
            share = jax.nn.sigmoid(linear(h, layer, "shared_gate", numerics)) if c.shared_gate else 1
            y += shared_part(layer, h, c, numerics) * share
    else:
        scale = layer.router_norm[...].astype(jnp.float32) * c.width**-0.5
        seen = _rms_norm(x, scale, c.norm_eps)
        chosen, routed = chosen_part(layer, seen, normed(layer, "experts_norm", x, c), c, numerics)
        y = normed(layer, "beside_post_norm", shared_part(layer, h, c, numerics), c)
        y += normed(layer, "experts_post_norm", chosen, c)
    return normed(layer, "ff_post_norm", y, c), routed


def shared_part(layer: Block, x: Float[Array, "B T D"], c: DecoderConfig, numerics: Numerics) -> Float[Array, "B T D"]:
    """The feed-forward part that every token uses."""
    made = gated(c)(linear(x, layer, "gate", numerics), linear(x, layer, "up", numerics))
    return linear(made, layer, "down", numerics)


def chosen_part(
    layer: Block, seen: Float[Array, "B T D"], x: Float[Array, "B T D"], c: DecoderConfig, numerics: Numerics
) -> tuple[Float[Array, "B T D"], Routed]:
    """The experts that a token uses; the router goes by what it has `seen`."""
    routed = route(seen, layer, c.experts_used, c.expert_shares_sum, c.scaled_inputs)
    settings = (layer, gated(c), jnp.dtype(numerics.dtype), numerics.lora_scale)
    if not c.scaled_inputs:
        return mix(x, routed, *settings), routed
    each = x[:, :, None] * routed.share[..., None].astype(x.dtype)  # a token for each of a token's experts
    alone = routed.chosen.reshape(len(x), -1, 1)
    alike = routed._replace(share=jnp.ones(alone.shape), chosen=alone)
    made = mix(each.reshape(*alone.shape[:2], -1), alike, *settings)
    return jnp.sum(made.reshape(each.shape), axis=2), routed


def block(
    layer: Block,
    x: Float[Array, "B T D"],
    given: KeysValues | None,
    told: Float[Array, "B T P"] | None,
    context: Context | Paths,
    shape: LayerShape,
    c: DecoderConfig,
    numerics: Numerics,
) -> tuple[Float[Array, "B T D"], KeysValues | None, Routed | None]:
    """One layer: attention and feed-forward, each added to its input, with the norms that the family has.

    Args:
      given: keys and values of an earlier layer, where this one shares them.
      told: what the layer is told about each token, where the family does that.

    Returns:
      The layer's result; the keys and values that it attended to, if it did; which experts it chose, if it has some.
    """
    scale = jnp.asarray(c.residual_scale, x.dtype)
    h = normed(layer, "attention_norm", x, c)
    used = given
    if shape.delta is not None:
        assert isinstance(context, Paths)
        y = recall(layer, h, context, shape.delta, c, numerics)
    else:
        assert isinstance(context, Context)
        used = keys_and_values(layer, h, context, shape, c, numerics) if given is None else given
        y = attend(layer, h, used, context, shape, c, numerics)
    if c.parallel:
        return x + (y + shared_part(layer, h, c, numerics)) * scale, used, None
    x = x + normed(layer, "attention_post_norm", y, c) * scale
    y, routed = feed_forward(layer, x, c, numerics)
    x = x + y * scale
    if told is not None:
        gate = activation(c)(linear(x, layer, "token_gate", numerics))
        x = x + normed(layer, "token_norm", linear(gate * told, layer, "token_out", numerics), c)
    if c.layer_scalars:
        x = x * layer.scalar[...].astype(x.dtype)
    return x, used, routed
