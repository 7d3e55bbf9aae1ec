"""Hugging Face config.json and weight names <-> ours, a table a family."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from survey_jax.errors import UserError
from survey_jax.model.decoder import DecoderConfig
from survey_jax.model.rotary import Rotary


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Where Hugging Face keeps one of our parameters.

    Attributes:
      name: with "{}" for the layer where the parameter is stacked.
      transposed: stored as [out, in], the other way round than ours.
      rows: (first, last + 1) of the stored tensor's rows, where several parameters are fused into one; None: all.
    """

    name: str
    transposed: bool = False
    rows: tuple[int, int] | None = None


Names = dict[str, Tensor]

NAMES: Names = {
    "embedding": Tensor("model.embed_tokens.weight"),
    "final_norm": Tensor("model.norm.weight"),
    "head": Tensor("lm_head.weight"),
    "blocks.q": Tensor("model.layers.{}.self_attn.q_proj.weight", transposed=True),
    "blocks.k": Tensor("model.layers.{}.self_attn.k_proj.weight", transposed=True),
    "blocks.v": Tensor("model.layers.{}.self_attn.v_proj.weight", transposed=True),
    "blocks.o": Tensor("model.layers.{}.self_attn.o_proj.weight", transposed=True),
    "blocks.gate": Tensor("model.layers.{}.mlp.gate_proj.weight", transposed=True),
    "blocks.up": Tensor("model.layers.{}.mlp.up_proj.weight", transposed=True),
    "blocks.down": Tensor("model.layers.{}.mlp.down_proj.weight", transposed=True),
    "blocks.attention_norm": Tensor("model.layers.{}.input_layernorm.weight"),
    "blocks.ff_norm": Tensor("model.layers.{}.post_attention_layernorm.weight"),
}
GEMMA2_NAMES = NAMES | {
    "blocks.attention_post_norm": Tensor("model.layers.{}.post_attention_layernorm.weight"),
    "blocks.ff_norm": Tensor("model.layers.{}.pre_feedforward_layernorm.weight"),
    "blocks.ff_post_norm": Tensor("model.layers.{}.post_feedforward_layernorm.weight"),
}
GEMMA3_NAMES = GEMMA2_NAMES | {
    "blocks.q_norm": Tensor("model.layers.{}.self_attn.q_norm.weight"),
    "blocks.k_norm": Tensor("model.layers.{}.self_attn.k_norm.weight"),
}


def decoder_config(hf: Mapping[str, Any], where: str) -> tuple[DecoderConfig, Names]:
    """A config.json (of transformers 4 or 5) -> our config and its table of weight names.

    Args:
      where: the file's name, for messages.

    Raises:
      UserError: an architecture, or a setting that changes logits, which is not supported; a missing field.
    """
    family = hf.get("model_type")
    if family not in FAMILIES:
        raise UserError(f"{where}: architecture {family!r} is not supported; choose one of {', '.join(FAMILIES)}")
    build, names = FAMILIES[family]
    try:
        return build(hf, where), names
    except KeyError as error:
        raise UserError(f"{where}: field {error} is missing") from error


def _llama(hf: Mapping[str, Any], where: str) -> DecoderConfig:
    _refuse(hf, where, attention_bias=False, mlp_bias=False, hidden_act="silu")
    return DecoderConfig(
        **_sizes(hf),
        activation="silu",
        query_scale=_head_width(hf) ** -0.5,
        tied_head=hf.get("tie_word_embeddings", False),
        rotary=_rotary(hf.get("rope_parameters") or _old_rope(hf, "rope_theta"), where),
    )


def _gemma2(hf: Mapping[str, Any], where: str) -> DecoderConfig:
    _refuse(hf, where, attention_bias=False)
    return DecoderConfig(
        **_gemma(hf, where),
        rotary=_rotary(hf.get("rope_parameters") or _old_rope(hf, "rope_theta"), where),
        local_layers=_local_layers(hf, period=2),
        attention_softcap=hf.get("attn_logit_softcapping"),
    )


