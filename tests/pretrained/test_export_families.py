"""Every family goes out as it came in: adapters on a tiny random model, merged and as PEFT, loaded by transformers."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.special import softmax

from survey_jax.model.abstract import abstract_model
from survey_jax.model.block import Numerics
from survey_jax.model.decoder import hidden_states, token_logits
from survey_jax.model.lora import LoraParam
from survey_jax.parallel.sharding import make_mesh
from survey_jax.pretrained.export import write_adapter, write_merged, write_metadata_files
from survey_jax.pretrained.load import load_model
from survey_jax.pretrained.open import Pretrained, open_pretrained
from tiny_torch import CONFIGS, SMALL, random_model

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

RANK, SCALE = 2, 1.5
LETTERS = np.arange(30, 40)
TOKENS = np.random.default_rng(0).integers(0, SMALL["vocab_size"], (3, 30), dtype=np.int32)
# One setting a model type; the others of it differ in nothing that weights are named or laid out by.
FAMILIES = list({config().model_type: name for name, config in reversed(CONFIGS.items())}.values())
FAMILIES += ["gemma4_text_shared", "gemma4_text_experts", "llama4_text_interleaved"]  # but these do


def adapted(pretrained: Pretrained) -> tuple[Any, dict[str, np.ndarray]]:
    """Our model with random adapters on all projections but experts, and these by name."""
    shared = ("gate", "up", "down") if pretrained.config.ff_width else ()
    abstract = abstract_model(pretrained.config, RANK, ("q", "k", "v", "o", *shared))
    mesh = make_mesh(1, 1, -1)
    model = load_model(pretrained, abstract, mesh, frozen_dtype="float32", trainable=LoraParam, seed=0)
    graphdef, train, frozen = nnx.split(model, LoraParam, ...)
    rng = np.random.default_rng(1)
    train = jax.tree.map(lambda x: jax.numpy.asarray(rng.normal(0, 0.3, x.shape), "float32"), train)
    trained = {".".join(map(str, path)): np.asarray(v.get_value()) for path, v in nnx.to_flat_state(train)}
    return nnx.merge(graphdef, train, frozen), trained


def ours(model: Any, pretrained: Pretrained) -> np.ndarray:
    """Distributions over LETTERS at every position, [3, 30, 10]."""
    batch = {
        "tokens": TOKENS,
        "positions": np.broadcast_to(np.arange(TOKENS.shape[1], dtype=np.int32), TOKENS.shape),
        "trees": np.ones_like(TOKENS),
        "branches": np.zeros_like(TOKENS),
    }

    def run(model: Any) -> jax.Array:
        arrays = jax.tree.map(jnp.asarray, batch)
        hidden = hidden_states(model, arrays, pretrained.config, numerics=Numerics(lora_scale=SCALE))
        return token_logits(model, hidden, jnp.asarray(LETTERS), pretrained.config)

    return softmax(np.asarray(jax.jit(run)(model)), axis=-1)


def theirs(model: Any) -> np.ndarray:
    with torch.no_grad():
        logits = model.eval()(torch.tensor(TOKENS.astype(np.int64))).logits
    return softmax(logits[..., LETTERS.tolist()].double().numpy(), axis=-1)


@pytest.mark.parametrize("name", FAMILIES)
def test_merged_and_peft_predict_as_we_do(name: str, tmp_path: Path) -> None:
    base, merged, adapter = tmp_path / "base", tmp_path / "merged", tmp_path / "adapter"
    kind = type(reference := random_model(name))
    reference.save_pretrained(base)
    pretrained = open_pretrained(str(base))
    model, trained = adapted(pretrained)
    expected = ours(model, pretrained)
    assert np.abs(expected - theirs(reference)).max() > 5e-3  # the adapters do something

    merged.mkdir()
    write_metadata_files(pretrained, merged)
    write_merged(pretrained, trained, SCALE, merged)
    loaded = kind.from_pretrained(merged, attn_implementation="eager", dtype="float32")
    assert np.abs(expected - theirs(loaded)).max() < 1e-5

    adapter.mkdir()
    write_adapter(pretrained, trained, SCALE, adapter, str(base), None)
    loaded = peft.PeftModel.from_pretrained(reference, adapter)
    assert np.abs(expected - theirs(loaded)).max() < 1e-5
