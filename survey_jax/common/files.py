"""Files local or remote: opened, read, and written in one piece.

Paths may be `pathlib.Path` or `etils.epath.Path`, which also takes gs:// addresses.
"""

import contextlib
import importlib.metadata
import importlib.util
import json
import os
from collections.abc import Iterator
from typing import Any

from etils import epath

from survey_jax.common.console import is_first
from survey_jax.common.errors import UserError

_STORES = {"gs": ("gcsfs", "gcs"), "s3": ("s3fs", "s3")}  # what a store needs, and the extra that has it


def open_workdir(place: str) -> epath.Path:
    """--workdir. Raises UserError for what checkpoints cannot be kept in."""
    store, separator, _ = place.partition("://")
    if not separator:
        return epath.Path(place)
    if store not in _STORES:
        raise UserError(f"--workdir={place}: must be a folder, gs://BUCKET/RUN or s3://BUCKET/RUN")
    package, extra = _STORES[store]
    if importlib.util.find_spec(package) is None:
        raise UserError(f"--workdir={place}: needs {package}: pip install survey_jax[{extra}]")
    return epath.Path(place)


def is_remote(path: epath.Path) -> bool:
    """Whether a path is in an object store: files there are written whole, and cannot grow."""
    return "://" in str(path)


@contextlib.contextmanager
def writing(path: epath.Path) -> Iterator[None]:
    """Raises UserError where the body cannot write: for want of space or of permission, or of the network."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path}: cannot be written ({reason}); what was saved before is intact") from error


def write_bytes(path: epath.Path, content: bytes) -> None:
    """Writes a file in one piece: never half of it, not even after a power cut. On process 0; others do nothing."""
    if not is_first():
        return
    with writing(path):
        if is_remote(path):  # an upload appears when it is complete
            path.write_bytes(content)
            return
        partial = path.with_name(f".partial-{path.name}")
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)


def write_text(path: epath.Path, text: str) -> None:
    """Writes a text file in one piece, as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_json(path: epath.Path, value: Any) -> None:
    """Writes a JSON file in one piece: never half of it. On process 0; others do nothing."""
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
