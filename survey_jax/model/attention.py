"""Attention over answer trees.

A query sees a key iff the key is not later in the row, belongs to the same tree, and lies on the trunk or on the
query's own branch; sliding-window layers also ask that it be fewer than `window` positions back.

Two back ends give the same numbers. `dense` masks the full [T, T] square and is the reference. `two_part` computes
only what can be seen, as three ordinary attentions (trunk on itself, branch on itself, branch on its trunk); the last
two are merged by their log-sum-exp, so that stock flash kernels can serve.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from survey_jax.model.rotary import Rotary, apply_rotary

_NEVER = -1e30  # finite, so that rows which see nothing (padding) stay free of NaN
_EVERYTHING = 2**30  # the window of a layer without one


@dataclasses.dataclass(frozen=True)
class LayerKind:
    """How some of the layers attend.

    Attributes:
      rotary: None for layers that know no positions (NoPE).
      window: how many positions back they see, the query's own included; None: everything.
    """

    rotary: Rotary | None
    window: int | None = None


@dataclasses.dataclass(frozen=True)
class TreeShape:
    """The most that any row holds; `two_part` lays rows out in these fixed sizes.

    Attributes:
      trees: trees in a row; branches: branches of a tree; trunk, branch: tokens of a trunk, of a branch.
    """

    trees: int
    branches: int
    trunk: int
    branch: int


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Context:
    """What one kind of layer needs besides queries, keys and values.

    Attributes:
      cos, sin: rotary tables, float32 [B, T, R/2], R <= E the channels rotated.
      positions: int32 [B, T].
      window: how many positions back the layer sees, int32 [].
      mask: of the dense back end, bool [B, T, T].
      layout: of the two-part back end, see `tree_layout`.
      interleaved, softcap: as in `Rotary` and `DecoderConfig`.
    """

    cos: Array
    sin: Array
    positions: Array
    window: Array
    mask: Array | None
    layout: tuple[Array, Array] | None
    interleaved: bool = dataclasses.field(metadata={"static": True})
    softcap: float | None = dataclasses.field(metadata={"static": True})

    def rotate(self, x: Float[Array, "B T N E"]) -> Float[Array, "B T N E"]:
        """Queries or keys with their positions."""
        return apply_rotary(x, self.cos, self.sin, self.interleaved)

    def attend(self, q: Float[Array, "B T H E"], k: Float[Array, "B T K E"], v: Float[Array, "B T K E"]):
        """Attention output [B, T, H, E]; queries come scaled."""
        if self.mask is not None:
            return masked(q, k, v, self.mask[:, None], self.softcap)[0]
        return two_part(q, k, v, self)


def contexts(
    batch: dict[str, Array], kinds: Sequence[LayerKind], head_width: int, softcap: float | None, shape: TreeShape | None
) -> tuple[Context, ...]:
    """A context for each kind of layer.

    Args:
      head_width: E, channels of a head.
      softcap: of attention scores.
      shape: None for the dense back end; the rows' layout for `two_part`.
    """
    positions, length = batch["positions"], tree_lengths(batch)
    rotary = next((kind.rotary for kind in kinds if kind.rotary), Rotary(theta=1.0))
    layout = None if shape is None else tree_layout(batch, shape)
    windows = {kind.window or _EVERYTHING for kind in kinds}
    masks = {window: visible(batch, window) if shape is None else None for window in windows}
    result = []
    for kind in kinds:
        cos, sin = (kind.rotary or rotary).tables(positions, length, head_width)
        if kind.rotary is None:  # no turn at all
            cos, sin = jnp.ones_like(cos), jnp.zeros_like(sin)
        window = kind.window or _EVERYTHING
        result.append(
            Context(cos, sin, positions, jnp.int32(window), masks[window], layout, rotary.interleaved, softcap)
        )
    return tuple(result)


def select(kinds: tuple[Context, ...], index: Int[Array, ""]) -> Context:
    """kinds[index], chosen inside the compiled loop over layers."""

    def one(*leaves: Array) -> Array:
        same = all(leaf is leaves[0] for leaf in leaves)
        return leaves[0] if same else jax.lax.select_n(index, *leaves)

    return jax.tree.map(one, *kinds)


def tree_lengths(batch: dict[str, Array]) -> Int[Array, "B T"]:
    """Tokens of the longest prompt in each token's tree."""
    trees, positions = batch["trees"], batch["positions"]
    row = jnp.arange(trees.shape[0])[:, None]
    longest = jnp.zeros((trees.shape[0], trees.shape[1] + 1), jnp.int32).at[row, trees].max(positions + 1)
    return longest[row, trees]


def visible(batch: dict[str, Array], window: int) -> Bool[Array, "B T T"]:
    """The rule of this module's first lines as a mask [B, query, key]."""
    trees, branches, positions = batch["trees"], batch["branches"], batch["positions"]
    index = jnp.arange(trees.shape[1])
    mask = index[:, None] >= index[None, :]
    mask = mask & (trees[:, :, None] == trees[:, None, :]) & (trees[:, :, None] > 0)
    mask &= (branches[:, None, :] == 0) | (branches[:, :, None] == branches[:, None, :])
    return mask & (positions[:, :, None] - positions[:, None, :] < window)


