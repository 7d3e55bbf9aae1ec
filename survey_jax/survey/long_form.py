"""Writes results for other programs, in long form: a line for each option of each row, in columns of plain values.

CSV and Parquet have the columns' names as they are. SPSS (.sav) and Stata (.dta) hold fewer names and shorter texts,
and have labels beside them. Long form is for output: it is not read back.
"""

import csv
import dataclasses
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pyreadstat

from survey_jax.common.console import say
from survey_jax.common.errors import UserError
from survey_jax.common.files import atomic_write
from survey_jax.survey.table import Group, group_name

YES_NO: dict[int | float, str] = {1: "yes", 0: "no"}  # value labels of bool


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of the long form.

    Attributes:
      label: what it holds, in words.
      kind: of its values: str, int, float or bool.
      codes: of text, where a fixed list has all there are: SPSS and Stata then hold numbers from 1, and the texts as
        value labels. Other texts stay texts: numbers that are given file by file would not mean the same in two files.
    """

    label: str
    kind: type
    codes: tuple[str, ...] = ()

    @property
    def value_labels(self) -> dict[int | float, str]:
        return YES_NO if self.kind is bool else dict(enumerate(self.codes, start=1))


# What says which option of which row a line is about; `group.ATTRIBUTE` follows `group`.
OPTION_COLUMNS = {
    "survey": Column("Survey", str),
    "wave": Column("Wave of the survey", str),
    "question_id": Column("Id of the question", str),
    "question": Column("Question", str),
    "scale": Column("Whether options are ordered", str, ("nominal", "ordinal")),
    "group": Column("Group", str),
    "option_number": Column("Number of the option, from 1", int),
    "option": Column("Option", str),
}
Columns = Mapping[str, Column]
Lines = Iterable[Mapping[str, Any]]


class Program(NamedTuple):
    """What a program's files can hold, measured by `size`."""

    name: str
    size: Callable[[str], int]
    longest_name: int
    longest_label: int
    longest_text: int  # bytes


SPSS = Program("SPSS", lambda text: len(text.encode()), 64, 256, 32767)
STATA = Program("Stata", len, 32, 80, 2_000_000_000)  # texts of more than 2,045 bytes are strL
_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
_SPSS_FORMATS = {int: "F8.0", float: "F10.4", bool: "F8.0"}
_RESERVED = {  # words that SPSS or Stata does not take for a variable
    *("all", "and", "by", "eq", "ge", "gt", "le", "lt", "ne", "not", "or", "to", "with"),
    *("byte", "double", "float", "if", "in", "int", "long", "strl", "using"),
}


def check_output(path: str | Path, what: str) -> None:
    """Raises UserError where `write_long` cannot write; to be called before long work.

    Args:
      what: is to be written, in the plural.

    >>> check_output("shares.csv", "shares")
    """
    path = Path(path)
    if path.suffix not in _WRITERS:
        raise UserError(f"{path}: {what} are written as {', '.join(_WRITERS)}")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent}: no such folder; make it first")


def write_long(columns: Columns, lines: Lines, path: str | Path) -> None:
    """Writes lines as .csv, .parquet, .sav or .dta. What a line does not have is empty.

    Names that SPSS or Stata cannot hold are changed: dots and blanks become underscores, long ones are shortened, and
    numbers tell apart what would be the same. Names that differ in more than underscores are told in a note, and so are
    labels that are shortened. The file appears in one piece, in place of any of that name.

    Raises:
      UserError: a path that cannot be written, or a value that the format cannot hold.

    >>> columns = {"group.age": Column("Group: age", str), "share": Column("Share", float)}
    >>> write_long(columns, [{"group.age": "18-29", "share": 0.25}], "shares.dta")
    >>> pyreadstat.read_dta("shares.dta")[0]["group_age"].tolist()
    ['18-29']
    """
    path = Path(path)
    try:
        with atomic_write(path) as partial:
            _WRITERS[path.suffix](columns, lines, partial)
    except (pa.ArrowException, pyreadstat.PyreadstatError, pyreadstat.ReadstatError, ValueError) as error:
        raise UserError(f"{path}: cannot be written: {' '.join(str(error).split())}") from error
    if program := {".sav": SPSS, ".dta": STATA}.get(path.suffix):
        for note in _notes(columns, program):
            say(f"note: {path}: {note}")


def group_columns(groups: Iterable[Group]) -> dict[str, Column]:
    """The columns that tell of groups: `group` in words, and one for each attribute."""
    attributes = sorted({attribute for group in groups for attribute, _ in group})
    return {"group": Column("Group", str)} | {f"group.{a}": Column(f"Group: {a}", str) for a in attributes}


def group_values(group: Group) -> dict[str, str]:
    """The values of a group in the columns of `group_columns`."""
    return {"group": group_name(group)} | {f"group.{attribute}": value for attribute, value in group}


