"""Qwen 3.5 as config.json files describe it: three of four layers remember instead of attending."""

import dataclasses
from typing import Any

from survey_jax.model.architecture import DecoderConfig, DeltaNet, LayerKind
from survey_jax.pretrained.common_fields import MOST_EXPERTS, Family, attention_biases, build_decoder, rope_section
from survey_jax.pretrained.config_json import Fields, rotary
from survey_jax.pretrained.weight_names import LLAMA, QWEN_MOE, Tensor, projection, stacked_experts

QWEN35_DEFAULTS = {  # transformers leaves out of a text_config what has its default value
    "vocab_size": 248_320,
    "hidden_size": 4096,
    "intermediate_size": 12_288,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-6,
}
QWEN35_MOE_DEFAULTS = QWEN35_DEFAULTS | {"hidden_size": 2048, "num_hidden_layers": 40, "num_key_value_heads": 2}
QWEN35_OTHER_FIELDS = ("video_token_id", "vision_start_token_id", "vision_end_token_id", "language_model_only")
_LAYER = "model.layers.{}.linear_attn."
_WEIGHTS = LLAMA.with_entries(
    {
        "blocks.delta_qkv": projection("linear_attn.in_proj_qkv"),
        "blocks.delta_gate": projection("linear_attn.in_proj_z"),
        "blocks.delta_beta": projection("linear_attn.in_proj_b"),
        "blocks.delta_decay": projection("linear_attn.in_proj_a"),
        "blocks.delta_out": projection("linear_attn.out_proj"),
        "blocks.delta_convolution": Tensor(f"{_LAYER}conv1d.weight"),
        "blocks.delta_norm": Tensor(f"{_LAYER}norm.weight"),
        "blocks.delta_log_rate": Tensor(f"{_LAYER}A_log"),
        "blocks.delta_shift": Tensor(f"{_LAYER}dt_bias"),
    }
)


_SHARED = {f"blocks.{name}": projection(f"mlp.shared_expert.{name}_proj") for name in ("gate", "up", "down")} | {
    "blocks.shared_gate": projection("mlp.shared_expert_gate"),
    "blocks.router": projection("mlp.gate"),
}


def qwen35(f: Fields) -> Family:
    """Qwen 3.5, dense."""
    return _config(f), _WEIGHTS


def qwen35_moe(f: Fields) -> Family:
    """The same, with experts beside a feed-forward part that every token uses, and that a gate weighs."""
    f.ignore("output_router_logits", "router_aux_loss_coef", "intermediate_size")  # of pretraining; of no layer
    count = f.count("num_experts", 256, least=2, most=MOST_EXPERTS)
    width = f.count("moe_intermediate_size", 512)
    config = _config(
        f,
        ff_width=f.count("shared_expert_intermediate_size", 512),
        experts=count,
        experts_used=f.count("num_experts_per_tok", 8, most=count),
        expert_width=width,
        shared_gate=True,
    )
    stacked = _WEIGHTS.with_entries(_SHARED | stacked_experts("mlp.experts", width))
    one_by_one = {name: QWEN_MOE[name] for name in QWEN_MOE.entries if "expert_" in name}  # as transformers saves them
    return config, dataclasses.replace(stacked, otherwise=one_by_one)


def _config(f: Fields, **special: Any) -> DecoderConfig:
    """Layers that attend have a gate; rotary embeddings turn a quarter of their heads; norms multiply by 1 + weight."""
    f.only("attn_output_gate", True)
    f.only("output_gate_type", "swish", "silu")
    f.only("mlp_only_layers", [])
    f.ignore("mamba_ssm_dtype", "mtp_num_hidden_layers", "mtp_use_dedicated_embeddings")
    rope = rope_section(f)
    if rope is not None:
        rope.ignore("mrope_section", "mrope_interleaved")  # places in an image; all the same in a text
    attends = LayerKind(rotary(f, rope, share=0.25))
    remembers = LayerKind(None, delta=_delta(f))
    kinds = [attends if full else remembers for full in _attending(f)]
    return build_decoder(
        f,
        kinds,
        head_width=f.count("head_dim", 256),
        biases=attention_biases(f),
        norm_offset=1.0,
        qk_norm="head",
        gated_attention=True,
        **special,
    )


def _delta(f: Fields) -> DeltaNet:
    key_heads, value_heads = f.count("linear_num_key_heads", 16), f.count("linear_num_value_heads", 32)
    if value_heads % key_heads:
        raise f.refused("linear_num_value_heads", f"linear_num_key_heads = {key_heads} must divide it")
    widths = f.count("linear_key_head_dim", 128), f.count("linear_value_head_dim", 128)
    return DeltaNet(key_heads, value_heads, *widths, f.count("linear_conv_kernel_dim", 4))


def _attending(f: Fields) -> list[bool]:
    """Which layers attend: as layer_types lists them, else every n-th."""
    layers, listed, every = f.layers(), f.get("layer_types"), f.count("full_attention_interval", 4)
    if listed is None:
        return [(number + 1) % every == 0 for number in range(layers)]
    known = ("full_attention", "linear_attention")
    if not isinstance(listed, list) or len(listed) != layers or not all(kind in known for kind in listed):
        raise f.refused("layer_types", f"{layers} times {' or '.join(known)}")
    return [kind == "full_attention" for kind in listed]
