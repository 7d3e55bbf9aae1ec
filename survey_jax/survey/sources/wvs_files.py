"""Reads the World Values Survey's files: the columns that are wanted, and the texts of questions and options."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyreadstat
import yaml

from survey_jax.errors import UserError

QUESTIONS = tuple(f"Q{n}" for n in range(1, 260))
_SCALES = ("ordinal", "nominal")
_NUMBER = re.compile(r"^Q\d+\w*\s*[:.]?\s*")  # a variable label may start with the variable's name


@dataclasses.dataclass(frozen=True)
class Text:
    """A question's texts. options: code -> text; complete: a code without one is a mistake; else it is its number."""

    question: str
    options: Mapping[int, str]
    scale: str | None = None
    complete: bool = False


@dataclasses.dataclass(frozen=True)
class File:
    """The columns read, and what a .sav says of them: column -> label, column -> code -> label."""

    path: str
    frame: pd.DataFrame
    labels: Mapping[str, str]
    value_labels: Mapping[str, Mapping[float, str]]


def read(source: str, attributes: Sequence[str], weighted: bool) -> File:
    """Reads Q1-Q259, A_YEAR, W_WEIGHT if `weighted`, and those of the `attributes`' columns that are there.

    Raises:
      UserError: no such file, not a CSV or .sav, unreadable, or without questions or weights.
    """
    path = Path(source)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix.lower() not in (".csv", ".sav", ".zsav"):
        raise UserError(f"{path}: expected the survey's .csv or .sav file")
    try:
        file = _read_csv(path, attributes) if path.suffix.lower() == ".csv" else _read_sav(path, attributes)
    except (OSError, ValueError, pyreadstat.ReadstatError) as error:
        raise UserError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    if not set(QUESTIONS) & set(file.frame):
        raise UserError(f"{path}: has none of the columns Q1-Q259; is it the wave 7 file?")
    if weighted and "W_WEIGHT" not in file.frame:
        raise UserError(f"{path}: has no column W_WEIGHT; with --unweighted respondents count alike")
    for column in file.frame.columns.drop("B_COUNTRY_ALPHA", errors="ignore"):
        if not pd.api.types.is_numeric_dtype(file.frame[column]):
            numbers = pd.to_numeric(file.frame[column], errors="coerce")
            bad = file.frame[column][numbers.isna() & file.frame[column].notna()].iloc[0]
            raise UserError(f"{path}: column {column} holds {bad!r}, not a code; use the file with codes, not labels")
    return file


def _wanted(header: Sequence[str], attributes: Sequence[str]) -> list[str]:
    wanted = {*QUESTIONS, "A_YEAR", "W_WEIGHT", *attributes}
    return [c for c in header if c in wanted]


def _read_csv(path: Path, attributes: Sequence[str]) -> File:
    with path.open(encoding="utf-8-sig") as handle:
        first = handle.readline()
    separator = ";" if first.count(";") > first.count(",") else ","
    header = list(pd.read_csv(path, sep=separator, nrows=0, encoding="utf-8-sig"))
    columns = _wanted(header, attributes)
    frame = pd.read_csv(
        path, sep=separator, usecols=columns, encoding="utf-8-sig", keep_default_na=False, na_values=["", " "],
        low_memory=False, decimal="," if separator == ";" else ".",
    )  # fmt: skip
    return File(str(path), frame, {}, {})


def _read_sav(path: Path, attributes: Sequence[str]) -> File:
    _, header = pyreadstat.read_sav(path, metadataonly=True)
    columns = _wanted(header.column_names, attributes)
    # user_missing: the codes of don't know and no answer stay apart from those of not asked.
    frame, meta = pyreadstat.read_sav(path, usecols=columns, user_missing=True)
    labels = {column: label for column, label in meta.column_names_to_labels.items() if label}
    return File(str(path), frame, labels, meta.variable_value_labels)


def texts(file: File, codebook: Path | None) -> dict[str, Text]:
    """Question and option texts: the codebook's, else the .sav's own labels.

    Raises:
      UserError: neither is there, or the codebook is not of the form in docs/sources.md.
    """
    found = {}
    for question in QUESTIONS:
        label = _NUMBER.sub("", file.labels.get(question, "")).strip()
        options = {int(code): str(text).strip() for code, text in file.value_labels.get(question, {}).items()}
        options = {code: text for code, text in options.items() if code >= 0}
        if label and options:
            found[question] = Text(label, options)
    if codebook is not None:
        found |= read_codebook(codebook)
    if not found:
        raise UserError(
            f"{file.path}: has no question texts; give them with --codebook=FILE (docs/sources.md), or use the .sav"
        )
    return found


def read_codebook(path: Path) -> dict[str, Text]:
    """Reads `questions: {Q1: {question: ..., options: {1: ..., 2: ...}, scale: ordinal}}`. Raises UserError."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    questions = content.get("questions") if isinstance(content, dict) else None
    if not isinstance(questions, dict) or not questions:
        raise UserError(f"{path}: expected `questions:` with an entry a question (docs/sources.md)")
    found = {}
    for name, entry in questions.items():
        try:
            found[str(name)] = _entry(str(name), entry)
        except ValueError as error:
            raise UserError(f"{path}: {name}: {error}") from error
    return found


def _entry(name: str, entry: Any) -> Text:
    """One question of the codebook. Raises ValueError with the reason."""
    if name not in QUESTIONS:
        raise ValueError("is not one of Q1-Q259")
    if not isinstance(entry, dict) or not isinstance(entry.get("options"), dict):
        raise ValueError("needs `question:` and `options:` with a text a code")
    if unknown := entry.keys() - {"question", "options", "scale"}:
        raise ValueError(f"unknown key {sorted(map(str, unknown))[0]!r}")
    options = {}
    for code, text in entry["options"].items():
        if isinstance(code, bool) or not isinstance(code, int) or code < 0:
            raise ValueError(f"option code {code!r} is no whole number from 0 up")
        if isinstance(text, bool):
            raise ValueError(f"option {code} is a YAML truth value; write the text in quotes, such as 'Yes'")
        options[code] = str(text if text is not None else "").strip()
    question, scale = str(entry.get("question") or "").strip(), entry.get("scale")
    if not question:
        raise ValueError("needs `question:`, its text")
    if scale is not None and scale not in _SCALES:
        raise ValueError(f"scale must be ordinal or nominal, got {scale!r}")
    return Text(question, options, scale, complete=True)