def variable_names(columns: Iterable[str], program: Program) -> dict[str, str]:
    """Names that a program can hold: letters, digits and underscores; not too long; different in more than letter case.

    >>> variable_names(["group.age", "group.Age", "2nd wave", "by"], STATA)
    {'group.age': 'group_age', 'group.Age': 'group_Age_2', '2nd wave': 'v_2nd_wave', 'by': 'by_'}
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for column in columns:
        plain, number = re.sub(r"\W", "_", unicodedata.normalize("NFKC", column)), 1
        plain = plain if plain[:1].isalpha() else f"v_{plain}"
        plain += "_" if plain.casefold() in _RESERVED else ""
        while (name := _cut(plain, f"_{number}" if number > 1 else "", program)).casefold() in taken:
            number += 1
        names[column] = name
        taken.add(name.casefold())
    return names


def _cut(text: str, end: str, program: Program) -> str:
    while program.size(text + end) > program.longest_name:
        text = text[:-1]
    return text + end


def _labels(columns: Columns, program: Program) -> dict[str, str]:
    """The label of each column, cut to what the program holds."""
    labels = {}
    for name, column in columns.items():
        label = column.label[: program.longest_label]
        while program.size(label) > program.longest_label:
            label = label[:-1]
        labels[name] = label
    return labels


def _notes(columns: Columns, program: Program) -> list[str]:
    """What of names and labels the program cannot hold."""
    names, labels = variable_names(columns, program), _labels(columns, program)
    changed = [f"{column} is {name}" for column, name in names.items() if name != re.sub(r"\W", "_", column)]
    cut = [f"{names[name]} ({column.label})" for name, column in columns.items() if labels[name] != column.label]
    notes = [f"names that {program.name} cannot hold: {'; '.join(changed)}"] if changed else []
    return notes + ([f"labels that {program.name} holds the start of: {'; '.join(cut)}"] if cut else [])


def _write_csv(columns: Columns, lines: Lines, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(lines)


def _write_parquet(columns: Columns, lines: Lines, path: Path) -> None:
    values = _values(columns, lines)
    arrays = [pa.array(values[name], _TYPES[column.kind]) for name, column in columns.items()]
    pyarrow.parquet.write_table(pa.table(arrays, list(columns)), path)


def _write_sav(columns: Columns, lines: Lines, path: Path) -> None:
    names, labels = variable_names(columns, SPSS), _labels(columns, SPSS)
    pyreadstat.write_sav(
        _frame(columns, lines, SPSS),
        path,
        row_compress=True,  # texts are as wide as the longest of them
        column_labels={names[name]: label for name, label in labels.items()},
        variable_value_labels={names[name]: c.value_labels for name, c in columns.items() if c.value_labels},
        variable_format={names[n]: _SPSS_FORMATS[c.kind] for n, c in columns.items() if c.kind is not str},
        variable_measure={names[name]: _measure(column) for name, column in columns.items()},
    )


def _measure(column: Column) -> str:
    return "nominal" if column.kind in (str, bool) or column.codes else "scale"


def _write_dta(columns: Columns, lines: Lines, path: Path) -> None:
    names, labels = variable_names(columns, STATA), _labels(columns, STATA)
    _frame(columns, lines, STATA).to_stata(
        path,
        write_index=False,
        version=118,  # of Stata 14, which was the first to hold texts in any language
        variable_labels={names[name]: label for name, label in labels.items()},
        value_labels={names[name]: c.value_labels for name, c in columns.items() if c.value_labels},
    )


def _values(columns: Columns, lines: Lines) -> dict[str, list[Any]]:
    values: dict[str, list[Any]] = {name: [] for name in columns}
    for line in lines:
        for name, column in values.items():
            column.append(line.get(name))
    return values


def _frame(columns: Columns, lines: Lines, program: Program) -> pd.DataFrame:
    """The lines under the program's names; what is not known is a blank text or a missing number."""
    names, series = variable_names(columns, program), {}
    for name, values in _values(columns, lines).items():
        column = columns[name]
        if column.kind is str and not column.codes:
            _check_texts(name, values, program)
            series[names[name]] = pd.Series(["" if value is None else value for value in values], dtype="object")
            continue
        if column.codes:
            codes = {text: code for code, text in column.value_labels.items()}
            values = [None if value is None else codes[value] for value in values]
        whole = column.kind is not float and None not in values
        series[names[name]] = pd.Series(values, dtype="int64" if whole else "float64")
    return pd.DataFrame(series)


def _check_texts(name: str, values: Iterable[str | None], program: Program) -> None:
    """Raises ValueError for a text that the program would cut off."""
    for text in {value for value in values if value}:
        beginning = f"{name} ({text[:40]!r} ...)"
        if (size := len(text.encode())) > program.longest_text:
            raise ValueError(
                f"{beginning} has {size:,} bytes, of which {program.name} holds {program.longest_text:,}; write .csv "
                "or .parquet"
            )
        if "\0" in text:
            raise ValueError(f"{beginning} holds a null character, where {program.name} ends a text; write .parquet")


_WRITERS: Mapping[str, Callable[[Columns, Lines, Path], None]] = {
    ".csv": _write_csv,
    ".parquet": _write_parquet,
    ".sav": _write_sav,
    ".dta": _write_dta,
}
