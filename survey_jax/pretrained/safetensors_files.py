"""Tensors by Hugging Face name, wherever they are stored: safetensors here, GGUF in `gguf.py`."""

import contextlib
import dataclasses
import json
import math
import shutil
import struct
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol, Self

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from survey_jax.common.errors import UserError

SHARD_BYTES = 5 * 10**9  # of a file at most, unless a single tensor is larger
_STORED_AS = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32"}


class ShardWriter:
    """`model.safetensors`, or numbered shards and their index, filled in any order.

    The safetensors library writes a file from tensors that are all in memory. Here the headers are written first, from
    shapes and types alone, and each tensor's rows where they belong as they come.

    Args:
      folder: where the files go.
      tensors: name -> (shape, dtype).
      shard_bytes: tensors go to the next file where this one would grow larger.

    Raises:
      UserError: the disk has no room for them.
    """

    def __init__(
        self, folder: Path, tensors: Mapping[str, tuple[tuple[int, ...], np.dtype]], shard_bytes: int = SHARD_BYTES
    ):
        self._folder, self._tensors = folder, tensors
        self.bytes = sum(self._size(name) for name in tensors)
        if self.bytes > (free := shutil.disk_usage(folder).free):
            raise UserError(
                f"{folder.parent}: {self.bytes / 1e9:.1f} GB to write, {free / 1e9:.1f} GB free on this disk"
            )
        shards = self._split(shard_bytes)
        single = len(shards) == 1
        self.files = [
            "model.safetensors" if single else f"model-{number:05}-of-{len(shards):05}.safetensors"
            for number in range(1, len(shards) + 1)
        ]
        self._index = {name: file for file, names in zip(self.files, shards, strict=True) for name in names}
        self._places: dict[str, tuple[BinaryIO, int]] = {}
        self._written = 0
        for file, names in zip(self.files, shards, strict=True):
            self._begin(folder / file, names)

    def write(self, name: str, values: np.ndarray, first_row: int = 0) -> None:
        """Puts rows of a tensor, from `first_row` on, into its file, converted to its type."""
        shape, dtype = self._tensors[name]
        file, offset = self._places[name]
        row_bytes = math.prod(shape[1:]) * dtype.itemsize
        data = np.ascontiguousarray(values, dtype).reshape(-1).view(np.uint8)
        file.seek(offset + first_row * row_bytes)
        file.write(data.data)
        self._written += data.nbytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        for file, _offset in self._places.values():
            file.close()
        if kind is not None:
            return
        if self._written != self.bytes:
            raise ValueError(f"{self._written} bytes written of {self.bytes}: a tensor is incomplete, or came twice")
        if len(self.files) > 1:
            index = {"metadata": {"total_size": self.bytes}, "weight_map": self._index}
            (self._folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")

    def _size(self, name: str) -> int:
        shape, dtype = self._tensors[name]
        return math.prod(shape) * dtype.itemsize

    def _split(self, shard_bytes: int) -> list[list[str]]:
        shards: list[list[str]] = [[]]
        room = shard_bytes
        for name in self._tensors:
            if self._size(name) > room and shards[-1]:
                shards.append([])
                room = shard_bytes
            shards[-1].append(name)
            room -= self._size(name)
        return shards

    def _begin(self, path: Path, names: list[str]) -> None:
        """Opens a file and writes its header: its length, then JSON, padded so that the data begins at a multiple of 8.

        The layout is https://github.com/huggingface/safetensors#format; transformers asks for the "format" entry.
        """
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        at = 0
        for name in names:
            shape, dtype = self._tensors[name]
            end = at + self._size(name)
            header[name] = {"dtype": _STORED_AS[dtype.name], "shape": list(shape), "data_offsets": [at, end]}
            at = end
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        file = path.open("wb")
        file.write(struct.pack("<Q", len(text)) + text)
        at = file.tell()
        for name in names:
            self._places[name] = (file, at)
            at += self._size(name)


_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_DTYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
}


