"""Published config.json files: they load, mean what they say, and hold as many parameters as was published."""

import json
import math
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import transformers
from flax import nnx
from safetensors.numpy import load_file, save_file

from places import ROOT
from published_models import COUNTED_HERE, COUNTED_WHOLE, PUBLISHED, WHOLE_PARAMETERS
from survey_jax.common.errors import UserError
from survey_jax.model.abstract import abstract_model
from survey_jax.model.architecture import DecoderConfig, Latent, LayerKind, stacks
from survey_jax.model.lora import LoraParam
from survey_jax.model.rotary import Linear, Llama3, LongRope, Rotary, Yarn
from survey_jax.parallel.sharding import make_mesh
from survey_jax.pretrained.families import FAMILIES, decoder_config
from survey_jax.pretrained.load import load_model
from survey_jax.pretrained.open import open_pretrained
from tiny import SIZES, write_model

WHOLE = {file.stem: file for file in (ROOT / "tests" / "data" / "published_configs").glob("*.json")}


def whole(name: str) -> dict[str, Any]:
    return json.loads(WHOLE[name].read_text(encoding="utf-8"))


def counted(config: DecoderConfig) -> int:
    """The parameters of a model, none of which is made."""
    return sum(p.size for p in jax.tree.leaves(nnx.state(abstract_model(config, 0, ()))))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_load_with_their_parameters(name: str) -> None:
    hf, parameters = PUBLISHED[name]
    assert counted(decoder_config(hf, name)[0]) == parameters


@pytest.mark.parametrize("name", [*COUNTED_HERE, *COUNTED_WHOLE])
def test_as_many_parameters_as_transformers_has(name: str) -> None:
    """Of models whose published numbers are rounded: the text decoder that transformers builds, without memory."""
    torch = pytest.importorskip("torch")
    hf, parameters = (whole(name), COUNTED_WHOLE[name]) if name in COUNTED_WHOLE else PUBLISHED[name]
    text = transformers.AutoConfig.for_model(**hf).text_config
    text.tie_word_embeddings = hf["tie_word_embeddings"]
    with torch.device("meta"):
        if text.model_type == "mistral4":  # transformers 5.23 does not list it among language models
            model = transformers.Mistral4ForCausalLM(text)
        else:
            model = transformers.AutoModelForCausalLM.from_config(text)
    scalars = sum(b.numel() for name, b in model.named_buffers() if name.endswith("layer_scalar"))
    assert sum(p.numel() for p in model.parameters()) + scalars == parameters


def read(name: str, **changes: Any) -> Any:
    return decoder_config(PUBLISHED[name][0] | changes, "config.json")[0]


