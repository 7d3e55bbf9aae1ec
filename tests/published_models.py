"""Published config.json files, abridged, and how many parameters their models have."""

from typing import Any


def sizes(width: int, ff: int, layers: int, heads: int, kv_heads: int, vocabulary: int) -> dict[str, int]:
    return {
        "hidden_size": width,
        "intermediate_size": ff,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
    }


COMMON = {
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.43.0",
    "use_cache": True,
}
LLAMA = COMMON | {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "pretraining_tp": 1}
LLAMA_31 = LLAMA | {
    "attention_bias": False,
    "mlp_bias": False,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
}
QWEN25 = COMMON | {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "max_window_layers": 28,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 131072,
    "use_mrope": False,
    "use_sliding_window": False,
}
QWEN3 = COMMON | {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "head_dim": 128,
    "max_window_layers": 36,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "use_sliding_window": False,
}
MISTRAL = COMMON | {
    "model_type": "mistral",
    "architectures": ["MistralForCausalLM"],
    "rope_theta": 1000000.0,
    "sliding_window": None,
}
MISTRAL_SMALL = sizes(5120, 32768, 40, 32, 8, 131072) | {"head_dim": 128, "rope_theta": 1e9}
GEMMA = {name: value for name, value in COMMON.items() if name not in ("tie_word_embeddings", "hidden_act")} | {
    "attention_bias": False,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "pad_token_id": 0,
    "rms_norm_eps": 1e-06,
}
GEMMA2 = GEMMA | {
    "model_type": "gemma2",
    "architectures": ["Gemma2ForCausalLM"],
    "attn_logit_softcapping": 50.0,
    "cache_implementation": "hybrid",
    "final_logit_softcapping": 30.0,
    "hidden_act": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "sliding_window_size": 4096,
}
GEMMA3_1B = GEMMA | {
    "model_type": "gemma3_text",
    "architectures": ["Gemma3ForCausalLM"],
    "attn_logit_softcapping": None,
    "cache_implementation": "hybrid",
    "final_logit_softcapping": None,
    "query_pre_attn_scalar": 256,
    "rope_local_base_freq": 10000,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
}
GEMMA3_4B = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "boi_token_index": 255999,
    "eoi_token_index": 256000,
    "eos_token_id": [1, 106],
    "image_token_index": 262144,
    "initializer_range": 0.02,
    "mm_tokens_per_image": 256,
    "model_type": "gemma3",
    "text_config": {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    },
    "torch_dtype": "bfloat16",
    "transformers_version": "4.50.0.dev0",
    "vision_config": {"hidden_size": 1152, "model_type": "siglip_vision_model", "num_hidden_layers": 27},
}
SMOLLM3 = {name: value for name, value in COMMON.items() if name != "tie_word_embeddings"} | {
    "model_type": "smollm3",
    "architectures": ["SmolLM3ForCausalLM"],
    "attention_bias": False,
    "layer_types": ["full_attention"] * 36,
    "max_window_layers": 28,
    "mlp_bias": False,
    "no_rope_layer_interval": 4,
    "no_rope_layers": [1, 1, 1, 0] * 9,
    "pad_token_id": 128004,
    "pretraining_tp": 2,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 5000000.0,
    "sliding_window": None,
    "use_sliding_window": False,
}
PHI3 = COMMON | {
    "model_type": "phi3",
    "architectures": ["Phi3ForCausalLM"],
    "attention_bias": False,
    "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"},
    "embd_pdrop": 0.0,
    "original_max_position_embeddings": 4096,
    "resid_pdrop": 0.0,
    "sliding_window": 262144,
}
PHI4_MINI = PHI3 | {
    "full_attn_mod": 1,
    "interpolate_factor": 1,
    "lm_head_bias": False,
    "mlp_bias": False,
    "partial_rotary_factor": 0.75,
    "tie_word_embeddings": True,
}
OLMO2 = COMMON | {
    "model_type": "olmo2",
    "architectures": ["Olmo2ForCausalLM"],
    "attention_bias": False,
    "rms_norm_eps": 1e-06,
}
GRANITE = COMMON | {
    "model_type": "granite",
    "architectures": ["GraniteForCausalLM"],
    "attention_bias": False,
    "attention_multiplier": 0.0078125,
    "embedding_multiplier": 12.0,
    "logits_scaling": 16.0,
    "mlp_bias": False,
    "residual_multiplier": 0.22,
    "rope_scaling": None,
    "tie_word_embeddings": True,
}


