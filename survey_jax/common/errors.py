"""The exceptions that reach a user as a single line, and how such a line counts and lists things."""

import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from typing import NoReturn

from survey_jax.common.console import one_line


def fail(message: str) -> NoReturn:
    """Prints one line and exits with code 2."""
    print(f"error: {one_line(message)}", file=sys.stderr, flush=True)
    sys.exit(2)


class UserError(Exception):
    """Bad input. The message says what is wrong, where, and what to do; the binaries print it and exit with code 2."""


class BadSetting(UserError):
    """A setting that does not fit the data, by its name; the binaries add where its value comes from."""

    def __init__(self, setting: str, message: str):
        super().__init__(message)
        self.setting = setting


class Stopped(Exception):
    """The machine is asked for (SIGTERM): everything is saved; the binaries print this and exit with RESUMABLE."""


def other_version(file: object, what: str) -> UserError:
    """A file of a run is not as this version writes it."""
    return UserError(
        f"{file}: {what}: written by another version of survey_jax, or changed since; use that version, or another "
        "--workdir"
    )


INTERRUPTED = 130  # the exit code after Ctrl-C, as shells have it
RESUMABLE = 75  # the exit code of a run that the same command takes up again; EX_TEMPFAIL of sysexits.h


@contextlib.contextmanager
def full_disk_explained() -> Iterator[None]:
    """A full disk is a UserError, whatever was being written."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = error.filename or "--workdir or a cache"
        raise UserError(f"{where}: no space is left; the last checkpoint is intact. Make room and run again") from error


# Errors of libraries that read files, by module; a module that is not imported has raised none.
_READERS = {
    "json": ("JSONDecodeError",),
    "pandas.errors": ("ParserError", "EmptyDataError"),
    "pyarrow": ("ArrowException",),
    "pyreadstat": ("ReadstatError", "PyreadstatError"),
    "safetensors": ("SafetensorError",),
    "yaml": ("YAMLError",),
    "zipfile": ("BadZipFile",),
    "zlib": ("error",),
    "lzma": ("LZMAError",),
    "builtins": ("EOFError",),
}


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """What goes wrong with a file, with memory, or with an input that is nested too deeply is a UserError.

    Whoever meets it need not know. Other errors are mistakes of this program, and stay as they are.
    """
    try:
        with full_disk_explained():
            yield
    except (UserError, Stopped):
        raise
    except Exception as error:
        if (text := _in_words(error)) is None:
            raise
        raise UserError(text) from error


def _in_words(error: Exception) -> str | None:
    """One line about an error; None where it is a mistake of this program."""
    file = _file(error)
    where = f"{file}: " if file else ""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, RecursionError):
        return f"{where or 'an input: '}is nested too deeply to be read"
    exhausted = isinstance(error, RuntimeError | ValueError) and "RESOURCE_EXHAUSTED: " in text  # as jax has it
    exhausted = exhausted and "os_error_code" not in text  # that is tensorstore's, of a file
    if isinstance(error, MemoryError) or exhausted:
        return f"{where}there is not enough memory ({text[:200]}); take less at once, or a machine with more of it"
    if isinstance(error, UnicodeError) and file:
        return f"{file}: cannot be read or written as text ({text})"
    if isinstance(error, OSError) and file:
        return f"{file}: {error.strerror or text}"
    kinds = [getattr(sys.modules.get(module), name, ()) for module, names in _READERS.items() for name in names]
    writes = any(
        "write" in frame.name or "from_py" in frame.name for frame in traceback.extract_tb(error.__traceback__)
    )
    if file and not writes and any(isinstance(error, kind) for kind in kinds):
        return f"{file}: cannot be read: {text}"
    return None


def _file(error: Exception) -> str | None:
    """The file that an error names, or that the innermost function of this package had in hand."""
    if isinstance(error, OSError) and isinstance(error.filename, str | bytes | os.PathLike):
        return os.fsdecode(error.filename)
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    ours = [frame for frame in frames if str(frame.f_globals.get("__name__")).startswith("survey_jax.")]
    for frame in reversed(ours):
        if held := [value for value in frame.f_locals.values() if isinstance(value, os.PathLike)]:
            return os.fspath(held[-1])
    return None


def short(error: Exception) -> str:
    """What a library says, in one line that is not too long."""
    return (" ".join(str(error).split()) or type(error).__name__)[:200]


def plural(count: int, noun: str) -> str:
    """1 row, 2 rows, 1,000 rows."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def some(values: Iterable[str], limit: int = 8) -> str:
    """The values in order, abridged."""
    ordered = sorted(values)
    more = f", ... ({len(ordered)} in all)" if len(ordered) > limit else ""
    return (", ".join(ordered[:limit]) + more) or "none"
