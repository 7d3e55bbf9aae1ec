"""Progress of a long loop: a bar on a terminal, a plain line now and then in a log."""

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
