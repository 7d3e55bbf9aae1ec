"""Safetensors files: reading parts of their tensors, and writing them a few rows at a time."""

import abc
import dataclasses
import json
import math
import shutil
import struct
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, BinaryIO

import huggingface_hub
import ml_dtypes  # noqa: F401  # so that numpy knows bfloat16 by name
import numpy as np
from safetensors import SafetensorError, safe_open

from survey_jax.common.errors import UserError
from survey_jax.pretrained.json_files import parse_json, read_json

SHARD_BYTES = 5 * 10**9  # the most that a file holds, unless a single tensor is larger
_CODES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "uint8": "U8",
}


class ShardWriter:
    """Writes `model.safetensors`, or numbered shards and their index, from rows that come in any order.

    The safetensors library writes a file from tensors that are all in memory. Here each file's header is written
    first, from shapes and dtypes alone; later each block of rows is written to its place.

    Args:
      tensors: the shape and dtype of each tensor, by name.
      shard_bytes: the largest size of a file; a larger tensor has a file of its own.

    Raises:
      UserError: the disk has too little free space.
      ValueError: on leaving the context, if the bytes written are not those of all tensors.
    """

    def __init__(
        self, folder: Path, tensors: Mapping[str, tuple[tuple[int, ...], np.dtype]], shard_bytes: int = SHARD_BYTES
    ):
        self._folder, self._tensors = folder, tensors
        self.bytes = sum(_size(*tensor) for tensor in tensors.values())
        if self.bytes > (free := shutil.disk_usage(folder).free):
            raise UserError(
                f"{folder.parent}: {self.bytes / 1e9:.1f} GB to write, {free / 1e9:.1f} GB free on this disk"
            )
        split = huggingface_hub.split_state_dict_into_shards_factory(
            dict(tensors),
            get_storage_size=lambda tensor: _size(*tensor),
            filename_pattern="model{suffix}.safetensors",
            max_shard_size=shard_bytes,
        )
        self.files, self._index = list(split.filename_to_tensors), split.tensor_to_filename
        self._places: dict[str, tuple[BinaryIO, int]] = {}
        self._written = 0
        for file, names in split.filename_to_tensors.items():
            self._begin(folder / file, names)

    def write(self, name: str, values: np.ndarray, first_row: int = 0, first_column: int = 0) -> None:
        """Writes consecutive rows of a tensor or of a part, `first_row` and the following, in the tensor's dtype.

        They may be parts of rows, from `first_column` on.
        """
        whole, part = split_name(name)
        (shape, dtype), (file, offset) = self._tensors[whole], self._places[whole]
        if part is not None:
            shape = shape[1:]
            offset += part * _size(shape, dtype)
        row_bytes = math.prod(shape[1:]) * dtype.itemsize
        start = offset + first_row * row_bytes + first_column * dtype.itemsize
        together = 1 if values.shape[1:] == shape[1:] else len(values)  # whole rows lie side by side
        data = np.ascontiguousarray(values, dtype).reshape(together, -1).view(np.uint8)
        for number, row in enumerate(data):
            file.seek(start + number * row_bytes)
            file.write(row.data)
        self._written += data.nbytes

    def __enter__(self) -> "ShardWriter":
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
            (self._folder / _INDEX).write_text(json.dumps(index, indent=2) + "\n")

    def _begin(self, path: Path, names: list[str]) -> None:
        """Creates a file with its header: the header's length, then JSON padded to a multiple of 8 bytes.

        The format is https://github.com/huggingface/safetensors#format; transformers needs the "format" entry.
        """
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        starts, end = {}, 0
        for name in names:
            shape, dtype = self._tensors[name]
            starts[name], end = end, end + _size(shape, dtype)
            header[name] = {"dtype": _CODES[dtype.name], "shape": list(shape), "data_offsets": [starts[name], end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        file = path.open("wb")
        head = file.write(struct.pack("<Q", len(text)) + text)
        self._places |= {name: (file, head + start) for name, start in starts.items()}


def _size(shape: tuple[int, ...], dtype: np.dtype) -> int:
    return math.prod(shape) * dtype.itemsize


_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
DTYPES = {code: np.dtype(name) for name, code in _CODES.items()}


@dataclasses.dataclass(frozen=True)
class _Stored:
    """A tensor's file, its dtype as safetensors names it, and its shape."""

    file: Path
    dtype: str
    shape: tuple[int, ...]


def split_name(name: str) -> tuple[str, int | None]:
    """A tensor's name and which part of it is meant: ("experts.down_proj", 3) for "experts.down_proj[3]"; None: all."""
    whole, _, part = name.removesuffix("]").partition("[")
    return whole, int(part) if part else None


class TensorSource(abc.ABC):
    """Read access to a model's tensors by Hugging Face name, in Hugging Face's layout ([out, in]).

    Where a tensor holds those of all experts, NAME[3] is the fourth expert's.
    """

    path: Path  # the folder or file, for messages
    _tensors: Mapping[str, Any]  # by name; each has a shape

    @property
    def names(self) -> AbstractSet[str]:
        return self._tensors.keys()

    def stored(self, name: str) -> list[str]:
        """The tensors of the file that a name means."""
        return [split_name(name)[0]]

    @property
    @abc.abstractmethod
    def files(self) -> list[Path]:
        """The files that hold the tensors, in the order of their names."""

    def shape(self, name: str) -> tuple[int, ...]:
        whole, part = split_name(name)
        shape = self._tensors[whole].shape
        return shape if part is None else shape[1:]

    @abc.abstractmethod
    def dtype(self, name: str) -> np.dtype: ...

    @abc.abstractmethod
    def read(self, name: str, index: tuple[slice, ...] = ()) -> np.ndarray:
        """The part of a tensor that `index` selects: one slice of step 1 for each leading axis; (): all of it."""


class SafetensorsDirectory(TensorSource):
    """A Hugging Face directory: model.safetensors, or model.safetensors.index.json and its shards.

    Opening checks each shard's header and length. `read` opens the file again each time: safetensors maps files into
    memory, mapped pages count as memory of the process, and so a file kept open would add to the arrays made from it.

    Raises:
      UserError: no such directory, no safetensors weights in it, a missing or broken shard, or a shard without a tensor
        that the index lists for it, a tensor in two shards.
    """

    dtypes = {code: dtype for code, dtype in DTYPES.items() if code != "U8"}  # noqa: RUF012

    def __init__(self, directory: Path | str):
        self.path = Path(directory)
        if not self.path.is_dir():
            raise UserError(f"{directory}: no such directory; give a Hugging Face model directory or a .gguf file")
        self._tensors: dict[str, _Stored] = {}
        if (single := self.path / _SINGLE).is_file():
            self._tensors = _tensors(single)
        elif (index := self.path / _INDEX).is_file():
            self._open_shards(index)
        elif pickles := [file.name for file in sorted(self.path.iterdir()) if file.suffix in _PICKLES]:
            raise UserError(
                f"{self.path}: has pickle weights only ({pickles[0]}), which can run code when read and are "
                "refused; fetch the safetensors revision, or convert them: load the model with transformers and call "
                "save_pretrained()"
            )
        else:
            expected = f"{_SINGLE}, or {_INDEX} and its shards (pickle weights are not read)"
            raise UserError(f"{self.path}: has no weights; expected {expected}")

    @property
    def files(self) -> list[Path]:
        return sorted({stored.file for stored in self._tensors.values()})

    def dtype(self, name: str) -> np.dtype:
        """The stored dtype (bfloat16 is ml_dtypes.bfloat16). UserError for dtypes such as float8 that numpy lacks."""
        stored = self._tensors[split_name(name)[0]].dtype
        if stored not in self.dtypes:
            raise UserError(f"{self.path}: tensor {name} has type {stored}; supported: {', '.join(self.dtypes)}")
        return self.dtypes[stored]

    def read(self, name: str, index: tuple[slice, ...] = ()) -> np.ndarray:
        """The part that `index` selects, in the stored dtype."""
        if (part := split_name(name)[1]) is not None:
            return self.read(split_name(name)[0], (slice(part, part + 1), *index))[0]
        dtype, stored = self.dtype(name), self._tensors[name]
        if 0 in stored.shape:
            return np.empty(stored.shape, dtype)[index]  # safetensors cannot slice it
        within = [slice(*part.indices(size)[:2]) for part, size in zip(index, stored.shape, strict=False)]
        with safe_open(stored.file, framework="np") as file:
            return file.get_slice(name)[tuple(within)]

    def _open_shards(self, index: Path) -> None:
        content = read_json(index)
        try:
            shard_of: dict[str, str] = content["weight_map"]
            shards = {Path(shard): [n for n in shard_of if shard_of[n] == shard] for shard in set(shard_of.values())}
        except (LookupError, TypeError, AttributeError) as error:
            raise UserError(f"{index}: not an index of safetensors shards; fetch the model again") from error
        for shard, names in sorted(shards.items()):
            path = self.path / shard
            if shard.is_absolute() or ".." in shard.parts:
                raise UserError(f"{index}: places {names[0]} outside of this folder, in {shard}; fetch the model again")
            if not path.is_file():
                raise UserError(f"{path}: missing; {_INDEX} places {len(names)} tensors there; fetch the model again")
            tensors = _tensors(path)
            if absent := sorted(set(names) - tensors.keys()):
                raise UserError(
                    f"{path}: has no tensor {absent[0]}, which {_INDEX} places there ({len(absent)} in all)"
                )
            others = tensors.keys() - set(names)  # transformers reads these, too
            if doubles := sorted(others & (shard_of.keys() | self._tensors.keys())):
                raise UserError(
                    f"{path}: has a tensor {doubles[0]}, and so has another file ({len(doubles)} in all); fetch the "
                    "model again"
                )
            self._tensors |= tensors


def _tensors(path: Path) -> dict[str, _Stored]:
    """The tensors of a file; opening it checks its header and its length."""
    try:
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.offset_keys()}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: truncated or corrupt ({error}); fetch it again") from error
    _check_header(path)
    return {name: _Stored(path, x.get_dtype(), tuple(x.get_shape())) for name, x in slices.items()}


def _check_header(path: Path) -> None:
    """UserError if a header that safetensors can read has a tensor twice, of which it takes the last."""
    with path.open("rb") as file:
        parse_json(file.read(int.from_bytes(file.read(8), "little")), f"{path}: header")
