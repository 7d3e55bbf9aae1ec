"""What a run tells people while it goes on."""

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import rich.progress

T = TypeVar("T")
SECONDS = 10.0  # between two lines of a log
# Control characters but line breaks and tabs, lone surrogates, and what turns the direction of text around.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """A text that does nothing to a terminal but appear: names, questions and paths may hold anything.

    >>> printable("Is \\x1b[2J good?")
    'Is \\\\x1b[2J good?'
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """A text in one line that is `printable`."""
    return printable(" ".join(text.splitlines()))


def track(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    """The items, one by one, with their progress on stdout of process 0: a bar on a terminal, else lines."""
    if sys.stdout.isatty() and is_first():
        yield from rich.progress.track(items, one_line(label), total=total, transient=True)
        return
    start = first = last = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        first = now if number == 1 else first  # the first item may take long, as compiling does: no measure of others
        if now - last >= max(SECONDS, (now - start) / 20):  # of long work no thousand lines
            last = now
            left = f", {duration((now - first) / (number - 1) * (total - number))} left" if number > 1 else ""
            say(f"{label}: {number:,} of {total:,}{left}")


@contextlib.contextmanager
def redirected(descriptor: int, target: int) -> Iterator[None]:
    """Sends what anyone in this process, C++ too, writes to stdout (1) or stderr (2) to another file descriptor."""
    kept = os.dup(descriptor)
    os.dup2(target, descriptor)
    try:
        yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)


def is_first() -> bool:
    """Whether this is process 0, which alone writes logs and reports."""
    jax = sys.modules.get("jax")  # not imported here: commands that need no jax would wait for it
    return jax is None or jax.process_index() == 0


def say(text: str) -> None:
    """A plain line for people, on process 0."""
    if is_first():
        print(printable(text), flush=True)


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, as 1:02:03."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
