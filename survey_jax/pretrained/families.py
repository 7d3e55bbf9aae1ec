"""The model families: a function each that turns a config.json into our config and map of weight names."""

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from survey_jax.common.errors import UserError
from survey_jax.model.architecture import LayerKind, stacks
from survey_jax.model.rotary import Rotary
from survey_jax.pretrained import text_parts
from survey_jax.pretrained.common_fields import (
    MOST_EXPERTS,
    Family,
    all_biases,
    attention_biases,
    build_decoder,
    mlp_biases,
    plain_kinds,
    rope_section,
    same_kinds,
    two_rotaries,
    windowed_kinds,
    with_window,
)
from survey_jax.pretrained.config_json import Fields, rotary
from survey_jax.pretrained.gemma4 import GEMMA4_DEFAULTS, GEMMA4_OTHER_FIELDS, gemma4, gemma4_unified
from survey_jax.pretrained.gpt_oss import gpt_oss, is_mxfp4
from survey_jax.pretrained.llama4 import LLAMA4_DEFAULTS, llama4
from survey_jax.pretrained.mistral4 import MISTRAL4_DEFAULTS, mistral4
from survey_jax.pretrained.qwen35 import QWEN35_DEFAULTS, QWEN35_MOE_DEFAULTS, QWEN35_OTHER_FIELDS, qwen35, qwen35_moe
from survey_jax.pretrained.text_parts import text_part
from survey_jax.pretrained.weight_names import (
    GEMMA2,
    LLAMA,
    MIXTRAL,
    POST_NORMS,
    QWEN_MOE,
    Tensor,
    layer,
    projection,
)


def decoder_config(hf: Any, where: str, ignore_fields: Collection[str] = ()) -> Family:
    """Reads a config.json, written by transformers 4 or 5.

    Args:
      hf: what the file holds: an object, if it is a config.json.
      where: the file's name, for messages.
      ignore_fields: fields to accept that are not known; those of a section as "rope_scaling.NAME".

    Returns:
      The decoder's config, and where the family's checkpoints store its parameters.

    Raises:
      UserError: the architecture is not supported; or a field is missing, has an unsupported value, or is unknown and
        neither in `config_json.HARMLESS` nor in `ignore_fields`; or one of these is known, or not there.
    """
    if not isinstance(hf, Mapping):
        raise UserError(f"{where}: expected a JSON object, not {hf!r:.40}")
    family = hf.get("model_type")
    if not isinstance(family, str) or family not in FAMILIES:
        raise UserError(f"{where}: architecture {family!r} is not supported; choose one of {', '.join(FAMILIES)}")
    if (stored := hf.get("quantization_config")) and not (family == "gpt_oss" and is_mxfp4(stored)):
        raise UserError(f"{where}: quantization_config: weights that are stored quantised are not supported; use the "
                        "model's bfloat16 weights, or a GGUF file")  # fmt: skip
    fields = Fields(hf, where, ignored=set(ignore_fields))
    fields.only("is_causal", True)
    try:
        result = FAMILIES[family](fields)
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
        raise UserError(f"{where}: a field has a value of the wrong kind ({error})") from error
    fields.finish()
    if fields.ignored:
        name = min(fields.ignored)
        raise UserError(f"config.model.ignore_fields: {name!r} is no unknown field of {where}; leave it out")
    config, weight_map = result
    return config, dataclasses.replace(weight_map, stacks={stack.name: stack.layers for stack in stacks(config)})


def _llama(f: Fields) -> Family:
    return build_decoder(f, plain_kinds(f), biases=all_biases(f)), LLAMA


def _qwen2(f: Fields) -> Family:
    return build_decoder(f, _qwen_kinds(f), biases=("q", "k", "v")), LLAMA


def _qwen3(f: Fields) -> Family:
    head_width = f.count("head_dim", 128)
    return build_decoder(f, _qwen_kinds(f), biases=all_biases(f), qk_norm="head", head_width=head_width), LLAMA


