"""JSON files of a model, read such that nothing in them is overlooked."""

from pathlib import Path
from typing import Any

from survey_jax.common import reading
from survey_jax.common.errors import UserError


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises UserError, as `parse_json`, or if it cannot be read."""
    try:
        return parse_json(path.read_bytes(), str(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def parse_json(content: bytes, where: str) -> Any:
    """What a JSON text holds.

    Args:
      where: the file's name, for messages.

    Raises:
      UserError: it is not JSON, is not UTF-8, is nested too deeply, or has a name twice in one object, of which
        readers take different ones.
    """
    try:
        return reading.parse_json(content.decode("utf-8"))
    except ValueError as error:  # UnicodeDecodeError, too
        raise UserError(f"{where}: not JSON ({error})") from error
