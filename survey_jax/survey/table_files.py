"""The rows of a table as plain dictionaries, from and to JSON Lines and Parquet; what they mean is known elsewhere."""

import datetime
import gzip
import json
import math
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from survey_jax.common.errors import UserError
from survey_jax.common.reading import check_file, open_bytes, parse_json, parse_list

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")
OUTPUT_SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
LONG_SUFFIXES = (".csv", ".sav", ".dta", ".long.parquet")  # of tables in long form, which are not read back
ERRORS = (pa.ArrowException, OSError, EOFError, zlib.error, KeyError, ValueError)  # of files that cannot be read
_ROWS = 4096  # of a Parquet file that are plain dictionaries at a time
_FLAT = ("group", "about")  # objects that are a Parquet column for each of their names, such as group.age


def read_rows(path: Path) -> Iterator[Any]:
    """The rows of a file, one after the other, in file order.

    Raises:
      UserError: no such file, unreadable, or a name that is there twice.
    """
    check_file(path)
    try:
        yield from plain_rows(path)
    except ERRORS as error:
        kind = "parquet" if path.suffix == ".parquet" else "json"
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: cannot be read as a {kind} table: {cause}") from error


def plain_rows(path: Path) -> Iterator[Any]:
    """As `read_rows`, but raises ERRORS where the file cannot be read."""
    return _parquet_rows(path) if path.suffix == ".parquet" else _json_rows(path)


def _parquet_rows(path: Path) -> Iterator[Any]:
    with pyarrow.parquet.ParquetFile(path) as file:
        _check_names(file.schema_arrow, "")
        for batch in file.iter_batches(_ROWS):
            yield from batch.to_pylist(maps_as_pydicts="strict")


def fold(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with objects in place of the columns that a Parquet file has for each of their names; no absent values.

    What is an object already, as in JSON and in files of older versions, stays as it is.

    >>> fold({"n": 9, "group.age": "18-29", "group.sex": None})
    {'n': 9, 'group': {'age': '18-29'}}
    """
    folded: dict[str, Any] = {}
    for name, value in row.items():
        whole, _, part = name.partition(".") if isinstance(name, str) else (name, "", "")
        if not part or whole not in _FLAT or whole in row:
            folded[name] = value
        elif not absent(value):
            folded.setdefault(whole, {})[part] = value
    return folded


def absent(value: Any) -> bool:
    """None, or the NaN that pandas writes for it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with a column for each name of an object: Arrow would give every object the names of all others, as null.

    Raises ValueError for another column that would be read as a part of an object.
    """
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name.partition(".")[0] in _FLAT and "." in name:
            raise ValueError(f"the column {name!r} would be read as a part of {name.partition('.')[0]}; rename it")
        flat |= {f"{name}.{part}": v for part, v in value.items()} if name in _FLAT else {name: value}
    return flat


def _check_names(fields: pa.Schema | pa.StructType, where: str) -> None:
    """Raises ValueError where two columns, or two parts of one, have the same name: only one would be read."""
    names = Counter(field.name for field in fields)
    if twice := [name for name, n in names.items() if n > 1]:
        raise ValueError(f"the column {where + twice[0]!r} is there twice")
    for field in fields:
        if pa.types.is_struct(field.type):
            _check_names(field.type, f"{where}{field.name}.")


def _json_rows(path: Path) -> Iterator[Any]:
    """Rows of JSON Lines, numbered as the lines are, or of the one list in a .json file. Raises ValueError."""
    with open_bytes(path) as file:
        is_list = path.name.endswith((".json", ".json.gz")) and file.read(64).decode("utf-8-sig", "ignore").lstrip()[:1]
    with open_bytes(path) as file:
        if is_list == "[":
            yield from parse_list(file.read().decode("utf-8-sig"))
            return
        empty = 0
        for number, line in enumerate(file, start=1):
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            if not text.strip():
                empty = empty or number  # a mistake only where something follows
                continue
            if empty:
                raise ValueError(f"line {empty} is empty")
            try:
                yield parse_json(text)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path, types: Mapping[str, pa.DataType]) -> None:
    """Writes rows as Parquet, or else as JSON Lines.

    Args:
      types: of columns of a Parquet file, where they are not to be told by the values.

    Raises:
      TypeError, ValueError, pa.ArrowException: a value that the format cannot hold.
    """
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(_columns([_flat(row) for row in rows], types), path)
    else:
        _write_json(rows, path)


def _write_json(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """JSON Lines, without absent values; numbers in full, so that they read back to the same bits."""
    with path.open("wb") as raw:
        # no name and no time in the header: the same table gives the same bytes
        file = gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) if path.suffix == ".gz" else raw
        for row in rows:
            present = {k: v for k, v in row.items() if v is not None}
            file.write(json.dumps(present, ensure_ascii=False, allow_nan=False, default=_json_value).encode() + b"\n")
        if file is not raw:
            file.close()


def _json_value(value: Any) -> str:
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    raise TypeError(f"JSON has no {type(value).__name__}, which an extra column holds")


def _columns(rows: Sequence[Mapping[str, Any]], types: Mapping[str, pa.DataType]) -> pa.Table:
    """The rows as Arrow columns. Raises ValueError for an extra column whose values have no common type."""
    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(values, types.get(name))
        except (pa.ArrowException, OverflowError) as error:
            raise ValueError(f"the values of column {name!r} are not of one kind: {error}") from error
    return pa.table(columns)