def test_what_published_configs_mean() -> None:
    llama3 = Llama3(theta=5e5, factor=8.0, low=1.0, high=4.0, original_length=8192)
    assert read("Llama-3.1-8B").kinds == (LayerKind(llama3),)
    assert read("Mistral-Nemo-Base-2407").head_width == 128  # not 5120 / 32
    assert read("Mistral-7B-v0.3").kinds == (LayerKind(Rotary(theta=1e6)),)
    assert read("Mistral-7B-v0.3", sliding_window=512).kinds == (LayerKind(Rotary(theta=1e6), 512),)
    older = {field: value for field, value in PUBLISHED["Mistral-7B-v0.3"][0].items() if field != "sliding_window"}
    assert decoder_config(older, "")[0].kinds[0].window == 4096  # as in transformers: null is not the same as absent

    qwen = read("Qwen2.5-7B")
    assert (qwen.biases, qwen.kinds) == (("q", "k", "v"), (LayerKind(Rotary(theta=1e6)),))
    yarn = {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"}  # as its model card advises
    (kind,) = read("Qwen2.5-7B", rope_scaling=yarn).kinds
    assert kind.rotary == Yarn(theta=1e6, factor=4.0, original_length=32768, attention_factor=0.1 * np.log(4) + 1)
    assert (read("Qwen3-8B").qk_norm, read("Qwen3-8B").biases) == ("head", ())

    gemma = read("gemma-3-4b-it")
    assert gemma.kinds == (
        LayerKind(Rotary(theta=1e4), 1024),
        LayerKind(Linear(theta=1e6, factor=8.0)),
    )
    assert gemma.layer_kinds == (0, 0, 0, 0, 0, 1) * 5 + (0, 0, 0, 0)
    assert (gemma.heads, gemma.kv_heads, gemma.vocab_size, gemma.tied_head) == (8, 4, 262208, True)

    smollm = read("SmolLM3-3B")
    assert smollm.kinds == (LayerKind(Rotary(theta=5e6)), LayerKind(None))
    assert smollm.layer_kinds == (0, 0, 0, 1) * 9
    assert smollm.tied_head

    (phi,) = read("Phi-4-mini-instruct").kinds
    assert isinstance(phi.rotary, LongRope)
    assert (phi.rotary.share, phi.rotary.original_length, phi.window) == (0.75, 4096, 262144)
    assert phi.rotary.attention_factor == pytest.approx(np.sqrt(1 + np.log(32) / np.log(4096)))

    scout, maverick = read("Llama-4-Scout-17B-16E"), read("Llama-4-Maverick-17B-128E")
    step = Llama3(theta=5e5, factor=16.0, low=1.0, high=1.0, original_length=8192, interleaved=True)
    without_positions = LayerKind(None, growth=(0.1, 8192, 1))
    assert scout.kinds == (LayerKind(step, chunk=8192, normalised=True), without_positions)
    assert scout.layer_kinds == (0, 0, 0, 1) * 12
    assert [(s.shape.ff_width, s.shape.experts, s.layers[:3]) for s in stacks(maverick)] == [
        (16384, 0, (0, 2, 4)),
        (8192, 128, (1, 3, 5)),
    ]
    assert not any(kind.normalised for kind in maverick.kinds)
    older = PUBLISHED["Llama-4-Scout-17B-16E"][0]
    older = older | {
        "text_config": older["text_config"] | {"attn_temperature_tuning": 4}
    }  # how transformers 4.51 says so
    assert decoder_config(older, "")[0] == scout

    small4 = read("Mistral-Small-4-119B-2603")
    assert small4.latent == Latent(queries=1024, keys=256, turned=64)
    assert small4.query_scale == pytest.approx((0.1 * np.log(128) + 1) ** 2 / np.sqrt(128))

    granite = read("granite-3.1-8b-instruct")
    scales = (granite.query_scale, granite.embed_scale, granite.residual_scale, granite.logit_scale)
    assert scales == (0.0078125, 12.0, 0.22, 1 / 16)


FEW = {name: SIZES[name] for name in SIZES if name not in ("rms_norm_eps", "tie_word_embeddings", "head_dim")}
RMS, LAYER = {"rms_norm_eps": 1e-6}, {"layer_norm_eps": 1e-6}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}
FEW_FIELDS: dict[str, dict[str, Any]] = {  # model_type -> the fields that it needs beside FEW
    **dict.fromkeys(("llama", "qwen2", "mistral", "ministral", "gemma", "smollm3", "phi3", "olmo2", "olmo3"), RMS),
    **dict.fromkeys(("granite", "glm4", "exaone4", "seed_oss"), RMS),
    "gemma2": RMS | {"sliding_window": 24},
    "qwen3": RMS | {"use_sliding_window": True},
    "mixtral": RMS | {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": RMS | EXPERTS | {"moe_intermediate_size": 8},
    "olmoe": RMS | EXPERTS,
    **dict.fromkeys(("gemma4_text", "gemma4_unified_text"), RMS),
    **dict.fromkeys(("qwen3_5_text", "qwen3_5_moe_text", "llama4_text"), RMS),
    "gpt_oss": RMS | {"num_local_experts": 8},
    "mistral4": RMS | {"num_key_value_heads": None},
    "cohere": LAYER,
    "cohere2": LAYER,
}


@pytest.mark.parametrize(
    ("family", "more"),
    [
        *((family, {}) for family in FEW_FIELDS),
        ("qwen3_moe", {"use_sliding_window": True, "sliding_window": 7}),
        ("mixtral", {"sliding_window": 7}),
        ("cohere2", {"sliding_window": None}),
        ("gemma2", {"final_logit_softcapping": None}),
        ("llama4_text", {"no_rope_layers": [], "interleave_moe_layer_step": 2, "layer_types": ["full_attention"] * 3}),
        ("gemma4_text", {"attention_k_eq_v": True, "num_global_key_value_heads": 1}),
        ("gemma4_text", {"num_kv_shared_layers": 1, "num_hidden_layers": 7, "use_double_wide_mlp": True}),
        ("gemma4_text", {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 8}),
    ],
    ids=str,
)
def test_fields_that_are_left_out_mean_what_transformers_takes_them_for(family: str, more: dict[str, Any]) -> None:
    few = FEW | FEW_FIELDS[family] | more | {"model_type": family}
    theirs = transformers.AutoConfig.for_model(**few).to_dict()
    assert decoder_config(few, "few")[0] == decoder_config(theirs, "theirs")[0]


BY_DESIGN = {  # of WHOLE: why they are refused
    "Devstral-Small-2-24B-Instruct": "quantization_config: weights that are stored quantised are not supported",
    "Llama-2-7b-as-trained-on-Neuron": "move_model_to_device = True is not supported (the field is unknown",
    "gemma-4-12B-it-qat-w4a16": "quantization_config: weights that are stored quantised are not supported",
}
EXACTLY = {name: parameters for name, (_, parameters) in PUBLISHED.items() if name in WHOLE} | WHOLE_PARAMETERS


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_whole_published_configs_load_or_are_refused_by_design(name: str) -> None:
    """Loaded as transformers reads them, with as many parameters as were published, or about as the name says."""
    if name in BY_DESIGN:
        with pytest.raises(UserError, match=re.escape(BY_DESIGN[name])):
            decoder_config(whole(name), name)
        return
    config, _ = decoder_config(whole(name), name)
    theirs = transformers.AutoConfig.for_model(**whole(name)).to_dict()
    assert config == decoder_config(theirs, name)[0]
    parameters = counted(config)
    assert EXACTLY.get(name, parameters) == parameters
    for size, unit in [] if name in EXACTLY else re.findall(r"-(\d+(?:\.\d+)?)([bBM])\b", name):
        assert 0.75 < parameters / (float(size) * (1e6 if unit == "M" else 1e9)) < 1.3


def test_every_family_of_which_a_whole_config_was_found_is_among_them() -> None:
    assert len(WHOLE) >= 70
    assert {whole(name)["model_type"] for name in WHOLE} >= {
        *("llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "gemma3_text", "phi3", "olmo2", "olmo3", "granite"),
        *("gemma3", "gemma4", "gemma4_unified", "qwen3_5", "qwen3_5_moe", "qwen3_moe", "mixtral", "gpt_oss", "smollm3"),
        *("exaone4", "exaone4_5", "mistral3", "cohere", "cohere2"),
    }


ALSO_WHOLE = {name: file for name in PUBLISHED for file in (name, f"{name}-it", f"{name}-Instruct") if file in WHOLE}


@pytest.mark.parametrize("name", sorted(ALSO_WHOLE.keys() - {"Phi-4-mini-instruct"}))  # abridged, its divisors too
def test_abridged_configs_say_what_the_whole_ones_say(name: str) -> None:
    assert decoder_config(PUBLISHED[name][0], name)[0] == decoder_config(whole(ALSO_WHOLE[name]), name)[0]


def test_a_quantised_release_describes_the_model_that_it_was_made_of() -> None:
    """Its file repeats sizes outside of its text part, and has a vocabulary of 0 for inputs that no layer has."""
    hf = whole("gemma-4-12B-it-qat-w4a16")
    assert (hf["hidden_size"], hf["text_config"]["vocab_size_per_layer_input"]) == (3840, 0)
    del hf["quantization_config"]
    assert decoder_config(hf, "config.json")[0] == read("gemma-4-12B")


def test_a_field_that_nobody_knows_is_accepted_on_request_alone() -> None:
    name = "Llama-2-7b-as-trained-on-Neuron"
    with pytest.raises(UserError, match=r"set --config\.model\.ignore_fields=\"\('move_model_to_device',\)\""):
        decoder_config(whole(name), "config.json")
    config, _ = decoder_config(whole(name), "config.json", ("move_model_to_device",))
    assert config == decoder_config(whole("Llama-2-7b-hf") | {"rms_norm_eps": 1e-5}, "config.json")[0]


@pytest.mark.parametrize(
    ("changes", "ignored"),
    [
        ({"note": 3}, ("note",)),
        ({"rope_scaling": {"type": "linear", "factor": 2.0, "alpha": 9}}, ("rope_scaling.alpha",)),
        ({"note": 3, "other": [1]}, ("other", "note")),
    ],
)
def test_ignored_fields(changes: dict[str, Any], ignored: tuple[str, ...]) -> None:
    hf = SIZES | {"model_type": "llama"} | changes
    decoder_config(hf, "config.json", ignored)
    for few in (ignored[1:], ()):
        with pytest.raises(UserError, match="the field is unknown and might change"):
            decoder_config(hf, "config.json", few)


def test_an_ignored_field_of_a_section() -> None:
    hf = {"model_type": "mistral3", "text_config": SIZES | {"note": 3, "model_type": "mistral"}, "vision_config": {}}
    with pytest.raises(UserError, match=r"text_config\.note = 3 is not supported .*\('text_config\.note',\)"):
        decoder_config(hf, "config.json")
    decoder_config(hf, "config.json", ("text_config.note",))


@pytest.mark.parametrize("name", ["hidden_size", "absent", "rope_scaling", "use_cache", "quantization_config"])
def test_only_unknown_fields_can_be_ignored(name: str) -> None:
    hf = SIZES | {"model_type": "llama", "use_cache": True}
    with pytest.raises(UserError, match=rf"config\.model\.ignore_fields: '{name}' is no unknown field of config\.json"):
        decoder_config(hf, "config.json", (name,))


TINY_ROPE = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "architecture": (
        {"model_type": "deepseek_v3"},
        "architecture 'deepseek_v3' is not supported; choose one of llama, qwen2",
    ),
    "Mamba 2": ({"model_type": "granitemoehybrid"}, "architecture 'granitemoehybrid' is not supported; choose one of"),
    "short convolutions": ({"model_type": "lfm2"}, "architecture 'lfm2' is not supported; choose one of llama"),
    "missing": ({"vocab_size": None}, "field 'vocab_size' is missing"),
    "unknown": ({"value_gate": "sigmoid"}, "value_gate = 'sigmoid' is not supported (the field is unknown"),
    "unknown zero": ({"skip_scale": 0}, "skip_scale = 0 is not supported (the field is unknown"),
    "quantised": ({"quantization_config": {"quant_method": "fp8"}}, "quantization_config: weights that are stored"),
    "activation": ({"hidden_act": "gelu"}, "hidden_act = 'gelu' is not supported (supported: silu)"),
    "scaling": ({"rope_scaling": {"rope_type": "p-rope"}}, "rotary scaling 'p-rope' is not supported; supported: def"),
    "rope field": ({"rope_scaling": TINY_ROPE | {"alpha": 9}}, "rope_scaling.alpha = 9 is not supported (the field"),
    "rope number": ({"rope_scaling": {"type": "linear"}}, "field 'rope_scaling.factor' is missing"),
    "rope list": ({"rope_scaling": [2.0]}, "rope_scaling = [2.0] is not supported (it must be an object)"),
    "partial": ({"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5 is not supported"),
    "layers": (
        {"model_type": "qwen2", "layer_types": ["chunked_attention"] * 3},
        "layer_types = ['chunked_attention', 'chunked_attention', 'chunked_attention'] is not supported (3 times full_",
    ),
    "bidirectional": (
        {"model_type": "gemma", "use_bidirectional_attention": True},
        "use_bidirectional_attention = True is not supported",
    ),
    "two-way": ({"is_causal": False}, "is_causal = False is not supported (supported: True)"),
    "two-way text part": (
        {"model_type": "mistral3", "text_config": SIZES | {"is_causal": False}},
        "text_config.is_causal = False is not supported (supported: True)",
    ),
    "no copy": (
        {"model_type": "mistral3", "text_config": SIZES | {"hidden_size": 48}},  # not SIZES's, beside it
        "hidden_size = 32 is not supported (the field is unknown",
    ),
    "copy of an unknown": (
        {"model_type": "mistral3", "value_gate": 2, "text_config": SIZES | {"value_gate": 2}},
        "text_config.value_gate = 2 is not supported (the field is unknown",
    ),
    "text part": (
        {"model_type": "mistral3", "text_config": SIZES | {"model_type": "mistral5"}},
        "text_config.model_type = 'mistral5' is not supported (supported: mistral, ministral3, mistral4)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_change_logits_is_refused_by_name(case: str) -> None:
    changes, message = REFUSED[case]
    with pytest.raises(UserError) as error:
        decoder_config(SIZES | {"model_type": "llama"} | changes, "dir/config.json")
    assert str(error.value).startswith(f"dir/config.json: {message}")


def scaled(kind: str, **settings: Any) -> dict[str, Any]:
    return {"max_position_embeddings": 256, "rope_scaling": {"rope_type": kind, "rope_theta": 1e4} | settings}


LLAMA3_SCALING = {"factor": 2.0, "low_freq_factor": 4.0, "high_freq_factor": 3.0}
LONG = {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
SAME_HEADS = {"num_key_value_heads": 4}
FOLDED = SAME_HEADS | {"head_dim": None}
TINY_YARN = {
    "rope_type": "yarn",
    "factor": 2.0,
    "original_max_position_embeddings": 32,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.5,
}
# model_type: (fields of a wrong kind, what the message says of them)
MALFORMED: dict[str, list[tuple[dict[str, Any], str]]] = {
    "llama": [
        (
            {"num_hidden_layers": 10**9},
            "num_hidden_layers = 1000000000 is not supported (it must be a whole number, at",
        ),
        (
            {"vocab_size": 10**12},
            "vocab_size = 1000000000000 is not supported (it must be a whole number, at most 2,147",
        ),
        ({"attention_bias": "false"}, "attention_bias = 'false' is not supported (it must be true or false)"),
        ({"mlp_bias": 1}, "mlp_bias = 1 is not supported (it must be true or false)"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings = 'no' is not supported (it must be true or false)"),
        ({"model_type": ["llama"]}, "architecture ['llama'] is not supported"),
        ({"hidden_size": "64"}, "hidden_size = '64' is not supported (it must be a whole number, 1 or more)"),
        ({"num_hidden_layers": True}, "num_hidden_layers = True is not supported (it must be a whole number"),
        ({"num_attention_heads": 0}, "num_attention_heads = 0 is not supported (it must be a whole number"),
        ({"num_key_value_heads": 3}, "num_key_value_heads = 3 is not supported (it must divide num_attention_"),
        ({"head_dim": 15}, "rotary embeddings turn 15 channels of each head's 15 (head_dim, or hidden_size / num_at"),
        ({"rms_norm_eps": "1e-6"}, "rms_norm_eps = '1e-6' is not supported (it must be a number, zero or above zero)"),
        ({"rope_theta": [1e4]}, "rope_theta = [10000.0] is not supported (it must be a number above zero)"),
        (scaled("linear", factor="2"), "rope_scaling.factor = '2' is not supported (it must be a number above zero)"),
        (scaled("linear", factor=math.nan), "rope_scaling.factor = nan is not supported"),
        ({"rope_scaling": {"rope_type": ["linear"]}}, "rotary scaling ['linear'] is not supported"),
        (scaled("llama3", **LLAMA3_SCALING), "rope_scaling.high_freq_factor = 3.0 is not supported (it must be at le"),
        (scaled("yarn", factor=2.0, beta_slow="1"), "rope_scaling.beta_slow = '1' is not supported"),
    ],
    "phi3": [
        (scaled("longrope", **LONG | {"short_factor": 1}), "rope_scaling.short_factor = 1 is not supported (it must"),
        (scaled("longrope", **LONG | {"long_factor": [2.0] * 7}), "long_factor has 7 numbers, not 8: one for each"),
        (scaled("longrope", **LONG, original_max_position_embeddings=1), "a field has a value of the wrong kind ("),
        ({"partial_rotary_factor": 2}, "rotary embeddings turn 32 channels of each head's 16"),
    ],
    "qwen2": [
        ({"layer_types": 3}, "layer_types = 3 is not supported (3 times full_attention or sliding_attention)"),
        ({"sliding_window": "7"}, "sliding_window = '7' is not supported (it must be a whole number, 1 or more)"),
    ],
    "smollm3": [({"no_rope_layers": layers}, "no_rope_layers = ") for layers in ([1], 1, [1, 0, "x"])],
    "mistral3": [
        ({"text_config": []}, "text_config = [] is not supported (it must be an object)"),
        ({"text_config": {"hidden_size": None}}, "field 'text_config.hidden_size' is missing"),
    ],
    "olmo3": [
        (
            {"rope_parameters": {"full_attention": 1, "sliding_attention": {}}},
            "rope_parameters.full_attention = 1 is not supported (it must be an object)",
        )
    ],
    "mixtral": [
        ({}, "field 'num_local_experts' is missing"),
        ({"num_local_experts": 1}, "num_local_experts = 1 is not supported (it must be a whole number, 2 or more)"),
        (
            {"num_local_experts": 4, "num_experts_per_tok": 5},
            "num_experts_per_tok = 5 is not supported (it must be a whole number, at most 4)",
        ),
    ],
    "qwen3_moe": [
        ({"decoder_sparse_step": 0}, "decoder_sparse_step = 0 is not supported (it must be a whole number, 1 or more)"),
        ({"mlp_only_layers": [3]}, "mlp_only_layers = [3] is not supported (a list of numbers from 0 to 2)"),
        ({"num_experts": 4}, "field 'moe_intermediate_size' is missing"),
        ({"use_qk_norm": False}, "use_qk_norm = False is not supported (supported: True)"),
        ({"shared_expert_intermediate_size": 8}, "shared_expert_intermediate_size = 8 is not supported (supported: 0)"),
    ],
    "olmoe": [({"clip_qkv": 8.0}, "clip_qkv = 8.0 is not supported (it must be null)")],
    "cohere2": [
        ({"use_parallel_block": False}, "use_parallel_block = False is not supported (supported: True)"),
        ({"rotary_pct": 0.5}, "rotary_pct = 0.5 is not supported (supported: 1)"),
        ({"layer_switch": 3}, "layer_switch = 3 is not supported (supported: 4)"),
    ],
    "cohere": [({"use_qk_norm": True}, "use_qk_norm = True is not supported (supported: False)")],
    "ministral3": [
        ({}, "field 'rope_parameters' is missing"),
        (
            {"rope_parameters": {"rope_type": "yarn", "original_max_position_embeddings": 32}},
            "field 'rope_parameters.llama_4_scaling_beta' is missing",
        ),
    ],
    "exaone4": [({"sliding_window_pattern": 0}, "sliding_window_pattern = 0 is not supported (it must be a whole")],
    "gemma3_text": [({"sliding_window": 7, "sliding_window_pattern": 0}, "sliding_window_pattern = 0 is not supp")],
    "gemma4_text": [
        (
            {"num_kv_shared_layers": 1},
            "num_kv_shared_layers = 1 is not supported (a layer of each type must have keys a",
        ),
        (
            {"num_kv_shared_layers": 3},
            "num_kv_shared_layers = 3 is not supported (a layer of each type must have keys a",
        ),
        (
            {"layer_types": ["full"] * 3},
            "layer_types = ['full', 'full', 'full'] is not supported (3 times full_attention",
        ),
        (
            {"use_bidirectional_attention": "all"},
            "use_bidirectional_attention = 'all' is not supported (supported: vis",
        ),
        ({"global_head_dim": 0}, "global_head_dim = 0 is not supported (it must be a whole number, 1 or more)"),
        (
            {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 100},
            "vocab_size_per_layer_input = 100 is not supported (it must be at least vocab_size = 320)",
        ),
        (
            {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 0},
            "vocab_size_per_layer_input = 0 is not supported (it must be at least vocab_size = 320)",
        ),
        ({"per_layer_config": [16]}, "per_layer_config = [16] is not supported (it must be an object)"),
        (
            {"per_layer_config": {"9": {"head_dim": 16}}},
            "per_layer_config.9 = {'head_dim': 16} is not supported (the fie",
        ),
        (
            {"per_layer_config": {"2": {"width": 16}}},
            "per_layer_config.2.width = 16 is not supported (the field is unkno",
        ),
        (
            {"attention_k_eq_v": True, "num_global_key_value_heads": 3},
            "num_global_key_value_heads = 3 is not supported (it must divide num_attention_heads = 4)",
        ),
        ({"enable_moe_block": True}, "field 'num_experts' is missing"),
        (
            {"rope_parameters": {"sliding_attention": {"rope_theta": 1e4}}},
            "field 'rope_parameters.full_attention' is missing",
        ),
    ],
    "qwen3_5_text": [
        (
            {"layer_types": ["full_attention"]},
            "layer_types = ['full_attention'] is not supported (3 times full_attention",
        ),
        (
            {"linear_num_value_heads": 24},
            "linear_num_value_heads = 24 is not supported (linear_num_key_heads = 16 mus",
        ),
        (
            {"linear_conv_kernel_dim": 0},
            "linear_conv_kernel_dim = 0 is not supported (it must be a whole number, 1 or mo",
        ),
        ({"attn_output_gate": False}, "attn_output_gate = False is not supported (supported: True)"),
    ],
    "llama4_text": [
        ({"num_local_experts": 1}, "num_local_experts = 1 is not supported (it must be a whole number, 2 or more)"),
        ({"num_local_experts": 4, "num_experts_per_tok": 5}, "num_experts_per_tok = 5 is not supported (it must be a"),
        ({"no_rope_layers": [1, 0]}, "no_rope_layers = [1, 0] is not supported (3 times 1 or 0)"),
        ({"no_rope_layers": [1, 0, 2]}, "no_rope_layers = [1, 0, 2] is not supported (3 times 1 or 0)"),
        (
            {"layer_types": ["full"] * 3},
            "layer_types = ['full', 'full', 'full'] is not supported (3 times chunked_attention or full_attention)",
        ),
        ({"layer_types": ["full_attention"] * 2}, "layer_types = ['full_attention', 'full_attention'] is not supporte"),
        ({"moe_layers": [1, 3]}, "moe_layers = [1, 3] is not supported (a list of numbers from 0 to 2)"),
        ({"interleave_moe_layer_step": 0}, "interleave_moe_layer_step = 0 is not supported (it must be a whole numbe"),
        ({"attention_chunk_size": None}, "field 'attention_chunk_size' is missing"),
        ({"attn_temperature_tuning": "yes"}, "attn_temperature_tuning = 'yes' is not supported (it must be true or f"),
        ({"use_qk_norm": 1}, "use_qk_norm = 1 is not supported (it must be true or false)"),
        ({"nope_layer_interval": 4}, "nope_layer_interval = 4 is not supported (the field is unknown"),
    ],
    "mistral4": [
        ({}, "num_key_value_heads = 2 is not supported (supported: 4)"),
        ({"n_group": 2}, "n_group = 2 is not supported (supported: 1)"),
        ({"routed_scaling_factor": 2.5}, "routed_scaling_factor = 2.5 is not supported (supported: 1)"),
        (SAME_HEADS, "head_dim = 16 is not supported (it must be qk_nope_head_dim + qk_rope_head_dim = 128)"),
        (FOLDED | {"v_head_dim": 64}, "v_head_dim = 64 is not supported (it must be qk_nope_head_dim + qk_rope_head"),
        (FOLDED | {"qk_rope_head_dim": 32}, "v_head_dim = 128: it must be qk_nope_head_dim + qk_rope_head_dim = 96"),
        (FOLDED | {"kv_lora_rank": 0}, "kv_lora_rank = 0 is not supported (it must be a whole number, 1 or more)"),
        (FOLDED | {"n_shared_experts": 0}, "n_shared_experts = 0 is not supported (it must be a whole number, 1 or m"),
        (FOLDED | {"n_routed_experts": 3}, "n_routed_experts = 3 is not supported (it must be a whole number, 4 or"),
        (
            FOLDED | {"rope_parameters": TINY_YARN | {"llama_4_scaling_beta": None}},
            "field 'rope_parameters.llama_4_scaling_beta' is missing",
        ),
        (
            FOLDED | {"rope_parameters": TINY_YARN | {"partial_rotary_factor": 0.25}},
            "rope_parameters.partial_rotary_factor = 0.25 is not supported (qk_rope_head_dim = 64 of 128 are rotated)",
        ),
        (
            FOLDED | {"rope_parameters": TINY_YARN | {"rope_type": "default"}},
            "rotary scaling 'default' is not supported for mistral4; supported: yarn",
        ),
    ],
    "gpt_oss": [
        ({}, "field 'num_local_experts' is missing"),
        ({"num_local_experts": 4, "swiglu_limit": 8.0}, "swiglu_limit = 8.0 is not supported (supported: 7.0)"),
        ({"num_local_experts": 3, "num_experts_per_tok": 4}, "num_experts_per_tok = 4 is not supported (it must be"),
        (
            {"num_local_experts": 4, "quantization_config": {"quant_method": "fp8"}},
            "quantization_config: weights that are",
        ),
    ],
    "granite": [({"logits_scaling": 0}, "logits_scaling = 0 is not supported (it must be a number above zero)")],
}


@pytest.mark.parametrize(
    ("family", "fields", "message"),
    [(family, fields, message) for family, cases in MALFORMED.items() for fields, message in cases],
    ids=str,
)
def test_fields_of_a_wrong_kind_are_refused_in_one_line(family: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        decoder_config(SIZES | {"model_type": family} | fields, "dir/config.json")
    assert str(error.value).startswith(f"dir/config.json: {message}")


@pytest.mark.parametrize("content", ["[1, 2]", "3", "null", '"llama"'])
def test_a_config_that_is_no_object_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json: expected a JSON object, not "):
        open_pretrained(str(tmp_path))


@pytest.mark.parametrize("model", ["language_model.model", "model.language_model"])
def test_text_part_of_a_multimodal_checkpoint(model: str, tmp_path: Path) -> None:
    """Under either spelling it is the text model; images' tensors are left alone, others refused."""
    text = write_model(tmp_path, "gemma3")
    before = open_pretrained(str(text))
    tensors = {
        name.replace("model.", f"{model}.", 1): value for name, value in load_file(text / "model.safetensors").items()
    }
    image = "vision_tower.x" if model.startswith("language") else "model.vision_tower.x"
    hf = {"model_type": "gemma3", "vision_config": {}, "text_config": json.loads((text / "config.json").read_text())}
    filled = load(before)
    (text / "config.json").write_text(json.dumps(hf))
    save_file(tensors | {image: np.ones(2, np.float32)}, text / "model.safetensors")
    after = open_pretrained(str(text))
    assert after.config == before.config
    jax.tree.map(np.testing.assert_array_equal, nnx.state(load(after)), nnx.state(filled))
    save_file(tensors | {"other_tower.x": np.ones(2, np.float32)}, text / "model.safetensors")
    with pytest.raises(UserError, match=r"tensor other_tower\.x"):
        load(open_pretrained(str(text)))


def test_keys_that_no_layer_uses(tmp_path: Path) -> None:
    """Gemma 4's own files have keys and values of the layers, too, that share those of others."""
    directory = write_model(tmp_path, "gemma4")
    before, file = load(open_pretrained(str(directory))), directory / "model.safetensors"
    tensors, shared = load_file(file), "model.layers.6.self_attn."
    assert not any(name.startswith((f"{shared}k", f"{shared}v")) for name in tensors)
    unused = {f"{shared}{name}.weight": np.ones((4, 4), np.float32) for name in ("k_proj", "v_proj", "k_norm")}
    save_file(tensors | unused, file)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(load(open_pretrained(str(directory)))), nnx.state(before))
    save_file(tensors | {f"{shared}r_proj.weight": np.ones((4, 4), np.float32)}, file)
    with pytest.raises(UserError, match=r"tensor model\.layers\.6\.self_attn\.r_proj\.weight"):
        load(open_pretrained(str(directory)))


def test_what_stays_float32(tmp_path: Path) -> None:
    """Rates of decay do, whose rounding would be multiplied over a whole path."""
    pretrained = open_pretrained(str(write_model(tmp_path, "qwen3_5")))
    abstract, mesh = abstract_model(pretrained.config, 2, ("q",)), make_mesh(1, 1, -1)
    model = load_model(pretrained, abstract, mesh, frozen_dtype="bfloat16", trainable=LoraParam, seed=0)
    kept = {name for name, x in vars(model.blocks).items() if isinstance(x, nnx.Variable) and x.dtype == np.float32}
    assert kept == {"delta_norm", "delta_log_rate", "delta_shift", "delta_qkv_lora_a", "delta_qkv_lora_b"}


def load(pretrained: Any) -> Any:
    mesh = make_mesh(1, 1, -1)
    abstract = abstract_model(pretrained.config, 0, ())
    return load_model(pretrained, abstract, mesh, frozen_dtype="float32", trainable=nnx.Param, seed=0)


def test_every_family_is_listed_in_the_docs() -> None:
    docs = (ROOT / "docs" / "models.md").read_text()
    assert [family for family in FAMILIES if f"`{family}`" not in docs] == []
