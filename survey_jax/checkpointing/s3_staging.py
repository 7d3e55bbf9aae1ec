"""Checkpoints in stores that Orbax cannot write to: made on the local disk and uploaded, and read the other way round.

One process alone can do so: what several write must come together in one folder.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from etils import epath


def needs_staging(folder: epath.Path) -> bool:
    """Whether Orbax cannot write there: of object stores, it knows Google's only."""
    return str(folder).startswith("s3://")


class Upload:
    """A save in the background: what Orbax has written is copied file by file, and `commit` last.

    Args:
      handle: Orbax's, of the save to `made`.
      made: a folder alone in its parent, which is removed.
      commit: the name of a file that says that all others are there.
    """

    def __init__(self, handle: Any, made: Path, folder: epath.Path, commit: str):
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._copied = self._pool.submit(_upload, handle, made, folder, commit)
        self._pool.shutdown(wait=False)

    def result(self, timeout: float | None = None) -> None:
        """Waits. Raises what Orbax or the store raises, and TimeoutError."""
        self._copied.result(timeout)


def _upload(handle: Any, made: Path, folder: epath.Path, commit: str) -> None:
    try:
        handle.result()
        for file in sorted(path for path in made.rglob("*") if path.is_file()):
            (folder / file.relative_to(made).as_posix()).write_bytes(file.read_bytes())
        (folder / commit).write_text("")
    finally:
        shutil.rmtree(made.parent)


@contextlib.contextmanager
def downloaded(folder: epath.Path) -> Iterator[epath.Path]:
    """A local copy of a folder, for as long as the body runs; the folder itself where Orbax can read it."""
    if not needs_staging(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory() as parent:
        copy = epath.Path(parent) / folder.name
        _copy(folder, copy)
        yield copy


def move(folder: epath.Path, to: epath.Path) -> None:
    """Renames a folder; on S3 by copying."""
    if needs_staging(folder):
        _copy(folder, to)
        folder.rmtree()
    else:
        folder.rename(to)


def _copy(folder: epath.Path, to: epath.Path) -> None:
    to.mkdir(parents=True)
    for path in folder.iterdir():  # on S3 epath's `walk`, `rglob` and `rename` of folders do not work
        if path.is_dir():
            _copy(path, to / path.name)
        else:
            (to / path.name).write_bytes(path.read_bytes())
