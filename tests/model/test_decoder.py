"""The decoder against transformers: tiny random models with realistic settings, every row as a tree of its own."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from survey_jax.model.abstract import abstract_model
from survey_jax.model.decoder import decode, token_logits
from survey_jax.parallel.sharding import make_mesh
from survey_jax.pretrained.load import load_model
from survey_jax.pretrained.open import open_pretrained
from tiny_torch import CONFIGS, SMALL, random_model

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_equal_transformers(name: str, tmp_path: Path) -> None:
    """From a checkpoint in bfloat16, as most are, computed in float32 by both."""
    reference = random_model(name)
    stored = {name: value.bfloat16() for name, value in reference.state_dict().items()}
    reference.load_state_dict(stored)
    reference.save_pretrained(tmp_path, state_dict=stored)
    pretrained = open_pretrained(str(tmp_path))
    abstract = abstract_model(pretrained.config, 0, ())
    model = load_model(pretrained, abstract, make_mesh(1, 1, -1), frozen_dtype="float32", trainable=nnx.Param, seed=0)
    tokens = np.random.default_rng(0).integers(0, SMALL["vocab_size"], (3, 40), dtype=np.int32)
    batch = {
        "tokens": tokens,
        "positions": np.broadcast_to(np.arange(40, dtype=np.int32), tokens.shape),
        "trees": np.ones_like(tokens),
        "branches": np.zeros_like(tokens),
    }

    def run(model):
        hidden, _ = decode(model, jax.tree.map(jnp.asarray, batch), pretrained.config)
        return hidden, token_logits(model, hidden, jnp.arange(SMALL["vocab_size"]), pretrained.config)

    hidden, logits = jax.jit(run)(model)
    with torch.no_grad():
        out = reference(torch.tensor(tokens.astype(np.int64)), output_hidden_states=True)
    off = [np.abs(np.asarray(a) - b.numpy()).max() for a, b in ((hidden, out.hidden_states[-1]), (logits, out.logits))]
    print(f"{name}: hidden states differ by {off[0]:.1e}, logits by {off[1]:.1e}")
    assert max(off) < 1e-4
