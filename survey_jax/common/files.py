"""Files local or remote: read, and written in one piece.

Paths may be `pathlib.Path` or `etils.epath.Path`, which also takes gs:// addresses.
"""

import contextlib
import fcntl
import importlib.util
import io
import json
import os
import secrets
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from etils import epath
from pydantic import TypeAdapter, ValidationError

from survey_jax.common.console import is_first, say
from survey_jax.common.errors import UserError, other_version

AnyPath = TypeVar("AnyPath", Path, epath.Path)


def open_workdir(place: str, flag: str = "--workdir") -> epath.Path:
    """The value of a flag as the path of a folder. Raises UserError for what checkpoints cannot be saved in."""
    if not place:
        raise UserError(f"{flag} is empty: name a folder or gs://BUCKET/RUN, or leave it out")
    store, separator, _ = place.partition("://")
    if separator and store != "gs":
        raise UserError(f"{flag}={place}: must be a folder or gs://BUCKET/RUN")
    if separator and importlib.util.find_spec("gcsfs") is None:
        raise UserError(f"{flag}={place}: needs gcsfs: pip install survey_jax[gcs]")
    return epath.Path(place) if separator else epath.Path(place).expanduser()


def is_remote(path: Path | epath.Path) -> bool:
    """Whether a path is in an object store: files there are written whole, and cannot grow."""
    return "://" in str(path)


def make_folder(folder: epath.Path, flag: str) -> list[epath.Path]:
    """Makes a folder in which files can be made; returns those that did not exist, the innermost first.

    Raises:
      UserError: it cannot be made, or no file in it; names the flag that asked for it.
    """
    if is_remote(folder):  # a store has no folders
        return []
    made: list[epath.Path] = []
    try:
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".partial-{secrets.token_hex(4)}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        remove_empty(made)
        reason = "not a folder" if isinstance(error, FileExistsError) else error.strerror or error
        raise UserError(f"{flag}={folder}: cannot be used ({reason})") from error
    return made


def remove_empty(folders: Iterable[epath.Path]) -> None:
    """Removes the folders that are there and empty, one after the other."""
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def check_folder(folder: epath.Path, flag: str) -> None:
    """Raises UserError where a folder, or a file in it, cannot be made; leaves nothing behind. On process 0."""
    if is_first():
        remove_empty(make_folder(folder, flag))


def check_file(file: str, flag: str) -> None:
    """Raises UserError where a local file cannot be written, before long work; leaves nothing behind."""
    path = Path(file)
    try:
        if not file or path.is_dir():
            raise UserError(f"{flag}={file}: {'is a folder' if file else 'is empty'}; name a file")
        if path.exists() and not path.is_file():
            raise UserError(f"{flag}={file}: is no file that could be replaced; name another one")
        probe = path.with_name(f".partial-{secrets.token_hex(4)}-{path.name}")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"{flag}={file}: cannot be written ({error.strerror or error})") from error


@contextlib.contextmanager
def new_folder(output: Path, flag: str) -> Iterator[Path]:
    """A temporary folder that becomes `output` when the block ends without an error, and is deleted otherwise.

    Args:
      flag: that names the folder, for messages.

    Raises:
      UserError: `output` exists and is not empty, cannot be written, or another process is writing it.
    """
    output = output.expanduser().resolve()
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise UserError(f"{flag}={output}: exists already; choose another folder, or delete it")
    partial = output.with_name(f".partial-{output.name}")
    made = make_folder(epath.Path(output.parent), flag)
    try:
        make_folder(epath.Path(partial), flag)
        lock = _lock(partial, output, flag)
        try:
            yield partial
            try:
                os.replace(partial, output)
            except OSError as error:
                raise UserError(f"{flag}={output}: cannot be written ({error})") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            os.close(lock)
    finally:
        remove_empty(made)


