"""Mixtures of experts (Shazeer et al. 2017): of many feed-forward parts, a router chooses a few for each token.

No token is dropped: tokens are sorted by expert and multiplied group by group (`jax.lax.ragged_dot`), on the device
that holds their row. So a token's result does not depend on what else is in the batch, nor on the mesh.

Letters in shapes, beside those of block.py: X experts, U experts that a token uses, N tokens.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int

from survey_jax.model.architecture import EXPERTS
from survey_jax.parallel.sharding import ROWS, gathered, gathered_spec

ROUTER = "router"  # the parameter that a layer with experts has
PRODUCT = "product"  # the name by which `jax.checkpoint` saves products of activations with weights
Gated = Callable[[Array, Array], Array]  # what `gate` and `up` gave -> what `down` gets


def route(
    x: Float[Array, "B T D"], layer: nnx.Module, used: int, sums_to_one: bool, sigmoid: bool = False
) -> tuple[Float[Array, "B T U"], Int[Array, "B T U"]]:
    """For each token its experts' weights, float32, and their numbers.

    Args:
      x: what the router sees.
      layer: has `router` [D, X], and where the family has them `router_bias` [X], and `expert_factor` [X], a factor on
        the weight of each expert.
      used: how many experts a token uses.
      sums_to_one: the weights of these are divided by their sum.
      sigmoid: an expert's weight is the sigmoid of its score, instead of its share in the softmax of all.
    """
    router = getattr(layer, ROUTER)
    weight = gathered(router[...], router.get_metadata()["axes"][1:])
    scores = x.astype(jnp.float32) @ weight.astype(jnp.float32)
    if (bias := getattr(layer, "router_bias", None)) is not None:
        scores += bias[...].astype(jnp.float32)
    share, chosen = jax.lax.top_k(scores if sigmoid else jax.nn.softmax(scores, axis=-1), used)
    if sigmoid:
        share = jax.nn.sigmoid(share)
    if sums_to_one:
        share /= jnp.sum(share, axis=-1, keepdims=True)
    if (factor := getattr(layer, "expert_factor", None)) is not None:
        share *= factor[...].astype(jnp.float32)[chosen]
    return share, chosen


def mix(
    x: Float[Array, "B T D"],
    routed: tuple[Float[Array, "B T U"], Int[Array, "B T U"]],
    layer: nnx.Module,
    gated: Gated,
    dtype: jnp.dtype,
) -> Float[Array, "B T D"]:
    """What the chosen experts make of each token, weighted.

    Args:
      routed: of `route`.
      layer: has `expert_gate` and `expert_up` [X, D, F], `expert_down` [X, F, D], and where the family has them their
        biases: `expert_gate_bias` and `expert_up_bias` [X, F], `expert_down_bias` [X, D].
      dtype: of the products' operands.
    """
    biases = ("expert_gate_bias", "expert_up_bias") if hasattr(layer, "expert_gate_bias") else ()
    variables = [getattr(layer, name) for name in (*EXPERTS, *biases)]
    axes = [v.get_metadata()["axes"][1:] for v in variables]  # without the layer axis
    weights = [gathered(v[...], a) for v, a in zip(variables, axes, strict=True)]
    compute = functools.partial(_mix, gated=gated, dtype=dtype)
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return compute(x, *routed, *weights) + _down_bias(x, routed, layer)
    specs = [gathered_spec(w.shape, a, mesh) for w, a in zip(weights, axes, strict=True)]
    summed = "tensor" if "tensor" in specs[2] else None
    local = jax.shard_map(
        functools.partial(compute, summed=summed), in_specs=(ROWS, ROWS, ROWS, *specs), out_specs=ROWS, check_vma=False
    )
    return local(x, *routed, *weights) + _down_bias(x, routed, layer)


def _down_bias(
    x: Float[Array, "B T D"], routed: tuple[Float[Array, "B T U"], Int[Array, "B T U"]], layer: nnx.Module
) -> Float[Array, "B T D"] | float:
    """The biases of the experts' results, weighted; 0 where there are none."""
    if (bias := getattr(layer, "expert_down_bias", None)) is None:
        return 0.0
    share, chosen = routed
    weights = gathered(bias[...], bias.get_metadata()["axes"][1:]).astype(jnp.float32)
    by_expert = jnp.einsum("btu,btux->btx", share, jax.nn.one_hot(chosen, len(weights)))
    return (by_expert @ weights).astype(x.dtype)


def _mix(
    x, share, chosen, gate, up, down, gate_bias=None, up_bias=None, *, gated: Gated, dtype: jnp.dtype, summed=None
) -> Float[Array, "B T D"]:
    """`mix` on one device; `summed`: the mesh axis that splits the experts' width, over which results are added up."""
    tokens, used = x.reshape(-1, x.shape[-1]), chosen.shape[-1]
    order = jnp.argsort(chosen.reshape(-1))  # [N U], by expert
    sizes = jnp.bincount(chosen.reshape(-1), length=gate.shape[0])

    def product(y: Float[Array, "NU i"], w: Float[Array, "X i o"], bias: Array | None = None) -> Float[Array, "NU o"]:
        out = jax.lax.ragged_dot(y.astype(dtype), w.astype(dtype), sizes, preferred_element_type=x.dtype)
        out = checkpoint_name(out, PRODUCT)
        return out if bias is None else out + bias.astype(out.dtype)[chosen.reshape(-1)[order]]

    inputs = tokens[order // used]
    made = product(gated(product(inputs, gate, gate_bias), product(inputs, up, up_bias)), down)
    made = made[jnp.argsort(order)].reshape(*chosen.shape, -1)  # [B, T, U, D], by token again
    mixed = jnp.sum(made * share[..., None].astype(made.dtype), axis=-2)
    return mixed if summed is None else jax.lax.psum(mixed, summed)
