"""Reads a published table, from a local file or from the Hugging Face hub, as plain dictionaries."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from survey_jax.common.errors import UserError
from survey_jax.common.reading import check_file
from survey_jax.survey import table_files

SPLIT = "published_split"  # extra key of rows from the hub: the split that they are published under
SUFFIXES = (".csv", ".parquet", ".jsonl", ".json")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def read_rows(source: str, columns: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a CSV (cells stay text; empty ones are ""), Parquet, JSONL or JSON file, or of a hub data set.

    Args:
      source: a path, or where there is no such file a hub id, all of whose splits are taken.
      columns: columns that must be there.

    Raises:
      UserError: there is no such file or data set, it cannot be read, or lacks rows or a column.
    """
    path = Path(source)
    if path.is_file():
        rows = _local(path)
    elif path.exists() or not _HUB_ID.fullmatch(source) or path.suffix in SUFFIXES:
        raise UserError(f"{source}: no such file; give a file ({', '.join(SUFFIXES)}) or a Hugging Face data set id")
    else:
        rows = _hub(source)
    if not rows:
        raise UserError(f"{source}: has no rows")
    if missing := [c for c in columns if c not in rows[0]]:
        raise UserError(f"{source}: has no column {missing[0]!r}; it has {', '.join(map(str, rows[0]))}")
    return rows


def read_csv(path: Path) -> pd.DataFrame:
    """A CSV file as text. Raises UserError."""
    if path.exists():
        check_file(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            names = next(csv.reader(file), [])
        if twice := [name for name in names if name and names.count(name) > 1]:
            raise UserError(f"{path}: its header has two columns named {twice[0]!r}; rename one of them")
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError, csv.Error) as error:  # pandas' own errors are ValueErrors
        raise _unreadable(path, error) from error


def _local(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        return [{str(k): v for k, v in row.items()} for row in read_csv(path).to_dict("records")]
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: expected one of {', '.join(SUFFIXES)}")
    try:
        rows = list(table_files.plain_rows(path))
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError("expected a list of objects")
        return rows
    except table_files.ERRORS as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: cannot be read: {' '.join(str(error).split())}")


def _hub(source: str) -> list[dict[str, Any]]:
    import datasets  # here: it takes three seconds, and only this function needs it

    try:
        splits = datasets.load_dataset(source)
    except Exception as error:  # datasets raises many kinds: no network, no such id, a gate, a loading script
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{source}: is no file here, and the Hugging Face hub did not give it: {reason[:200]}; "
            "download it and give the file's path (docs/data.md says from where)"
        ) from error
    return [{**row, SPLIT: str(name)} for name, rows in splits.items() for row in rows]