def _gemma3(hf: Mapping[str, Any], where: str) -> DecoderConfig:
    # transformers reads attn_logit_softcapping but does not apply it; no released Gemma 3 sets it.
    _refuse(hf, where, attention_bias=False, use_bidirectional_attention=False, attn_logit_softcapping=None)
    rope = hf.get("rope_parameters") or {
        "full_attention": _old_rope(hf, "rope_theta", 1e6),
        "sliding_attention": {"rope_theta": hf.get("rope_local_base_freq", 1e4)},
    }
    period = hf.get("sliding_window_pattern") or hf.get("_sliding_window_pattern") or 6
    return DecoderConfig(
        **_gemma(hf, where),
        rotary=_rotary(rope["full_attention"], where),
        local_rotary=_rotary(rope["sliding_attention"], where),
        local_layers=_local_layers(hf, period),
        qk_norm=True,
    )


def _gemma(hf: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What Gemma 2 and 3 share."""
    activation = hf.get("hidden_activation") or "gelu_pytorch_tanh"
    if activation != "gelu_pytorch_tanh":
        raise UserError(f"{where}: hidden_activation {activation!r} is not supported")
    return _sizes(hf) | {
        "activation": "gelu_tanh",
        "query_scale": hf.get("query_pre_attn_scalar", 256) ** -0.5,
        "tied_head": hf.get("tie_word_embeddings", True),
        "window": hf["sliding_window"],
        "norm_offset": 1.0,
        "post_norms": True,
        "embed_scale": math.sqrt(hf["hidden_size"]),
        "logit_softcap": hf.get("final_logit_softcapping"),
    }


def _local_layers(hf: Mapping[str, Any], period: int) -> tuple[bool, ...]:
    """Which layers slide: as listed, or all but every `period`-th."""
    if kinds := hf.get("layer_types"):
        return tuple(kind == "sliding_attention" for kind in kinds)
    return tuple((i + 1) % period != 0 for i in range(hf["num_hidden_layers"]))


def _sizes(hf: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "vocab_size": hf["vocab_size"],
        "width": hf["hidden_size"],
        "layers": hf["num_hidden_layers"],
        "heads": hf["num_attention_heads"],
        "kv_heads": hf.get("num_key_value_heads") or hf["num_attention_heads"],
        "head_width": _head_width(hf),
        "ff_width": hf["intermediate_size"],
        "norm_eps": hf["rms_norm_eps"],
    }


def _head_width(hf: Mapping[str, Any]) -> int:
    return hf.get("head_dim") or hf["hidden_size"] // hf["num_attention_heads"]


def _old_rope(hf: Mapping[str, Any], theta: str, default: float = 1e4) -> dict[str, Any]:
    """transformers 4 kept the base and its scaling in two fields; 5 has `rope_parameters`."""
    return {**(hf.get("rope_scaling") or {}), "rope_theta": hf.get(theta) or default}


def _rotary(rope: Mapping[str, Any], where: str) -> Rotary:
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return Rotary(rope["rope_theta"])
    if kind == "linear":
        return Rotary(rope["rope_theta"], "linear", rope["factor"])
    if kind == "llama3":
        return Rotary(
            rope["rope_theta"],
            "llama3",
            rope["factor"],
            rope["low_freq_factor"],
            rope["high_freq_factor"],
            rope["original_max_position_embeddings"],
        )
    raise UserError(f"{where}: rotary scaling {kind!r} is not supported; supported: default, linear, llama3")


def _refuse(hf: Mapping[str, Any], where: str, **expected: Any) -> None:
    """Fields that would change logits and that this family's decoder does not handle must have their usual value."""
    for field, value in expected.items():
        if (hf.get(field, value) or value) != value:
            raise UserError(f"{where}: {field} = {hf[field]!r} is not supported (only {value!r})")


FAMILIES: dict[str, tuple[Callable[[Mapping[str, Any], str], DecoderConfig], Names]] = {
    "llama": (_llama, NAMES),
    "gemma2": (_gemma2, GEMMA2_NAMES),
    "gemma3_text": (_gemma3, GEMMA3_NAMES),
}
