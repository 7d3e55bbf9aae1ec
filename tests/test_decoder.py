"""The decoder against transformers: tiny random models with realistic settings, every row as a tree of its own."""

from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from survey_jax.model.decoder import hidden_states, token_logits
from survey_jax.model.weights import abstract_model, load_model, open_pretrained
from survey_jax.sharding import make_mesh

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SMALL = {
    "vocab_size": 199,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 20,  # not hidden_size / heads
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,  # prompts go beyond it
}
CONFIGS = {
    "llama": lambda: transformers.LlamaConfig(**SMALL, tie_word_embeddings=True, rope_theta=10000.0),
    "llama3": lambda: transformers.LlamaConfig(**SMALL, tie_word_embeddings=False, rope_parameters=LLAMA3_ROPE),
    "llama_linear": lambda: transformers.LlamaConfig(
        **SMALL, rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
    ),
    "gemma3": lambda: transformers.Gemma3TextConfig(
        **SMALL, sliding_window=7, layer_types=["sliding_attention", "full_attention"] * 2, query_pre_attn_scalar=32
    ),
    "gemma2": lambda: transformers.Gemma2Config(
        **SMALL, sliding_window=7, attn_logit_softcapping=2.0, final_logit_softcapping=3.0, query_pre_attn_scalar=32
    ),
}


def random_model(name: str):
    torch.manual_seed(0)
    # Eager attention is the only one that applies soft caps.
    model = transformers.AutoModelForCausalLM.from_config(CONFIGS[name](), attn_implementation="eager").eval()
    with torch.no_grad():
        for key, p in model.named_parameters():
            p.copy_(torch.randn_like(p) * (0.3 if "norm" in key else 0.15))
    return model


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_equal_transformers(name: str, tmp_path: Path) -> None:
    reference = random_model(name)
    reference.save_pretrained(tmp_path)
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
        hidden = hidden_states(model, batch, pretrained.config)
        return hidden, token_logits(model, hidden, np.arange(SMALL["vocab_size"]), pretrained.config)

    hidden, logits = jax.jit(run)(model)
    with torch.no_grad():
        out = reference(torch.tensor(tokens.astype(np.int64)), output_hidden_states=True)
    assert np.abs(np.asarray(hidden) - out.hidden_states[-1].numpy()).max() < 1e-4
    assert np.abs(np.asarray(logits) - out.logits.numpy()).max() < 1e-4