def _qwen_kinds(f: Fields) -> list[LayerKind]:
    """With use_sliding_window, the layers from max_window_layers on have a window."""
    rope, first = rotary(f, rope_section(f)), f.count("max_window_layers", 28, least=0)
    window = f.window(absent=4096)
    window = window if f.flag("use_sliding_window", False) else None
    return windowed_kinds(f, lambda layer: window is not None and layer >= first, rope, window)


def _mistral(f: Fields) -> Family:
    """Mistral and Ministral: if there is a window, the layers that layer_types names have it; without it, all."""
    rope, window = rotary(f, rope_section(f)), f.window(absent=4096)
    return build_decoder(f, windowed_kinds(f, lambda layer: window is not None, rope, window)), LLAMA


def _mixtral(f: Fields) -> Family:
    """A Mistral of which each layer has several feed-forward parts."""
    rope, window = rotary(f, rope_section(f), theta=1e6), f.window(absent=None)
    f.ignore("router_jitter_noise")  # of pretraining
    return build_decoder(f, same_kinds(f, LayerKind(rope, window)), **_experts(f, "intermediate_size")), MIXTRAL


def _qwen3_moe(f: Fields) -> Family:
    """If there is a window, all layers have it. Some layers may have no experts."""
    rope, window = rotary(f, rope_section(f)), f.window(absent=4096)
    kind = LayerKind(rope, window if f.flag("use_sliding_window", False) else None)
    f.ignore("max_window_layers")
    kinds, every, dense = same_kinds(f, kind), f.count("decoder_sparse_step", 1), f.get("mlp_only_layers", [])
    if not isinstance(dense, list) or not all(n in range(len(kinds)) for n in dense):
        raise f.refused("mlp_only_layers", f"a list of numbers from 0 to {len(kinds) - 1}")
    for number in range(len(kinds)):
        if number in dense or (number + 1) % every:
            kinds[number] = dataclasses.replace(kind, experts=False, ff_width=f.count("intermediate_size"))
    f.ignore("intermediate_size")  # of layers without experts
    for field, value in (("use_qk_norm", True), ("qkv_bias", False), ("shared_expert_intermediate_size", 0)):
        f.only(field, value)  # written by Qwen3-Coder, read by no one
    special: dict[str, Any] = {
        "qk_norm": "head",
        "biases": attention_biases(f),
        "expert_shares_sum": f.flag("norm_topk_prob", False),
    }
    return build_decoder(f, kinds, **special, **_experts(f, "moe_intermediate_size")), QWEN_MOE


def _olmoe(f: Fields) -> Family:
    f.only("clip_qkv")
    special: dict[str, Any] = {"qk_norm": "projection", "biases": attention_biases(f)}
    special["expert_shares_sum"] = f.flag("norm_topk_prob", False)
    return build_decoder(f, plain_kinds(f), **special, **_experts(f, "intermediate_size")), QWEN_MOE


def _experts(f: Fields, width: str) -> dict[str, int]:
    """How many experts a layer has, how many a token uses, and how wide they are, which the field `width` says."""
    f.ignore("output_router_logits", "router_aux_loss_coef")  # of pretraining
    field = "num_local_experts" if f.get("num_experts") is None else "num_experts"
    count = f.count(field, least=2, most=MOST_EXPERTS)
    sizes = {"experts": count, "expert_width": f.count(width), "ff_width": 0}
    return sizes | {"experts_used": f.count("num_experts_per_tok", most=count)}


def _ministral3(f: Fields) -> Family:
    """Ministral 3: queries grow with their position, beyond the length before scaling."""
    rope = f.needed_section("rope_parameters")
    growth = (rope.number("llama_4_scaling_beta", zero=True), rope.count("original_max_position_embeddings"), 0)
    kind = LayerKind(rotary(f, rope), f.window(absent=None), growth)
    return build_decoder(f, same_kinds(f, kind), head_width=f.count("head_dim", 128)), LLAMA


def _cohere(f: Fields) -> Family:
    """Command R: attention and feed-forward side by side, layer norms, pairs of neighbours rotated."""
    return build_decoder(f, same_kinds(f, LayerKind(_cohere_rotary(f, 5e5))), **_cohere_settings(f)), LLAMA


