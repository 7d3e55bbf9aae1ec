"""Text files of respondents, a line each: cells between commas, semicolons, tabs or bars.

Encoding, delimiter and header are looked at first, as spreadsheets and survey platforms differ in them; then Arrow
reads the columns that are asked for.
"""

import csv
import io
import itertools
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.csv

from survey_jax.common.errors import UserError, plural
from survey_jax.common.reading import chunks, open_bytes
from survey_jax.sources.microdata import encodings
from survey_jax.sources.microdata.respondents import (
    Column,
    EncodingError,
    Respondents,
    Variable,
    check_rows,
    from_arrow,
    positions,
    say_encoding,
    unreadable,
)

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_DECIMAL_COMMA = (";", "\t")  # what the comma leaves for cells
_OTHER_FILES = {  # how files begin that are no text, whatever their name
    b"PK\x03\x04": "a zip or Excel file",
    b"\x1f\x8b": "a gzip file: let its name end in .gz",
    b"\xd0\xcf\x11\xe0": "an Excel file",
    b"$FL": "an SPSS file: let its name end in .sav",
    b"PAR1": "a Parquet file",
}
_SAMPLE, _RECORDS = 1 << 20, 200  # characters and records by which the delimiter is told
_SEP = re.compile(r'"?sep=([^\w"\r\n])"?(\r?\n|\r|$)')  # the first line of files that Excel is to read
_IMPORT_ID = re.compile(r"""\{["']ImportId["']:.*\}""", re.DOTALL)  # in the cells of the third row of Qualtrics' files


class _Header(NamedTuple):
    """How a file begins.

    Attributes:
      names: of its columns, in order.
      labels: what the header says more of each column, or "".
      lines: lines before the header.
      rows: rows of the header.
      notes: for the user, where the header is not one row of names, or the delimiter no comma.
    """

    delimiter: str
    names: list[str]
    labels: list[str]
    lines: int
    rows: int
    notes: list[str]


def open_delimited(path: Path, encoding: str | None, guess: bool) -> Respondents:
    """Opens a text file of respondents; see `readers.open_respondents`."""
    try:
        found, guessed = (encoding, False) if encoding else _encoding(path, guess)
        with open_bytes(path) as raw, io.TextIOWrapper(raw, encoding=found, newline="") as text:
            start = text.read(_SAMPLE).removeprefix("\ufeff")
            header = _header(path, start, whole=not text.read(1))
    except (OSError, EOFError, UnicodeError, zlib.error, csv.Error) as error:
        raise unreadable(path, error) from error
    places = positions(path, [name.strip() for name in header.names])
    unnamed = len(header.names) - len(places)
    notes = [*header.notes, *([f"{plural(unnamed, 'column')} without a name: not read"] if unnamed else [])]

    def read(wanted: Sequence[str]) -> Iterator[tuple[str, Column]]:
        text = pa.dictionary(pa.int32(), pa.string())  # what stands in the file, with no guess of types or of blanks
        columns = [str(places[name]) for name in wanted]
        try:
            with pa.input_stream(str(path), "gzip" if path.name.lower().endswith(".gz") else None) as raw:
                table = pyarrow.csv.read_csv(
                    raw,
                    pyarrow.csv.ReadOptions(
                        encoding=found,
                        column_names=[str(place) for place in range(len(header.names))],
                        skip_rows=header.lines,
                        skip_rows_after_names=header.rows,
                        block_size=1 << 23,
                    ),
                    pyarrow.csv.ParseOptions(delimiter=header.delimiter, newlines_in_values=True),
                    pyarrow.csv.ConvertOptions(include_columns=columns, column_types=dict.fromkeys(columns, text)),
                )
        except (pa.ArrowException, OSError, UnicodeError) as error:
            raise unreadable(path, error) from error
        for name in wanted:
            yield name, from_arrow(table.column(str(places[name])).unify_dictionaries().combine_chunks())

    variables = {
        name: Variable(label=header.labels[place] or None, asked=bool(header.labels[place]))
        for name, place in places.items()
    }
    comma, recorded = header.delimiter in _DECIMAL_COMMA, found if encoding or guessed else None
    return Respondents(path, variables, read, comma, recorded, guessed, tuple(notes))


