"""Writes forecasts as a table that survey software reads: a line for each option of each question put to each group."""

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pyreadstat

from survey_jax.common.errors import UserError
from survey_jax.common.files import atomic_write
from survey_jax.survey.prediction.forecast import Forecast
from survey_jax.survey.table import group_name

# Column -> what it holds and its kind; `group.ATTRIBUTE` (text) and `member.NAME` (number) follow `group` and
# `nearest_similarity`.
COLUMNS: Mapping[str, tuple[str, type]] = {
    "survey": ("Survey", str),
    "question_id": ("Id of the question", str),
    "question": ("Question", str),
    "group": ("Group", str),
    "option_number": ("Number of the option, from 1", int),
    "option": ("Option", str),
    "share": ("Predicted share of the option", float),
    "low": ("Low end of the share's 95 % interval", float),
    "high": ("High end of the share's 95 % interval", float),
    "low_80": ("Low end of the share's 80 % interval", float),
    "high_80": ("High end of the share's 80 % interval", float),
    "expected_misplaced": ("Of 100 answers, how many are expected to be misplaced", float),
    "worth_interviews": ("How many interviews the prediction is worth", float),
    "kind": ("What the training data knows of question and group", str),
    "nearest_question": ("Question of the training data that reads most like this one", str),
    "nearest_similarity": ("Similarity of the nearest question, from 0 to 1", float),
    "cautions": ("What is unlike anything in the training data", str),
}
_SPSS_BYTES = 32767  # of a text
_SPSS_NAME_BYTES = 64
_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64()}
_PANDAS = {str: "object", int: "int64", float: "float64"}
_SPSS_FORMATS = {str: None, int: "F8.0", float: "F10.4"}
Columns = Mapping[str, tuple[str, type]]
Lines = Sequence[Mapping[str, Any]]


def check_output(path: str | Path) -> None:
    """Raises UserError where `write_forecasts` cannot write; to be called before long work.

    >>> check_output("forecasts.csv")
    """
    path = Path(path)
    if path.suffix not in _WRITERS:
        raise UserError(f"{path}: forecasts are written as {', '.join(_WRITERS)}")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent}: no such folder; make it first")


def write_forecasts(forecasts: Sequence[Forecast], path: str | Path) -> None:
    """Writes forecasts in long form, with the columns of COLUMNS and one for each group attribute and each member.

    What is not known is empty: an attribute that a group has not, a member that was not asked. SPSS names hold no dots,
    so that `group.age` is `group_age` in a .sav file. The file appears in one piece, in place of any of that name.

    Args:
      path: a .csv, .parquet or .sav file.

    Raises:
      UserError: no forecasts, a path that cannot be written, or a text that is too long for SPSS.
    """
    path = Path(path)
    check_output(path)
    if not forecasts:
        raise UserError(f"{path}: there are no forecasts to write")
    columns = _columns(forecasts)
    lines = [line for forecast in forecasts for line in _lines(forecast)]
    with atomic_write(path) as partial:
        _WRITERS[path.suffix](columns, lines, partial)


def _columns(forecasts: Sequence[Forecast]) -> Columns:
    attributes = sorted({attribute for f in forecasts for attribute, _ in f.answer.group})
    members = dict.fromkeys(member for f in forecasts for member in f.members)
    after: dict[str, dict[str, tuple[str, type]]] = {
        "group": {f"group.{a}": (f"Group: {a}", str) for a in attributes},
        "nearest_similarity": {f"member.{m}": (f"Share that {m} predicts", float) for m in members},
    }
    columns: dict[str, tuple[str, type]] = {}
    for name, column in COLUMNS.items():
        columns |= {name: column} | after.get(name, {})
    return columns


def _lines(forecast: Forecast) -> list[dict[str, Any]]:
    """The lines of a forecast, one an option, without what is not known."""
    answer = forecast.answer
    (low, high), (low_80, high_80) = forecast.interval(0.95), forecast.interval(0.8)
    same = {
        "survey": answer.survey,
        "question_id": answer.question_id,
        "question": answer.question,
        "group": group_name(answer.group),
        **{f"group.{attribute}": value for attribute, value in answer.group},
        "expected_misplaced": forecast.misplaced,
        "worth_interviews": float(forecast.concentration),
        "kind": forecast.kind,
        "cautions": "; ".join(forecast.cautions),
    }
    if forecast.similar:
        nearest = forecast.similar[0]
        same |= {"nearest_question": nearest.question.question, "nearest_similarity": float(nearest.similarity)}
    return [
        same
        | {
            "option_number": k + 1,
            "option": option,
            "share": float(forecast.shares[k]),
            "low": float(low[k]),
            "high": float(high[k]),
            "low_80": float(low_80[k]),
            "high_80": float(high_80[k]),
            **{f"member.{name}": float(shares[k]) for name, (_, shares) in forecast.members.items()},
        }
        for k, option in enumerate(answer.options)
    ]


def _write_csv(columns: Columns, lines: Lines, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(lines)


def _write_parquet(columns: Columns, lines: Lines, path: Path) -> None:
    schema = pa.schema([(name, _TYPES[kind]) for name, (_, kind) in columns.items()])
    pyarrow.parquet.write_table(pa.Table.from_pylist(list(lines), schema), path)


def _write_sav(columns: Columns, lines: Lines, path: Path) -> None:
    for line in lines:
        for name, value in line.items():
            if isinstance(value, str) and len(value.encode()) > _SPSS_BYTES:
                raise UserError(
                    f"{line['question_id']}: {name} has {len(value.encode()):,} bytes, of which SPSS holds "
                    f"{_SPSS_BYTES:,}; write .csv or .parquet"
                )
    names = _spss_names(list(columns))
    frame = pd.DataFrame(
        {  # what is not known is a blank text or a missing number
            names[name]: pd.Series([line.get(name, "" if kind is str else None) for line in lines], dtype=_PANDAS[kind])
            for name, (_, kind) in columns.items()
        }
    )
    pyreadstat.write_sav(
        frame,
        path,
        row_compress=True,  # texts are as wide as the longest of them
        column_labels={names[name]: label for name, (label, _) in columns.items()},
        variable_format={names[name]: form for name, (_, kind) in columns.items() if (form := _SPSS_FORMATS[kind])},
    )


def _spss_names(columns: Sequence[str]) -> dict[str, str]:
    """Names for SPSS: letters, digits and underscores; not too long; different in more than letter case.

    >>> _spss_names(["group.age", "group.Age", "member.my model"])
    {'group.age': 'group_age', 'group.Age': 'group_Age_2', 'member.my model': 'member_my_model'}
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for column in columns:
        plain, number = re.sub(r"\W", "_", column), 1
        while (name := _cut(plain, f"_{number}" if number > 1 else "")).casefold() in taken:
            number += 1
        names[column] = name
        taken.add(name.casefold())
    return names


def _cut(text: str, end: str) -> str:
    return text.encode()[: _SPSS_NAME_BYTES - len(end)].decode(errors="ignore") + end


_WRITERS: Mapping[str, Callable[[Columns, Lines, Path], None]] = {
    ".csv": _write_csv,
    ".parquet": _write_parquet,
    ".sav": _write_sav,
}
