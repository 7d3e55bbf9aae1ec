"""Reads the small tables that people write by hand: questions to ask, and groups to ask them of.

A CSV file is separated by commas, in UTF-8, with a header; a JSON Lines file has an object a line, and a JSON file a
list of objects or a line for each.
"""

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from survey_jax.common.errors import UserError
from survey_jax.survey.text import fold

SUFFIXES = (".csv", ".jsonl", ".json")
Row = tuple[str, dict[str, Any]]  # its place, for messages, and its values by column; None where a cell is empty


def read_rows(path: Path) -> list[Row]:
    """Reads a .csv, .jsonl or .json file. The header of a CSV file is row 1, as spreadsheets count.

    Raises:
      UserError: no such file, not of this kind, no rows, or a bad row; names the file, the row and the reason.

    >>> _ = Path("groups.csv").write_text("country,age\\nKenya,18-29\\nPeru,\\n", encoding="utf-8")
    >>> read_rows(Path("groups.csv"))
    [('groups.csv row 2', {'country': 'Kenya', 'age': '18-29'}), ('groups.csv row 3', {'country': 'Peru', 'age': None})]
    """
    text = read_text(path)
    if path.suffix == ".csv":
        return _csv_rows(path, text)
    if path.suffix == ".json" and text.startswith("["):
        return [
            (f"{path} row {n}", _object(f"{path} row {n}", v)) for n, v in enumerate(_json(str(path), text), start=1)
        ]
    places = [(f"{path} row {number}", line) for number, line in enumerate(text.split("\n"), start=1)]
    return [(where, _object(where, _json(where, line))) for where, line in places]


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without blank space at its end. Raises UserError where there is none."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        text = path.read_bytes().decode("utf-8-sig").rstrip()
    except UnicodeError as error:
        raise UserError(f"{path}: is not UTF-8 text; save it as such (spreadsheets call it CSV UTF-8)") from error
    if not text:
        raise UserError(f"{path}: is empty")
    return text


def no_repeats(names: Iterable[str]) -> None:
    """Raises ValueError if two names of columns are the same but for letter case and blank space."""
    seen = set()
    for name in names:
        if fold(name) in seen:
            raise ValueError(f"the column {name!r} is there twice")
        seen.add(fold(name))


def _csv_rows(path: Path, text: str) -> list[Row]:
    try:
        header, *lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    except csv.Error as error:
        raise UserError(f"{path}: not a CSV file: {error}") from error
    header = [name.strip() for name in header]
    if len(header) == 1 and (other := next((c for c in ";\t" if c in header[0]), None)):
        raise UserError(f"{path} row 1: columns are separated by {other!r}; save the file with commas")
    if "" in header:
        raise UserError(f"{path} row 1: column {header.index('') + 1} has no name")
    try:
        no_repeats(header)
    except ValueError as error:
        raise UserError(f"{path} row 1: {error}") from error
    if not lines:
        raise UserError(f"{path}: has a header and no rows")
    rows = []
    for number, cells in enumerate(lines, start=2):
        where = f"{path} row {number}"
        if not any(cell.strip() for cell in cells):
            raise UserError(f"{where}: is empty; delete it")
        if len(cells) != len(header):
            hint = "put quotation marks around texts with commas"
            raise UserError(f"{where}: has {len(cells)} cells for {len(header)} columns; {hint}")
        rows.append((where, {name: cell.strip() or None for name, cell in zip(header, cells, strict=True)}))
    return rows


def _json(where: str, text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_pairs)
    except ValueError as error:
        raise UserError(f"{where}: not JSON: {error}" if text.strip() else f"{where}: is empty; delete it") from error


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, of which json would keep the last of two values of the same name."""
    no_repeats(name for name, _ in pairs)
    return dict(pairs)


def _object(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where}: must be an object with names and values, got {value!r:.60}")
    return value
