"""What the config.json files of many families have in common: sizes, biases, rotary settings, windows."""

from collections.abc import Callable
from typing import Any

from survey_jax.model.architecture import DecoderConfig, LayerKind
from survey_jax.model.rotary import Rotary
from survey_jax.pretrained.config_json import Fields, check_turned, rotary
from survey_jax.pretrained.weight_names import WeightMap

Family = tuple[DecoderConfig, WeightMap]
MOST_EXPERTS = 10_000  # far above any model's
_LAYER_TYPES = ("full_attention", "sliding_attention")


def build_decoder(f: Fields, kinds: list[LayerKind], **special: Any) -> DecoderConfig:
    """The config of a Llama with these kinds of layer, and with the settings `special` in place of Llama's."""
    heads, width = f.count("num_attention_heads"), f.count("hidden_size")
    if "activation" not in special:
        f.only("hidden_act", "silu")
    head_width = special.pop("head_width", None) or f.count("head_dim", width // heads)
    kv_heads = f.count("num_key_value_heads", heads)
    distinct = tuple(dict.fromkeys(kinds))
    for kind in distinct:
        if heads % (kind.kv_heads or kv_heads):
            own = [name for name in ("num_global_key_value_heads", "per_layer_config") if kind.kv_heads and name in f]
            field = (*own, "num_key_value_heads")[0]
            raise f.refused(field, f"it must divide num_attention_heads = {heads}")
        if kind.rotary is not None:
            check_turned(f, kind.rotary, kind.head_width or head_width)
    settings = {
        "vocab_size": f.count("vocab_size"),
        "width": width,
        "layers": f.layers(),
        "heads": heads,
        "kv_heads": kv_heads,
        "head_width": head_width,
        "ff_width": special["ff_width"] if "ff_width" in special else f.count("intermediate_size"),
        "norm_eps": special["norm_eps"] if "norm_eps" in special else f.number("rms_norm_eps", zero=True),
        "query_scale": head_width**-0.5,
        "tied_head": f.flag("tie_word_embeddings", False),
        "kinds": distinct,
        "layer_kinds": tuple(distinct.index(kind) for kind in kinds),
    }
    return DecoderConfig(**settings | special)


def all_biases(f: Fields) -> tuple[str, ...]:
    """The projections that have a bias, of attention and of the feed-forward part."""
    return attention_biases(f) + mlp_biases(f)


def attention_biases(f: Fields) -> tuple[str, ...]:
    """The projections of attention that have a bias: all or none."""
    return ("q", "k", "v", "o") if f.flag("attention_bias", False) else ()


def mlp_biases(f: Fields) -> tuple[str, ...]:
    """The projections of the feed-forward part that have a bias."""
    return ("gate", "up", "down") if f.flag("mlp_bias", False) else ()


def rope_section(f: Fields) -> Fields | None:
    """The rotary settings: `rope_scaling` in transformers 4, `rope_parameters` in 5."""
    new = f.section("rope_parameters")
    return f.section("rope_scaling") or new


def two_rotaries(f: Fields, theta: float, local_theta: float, local_field: str) -> tuple[Rotary, Rotary]:
    """The rotary embeddings of layers without and with a window."""
    new, old = f.section("rope_parameters"), f.section("rope_scaling")
    if new is not None:
        f.ignore(local_field)  # each section has its own base
        sections = [new.needed_section(kind) for kind in _LAYER_TYPES]
        full, local = (rotary(f, section, section.number("rope_theta")) for section in sections)
        new.finish()
        return full, local
    return rotary(f, old, theta), Rotary(theta=f.number(local_field, local_theta))


def same_kinds(f: Fields, kind: LayerKind) -> list[LayerKind]:
    """All layers of this kind."""
    return [kind] * f.layers()


def plain_kinds(f: Fields) -> list[LayerKind]:
    """All layers alike, without a window."""
    return same_kinds(f, LayerKind(rotary(f, rope_section(f))))


def windowed_kinds(
    f: Fields, default: Callable[[int], bool], full: Rotary, window: int | None, local: Rotary | None = None
) -> list[LayerKind]:
    """Layers with a window where `with_window` says so; `local`: their rotary embedding, if it is another."""
    return [LayerKind(local or full, window) if slide else LayerKind(full) for slide in with_window(f, default)]


def with_window(f: Fields, default: Callable[[int], bool]) -> list[bool]:
    """Which layers have a window: as layer_types lists them, else by the family's rule."""
    layers, listed = f.layers(), f.get("layer_types")
    if listed is None:
        return [bool(default(layer)) for layer in range(layers)]
    if not isinstance(listed, list) or len(listed) != layers or not all(kind in _LAYER_TYPES for kind in listed):
        raise f.refused("layer_types", f"{layers} times {' or '.join(_LAYER_TYPES)}")
    return [kind == "sliding_attention" for kind in listed]
