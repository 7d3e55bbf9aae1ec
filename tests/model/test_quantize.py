"""Quantised bases: the codes, their product and gradient, where they lie, what they cost, and a run on one."""

import dataclasses
import re
import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx

import tiny
from driven import driven
from survey_jax.common.errors import UserError
from survey_jax.config import validate
from survey_jax.inputs.batches import Batches, to_device
from survey_jax.inputs.prompts import Prompter
from survey_jax.inputs.task import build_task
from survey_jax.model.abstract import abstract_model
from survey_jax.model.architecture import PROJECTIONS
from survey_jax.model.block import Numerics
from survey_jax.model.lora import LoraParam
from survey_jax.model.quantize import BLOCK, NF4, dequantize, encode_int8, encode_nf4, frozen_product
from survey_jax.parallel.sharding import make_mesh
from survey_jax.pretrained import load
from survey_jax.pretrained.load import load_model
from survey_jax.pretrained.open import open_pretrained
from survey_jax.training.build import build_model
from survey_jax.training.optimizer import init_optimizer
from survey_jax.training.step import StepConfig, TrainState, compiled_train_step, gradients

DRAW = np.random.default_rng(0)
WEIGHT = DRAW.normal(0, 0.02, (48, 256)).astype(np.float32)  # [out, in], as stored
KINDS = ("int8", "nf4")
WIDE = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 8}  # 2 to 4 blocks an input


def ours(parts: tuple[np.ndarray, ...]) -> list[jax.Array]:
    """What an encoder gives, in the layout of the parameters: rows last."""
    return [jnp.asarray(np.moveaxis(part, 0, -1)) for part in parts]


# --- codes


def test_the_values_of_nf4() -> None:
    """As the paper makes them: normal quantiles, 8 above zero and 7 below, evenly spaced from a common tail."""
    from scipy.stats import norm

    offset = 0.5 * ((1 - 1 / 30) + (1 - 1 / 32))
    above = norm.ppf(np.linspace(offset, 0.5, 9)[:-1])
    below = -norm.ppf(np.linspace(offset, 0.5, 8)[:-1])
    expected = np.sort(np.concatenate([above, [0], below])) / above.max()
    np.testing.assert_allclose(NF4, expected, atol=2e-7)


def test_nf4_against_a_loop() -> None:
    found = np.asarray(dequantize(*ours(encode_nf4(WEIGHT)), np.dtype(np.float32))).T
    expected = np.empty_like(WEIGHT)
    for row in range(WEIGHT.shape[0]):
        for start in range(0, WEIGHT.shape[1], BLOCK):
            scale = max(abs(w) for w in WEIGHT[row, start : start + BLOCK])
            for i in range(start, start + BLOCK):
                expected[row, i] = min(NF4, key=lambda code: abs(code - WEIGHT[row, i] / scale)) * scale
    np.testing.assert_array_equal(found, expected)


def test_nf4_keeps_its_own_values() -> None:
    own = NF4[DRAW.integers(0, 16, (5, 128))] * np.float32(0.5)
    own[:, ::BLOCK] = -0.5  # the largest of each block
    np.testing.assert_array_equal(dequantize(*ours(encode_nf4(own)), np.dtype(np.float32)).T, own)


def test_int8_is_off_by_half_a_step() -> None:
    codes, scale = encode_int8(WEIGHT)
    np.testing.assert_allclose(scale, np.abs(WEIGHT).max(1) / 127, rtol=1e-6)
    assert codes.min() >= -127
    assert set(np.abs(codes.astype(int)).max(1)) == {127}
    found = np.asarray(dequantize(*ours((codes, scale)), np.dtype(np.float32))).T
    assert (np.abs(found - WEIGHT) <= scale[:, None] * 0.5001).all()


