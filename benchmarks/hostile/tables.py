"""Survey tables: every column with every odd value, in JSON Lines and Parquet; broken files of each format."""

import copy
import gzip
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

import tiny
from benchmarks.hostile.judge import Case
from benchmarks.hostile.values import ODD, damaged
from survey_jax.survey.table import read_table

COLUMNS = ("survey", "wave", "question_id", "question", "options", "scale", "ordinal", "ordinal_values", "group",
           "counts", "probs", "n", "n_effective", "language", "source", "about", "extra")  # fmt: skip
ROW = 3  # that has the odd value
IN_PARQUET = ("null", "half a character", "empty list", "not a number", "huge number")


def cases(rng: random.Random) -> Iterator[Case]:
    """All cases; the file is read by `prepare --source=table`, which checks it and writes what it has read."""
    for column in COLUMNS:
        for what, value in ODD.items():
            yield _case(f"{column} is {what}", lambda folder, c=column, v=value: _jsonl(folder, {c: v}))
            if what in IN_PARQUET:
                name = f"{column} is {what} in Parquet"
                yield _case(name, lambda folder, c=column, v=value: _parquet(folder, {c: v}))
    for place in ("an option", "a group's value", "a group's attribute", "a count", "a share"):
        for what, value in ODD.items():
            yield _case(f"{place} is {what}", lambda folder, p=place, v=value: _jsonl(folder, _inside(p, v)))
    lines = "".join(json.dumps(row) + "\n" for row in _rows()).encode()
    formats = {".jsonl": lines, ".jsonl.gz": gzip.compress(lines), ".json": json.dumps(_rows()).encode()}
    for suffix, content in formats.items():
        for what, changed in damaged(content, rng, 6):
            yield _case(f"{suffix}: {what}", lambda folder, s=suffix, b=changed: _file(folder / f"table{s}", b))
    for what, line in _odd_lines().items():
        yield _case(what, lambda folder, b=line: _file(folder / "table.jsonl", lines + b + b"\n"))
    for suffix in (".jsonl", ".parquet", ".jsonl.gz"):
        yield _case(f"{suffix} is a folder", lambda folder, s=suffix: _folder(folder / f"table{s}"))
        yield _case(f"{suffix} is a pipe", lambda folder, s=suffix: _pipe(folder / f"table{s}"))
    yield _case("unpacks to a thousand times its size", _bomb)


def _case(name: str, make: Any) -> Case:
    """`make` writes the table and returns its path."""
    table: list[Path] = []

    def flags(folder: Path) -> list[str]:
        table.append(make(folder))
        return ["--source=table", f"--input={table[-1]}", "--output={output}.jsonl"]

    return Case(f"table: {name}", "prepare", flags, lambda output: _right(table[-1], Path(f"{output}.jsonl")))


def _right(table: Path, output: Path) -> str:
    """What was read must be what a plain reader of JSON finds, row by row; Parquet is held to its number of rows."""
    found = {(a.survey, a.question_id, a.wave, a.group): a for a in read_table(output)}
    if table.suffix == ".parquet":
        expected = pyarrow.parquet.read_metadata(table).num_rows
        return "" if len(found) == expected else f"{len(found)} rows of {expected}"
    raw = gzip.decompress(table.read_bytes()) if table.suffix == ".gz" else table.read_bytes()
    text = raw.decode("utf-8-sig")
    rows = json.loads(text) if table.suffix == ".json" else [json.loads(x) for x in text.splitlines() if x.strip()]
    if len(found) != len(rows):
        return f"{len(found)} rows of {len(rows)}"
    for row in rows:
        group = tuple(sorted((str(k), str(v)) for k, v in row["group"].items()))
        answer = next((a for key, a in found.items() if key[1] == str(row["question_id"]) and key[3] == group), None)
        if answer is None:
            return f"{row['question_id']} of {group} is not there"
        if len(answer.options) != len(row["options"]):
            return f"options {answer.options}, not {row['options']}"
        weights = row.get("probs") or row.get("dist") or row["counts"]
        total = sum(weights)
        if any(abs(p - w / total) > 1e-3 for p, w in zip(answer.probs, weights, strict=True)):
            return f"shares {answer.probs}, not those of {weights}"
    return ""


def _rows() -> list[dict[str, Any]]:
    return tiny.rows(questions=2, groups=["Kenya", "Peru", "Japan"])


def _inside(place: str, value: Any) -> dict[str, Any]:
    """The changes that put a value inside a column."""
    row = copy.deepcopy(_rows()[ROW])
    if place == "an option":
        row["options"][0] = value
    elif place == "a group's value":
        row["group"] = {"country": value}
    elif place == "a group's attribute":
        row["group"] = {value if isinstance(value, str) else json.dumps(value): "x"}
    elif place == "a count":
        row["counts"][1] = value
    else:
        shares = [1 / len(row["options"])] * len(row["options"])
        return {"probs": [value, *shares[1:]]}
    return row


def _jsonl(folder: Path, changes: dict[str, Any]) -> Path:
    rows = _rows()
    rows[ROW] |= changes
    return _file(folder / "table.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())


def _parquet(folder: Path, changes: dict[str, Any]) -> Path:
    """Where Parquet cannot hold the value beside the other rows' (another type), all rows have it."""
    rows = _rows()
    path = folder / "table.parquet"
    try:
        table = pa.Table.from_pylist([row | (changes if i == ROW else {}) for i, row in enumerate(rows)])
    except (pa.ArrowException, UnicodeError):
        try:
            table = pa.Table.from_pylist([row | changes for row in rows])
        except (pa.ArrowException, UnicodeError):  # no Parquet file can hold it
            return _jsonl(folder, changes)
    pyarrow.parquet.write_table(table, path)
    return path


def _odd_lines() -> dict[str, bytes]:
    """Lines that are no row, or one that says a thing twice."""
    row = _rows()[0] | {"question_id": "last"}
    text = json.dumps(row)
    return {
        "a key twice": text.replace('"survey":', '"survey": "Other", "survey":', 1).encode(),
        "a key of the group twice": text.replace('"country":', '"country": "Peru", "country":', 1).encode(),
        "a row twice": json.dumps(_rows()[0]).encode(),
        "nested too deep": b'{"survey": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "an extra column nested too deep": text[:-1].encode() + b', "x": ' + b'{"a":' * 5000 + b"1" + b"}" * 5001,
        "a number of 10,000 digits": text.replace('"counts": [', '"counts": [' + "9" * 10_000 + ", ", 1).encode(),
        "a list": b"[1, 2]",
        "a word": b"hello",
        "two rows on a line": (text + text).encode(),
        "a comma at the end": (text + ",").encode(),
        "single quotes": text.replace('"', "'").encode(),
        "Latin-1": json.dumps(row | {"question": "Está bien?"}, ensure_ascii=False).encode("latin-1"),
        "UTF-16": text.encode("utf-16"),
        "NUL bytes": text.encode().replace(b" ", b"\0"),
    }


def _file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _bomb(folder: Path) -> Path:
    return _file(folder / "table.jsonl.gz", gzip.compress(json.dumps(_rows()[0]).encode() + b" " * 400_000_000))
