"""Files of statistics packages (SPSS, Stata, SAS), read by pyreadstat: labels, missing values, encodings."""

import codecs
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyreadstat

from survey_jax.sources.microdata import encodings
from survey_jax.sources.microdata.codes import canonical
from survey_jax.sources.microdata.respondents import (
    Column,
    EncodingError,
    Respondents,
    Variable,
    check_rows,
    positions,
    unreadable,
)

_READERS: dict[str, Callable[..., Any]] = {
    ".sav": pyreadstat.read_sav,
    ".zsav": pyreadstat.read_sav,
    ".por": pyreadstat.read_por,
    ".dta": pyreadstat.read_dta,
    ".sas7bdat": pyreadstat.read_sas7bdat,
    ".xpt": pyreadstat.read_xport,
}
SUFFIXES = tuple(_READERS)
_NO_MISSING = (".por", ".xpt")  # kinds whose declared missing values come as blanks
_LETTERED = (".dta", ".sas7bdat", ".xpt")  # kinds whose missing values are letters: .a to .z
_DATE = re.compile(  # SPSS: ADATE10, SAS: MMDDYY10., Stata: %td
    r"%-?[td].*|[AEJS]?DATE.*|D?(DATE)?TIME.*|(DD|MM|YY)(DD|MM|YY).*|MONYY.*|MOYR.*|QYR.*|WKYR.*|E8601.*|YMDHMS.*"
)
_UNICODE_STATA = re.compile(rb"<stata_dta><header><release>(11[89]|12\d)<")  # Stata 14 and later write UTF-8
_CELLS_AT_ONCE = 20_000_000  # bounds the memory of reading, at about 40 bytes a cell
_ROWS_TO_GUESS_BY = 20_000


