"""All that is wrong with one input, told at once."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from survey_jax.common.errors import UserError

T = TypeVar("T")
_TOLD = 20  # problems in full; of the others only the lines
_LINE = re.compile(r"line (\d+)")


class Problems:
    """Collects what is wrong with a file, so that its user can mend all of it before the next try."""

    def __init__(self, path: Path):
        self._path = path
        self._found: dict[str, None] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, message: str) -> None:
        """Keeps a problem, the message of a UserError."""
        self._found[message] = None

    def tried(self, read: Callable[[], T]) -> T | None:
        """What `read` gives; None if it raises a UserError, which is kept."""
        try:
            return read()
        except UserErrors as error:
            self._found |= dict.fromkeys(error.messages)
        except UserError as error:
            self.add(str(error))
        return None

    def check(self) -> None:
        """Raises UserError with all that was kept: if it is one problem, as it was raised."""
        if len(self._found) == 1:
            raise UserError(*self._found)
        if self._found:
            raise UserErrors(self._path, sorted(self._found, key=_line_of))


def _line_of(message: str) -> int:
    found = _LINE.search(message)
    return int(found[1]) if found else 0


class UserErrors(UserError):
    """Several problems of one file in one line, which begins with how many they are."""

    def __init__(self, path: Path, messages: list[str]):
        self.messages = messages
        short = [message.removeprefix(f"{path} ").removeprefix(f"{path}: ") for message in messages]
        lines = [found[1] for message in short[_TOLD:] if (found := _LINE.match(message))]
        more = f"; and {len(short) - _TOLD} more" if len(short) > _TOLD else ""
        where = f", on lines {', '.join(lines)}" if lines else ""
        super().__init__(f"{path}: {len(short)} things to mend: {'; '.join(short[:_TOLD])}{more}{where}")
