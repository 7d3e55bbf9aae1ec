"""A tiny model directory, tokenizer and survey table: a whole run takes seconds."""

import atexit
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

GROUPS = ["Kenya", "Peru", "Japan", "Norway", "New Zealand", "Egypt", "Viet Nam", "Canada"]
QUESTIONS = 12

SIZES = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "rope_theta": 10000.0},
    "gemma3": {"model_type": "gemma3_text", "sliding_window": 24, "sliding_window_pattern": 3},
}
OTHERS: dict[str, dict[str, Any]] = {  # for tests of what sets them apart
    "smollm3": {"model_type": "smollm3", "no_rope_layers": [1, 0, 1]},
    "olmo2": {"model_type": "olmo2", "attention_bias": True},
    "phi3": {
        "model_type": "phi3",
        "head_dim": None,  # these models have none
        "partial_rotary_factor": 0.75,
        "rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.1, 1.2], "long_factor": [1.0, 2.0, 4.0]},
        "original_max_position_embeddings": 64,
        "max_position_embeddings": 256,
        "tie_word_embeddings": False,
    },
    "mixtral": {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2},
    "gemma4": {  # three stacks of layers: with a window, without, and without keys; experts in all
        "model_type": "gemma4_text",
        "num_hidden_layers": 7,
        "layer_types": ["sliding_attention", "full_attention"] * 3 + ["full_attention"],
        "sliding_window": 24,
        "global_head_dim": 24,
        "num_kv_shared_layers": 1,
        "use_double_wide_mlp": True,
        "hidden_size_per_layer_input": 12,
        "vocab_size_per_layer_input": 320,
        "enable_moe_block": True,
        "num_experts": 4,
        "top_k_experts": 2,
        "moe_intermediate_size": 16,
    },
    "gpt_oss": {  # prompts go beyond the length before scaling
        "model_type": "gpt_oss",
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": 24,
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "truncate": False},
        "rope_theta": 1e4,
        "tie_word_embeddings": False,
    },
    "llama4": {  # prompts go beyond a chunk; layers with experts and without by turns, and layers with positions
        "model_type": "llama4_text",
        "num_hidden_layers": 4,
        "interleave_moe_layer_step": 2,
        "no_rope_layers": [1, 0, 1, 1],
        "num_local_experts": 4,
        "attention_chunk_size": 48,
        "floor_scale": 16,
        "attn_scale": 0.5,
        "tie_word_embeddings": False,
    },
    "qwen3_5": {  # two of three layers remember
        "model_type": "qwen3_5_text",
        "num_hidden_layers": 6,
        "full_attention_interval": 3,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 8,
    },
    "cohere2": {
        "model_type": "cohere2",
        "rms_norm_eps": None,  # another name for it
        "layer_norm_eps": 1e-5,
        "sliding_window": 24,
        "sliding_window_pattern": 3,
    },
    "mistral4": {  # latent attention; the first layer has no experts
        "model_type": "mistral4",
        "num_key_value_heads": None,  # these models have none
        "qk_rope_head_dim": 6,
        "qk_nope_head_dim": 10,
        "v_head_dim": 16,
        "q_lora_rank": 24,
        "kv_lora_rank": 12,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "first_k_dense_replace": 1,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 1e4,
            "factor": 4.0,
            "original_max_position_embeddings": 32,
            "mscale_all_dim": 1.0,
            "llama_4_scaling_beta": 0.5,
        },
        "tie_word_embeddings": False,
    },
    "ministral3": {
        "model_type": "ministral3",
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 1e4,
            "factor": 4.0,
            "original_max_position_embeddings": 32,  # prompts go beyond it
            "llama_4_scaling_beta": 0.5,
        },
    },
}


def _cache() -> Path:
    """A folder for programs and tokens that this process and all that it starts share, deleted at its end.

    Most of a tiny run's time is compiling, and most runs compile the same programs.
    """
    if "TINY_CACHE" not in os.environ:
        os.environ["TINY_CACHE"] = tempfile.mkdtemp(prefix="tiny-cache-")
        atexit.register(shutil.rmtree, os.environ["TINY_CACHE"], ignore_errors=True)
    return Path(os.environ["TINY_CACHE"])


CACHE = _cache()


def is_timing(name: str) -> bool:
    """Whether a value of metrics.jsonl measures the machine; all others are the same if a run is repeated."""
    return name.startswith(("time/", "memory/")) or name.endswith("_per_second") or name == "mfu"


