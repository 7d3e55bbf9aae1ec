"""Tensors by Hugging Face name, wherever they are stored: safetensors here, GGUF in `gguf.py`."""

import contextlib
import dataclasses
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, Protocol

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from survey_jax.errors import UserError

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
