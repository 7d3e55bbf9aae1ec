"""Gated delta networks: against the recurrence token by token, in float64, along every path of a tree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from survey_jax.model.architecture import DeltaNet
from survey_jax.model.attention_mask import TreeShape
from survey_jax.model.delta_net import Paths, delta_rule, paths, remember, short_convolution

H, D, E = 2, 6, 5
# Rows of trees: (tokens of the trunk, tokens of each branch). The second row's last trunk is empty.
ROWS = [[(7, [3, 5, 1, 4]), (4, [2, 2])], [(9, [5, 5, 3]), (0, [4, 1])]]
LENGTH, TWO_PART = 40, TreeShape(trunks=16, branch=5)


def batch() -> dict[str, np.ndarray]:
    """The trees as inputs/trees.py writes them: all trunks of a row, then all branches; padding at the end."""
    result = {name: np.zeros((len(ROWS), LENGTH), np.int32) for name in ("trees", "branches", "positions")}
    for b, row in enumerate(ROWS):
        at = 0
        spans = [(tree, 0, 0, trunk) for tree, (trunk, _) in enumerate(row, 1)]
        spans += [(tree, n, row[tree - 1][0], x) for tree, (_, xs) in enumerate(row, 1) for n, x in enumerate(xs, 1)]
        for tree, branch, position, count in spans:
            span = slice(at, at := at + count)
            result["trees"][b, span], result["branches"][b, span] = tree, branch
            result["positions"][b, span] = np.arange(position, position + count)
    return result


def path_of(x: dict[str, np.ndarray], b: int, t: int) -> list[int]:
    """The places of the tokens from the root to this one."""
    tree, branch = x["trees"][b, t], x["branches"][b, t]
    mine = (x["trees"][b] == tree) & ((x["branches"][b] == 0) | (x["branches"][b] == branch))
    return [s for s in range(t + 1) if mine[s]]


def recurrence(q, k, v, g, beta, path: list[int]) -> np.ndarray:
    """What the last token of a path reads; of one head of one row, [T, ...]."""
    state = np.zeros((q.shape[-1], v.shape[-1]))
    for t in path:
        state = np.exp(g[t]) * state
        state += np.outer(k[t], beta[t] * (v[t] - state.T @ k[t]))
    return state.T @ q[path[-1]]


def numbers(seed: int, rows: int, length: int, fastest: float) -> tuple[np.ndarray, ...]:
    """Queries, keys of length one, values, logarithms of decay, and beta."""
    rng = np.random.default_rng(seed)
    q, k = (rng.normal(size=(rows, H, length, D)) for _ in range(2))
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    g = -rng.uniform(0, fastest, (rows, H, length))
    return q, k, rng.normal(size=(rows, H, length, E)), g, rng.uniform(size=(rows, H, length))


@pytest.mark.parametrize("shape", [None, TWO_PART], ids=["dense", "two_part"])
def test_every_path_of_a_tree(shape: TreeShape | None) -> None:
    x, values = batch(), numbers(0, len(ROWS), LENGTH, 1.0)
    way = paths(jax.tree.map(jnp.asarray, x), shape)
    ours = np.asarray(delta_rule(*(jnp.asarray(y, jnp.float32) for y in values), way.masks))
    for b, t in np.argwhere(x["trees"] > 0):
        path = path_of(x, b, t)
        assert way.before[b, t] == (path[-2] if len(path) > 1 else -1)
        for h in range(H):
            theirs = recurrence(*(y[b, h] for y in values), path)
            np.testing.assert_allclose(ours[b, h, t], theirs, atol=1e-5)


def test_a_long_path_with_fast_and_slow_decay() -> None:
    """The sum of decays is -10,000 at the end: differences of such sums in float32 would be off by .001."""
    length = 1000
    values = numbers(1, 1, length, 20.0)
    values[3][:, 1] /= 1000
    path = list(range(length))
    masks = (jnp.tril(jnp.ones((1, length, length), bool)),)
    ours = np.asarray(delta_rule(*(jnp.asarray(y, jnp.float32) for y in values), masks))
    for h in range(H):
        for t in (10, 500, 999):
            theirs = recurrence(*(np.float32(y[0, h]).astype(np.float64) for y in values), path[: t + 1])
            np.testing.assert_allclose(ours[0, h, t], theirs, atol=2e-5)


def test_the_convolution_follows_the_path() -> None:
    x, rng = batch(), np.random.default_rng(2)
    values, weight = rng.normal(size=(len(ROWS), LENGTH, 3)), rng.normal(size=(3, 4))
    way = paths(jax.tree.map(jnp.asarray, x), None)
    ours = np.asarray(short_convolution(jnp.asarray(values), jnp.asarray(weight), way.before))
    for b, t in np.argwhere(x["trees"] > 0):
        last = path_of(x, b, t)[-4:]
        total = sum(values[b, s] * weight[:, 3 - back] for back, s in enumerate(reversed(last)))
        np.testing.assert_allclose(ours[b, t], total / (1 + np.exp(-total)), atol=1e-5)


def test_gradients_are_finite_where_nothing_is_remembered() -> None:
    """Rows of padding alone."""
    shape = DeltaNet(1, 2, 4, 4, 3)
    way = paths({name: jnp.zeros((2, 8), jnp.int32) for name in ("trees", "branches", "positions")}, None)
    rng = np.random.default_rng(3)
    x, weight = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((2, 8, shape.channels), (shape.channels, 3)))
    decay = -jnp.ones((2, 8, 2))

    def total(x: jax.Array, decay: jax.Array, way: Paths) -> jax.Array:
        return jnp.sum(remember(x, weight, decay, jnp.ones((2, 8, 2)), way, shape))

    for gradient in jax.grad(total, argnums=(0, 1))(x, decay, way):
        assert np.isfinite(gradient).all()