def long_rope(pairs: int) -> dict[str, Any]:
    """The published form; the published divisors are others."""
    return {"long_factor": [2.0] * pairs, "short_factor": [1.0] * pairs, "type": "longrope"}


# name: (config.json, parameters of the text decoder as published)
MIXTRAL = COMMON | {
    "model_type": "mixtral",
    "architectures": ["MixtralForCausalLM"],
    "num_experts_per_tok": 2,
    "num_local_experts": 8,
    "output_router_logits": False,
    "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.02,
    "sliding_window": None,
}
QWEN3_MOE = COMMON | {
    "model_type": "qwen3_moe",
    "architectures": ["Qwen3MoeForCausalLM"],
    "attention_bias": False,
    "decoder_sparse_step": 1,
    "head_dim": 128,
    "intermediate_size": 6144,
    "max_window_layers": 48,
    "mlp_only_layers": [],
    "moe_intermediate_size": 768,
    "norm_topk_prob": True,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "output_router_logits": False,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.001,
    "sliding_window": None,
    "use_sliding_window": False,
}
OLMOE = COMMON | {
    "model_type": "olmoe",
    "architectures": ["OlmoeForCausalLM"],
    "attention_bias": False,
    "clip_qkv": None,
    "norm_topk_prob": False,
    "num_experts": 64,
    "num_experts_per_tok": 8,
    "output_router_logits": False,
    "rope_scaling": None,
    "router_aux_loss_coef": 0.01,
}
COHERE = {name: value for name, value in COMMON.items() if name not in ("rms_norm_eps", "tie_word_embeddings")} | {
    "model_type": "cohere",
    "architectures": ["CohereForCausalLM"],
    "attention_bias": False,
    "eos_token_id": 255001,
    "layer_norm_eps": 1e-05,
    "pad_token_id": 0,
    "use_qk_norm": False,
}
COHERE2 = COHERE | {
    "model_type": "cohere2",
    "architectures": ["Cohere2ForCausalLM"],
    "cache_implementation": "hybrid",
    "head_dim": 128,
    "layer_switch": 4,
    "order_of_interleaved_layers": "local_attn_first",
    "position_embedding_type": "rope_gptj",
    "rope_scaling": None,
    "rope_theta": 50000,
    "rotary_pct": 1.0,
    "sliding_window": 4096,
    "sliding_window_pattern": 4,
    "use_embedding_sharing": True,
    "use_gated_activation": True,
    "use_parallel_block": True,
    "use_parallel_embedding": True,
}

GEMMA4_TEXT = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attention_k_eq_v": False,
    "bos_token_id": 2,
    "dtype": "bfloat16",
    "enable_moe_block": False,
    "eos_token_id": 1,
    "expert_intermediate_size": None,
    "final_logit_softcapping": 30.0,
    "global_head_dim": 512,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size_per_layer_input": 0,
    "initializer_range": 0.02,
    "model_type": "gemma4_text",
    "moe_intermediate_size": None,
    "num_experts": None,
    "num_global_key_value_heads": None,
    "num_kv_shared_layers": 0,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-06,
    "rope_parameters": {
        "full_attention": {"partial_rotary_factor": 0.25, "rope_theta": 1000000.0, "rope_type": "proportional"},
        "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
    },
    "tie_word_embeddings": True,
    "top_k_experts": None,
    "use_cache": True,
    "use_double_wide_mlp": False,
    "vocab_size_per_layer_input": 262144,
}


def gemma4(window: int, every: int = 6, model_type: str = "gemma4", **text: Any) -> dict[str, Any]:
    """A whole file, its text part as published."""
    layers = range(text["num_hidden_layers"])
    types = ["full_attention" if (n + 1) % every == 0 else "sliding_attention" for n in layers]
    small = window == 512
    more = {"sliding_window": window, "layer_types": types, "max_position_embeddings": 131072 if small else 262144}
    return {
        "architectures": ["Gemma4ForConditionalGeneration"],
        "audio_config": {"model_type": "gemma4_audio"} if small else None,
        "audio_token_id": 258881,
        "boa_token_id": 256000,
        "boi_token_id": 255999,
        "dtype": "bfloat16",
        "eoa_token_id": 258883,
        "eoa_token_index": 258883,
        "eoi_token_id": 258882,
        "eos_token_id": [1, 106],
        "image_token_id": 258880,
        "initializer_range": 0.02,
        "model_type": model_type,
        "text_config": GEMMA4_TEXT
        | {"model_type": f"{model_type}_text", "use_bidirectional_attention": None if small else "vision"}
        | more
        | text,
        "tie_word_embeddings": True,
        "transformers_version": "5.5.0.dev0",
        "video_token_id": 258884,
        "vision_config": {"model_type": "gemma4_vision"},
        "vision_soft_tokens_per_image": 280,
    }


