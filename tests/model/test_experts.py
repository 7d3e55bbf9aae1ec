"""Mixtures of experts: against a plain loop, and what cannot be done with them. test_decoder.py has whole models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from survey_jax.common.errors import UserError
from survey_jax.config import Config, LoraConfig, OptimConfig
from survey_jax.model.abstract import abstract_model
from survey_jax.model.architecture import EXPERTS, PROJECTIONS
from survey_jax.model.block import param
from survey_jax.model.experts import imbalance, mix, route, routing
from survey_jax.pretrained.families import decoder_config
from survey_jax.training.build import check_experts
from tiny import OTHERS, SIZES

B, T, D, F, X, R = 2, 9, 8, 12, 5, 3
SCALE = 1.5  # of adapters


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
    return mix(x, routed, layer, lambda gate, up: jax.nn.silu(gate) * up, jnp.dtype("float32"), SCALE)


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
        (4, "", "config.lora.projections: this model has gate, up, down as experts only; name q, k, v, o, or expert_"),
        (0, "int8", "config.model.quantize = 'int8': a mixture of experts cannot be quantised; leave it empty"),
    ],
)
def test_what_is_not_made_for_experts(rank: int, quantize: str, said: str) -> None:
    config, _ = decoder_config(SIZES | OTHERS["mixtral"], "tiny")
    with pytest.raises(UserError) as raised:
        abstract_model(config, rank, ("gate", "up", "down"), quantize)
    assert said in str(raised.value)


def test_adapters_on_experts_of_a_model_that_has_none() -> None:
    config, _ = decoder_config(SIZES | OTHERS["cohere2"], "tiny")
    with pytest.raises(UserError, match="expert_up given, and this model has no experts"):
        abstract_model(config, 4, ("q", "expert_up"))


def test_adapters_are_on_attention_by_default_and_on_experts_by_choice() -> None:
    config, _ = decoder_config(SIZES | OTHERS["mixtral"], "tiny")
    state = nnx.state(abstract_model(config, 4, PROJECTIONS))["blocks"]
    assert state["expert_gate"].shape == (3, 4, 32, 64)
    assert {name for name in state if name.endswith("lora_a")} == {f"{name}_lora_a" for name in "qkvo"}
    state = nnx.state(abstract_model(config, 4, ("expert_gate", "expert_down")))["blocks"]
    assert {name for name in state if name.endswith("lora_b")} == {"expert_gate_lora_b", "expert_down_lora_b"}
    assert state["expert_gate_lora_a"].shape == (3, 4, 32, 4)
    assert state["expert_down_lora_b"].shape == (3, 4, 4, 32)


def test_adapters_are_added_to_each_expert(layer: Layer) -> None:
    """As if W + SCALE A B were its weight."""
    x = jnp.asarray(np.random.default_rng(1).normal(0, 1, (B, T, D)), jnp.float32)
    rng, merged = np.random.default_rng(2), Layer()
    for name in EXPERTS:
        weight = getattr(layer, name)[...]
        a, b = rng.normal(0, 0.5, (X, weight.shape[1], R)), rng.normal(0, 0.5, (X, R, weight.shape[2]))
        for part, value in (("a", a), ("b", b)):
            variable = param(value.shape, (None,) * 4)
            variable.set_value(jnp.asarray(value, jnp.float32))
            setattr(layer, f"{name}_lora_{part}", variable)
        getattr(merged, name).set_value(jnp.asarray(weight + SCALE * a @ b, jnp.float32))
    np.testing.assert_allclose(chosen(x, layer, 2, True), chosen(x, merged, 2, True), rtol=1e-4, atol=1e-4)


def test_imbalance_is_what_transformers_has(layer: Layer) -> None:
    """Of two layers at once, without padding."""
    torch = pytest.importorskip("torch")
    mixtral = pytest.importorskip("transformers.models.mixtral.modeling_mixtral")
    rng = np.random.default_rng(1)
    inputs = [jnp.asarray(rng.normal(0, 1, (B, T, D)), jnp.float32) for _ in range(2)]
    tokens = np.arange(T) < np.array([[T], [4]])
    sums = sum(routing(route(x, layer, 2, True), jnp.asarray(tokens)) for x in inputs)
    scores = [torch.tensor(np.asarray(x @ layer.router[...])).reshape(-1, X) for x in inputs]
    theirs = mixtral.load_balancing_loss_func(tuple(scores), X, 2, torch.tensor(tokens.astype(np.int64)))
    np.testing.assert_allclose(imbalance(sums, jnp.asarray(2.0 * tokens.sum())), theirs.item(), rtol=1e-5)
    even = jnp.full((2, X), 1.0).at[0].set(2.0)
    assert imbalance(even, jnp.asarray(float(X))) == pytest.approx(2)  # of so many that a token uses


@pytest.mark.parametrize(
    ("family", "rank", "balance", "expert", "said"),
    [
        ("mixtral", 0, 0.0, 3, "config.mesh.expert = 3: cannot split the 4 experts of a layer; choose a divisor"),
        ("cohere2", 0, 0.0, 2, "config.mesh.expert = 2: cannot split a model without experts"),
        ("cohere2", 0, 0.1, 1, "config.optim.balance = 0.1: this model has no experts; set it to 0"),
        ("mixtral", 8, 0.1, 1, "config.optim.balance = 0.1: adapters leave the router as it is; set it to 0"),
    ],
)
def test_settings_that_do_not_fit(family: str, rank: int, balance: float, expert: int, said: str) -> None:
    decoder, _ = decoder_config(SIZES | OTHERS[family], "tiny")
    config = Config(lora=LoraConfig(rank=rank), optim=OptimConfig(balance=balance))
    with pytest.raises(UserError, match=said):
        check_experts(config, decoder, expert)
    check_experts(Config(), decoder, 1)
