"""Low-rank adapters (Hu et al. 2021) on the stacked projections, and a gain on the logits beside a prior."""

import itertools
import math
from collections.abc import Sequence

import jax
from flax import nnx
from jaxtyping import Array

from survey_jax.common.errors import UserError
from survey_jax.model.architecture import EXPERTS, IN_PLACE, PROJECTIONS
from survey_jax.model.block import param
from survey_jax.model.decoder import Decoder, blocks_of

GAIN, _GAIN_RATE = "logit_gain", 20.0


class LoraParam(nnx.Param):
    """A trainable adapter. The class is the filter that selects adapters among a model's parameters."""


def add_lora(model: Decoder, rank: int, projections: Sequence[str]) -> None:
    """Adds zero adapters `<projection>_lora_a` [L, i, R] and `<projection>_lora_b` [L, R, o] to a model.

    Each expert has its own: [L, X, i, R] and [L, X, R, o].

    Raises UserError if `projections` is empty or has an unknown name, or if the model has no such projections.
    """
    unknown = [p for p in projections if p not in (*PROJECTIONS, *EXPERTS)]
    if unknown or not projections:
        known = ", ".join((*PROJECTIONS, *EXPERTS))
        raise UserError(f"config.lora.projections: {unknown or 'none'} given; choose from {known}")
    missing = absent(model, projections)
    if of_experts := [name for name in missing if name in EXPERTS]:
        raise UserError(f"config.lora.projections: {', '.join(of_experts)} given, and this model has no experts")
    if len(missing) == len(projections):
        raise UserError(
            f"config.lora.projections: this model has {', '.join(missing)} as experts only; name q, k, v, o, or "
            f"{', '.join(EXPERTS)}"
        )
    for block, name in itertools.product(blocks_of(model), projections):
        name = next((n for n in (name, *IN_PLACE.get(name, ())) if hasattr(block, n)), name)
        # A layer may have no keys or values of its own; one that remembers or unfolds has its projections in one.
        if (weight := getattr(block, name, None)) is None or hasattr(block, f"{name}_lora_a"):
            continue
        *stacked, fan_in, fan_out = weight.shape
        *over, in_axis, out_axis = weight.get_metadata()["axes"]
        setattr(block, f"{name}_lora_a", param((*stacked, fan_in, rank), (*over, in_axis, None), LoraParam))
        setattr(block, f"{name}_lora_b", param((*stacked, rank, fan_out), (*over, None, out_axis), LoraParam))


def absent(model: Decoder, projections: Sequence[str]) -> list[str]:
    """Those projections that no layer of a model has, or only as experts."""
    names = {name for block in blocks_of(model) for name in vars(block)}
    return [name for name in projections if names.isdisjoint({name, *IN_PLACE.get(name, ())})]


def add_gain(model: Decoder) -> None:
    """Adds the parameter GAIN, a number that starts at 0; see `gain`."""
    setattr(model, GAIN, param((), (), LoraParam))


def gain(model: Decoder) -> Array:
    """The factor on the letters' logits where predictions start from a prior; trained, 0 at the start.

    The parameter is scaled up, since a step of Adam changes it, like any other, by about the learning rate.
    """
    return jax.numpy.asarray(_GAIN_RATE * getattr(model, GAIN)[...])


def initial_adapter(name: str, key: Array, shape: tuple[int, ...]) -> Array:
    """Initial values of an adapter by its parameter name, float32.

    A is uniform within 1/sqrt(fan in), as in PEFT; B is zero, so that training starts at the base model. The gain
    beside a prior is zero, so that it starts at the prior.
    """
    if not name.endswith("_lora_a"):
        return jax.numpy.zeros(shape)
    bound = 1 / math.sqrt(shape[-2])
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)