TOLD = {"hidden_size_per_layer_input": 256}
SAME_KV = {"attention_k_eq_v": True}
GPT_OSS = {
    "architectures": ["GptOssForCausalLM"],
    "attention_bias": True,
    "attention_dropout": 0.0,
    "eos_token_id": 200002,
    "experts_per_token": 4,
    "head_dim": 64,
    "hidden_act": "silu",
    "initial_context_length": 4096,
    "initializer_range": 0.02,
    "max_position_embeddings": 131072,
    "model_type": "gpt_oss",
    "num_experts_per_tok": 4,
    "output_router_logits": False,
    "pad_token_id": 199999,
    "quantization_config": {
        "modules_to_not_convert": [
            "model.layers.*.self_attn",
            "model.layers.*.mlp.router",
            "model.embed_tokens",
            "lm_head",
        ],
        "quant_method": "mxfp4",
    },
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "factor": 32.0,
        "original_max_position_embeddings": 4096,
        "rope_type": "yarn",
        "truncate": False,
    },
    "rope_theta": 150000,
    "router_aux_loss_coef": 0.9,
    "sliding_window": 128,
    "swiglu_limit": 7.0,
    "tie_word_embeddings": False,
    "transformers_version": "4.55.0.dev0",
    "use_cache": True,
}


QWEN35_TEXT = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attn_output_gate": True,
    "bos_token_id": None,
    "eos_token_id": 248044,
    "full_attention_interval": 4,
    "head_dim": 256,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_value_head_dim": 128,
    "mamba_ssm_dtype": "float32",
    "max_position_embeddings": 262144,
    "mlp_only_layers": [],
    "model_type": "qwen3_5_text",
    "mtp_num_hidden_layers": 1,
    "mtp_use_dedicated_embeddings": False,
    "pad_token_id": None,
    "partial_rotary_factor": 0.25,
    "rms_norm_eps": 1e-06,
    "rope_parameters": {
        "mrope_interleaved": True,
        "mrope_section": [11, 11, 10],
        "partial_rotary_factor": 0.25,
        "rope_theta": 10000000,
        "rope_type": "default",
    },
    "tie_word_embeddings": False,
    "use_cache": True,
}


