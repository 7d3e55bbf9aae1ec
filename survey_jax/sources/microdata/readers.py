"""Reads files of respondents a column at a time: CSV, Parquet, SPSS, Stata and SAS.

A column is a list of distinct codes (`codes.canonical`) and the code of each respondent: all that counting needs. SPSS,
Stata and SAS files also have labels and declare missing values.
"""

import csv
import dataclasses
import difflib
import functools
import gzip
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pyreadstat
from jaxtyping import Int

from survey_jax.common.errors import UserError
from survey_jax.sources.microdata.codes import canonical, order

_READERS: dict[str, Callable[..., Any]] = {
    ".sav": pyreadstat.read_sav,
    ".zsav": pyreadstat.read_sav,
    ".dta": pyreadstat.read_dta,
    ".sas7bdat": pyreadstat.read_sas7bdat,
    ".xpt": pyreadstat.read_xport,
}
SUFFIXES = (".csv", ".csv.gz", ".parquet", *_READERS)
_LETTERED = (".dta", ".sas7bdat", ".xpt")  # kinds whose missing values are letters: .a to .z
_DATE = re.compile(  # SPSS: ADATE10, SAS: MMDDYY10., Stata: %td
    r"%-?[td].*|[AEJS]?DATE.*|D?(DATE)?TIME.*|(DD|MM|YY)(DD|MM|YY).*|MONYY.*|MOYR.*|QYR.*|WKYR.*|E8601.*|YMDHMS.*"
)
_CELLS_AT_ONCE = 20_000_000  # bounds the memory of reading, at about 40 bytes a cell


class EncodingError(UserError):
    """A file's text is in another encoding than the one tried."""


@dataclasses.dataclass(frozen=True)
class Column:
    """One variable.

    Attributes:
      codes: the distinct codes; a blank one is "".
      index: which code each respondent has; -1 is blank too.
    """

    codes: list[str]
    index: Int[np.ndarray, " respondents"]


@dataclasses.dataclass(frozen=True)
class Variable:
    """What a file says about a variable.

    Attributes:
      label: its description, which is rarely the question as asked.
      values: code -> label.
      scale: "ordinal" or "nominal", where an SPSS file says so.
      declared: ranges of codes that the file declares missing, both ends included; text codes in SPSS have no order.
      date: the file shows its numbers as dates or times.
      lettered: the codes .a to .z (and ._) are missing values, by the kind of file.
    """

    label: str | None = None
    values: Mapping[str, str] = dataclasses.field(default_factory=dict)
    scale: str | None = None
    declared: tuple[tuple[Any, Any], ...] = ()
    lettered: bool = False
    date: bool = False

    def declared_missing(self, code: str) -> bool:
        """Whether the file declares this code to be a missing value."""
        if self.lettered and len(code) == 2 and code[0] == ".":
            return True
        word, number, _ = order(code)
        return any(
            code == canonical(low) if isinstance(low, str) else not word and low <= number <= high
            for low, high in self.declared
        )