def _cohere2(f: Fields) -> Family:
    """Command R7B, Command A: the same; layers with a window rotate, the others know no positions."""
    rope, window = _cohere_rotary(f, 1e4), f.window(absent=4096)
    every = f.count("sliding_window_pattern", f.count("_sliding_window_pattern", 4))
    f.only("layer_switch", every)
    f.only("order_of_interleaved_layers", "local_attn_first")
    slides = with_window(f, lambda layer: (layer + 1) % every != 0)
    kinds = [LayerKind(rope, window) if slide and window else LayerKind(None) for slide in slides]
    return build_decoder(f, kinds, **_cohere_settings(f)), LLAMA


def _cohere_rotary(f: Fields, theta: float) -> Rotary:
    f.only("position_embedding_type", "rope_gptj")
    f.only("rotary_pct", 1)
    return rotary(f, rope_section(f), theta, interleaved=True)


def _cohere_settings(f: Fields) -> dict[str, Any]:
    for field in ("use_parallel_block", "use_gated_activation"):
        f.only(field, True)
    f.ignore("use_embedding_sharing", "use_parallel_embedding")  # of Cohere's own code; transformers reads neither
    f.only("use_qk_norm", False)
    return {
        "norm_eps": f.number("layer_norm_eps", 1e-5, zero=True),
        "logit_scale": f.number("logit_scale", 0.0625),
        "tied_head": f.flag("tie_word_embeddings", True),
        "biases": attention_biases(f),
        "centred_norms": True,
        "parallel": True,
    }


def _cwm(f: Fields) -> Family:
    """Code World Model: a Llama 3 with a window in three of four layers."""
    rope, window = rotary(f, rope_section(f) or f["rope_scaling"], theta=1e6), f.count("sliding_window")
    return build_decoder(f, windowed_kinds(f, lambda layer: layer % 4 != 0, rope, window)), LLAMA


def _seed_oss(f: Fields) -> Family:
    qkv = ("q", "k", "v") if f.flag("attention_bias", True) else ()
    o = ("o",) if f.flag("attention_out_bias", False) else ()
    return build_decoder(f, plain_kinds(f), biases=qkv + o + mlp_biases(f), head_width=f.count("head_dim", 128)), LLAMA


def _smollm3(f: Fields) -> Family:
    """Every fourth layer has no positions, and is the one with a window if there is any."""
    rope, every = rotary(f, rope_section(f), theta=2e6), f.count("no_rope_layer_interval", 4)
    layers = range(f.layers())
    turned = f.get("no_rope_layers") or [(layer + 1) % every != 0 for layer in layers]  # 1 = has positions
    if not isinstance(turned, list) or len(turned) < len(layers) or not all(t in (0, 1) for t in turned):
        raise f.refused("no_rope_layers", f"{len(layers)} times 1 or 0")
    window = f.window(absent=None)
    window = window if f.flag("use_sliding_window", False) else None
    f.ignore("max_window_layers")
    slides = with_window(f, lambda layer: window is not None and not turned[layer])
    kinds = [LayerKind(rope if turned[layer] else None, window if slides[layer] else None) for layer in layers]
    return build_decoder(f, kinds, biases=all_biases(f), tied_head=f.flag("tie_word_embeddings", True)), LLAMA


def _phi3(f: Fields) -> Family:
    """Phi-3 and 4: queries, keys and values fused, gate and up fused."""
    f.only("full_attn_mod", 1)
    f.only("interpolate_factor", 1)
    for field in ("attention_bias", "mlp_bias", "lm_head_bias"):
        f.only(field, False)
    window = f.window(absent=None)
    c = build_decoder(f, same_kinds(f, LayerKind(rotary(f, rope_section(f), share=1.0), window)))
    q, k, ff = c.heads * c.head_width, c.kv_heads * c.head_width, c.ff_width
    fused = {
        "blocks.q": projection("self_attn.qkv_proj", (0, q)),
        "blocks.k": projection("self_attn.qkv_proj", (q, q + k)),
        "blocks.v": projection("self_attn.qkv_proj", (q + k, q + 2 * k)),
    }
    return c, LLAMA.with_entries(fused | _fused_gate(ff))


