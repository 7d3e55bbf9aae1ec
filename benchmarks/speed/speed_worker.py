"""The process of a recipe: commands in and replies out, each a line of JSON.

All that libraries print goes to stderr. A reply tells, besides what was asked for, how long the command took and the
process's memory: what it holds, and the most it held since it had loaded.
"""

import ctypes
import gc
import json
import os
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from survey_jax.inputs.prompts import Prompt

_STATUS, _REFERENCED = Path("/proc/self/status"), Path("/proc/self/clear_refs")
CORES = len(os.sched_getaffinity(0))


class Recipe(Protocol):
    """A way to train and to evaluate."""

    def load(self) -> dict[str, Any]:
        """Reads data and weights. Returns what the driver should know of it."""

    def first(self) -> dict[str, Any]:
        """The first step, on the checked rows: "losses" by template, "compile_s", "tokens" (`fingerprint`)."""

    def prepare(self) -> None:
        """Makes what a round needs and `rest` gives up; not timed."""

    def round(self, number: int, steps: int) -> dict[str, Any]:
        """So many steps, or an evaluation: a `speed_data.Round` as a dictionary."""

    def rest(self) -> None:
        """Gives up memory that others may need meanwhile."""


def serve(make: Callable[[dict[str, Any]], Recipe]) -> None:
    """Answers commands until there are no more.

    Args:
      make: of the specification, which is the process's one argument.
    """
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    recipe = make(json.loads(sys.argv[1]))
    loading_peak = 0
    for line in sys.stdin:
        command = json.loads(line)
        begin = time.perf_counter()
        if command["do"] == "load":
            reply = recipe.load()
            loading_peak = memory("VmHWM")
            _REFERENCED.write_text("5")  # the peak starts anew
        elif command["do"] == "first":
            reply = recipe.first()
        else:
            recipe.prepare()
            begin = time.perf_counter()
            reply = recipe.round(command["number"], command["steps"])
        reply |= {"elapsed": time.perf_counter() - begin}
        reply |= {"loading_peak": loading_peak, "peak": memory("VmHWM")}
        recipe.rest()
        give_back()
        replies.write(json.dumps(reply | {"resting": memory("VmRSS")}) + "\n")


def memory(name: str) -> int:
    """Bytes of this process, a field of Linux's /proc/self/status."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def give_back() -> None:
    """Returns freed memory to the system; glibc would keep some."""
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def fingerprint(prompts: Sequence[Prompt]) -> int:
    """Of token ids: whether two recipes ask the same."""
    return zlib.crc32(b"\n".join(p.tokens.tobytes() for p in prompts))


def mean_kl(prompts: Sequence[Prompt], shares: np.ndarray) -> float:
    """Mean KL(target || shares), in nats; shares [n, K] in the order of options."""
    losses = []
    for prompt, row in zip(prompts, shares, strict=True):
        target = np.array(prompt.answer.probs)
        seen = target > 0
        losses.append(np.sum(target[seen] * np.log(target[seen] / row[: len(target)][seen])))
    return float(np.mean(losses))