@dataclasses.dataclass(frozen=True)
class _Stored:
    """Where a tensor lies: file, type as safetensors names it, shape, first byte."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int


class TensorSource(Protocol):
    """Read access to a model's tensors, under Hugging Face names and in Hugging Face layout ([out, in])."""

    @property
    def names(self) -> Collection[str]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def dtype(self, name: str) -> np.dtype: ...

    def read(self, name: str, index: tuple[slice, ...] = ()) -> np.ndarray:
        """The tensor, or the part that `index` selects: one slice of step 1 per leading axis."""
        ...


class SafetensorsDirectory:
    """A Hugging Face directory: model.safetensors, or model.safetensors.index.json and its shards.

    Opening reads each shard's header and checks its length. `read` maps the tensor, copies the part asked for and lets
    go of the mapping: what is mapped counts as a process's memory, and a file mapped for good would come on top of the
    arrays made from it.

    Raises:
      UserError: no such directory, no safetensors weights in it, a shard missing or broken, or one that lacks a tensor
        which the index places there.
    """

    def __init__(self, directory: Path | str):
        self.directory = Path(directory)
        if not self.directory.is_dir():
            raise UserError(f"{directory}: no such directory; give a Hugging Face model directory or a .gguf file")
        self._tensors: dict[str, _Stored] = {}
        if (single := self.directory / _SINGLE).is_file():
            self._tensors = _header(single)
        elif (index := self.directory / _INDEX).is_file():
            self._open_shards(index)
        else:
            raise UserError(_nothing(self.directory))

    @property
    def names(self) -> Collection[str]:
        return self._tensors.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name].shape

    def dtype(self, name: str) -> np.dtype:
        """As stored (bfloat16 is ml_dtypes.bfloat16). Raises UserError for a type that holds no plain numbers."""
        stored = self._tensors[name].dtype
        if stored not in _DTYPES:
            raise UserError(f"{self.directory}: tensor {name} has type {stored}; supported: {', '.join(_DTYPES)}")
        return np.dtype(_DTYPES[stored])

    def read(self, name: str, index: tuple[slice, ...] = ()) -> np.ndarray:
        """The part that `index` selects (one slice of step 1 per leading axis), as stored."""
        dtype, stored = self.dtype(name), self._tensors[name]
        if 0 in stored.shape:
            return np.empty(stored.shape, dtype)[index]  # nothing to map
        mapped = np.memmap(stored.file, dtype, "r", stored.offset, stored.shape or (1,)).reshape(stored.shape)
        return np.array(mapped[index])

    def _open_shards(self, index: Path) -> None:
        try:
            shard_of: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            shards = {Path(shard): [n for n in shard_of if shard_of[n] == shard] for shard in set(shard_of.values())}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{index}: not an index of safetensors shards; fetch the model again") from error
        for shard, names in sorted(shards.items()):
            path = self.directory / shard
            if not path.is_file():
                raise UserError(f"{path}: missing; {_INDEX} places {len(names)} tensors there; fetch the model again")
            tensors = _header(path)
            if absent := sorted(set(names) - tensors.keys()):
                raise UserError(
                    f"{path}: has no tensor {absent[0]}, which {_INDEX} places there ({len(absent)} in all)"
                )
            self._tensors |= {name: tensors[name] for name in names}


def _header(path: Path) -> dict[str, _Stored]:
    """The tensors of a file, after safetensors has found its header and its length right."""
    try:
        with safe_open(path, framework="np"):
            pass
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: truncated or corrupt ({error}); fetch it again") from error
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    return {
        name: _Stored(path, entry["dtype"], tuple(entry["shape"]), 8 + size + entry["data_offsets"][0])
        for name, entry in header.items()
    }


def _nothing(directory: Path) -> str:
    with contextlib.suppress(StopIteration):
        pickle = next(file.name for file in sorted(directory.iterdir()) if file.suffix in _PICKLES)
        return (
            f"{directory}: has pickle weights only ({pickle}), which can run code when read and are refused; fetch the "
            "safetensors revision, or convert them: load the model with transformers and call save_pretrained()"
        )
    return f"{directory}: has no weights; expected {_SINGLE}, or {_INDEX} and its shards (pickle weights are not read)"
