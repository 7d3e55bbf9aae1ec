"""Attention over answer trees.

Four back ends give the same numbers. `dense` computes scores of all [T, T] pairs and masks them; it is the reference.
`two_part` computes few scores that are masked. It relies on the order of tokens in a sequence: all trunks are among
the first P tokens, and what a token sees of its own branch is in its block of S tokens or in the block before. So each
block of queries is scored against the first P keys and against 2S near keys, under one softmax. `cudnn` and `splash`
are kernels for accelerators (attention_kernels.py).
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int

from survey_jax.model.architecture import LayerKind
from survey_jax.model.attention_kernels import ATTENDED, attend_cudnn, attend_splash, splash_kernel
from survey_jax.model.attention_mask import TreeShape, and_before, in_blocks, visible, visible_blocks, visible_parts
from survey_jax.model.rotary import Rotary, apply_rotary

_NEVER = -1e30  # finite, so that queries which see nothing (padding) do not become NaN


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Context:
    """What the layers of one kind need for a batch, besides queries, keys and values.

    Attributes:
      cos, sin: rotary tables, float32 [B, T, R/2], where R <= E is the number of rotated channels.
      growth: a factor for the queries of each position, float32 [B, T]; None: they stay.
      normalises: whether queries and keys are normalised after they are rotated, a number; None: in no layer.
      masks: which keys a query sees. By back end: `visible`, `visible_parts`, `visible_blocks` or a `splash_kernel`.
      interleaved: see `Rotary`.
      softcap: scores become softcap * tanh(scores / softcap); None: they stay.
      back_end: dense, two_part, cudnn or splash.
    """

    cos: Array
    sin: Array
    growth: Array | None
    normalises: Array | None
    masks: tuple[Any, ...]
    interleaved: bool = dataclasses.field(metadata={"static": True})
    softcap: float | None = dataclasses.field(metadata={"static": True})
    back_end: str = dataclasses.field(default="dense", metadata={"static": True})

    def rotate(self, x: Float[Array, "B T N E"]) -> Float[Array, "B T N E"]:
        """Queries or keys, rotated by their positions."""
        return apply_rotary(x, self.cos, self.sin, self.interleaved)

    def grown(self, q: Float[Array, "B T H E"]) -> Float[Array, "B T H E"]:
        """Queries, longer at late positions, so that attention stays sharp over long prompts."""
        return q if self.growth is None else q * self.growth[..., None, None].astype(q.dtype)

    def attend(
        self,
        q: Float[Array, "B T H E"],
        k: Float[Array, "B T K E"],
        v: Float[Array, "B T K E"],
        sinks: Float[Array, " H"] | None = None,
    ) -> Float[Array, "B T H E"]:
        """What queries find. They must be scaled already; `sinks` are for `dense` and `two_part`."""
        if self.back_end == "cudnn":
            return attend_cudnn(q, k, v, self.masks[0])
        if self.back_end == "splash":
            return attend_splash(q, k, v, self.masks[0])
        return attend(q, k, v, self.masks, self.softcap, sinks)


def contexts(
    batch: dict[str, Array], kinds: Sequence[LayerKind], head_width: int, softcap: float | None, shape: TreeShape | None
) -> tuple[Context, ...]:
    """The context of each kind of layer for one batch.

    Args:
      batch: `positions`, `trees` and `branches`, int32 [B, T].
      shape: how sequences are ordered, and the back end that relies on it; None: the dense back end.
    """
    positions, length = batch["positions"], tree_lengths(batch)
    rotary = next((kind.rotary for kind in kinds if kind.rotary), Rotary(theta=1.0))
    back_end = shape.back_end if shape else "dense"
    reach = {(kind.window, kind.chunk) for kind in kinds}
    masks = {(window, chunk): _masks(batch, window, chunk, softcap, shape) for window, chunk in reach}
    grow, normalise = any(kind.growth for kind in kinds), any(kind.normalised for kind in kinds)
    result = []
    for kind in kinds:
        cos, sin = (kind.rotary or rotary).tables(positions, length, kind.head_width or head_width)
        if kind.rotary is None:  # rotation by zero
            cos, sin = jnp.ones_like(cos), jnp.zeros_like(sin)
        growth = jnp.ones(positions.shape) if grow else None  # all kinds have the same arrays, for `select`
        if kind.growth is not None:
            by, every, ahead = kind.growth
            growth = 1 + by * jnp.log1p((positions + ahead) // every)
        normalises = jnp.asarray(kind.normalised) if normalise else None
        mask = masks[kind.window, kind.chunk]
        result.append(Context(cos, sin, growth, normalises, mask, rotary.interleaved, softcap, back_end))
    return tuple(result)


def _masks(
    batch: dict[str, Array], window: int | None, chunk: int | None, softcap: float | None, shape: TreeShape | None
) -> tuple[Any, ...]:
    if shape is None:
        return (visible(batch, window, chunk),)
    if shape.back_end == "cudnn":
        return (visible_blocks(batch, window, shape, chunk),)
    if shape.back_end == "splash":
        return (splash_kernel(visible(batch, window, chunk), softcap),)
    return visible_parts(batch, window, shape, chunk)


def select(kinds: tuple[Any, ...], index: Int[Array, ""]) -> Any:
    """kinds[index] for an index that is only known inside the compiled loop over layers."""

    def one(*leaves: Array) -> Array:
        same = all(leaf is leaves[0] for leaf in leaves)
        return leaves[0] if same else jax.lax.select_n(index, *leaves)

    return jax.tree.map(one, *kinds)


def tree_lengths(batch: dict[str, Array]) -> Int[Array, "B T"]:
    """For each token, the number of tokens in the longest prompt of its tree."""
    trees, positions = batch["trees"], batch["positions"]
    row = jnp.arange(trees.shape[0])[:, None]
    longest = jnp.zeros((trees.shape[0], trees.shape[1] + 1), jnp.int32).at[row, trees].max(positions + 1)
    return longest[row, trees]


def attend(
    q: Float[Array, "B T H E"],
    k: Float[Array, "B T K E"],
    v: Float[Array, "B T K E"],
    masks: tuple[Array, ...],
    softcap: float | None = None,
    sinks: Float[Array, " H"] | None = None,
) -> Float[Array, "B T H E"]:
    """Softmax attention with grouped queries, for the dense and the two-part back end.

    Args:
      q: scaled queries.
      masks: (`visible`,) or `visible_parts`.
      sinks: for each head a score that takes part in its softmax and has no value (Xiao et al. 2024).
    """
    grouped = q.reshape(*q.shape[:2], k.shape[2], -1, q.shape[3])
    q, k, v = jnp.transpose(grouped, (0, 2, 1, 3, 4)), jnp.swapaxes(k, 1, 2), jnp.swapaxes(v, 1, 2)
    out, lse = _attend(q, k, v, masks, softcap)
    if sinks is not None:
        own = sinks.astype(jnp.float32).reshape(q.shape[1], 1, q.shape[3])
        out *= jax.nn.sigmoid(lse - own)[..., None].astype(out.dtype)  # the sink's share is taken off
    return jnp.swapaxes(out, 1, 2).reshape(*out.shape[:1], out.shape[2], -1, out.shape[-1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attend(
    q: Float[Array, "B K T G E"],
    k: Float[Array, "B K T E"],
    v: Float[Array, "B K T E"],
    masks: tuple[Array, ...],
    softcap: float | None,
) -> tuple[Float[Array, "B K T G E"], Float[Array, "B K T G"]]:
    """`attend` without sinks, the G queries of each key/value head grouped; and the logarithms of the softmax's sums.

    The gradient is written by hand, after FlashAttention's (Dao et al. 2022, appendix B): scores are recomputed
    instead of stored, and of each product's operands only the narrow one is ever transposed.
    """
    return _forward(q, k, v, masks, softcap)[0]


def _forward(q, k, v, masks, softcap):
    parts, shape = _parts(q, k, v, masks), q.shape[:-1]
    scores = [_scores(qs, ks, mask, softcap) for (qs, ks, _), mask in parts]
    largest = functools.reduce(jnp.maximum, [jnp.max(s, axis=-1).reshape(shape) for s in scores])
    weights = [jnp.exp(s - largest.reshape(*s.shape[:-1], 1)) for s in scores]
    total = functools.reduce(jnp.add, [jnp.sum(w, axis=-1).reshape(shape) for w in weights])
    mixed = (_product("...qgs,...se->...qge", w, vs) for w, ((_, _, vs), _) in zip(weights, parts, strict=True))
    out = sum(m.reshape(q.shape) for m in mixed) / total[..., None]
    out, lse = (checkpoint_name(x, ATTENDED) for x in (out.astype(q.dtype), largest + jnp.log(total)))
    return (out, lse), (q, k, v, masks, out, lse)


def _backward(softcap, saved, gradients):
    g, g_lse = gradients
    q, k, v, masks, out, lse = saved
    _, join = jax.vjp(lambda q, k, v: [part for part, _ in _parts(q, k, v, masks)], q, k, v)
    through = jnp.einsum("...e,...e->...", g, out, preferred_element_type=jnp.float32) - g_lse
    grads = []
    for (qs, ks, vs), mask in _parts(q, k, v, masks):
        rows = (*qs.shape[:-1], 1)
        scores, gs = _scores(qs, ks, mask, softcap), g.reshape(qs.shape)
        weights = jnp.exp(scores - lse.reshape(rows))
        d_scores = weights * (_product("...qge,...se->...qgs", gs, vs) - through.reshape(rows))
        if softcap is not None:
            d_scores *= jnp.where(mask, 1 - jnp.square(scores / softcap), 0)
        d_q = _product("...qgs,...se->...qge", d_scores, ks)
        d_k = jnp.swapaxes(_product("...qge,...qgs->...es", qs, d_scores), -1, -2)
        d_v = jnp.swapaxes(_product("...qge,...qgs->...es", gs, weights), -1, -2)
        grads.append(tuple(d.astype(q.dtype) for d in (d_q, d_k, d_v)))
    return *join(grads), None


_attend.defvjp(_forward, _backward)


def _parts(q, k, v, masks):
    """The queries, keys and values of each part, and its mask with the dimensions of the part's scores."""
    if len(masks) == 1:
        return [((q, k, v), masks[0][:, None, :, None])]
    on_trunk, near = masks
    trunks, size = on_trunk.shape[-1], near.shape[-2]
    keys = [and_before(in_blocks(x, size, axis=2), axis=2) for x in (k, v)]
    return [
        ((q, k[:, :, :trunks], v[:, :, :trunks]), on_trunk[:, None, :, None]),
        ((in_blocks(q, size, axis=2), *keys), near[:, None, :, :, None]),
    ]


def _scores(q, k, mask, softcap):
    scores = _product("...qge,...se->...qgs", q, k)
    if softcap is not None:
        scores = jnp.tanh(scores / softcap) * softcap
    return jnp.where(mask, scores, _NEVER)


def _product(indices: str, a: Array, b: Array) -> Array:
    """A float32 einsum whose operands are first cast to the narrower of their dtypes."""
    dtype = min(a.dtype, b.dtype, key=lambda t: t.itemsize)
    return jnp.einsum(indices, a.astype(dtype), b.astype(dtype), preferred_element_type=jnp.float32)
