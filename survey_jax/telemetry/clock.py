"""Measures how a process spends its time, by activity."""

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import jax

from survey_jax import STARTED

_COMPILED = "/jax/core/compile/backend_compile_duration"  # an event of jax; sent for programs from the cache, too
T = TypeVar("T")
STARTUP, DATA, COMPUTE, EVALUATION, CHECKPOINT, REST = ACTIVITIES = (
    "startup",  # imports, data, weights, restoring, and the first step with its compilation
    "data",  # waiting for a batch
    "compute",  # training steps after the first, until their result is there
    "evaluation",
    "checkpoint",  # as far as training has to wait for it
    "rest",
)


class Clock:
    """Adds up the seconds since `started`, by default the start of the process; each belongs to one of ACTIVITIES.

    Start-up lasts until `begin`, whatever is done meanwhile. After that, a second belongs to the innermost `with
    clock.of(activity)` around it, or to "rest".

    Attributes:
      running: whether start-up is over.
      compiling: seconds of start-up, from `listen` on, in which XLA compiled programs or fetched compiled ones.
    """

    def __init__(self, started: float | None = None) -> None:
        self._seconds = dict.fromkeys(ACTIVITIES, 0.0)
        self._activity, self.running, self.compiling = STARTUP, False, 0.0
        self._mark = STARTED if started is None else started
        self._listens = False

    def listen(self) -> None:
        """From now until `begin`, jax reports here what it compiles."""
        jax.monitoring.register_event_duration_secs_listener(self._heard)
        self._listens = True

    def begin(self) -> None:
        """Ends start-up."""
        if self._listens:
            jax.monitoring.unregister_event_duration_listener(self._heard)
            self._listens = False
        self._switch(REST)
        self.running = True

    @contextlib.contextmanager
    def of(self, activity: str) -> Iterator[None]:
        """Counts the time of the body towards an activity."""
        if not self.running:
            yield
            return
        before = self._switch(activity)
        try:
            yield
        finally:
            self._switch(before)

    def each(self, activity: str, items: Iterable[T]) -> Iterator[T]:
        """Yields the items, and counts the wait for each towards an activity."""
        iterator = iter(items)
        while True:
            with self.of(activity):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def seconds(self) -> dict[str, float]:
        """Seconds by activity so far; they add up to the age of the process."""
        self._switch(self._activity)
        return dict(self._seconds)

    def age(self) -> float:
        """Seconds since the process started."""
        return sum(self.seconds().values())

    def _heard(self, event: str, duration_secs: float, **_: str | int) -> None:
        if event == _COMPILED:
            self.compiling += duration_secs

    def _switch(self, activity: str) -> str:
        now, before = time.monotonic(), self._activity
        self._seconds[before] += now - self._mark
        self._activity, self._mark = activity, now
        return before
