"""Checkpoints that hold a vision part, too, of which only the text decoder is read."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from survey_jax.pretrained.common_fields import Family
from survey_jax.pretrained.config_json import Fields

_SPELLINGS = (
    {"model": "language_model.model", "lm_head": "language_model.lm_head"},  # on the hub
    {"model": "model.language_model", "lm_head": "lm_head"},  # inside transformers
)
# Of images and sound; predictors of several tokens.
_OTHERS = (
    "vision_tower.", "vision_model.", "multi_modal_projector.", "visual.", "vision_embedder.", "embed_vision.",
    "audio_tower.", "embed_audio.", "mtp.",
)  # fmt: skip
GEMMA3 = {  # transformers leaves out of a text_config what has its default value
    "vocab_size": 262_208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-6,
    "sliding_window": 4096,
}
MINISTRAL3 = {
    "vocab_size": 131_072,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 34,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
}
MISTRAL = {
    "vocab_size": 32_000,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-6,
}


def text_part(
    families: Mapping[str, tuple[Callable[[Fields], Family], Mapping[str, Any]]], *image_fields: str
) -> Callable[[Fields], Family]:
    """A family whose checkpoints hold a vision part, too, of which only the text decoder is read.

    Args:
      families: model_type of the text decoder -> its family, and the values of fields that its config leaves out; where
        it does not say, it is the first.
      image_fields: fields that concern images only.
    """

    def whole(f: Fields) -> Family:
        f.ignore("vision_config", "image_token_index", "image_token_id", *image_fields)
        f.needed_section("text_config").only("model_type", *families)
        f.ignore_copies("text_config")
        family, defaults = families[f.needed_section("text_config").get("model_type", next(iter(families)))]
        text = f.needed_section("text_config", defaults)
        text.ignore("model_type")
        text.only("is_causal", True)
        config, weight_map = family(text)
        text.finish()
        config = dataclasses.replace(config, tied_head=f.flag("tie_word_embeddings", config.tied_head))
        ignored = (*_OTHERS, *(f"model.{prefix}" for prefix in _OTHERS))
        return config, dataclasses.replace(weight_map, spellings=_SPELLINGS, ignored=ignored)

    return whole
