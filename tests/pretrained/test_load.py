"""Weights onto a mesh: every number in its place, few bytes read, little memory; and what is refused before that."""

import json
import shutil
import types
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

import tiny
from driven import driven
from survey_jax.common.errors import UserError
from survey_jax.model.abstract import abstract_model
from survey_jax.parallel.sharding import make_mesh
from survey_jax.pretrained.load import load_model
from survey_jax.pretrained.open import open_pretrained

INDEX = "model.safetensors.index.json"


def load(directory: Path, dtype: str = "float32", trainable: type = nnx.Param) -> dict[str, np.ndarray]:
    """Parameters by name, on this process's devices."""
    pretrained = open_pretrained(str(directory))
    abstract = abstract_model(pretrained.config, 0, ())
    model = load_model(pretrained, abstract, make_mesh(1, -1, 1), frozen_dtype=dtype, trainable=trainable, seed=0)
    return {".".join(map(str, path)): v.get_value() for path, v in nnx.to_flat_state(nnx.state(model))}


# Every device's part of every parameter, against the same slice of the tensors that safetensors' own reader gives.
EVERY_PART = """
import dataclasses, sys
import numpy as np
from flax import nnx
from safetensors.numpy import load_file
from survey_jax.model.abstract import abstract_model
from survey_jax.pretrained import load as loading
from survey_jax.pretrained.load import load_model
from survey_jax.pretrained.open import open_pretrained
from survey_jax.pretrained.safetensors_files import split_name
from survey_jax.parallel.sharding import make_mesh

loading.CHUNK = 300  # several pieces a tensor, the last one shorter
pretrained = open_pretrained(sys.argv[1])
tensors = load_file(sys.argv[1] + "/model.safetensors")
for mesh in ((1, 8, 1), (2, 2, 2), (1, 2, 4), (8, 1, 1)):
    model = load_model(pretrained, abstract_model(pretrained.config, 0, ()), make_mesh(*mesh),
                       frozen_dtype="float32", trainable=nnx.Param, seed=0)
    split = 0
    for path, variable in nnx.to_flat_state(nnx.state(model)):
        entry, array = pretrained.weight_map[".".join(map(str, path))], variable.get_value()
        names = map(split_name, entry.places(array.shape).values())
        parts = [tensors[name] if part is None else tensors[name][part] for name, part in names]
        parts = [part[:, slice(*entry.columns)] if entry.columns else part for part in parts]
        parts = [part.T if entry.transposed else part for part in parts]
        whole = np.reshape(parts, array.shape)
        assert whole.shape == array.shape
        for shard in array.addressable_shards:
            np.testing.assert_array_equal(np.asarray(shard.data), whole[shard.index])
            split += shard.data.size < array.size
    print(mesh, split)
    assert (split > 0) == (mesh != (8, 1, 1))
"""


@pytest.mark.parametrize("family", ["gemma3", "mixtral", "llama4"])
def test_every_part_lies_in_its_place(family: str, tmp_path: Path) -> None:
    print(driven(["-c", EVERY_PART, str(tiny.write_model(tmp_path, family))], devices=8))


def test_memory_and_bytes() -> None:
    """100 MB onto eight devices, and onto two processes."""
    output = driven(["-m", "benchmarks.loading", "--shape=tiny", "--runs=2"], devices=1)
    print(output)
    eight, two = (json.loads(line) for line in output.splitlines() if line.startswith("{"))
    [one] = eight["processes"]
    assert one["bytes_read"] == eight["checkpoint_bytes"]  # each byte once, though norms lie on all devices
    beyond = (one["peak_over_device_bytes"] - 1) * one["device_bytes"]
    assert beyond < 55e6  # a few pieces; the file would be 100 MB, a float32 copy 200 MB
    for process in two["processes"]:
        assert 0.5 <= process["bytes_read"] / two["checkpoint_bytes"] < 0.501


def test_bfloat16_stays(tmp_path: Path) -> None:
    tiny.write_model(tmp_path)
    file = tmp_path / "model.safetensors"
    stored = {name: t.astype(ml_dtypes.bfloat16) for name, t in load_file(file).items()}
    save_file(stored, file)
    found = load(tmp_path, "bfloat16", trainable=type(None))["embedding"]
    assert found.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(np.asarray(found), stored["model.embed_tokens.weight"])
    trained = load(tmp_path, "bfloat16")["embedding"]
    assert trained.dtype == np.float32
    np.testing.assert_array_equal(np.asarray(trained), stored["model.embed_tokens.weight"].astype(np.float32))