@dataclasses.dataclass(frozen=True)
class Respondents:
    """A file of respondents, opened.

    Attributes:
      variables: name -> what the file says about it, in file order.
      comma: decimal commas are to be expected.
      note: something to tell the user about how the file was read.
    """

    path: Path
    variables: Mapping[str, Variable]
    _read: Callable[[Sequence[str]], Iterator[tuple[str, Column]]]
    comma: bool = False
    note: str | None = None

    def find(self, name: str) -> str | None:
        """The variable of this name; failing that, the only one that differs in letter case alone."""
        if name in self.variables:
            return name
        alike = [v for v in self.variables if v.casefold() == name.casefold()]
        return alike[0] if len(alike) == 1 else None

    def require(self, name: str, who: str) -> str:
        """As `find`, but raises UserError if there is none; the message begins with `who` needs the variable."""
        if found := self.find(name):
            return found
        close = difflib.get_close_matches(name, self.variables, n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else f"; it has {len(self.variables)} other columns"
        raise UserError(f"{who}: {self.path} has no column {name!r}{hint}")

    def columns(self, names: Sequence[str]) -> Iterator[tuple[str, Column]]:
        """The named variables, each once, in the order named; only they are read from the file."""
        return self._read(list(dict.fromkeys(names)))

    def column(self, name: str) -> Column:
        """One variable."""
        return next(self.columns([name]))[1]


def open_respondents(path: Path, encoding: str | None = None) -> Respondents:
    """Opens a file by its suffix.

    Args:
      path: one of SUFFIXES.
      encoding: the encoding of its text; None: the one that the file declares, or UTF-8 for CSV.

    Raises:
      UserError: no such file, another kind of file, damaged, no respondents, or text in another encoding.
    """
    suffix = next((s for s in sorted(SUFFIXES, key=len, reverse=True) if path.name.lower().endswith(s)), None)
    if suffix is None:
        raise UserError(f"{path}: not a kind of file that can be read; expected one of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if suffix == ".parquet":
        return _open_parquet(path)
    if suffix in _READERS:
        return _open_statistics(path, suffix, encoding)
    return _open_csv(path, encoding or "utf-8")


def _open_csv(path: Path, encoding: str) -> Respondents:
    """The header decides the delimiter: whichever of comma, semicolon and tab it has most of."""
    try:
        with (
            gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as raw,
            io.TextIOWrapper(raw, encoding=encoding, newline="") as text,
        ):
            line = text.readline().removeprefix("\ufeff")
            second = text.readline()
    except LookupError as error:
        raise UserError(f"{path}: unknown encoding {encoding!r}") from error
    except (OSError, EOFError, UnicodeError) as error:
        raise _unreadable(path, error) from error
    _check_rows(path, len(second))
    delimiter = max(",;\t", key=line.count)
    names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]
    for number, name in enumerate(names, start=1):
        if names.index(name) != number - 1:
            raise UserError(f"{path}: its header has two columns named {name!r}")
    note = None if delimiter == "," else f"read as separated by {'semicolons' if delimiter == ';' else 'tabs'}"

    def read(wanted: Sequence[str]) -> Iterator[tuple[str, Column]]:
        text = pa.dictionary(pa.int32(), pa.string())  # what stands in the file, with no guess of types or of blanks
        try:
            table = pyarrow.csv.read_csv(
                path,
                pyarrow.csv.ReadOptions(encoding=encoding, column_names=names, skip_rows=1, block_size=1 << 23),
                pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                pyarrow.csv.ConvertOptions(include_columns=wanted, column_types=dict.fromkeys(wanted, text)),
            )
        except (pa.ArrowException, OSError, UnicodeError) as error:
            raise _unreadable(path, error) from error
        for name in wanted:
            yield name, _from_arrow(table.column(name).unify_dictionaries().combine_chunks())

    return Respondents(path, {name: Variable() for name in names}, read, delimiter != ",", note)


def _open_parquet(path: Path) -> Respondents:
    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error
    _check_rows(path, file.metadata.num_rows)

    def read(wanted: Sequence[str]) -> Iterator[tuple[str, Column]]:
        for name in wanted:
            try:
                yield name, _from_arrow(file.read(columns=[name]).column(0).combine_chunks())
            except (pa.ArrowException, OSError) as error:
                raise _unreadable(path, error) from error

    variables = {f.name: Variable() for f in file.schema_arrow if not pa.types.is_nested(f.type)}
    return Respondents(path, variables, read)


def _from_arrow(array: pa.Array) -> Column:
    if not isinstance(array, pa.DictionaryArray):
        array = array.dictionary_encode()
    index = array.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    return Column([canonical(value) for value in array.dictionary.to_pylist()], index)


def _open_statistics(path: Path, suffix: str, encoding: str | None) -> Respondents:
    options: dict[str, Any] = {"encoding": encoding, "disable_datetime_conversion": True}
    if suffix != ".xpt":  # missing letters of a transport file come as blanks
        options["user_missing"] = True
    reader = functools.partial(_READERS[suffix], path, **options)
    _, meta = _run(path, functools.partial(reader, metadataonly=True))
    rows = meta.number_rows
    if rows is None:  # a transport file does not say
        rows = len(_run(path, functools.partial(reader, usecols=meta.column_names[:1]))[0])
    _check_rows(path, rows)
    variables = {name: _variable(meta, name, suffix in _LETTERED) for name in meta.column_names}
    text = {name for name, kind in meta.readstat_variable_types.items() if kind == "string"}

    def read(wanted: Sequence[str]) -> Iterator[tuple[str, Column]]:
        size = max(1, _CELLS_AT_ONCE // rows)
        for start in range(0, len(wanted), size):
            frame, _ = _run(path, functools.partial(reader, usecols=wanted[start : start + size]))
            for name in wanted[start : start + size]:
                index, distinct = pd.factorize(frame.pop(name).to_numpy())
                letters = suffix in _LETTERED and name not in text
                yield name, Column([_code(value, letters) for value in distinct.tolist()], index)

    return Respondents(path, variables, read)


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
        raise _unreadable(path, error) from error


def _check_rows(path: Path, rows: int) -> None:
    if not rows:
        raise UserError(f"{path}: has no respondents")


def _unreadable(path: Path, error: Exception) -> UserError:
    cause = " ".join(str(error).split()) or type(error).__name__
    text = any(word in cause.lower() for word in ("utf", "codec", "encoding", "invalid byte"))
    if text:
        hint = "if it is sound, say what its text is with `encoding:` in the codebook, such as latin1"
        return EncodingError(f"{path}: cannot be read: {cause}; {hint}")
    return UserError(f"{path}: cannot be read: {cause}")
