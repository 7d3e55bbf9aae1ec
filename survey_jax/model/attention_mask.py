"""Which keys a query sees in sequences of answer trees.

A query sees the keys of its own tree that are not later in the sequence and are on the trunk or on its own branch. In
sliding-window layers they must also be fewer than `window` positions back. In layers with chunks, which begin at every
`chunk`-th position of a prompt, they must be in the query's chunk.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

SPLASH_BLOCK = 128  # the kernel computes or skips this many queries and keys together


@dataclasses.dataclass(frozen=True)
class TreeShape:
    """How tokens are ordered in sequences, which all back ends but `dense` rely on.

    Attributes:
      trunks: P; all trunks of a sequence are among its first P tokens.
      branch: S; a branch has at most S tokens, and S divides the sequence's length.
      back_end: two_part, cudnn or splash (which skips blocks of S queries and keys).
    """

    trunks: int
    branch: int
    back_end: str = "two_part"


def visible(batch: dict[str, Array], window: int | None, chunk: int | None = None) -> Bool[Array, "B T T"]:
    """The rule at the top of this module as a mask [B, query, key]."""
    tokens = _tokens(batch)
    return _sees(tokens, tokens, window, chunk)


def visible_parts(
    batch: dict[str, Array], window: int | None, shape: TreeShape, chunk: int | None = None
) -> tuple[Bool[Array, "B T P"], Bool[Array, "B N S 2*S"]]:
    """`visible` in two parts: keys on trunks for all queries, and near keys on branches for N blocks of S queries."""
    tokens = _tokens(batch)
    first = {name: x[:, : shape.trunks] for name, x in tokens.items()}
    on_trunk = _sees(tokens, first, window, chunk) & (first["branches"] == 0)[..., None, :]
    blocks = {name: in_blocks(x, shape.branch) for name, x in tokens.items()}
    near = {name: and_before(x) for name, x in blocks.items()}
    return on_trunk, _sees(blocks, near, window, chunk) & (near["branches"] > 0)[..., None, :]


def visible_blocks(
    batch: dict[str, Array], window: int | None, shape: TreeShape, chunk: int | None = None
) -> Bool[Array, "B N S P_2S"]:
    """Both masks of `visible_parts`, side by side for each block of queries."""
    on_trunk, near = visible_parts(batch, window, shape, chunk)
    return jnp.concatenate([in_blocks(on_trunk, shape.branch), near], axis=-1)


def _tokens(batch: dict[str, Array]) -> dict[str, Array]:
    """The properties of tokens that decide which keys they see, each int32 [B, T]."""
    index = jnp.broadcast_to(jnp.arange(batch["trees"].shape[1]), batch["trees"].shape)
    return {name: batch[name] for name in ("trees", "branches", "positions")} | {"index": index}


def _sees(
    queries: dict[str, Array], keys: dict[str, Array], window: int | None, chunk: int | None
) -> Bool[Array, "... Q K"]:
    q = {name: x[..., :, None] for name, x in queries.items()}
    k = {name: x[..., None, :] for name, x in keys.items()}
    mask = (q["index"] >= k["index"]) & (q["trees"] == k["trees"]) & (q["trees"] > 0)
    mask &= (k["branches"] == 0) | (q["branches"] == k["branches"])
    if window is not None:
        mask &= q["positions"] - k["positions"] < window
    if chunk is not None:
        mask &= q["positions"] // chunk == k["positions"] // chunk
    return mask


def in_blocks(x: Array, size: int, axis: int = 1) -> Array:
    """[..., T, ...] -> [..., N, size, ...]."""
    return x.reshape(*x.shape[:axis], -1, size, *x.shape[axis + 1 :])


def and_before(blocks: Array, axis: int = 1) -> Array:
    """[..., N, S, ...] -> [..., N, 2S, ...]: puts the block before (zeros for the first) in front of each block."""
    first = [(0, 0)] * blocks.ndim
    first[axis] = (1, 0)
    before = jnp.pad(jax.lax.slice_in_dim(blocks, 0, -1, axis=axis), first)
    return jnp.concatenate([before, blocks], axis=axis + 1)
