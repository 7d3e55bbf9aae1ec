"""The header of a GGUF file: its metadata and the list of its tensors.

`gguf.GGUFReader` is not used, because it takes ten seconds for a vocabulary of 262k tokens, and does not notice that a
file is truncated until a tensor is read.
"""

import dataclasses
import math
import mmap
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from survey_jax.common.errors import UserError

_SCALARS = dict(enumerate(["B", "b", "<H", "<h", "<I", "<i", "<f", "?", None, None, "<Q", "<q", "<d"]))
_STRING, _ARRAY, _FLOAT = 8, 9, 6
_AXES = 4  # of a tensor, at most
_AGAIN = "fetch the file again, or convert the model again"


@dataclasses.dataclass(frozen=True)
class Stored:
    """A tensor in the file: its name, shape ([out, in], as Hugging Face has it), quantisation, first byte and size."""

    name: str
    shape: tuple[int, ...]
    kind: gguf.GGMLQuantizationType
    offset: int
    size: int


def map_file(path: Path) -> mmap.mmap:
    """Maps a file's bytes into memory. UserError if it is missing, empty or cannot be read."""
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; `python -m survey_jax.fetch` gets two small models") from error
    except ValueError as error:  # an empty file cannot be mapped
        raise UserError(_truncated(path, "is empty")) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


class Header:
    """Parses a mapped file's metadata and list of tensors, and checks at every step that the file does not end."""

    def __init__(self, path: Path, data: mmap.mmap):
        self.path, self.data, self.at = path, data, 0

    def parse(self) -> tuple[dict[str, Any], list[Stored]]:
        """Metadata and tensors; arrays of numbers are numpy arrays. UserError if the file is not GGUF or not whole."""
        if not b"GGUF".startswith(self.data[:4]):
            raise UserError(f"{self.path}: not a GGUF file")
        self.take(4)
        version = self.scalar("<I")
        if version not in (2, 3):
            raise UserError(f"{self.path}: GGUF version {version} (or byte order) is not supported; convert it to 3")
        tensors, pairs = self.scalar("<Q"), self.scalar("<Q")
        metadata = {}
        for _ in range(pairs):
            key = self.text()
            if key in metadata:
                raise UserError(f"{self.path}: has the metadata field {key[:80]!r} twice; {_AGAIN}")
            metadata[key] = self.value(self.scalar("<I"), key)
        stored: dict[str, Stored] = {}
        for _ in range(tensors):
            tensor = self.tensor()
            if tensor.name in stored:
                raise UserError(f"{self.path}: has the tensor {tensor.name[:80]!r} twice; {_AGAIN}")
            stored[tensor.name] = tensor
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise UserError(f"{self.path}: general.alignment is {alignment!r}; the file is corrupt, fetch it again")
        start = -(-self.at // alignment) * alignment
        placed = [dataclasses.replace(s, offset=start + s.offset) for s in stored.values()]
        end = max((s.offset + s.size for s in placed), default=0)
        if end > len(self.data):
            raise UserError(_truncated(self.path, f"has {len(self.data)} bytes, its tensors need {end}"))
        return metadata, placed

    def take(self, size: int) -> bytes:
        self.at += size
        if self.at > len(self.data):
            raise UserError(_truncated(self.path, f"ends within its header, at byte {len(self.data)}"))
        return self.data[self.at - size : self.at]

    def scalar(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self) -> str:
        try:
            return self.take(self.scalar("<Q")).decode()
        except UnicodeDecodeError as error:
            raise UserError(f"{self.path}: text before byte {self.at} is not UTF-8; fetch the file again") from error

    def value(self, kind: int, key: str) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            inner, count = self.scalar("<I"), self.scalar("<Q")
            if inner == _STRING:
                return [self.text() for _ in range(count)]
            if form := _SCALARS.get(inner):
                return np.frombuffer(self.take(count * struct.calcsize(form)), form)
            kind = inner
        if (form := _SCALARS.get(kind)) is None:
            raise UserError(f"{self.path}: metadata field {key} has unknown type {kind}; fetch the file again")
        value = self.scalar(form)
        return float(str(np.float32(value))) if kind == _FLOAT else value  # 1e-05, not 9.999999747378752e-06

    def tensor(self) -> Stored:
        name = self.text()
        if (axes := self.scalar("<I")) > _AXES:
            raise UserError(f"{self.path}: tensor {name[:80]!r} has {axes:,} axes; {_AGAIN}")
        shape = tuple(self.scalar("<Q") for _ in range(axes))[::-1]
        number, offset = self.scalar("<I"), self.scalar("<Q")
        try:
            kind = gguf.GGMLQuantizationType(number)
        except ValueError as error:
            raise UserError(unsupported(self.path, name, f"type {number}")) from error
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        if not shape or not all(shape) or shape[-1] % elements:
            raise UserError(f"{self.path}: tensor {name} has shape {shape}, which {kind.name} cannot hold")
        return Stored(name, shape, kind, offset, math.prod(shape) // elements * size)


def _truncated(path: Path, detail: str) -> str:
    return f"{path}: truncated: {detail}; fetch the file again"


def unsupported(path: Path, name: str, kind: str) -> str:
    """The message for a quantisation that cannot be read."""
    return f"{path}: tensor {name}: quantisation {kind} is not supported; use Q8_0, Q4_K_M, F16 or BF16, say"
