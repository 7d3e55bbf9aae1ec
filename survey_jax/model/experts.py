"""Mixtures of experts (Shazeer et al. 2017): of many feed-forward parts, a router chooses a few for each token.

No token is dropped: tokens are sorted by expert and multiplied group by group (`jax.lax.ragged_dot`). So a token's
result does not depend on what else is in the batch, nor on the mesh. Where the mesh splits experts, each device
computes its own experts for the tokens of all devices that share them, and the results are added up.

Letters in shapes, beside those of block.py: X experts, U experts that a token uses, N tokens.
"""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from survey_jax.model.architecture import EXPERTS
from survey_jax.parallel.sharding import ROWS, constrain, gathered, gathered_spec

ROUTER = "router"  # the parameter that a layer with experts has
PRODUCT = "product"  # the name by which `jax.checkpoint` saves products of activations with weights
Gated = Callable[[Array, Array], Array]  # what `gate` and `up` gave -> what `down` gets
_OF_AN_EXPERT = (
    *EXPERTS, "expert_gate_bias", "expert_up_bias", *(f"{name}_lora_{part}" for name in EXPERTS for part in "ab")
)  # fmt: skip


class Routed(NamedTuple):
    """What a router says of each token.

    Attributes:
      share: the weights of the experts that it uses, float32.
      chosen: their numbers.
      chances: of all experts, before some are chosen; they sum to 1.
    """

    share: Float[Array, "B T U"]
    chosen: Int[Array, "B T U"]
    chances: Float[Array, "B T X"]


def route(x: Float[Array, "B T D"], layer: nnx.Module, used: int, sums_to_one: bool, sigmoid: bool = False) -> Routed:
    """Chooses the experts of each token.

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
    chances = jax.nn.softmax(scores, axis=-1)
    share, chosen = jax.lax.top_k(scores if sigmoid else chances, used)
    if sigmoid:
        share = jax.nn.sigmoid(share)
    if sums_to_one:
        share /= jnp.sum(share, axis=-1, keepdims=True)
    if (factor := getattr(layer, "expert_factor", None)) is not None:
        share *= factor[...].astype(jnp.float32)[chosen]
    return Routed(share, chosen, chances)


def routing(routed: Routed, tokens: Bool[Array, "B T"]) -> Float[Array, "2 X"]:
    """How many tokens chose each expert, and the sum of its chances; of those tokens that are marked."""
    experts = routed.chances.shape[-1]
    chose = jnp.sum(jax.nn.one_hot(routed.chosen, experts), axis=-2)
    return jnp.stack([jnp.sum(a, axis=(0, 1), where=tokens[..., None]) for a in (chose, routed.chances)])


def imbalance(sums: Float[Array, "2 X"], tokens: Float[Array, ""]) -> Float[Array, ""]:
    """The load-balancing loss (Fedus et al. 2022, arXiv 2101.03961, eq. 4), over all layers at once.

    Where all experts are chosen as often it is the number of experts that a token uses.

    Args:
      sums: of `routing`, over all layers with experts.
      tokens: how many tokens they are sums over, each counted once for every such layer.
    """
    chose, chances = sums / jnp.maximum(tokens, 1)
    return len(chose) * jnp.sum(chose * chances)


def mix(
    x: Float[Array, "B T D"],
    routed: Routed,
    layer: nnx.Module,
    gated: Gated,
    dtype: jnp.dtype,
    lora_scale: float = 0.0,
) -> Float[Array, "B T D"]:
    """What the chosen experts make of each token, weighted.

    Args:
      routed: of `route`.
      layer: has `expert_gate` and `expert_up` [X, D, F], `expert_down` [X, F, D]; where the family has them their
        biases, `expert_gate_bias` and `expert_up_bias` [X, F], `expert_down_bias` [X, D]; and where they are trained
        adapters, `expert_gate_lora_a` [X, D, R], `expert_gate_lora_b` [X, R, F], and so on.
      dtype: of the products' operands.
      lora_scale: the factor on what adapters add.
    """
    variables = {name: getattr(layer, name) for name in _OF_AN_EXPERT if hasattr(layer, name)}
    axes = {name: v.get_metadata()["axes"][1:] for name, v in variables.items()}  # without the layer axis
    weights = {name: gathered(v[...], axes[name]) for name, v in variables.items()}
    compute = functools.partial(_mix, gated=gated, dtype=dtype, lora_scale=lora_scale)
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.empty:
        specs = {name: gathered_spec(w.shape, axes[name], mesh) for name, w in weights.items()}
        experts, width, _ = specs["expert_down"]
        split = mesh.shape["expert"] > 1 and experts is not None
        compute = jax.shard_map(
            functools.partial(compute, tensor=width is not None, expert=split),
            in_specs=(ROWS, ROWS, ROWS, specs), out_specs=ROWS, check_vma=False,
        )  # fmt: skip
    return compute(x, routed.share, routed.chosen, weights) + _down_bias(x, routed, layer)


def _down_bias(x: Float[Array, "B T D"], routed: Routed, layer: nnx.Module) -> Float[Array, "B T D"] | float:
    """The biases of the experts' results, weighted; 0 where there are none."""
    if (bias := getattr(layer, "expert_down_bias", None)) is None:
        return 0.0
    weights = constrain(bias[...], PartitionSpec()).astype(jnp.float32)
    by_expert = jnp.einsum("btu,btux->btx", routed.share, jax.nn.one_hot(routed.chosen, len(weights)))
    return (by_expert @ weights).astype(x.dtype)


