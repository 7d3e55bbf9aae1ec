"""Importing a library without what it imports in turn, where that is slow and not needed."""

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def without(module: str) -> Iterator[None]:
    """Inside, `module` counts as not installed, unless it has been imported already.

    For imports alone: some libraries look at sys.modules later, and trip over an entry that stays.
    """
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # as importlib has it: not to be found
    try:
        yield
    finally:
        del sys.modules[module]