def open_package_file(path: Path, suffix: str, encoding: str | None, guess: bool) -> Respondents:
    """Opens a file of a statistics package; see `readers.open_respondents`."""
    guessed = False
    try:
        if encoding is None and (encoding := _undeclared(path, suffix)):
            guessed = True
        meta, rows, reader = _open(path, suffix, encoding)
    except EncodingError:
        if not guess or encoding is not None:
            raise
        encoding, guessed = _likely(path, suffix), True
        meta, rows, reader = _open(path, suffix, encoding)
    notes = []
    if guessed:
        notes.append(f"the file does not say in which encoding its text is; read as {encoding}, a guess")
    if suffix == ".por":
        notes.append("values that a .por file declares missing are read as blank cells, so as not asked")
    check_rows(path, rows)
    positions(path, meta.column_names)
    variables = {name: _variable(meta, name, suffix in _LETTERED) for name in meta.column_names}
    text = {name for name, kind in meta.readstat_variable_types.items() if kind == "string"}
    narrow = {name for name, kind in meta.readstat_variable_types.items() if kind == "float"}  # of 32 bits

    def read(wanted: Sequence[str]) -> Iterator[tuple[str, Column]]:
        size = max(1, _CELLS_AT_ONCE // rows)
        for start in range(0, len(wanted), size):
            frame, _ = _run(path, functools.partial(reader, usecols=wanted[start : start + size]))
            for name in wanted[start : start + size]:
                index, distinct = pd.factorize(frame[name].to_numpy())
                letters = suffix in _LETTERED and name not in text
                codes = [np.float32(v) if name in narrow and isinstance(v, float) else v for v in distinct.tolist()]
                yield name, Column([_code(code, letters) for code in codes], index)

    return Respondents(path, variables, read, encoding=encoding, guessed=guessed, notes=tuple(notes))


def _open(path: Path, suffix: str, encoding: str | None) -> tuple[Any, int, Callable[..., Any]]:
    """What the file says of itself, its number of respondents, and what reads its columns."""
    options: dict[str, Any] = {"disable_datetime_conversion": True}
    if suffix != ".por":
        options["encoding"] = encoding and _readstat_name(encoding)
    if suffix not in _NO_MISSING:
        options["user_missing"] = True
    reader = functools.partial(_READERS[suffix], path, **options)
    _, meta = _run(path, functools.partial(reader, metadataonly=True))
    rows = meta.number_rows
    if rows is None or rows < 0:  # transport and portable files do not say
        rows = len(_run(path, functools.partial(reader, usecols=meta.column_names[:1]))[0])
    return meta, rows, reader


def _undeclared(path: Path, suffix: str) -> str | None:
    """The encoding of a file that declares none, by its text; None where it declares one, or is all ASCII."""
    if suffix == ".por":
        return None
    with path.open("rb") as file:
        if suffix == ".dta" and _UNICODE_STATA.match(file.read(64)):
            return None
    if suffix in (".sav", ".zsav", ".sas7bdat"):
        found = _run(path, functools.partial(_READERS[suffix], path, metadataonly=True))[1].file_encoding
        if found is not None and found.upper() != "WINDOWS-1252":
            return None
        likely = _likely(path, suffix)  # readstat says Windows-1252 of files that say nothing
        return likely if found is None or likely == "utf-8" else None
    return _likely(path, suffix)


def _likely(path: Path, suffix: str) -> str | None:
    """The likeliest encoding of a file's labels and texts; None where they are ASCII.

    Raises EncodingError where there is none. They are read as Latin 1, which is any bytes, and made bytes again.
    """
    reader = functools.partial(_READERS[suffix], path, encoding="iso-8859-1", disable_datetime_conversion=True)
    meta = _run(path, functools.partial(reader, metadataonly=True))[1]
    texts = [str(label) for labels in meta.variable_value_labels.values() for label in labels.values()]
    texts += [*meta.column_names, *(label or "" for label in meta.column_labels)]
    columns = [name for name, kind in meta.readstat_variable_types.items() if kind == "string"]
    if columns:
        frame, _ = _run(path, functools.partial(reader, usecols=columns, row_limit=_ROWS_TO_GUESS_BY))
        texts += [str(value) for name in columns for value in pd.unique(frame[name])]
    pieces = list(dict.fromkeys(t.encode("iso-8859-1", "ignore") for t in texts if not t.isascii()))
    if not pieces:
        return None
    if all(_is_utf8(piece) for piece in pieces):
        return "utf-8"
    likely = encodings.guesses(encodings.sample(piece + b"\n" for piece in pieces))
    return likely[0] if likely else "iso-8859-1"


def _is_utf8(piece: bytes) -> bool:
    """Whether bytes are UTF-8; old formats cut texts off within a letter."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(piece)
    except UnicodeError:
        return False
    return True


def _readstat_name(encoding: str) -> str:
    """A name of an encoding as iconv has it, which readstat converts by: koi8-r for koi8_r."""
    try:
        name = codecs.lookup(encoding).name
    except (LookupError, ValueError):
        return encoding.replace("\0", "")  # readstat refuses what it does not know
    return {"utf-8-sig": "utf-8", "mac-roman": "macintosh"}.get(name, name.replace("_", "-"))


def _variable(meta: Any, name: str, lettered: bool) -> Variable:
    labels = meta.variable_value_labels.get(name, {})
    measure = meta.variable_measure.get(name)
    is_text = meta.readstat_variable_types.get(name) == "string"
    return Variable(
        label=(meta.column_names_to_labels.get(name) or "").strip() or None,
        values={_code(value, lettered and not is_text): str(label).strip() for value, label in labels.items()},
        scale=measure if measure in ("ordinal", "nominal") else None,
        declared=tuple((r["lo"], r["hi"]) for r in meta.missing_ranges.get(name, ())),
        lettered=lettered and not is_text,
        date=bool(_DATE.fullmatch(meta.original_variable_types.get(name) or "")),
    )


def _code(value: Any, lettered: bool) -> str:
    """pyreadstat gives Stata's .d as "d", in variables that hold numbers otherwise."""
    return canonical(f".{value}" if lettered and isinstance(value, str) and len(value) == 1 else value)


def _run(path: Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (pyreadstat.ReadstatError, pyreadstat.PyreadstatError, UnicodeError, OSError) as error:
        raise unreadable(path, error) from error
