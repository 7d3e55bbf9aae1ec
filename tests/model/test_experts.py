"""Mixtures of experts: against a plain loop, and what cannot be done with them. test_decoder.py has whole models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from survey_jax.common.errors import UserError
from survey_jax.model.abstract import abstract_model
from survey_jax.model.architecture import EXPERTS, PROJECTIONS
from survey_jax.model.block import param
from survey_jax.model.experts import mix, route
from survey_jax.pretrained.families import decoder_config
from tiny import OTHERS, SIZES

B, T, D, F, X = 2, 9, 8, 12, 5


class Layer(nnx.Module):
    """Experts alone, with random weights."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        for name, shape in {
            "router": (D, X),
            "expert_gate": (X, D, F),
            "expert_up": (X, D, F),
            "expert_down": (X, F, D),
        }.items():
            variable = param(shape, (None, *(None for _ in shape)))  # the first axis is that of layers
            variable.set_value(jnp.asarray(rng.normal(0, 0.5, shape), jnp.float32))
            setattr(self, name, variable)


@pytest.fixture
def layer() -> Layer:
    return Layer()


def plain(x: np.ndarray, layer: Layer, used: int, sums_to_one: bool) -> np.ndarray:
    """Token by token and expert by expert."""
    router, gate, up, down = (np.asarray(getattr(layer, n)[...]) for n in ("router", *EXPERTS))
    out = np.zeros_like(x)
    for place in np.ndindex(x.shape[:2]):
        token = x[place]
        chances = np.exp(token @ router)
        chances /= chances.sum()
        best = np.argsort(-chances)[:used]
        shares = chances[best] / (chances[best].sum() if sums_to_one else 1)
        for expert, share in zip(best, shares, strict=True):
            hidden = token @ gate[expert]
            out[place] += share * ((hidden / (1 + np.exp(-hidden)) * (token @ up[expert])) @ down[expert])
    return out


def chosen(x: jax.Array, layer: Layer, used: int, sums_to_one: bool) -> jax.Array:
    routed = route(x, layer, used, sums_to_one)
    return mix(x, routed, layer, lambda gate, up: jax.nn.silu(gate) * up, jnp.dtype("float32"))


@pytest.mark.parametrize("sums_to_one", [True, False])
@pytest.mark.parametrize("used", [1, 2, X])
def test_a_plain_loop(layer: Layer, used: int, sums_to_one: bool) -> None:
    x = np.random.default_rng(1).normal(0, 1, (B, T, D)).astype(np.float32)
    ours = chosen(jnp.asarray(x), layer, used, sums_to_one)
    np.testing.assert_allclose(ours, plain(x, layer, used, sums_to_one), atol=1e-5)


def test_no_token_is_dropped_where_all_choose_the_same_experts(layer: Layer) -> None:
    x = np.tile(np.random.default_rng(1).normal(0, 1, D).astype(np.float32), (B, T, 1))
    ours = chosen(jnp.asarray(x), layer, 2, True)
    np.testing.assert_allclose(ours, plain(x, layer, 2, True), atol=1e-5)


@pytest.mark.parametrize(
    ("rank", "quantize", "said"),
    [
        (4, "", "gate, up, down of this model are experts, which adapters are not made for; set --config.lora.proj"),
        (0, "int8", "config.model.quantize = 'int8': a mixture of experts cannot be quantised; leave it empty"),
    ],
)
def test_what_is_not_made_for_experts(rank: int, quantize: str, said: str) -> None:
    config, _ = decoder_config(SIZES | OTHERS["mixtral"], "tiny")
    with pytest.raises(UserError) as raised:
        abstract_model(config, rank, PROJECTIONS, quantize)
    assert said in str(raised.value)


def test_adapters_of_attention() -> None:
    config, _ = decoder_config(SIZES | OTHERS["mixtral"], "tiny")
    state = nnx.state(abstract_model(config, 4, ("q", "k", "v", "o")))
    assert state["blocks"]["expert_gate"].shape == (3, 4, 32, 64)
    assert state["blocks"]["q_lora_a"].shape == (3, 32, 4)
