"""Tiny random models of every family, built by transformers from settings that real releases have or might have."""

from typing import Any

import pytest
import transformers

torch = pytest.importorskip("torch")

SMALL: dict[str, Any] = {
    "vocab_size": 199,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": None,
}
WIDE = SMALL | {"head_dim": 20}  # not hidden_size / heads
BEYOND = {"original_max_position_embeddings": 16}  # prompts go beyond it
HYBRID = ["sliding_attention", "full_attention"] * 2
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    **BEYOND,
}
YARN = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, **BEYOND}


def long_rope(pairs: int, length: int) -> dict[str, Any]:
    """LongRoPE with a divisor of its own for each of `pairs` frequencies."""
    return {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0 + 0.1 * i for i in range(pairs)],
        "long_factor": [1.0 + 2.0 * i for i in range(pairs)],
        "original_max_position_embeddings": length,
    }


def llama(**settings: Any) -> Any:
    return transformers.LlamaConfig(**WIDE | settings)


def rope(kind: str, **settings: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0} | settings}


def phi3(share: float, length: int) -> Any:
    pairs = int(12 * share) // 2
    scaling = long_rope(pairs, length) | {"partial_rotary_factor": share}
    return transformers.Phi3Config(**SMALL, rope_parameters=scaling, original_max_position_embeddings=length)


def multimodal(config: Any, text: Any, vision: Any, **settings: Any) -> Any:
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return config(text_config=text, vision_config=vision(**small, image_size=28, patch_size=14), **settings)


def ministral3(**settings: Any) -> Any:
    scaling = YARN | {"llama_4_scaling_beta": 0.5, "mscale": 1.0, "mscale_all_dim": 1.0}
    return transformers.Ministral3Config(**WIDE, rope_parameters=scaling, **settings)