# --- refused


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A model in two shards."""
    tiny.write_model(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    weight_map = {name: f"model-{1 + i % 2:05}-of-00002.safetensors" for i, name in enumerate(sorted(tensors))}
    for shard in set(weight_map.values()):
        save_file({n: tensors[n] for n in tensors if weight_map[n] == shard}, tmp_path / shard)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    return tmp_path


Q = "model.layers.1.self_attn.q_proj.weight"


def change(directory: Path, name: str, value: np.ndarray | None) -> None:
    """Replaces a tensor in the shard that has it, or takes it away."""
    shard = directory / json.loads((directory / INDEX).read_text())["weight_map"][name]
    tensors = load_file(shard) | {name: value}
    save_file({n: t for n, t in tensors.items() if t is not None}, shard)


def test_shards_are_whole(shards: Path) -> None:
    assert load(shards)["blocks.q"].shape == (3, 32, 64)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, rf"model-0000.-of-00002\.safetensors: has no tensor {Q}, which .* \(1 in all\)"),
        (np.zeros((64, 31), np.float32), rf"tensor {Q} has shape \(64, 31\); its config says \(64, 32\)"),
        (np.zeros((32, 64), np.float32), rf"tensor {Q} has shape \(32, 64\); its config says \(64, 32\)"),
        (np.zeros((64, 32), ml_dtypes.float8_e4m3fn), rf"tensor {Q} has type F8_E4M3; supported: F64"),
        (np.zeros((64, 32), np.uint8), rf"tensor {Q} has type U8; supported: F64"),
    ],
)
def test_a_wrong_tensor(shards: Path, value: np.ndarray | None, message: str) -> None:
    change(shards, Q, value)
    with pytest.raises(UserError, match=message):
        load(shards)


def test_a_tensor_missing_from_shards_and_index(shards: Path) -> None:
    change(shards, Q, None)
    weight_map = json.loads((shards / INDEX).read_text())["weight_map"]
    del weight_map[Q]
    (shards / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(UserError, match=rf"tensor {Q} is missing"):
        load(shards)


def test_a_tensor_too_many(shards: Path) -> None:
    shard, extra = sorted(shards.glob("*.safetensors"))[0], "model.layers.0.self_attn.q_proj.bias"
    save_file(load_file(shard) | {extra: np.zeros(64, np.float32)}, shard)
    weight_map = json.loads((shards / INDEX).read_text())["weight_map"] | {extra: shard.name}
    (shards / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(UserError, match=rf"tensor {extra} \(1 in all\) is not supported"):
        load(shards)


def test_a_shard_missing_or_cut_short(shards: Path) -> None:
    shard = sorted(shards.glob("*.safetensors"))[1]
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=rf"{shard.name}: truncated or corrupt .*; fetch it again"):
        open_pretrained(str(shards))
    shard.unlink()
    with pytest.raises(UserError, match=rf"{shard.name}: missing; .*index\.json places \d+ tensors there"):
        open_pretrained(str(shards))


def test_tokenizers(tmp_path: Path) -> None:
    """None at all; one that is code of the repository's own, which is not run."""
    model = tiny.write_model(tmp_path / "code")
    bare = tmp_path / "bare"
    shutil.copytree(model, bare, ignore=shutil.ignore_patterns("token*"))
    with pytest.raises(
        UserError, match=r"bare: has no tokenizer: neither tokenizer\.json nor tokenizer_config\.json is there"
    ):
        open_pretrained(str(bare)).tokenizer()
    for file in model.glob("token*"):
        file.unlink()
    settings = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    (model / "own.py").write_text("raise SystemExit('this code was run')")
    with pytest.raises(UserError, match=r"code: has no tokenizer that transformers can load"):
        open_pretrained(str(model)).tokenizer()


# --- the hub


def refusing(monkeypatch: pytest.MonkeyPatch, error: type, message: str = "403 Client Error\nmore") -> None:
    """The hub answers with an error."""
    import huggingface_hub

    response = types.SimpleNamespace(headers={}, request=None)
    has_response = issubclass(error, huggingface_hub.errors.HfHubHTTPError)

    def download(*_, **__):
        raise error(message, response=response) if has_response else error(message)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("GatedRepoError", r"^org/m: is gated; accept its licence .* run `hf auth login`, or .*model\.weights=DIR$"),
        ("RevisionNotFoundError", r"^org/m: has no revision 'v9' at the hub; set --config\.model\.revision$"),
        (
            "RepositoryNotFoundError",
            r"^org/m: is not at the hub, .* check the id, or set HF_TOKEN or run `hf auth login`$",
        ),
        (
            "HfHubHTTPError",
            r"^org/m: cannot be fetched from the hub \(403 Client Error more\); check the network, or .*",
        ),
        (
            "LocalEntryNotFoundError",
            r"^org/m: cannot be fetched from the hub \(403 Client Error more\); check the network",
        ),
    ],
)
def test_what_the_hub_refuses(monkeypatch: pytest.MonkeyPatch, error: str, message: str) -> None:
    from huggingface_hub import errors

    refusing(monkeypatch, getattr(errors, error))
    with pytest.raises(UserError, match=message):
        open_pretrained("org/m", "v9")


def test_a_hub_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is asked for: the revision, and neither pickles nor second copies; the commit it stands for is known."""
    import huggingface_hub

    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tiny.write_model(tmp_path / "models--org--m" / "snapshots" / commit)
    asked = {}

    def download(repo: str, **options) -> str:
        asked.update(options, repo=repo)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    pretrained = open_pretrained("org/m", "v9")
    assert (pretrained.commit, asked.pop("repo"), asked.pop("revision")) == (commit, "org/m", "v9")
    files = ["config.json", "tokenizer.json", "tokenizer.model", "model.safetensors", INDEX, "pytorch_model.bin"]
    files += ["original/consolidated.00.pth", "original/params.json", "consolidated.safetensors", "chat_template.jinja"]
    wanted = set(huggingface_hub.utils.filter_repo_objects(files, **asked))
    assert set(files) - wanted == {
        "pytorch_model.bin", "original/consolidated.00.pth", "original/params.json", "consolidated.safetensors"
    }  # fmt: skip
    assert open_pretrained(str(tiny.write_model(tmp_path / "local"))).commit is None
