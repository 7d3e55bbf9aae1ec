"""Gemma 4, as config.json files describe it: layers of two shapes, shared keys and values, inputs for each layer."""

import dataclasses
import math
from typing import Any

from survey_jax.model.architecture import AS_VALUES, OWN, SHARED, LayerKind
from survey_jax.model.rotary import Proportional, Rotary
from survey_jax.pretrained.common_fields import MOST_EXPERTS, Family, attention_biases, build_decoder, with_window
from survey_jax.pretrained.config_json import Fields, rotary
from survey_jax.pretrained.weight_names import GEMMA2, Tensor, layer, projection, stacked_experts

GEMMA4_DEFAULTS = {  # transformers leaves out of a text_config what has its default value
    "vocab_size": 262_144,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 30,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-6,
}
GEMMA4_OTHER_FIELDS = (
    "audio_config", "audio_token_id", "video_token_id", "vision_soft_tokens_per_image", "boa_token_id",
    "eoa_token_id", "eoa_token_index", "boi_token_id", "eoi_token_id",
)  # fmt: skip
_WEIGHTS = GEMMA2.with_entries(
    {
        "token_embedding": Tensor("model.embed_tokens_per_layer.weight"),
        "token_projection": Tensor("model.per_layer_model_projection.weight", transposed=True),
        "token_projection_norm": Tensor("model.per_layer_projection_norm.weight"),
        "blocks.token_gate": projection("per_layer_input_gate"),
        "blocks.token_out": projection("per_layer_projection"),
        "blocks.token_norm": layer("post_per_layer_input_norm"),
        "blocks.scalar": Tensor("model.layers.{}.layer_scalar"),
        "blocks.router": projection("router.proj"),
        "blocks.router_norm": Tensor("model.layers.{}.router.scale"),
        "blocks.expert_factor": Tensor("model.layers.{}.router.per_expert_scale"),
        "blocks.experts_norm": layer("pre_feedforward_layernorm_2"),
        "blocks.experts_post_norm": layer("post_feedforward_layernorm_2"),
        "blocks.beside_post_norm": layer("post_feedforward_layernorm_1"),
    }
)


def gemma4(f: Fields) -> Family:
    """The text decoder of Gemma 4: 31B, E2B, E4B, 26B-A4B."""
    return _gemma4(f, f.count("hidden_size_per_layer_input", 256, least=0), 512)


def gemma4_unified(f: Fields) -> Family:
    """The text decoder of Gemma 4 12B: without experts and inputs for each layer."""
    f.ignore("hidden_size_per_layer_input", "vocab_size_per_layer_input")
    f.only("enable_moe_block", False)
    return _gemma4(f, 0, 1024)


def _gemma4(f: Fields, told: int, window: int) -> Family:
    """The decoder; `told`: how much each layer is told about each token; `window`: where the config does not say."""
    f.only("hidden_activation", "gelu_pytorch_tanh")
    f.only("use_bidirectional_attention", "vision")  # among the tokens of an image
    experts = _experts(f)
    known, told_of = f.count("vocab_size"), f.count("vocab_size_per_layer_input", 262_144, least=0)
    if told and told_of < known:
        raise f.refused("vocab_size_per_layer_input", f"it must be at least vocab_size = {known}")
    config = build_decoder(
        f,
        _kinds(f, window),
        activation="gelu_tanh",
        head_width=f.count("head_dim", 256),
        biases=attention_biases(f),
        tied_head=f.flag("tie_word_embeddings", True),
        query_scale=1.0,
        qk_norm="head",
        post_norms=True,
        value_norm=True,
        layer_scalars=True,
        embed_scale=math.sqrt(f.count("hidden_size")),
        logit_softcap=f.number("final_logit_softcapping", None),
        token_inputs=told,
        token_inputs_vocab=told_of if told else 0,
        **experts,
    )
    return config, _WEIGHTS.with_entries(stacked_experts("experts", config.expert_width))


def _experts(f: Fields) -> dict[str, Any]:
    """Experts beside the feed-forward part that every token uses, if there are any."""
    f.ignore("expert_intermediate_size")  # of an early release; transformers does not read it
    if not f.flag("enable_moe_block", False):
        f.ignore("num_experts", "top_k_experts", "moe_intermediate_size")
        return {}
    count = f.count("num_experts", least=2, most=MOST_EXPERTS)
    return {
        "experts": count,
        "experts_used": f.count("top_k_experts", most=count),
        "expert_width": f.count("moe_intermediate_size"),
        "expert_norms": True,
    }


def _kinds(f: Fields, window: int) -> list[LayerKind]:
    """Layers with a window, and others with wider heads; the last ones share keys and values."""
    layers, shared = f.layers(), f.count("num_kv_shared_layers", 0, least=0)
    slides = with_window(f, lambda number: (number + 1) % 6 != 0)
    slides[-1] = False  # as transformers has it
    first = layers - shared
    if shared and (first < 1 or set(slides[first:]) - set(slides[:first])):
        raise f.refused("num_kv_shared_layers", "a layer of each type must have keys and values to share")
    full, local = _rotaries(f)
    window, as_values = f.count("sliding_window", window), f.flag("attention_k_eq_v", False)
    double = 2 * f.count("intermediate_size") if f.flag("use_double_wide_mlp", False) else None
    result: list[LayerKind] = []
    for slide, (head_width, kv_heads) in zip(slides, _head_sizes(f, slides), strict=True):
        kind = LayerKind(local, window) if slide else LayerKind(full, keys=AS_VALUES if as_values else OWN)
        kind = dataclasses.replace(kind, head_width=head_width, kv_heads=kv_heads)
        late = len(result) >= first
        result.append(dataclasses.replace(kind, keys=SHARED, ff_width=double) if late else kind)
    return result


def _head_sizes(f: Fields, slides: list[bool]) -> list[tuple[int | None, int | None]]:
    """For each layer the width of its heads and the number of its key/value heads, where they are not the model's.

    Later versions of transformers write `per_layer_config` in place of `global_head_dim`.
    """
    if (by_layer := f.section("per_layer_config")) is not None:
        f.ignore("global_head_dim", "num_global_key_value_heads")
        named = by_layer.by_number()
        sections = [by_layer.section(named.get(n, str(n))) or Fields({}, f.where) for n in range(len(slides))]
        sizes = [(s.count("head_dim", None), s.count("num_key_value_heads", None)) for s in sections]
        for section in (*sections, by_layer):
            section.finish()
        return sizes
    wide, kv_heads = f.count("global_head_dim", 512), f.count("num_global_key_value_heads", None)
    kv_heads = kv_heads if f.flag("attention_k_eq_v", False) else None
    return [(None, None) if slide else (wide, kv_heads) for slide in slides]


def _rotaries(f: Fields) -> tuple[Rotary, Rotary]:
    """The rotary embeddings of layers without and with a window."""
    sections = f.section("rope_parameters")
    if sections is None:
        return Proportional(theta=1e6, turning=0.25), Rotary(theta=1e4)
    found: list[Any] = []
    for name in ("full_attention", "sliding_attention"):
        section = sections.needed_section(name)
        found.append(rotary(f, section, section.number("rope_theta")))
    sections.finish()
    return found[0], found[1]