def _mix(
    x: Float[Array, "B T D"],
    share: Float[Array, "B T U"],
    chosen: Int[Array, "B T U"],
    weights: Mapping[str, Array],
    *,
    gated: Gated,
    dtype: jnp.dtype,
    lora_scale: float,
    tensor: bool = False,
    expert: bool = False,
) -> Float[Array, "B T D"]:
    """`mix` on one device.

    Args:
      weights: by name; of a part of the experts if `expert`.
      tensor: the mesh axis of this name splits the experts' width, and results are added up over it.
      expert: the mesh axis of this name splits the experts, and each device computes its own for the tokens of all.
    """
    own = weights["expert_gate"].shape[0]
    if expert:
        x, share, chosen = (jax.lax.all_gather(a, "expert", axis=0, tiled=True) for a in (x, share, chosen))
        chosen -= own * jax.lax.axis_index("expert")
    tokens, used, place = x.reshape(-1, x.shape[-1]), chosen.shape[-1], chosen.reshape(-1)
    place = jnp.where((place >= 0) & (place < own), place, own)  # other devices' tokens come last
    order = jnp.argsort(place)  # [N U], by expert
    by_expert = place[order]
    sizes = jnp.bincount(by_expert, length=own + 1)[:own]

    def here(y: Float[Array, "NU i"]) -> Float[Array, "NU i"]:
        """Zeros, in value and gradient, for rows of other devices, of which `ragged_dot` promises nothing."""
        return jnp.where(by_expert[:, None] < own, y, 0) if expert else y

    def times(y: Float[Array, "NU i"], w: Float[Array, "X i o"], kind: jnp.dtype) -> Float[Array, "NU o"]:
        return jax.lax.ragged_dot(y.astype(kind), w.astype(kind), sizes, preferred_element_type=x.dtype)

    def product(y: Float[Array, "NU i"], name: str) -> Float[Array, "NU o"]:
        out = checkpoint_name(times(y, weights[name], dtype), PRODUCT)
        if (bias := weights.get(f"{name}_bias")) is not None:
            out += bias.astype(out.dtype).at[by_expert].get(mode="fill", fill_value=0)
        if (a := weights.get(f"{name}_lora_a")) is not None:
            out += times(times(y, a, x.dtype), weights[f"{name}_lora_b"], x.dtype) * lora_scale
        return out

    inputs = here(tokens[order // used])
    inner = here(gated(product(inputs, "expert_gate"), product(inputs, "expert_up")))
    made = here(product(inner, "expert_down"))
    made = made[jnp.argsort(order)].reshape(*chosen.shape, -1)  # [B, T, U, D], by token again
    mixed = jnp.sum(made * share[..., None].astype(made.dtype), axis=-2)
    if expert:
        mixed = jax.lax.psum_scatter(mixed, "expert", scatter_dimension=0, tiled=True)
    return jax.lax.psum(mixed, "tensor") if tensor else mixed