def qwen35(values: int, **text: Any) -> dict[str, Any]:
    """A whole file; `values`: heads of values of a layer that remembers."""
    types = (["linear_attention"] * 3 + ["full_attention"]) * (text["num_hidden_layers"] // 4)
    return {
        "architectures": ["Qwen3_5ForConditionalGeneration"],
        "eos_token_id": 248046,
        "image_token_id": 248056,
        "model_type": "qwen3_5",
        "pad_token_id": 248044,
        "text_config": QWEN35_TEXT | {"linear_num_value_heads": values, "layer_types": types} | text,
        "tie_word_embeddings": text.get("tie_word_embeddings", False),
        "video_token_id": 248057,
        "vision_config": {"model_type": "qwen3_5", "depth": 27, "hidden_size": 1152},
        "vision_end_token_id": 248054,
        "vision_start_token_id": 248053,
    }


LLAMA4_TEXT = {
    "attention_bias": False,
    "attention_chunk_size": 8192,
    "attention_dropout": 0.0,
    "bos_token_id": 200000,
    "eos_token_id": [200001, 200007, 200008],
    "for_llm_compressor": False,
    "head_dim": 128,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "intermediate_size_mlp": 16384,
    "model_type": "llama4_text",
    "no_rope_layers": [],
    "num_experts_per_tok": 1,
    "output_router_logits": False,
    "pad_token_id": 200018,
    "rms_norm_eps": 1e-05,
    "rope_theta": 500000.0,
    "router_aux_loss_coef": 0.001,
    "router_jitter_noise": 0.0,
    "torch_dtype": "bfloat16",
    "use_cache": True,
}
LLAMA4_SCALING = {
    "factor": 16.0,
    "high_freq_factor": 1.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}


def llama4(**text: Any) -> dict[str, Any]:
    """A whole file."""
    return {
        "architectures": ["Llama4ForConditionalGeneration"],
        "boi_token_index": 200080,
        "eoi_token_index": 200081,
        "image_token_index": 200092,
        "model_type": "llama4",
        "text_config": LLAMA4_TEXT | sizes(5120, 8192, 48, 40, 8, 202048) | text,
        "tie_word_embeddings": False,
        "vision_config": {"model_type": "llama4_vision_model", "hidden_size": 1408, "num_hidden_layers": 34},
    }


PUBLISHED: dict[str, tuple[dict[str, Any], int]] = {
    "vicuna-7b-v1.5": (
        LLAMA
        | sizes(4096, 11008, 32, 32, 32, 32000)
        | {"_name_or_path": "vicuna-7b-v1.5", "max_length": 4096, "pad_token_id": 0, "rope_scaling": None},
        6_738_415_616,
    ),
    "Meta-Llama-3-8B": (
        LLAMA | sizes(4096, 14336, 32, 32, 8, 128256) | {"attention_bias": False, "rope_scaling": None},
        8_030_261_248,
    ),
    "Llama-3.1-8B": (LLAMA_31 | sizes(4096, 14336, 32, 32, 8, 128256), 8_030_261_248),
    "Llama-3.2-1B": (
        LLAMA_31
        | sizes(2048, 8192, 16, 32, 8, 128256)
        | {"head_dim": 64, "tie_word_embeddings": True}
        | {"rope_scaling": LLAMA_31["rope_scaling"] | {"factor": 32.0}},
        1_235_814_400,
    ),
    "Llama-3.3-70B": (LLAMA_31 | sizes(8192, 28672, 80, 64, 8, 128256), 70_553_706_496),
    "Qwen2.5-7B": (QWEN25 | sizes(3584, 18944, 28, 28, 4, 152064), 7_615_616_512),
    "DeepSeek-R1-Distill-Qwen-7B": (
        QWEN25 | sizes(3584, 18944, 28, 28, 4, 152064) | {"rope_theta": 10000, "sliding_window": 4096},
        7_615_616_512,
    ),
    "DeepSeek-R1-Distill-Qwen-14B": (QWEN25 | sizes(5120, 13824, 48, 40, 8, 152064), 14_770_033_664),
    "DeepSeek-R1-Distill-Qwen-32B": (QWEN25 | sizes(5120, 27648, 64, 40, 8, 152064), 32_763_876_352),
    "Qwen3-8B": (QWEN3 | sizes(4096, 12288, 36, 32, 8, 151936), 8_190_735_360),
    "Mistral-7B-v0.3": (MISTRAL | sizes(4096, 14336, 32, 32, 8, 32768), 7_248_023_552),
    "Mistral-Nemo-Base-2407": (MISTRAL | sizes(5120, 14336, 40, 32, 8, 131072) | {"head_dim": 128}, 12_247_782_400),
    "Mistral-Small-3.1-24B": (
        {
            "architectures": ["Mistral3ForConditionalGeneration"],
            "image_token_index": 10,
            "model_type": "mistral3",
            "multimodal_projector_bias": False,
            "projector_hidden_act": "gelu",
            "spatial_merge_size": 2,
            "text_config": MISTRAL | MISTRAL_SMALL,
            "vision_config": {"model_type": "pixtral"},
            "vision_feature_layer": -1,
        },
        23_572_403_200,
    ),
    "gemma-2b": (
        GEMMA
        | sizes(2048, 16384, 18, 8, 1, 256000)
        | {"model_type": "gemma", "hidden_act": "gelu", "rope_scaling": None},
        2_506_172_416,
    ),
    "gemma-2-9b": (GEMMA2 | sizes(3584, 14336, 42, 16, 8, 256000), 9_241_705_984),
    "gemma-3-1b-it": (GEMMA3_1B | sizes(1152, 6912, 26, 4, 1, 262144), 999_885_952),
    "gemma-3-4b-it": (GEMMA3_4B, 4_300_079_472 - 419_816_304),  # less vision_tower and multi_modal_projector
    "SmolLM3-3B": (SMOLLM3 | sizes(2048, 11008, 36, 16, 4, 128256), 3_075_098_624),
    "Phi-3-mini-128k-instruct": (
        PHI3 | sizes(3072, 8192, 32, 32, 32, 32064) | {"rope_scaling": long_rope(48)},
        3_821_079_552,
    ),
    "Phi-4-mini-instruct": (
        PHI4_MINI | sizes(3072, 8192, 32, 24, 8, 200064) | {"rope_scaling": long_rope(48)},
        3_836_021_760,
    ),
    "phi-4": (
        PHI3
        | sizes(5120, 17920, 40, 40, 10, 100352)
        | {"max_position_embeddings": 16384, "rope_scaling": None, "rope_theta": 250000, "sliding_window": None},
        14_659_507_200,
    ),
    "OLMo-2-1124-7B": (
        OLMO2 | sizes(4096, 11008, 32, 32, 32, 100352) | {"rope_scaling": None, "rope_theta": 500000},
        7_298_617_344,
    ),
    "granite-3.1-8b-instruct": (GRANITE | sizes(4096, 12800, 40, 32, 8, 49155), 8_170_848_256),
    "Mixtral-8x7B-v0.1": (MIXTRAL | sizes(4096, 14336, 32, 32, 8, 32000), 46_702_792_704),
    "Mixtral-8x22B-v0.1": (MIXTRAL | sizes(6144, 16384, 56, 48, 8, 32000), 140_620_634_112),
    "Qwen3-30B-A3B": (QWEN3_MOE | sizes(2048, 6144, 48, 32, 4, 151936), 30_532_122_624),
    "Qwen3-235B-A22B": (
        QWEN3_MOE | sizes(4096, 12288, 94, 64, 4, 151936) | {"moe_intermediate_size": 1536},
        235_093_634_560,
    ),
    "OLMoE-1B-7B-0924": (OLMOE | sizes(2048, 1024, 16, 16, 16, 50304), 6_919_161_856),
    "c4ai-command-r-v01": (
        COHERE | sizes(8192, 22528, 40, 64, 64, 256000) | {"logit_scale": 0.0625, "rope_theta": 8000000.0},
        34_980_831_232,
    ),
    "c4ai-command-r7b-12-2024": (
        COHERE2 | sizes(4096, 14336, 32, 32, 8, 256000) | {"logit_scale": 0.25},
        8_028_033_024,
    ),
    "gpt-oss-20b": (
        GPT_OSS
        | sizes(2880, 2880, 24, 64, 8, 201088)
        | {"num_local_experts": 32, "layer_types": ["sliding_attention", "full_attention"] * 12},
        20_914_757_184,
    ),
    "gpt-oss-120b": (
        GPT_OSS
        | sizes(2880, 2880, 36, 64, 8, 201088)
        | {"num_local_experts": 128, "layer_types": ["sliding_attention", "full_attention"] * 18},
        116_829_156_672,
    ),
}
# The cards of these round their numbers, and count encoders, too: test_families.py compares with transformers' decoder.
GEMMA4: dict[str, tuple[dict[str, Any], int]] = {
    "gemma-4-E2B": (
        gemma4(
            512, 5, **sizes(1536, 6144, 35, 8, 1, 262144), **TOLD, num_kv_shared_layers=20, use_double_wide_mlp=True
        ),
        4_628_569_379,
    ),
    "gemma-4-E4B": (
        gemma4(512, **sizes(2560, 10240, 42, 8, 2, 262144), **TOLD, num_kv_shared_layers=18),
        7_463_013_418,
    ),
    "gemma-4-12B": (
        gemma4(
            1024, 6, "gemma4_unified", **sizes(3840, 15360, 48, 16, 8, 262144), **SAME_KV, num_global_key_value_heads=1
        ),
        11_907_350_320,
    ),
    "gemma-4-31B": (
        gemma4(1024, **sizes(5376, 21504, 60, 32, 16, 262144), **SAME_KV, num_global_key_value_heads=4),
        30_697_345_340,
    ),
    "gemma-4-26B-A4B": (
        gemma4(
            1024,
            **sizes(2816, 2112, 30, 16, 8, 262144),
            **SAME_KV,
            num_global_key_value_heads=2,
            enable_moe_block=True,
            num_experts=128,
            top_k_experts=8,
            moe_intermediate_size=704,
        ),
        25_233_141_790,
    ),
}
QWEN35: dict[str, tuple[dict[str, Any], int]] = {
    "Qwen3.5-2B": (qwen35(16, **sizes(2048, 6144, 24, 8, 2, 248320), tie_word_embeddings=True), 1_881_825_088),
    "Qwen3.5-9B": (qwen35(32, **sizes(4096, 12288, 32, 16, 4, 248320)), 8_953_803_264),
    "Qwen3.5-27B": (qwen35(48, **sizes(5120, 17408, 64, 24, 4, 248320)), 26_895_998_464),
}
LLAMA4: dict[str, tuple[dict[str, Any], int]] = {
    "Llama-4-Scout-17B-16E": (
        llama4(num_local_experts=16, interleave_moe_layer_step=1, use_qk_norm=True, rope_scaling=LLAMA4_SCALING),
        107_769_861_120,
    ),
    "Llama-4-Maverick-17B-128E": (
        llama4(num_local_experts=128, interleave_moe_layer_step=2, use_qk_norm=False, rope_scaling=None),
        400_711_848_960,
    ),
}
MISTRAL4: dict[str, tuple[dict[str, Any], int]] = {  # as transformers' own defaults have it; its files are in FP8
    "Mistral-Small-4-119B-2603": (
        {
            "architectures": ["Mistral3ForConditionalGeneration"],
            "image_token_index": 10,
            "model_type": "mistral3",
            "text_config": {
                "attention_bias": False,
                "first_k_dense_replace": 0,
                "head_dim": 128,
                "kv_lora_rank": 256,
                "max_position_embeddings": 1048576,
                "model_type": "mistral4",
                "moe_intermediate_size": 2048,
                "n_group": 1,
                "n_routed_experts": 128,
                "n_shared_experts": 1,
                "norm_topk_prob": True,
                "num_experts_per_tok": 4,
                "q_lora_rank": 1024,
                "qk_nope_head_dim": 64,
                "qk_rope_head_dim": 64,
                "rms_norm_eps": 1e-06,
                "rope_interleave": True,
                "rope_parameters": {
                    "beta_fast": 32.0,
                    "beta_slow": 1.0,
                    "factor": 128.0,
                    "llama_4_scaling_beta": 0.1,
                    "max_position_embeddings": 1048576,
                    "mscale": 1.0,
                    "mscale_all_dim": 1.0,
                    "original_max_position_embeddings": 8192,
                    "partial_rotary_factor": 0.5,
                    "rope_theta": 10000.0,
                    "rope_type": "yarn",
                    "type": "yarn",
                },
                "routed_scaling_factor": 1.0,
                "topk_group": 1,
                "v_head_dim": 128,
            }
            | sizes(4096, 12288, 36, 32, 32, 131072),
            "tie_word_embeddings": False,
            "vision_config": {"model_type": "pixtral"},
            "vision_feature_layer": -1,
        },
        118_972_826_624,
    ),
}
COUNTED_HERE = GEMMA4 | QWEN35 | LLAMA4 | MISTRAL4
PUBLISHED |= COUNTED_HERE

# How many parameters the text decoders of whole files have (tests/data/published_configs), beside those named above.
WHOLE_PARAMETERS: dict[str, int] = {
    # As published: on the model's page, or the bytes of its weights by two.
    "Meta-Llama-3.1-405B": 405_853_388_800,
    "Qwen3-0.6B": 596_049_920,
    "Qwen3-4B-Instruct-2507": 4_022_468_096,
    "Qwen3-Coder-480B-A35B-Instruct": 480_154_875_392,
    "gemma-2-2b-it": 2_614_341_888,
    "gemma-3-27b-it": 27_432_406_640 - 423_060_336,  # less vision_tower and multi_modal_projector
    "tiny-aya-global": 6_698_455_040 // 2,  # total_size of its model.safetensors.index.json
    **{f"gemma-4-{size}-it": GEMMA4[f"gemma-4-{size}"][1] for size in ("E2B", "31B")},
    "gemma-4-E4B-it-transformers-5.12": GEMMA4["gemma-4-E4B"][1],
    # Whose pages round them: of the decoders that transformers builds.
    **(
        COUNTED_WHOLE := {
            "Qwen3.5-0.8B": 752_393_024,
            "Qwen3.5-0.8B-unsloth": 752_393_024,
            "Qwen3.5-35B-A3B": 34_660_610_688,
            "Qwen3.5-122B-A10B": 122_111_526_912,
            "Qwen3.5-397B-A17B": 396_346_350_336,
            "EXAONE-4.5-33B": 32_527_504_384,
            "Ministral-3-8B-Instruct-2512": 8_489_553_920,
        }
    ),
}
