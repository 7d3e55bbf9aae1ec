"""Mixtures of experts (Shazeer et al. 2017): of many feed-forward parts, a router chooses a few for each token.

No token is dropped: tokens are sorted by expert and multiplied group by group (`jax.lax.ragged_dot`), on the device
that holds their row. So a token's result does not depend on what else is in the batch, nor on the mesh.

Letters in shapes, beside those of decoder.py: X experts, U experts that a token uses, N tokens.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from survey_jax.parallel.sharding import ROWS, gathered, gathered_spec

PRODUCT = "product"  # the name by which `jax.checkpoint` saves products of activations with weights
EXPERTS = ("gate", "up", "down")  # the projections that each expert has


def mix(
    x: Float[Array, "B T D"],
    layer: nnx.Module,
    activate: Callable[[Array], Array],
    used: int,
    sums_to_one: bool,
    dtype: jnp.dtype,
) -> Float[Array, "B T D"]:
    """What the chosen experts make of each token, weighted by the router's probabilities.

    Args:
      layer: has `router` [D, X], `gate` and `up` [X, D, F], `down` [X, F, D].
      activate: the activation, between `gate` and `up`.
      used: how many experts a token uses.
      sums_to_one: the weights of these are divided by their sum.
      dtype: of the products' operands.
    """
    variables = [getattr(layer, name) for name in ("router", *EXPERTS)]
    axes = [v.get_metadata()["axes"][1:] for v in variables]  # without the layer axis
    weights = [gathered(v[...], a) for v, a in zip(variables, axes, strict=True)]
    compute = functools.partial(_mix, activate=activate, used=used, sums_to_one=sums_to_one, dtype=dtype)
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return compute(x, *weights)
    specs = [gathered_spec(w.shape, a, mesh) for w, a in zip(weights, axes, strict=True)]
    summed = "tensor" if "tensor" in specs[-1] else None
    local = jax.shard_map(
        functools.partial(compute, summed=summed), in_specs=(ROWS, *specs), out_specs=ROWS, check_vma=False
    )
    return local(x, *weights)


def _mix(x, router, gate, up, down, *, activate, used: int, sums_to_one: bool, dtype: jnp.dtype, summed=None):
    """`mix` on one device; `summed`: the mesh axis that splits the experts' width, over which results are added up."""
    tokens = x.reshape(-1, x.shape[-1])
    chances = jax.nn.softmax(tokens.astype(jnp.float32) @ router.astype(jnp.float32), axis=-1)
    share, chosen = jax.lax.top_k(chances, used)
    if sums_to_one:
        share /= jnp.sum(share, axis=-1, keepdims=True)
    order = jnp.argsort(chosen.reshape(-1))  # [N U], by expert
    sizes = jnp.bincount(chosen.reshape(-1), length=gate.shape[0])

    def product(y: Float[Array, "NU i"], w: Float[Array, "X i o"]) -> Float[Array, "NU o"]:
        out = jax.lax.ragged_dot(y.astype(dtype), w.astype(dtype), sizes, preferred_element_type=x.dtype)
        return checkpoint_name(out, PRODUCT)

    inputs = tokens[order // used]
    made = product(activate(product(inputs, gate)) * product(inputs, up), down)
    made = made[jnp.argsort(order)].reshape(*chosen.shape, -1)  # [N, U, D], by token again
    mixed = jnp.sum(made * share[..., None].astype(made.dtype), axis=1).reshape(x.shape)
    return mixed if summed is None else jax.lax.psum(mixed, summed)
