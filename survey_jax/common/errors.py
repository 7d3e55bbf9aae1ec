"""The exceptions that reach a user as a single line, and how such a line counts and lists things."""

import contextlib
import errno
import sys
from collections.abc import Iterable, Iterator
from typing import NoReturn


def fail(message: str) -> NoReturn:
    """Prints one line and exits with code 2."""
    print(f"error: {' '.join(message.splitlines())}", file=sys.stderr, flush=True)
    sys.exit(2)


class UserError(Exception):
    """Bad input. The message says what is wrong, where, and what to do; the binaries print it and exit with code 2."""


class Stopped(Exception):
    """The machine is asked for (SIGTERM): everything is saved; the binaries print this and exit with RESUMABLE."""


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


def plural(count: int, noun: str) -> str:
    """1 row, 2 rows, 1,000 rows."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def some(values: Iterable[str], limit: int = 8) -> str:
    """The values in order, abridged."""
    ordered = sorted(values)
    more = f", ... ({len(ordered)} in all)" if len(ordered) > limit else ""
    return (", ".join(ordered[:limit]) + more) or "none"