def _lock(partial: Path, output: Path, flag: str) -> int:
    """Keeps other processes away from a folder until the descriptor that it returns is closed, or this process ends.

    Empties the folder: one that was killed may have left files there. UserError if another one is writing it.
    """
    folder = os.open(partial, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not (partial.exists() and os.path.samestat(os.fstat(folder), partial.stat())):  # just now it became `output`
            raise BlockingIOError
    except BlockingIOError as error:
        os.close(folder)
        raise UserError(f"{flag}={output}: another process is writing it; choose another folder") from error
    for left in partial.iterdir():
        left.unlink()
    return folder


@contextlib.contextmanager
def replaced_folder(folder: epath.Path) -> Iterator[Path]:
    """Gives a folder new files, all of them or none: a reader never sees some of the old and some of the new.

    Yields a folder for the new files, to which the others of `folder` are added at the end. In an object store, where
    nothing can be renamed, they are uploaded one after the other when all of them are made. Raises UserError where they
    cannot be written; then `folder` is as it was before.
    """
    if is_remote(folder):
        with tempfile.TemporaryDirectory() as made:
            yield Path(made)
            for file in sorted(path for path in Path(made).rglob("*") if path.is_file()):
                write_bytes(folder / str(file.relative_to(made)), file.read_bytes())
        return
    place = Path(folder)
    partial, before = (place.with_name(f".{kind}-{place.name}") for kind in (f"partial-{secrets.token_hex(4)}", "old"))
    with writing(place):
        if before.exists() and not place.exists():  # killed between the two renames below
            before.rename(place)
        shutil.rmtree(before, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            yield partial
            for other in place.iterdir() if place.exists() else ():
                if not (partial / other.name).exists():
                    copy = shutil.copytree if other.is_dir() else shutil.copy2
                    copy(other, partial / other.name)
            if place.exists():
                place.rename(before)
            partial.rename(place)
            shutil.rmtree(before, ignore_errors=True)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def writing(path: Path | epath.Path) -> Iterator[None]:
    """Raises UserError where the body cannot write: for want of space, of permission or of the network."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path}: cannot be written ({reason}); what was saved before is intact") from error


@contextlib.contextmanager
def atomic_write(path: AnyPath) -> Iterator[AnyPath]:
    """Replaces a local file in one piece: never half of it, not even after a power cut.

    Yields a path in the same folder, which the body writes to and which takes the place of `path` when the body
    succeeds. When the body fails, `path` is as it was before. If several processes write the same file, the last one to
    end wins. Raises UserError where the file cannot be written.
    """
    partial = path.with_name(f".partial-{secrets.token_hex(4)}-{path.name}")
    with writing(path):
        try:
            yield partial
            with open(partial, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def _write(path: epath.Path, content: bytes) -> None:
    if is_remote(path):  # an upload appears when it is complete
        with writing(path):
            path.write_bytes(content)
    else:
        with atomic_write(path) as partial:
            partial.write_bytes(content)


def write_bytes(path: epath.Path, content: bytes) -> None:
    """Writes a local or remote file in one piece. On process 0; others do nothing. Raises UserError if it cannot."""
    if is_first():
        _write(path, content)


def write_text(path: epath.Path, text: str) -> None:
    """Writes a text file in one piece, as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_json(path: epath.Path, value: Any) -> None:
    """Writes a JSON file in one piece, as `write_bytes` does."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: epath.Path) -> dict[str, Any]:
    """A JSON object. Raises UserError if the file holds anything else, or is none."""
    if not is_remote(path) and path.exists() and not path.is_file():
        raise UserError(f"{path}: not a file")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a JSON object")
    return value


def checked(value: Any, kind: Any, file: str | os.PathLike[str]) -> Any:
    """A value that was read from a file of a run. Raises UserError unless it is of a kind, such as a dataclass's dict.

    >>> checked({"step": 3}, dict[str, int], "time.json")
    {'step': 3}
    """
    try:
        TypeAdapter(kind).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        mistake = error.errors()[0]
        place = ".".join(map(str, mistake["loc"]))
        raise other_version(file, f"{place}: {mistake['msg']}" if place else mistake["msg"]) from None
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
            _write(file, buffer.getvalue())
        except UserError as error:
            say(f"warning: {error}; the next start computes it again")

    def _file(self, key: str) -> epath.Path:
        return self._folder / f"{key}.npz"
