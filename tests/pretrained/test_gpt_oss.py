"""gpt-oss's experts, stored in 4 bits: against transformers' own decoding, and what is refused."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

import tiny
from survey_jax.common.errors import UserError
from survey_jax.model.abstract import abstract_model
from survey_jax.parallel.sharding import make_mesh
from survey_jax.pretrained import export
from survey_jax.pretrained.gpt_oss import GptOssDirectory, from_mxfp4
from survey_jax.pretrained.load import load_model
from survey_jax.pretrained.open import open_pretrained

X, D, F, LAYERS = 4, 32, 64, 3
PREFIX = "model.layers.{}.mlp.experts."
SETTINGS = {"quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}}


def packed(rng: np.random.Generator, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    blocks = rng.integers(0, 256, (X, rows, columns // 32, 16), dtype=np.uint8)
    return blocks, rng.integers(118, 128, (X, rows, columns // 32), dtype=np.uint8)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A model whose experts are stored in 4 bits, and the same in numbers, decoded by transformers."""
    mxfp4 = pytest.importorskip("transformers.integrations.mxfp4")
    torch = pytest.importorskip("torch")
    small, plain = (tiny.write_model(tmp_path / name, "gpt_oss") for name in ("small", "plain"))
    tensors = load_file(plain / "model.safetensors")
    rest, rng = dict(tensors), np.random.default_rng(0)
    for layer in range(LAYERS):
        for name, rows, columns in (("gate_up_proj", 2 * F, D), ("down_proj", D, F)):
            whole = PREFIX.format(layer) + name
            rest[f"{whole}_blocks"], rest[f"{whole}_scales"] = parts = packed(rng, rows, columns)
            del rest[whole]
            decoded = mxfp4.convert_moe_packed_tensors(*map(torch.tensor, parts), dtype=torch.float32)
            tensors[whole] = np.ascontiguousarray(decoded.numpy())
    save_file(tensors, plain / "model.safetensors")
    save_file(rest, small / "model.safetensors")
    config = json.loads((small / "config.json").read_text())
    (small / "config.json").write_text(json.dumps(config | SETTINGS))
    return small, plain


def loaded(folder: Path) -> Any:
    pretrained = open_pretrained(str(folder))
    abstract = abstract_model(pretrained.config, 0, ())
    return nnx.state(
        load_model(pretrained, abstract, make_mesh(1, 1, -1), frozen_dtype="float32", trainable=nnx.Param, seed=0)
    )


def test_experts_in_4_bits_are_those_that_transformers_decodes(folders: tuple[Path, Path]) -> None:
    jax.tree.map(np.testing.assert_array_equal, *map(loaded, folders))


def test_any_part_can_be_read(folders: tuple[Path, Path]) -> None:
    rng = np.random.default_rng(0)
    for folder in folders:
        source = GptOssDirectory(folder)
        for kind in ("gate", "up", "down"):
            name = f"{PREFIX.format(1)}{kind}[2]"
            whole = source.read(name)
            assert whole.shape == source.shape(name) == ((D, F) if kind == "down" else (F, D))
            assert whole.dtype == source.dtype(name)
            for _ in range(20):
                r, c = (sorted(rng.choice(size + 1, 2, replace=False)) for size in whole.shape)
                part = (slice(*r), slice(*c))
                np.testing.assert_array_equal(source.read(name, part), whole[part])


def test_every_code_and_exponent() -> None:
    """Sign, two bits of exponent and one of mantissa, times a power of two."""
    codes = np.arange(16, dtype=np.uint8)
    blocks = np.tile(codes | codes[::-1] << 4, (256, 1, 1))
    scales = np.arange(256, dtype=np.uint8)[:, None]
    found = from_mxfp4(blocks, scales).astype(np.float64)

    def value(code: int) -> float:
        sign, exponent, mantissa = -1 if code & 8 else 1, code >> 1 & 3, code & 1
        return sign * (mantissa / 2 if exponent == 0 else (1 + mantissa / 2) * 2.0 ** (exponent - 1))

    for scale in range(20, 250):
        expected = [value(c) * 2.0 ** (scale - 127) for i in range(16) for c in (i, 15 - i)]
        np.testing.assert_array_equal(found[scale], expected)


def test_adapters_merged_into_a_base_in_4_bits_leave_its_experts_as_they_are(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    small, _ = folders
    pretrained = open_pretrained(str(small))
    rng = np.random.default_rng(1)
    trained = {
        "blocks.q_lora_a": rng.normal(size=(LAYERS, D, 2)).astype(np.float32),
        "blocks.q_lora_b": rng.normal(size=(LAYERS, 2, 64)).astype(np.float32),
    }
    out = tmp_path / "out"
    out.mkdir()
    export.write_merged(pretrained, trained, 1.0, out, "bfloat16")
    export.write_metadata_files(pretrained, out, "bfloat16")
    before, after = (load_file(folder / "model.safetensors") for folder in (small, out))
    assert before.keys() == after.keys()
    for name in (name for name in before if name.endswith(("_blocks", "_scales"))):
        np.testing.assert_array_equal(after[name], before[name])
    changed = (
        before["model.layers.1.self_attn.q_proj.weight"]
        + (trained["blocks.q_lora_a"][1] @ trained["blocks.q_lora_b"][1]).T
    )
    np.testing.assert_allclose(after["model.layers.1.self_attn.q_proj.weight"].astype(np.float32), changed, rtol=1e-2)
    assert open_pretrained(str(out)).config == pretrained.config


def test_trained_experts_cannot_be_exported(folders: tuple[Path, Path], tmp_path: Path) -> None:
    gate = np.zeros((LAYERS, X, D, F), np.float32)
    with pytest.raises(UserError, match=r"blocks\.expert_gate was trained, and is stored in parts of a tensor"):
        export.write_merged(open_pretrained(str(folders[1])), {"blocks.expert_gate": gate}, 0.0, tmp_path)


BROKEN = {
    "blocks cut short": ("down_proj_blocks", lambda x: x[:, :-1], r"down_proj_scales have shapes .* no MXFP4"),
    "scales cut short": ("gate_up_proj_scales", lambda x: x[:, :, :0], r"gate_up_proj_scales have shapes .* no MXFP4"),
    "an expert missing": ("down_proj_blocks", lambda x: x[:-1], r"down_proj_blocks holds 3 experts; its config says 4"),
    "not 16 bytes": ("down_proj_blocks", lambda x: x[..., :15], r"down_proj_scales have shapes .* no MXFP4"),
    "no scales": ("gate_up_proj_scales", None, r"layers\.1\.mlp\.experts\.gate_up_proj_scales is missing"),
    "scales alone": (
        "gate_up_proj_blocks",
        None,
        r"layers\.1\.mlp\.experts\.gate_up_proj_scales .1 in all. is not supp",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_experts(case: str, folders: tuple[Path, Path]) -> None:
    name, change, said = BROKEN[case]
    file = folders[0] / "model.safetensors"
    tensors = load_file(file)
    tensor = PREFIX.format(1) + name
    before = tensors.pop(tensor)
    save_file(tensors | ({tensor: np.ascontiguousarray(change(before))} if change else {}), file)
    with pytest.raises(UserError, match=said):
        loaded(folders[0])
