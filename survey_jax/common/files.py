"""Files local or remote: read, and written in one piece.

Paths may be `pathlib.Path` or `etils.epath.Path`, which also takes gs:// addresses.
"""

import contextlib
import importlib.util
import io
import json
import os
import secrets
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from etils import epath

from survey_jax.common.console import is_first, say
from survey_jax.common.errors import UserError

AnyPath = TypeVar("AnyPath", Path, epath.Path)


def open_workdir(place: str) -> epath.Path:
    """--workdir as a path. Raises UserError for what checkpoints cannot be saved in."""
    store, separator, _ = place.partition("://")
    if separator and store != "gs":
        raise UserError(f"--workdir={place}: must be a folder or gs://BUCKET/RUN")
    if separator and importlib.util.find_spec("gcsfs") is None:
        raise UserError(f"--workdir={place}: needs gcsfs: pip install survey_jax[gcs]")
    return epath.Path(place)


def is_remote(path: Path | epath.Path) -> bool:
    """Whether a path is in an object store: files there are written whole, and cannot grow."""
    return "://" in str(path)


@contextlib.contextmanager
def writing(path: Path | epath.Path) -> Iterator[None]:
    """Raises UserError where the body cannot write: for want of space, of permission or of the network."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path}: cannot be written ({reason}); what was saved before is intact") from error


@contextlib.contextmanager
def atomic_write(path: AnyPath, shared: bool = False) -> Iterator[AnyPath]:
    """Replaces a local file in one piece: never half of it, not even after a power cut.

    Yields a path in the same folder, which the body writes to and which takes the place of `path` when the body
    succeeds. When the body fails, `path` is as it was before. Raises UserError where the file cannot be written.

    Args:
      shared: other processes may be writing the same file; the last one to end wins.
    """
    partial = path.with_name(f".partial-{secrets.token_hex(4) + '-' if shared else ''}{path.name}")
    with writing(path):
        try:
            yield partial
            with open(partial, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def _write(path: epath.Path, content: bytes, shared: bool) -> None:
    if is_remote(path):  # an upload appears when it is complete
        with writing(path):
            path.write_bytes(content)
    else:
        with atomic_write(path, shared) as partial:
            partial.write_bytes(content)


def write_bytes(path: epath.Path, content: bytes) -> None:
    """Writes a local or remote file in one piece. On process 0; others do nothing. Raises UserError if it cannot."""
    if is_first():
        _write(path, content, shared=False)


def write_text(path: epath.Path, text: str) -> None:
    """Writes a text file in one piece, as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_json(path: epath.Path, value: Any) -> None:
    """Writes a JSON file in one piece, as `write_bytes` does."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: epath.Path) -> dict[str, Any]:
    """A JSON object. Raises UserError if the file holds anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a JSON object")
    return value


class NpzStore:
    """A folder, local or remote, of arrays that can be computed again: a cache. One .npz file holds those of a key.

    A file that is damaged counts as missing, and one that cannot be written is done without; both are said.

    Args:
      names: of the arrays that every file holds.
    """

    def __init__(self, folder: epath.Path, names: tuple[str, ...]):
        self._folder, self._names = folder, names

    def get(self, key: str, fits: Callable[[dict[str, np.ndarray]], bool]) -> dict[str, np.ndarray] | None:
        """The arrays of a key; None if there are none, or if they are damaged (each has a checksum in the file).

        Args:
          fits: whether the arrays can be those that were saved.
        """
        file = self._file(key)
        if not file.exists():
            return None
        try:
            with np.load(io.BytesIO(file.read_bytes())) as found:  # takes no pickles
                arrays = {name: found[name] for name in self._names}
            if not fits(arrays):
                raise ValueError("its arrays do not fit together")
            return arrays
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            say(f"warning: {file}: damaged ({error}); what it held is computed again")
            return None

    def put(self, key: str, **arrays: np.ndarray | int) -> None:
        """Saves the arrays of a key, in place of any that are there."""
        file, buffer = self._file(key), io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]  # its stubs take the names for options
        try:
            with writing(file):
                self._folder.mkdir(parents=True, exist_ok=True)
            _write(file, buffer.getvalue(), shared=True)
        except UserError as error:
            say(f"warning: {error}; the next start computes it again")

    def _file(self, key: str) -> epath.Path:
        return self._folder / f"{key}.npz"