def _glm4(f: Fields) -> Family:
    """GLM-4-0414: norms before and after attention and feed-forward, gate and up fused, half of each head rotated."""
    rope = rotary(f, rope_section(f), share=0.5, interleaved=True)
    biases = ("q", "k", "v") if f.flag("attention_bias", True) else ()
    head_width = f.count("head_dim", 128)
    c = build_decoder(f, same_kinds(f, LayerKind(rope)), biases=biases, post_norms=True, head_width=head_width)
    norms = {
        "blocks.attention_post_norm": layer("post_self_attn_layernorm"),
        "blocks.ff_post_norm": layer("post_mlp_layernorm"),
    }
    return c, LLAMA.with_entries(norms | _fused_gate(c.ff_width))


def _fused_gate(ff: int) -> dict[str, Tensor]:
    return {
        "blocks.gate": projection("mlp.gate_up_proj", (0, ff)),
        "blocks.up": projection("mlp.gate_up_proj", (ff, 2 * ff)),
    }


def _olmo2(f: Fields) -> Family:
    return build_decoder(f, plain_kinds(f), **_olmo(f)), POST_NORMS


def _olmo3(f: Fields) -> Family:
    """Three of four layers have a window; scaled rotary settings apply to the others only."""
    full, local = two_rotaries(f, 5e5, 5e5, "rope_theta")
    kinds = windowed_kinds(f, lambda layer: (layer + 1) % 4 != 0, full, f.count("sliding_window", 4096), local)
    return build_decoder(f, kinds, **_olmo(f)), POST_NORMS


def _olmo(f: Fields) -> dict[str, Any]:
    return {"biases": all_biases(f), "qk_norm": "projection", "pre_norms": False, "post_norms": True}


def _exaone4(f: Fields) -> Family:
    """If there is a window, every n-th layer (4 by default) has none, and no positions."""
    rope, window = rotary(f, rope_section(f)), f.window(absent=4096)
    every = f.get("sliding_window_pattern", 4)
    if isinstance(every, str):
        every = len(every)  # "LLLG"
    elif window is not None:
        every = f.count("sliding_window_pattern", 4)
    slides = with_window(f, lambda layer: window is not None and (layer + 1) % every != 0)
    f.ignore("num_nextn_predict_layers", "mtp_loss_scaling_factor", "mtp_share_layers")  # of predictors (mtp)
    kinds = [LayerKind(rope if slide or window is None else None, window if slide else None) for slide in slides]
    return build_decoder(f, kinds, qk_norm="head", pre_norms=False, post_norms=True), POST_NORMS


def _granite(f: Fields) -> Family:
    c, weight_map = _llama(f)
    scales = {
        "query_scale": f.number("attention_multiplier", 1.0),
        "embed_scale": f.number("embedding_multiplier", 1.0),
        "residual_scale": f.number("residual_multiplier", 1.0),
        "logit_scale": 1 / f.number("logits_scaling", 1.0),
    }
    return dataclasses.replace(c, **scales), weight_map


def _gemma(f: Fields) -> Family:
    return build_decoder(f, plain_kinds(f), **_gemmas(f)), LLAMA


def _gemma2(f: Fields) -> Family:
    rope = rotary(f, rope_section(f))
    window = f.count("sliding_window")
    f.only("sliding_window_size", window)
    kinds = windowed_kinds(f, lambda layer: (layer + 1) % 2 != 0, rope, window)
    fields = {"attention_softcap": ("attn_logit_softcapping", 50.0), "logit_softcap": ("final_logit_softcapping", 30.0)}
    caps = {ours: f.number(name, None if name in f else absent) for ours, (name, absent) in fields.items()}
    scale = f.number("query_pre_attn_scalar", 256) ** -0.5
    return build_decoder(f, kinds, **_gemmas(f), **caps, query_scale=scale, post_norms=True), GEMMA2


