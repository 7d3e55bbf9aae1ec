"""Reads a Hugging Face config.json such that no setting is overlooked."""

import math
from collections.abc import Mapping, MutableSet
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any

from survey_jax.common.errors import UserError, plural
from survey_jax.model.rotary import Dynamic, Linear, Llama3, LongRope, Proportional, Rotary, Yarn

# Fields that never change a logit of a given prompt: names and versions, token ids, training (initial values, dropout,
# lengths), caches, memory layout (pretraining_tp splits matrix products), how attention is computed, and defaults for
# generation that transformers used to store here. transformers reads none of `activation` (it goes by hidden_act),
# `is_decoder` and `is_llama_config` in these families. Fields that begin with "_" are transformers' own notes and are
# accepted, too.
_HARMLESS = """
    activation architectures attn_implementation auto_map cache_implementation custom_pipelines dtype finetuning_task
    id2label internal_version is_decoder is_llama_config label2id max_position_embeddings model_type name_or_path
    problem_type return_dict task_specific_params tokenizer_class torch_dtype transformers.js_config
    transformers_version unsloth_fixed unsloth_fixed_mtp unsloth_version use_cache use_flash_attn use_flash_attention_2

    bos_token bos_token_id decoder_start_token_id eos_token eos_token_id mask_token_id pad_token pad_token_id
    sep_token_id tokenizer_model_max_length tokenizer_padding_side unk_token unk_token_id

    attention_dropout attn_pdrop classifier_dropout embd_pdrop embedding_dropout gradient_checkpointing hidden_dropout
    initializer_range max_seq_len max_seq_length max_sequence_length model_max_length neftune_noise_alpha
    pretraining_tp resid_pdrop residual_dropout seq_length

    bad_words_ids begin_suppress_tokens chunk_size_feed_forward diversity_penalty do_sample early_stopping
    encoder_no_repeat_ngram_size exponential_decay_length_penalty forced_bos_token_id forced_eos_token_id
    length_penalty max_length max_new_tokens min_length no_repeat_ngram_size num_beam_groups num_beams
    num_return_sequences output_attentions output_hidden_states output_scores prefix remove_invalid_values
    repetition_penalty return_dict_in_generate suppress_tokens temperature top_k top_p typical_p
"""
HARMLESS = frozenset(_HARMLESS.split())

_MOST, _MOST_LAYERS = 2**31 - 1, 10_000  # far above any model's
_NEEDED: Any = object()  # marks a field without a default


