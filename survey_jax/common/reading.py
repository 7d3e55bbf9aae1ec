"""Reads files that others made: no pipes, no gzip that unpacks without end, no JSON with a name twice."""

import functools
import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from survey_jax.common.errors import UserError

_RATIO, _FREE = 200, 1 << 26  # survey tables pack to a tenth or a fiftieth; the first 64 MiB are free
_CHUNK = 1 << 20
_NO_SPACE = re.compile(r"\S")


def check_file(path: Path) -> None:
    """Raises UserError where there is no regular file: reading a pipe or a device may never end."""
    if path.is_file():
        return
    if not path.exists():
        raise UserError(f"{path}: no such file")
    raise UserError(f"{path}: is a {'folder' if path.is_dir() else 'pipe or device'}; give a file")


def open_bytes(path: Path) -> BinaryIO:
    """Opens a file, unpacked where its name ends in .gz.

    Raises:
      UserError: no such file, or gzip that unpacks to much more than data do.
      OSError, EOFError, zlib.error: damaged gzip.
    """
    check_file(path)
    if not path.name.lower().endswith(".gz"):
        return path.open("rb")
    found = path.stat()
    _check_unpacked_size(path, found.st_size, found.st_mtime_ns)
    return cast(BinaryIO, gzip.open(path))


def chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file, as `open_bytes` has them."""
    with open_bytes(path) as file:
        while chunk := file.read(_CHUNK):
            yield chunk


@functools.cache
def _check_unpacked_size(path: Path, packed: int, _changed: int) -> None:
    """Unpacks once, keeping nothing: a few kilobytes of gzip may hold gigabytes."""
    limit, size = max(_FREE, _RATIO * packed), 0
    with gzip.open(path) as file:
        while chunk := file.read(_CHUNK):
            size += len(chunk)
            if size > limit:
                raise UserError(
                    f"{path}: unpacks to more than {_RATIO} times its size, as no table does; if it is sound, unpack "
                    "it and give the unpacked file"
                )


def parse_json(text: str) -> Any:
    """Parses JSON. Raises ValueError where it is none, has a name twice in an object, or is nested too deeply."""
    try:
        return json.loads(text, object_pairs_hook=_without_repeats)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error


def parse_list(text: str) -> Iterator[Any]:
    """The elements of a JSON list, one after the other. Raises ValueError as `parse_json` does."""
    decoder = json.JSONDecoder(object_pairs_hook=_without_repeats)
    at, number = _next(text, text.index("[") + 1), 0
    closed = text[at : at + 1] == "]"
    while not closed:
        number += 1
        try:
            element, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            cause = "is nested too deeply" if isinstance(error, RecursionError) else error
            raise ValueError(f"element {number}: {cause}") from error
        yield element
        at = _next(text, at)
        closed = text[at : at + 1] == "]"
        if not closed:
            if text[at : at + 1] != ",":
                raise ValueError(f"element {number}: no comma follows it")
            at = _next(text, at + 1)
    if _next(text, at + 1) < len(text):
        raise ValueError("something follows the list")


def _next(text: str, at: int) -> int:
    """Where the next character stands that is no blank space."""
    found = _NO_SPACE.search(text, at)
    return found.start() if found else len(text)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, of which json would keep the last of two values of the same name."""
    found = dict(pairs)
    if len(found) < len(pairs):
        name = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the name {name!r} is there twice")
    return found