def _gemma3(f: Fields) -> Family:
    # transformers reads attn_logit_softcapping but does not apply it; no released Gemma 3 sets it.
    f.only("attn_logit_softcapping")
    full, local = two_rotaries(f, 1e6, 1e4, "rope_local_base_freq")
    every = f.count("sliding_window_pattern", f.count("_sliding_window_pattern", 6))
    kinds = windowed_kinds(f, lambda layer: (layer + 1) % every != 0, full, f.count("sliding_window"), local)
    scale = f.number("query_pre_attn_scalar", 256) ** -0.5
    settings = {"query_scale": scale, "post_norms": True, "qk_norm": "head"}
    settings["logit_softcap"] = f.number("final_logit_softcapping", None)
    return build_decoder(f, kinds, **_gemmas(f), **settings), GEMMA2


def _gemmas(f: Fields) -> dict[str, Any]:
    """Settings that all Gemmas share."""
    f.only("attention_bias", False)
    f.only("hidden_act", "gelu", "gelu_pytorch_tanh")  # transformers reads the first as the second
    f.only("hidden_activation", "gelu_pytorch_tanh")
    f.only("use_bidirectional_attention", False)
    return {
        "activation": "gelu_tanh",
        "head_width": f.count("head_dim", 256),
        "tied_head": f.flag("tie_word_embeddings", True),
        "norm_offset": 1.0,
        "embed_scale": math.sqrt(f.count("hidden_size")),
    }


FAMILIES: dict[str, Callable[[Fields], Family]] = {
    "llama": _llama,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "mistral": _mistral,
    "ministral": _mistral,
    "ministral3": _ministral3,
    "mistral4": mistral4,
    "mistral3": text_part(
        {"mistral": (_mistral, text_parts.MISTRAL), "ministral3": (_ministral3, text_parts.MINISTRAL3)}
        | {"mistral4": (mistral4, MISTRAL4_DEFAULTS)},
        "projector_hidden_act", "vision_feature_layer", "multimodal_projector_bias", "spatial_merge_size",
    ),
    "gemma": _gemma,
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
    "gemma3": text_part(
        {"gemma3_text": (_gemma3, text_parts.GEMMA3)}, "mm_tokens_per_image", "boi_token_index", "eoi_token_index",
        "boi_token_id", "eoi_token_id",
    ),
    "gemma4_text": gemma4,
    "gemma4": text_part({"gemma4_text": (gemma4, GEMMA4_DEFAULTS)}, *GEMMA4_OTHER_FIELDS),
    "gemma4_unified_text": gemma4_unified,
    "gemma4_unified": text_part(
        {"gemma4_unified_text": (gemma4_unified, GEMMA4_DEFAULTS)}, "hidden_act", *GEMMA4_OTHER_FIELDS,
    ),
    "smollm3": _smollm3,
    "phi3": _phi3,
    "olmo2": _olmo2,
    "olmo3": _olmo3,
    "granite": _granite,
    "glm4": _glm4,
    "exaone4": _exaone4,
    "exaone4_5_text": _exaone4,
    "exaone4_5": text_part(
        {"exaone4": (_exaone4, {}), "exaone4_5_text": (_exaone4, {})}, "video_token_id", "vision_start_token_id",
        "vision_end_token_id", "vision_token_id",
    ),
    "seed_oss": _seed_oss,
    "cwm": _cwm,
    "qwen3_5_moe_text": qwen35_moe,
    "qwen3_5_moe": text_part({"qwen3_5_moe_text": (qwen35_moe, QWEN35_MOE_DEFAULTS)}, *QWEN35_OTHER_FIELDS),
    "llama4_text": llama4,
    "llama4": text_part({"llama4_text": (llama4, LLAMA4_DEFAULTS)}, "boi_token_index", "eoi_token_index"),
    "mixtral": _mixtral,
    "qwen3_moe": _qwen3_moe,
    "qwen3_5_text": qwen35,
    "qwen3_5": text_part({"qwen3_5_text": (qwen35, QWEN35_DEFAULTS)}, *QWEN35_OTHER_FIELDS),
    "olmoe": _olmoe,
    "gpt_oss": gpt_oss,
    "cohere": _cohere,
    "cohere2": _cohere2,
}  # fmt: skip
