"""Gated delta networks (Yang et al. 2025, arXiv 2412.06464) on answer trees.

A head has a memory, a matrix S [D, E], that each token fades, corrects and reads on the way from the root of its tree:

    S <- exp(g) S + k u',   u = beta (v - exp(g) S' k),   o = S' q.

With G, the sum of g from the root to a token, and j running over the tokens before i on its path, that is

    u_i = beta_i (v_i - sum_j exp(G_i - G_j) k_i'k_j u_j),   o_i = sum_j exp(G_i - G_j) q_i'k_j u_j + q_i'k_i u_i:

a triangular system, and attention without a softmax. Which j are before i is attention's own mask, so a trunk is
computed once and every branch goes on from it. With the two-part masks of attention_mask.py the system is solved once
for the trunks, then for each block of S tokens together with the block before it.

Letters in shapes: B sequences, T tokens, H heads of values, D width of a key, E width of a value, C channels, P and S
as in `TreeShape`, N blocks.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from survey_jax.model.architecture import DeltaNet
from survey_jax.model.attention_mask import TreeShape, and_before, in_blocks, visible, visible_parts

_EXACT = jax.lax.Precision.HIGHEST
_NEVER = -1e30
_BLOCK = 16  # tokens whose part of the triangular system is inverted at once
_GRAIN = 64.0  # sums of multiples of 1 / 64 are exact in float32 up to 262,144


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Paths:
    """How tokens follow each other from the root of their tree.

    Attributes:
      before: the place in the sequence of the token before, int32 [B, T]; -1: none.
      masks: (`visible`,) or `visible_parts`, without a window.
    """

    before: Int[Array, "B T"]
    masks: tuple[Bool[Array, "..."], ...]


def paths(batch: dict[str, Array], shape: TreeShape | None) -> Paths:
    """The paths of a batch with `trees` and `branches`; its trees and branches are written without gaps."""
    trees, branches = batch["trees"], batch["branches"]
    rows, length = trees.shape
    row, place = jnp.arange(rows)[:, None], jnp.broadcast_to(jnp.arange(length), trees.shape)
    on_trunk = jnp.where(branches == 0, trees, 0)
    ends = jnp.full((rows, length + 1), -1).at[row, on_trunk].max(place).at[:, 0].set(-1)  # of each tree's trunk

    def as_before(x: Int[Array, "B T"]) -> Bool[Array, "B T"]:
        return jnp.pad(x[:, 1:] == x[:, :-1], ((0, 0), (1, 0)))

    goes_on = as_before(trees) & as_before(branches)
    start = jnp.where(branches > 0, ends[row, trees], -1)
    before = jnp.where(goes_on, place - 1, start)
    masks = (visible(batch, None),) if shape is None else visible_parts(batch, None, shape)
    return Paths(before, masks)


def short_convolution(
    x: Float[Array, "B T C"], weight: Float[Array, "C W"], before: Int[Array, "B T"]
) -> Float[Array, "B T C"]:
    """silu of a weighted sum of each channel over the last W tokens of a path, its own included (the last weight)."""
    out = x * weight[:, -1]
    for back in range(1, weight.shape[1]):
        x = jnp.where(before[..., None] >= 0, jnp.take_along_axis(x, jnp.maximum(before, 0)[..., None], axis=1), 0)
        out += x * weight[:, -1 - back]
    return jax.nn.silu(out)


def remember(
    x: Float[Array, "B T C"],
    weight: Float[Array, "C W"],
    log_decay: Float[Array, "B T H"],
    beta: Float[Array, "B T H"],
    way: Paths,
    shape: DeltaNet,
) -> Float[Array, "B T H E"]:
    """What each token reads from its memories, float32.

    Args:
      x: queries and keys of `shape.key_heads` heads and values, side by side, before the convolution.
      weight: of the convolution.
    """
    x = short_convolution(x.astype(jnp.float32), weight.astype(jnp.float32), way.before)
    keys = shape.key_heads * shape.key_width
    q, k, v = jnp.split(x, [keys, 2 * keys], axis=-1)
    q, k = (_unit(y.reshape(*y.shape[:2], shape.key_heads, -1)) for y in (q, k))
    several = shape.value_heads // shape.key_heads
    q, k = (jnp.repeat(y, several, axis=2) for y in (q * shape.key_width**-0.5, k))
    v = v.reshape(*v.shape[:2], shape.value_heads, -1)
    q, k, v, log_decay, beta = (jnp.swapaxes(y, 1, 2) for y in (q, k, v, log_decay, beta))  # heads first
    return jnp.swapaxes(delta_rule(q, k, v, log_decay, beta, way.masks), 1, 2)


def _unit(x: Float[Array, "... D"]) -> Float[Array, "... D"]:
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-6)


def delta_rule(
    q: Float[Array, "B H T D"],
    k: Float[Array, "B H T D"],
    v: Float[Array, "B H T E"],
    log_decay: Float[Array, "B H T"],
    beta: Float[Array, "B H T"],
    masks: tuple[Bool[Array, "..."], ...],
) -> Float[Array, "B H T E"]:
    """The sums at the top of this module, float32."""
    v, totals = v * beta[..., None], _totals(log_decay, masks)
    if len(masks) == 1:
        faded = _faded(totals, totals, masks[0][:, None])
        u = _solve(beta[..., None] * _dot(k, k) * faded, v)
        return _times(_dot(q, k) * faded, u)
    on_trunk, near = masks
    trunks, size = on_trunk.shape[-1], near.shape[-2]

    def pairs(x: Array) -> Array:
        """Each block with the block before it."""
        return and_before(in_blocks(x, size, axis=2), axis=2)

    # Trunks: their own system, and what they take off from everything after them.
    k_trunk = k[:, :, :trunks]
    faded = _faded(totals, [x[:, :, :trunks] for x in totals], on_trunk[:, None])
    pull = beta[..., None] * _dot(k, k_trunk) * faded
    u_trunk = _solve(pull[:, :, :trunks], v[:, :, :trunks])
    itself = jnp.arange(k.shape[2])[:, None] == jnp.arange(trunks)
    rest = v - _times(jnp.where(itself, 0, pull), u_trunk)
    out = _times(_dot(q, k_trunk) * faded, u_trunk)

    # Branches: a branch that reaches into a block begins there or in the block before, of which the own keys suffice.
    own = jnp.pad(near[:, :-1, :, size:], ((0, 0), (1, 0), (0, 0), (0, size)))
    mask, k_near = jnp.concatenate([own, near], axis=2)[:, None], pairs(k)
    both = [pairs(x) for x in totals]
    faded = _faded(both, both, mask)
    u = _solve(pairs(beta)[..., None] * _dot(k_near, k_near) * faded, pairs(rest))[..., size:, :]
    scores = _dot(in_blocks(q, size, axis=2), k_near) * faded[..., size:, :]
    return out + _times(scores, pairs(u.reshape(rest.shape))).reshape(out.shape)


def _totals(log_decay: Float[Array, "B H T"], masks: tuple[Bool[Array, "..."], ...]) -> list[Float[Array, "B H T"]]:
    """G in two parts, whose differences are exact or small: over a long path G itself would lose the last digits.

    The first is a sum of multiples of 1 / _GRAIN, which float32 holds exactly; the second sums what is left of each.
    """
    coarse = jax.lax.stop_gradient(jnp.round(log_decay * _GRAIN) / _GRAIN)
    result = []
    for x in (coarse, log_decay - coarse):
        if len(masks) == 1:
            result.append(jnp.einsum("bts,bhs->bht", masks[0].astype(x.dtype), x, precision=_EXACT))
            continue
        on_trunk, near = (mask.astype(x.dtype) for mask in masks)
        trunks, size = on_trunk.shape[-1], near.shape[-2]
        blocks = and_before(in_blocks(x, size, axis=2), axis=2)
        branch = jnp.einsum("bnst,bhnt->bhns", near, blocks, precision=_EXACT).reshape(x.shape)
        result.append(branch + jnp.einsum("bts,bhs->bht", on_trunk, x[..., :trunks], precision=_EXACT))
    return result


def _faded(later: list[Array], earlier: list[Array], mask: Bool[Array, "..."]) -> Float[Array, "..."]:
    """exp(G_i - G_j) where the mask lets i see j, else 0."""
    apart = sum(a[..., :, None] - b[..., None, :] for a, b in zip(later, earlier, strict=True))
    return jnp.exp(jnp.where(mask, apart, _NEVER))


@jax.custom_vjp
def _solve(pull: Float[Array, "... T T"], v: Float[Array, "... T E"]) -> Float[Array, "... T E"]:
    """u with u_i = v_i - sum over j < i of pull_ij u_j; only pull's part below the diagonal is used.

    Its gradient is the solution of the transposed system, instead of one through every step.
    """
    return _substituted(jnp.tril(pull, -1), v)


def _solve_backward(saved: tuple[Array, Array], g: Float[Array, "... T E"]) -> tuple[Array, Array]:
    pull, u = saved
    turned = jnp.flip(jnp.swapaxes(jnp.tril(pull, -1), -1, -2), (-2, -1))  # the last token first
    d_v = jnp.flip(_substituted(turned, jnp.flip(g, -2)), -2)
    return -jnp.tril(_dot(d_v, u), -1), d_v


def _solve_forward(pull: Array, v: Array) -> tuple[Array, tuple[Array, Array]]:
    u = _solve(pull, v)
    return u, (pull, u)


_solve.defvjp(_solve_forward, _solve_backward)


def _substituted(lower: Float[Array, "... T T"], v: Float[Array, "... T E"]) -> Float[Array, "... T E"]:
    """(I + lower)^-1 v, block by block: the inverses of the blocks on the diagonal first, all at once."""
    length = v.shape[-2]
    extra = -length % _BLOCK
    lower = jnp.pad(lower, [(0, 0)] * (lower.ndim - 2) + [(0, extra)] * 2)
    v = jnp.pad(v, [(0, 0)] * (v.ndim - 2) + [(0, extra), (0, 0)])
    count = (length + extra) // _BLOCK
    rows = jnp.moveaxis(in_blocks(lower, _BLOCK, axis=lower.ndim - 2), -3, 0)  # [count, ..., _BLOCK, T]
    starts = jnp.arange(count) * _BLOCK

    def own(row: Array, start: Array) -> Array:
        return jax.lax.dynamic_slice_in_dim(row, start, _BLOCK, axis=-1)

    diagonal = jax.vmap(own)(rows, starts)
    inverse = [jnp.broadcast_to(jnp.eye(_BLOCK)[0], diagonal[..., 0, :].shape)]
    for i in range(1, _BLOCK):  # row i of the inverse by those before
        before = jnp.stack(inverse, axis=-2)
        inverse.append(jnp.eye(_BLOCK)[i] - _times(diagonal[..., i : i + 1, :i], before)[..., 0, :])

    def step(u: Array, block: tuple[Array, Array, Array]) -> tuple[Array, None]:
        row, inverted, start = block
        mine = jax.lax.dynamic_slice_in_dim(v, start, _BLOCK, axis=-2) - _times(row, u)
        return jax.lax.dynamic_update_slice_in_dim(u, _times(inverted, mine), start, axis=-2), None

    u, _ = jax.lax.scan(step, jnp.zeros_like(v), (rows, jnp.stack(inverse, axis=-2), starts))
    return u[..., :length, :]


def _dot(a: Float[Array, "... Q D"], b: Float[Array, "... K D"]) -> Float[Array, "... Q K"]:
    return jnp.einsum("...qd,...kd->...qk", a, b, precision=_EXACT)


def _times(weights: Float[Array, "... Q K"], u: Float[Array, "... K E"]) -> Float[Array, "... Q E"]:
    return jnp.einsum("...qk,...ke->...qe", weights, u, precision=_EXACT)
