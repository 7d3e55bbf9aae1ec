"""What a run tells people while it goes on."""

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import rich.progress

T = TypeVar("T")
SECONDS = 5.0  # between two lines of a log


def track(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    """The items, one by one, with their progress on stdout."""
    if sys.stdout.isatty():
        yield from rich.progress.track(items, label, total=total, transient=True)
        return
    last = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last >= SECONDS:
            last = time.monotonic()
            print(f"{label}: {number} of {total}", flush=True)


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
        print(text, flush=True)


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, as 1:02:03."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