def write_model(directory: Path, family: str = "llama", seed: int = 0) -> Path:
    """A Hugging Face directory with random float32 weights and a byte-level tokenizer; no torch needed."""
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from survey_jax.model.abstract import abstract_model
    from survey_jax.pretrained.families import decoder_config
    from survey_jax.pretrained.safetensors_files import split_name

    directory.mkdir(parents=True, exist_ok=True)
    hf = {field: value for field, value in (SIZES | (FAMILIES | OTHERS)[family]).items() if value is not None}
    (directory / "config.json").write_text(json.dumps(hf))
    config, names = decoder_config(hf, "tiny")
    from flax import nnx

    rng = np.random.default_rng(seed)
    parts: dict[str, dict[int, np.ndarray]] = {}  # by their first row or column: several of a fused tensor
    axes: dict[str, int] = {}  # along which they are fused
    for path, variable in nnx.to_flat_state(nnx.state(abstract_model(config, 0, ()))):
        stored = names[".".join(map(str, path))]
        name, transposed = stored.name, stored.transposed
        _, shape = stored.split(variable.shape)
        for full_name in stored.places(variable.shape).values():
            scale = 0.3 if "norm" in name else 0.15
            value = rng.normal(0, scale, shape[::-1] if transposed else shape).astype(np.float32)
            parts.setdefault(full_name, {})[(stored.rows or stored.columns or (0, 0))[0]] = value
            axes[full_name] = int(stored.columns is not None)
    tensors = {name: np.concatenate([v for _, v in sorted(p.items())], axes[name]) for name, p in parts.items()}
    for whole in {split_name(name)[0] for name in tensors if "[" in name}:  # of all experts
        tensors[whole] = np.stack([tensors.pop(f"{whole}[{i}]") for i in range(config.experts)])
    if config.expert_biases:
        tensors = _as_gpt_oss_stores(tensors)
    save_file(tensors, directory / "model.safetensors")

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(directory)
    return directory


def _as_gpt_oss_stores(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Experts' gate and up by turns in one tensor, and all as [in, out]."""
    result = {name: value for name, value in tensors.items() if ".experts." not in name}
    for prefix in {name.rpartition(".experts.")[0] for name in tensors if ".experts." in name}:
        for bias in ("", "_bias"):
            gate, up, down = (tensors[f"{prefix}.experts.{name}{bias}"] for name in ("gate", "up", "down"))
            both = np.stack([gate, up], axis=2).reshape(len(gate), -1, *gate.shape[2:])
            for name, value in {"gate_up": both, "down": down}.items():
                turned = value if bias else np.ascontiguousarray(value.swapaxes(1, 2))
                result[f"{prefix}.experts.{name}_proj{bias}"] = turned
    return result


def rows(
    questions: int = QUESTIONS, groups: list[str] = GROUPS, survey: str = "Tiny", seed: int = 0
) -> list[dict[str, Any]]:
    """Survey rows with counts; questions have 2 to 5 options."""
    rng = np.random.default_rng(seed)
    return [
        {
            "survey": survey,
            "question_id": f"q{q}",
            "question": f"Is {survey.lower()} thing number {q} good?",
            "options": [f"option {k} of {q % 3}" for k in range(2 + q % 4)],
            "scale": "ordinal",
            "group": {"country": group},
            "counts": rng.integers(1, 200, 2 + q % 4).tolist(),
        }
        for q in range(questions)
        for group in groups
    ]


def write_rows(path: Path, values: list[dict[str, Any]]) -> Path:
    """Rows as JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in values))
    return path


def write_config(directory: Path, model: Path, table: Path, **overrides: str) -> Path:
    """A config file for a tiny run; overrides are `section__name="python expression"`."""
    changes = "".join(f"    c.{key.replace('__', '.')} = {value}\n" for key, value in overrides.items())
    file = directory / "tiny_config.py"
    file.write_text(f"""
from survey_jax.config import *
from survey_jax.survey.splits.config import SplitConfig

def get_config():
    c = Config(
        model=ModelConfig(weights={str(model)!r}),
        lora=LoraConfig(rank=4),
        data=DataConfig(tables=({str(table)!r},), splits=SplitConfig(
            unseen_questions=("q1", "q6"), unseen_groups={{"country": ("Peru",)}}, valid_questions=("q3",))),
        batch=BatchConfig(batch_size=2, seq_len=384, answers_per_seq=16, groups_per_tree=3),
        optim=OptimConfig(steps=40, lr=1e-2, warmup=2),
        run=RunConfig(eval_every=20, log_every=5, cache={str(CACHE)!r}),
    )
{changes}    return c
""")
    return file
