"""One decoder for all families: its layers are stacked and scanned, and attention follows answer trees.

Letters in shapes: B sequences of a batch, T tokens of a sequence, D model width, H query heads, K key/value heads, E
head width, F feed-forward width, L layers, V vocabulary, R adapter rank.

A layer's parameters are attributes of `Block`, found by name: projection "q" has its weight in `q`, and where the model
has them a bias in `q_bias`, adapters in `q_lora_a` and `q_lora_b` (lora.py), and scales in `q_scale` (quantize.py).
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int

from survey_jax.model import attention
from survey_jax.model.attention_kernels import ATTENDED
from survey_jax.model.attention_mask import TreeShape
from survey_jax.model.experts import PRODUCT, mix
from survey_jax.model.matmul import low_rank
from survey_jax.model.quantize import project
from survey_jax.parallel.sharding import LOOKUP, LOOKUP_TOKENS, ROWS, constrain

Batch = dict[str, Array]

PROJECTIONS = ("q", "k", "v", "o", "gate", "up", "down")
REMAT = {
    "none": None,  # keep every activation
    # keep products with weights and attention's result, recompute the rest
    "dots": jax.checkpoint_policies.save_only_these_names(PRODUCT, ATTENDED),
    "full": jax.checkpoint_policies.nothing_saveable,  # keep only the layers' inputs
}


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Everything about an architecture that changes a logit. `families.py` makes one from a config.json."""

    vocab_size: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    ff_width: int
    norm_eps: float
    query_scale: float
    tied_head: bool
    kinds: tuple[attention.LayerKind, ...]  # the kinds of layer that the model has
    layer_kinds: tuple[int, ...]  # for each layer, an index into `kinds`
    activation: str = "silu"  # | "gelu_tanh"
    biases: tuple[str, ...] = ()  # which of PROJECTIONS have one
    norm_offset: float = 0.0  # Gemma multiplies by (1 + weight)
    qk_norm: str | None = None  # normalise queries and keys: each "head", or the whole "projection" at once
    pre_norms: bool = True  # normalise the input of attention and feed-forward
    post_norms: bool = False  # normalise their output
    experts: int = 0  # feed-forward parts of a layer, each `ff_width` wide; 0: one, which every token uses
    experts_used: int = 0  # how many of them a token uses
    expert_shares_sum: bool = True  # the weights of those sum to 1
    centred_norms: bool = False  # norms take out the mean first (LayerNorm without a bias)
    parallel: bool = False  # attention and feed-forward have the same input, normalised once
    embed_scale: float = 1.0
    residual_scale: float = 1.0  # factor on what attention and feed-forward add
    logit_scale: float = 1.0
    attention_softcap: float | None = None
    logit_softcap: float | None = None


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


def param(shape: tuple[int, ...], axes: tuple[str | None, ...], kind: type[nnx.Param] = nnx.Param) -> nnx.Param:
    """A zero parameter with logical axis names, which parallel/sharding.py maps to the mesh."""
    return kind(jnp.zeros(shape, jnp.float32), axes=axes)


class Block(nnx.Module):
    """All L layers: every parameter has a leading layer axis, over which the decoder scans."""

    def __init__(self, c: DecoderConfig):
        n, d, f, e = c.layers, c.width, c.ff_width, c.head_width
        self.q = param((n, d, c.heads * e), ("layers", "embed", "heads"))
        self.k = param((n, d, c.kv_heads * e), ("layers", "embed", "kv_heads"))
        self.v = param((n, d, c.kv_heads * e), ("layers", "embed", "kv_heads"))
        self.o = param((n, c.heads * e, d), ("layers", "heads", "embed"))
        several, by_expert = ((c.experts,), ("experts",)) if c.experts else ((), ())
        if c.experts:
            self.router = param((n, d, c.experts), ("layers", "embed", None))
        self.gate = param((n, *several, d, f), ("layers", *by_expert, "embed", "ff"))
        self.up = param((n, *several, d, f), ("layers", *by_expert, "embed", "ff"))
        self.down = param((n, *several, f, d), ("layers", *by_expert, "ff", "embed"))
        for name in c.biases:
            weight = getattr(self, name)
            setattr(self, f"{name}_bias", param((n, weight.shape[-1]), ("layers", weight.get_metadata()["axes"][-1])))
        if c.pre_norms:
            self.attention_norm = param((n, d), ("layers", None))
            if not c.parallel:
                self.ff_norm = param((n, d), ("layers", None))
        if c.post_norms:
            self.attention_post_norm = param((n, d), ("layers", None))
            self.ff_post_norm = param((n, d), ("layers", None))
        if c.qk_norm:
            whole = c.qk_norm == "projection"
            self.q_norm = param((n, c.heads * e if whole else e), ("layers", None))
            self.k_norm = param((n, c.kv_heads * e if whole else e), ("layers", None))


class Decoder(nnx.Module):
    """The parameters of a model. Made without memory by `abstract_model` and filled by pretrained/load.py."""

    def __init__(self, c: DecoderConfig):
        self.embedding = param((c.vocab_size, c.width), ("vocab", "embed"))
        self.blocks = Block(c)
        self.final_norm = param((c.width,), (None,))
        if not c.tied_head:
            self.head = param((c.vocab_size, c.width), ("vocab", "embed"))


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