def mistral4(**settings: Any) -> Any:
    """The first layer without experts."""
    heads = {"num_key_value_heads": 4, "qk_rope_head_dim": 8, "qk_nope_head_dim": 12, "v_head_dim": 20}
    folded = {"q_lora_rank": 24, "kv_lora_rank": 16}
    experts = {"n_routed_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 12, "n_shared_experts": 2}
    scaling = YARN | {"llama_4_scaling_beta": 0.5, "mscale": 1.0, "mscale_all_dim": 1.0}
    sizes = SMALL | heads | folded | experts | {"first_k_dense_replace": 1, "rope_parameters": scaling}
    return transformers.Mistral4Config(**sizes | settings)


def gemma3(**settings: Any) -> Any:
    return transformers.Gemma3TextConfig(
        **WIDE | {"pad_token_id": 0}, sliding_window=7, layer_types=HYBRID, query_pre_attn_scalar=32, **settings
    )


def qwen35(config: Any = transformers.Qwen3_5TextConfig, **settings: Any) -> Any:
    """Every second layer remembers; twice as many heads of values as of keys."""
    heads = {"linear_num_key_heads": 2, "linear_num_value_heads": 4}
    widths = {"linear_key_head_dim": 12, "linear_value_head_dim": 8, "linear_conv_kernel_dim": 3}
    return config(
        **WIDE | heads | widths | {"head_dim": 24, "layer_types": ["linear_attention", "full_attention"] * 2} | settings
    )


def gemma4(**settings: Any) -> Any:
    """Layers without a window have wider heads; the second of three pairs of layers is the last with keys to share."""
    sizes = WIDE | {"pad_token_id": 0, "sliding_window": 7, "global_head_dim": 28, "layer_types": HYBRID}
    return transformers.Gemma4TextConfig(**sizes | {"hidden_size_per_layer_input": 0} | settings)


GEMMA4_E = {  # as E2B and E4B have it; transformers numbers ten layers and more with two digits
    "num_hidden_layers": 12,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 4,
    "num_kv_shared_layers": 3,
    "use_double_wide_mlp": True,
    "hidden_size_per_layer_input": 12,
    "vocab_size_per_layer_input": 199,
    "final_logit_softcapping": 3.0,
}


def llama4(**settings: Any) -> Any:
    """Three layers with positions and chunks, one without either; prompts go beyond a chunk."""
    scaling = LLAMA3_ROPE | {"high_freq_factor": 1.0}  # as in Scout: a step
    experts = {"intermediate_size": 24, "intermediate_size_mlp": 80, "num_local_experts": 4}
    queries = {"attention_chunk_size": 13, "floor_scale": 6, "attn_scale": 0.5}
    return transformers.Llama4TextConfig(**WIDE | experts | queries | {"rope_parameters": scaling} | settings)


CONFIGS = {
    "llama": lambda: llama(tie_word_embeddings=True, **rope("default")),
    "llama3": lambda: llama(rope_parameters=LLAMA3_ROPE),
    "llama_biases": lambda: llama(attention_bias=True, mlp_bias=True),
    "llama_linear": lambda: llama(**rope("linear", factor=4.0)),
    "llama_dynamic": lambda: llama(**rope("dynamic", factor=3.0) | {"max_position_embeddings": 16}),
    "llama_dynamic_short": lambda: llama(**rope("dynamic", factor=3.0)),
    "llama_yarn": lambda: llama(rope_parameters=YARN),
    "llama_yarn_mscale": lambda: llama(
        rope_parameters=YARN | {"mscale": 0.7, "mscale_all_dim": 1.3, "beta_fast": 8, "truncate": False}
    ),
    "llama_longrope": lambda: llama(rope_parameters=long_rope(10, 16) | {"factor": 4.0}),
    "llama4_text": llama4,
    "llama4_text_interleaved": lambda: llama4(  # as Maverick
        interleave_moe_layer_step=2,
        use_qk_norm=False,
        attention_bias=True,
        attn_temperature_tuning=False,
        **rope("default"),
    ),
    "llama4_text_mixed": lambda: llama4(
        moe_layers=[0, 3],
        num_experts_per_tok=2,
        no_rope_layers=[0, 1, 1, 0],
        layer_types=["chunked_attention", "full_attention"] * 2,
        tie_word_embeddings=True,
    ),
    "llama4": lambda: transformers.Llama4Config(
        text_config=llama4(interleave_moe_layer_step=2),
        vision_config={"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        | {"image_size": 28, "patch_size": 14, "vision_output_dim": 16, "projector_output_dim": 16}
        | {"projector_input_dim": 16},
    ),
    "qwen2": lambda: transformers.Qwen2Config(**WIDE, tie_word_embeddings=True),
    "qwen2_window": lambda: transformers.Qwen2Config(
        **SMALL, use_sliding_window=True, sliding_window=7, max_window_layers=2, rope_parameters=YARN
    ),
    "qwen3": lambda: transformers.Qwen3Config(**WIDE, attention_bias=True),
    "mistral": lambda: transformers.MistralConfig(**WIDE, sliding_window=None),
    "mistral_window": lambda: transformers.MistralConfig(**SMALL, sliding_window=7),
    "ministral": lambda: transformers.MinistralConfig(**WIDE, sliding_window=7, layer_types=HYBRID),
    "mistral3": lambda: multimodal(
        transformers.Mistral3Config,
        transformers.MistralConfig(**WIDE, sliding_window=None, tie_word_embeddings=False),
        transformers.PixtralVisionConfig,
        tie_word_embeddings=False,
    ),
    "ministral3": lambda: ministral3(tie_word_embeddings=True),
    "mistral4": mistral4,
    "mistral4_plain": lambda: mistral4(
        q_lora_rank=None,
        rope_interleave=False,
        attention_bias=True,
        norm_topk_prob=False,
        rope_parameters=YARN | {"llama_4_scaling_beta": 0.5, "mscale": 0.7, "mscale_all_dim": 1.3},
    ),
    "mistral3_of_mistral4": lambda: multimodal(
        transformers.Mistral3Config,
        mistral4(tie_word_embeddings=False),
        transformers.PixtralVisionConfig,
        tie_word_embeddings=False,
    ),
    "mistral3_of_ministral3": lambda: multimodal(
        transformers.Mistral3Config,
        ministral3(tie_word_embeddings=False),
        transformers.PixtralVisionConfig,
        tie_word_embeddings=False,
    ),
    "mixtral": lambda: transformers.MixtralConfig(**WIDE, num_local_experts=6, num_experts_per_tok=2, sliding_window=7),
    "qwen3_moe": lambda: transformers.Qwen3MoeConfig(
        **WIDE, num_experts=8, num_experts_per_tok=3, moe_intermediate_size=24, norm_topk_prob=True, attention_bias=True
    ),
    "qwen3_moe_shares": lambda: transformers.Qwen3MoeConfig(
        **WIDE, num_experts=8, num_experts_per_tok=3, moe_intermediate_size=24, norm_topk_prob=False
    ),
    "qwen3_moe_dense": lambda: transformers.Qwen3MoeConfig(
        **WIDE,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=24,
        mlp_only_layers=[0],
        decoder_sparse_step=2,
    ),
    "qwen3_5_text": lambda: qwen35(),
    "qwen3_5": lambda: transformers.Qwen3_5Config(
        text_config=qwen35(layer_types=None),  # three of four
        vision_config={"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 48},
    ),
    "qwen3_5_moe_text": lambda: qwen35(
        transformers.Qwen3_5MoeTextConfig,
        num_experts=6,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=20,
    ),
    "olmoe": lambda: transformers.OlmoeConfig(**SMALL, num_experts=5, num_experts_per_tok=2),
    "gpt_oss": lambda: transformers.GptOssConfig(
        **WIDE,
        num_local_experts=6,
        num_experts_per_tok=2,
        sliding_window=7,
        rope_parameters=YARN | {"truncate": False, "rope_theta": 150000.0},
    ),
    "gemma": lambda: transformers.GemmaConfig(**WIDE),
    "gemma2": lambda: transformers.Gemma2Config(
        **WIDE, sliding_window=7, attn_logit_softcapping=2.0, final_logit_softcapping=3.0, query_pre_attn_scalar=32
    ),
    "gemma3_text": gemma3,
    "gemma3": lambda: multimodal(
        transformers.Gemma3Config, gemma3(), transformers.SiglipVisionConfig, mm_tokens_per_image=4
    ),
    "gemma4_text": lambda: gemma4(attention_k_eq_v=True, num_global_key_value_heads=1),
    "gemma4_text_experts": lambda: gemma4(
        enable_moe_block=True, num_experts=6, top_k_experts=2, moe_intermediate_size=24, attention_k_eq_v=True
    ),
    "gemma4_unified_text": lambda: transformers.Gemma4UnifiedTextConfig(
        **WIDE | {"pad_token_id": 0},
        sliding_window=7,
        global_head_dim=28,
        layer_types=HYBRID,
        attention_k_eq_v=True,
        num_global_key_value_heads=1,
    ),
    "gemma4_text_shared": lambda: gemma4(**GEMMA4_E),
    "gemma4": lambda: transformers.Gemma4Config(
        text_config=gemma4(**GEMMA4_E),
        vision_config={"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        | {"num_key_value_heads": 2, "head_dim": 8, "patch_size": 4, "position_embedding_size": 16},
        audio_config=None,
    ),
    "smollm3": lambda: transformers.SmolLM3Config(**SMALL | {"pad_token_id": 0}, no_rope_layers=[1, 0, 1, 0]),
    "smollm3_window": lambda: transformers.SmolLM3Config(
        **SMALL | {"pad_token_id": 0},
        use_sliding_window=True,
        sliding_window=7,
        no_rope_layer_interval=2,
        tie_word_embeddings=False,
        attention_bias=True,
        mlp_bias=True,
    ),
    "phi3": lambda: transformers.Phi3Config(**SMALL, sliding_window=7),
    "phi3_long": lambda: phi3(1.0, 16),
    "phi3_short": lambda: phi3(1.0, 48),
    "phi3_partial": lambda: phi3(0.67, 16),
    "olmo2": lambda: transformers.Olmo2Config(**SMALL, attention_bias=True),
    "olmo3": lambda: transformers.Olmo3Config(
        **SMALL,
        sliding_window=7,
        layer_types=HYBRID,
        rope_parameters={
            "full_attention": YARN | {"rope_theta": 500000.0, "attention_factor": 1.3},
            "sliding_attention": {"rope_type": "default", "rope_theta": 500000.0},
        },
    ),
    "granite": lambda: transformers.GraniteConfig(
        **SMALL,
        attention_multiplier=0.1,
        embedding_multiplier=3.0,
        residual_multiplier=0.22,
        logits_scaling=8.0,
        tie_word_embeddings=True,
    ),
    "glm4": lambda: transformers.Glm4Config(
        **WIDE, rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.4}
    ),
    "exaone4": lambda: transformers.Exaone4Config(**SMALL, sliding_window=7, sliding_window_pattern=2),
    "exaone4_full": lambda: transformers.Exaone4Config(
        **SMALL, sliding_window=None, layer_types=["full_attention"] * 4, rope_parameters=LLAMA3_ROPE
    ),
    "exaone4_5": lambda: transformers.Exaone4_5_Config(
        text_config=transformers.Exaone4Config(**SMALL, sliding_window=7, sliding_window_pattern=2),
        vision_config={"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 48},
    ),
    "cohere": lambda: transformers.CohereConfig(**SMALL, logit_scale=0.5, attention_bias=True),
    "cohere2": lambda: transformers.Cohere2Config(**SMALL, sliding_window=7, layer_types=HYBRID),
    "seed_oss": lambda: transformers.SeedOssConfig(**WIDE, attention_out_bias=True),
    "cwm": lambda: transformers.CwmConfig(**WIDE, sliding_window=7, rope_parameters=LLAMA3_ROPE),
}


def random_model(name: str) -> Any:
    """Every parameter random, norms and biases too; eager attention, the only one that applies soft caps."""
    config = CONFIGS[name]()
    auto = transformers.AutoModelForImageTextToText if hasattr(config, "text_config") else None
    build = (auto or transformers.AutoModelForCausalLM).from_config
    if config.model_type == "mistral4":  # transformers 5.23 does not list it among language models
        build = transformers.Mistral4ForCausalLM._from_config
    torch.manual_seed(0)
    model = build(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for key, p in model.named_parameters():
            p.copy_(torch.randn_like(p) * (0.3 if "norm" in key else 0.15))
        for key, b in model.named_buffers():
            if key.endswith("layer_scalar"):
                b.copy_(0.5 + torch.rand_like(b))
    return model