@pytest.mark.parametrize("encode", [encode_int8, encode_nf4])
def test_zero_and_bfloat16(encode) -> None:
    zero = dequantize(*ours(encode(np.zeros((3, 64), np.float32))), np.dtype(np.float32))
    np.testing.assert_array_equal(zero, np.zeros((64, 3)))
    brain = WEIGHT.astype(ml_dtypes.bfloat16)
    for a, b in zip(encode(brain), encode(brain.astype(np.float32)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("encode", [encode_int8, encode_nf4])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_product_and_gradient(encode, dtype: str) -> None:
    """Those of the dense weight that the codes stand for; nothing for the codes."""
    parts = ours(encode(WEIGHT))
    dense = dequantize(*parts, jnp.dtype(dtype))
    x = jnp.asarray(DRAW.normal(size=(2, 3, 256)), dtype)
    g = jnp.asarray(DRAW.normal(size=(2, 3, 48)), dtype)
    y, backward = jax.vjp(lambda x: frozen_product(x, *parts, x.dtype), x)
    expected, expected_backward = jax.vjp(lambda x: x @ dense, x)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_allclose(*(np.asarray(f(g)[0], np.float32) for f in (backward, expected_backward)), rtol=1e-5)
    scale_gradient = jax.grad(lambda scale: frozen_product(x, parts[0], scale, x.dtype).astype(jnp.float32).sum())(
        parts[1]
    )
    assert not np.asarray(scale_gradient).any()


# --- onto a mesh


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setitem(tiny.FAMILIES, "wide", tiny.FAMILIES["llama"] | WIDE)
    return tiny.write_model(tmp_path / "model", "wide")


def loaded(directory: Path, kind: str, mesh: jax.sharding.Mesh):
    pretrained = open_pretrained(str(directory))
    abstract = abstract_model(pretrained.config, 4, ("q", "v"), kind)
    return load_model(pretrained, abstract, mesh, frozen_dtype="bfloat16", trainable=LoraParam, seed=0)


@pytest.mark.parametrize("kind", KINDS)
def test_loaded_codes(wide: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every projection is what the encoder makes of the stored tensor, however few rows are read at a time."""
    monkeypatch.setattr(load, "CHUNK", 500)
    model, source = loaded(wide, kind, make_mesh(1, 1, 1)), open_pretrained(str(wide)).source
    assert model.embedding[...].dtype == model.blocks.ff_norm[...].dtype == jnp.bfloat16
    encode = {"int8": encode_int8, "nf4": encode_nf4}[kind]
    hf = {p: f"self_attn.{p}_proj" for p in "qkvo"} | {p: f"mlp.{p}_proj" for p in ("gate", "up", "down")}
    assert set(hf) == set(PROJECTIONS)
    for name, place in hf.items():
        for layer in range(3):
            codes, scale = ours(encode(source.read(f"model.layers.{layer}.{place}.weight")))
            np.testing.assert_array_equal(getattr(model.blocks, name)[layer], codes)
            np.testing.assert_array_equal(getattr(model.blocks, f"{name}_scale")[layer], scale)
    plain = loaded(wide, "", make_mesh(1, 1, 1))
    for part in ("q_lora_a", "v_lora_a"):
        np.testing.assert_array_equal(getattr(model.blocks, part)[...], getattr(plain.blocks, part)[...])


def test_every_stack_is_quantised(tmp_path: Path) -> None:
    """Of six layers the third and the sixth attend, the others remember."""
    directory = tiny.write_model(tmp_path, "qwen3_5")
    model, source = loaded(directory, "int8", make_mesh(1, 1, 1)), open_pretrained(str(directory)).source
    remembering = {"delta_qkv": "in_proj_qkv", "delta_gate": "in_proj_z", "delta_out": "out_proj"}
    stored = {
        "blocks": ((0, 1, 3, 4), {ours: f"linear_attn.{theirs}" for ours, theirs in remembering.items()}),
        "blocks_1": ((2, 5), {p: f"self_attn.{p}_proj" for p in "qkvo"}),
    }
    for stack, (layers, names) in stored.items():
        for name, place in (names | {"down": "mlp.down_proj"}).items():
            for number, layer in enumerate(layers):
                codes, scale = ours(encode_int8(source.read(f"model.layers.{layer}.{place}.weight")))
                np.testing.assert_array_equal(getattr(getattr(model, stack), name)[number], codes)
                np.testing.assert_array_equal(getattr(getattr(model, stack), f"{name}_scale")[number], scale)


EIGHT_DEVICES = """
import sys
import numpy as np
from flax import nnx
sys.path.insert(0, "tests")
from model.test_quantize import loaded
from survey_jax.parallel.sharding import make_mesh

for kind in ("int8", "nf4"):
    whole = None
    for mesh in ((8, 1, 1), (1, 2, 4), (1, 8, 1)):
        model = loaded(sys.argv[1], kind, make_mesh(*mesh))
        flat = {".".join(map(str, p)): v.get_value() for p, v in nnx.to_flat_state(nnx.state(model))}
        whole = whole or {name: np.asarray(x) for name, x in flat.items()}
        for name, x in flat.items():
            for shard in x.addressable_shards:
                np.testing.assert_array_equal(np.asarray(shard.data), whole[name][shard.index])
        print(kind, mesh, {n: flat[n].sharding.spec for n in ("blocks.q", "blocks.q_scale", "blocks.down")})
"""


def test_on_eight_devices(wide: Path) -> None:
    """The same codes on all meshes; nf4 is split between blocks, or not at all."""
    output = driven(["-c", EIGHT_DEVICES, str(wide)], devices=8)
    print(output)
    lines = dict(re.findall(r"^(\w+ \(.+?\)) (.*)$", output, re.MULTILINE))
    assert "'blocks.q': P(None, 'fsdp', 'tensor')" in lines["int8 (1, 2, 4)"]
    assert "'blocks.q': P(None, 'fsdp', None, 'tensor')" in lines["nf4 (1, 2, 4)"]
    assert "'blocks.q_scale': P(None, 'fsdp', 'tensor')" in lines["nf4 (1, 2, 4)"]
    assert "'blocks.down': P(None, 'tensor', None, 'fsdp')" in lines["nf4 (1, 2, 4)"]  # 256 / 64 = 4
    assert "'blocks.q': P(None, None, None, 'tensor')" in lines["nf4 (1, 8, 1)"]  # 128 / 64 = 2 over 8


# --- memory


def test_a_training_step_holds_one_layer_at_full_size(wide: Path) -> None:
    """Not the ten that a backward pass would keep."""
    config = open_pretrained(str(wide)).config
    config = dataclasses.replace(config, width=256, ff_width=1024, layers=10, layer_kinds=(0,) * 10)
    temporary = {kind: _temporary(config, kind) for kind in ("", *KINDS)}
    layer = 4 * (256 * (128 + 32 + 32 + 128) + 3 * 256 * 1024)  # bytes of a layer's float32 projections
    print(temporary, "a layer:", layer)
    assert all(temporary[kind] - temporary[""] < layer for kind in KINDS)


def _temporary(config, kind: str) -> int:
    graphdef, params, frozen = nnx.split(abstract_model(config, 4, PROJECTIONS, kind), LoraParam, ...)
    whole = jax.ShapeDtypeStruct
    batch = {name: whole((1, 1, 16), jnp.int32) for name in ("tokens", "positions", "trees", "branches")}
    batch |= {"answer_index": whole((1, 1, 2), jnp.int32), "weight": whole((1, 1, 2), jnp.float32)}
    batch |= {"option_mask": whole((1, 1, 2, 3), bool), "target": whole((1, 1, 2, 3), jnp.float32)}
    step = jax.jit(gradients, static_argnums=(0, 5))
    lowered = step.lower(
        graphdef, params, frozen, batch, whole((3,), jnp.int32), StepConfig(config, Numerics(lora_scale=1.0))
    )
    return lowered.compile().memory_analysis().temp_size_in_bytes


# --- runs


def test_refused(wide: Path, tmp_path: Path) -> None:
    config = runpy.run_path(str(tiny.write_config(tmp_path, wide, tmp_path / "rows")))["get_config"]()
    config.model.quantize = "nf4"
    validate(config)
    config.lora.rank = 0
    with pytest.raises(UserError, match=r"model\.quantize = 'nf4': full fine-tuning .*; set config\.lora\.rank"):
        validate(config)
    config.model.quantize = "int4"
    with pytest.raises(UserError, match=r"model\.quantize = 'int4': must be one of '', int8, nf4"):
        validate(config)
    narrow = open_pretrained(str(tiny.write_model(tmp_path / "narrow"))).config
    with pytest.raises(UserError, match=r"'nf4': the input of q has 32 channels, not a multiple of 64; use 'int8'"):
        abstract_model(narrow, 4, PROJECTIONS, "nf4")


def test_training_on_a_quantised_base(wide: Path, tmp_path: Path) -> None:
    """Starts near the plain base's loss, and falls as it does."""
    table = tiny.write_rows(tmp_path / "rows.jsonl", tiny.rows(questions=8, groups=tiny.GROUPS[:3]))
    file = tiny.write_config(tmp_path, wide, table, batch__seq_len="256", optim__lr="1e-3")
    config = runpy.run_path(str(file))["get_config"]()
    pretrained = open_pretrained(str(wide))
    task = build_task(config, Prompter(pretrained.tokenizer(), config.data.template))
    losses = {}
    for kind in ("", *KINDS):
        config.model.quantize = kind
        model = build_model(config, pretrained, task.prompts["train"], len(task.letters))
        state = TrainState(model.params, init_optimizer(config.optim, model.params, model.mesh))
        batch = to_device(
            Batches(task.prompts["train"], model.shape, groups=3).batch(0), model.mesh, model.shape.batch_size, True
        )
        step = compiled_train_step(model.graphdef, model.step_config, config.optim, state)
        losses[kind] = []
        for _ in range(8):
            state, measured = step(state, model.frozen, batch, task.letters)
            losses[kind].append(float(measured["loss"]))
    print(losses)
    for kind, tolerance in {"int8": 0.02, "nf4": 0.15}.items():
        assert 0 < abs(losses[kind][0] / losses[""][0] - 1) < tolerance
        assert losses[kind][-1] < 0.9 * losses[kind][0]