def heads(layer: Block, name: str, x: Float[Array, "B T D"], count: int, c: DecoderConfig, numerics: Numerics):
    """Queries, keys or values of `count` heads: [B, T, D] -> [B, T, count, E]."""
    y = linear(x, layer, name, numerics)
    if c.qk_norm == "projection":
        y = normed(layer, f"{name}_norm", y, c)
    y = y.reshape(*x.shape[:2], count, c.head_width)
    return normed(layer, f"{name}_norm", y, c) if c.qk_norm == "head" else y


def attend(layer: Block, x: Float[Array, "B T D"], context: attention.Context, c: DecoderConfig, numerics: Numerics):
    """Self-attention over answer trees: [B, T, D] -> [B, T, D]."""
    q = heads(layer, "q", x, c.heads, c, numerics)
    k = heads(layer, "k", x, c.kv_heads, c, numerics)
    v = heads(layer, "v", x, c.kv_heads, c, numerics)
    q = context.grown(context.rotate(q)) * jnp.asarray(c.query_scale, q.dtype)
    out = context.attend(q, context.rotate(k), v)
    return linear(out.reshape(*x.shape[:2], -1), layer, "o", numerics)


def feed_forward(layer: Block, x: Float[Array, "B T D"], c: DecoderConfig, numerics: Numerics):
    """Gated feed-forward (Shazeer 2020), by one part or by the experts that are chosen: [B, T, D] -> [B, T, D]."""
    activate = jax.nn.silu if c.activation == "silu" else functools.partial(jax.nn.gelu, approximate=True)
    if c.experts:
        return mix(x, layer, activate, c.experts_used, c.expert_shares_sum, jnp.dtype(numerics.dtype))
    gate = activate(linear(x, layer, "gate", numerics))
    return linear(gate * linear(x, layer, "up", numerics), layer, "down", numerics)


def block(layer: Block, x: Float[Array, "B T D"], context: attention.Context, c: DecoderConfig, numerics: Numerics):
    """One layer: attention and feed-forward, each added to its input, with the norms that the family has."""
    scale = jnp.asarray(c.residual_scale, x.dtype)
    h = normed(layer, "attention_norm", x, c)
    y = attend(layer, h, context, c, numerics)
    if c.parallel:
        return x + (y + feed_forward(layer, h, c, numerics)) * scale
    x = x + normed(layer, "attention_post_norm", y, c) * scale
    y = feed_forward(layer, normed(layer, "ff_norm", x, c), c, numerics)
    return x + normed(layer, "ff_post_norm", y, c) * scale


def look_up(table: Float[Array, "V D"], tokens: Int[Array, "B T"]) -> Float[Array, "B T D"]:
    """Embeddings of tokens.

    Each device looks up its own columns of the table, for all sequences of the devices that share the table; then they
    exchange the results. So the table itself is never sent.
    """
    shared = constrain(tokens, LOOKUP_TOKENS)
    return constrain(constrain(table.at[shared].get(mode="clip"), LOOKUP), ROWS)


def hidden_states(
    model: Decoder,
    batch: Batch,
    c: DecoderConfig,
    *,
    numerics: Numerics = FLOAT32,
    tree_shape: TreeShape | None = None,
    remat: str = "none",
) -> Float[Array, "B T D"]:
    """The hidden state of every token after the last layer and the final norm.

    Args:
      batch: `tokens`, `positions`, `trees` and `branches`, int32 [B, T], as inputs/trees.py makes them.
      tree_shape: how sequences are ordered, and the back end that relies on it; None: dense attention.
      remat: what the backward pass recomputes, a key of REMAT.
    """
    x = look_up(model.embedding[...], batch["tokens"]).astype(numerics.activations)
    x *= jnp.asarray(c.embed_scale, x.dtype)
    contexts = attention.contexts(batch, c.kinds, c.head_width, c.attention_softcap, tree_shape)

    def body(x, scanned):
        layer, kind = scanned
        x = block(layer, x, attention.select(contexts, kind), c, numerics)
        return constrain(x, ROWS), None

    if REMAT[remat] is not None:
        body = jax.checkpoint(body, policy=REMAT[remat])
    x, _ = jax.lax.scan(body, x, (model.blocks, np.array(c.layer_kinds, np.int32)))
    return rms_norm(x, model.final_norm, c)


def token_logits(
    model: Decoder, hidden: Float[Array, "... D"], ids: Int[Array, " N"], c: DecoderConfig
) -> Float[Array, "... N"]:
    """Logits of N tokens, float32; only their N rows of the output head are used, not all V."""
    head = model.embedding if c.tied_head else model.head
    rows = head[...].at[ids].get(mode="clip").astype(hidden.dtype)
    logits = jnp.einsum("...d,nd->...n", hidden, rows, preferred_element_type=jnp.float32) * c.logit_scale
    return logits if c.logit_softcap is None else jnp.tanh(logits / c.logit_softcap) * c.logit_softcap
