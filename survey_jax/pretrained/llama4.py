"""Llama 4 as config.json files describe it: chunks, layers without positions, and an expert beside those chosen."""

import dataclasses
from typing import Any

from survey_jax.model.architecture import DecoderConfig, LayerKind, stacks
from survey_jax.pretrained.common_fields import MOST_EXPERTS, Family, attention_biases, build_decoder, rope_section
from survey_jax.pretrained.config_json import Fields, rotary
from survey_jax.pretrained.weight_names import LLAMA, Tensor, WeightMap, beside_experts, projection

LLAMA4_DEFAULTS = {  # transformers leaves out of a text_config what has its default value
    "vocab_size": 202_048,
    "hidden_size": 5120,
    "intermediate_size": 8192,
    "num_hidden_layers": 48,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
}
_EXPERTS = "model.layers.{}.feed_forward.experts."


def llama4(f: Fields) -> Family:
    """The text decoder of Llama 4: Scout, Maverick."""
    f.ignore("output_router_logits", "router_aux_loss_coef", "router_jitter_noise")  # of pretraining
    f.ignore("for_llm_compressor")  # how Meta stored the weights; transformers does not read it
    count, width = f.count("num_local_experts", 16, least=2, most=MOST_EXPERTS), f.count("intermediate_size")
    config = build_decoder(
        f,
        _kinds(f),
        head_width=f.count("head_dim", 128),
        biases=attention_biases(f),
        ff_width=width,  # of the part that every token uses, beside experts; other layers have a wider one
        experts=count,
        experts_used=f.count("num_experts_per_tok", 1, most=count),
        expert_width=width,
        expert_shares_sum=False,
        scaled_inputs=True,
    )
    return config, _weights(config)


def _kinds(f: Fields) -> list[LayerKind]:
    """Layers that rotate queries and keys, and normalise them if the model does that; layers that do neither, in which
    queries grow with their position. Which layers have chunks is another question, and which have experts a third."""
    rope, layers = rotary(f, rope_section(f), 5e5, interleaved=True), f.layers()
    growth = (f.number("attn_scale", 0.1, zero=True), f.count("floor_scale", 8192), 1)
    tuned = f.get("attn_temperature_tuning", True)
    if tuned not in (True, False, 4):  # 4, as released files have it, means true
        raise f.refused("attn_temperature_tuning", "it must be true or false")
    normalised, wide = f.flag("use_qk_norm", True), f.count("intermediate_size_mlp", 16_384)
    turned, with_experts = _turned(f), _with_experts(f)
    result = []
    for number, chunk in zip(range(layers), _chunks(f, turned), strict=True):
        kind: dict[str, Any] = {"chunk": chunk, "experts": number in with_experts}
        kind |= {} if kind["experts"] else {"ff_width": wide}
        if turned[number]:
            result.append(LayerKind(rope, normalised=normalised, **kind))
        else:
            result.append(LayerKind(None, growth=growth if tuned else None, **kind))
    return result


def _turned(f: Fields) -> list[bool]:
    """Which layers have positions: those with a 1 in `no_rope_layers`, else all but every n-th."""
    layers, every = f.layers(), f.count("no_rope_layer_interval", 4)
    listed = f.get("no_rope_layers") or [(number + 1) % every != 0 for number in range(layers)]
    if not isinstance(listed, list) or len(listed) != layers or not all(turn in (0, 1) for turn in listed):
        raise f.refused("no_rope_layers", f"{layers} times 1 or 0")
    return [bool(turn) for turn in listed]


def _chunks(f: Fields, turned: list[bool]) -> list[int | None]:
    """The chunk of each layer: as layer_types lists them, else layers with positions have one."""
    kinds = {True: "chunked_attention", False: "full_attention"}
    listed = f.get("layer_types") or [kinds[turn] for turn in turned]
    if not isinstance(listed, list) or len(listed) != len(turned) or not all(k in kinds.values() for k in listed):
        raise f.refused("layer_types", f"{len(turned)} times {' or '.join(kinds.values())}")
    size = f.count("attention_chunk_size") if "attention_chunk_size" in f else 8192  # null is refused, as there
    return [size if kind == kinds[True] else None for kind in listed]


def _with_experts(f: Fields) -> list[int]:
    """The numbers of the layers with experts: as moe_layers lists them, else every n-th."""
    layers, every = f.layers(), f.count("interleave_moe_layer_step", 1)
    listed = f.get("moe_layers", [*range(every - 1, layers, every)])
    if not isinstance(listed, list) or not all(number in range(layers) for number in listed):
        raise f.refused("moe_layers", f"a list of numbers from 0 to {layers - 1}")
    return listed


def _weights(c: DecoderConfig) -> WeightMap:
    """The part beside experts has another name than that of layers without experts."""
    f = c.expert_width
    entries = {
        "blocks.router": projection("feed_forward.router"),
        "blocks.expert_gate": Tensor(f"{_EXPERTS}gate_up_proj[{{}}]", columns=(0, f)),
        "blocks.expert_up": Tensor(f"{_EXPERTS}gate_up_proj[{{}}]", columns=(f, 2 * f)),
        "blocks.expert_down": Tensor(f"{_EXPERTS}down_proj[{{}}]"),
    }
    entries |= beside_experts(stacks(c), "feed_forward.shared_expert", "feed_forward")
    return dataclasses.replace(LLAMA.with_entries(entries), module="language_model.model")