class Fields:
    """The fields of a config.json, or of a section of it. Records which were read, so that `finish` finds the others.

    Args:
      values: the parsed fields.
      where: the file's name, for messages.
      section: "" or the section's name and a dot, for messages.
      ignored: names of unknown fields that `finish` accepts, sections included; it takes out those that it has met.
    """

    def __init__(
        self, values: Mapping[str, Any], where: str, section: str = "", ignored: MutableSet[str] | None = None
    ):
        self._values, self.where, self._section = values, where, section
        self.ignored: MutableSet[str] = set() if ignored is None else ignored
        self._known: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        """A field's value. UserError if it is missing or null."""
        value = self.get(name)
        if value is None:
            raise UserError(f"{self.where}: field {self._section + name!r} is missing")
        return value

    def __contains__(self, name: str) -> bool:
        """Whether a field is there, perhaps as null."""
        return name in self._values

    def get(self, name: str, default: Any = None) -> Any:
        """A field's value, or `default` where it is missing or null."""
        self._known.add(name)
        value = self._values.get(name)
        return default if value is None else value

    def by_number(self) -> dict[int, str]:
        """The fields' names that are numbers, "05" say, by their number."""
        return {int(name): name for name in self._values if name.isascii() and name.isdecimal()}

    def ignore(self, *names: str) -> None:
        """Accepts fields that may hold any value, because nothing here depends on them."""
        self._known.update(names)

    def ignore_copies(self, section: str) -> None:
        """Accepts fields that repeat what a section, which is there, says. The section itself says what is read."""
        there = self._values[section]
        self.ignore(*(name for name, value in self._values.items() if name in there and there[name] == value))

    def count(self, name: str, default: Any = _NEEDED, least: int = 1, most: int = _MOST) -> Any:
        """An integer from `least` to `most`, or `default` if missing or null. UserError if it is anything else."""
        value = self[name] if default is _NEEDED else self.get(name)
        if value is None:
            return default
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            raise self.refused(name, f"it must be a whole number, {least} or more")
        if int(value) > most:
            raise self.refused(name, f"it must be a whole number, at most {most:,}")
        return value

    def layers(self) -> int:
        """The number of layers. UserError where no computer could hold them, before there is a list of that length."""
        return self.count("num_hidden_layers", most=_MOST_LAYERS)

    def flag(self, name: str, default: bool) -> bool:
        """True or false, or `default` if it is missing or null. UserError if it is anything else, such as "false"."""
        value = self.get(name, default)
        if not isinstance(value, bool):
            raise self.refused(name, "it must be true or false")
        return value

    def number(self, name: str, default: Any = _NEEDED, zero: bool = False) -> Any:
        """A number above zero (or `zero`), or `default` if it is missing or null. UserError if it is anything else."""
        value = self[name] if default is _NEEDED else self.get(name)
        if value is not None and not (_is_number(value) and (value > 0 or (zero and value == 0))):
            raise self.refused(name, f"it must be a number{', zero or' * zero} above zero")
        return default if value is None else value

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of numbers above zero. UserError if it is missing or anything else."""
        values = self[name]
        if not isinstance(values, list | tuple) or not all(_is_number(v) and v > 0 for v in values):
            raise self.refused(name, "it must be a list of numbers above zero")
        return tuple(values)

    def window(self, absent: int | None) -> int | None:
        """The value of `sliding_window`; None if it is null, `absent` if it is missing."""
        return self.count("sliding_window", None) if "sliding_window" in self else absent

    def only(self, name: str, *supported: Any) -> None:
        """Raises UserError if a field is set to a value that is not `supported`."""
        value = self.get(name)
        if value is not None and value not in supported:
            raise self.refused(name, f"supported: {', '.join(map(str, supported))}" if supported else "it must be null")

    def section(self, name: str) -> "Fields | None":
        """A section, or None if it is missing or null. UserError if it is not an object."""
        return None if self.get(name) is None else self.needed_section(name)

    def needed_section(self, name: str, defaults: Mapping[str, Any] = MappingProxyType({})) -> "Fields":
        """A section, with defaults for the fields that it lacks. UserError if it is missing or not an object."""
        value = self[name]
        if not isinstance(value, Mapping):
            raise self.refused(name, "it must be an object")
        return Fields({**defaults, **value}, self.where, f"{self._section}{name}.", self.ignored)

    def finish(self) -> None:
        """Raises UserError for the first field that was not read, unless it is harmless, ignored, null or empty."""
        for name in sorted(set(self._values) - self._known - HARMLESS):
            value = self._values[name]
            unset = value is None or value is False or value in ([], {})  # 0 may be a setting
            if (full := self._section + name) in self.ignored:
                self.ignored.remove(full)
            elif not unset and not name.startswith("_"):
                remedy = f"if you know that it does not, set --config.model.ignore_fields=\"('{full}',)\""
                raise self.refused(name, f"the field is unknown and might change the model's logits; {remedy}")

    def refused(self, name: str, reason: str) -> UserError:
        """An error that names a field, its value and the reason."""
        return UserError(
            f"{self.where}: {self._section}{name} = {self._values[name]!r:.200} is not supported ({reason})"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def rotary(
    f: Fields, rope: Fields | None, theta: float = 1e4, share: float | None = None, interleaved: bool = False
) -> Rotary:
    """The rotary embedding of a section of rotary settings, read as transformers reads it.

    Args:
      f: the whole config, in which transformers 4 keeps the base and the original length.
      rope: the section; None: there is none.
      theta: the family's default base.
      share: the fraction of a head that the family rotates by default; None: it always rotates whole heads.

    Raises:
      UserError: the scaling or one of its settings is unknown, or a setting is missing.
    """
    rope = rope or Fields({}, f.where)
    asked = rope.number("partial_rotary_factor", f.number("partial_rotary_factor", None))
    kind = rope.get("rope_type", rope.get("type", "default"))  # the names in transformers 5 and 4
    if share is None and asked not in (None, 1) and kind != "proportional":
        raise UserError(f"{f.where}: partial_rotary_factor = {asked!r} is not supported (by this architecture)")
    common = {
        "theta": rope.number("rope_theta", f.number("rope_theta", theta)),
        "share": asked or share or 1.0,
        "interleaved": interleaved,
    }
    result: Rotary
    match kind:
        case "default":
            rope.ignore("factor", "attention_factor")
            result = Rotary(**common)
        case "linear":
            result = Linear(**common, factor=rope.number("factor"))
        case "proportional":
            factor = rope.number("factor", 1.0)
            result = Proportional(**common | {"share": 1.0}, factor=factor, turning=asked or 1.0)
        case "dynamic":
            length = f.number("max_position_embeddings")
            result = Dynamic(**common, factor=rope.number("factor"), original_length=length)
        case "llama3":
            result = _llama3(f, rope, common)
        case "yarn":
            result = _yarn(f, rope, common)
        case "longrope" | "su":  # its name in Phi-3's first release
            result = _longrope(f, rope, common)
        case _:
            known = "default, linear, proportional, dynamic, llama3, yarn, longrope, su"
            raise UserError(f"{f.where}: rotary scaling {kind!r} is not supported; supported: {known}")
    # A note on how the model was made, what matters to some scalings only, and what other programs read in place of
    # attention_factor, and transformers does not.
    rope.ignore("finetuned", "original_max_position_embeddings", "attn_factor")
    f.ignore("original_max_position_embeddings")
    rope.finish()
    return result


def _original_length(f: Fields, rope: Fields) -> int:
    """The number of positions that the model was trained for before its rotary embedding was scaled."""
    inner, outer = (section.number("original_max_position_embeddings", None) for section in (rope, f))
    return outer or inner or f.number("max_position_embeddings")


def _llama3(f: Fields, rope: Fields, common: dict[str, Any]) -> Rotary:
    low, high, length = rope.number("low_freq_factor"), rope.number("high_freq_factor"), _original_length(f, rope)
    if low > high:
        raise rope.refused("high_freq_factor", f"it must be at least low_freq_factor = {low!r}")
    return Llama3(**common, factor=rope.number("factor"), low=low, high=high, original_length=length)


def _yarn(f: Fields, rope: Fields, common: dict[str, Any]) -> Rotary:
    length = _original_length(f, rope)
    factor = rope.number("factor", None) or f.number("max_position_embeddings") / length

    def mscale(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    over, under = (rope.number(name, None, zero=True) for name in ("mscale", "mscale_all_dim"))
    inferred = mscale(over) / mscale(under) if over and under else mscale(1.0)
    return Yarn(
        **common,
        attention_factor=rope.number("attention_factor", inferred),
        factor=factor,
        slow=rope.number("beta_slow", 1),
        fast=rope.number("beta_fast", 32),
        original_length=length,
        truncate=rope.flag("truncate", True),
    )


def _longrope(f: Fields, rope: Fields, common: dict[str, Any]) -> Rotary:
    length = _original_length(f, rope)
    factor = rope.number("factor", None) or f.number("max_position_embeddings") / length
    inferred = math.sqrt(1 + math.log(factor) / math.log(length)) if factor > 1 else 1.0
    return LongRope(
        **common,
        attention_factor=rope.number("attention_factor", inferred),
        short=rope.numbers("short_factor"),
        long=rope.numbers("long_factor"),
        original_length=length,
    )


def check_turned(f: Fields, rope: Rotary, head_width: int) -> None:
    """UserError unless an even number of a head's channels is rotated, and LongRoPE has a divisor for each pair."""
    turned = int(head_width * rope.share)
    if turned % 2 or not 0 < turned <= head_width:
        heads = f"each head's {head_width} (head_dim, or hidden_size / num_attention_heads)"
        raise UserError(f"{f.where}: rotary embeddings turn {turned} channels of {heads}; it must be an even number")
    for name, divisors in (("short", rope.short), ("long", rope.long)) if isinstance(rope, LongRope) else ():
        if len(divisors) != turned // 2:
            found = f"{name}_factor has {plural(len(divisors), 'number')}, not {turned // 2}"
            raise UserError(f"{f.where}: {found}: one for each pair of channels that rotary embeddings turn")
