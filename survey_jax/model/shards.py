"""Safetensors files written part by part: a whole model is never in memory."""

import json
import math
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np

from survey_jax.errors import UserError

SHARD_BYTES = 5 * 10**9  # of a file at most, unless a single tensor is larger
_DTYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32"}


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
            header[name] = {"dtype": _DTYPES[dtype.name], "shape": list(shape), "data_offsets": [at, end]}
            at = end
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        file = path.open("wb")
        file.write(struct.pack("<Q", len(text)) + text)
        at = file.tell()
        for name in names:
            self._places[name] = (file, at)
            at += self._size(name)
