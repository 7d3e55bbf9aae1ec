"""Safetensors directories: one file, shards, slices, and what is refused."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from survey_jax.common.errors import UserError
from survey_jax.pretrained.safetensors_files import SafetensorsDirectory, TensorSource

DRAW = np.random.default_rng(0)
TENSORS = {
    "half": DRAW.normal(size=(6, 5)).astype(np.float16),
    "brain": DRAW.normal(size=(7, 4, 3)).astype(ml_dtypes.bfloat16),
    "single": DRAW.normal(size=9).astype(np.float32),
    "scalar": np.array(3.5, np.float32),
}


@pytest.fixture(params=["one file", "shards"])
def directory(request, tmp_path):
    if request.param == "one file":
        save_file(TENSORS, tmp_path / "model.safetensors")
    else:
        write_shards(tmp_path)
    return tmp_path


def write_shards(directory):
    shards = {
        "model-00001-of-00002.safetensors": ["half", "scalar"],
        "model-00002-of-00002.safetensors": ["brain", "single"],
    }
    for shard, names in shards.items():
        save_file({name: TENSORS[name] for name in names}, directory / shard)
    index = {"metadata": {}, "weight_map": {name: shard for shard, names in shards.items() for name in names}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def test_whole_tensors(directory):
    source: TensorSource = SafetensorsDirectory(directory)
    assert set(source.names) == set(TENSORS)
    for name, expected in TENSORS.items():
        assert source.shape(name) == expected.shape
        assert source.dtype(name) == expected.dtype
        found = source.read(name)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "index",
    [
        (slice(1, 3),),
        (slice(None), slice(1, 2)),
        (slice(0, None, None), slice(None, 2, None)),
        (slice(-2, None),),
        (slice(4, 99),),
        (slice(2, 2), slice(None)),
        (),
    ],
)
def test_parts(directory, index):
    source = SafetensorsDirectory(directory)
    for name in ("half", "brain"):
        found = source.read(name, index)
        assert found.dtype == TENSORS[name].dtype
        np.testing.assert_array_equal(found, TENSORS[name][index])


def test_a_part_needs_no_more_memory_than_itself(tmp_path):
    """Reading a row of a 64 MiB tensor allocates a row."""
    import tracemalloc

    save_file({"big": np.zeros((1024, 16384), np.float32)}, tmp_path / "model.safetensors")
    source = SafetensorsDirectory(tmp_path)
    tracemalloc.start()
    assert source.read("big", (slice(5, 6),)).shape == (1, 16384)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("keep", [0, 5, 60, -1])
def test_truncated(directory, keep):
    shard = sorted(directory.glob("*.safetensors"))[-1]
    shard.write_bytes(shard.read_bytes()[:keep])
    with pytest.raises(UserError, match=rf"{shard.name}: truncated or corrupt .*; fetch it again"):
        SafetensorsDirectory(directory)


def test_broken_shards(tmp_path):
    write_shards(tmp_path)
    _, second = sorted(tmp_path.glob("*.safetensors"))
    content = second.read_bytes()
    second.unlink()
    with pytest.raises(UserError, match=rf"{second.name}: missing; .*index\.json places 2 tensors there"):
        SafetensorsDirectory(tmp_path)
    save_file({"brain": TENSORS["brain"]}, second)
    with pytest.raises(UserError, match=rf"{second.name}: has no tensor single, which .* \(1 in all\)"):
        SafetensorsDirectory(tmp_path)
    save_file({name: TENSORS[name] for name in ("brain", "single", "half")}, second)
    with pytest.raises(UserError, match=rf"{second.name}: has a tensor half, and so has another file \(1 in all\)"):
        SafetensorsDirectory(tmp_path)
    save_file({**{name: TENSORS[name] for name in ("brain", "single")}, "new": TENSORS["half"]}, second)
    assert set(SafetensorsDirectory(tmp_path).names) == {*TENSORS, "new"}  # as transformers reads it
    second.write_bytes(content)
    assert set(SafetensorsDirectory(tmp_path).names) == set(TENSORS)
    for text in ("{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}'):
        (tmp_path / "model.safetensors.index.json").write_text(text)
        with pytest.raises(UserError, match=r"index\.json: not (JSON|an index of safetensors shards)"):
            SafetensorsDirectory(tmp_path)


@pytest.mark.parametrize("shard", ["../other/model.safetensors", "/etc/model.safetensors", "a/../../b.safetensors"])
def test_shards_outside_of_the_folder_are_refused(tmp_path, shard):
    """They would be part of no copy of the folder, and could be anything tomorrow."""
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "other").mkdir()
    save_file(TENSORS, tmp_path / "other" / "model.safetensors")
    save_file(TENSORS, tmp_path / "b.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(TENSORS, shard)}))
    with pytest.raises(
        UserError, match=r"index\.json: places \w+ outside of this folder, in .*; fetch the model again"
    ):
        SafetensorsDirectory(folder)


def test_what_is_there_twice_is_refused_by_name(tmp_path):
    write_shards(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    text = index.read_text()
    index.write_text(text.replace('"single": ', '"half": "model-00002-of-00002.safetensors", "single": '))
    with pytest.raises(UserError, match=r"index\.json: not JSON .the name 'half' is there twice"):
        SafetensorsDirectory(tmp_path)
    index.write_text(text)
    shard = tmp_path / "model-00002-of-00002.safetensors"
    content = shard.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size].rstrip()
    entry = json.dumps(json.loads(header)["single"]).encode()
    for twice in (header[:-1] + b',"single":' + entry + b"}", b'{"single":' + entry + b"," + header[1:]):
        shard.write_bytes(len(twice).to_bytes(8, "little") + twice + content[8 + size :])
        with pytest.raises(UserError, match=r"00002\.safetensors: .*'?single'?"):
            SafetensorsDirectory(tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "\x00", "{'a': 1}", ""])
def test_an_index_that_is_not_json_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(UserError, match=r"index\.json: not JSON \([^\n]*\)$"):
        SafetensorsDirectory(tmp_path)


def test_an_index_in_another_encoding_is_refused_in_one_line(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_bytes(b'{"a": "\xff\xfe"}')
    with pytest.raises(UserError, match=r"index\.json: not JSON \('utf-8' codec"):
        SafetensorsDirectory(tmp_path)


def test_refused(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such directory"):
        SafetensorsDirectory(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"has no weights; expected model\.safetensors"):
        SafetensorsDirectory(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(UserError, match=r"pickle weights only \(pytorch_model\.bin\).*save_pretrained"):
        SafetensorsDirectory(tmp_path)
    save_file({"flags": np.zeros(3, bool)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="tensor flags has type BOOL; supported: F64, F32"):
        SafetensorsDirectory(tmp_path).read("flags")
