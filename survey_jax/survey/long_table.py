"""A survey table in long form: a line for each option of each row."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from survey_jax.common.errors import UserError
from survey_jax.survey.long_form import OPTION_COLUMNS, Column, check_output, group_columns, group_values, write_long
from survey_jax.survey.table import Answer
from survey_jax.survey.table_files import LONG_SUFFIXES

# `group.ATTRIBUTE` follows `group`, and any other column of the table the last of these.
COLUMNS: Mapping[str, Column] = OPTION_COLUMNS | {
    "share": Column("Share of the option", float),
    "count": Column("Respondents who chose the option, weighted if the source is", float),
    "n": Column("Respondents of the row, unweighted", float),
    "n_effective": Column("Effective number of respondents (Kish)", float),
    "language": Column("Language of the question", str),
    "source": Column("Source", str),
}
_LARGEST = 2**53  # from here on not every integer is a number of SPSS and Stata


def is_long(path: Path) -> bool:
    """Whether a table of this name is written in long form."""
    return path.name.endswith(LONG_SUFFIXES)


def write_long_table(answers: Sequence[Answer], path: Path) -> None:
    """Writes a table as .csv, .sav, .dta or .long.parquet, with the columns of COLUMNS, of attributes, and its own.

    Of the table's own columns, objects become a column for each of their names; lists with a number for each option of
    their row are split over its lines; what else is neither text nor number is JSON. A name that is taken begins with
    "extra.". What is not known is empty.

    Raises:
      UserError: no rows, a path that cannot be written, or a value that the format cannot hold.
    """
    check_output(path, "tables in long form")
    if not answers:
        raise UserError(f"{path}: there are no rows to write")
    fixed: dict[str, Column] = {}
    for name, column in COLUMNS.items():
        fixed |= group_columns(a.group for a in answers) if name == "group" else {name: column}
    own = [_plain(answer.extra) for answer in answers]
    names = _own_names(fixed, own)
    by_option = {name for name in names if _is_by_option(name, answers, own)}
    kinds = {name: _kind(name, own, name in by_option) for name in names}
    columns = fixed | {names[n]: Column(f"Column {n} of the table", kind) for n, kind in kinds.items()}
    write_long(columns, _lines(answers, own, names, kinds, by_option), path)


def _lines(
    answers: Sequence[Answer],
    own: Sequence[Mapping[str, Any]],
    names: Mapping[str, str],
    kinds: Mapping[str, type],
    by_option: set[str],
) -> Iterator[dict[str, Any]]:
    for answer, extra in zip(answers, own, strict=True):
        same = {name: getattr(answer, name) for name in COLUMNS if hasattr(answer, name)} | group_values(answer.group)
        same |= {names[n]: _cell(value, kinds[n]) for n, value in extra.items() if n not in by_option}
        lists = {names[n]: value for n, value in extra.items() if n in by_option}
        for k, option in enumerate(answer.options):
            own_cells = {name: value[k] for name, value in lists.items()}
            count = None if answer.counts is None else answer.counts[k]
            yield (
                same
                | own_cells
                | {
                    "option_number": k + 1,
                    "option": option,
                    "share": answer.probs[k],
                    "count": count,
                }
            )


def _plain(extra: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row's own, with one for each name of an object."""
    plain: dict[str, Any] = {}
    for name, value in extra.items():
        plain |= {f"{name}.{part}": v for part, v in value.items()} if isinstance(value, Mapping) else {name: value}
    return {name: value for name, value in plain.items() if value is not None}


def _own_names(fixed: Mapping[str, Column], own: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Column of the table -> its name in long form."""
    names: dict[str, str] = {}
    for name in dict.fromkeys(name for row in own for name in row):
        free = name
        while free in fixed or free in names.values():
            free = f"extra.{free}"
        names[name] = free
    return names


def _is_by_option(name: str, answers: Sequence[Answer], own: Sequence[Mapping[str, Any]]) -> bool:
    """Whether each row that has the column has a number for each of its options."""
    return all(
        isinstance(row[name], list | tuple)
        and len(row[name]) == len(answer.options)
        and all(value is None or _is_number(value) for value in row[name])
        for answer, row in zip(answers, own, strict=True)
        if name in row
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _kind(name: str, own: Sequence[Mapping[str, Any]], by_option: bool) -> type:
    """What all values of a column are; text where they are not of one kind, or larger than numbers go."""
    found = [row[name] for row in own if name in row]
    if by_option:
        found = [value for values in found for value in values if value is not None]
    if all(isinstance(value, bool) for value in found):
        return bool
    if not all(map(_is_number, found)):
        return str
    if all(isinstance(value, int) for value in found):
        return int if by_option or all(abs(value) <= _LARGEST for value in found) else str
    return float


def _cell(value: Any, kind: type) -> Any:
    """A value of the table's own in a column of a kind."""
    if kind is not str or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)  # dates as they are written