def _head(path: Path) -> bytes:
    with open_bytes(path) as file:
        return file.read(1 << 12)


def _encoding(path: Path, guess: bool) -> tuple[str, bool]:
    """The file's encoding, and whether it is a guess. Raises EncodingError where it would have to be."""
    head = _head(path)
    if kind := next((what for start, what in _OTHER_FILES.items() if head.startswith(start)), None):
        raise UserError(f"{path}: is {kind}, not text")
    if found := encodings.declared(head):
        return found, False
    wide = encodings.utf16_without_a_mark(head)
    if not wide and encodings.fits("utf-8", chunks(path)):
        return "utf-8", False
    likely = [wide] if wide else encodings.guesses(encodings.sample(chunks(path)))
    fitting = next((name for name in likely if encodings.fits(name, chunks(path))), None)
    if fitting is None:
        raise EncodingError(f"{path}: is not UTF-8 text, and in none of other encodings; {say_encoding('latin1')}")
    if not guess:
        raise EncodingError(f"{path}: is not UTF-8 text; {say_encoding(f'{fitting}, which it may be')}")
    return fitting, True


def _header(path: Path, start: str, whole: bool) -> _Header:
    """Looks at the first records of a file.

    Args:
      start: the file's first characters.
      whole: they are all that it has.
    """
    given = _SEP.match(start)
    start, lines = (start[given.end() :], 1) if given else (start, 0)
    blank = len(start) - len(start.lstrip("\r\n"))
    start, lines = start[blank:], lines + len(start[:blank].splitlines())
    delimiter = given[1] if given else max(DELIMITERS, key=lambda d: _agreement(start, d, whole))
    if not delimiter.isascii():
        raise UserError(f"{path}: says that its cells are separated by {delimiter!r}; save it with commas")
    records = _records(start, delimiter, whole)
    first, second = (*records, [], [])[:2]
    notes = [] if delimiter == "," else [f"read as separated by {DELIMITERS.get(delimiter, repr(delimiter))}"]
    names, labels, rows = first, [""] * len(first), 1
    if len(records) > 2 and 2 * sum(bool(_IMPORT_ID.fullmatch(cell)) for cell in records[2]) > len(first):
        labels, rows = [text.strip() for text in second], 3
        notes.append("the header has three rows, as Qualtrics writes it; its question texts are taken")
    elif _is_surveymonkey(first, second):
        names, rows = _joined(first, second), 2
        labels = names
        notes.append("the header has two rows, as SurveyMonkey writes it; they are joined")
    if whole:
        check_rows(path, len(records) - rows)
    return _Header(delimiter, names, labels, lines, rows, notes)


def _records(start: str, delimiter: str, whole: bool) -> list[list[str]]:
    """The first records; the last may be cut off, and is left out, unless they are the `whole` file."""
    reader = csv.reader(io.StringIO(start, newline=""), delimiter=delimiter)
    records = list(itertools.islice(reader, _RECORDS))
    return [r for r in (records if whole or len(records) == _RECORDS else records[:-1]) if r]


def _agreement(start: str, delimiter: str, whole: bool) -> tuple[float, int]:
    """How well a delimiter suits: the share of records with as many cells as the first has, and how many these are."""
    try:
        records = _records(start, delimiter, whole)
    except csv.Error:  # with another delimiter, quotes open where none are meant
        return 0.0, 0
    width = len(records[0]) if records else 0
    return (sum(len(r) == width for r in records) / len(records), width) if width > 1 else (0.0, 0)


def _is_surveymonkey(first: Sequence[str], second: Sequence[str]) -> bool:
    """Its first columns are about the response; the second row says "Response" or an option below each question."""
    about = bool(first) and first[0].replace(" ", "").casefold() == "respondentid"
    return about and len(second) == len(first) and not second[0].strip() and any(cell.strip() for cell in second)


def _joined(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """Names of columns: a question stands in the first row, over the first of its columns alone."""
    names, question = [], ""
    for above, below in zip(first, second, strict=True):
        question = above.strip() or question
        part = below.strip()
        alone = part.casefold() in ("", "response", "open-ended response")
        names.append("" if not (above.strip() or part) else question if alone else f"{question} - {part}")
    return names