def masked(q, k, v, mask: Bool[Array, "B 1 Q K"], softcap: float | None) -> tuple[Array, Array]:
    """Softmax attention with grouped queries under a mask.

    Returns:
      Output [B, Q, H, E] in q's dtype, and the log-sum-exp of the scores, float32 [B, Q, H].
    """
    b, t, h, e = q.shape
    grouped = q.reshape(b, t, k.shape[2], h // k.shape[2], e)
    scores = jnp.einsum("btngd,bsnd->bngts", grouped, k, preferred_element_type=jnp.float32)
    if softcap is not None:
        scores = jnp.tanh(scores / softcap) * softcap
    scores = jnp.where(mask[:, :, None], scores, _NEVER)
    lse = jax.nn.logsumexp(scores, axis=-1, keepdims=True)
    weights = jnp.exp(scores - lse).astype(q.dtype)
    out = jnp.einsum("bngts,bsnd->btngd", weights, v).reshape(b, t, h, e)
    return out, jnp.transpose(lse[..., 0], (0, 3, 1, 2)).reshape(b, t, h)


def tree_layout(batch: dict[str, Array], shape: TreeShape) -> tuple[Int[Array, "B N P"], Int[Array, "B N G Q"]]:
    """Where in its row each token of each trunk and branch lies; T where there is none."""
    trees, branches, positions = batch["trees"], batch["branches"], batch["positions"]
    b, t = trees.shape
    row = jnp.arange(b)[:, None]
    on_trunk = (branches == 0) & (trees > 0)
    trunk_length = jnp.zeros((b, shape.trees + 1), jnp.int32).at[row, trees].add(on_trunk)
    offset = positions - jnp.where(on_trunk, 0, trunk_length[row, trees])
    here = jnp.broadcast_to(jnp.arange(t, dtype=jnp.int32), (b, t))
    tree = jnp.where(trees > 0, trees - 1, shape.trees)  # out of bounds drops padding
    trunk = jnp.full((b, shape.trees, shape.trunk), t, jnp.int32)
    trunk = trunk.at[row, jnp.where(on_trunk, tree, shape.trees), offset].set(here, mode="drop")
    branch = jnp.full((b, shape.trees, shape.branches, shape.branch), t, jnp.int32)
    branch = branch.at[row, tree, jnp.where(on_trunk, shape.branches, branches - 1), offset].set(here, mode="drop")
    return trunk, branch


def two_part(q, k, v, context: Context) -> Float[Array, "B T H E"]:
    """Tree attention as ordinary attentions over trunks and branches, merged by log-sum-exp."""
    assert context.layout is not None
    trunk, branch = context.layout
    b, t = context.positions.shape
    n, p = trunk.shape[1:]
    g, s = branch.shape[2:]

    def gather(x, index):
        index = index.reshape(index.shape + (1,) * (x.ndim - 2))
        return jnp.take_along_axis(x, index, axis=1, mode="fill", fill_value=0)

    def part(query_index, key_index, causal: bool):
        """Attention of [b m, queries] on [b m, keys]."""
        m = query_index.shape[0] // b
        qs = gather(q, query_index.reshape(b, -1)).reshape(b * m, -1, *q.shape[2:])
        ks, vs = (gather(x, key_index.reshape(b, -1)).reshape(b * m, -1, *k.shape[2:]) for x in (k, v))
        mask = (key_index < t)[:, None, :]
        if causal:
            mask &= jnp.tril(jnp.ones((qs.shape[1], ks.shape[1]), bool))
        query_at, key_at = (
            gather(context.positions, i.reshape(b, -1)).reshape(b * m, -1) for i in (query_index, key_index)
        )
        mask &= query_at[:, :, None] - key_at[:, None, :] < context.window
        return masked(qs, ks, vs, mask[:, None], context.softcap)

    trunks, branches = trunk.reshape(b * n, p), branch.reshape(b * n * g, s)
    on_trunk, _ = part(trunks, trunks, causal=True)
    own, own_lse = part(branches, branches, causal=True)
    above, above_lse = part(branch.reshape(b * n, g * s), trunks, causal=False)
    own, own_lse = own.reshape(above.shape), own_lse.reshape(above_lse.shape)
    share = jax.nn.sigmoid(own_lse - above_lse)[..., None].astype(own.dtype)  # exp(own) / (exp(own) + exp(above))
    merged = share * own + (1 - share) * above

    rows = jnp.arange(b)[:, None]
    out = jnp.zeros_like(q).at[rows, trunk.reshape(b, -1)].set(on_trunk.reshape(b, -1, *q.shape[2:]), mode="drop")
    return out.at[rows, branch.reshape(b, -1)].set(merged.reshape(b, -1, *q.shape[2:]), mode="drop")
