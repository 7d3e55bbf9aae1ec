"""The questions as respondents read them, from what a survey platform exports or from a list of variables.

Read are Qualtrics' .qsf, LimeSurvey's .lss, an XLSForm of KoBoToolbox and ODK (.xlsx), REDCap's data dictionary, and
any CSV file with a row for each variable.
"""

import csv
import dataclasses
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from survey_jax.common.errors import UserError
from survey_jax.common.reading import check_file
from survey_jax.sources.microdata import encodings
from survey_jax.sources.microdata.codes import canonical
from survey_jax.sources.microdata.drafting import platforms
from survey_jax.sources.microdata.drafting.platforms import Asked
from survey_jax.sources.microdata.drafting.seen import plain
from survey_jax.sources.microdata.respondents import Respondents
from survey_jax.survey.text import fold

_LARGEST = 1 << 26  # bytes; a questionnaire is text
_TEXT = (".csv", ".tsv", ".txt")
_READERS: Mapping[str, Callable[[Path], dict[str, Asked]]] = {
    ".qsf": platforms.qualtrics,
    ".lss": platforms.limesurvey,
    ".xlsx": platforms.xlsform,
}
# Names of a CSV's columns, folded. A text under the first of `_ASKED` is the question itself, under `_LABELS` a label.
_NAMES = ("variable / field name", "field_name", "variable", "variable name", "varname", "name", "column",
          "question id", "question_id", "id")  # fmt: skip
_ASKED = ("field label", "field_label", "question", "question text", "question_text", "questiontext", "text", "wording")
_LABELS = ("label", "variable label", "description")
_OPTIONS = ("choices, calculations, or slider labels", "select_choices_or_calculations", "options", "choices", "values",
            "value labels", "value_labels", "codes", "responses", "answers", "categories")  # fmt: skip
_OPTION = re.compile(r"\s*(-?[\w.]+)\s*(?:=|:|,|\)|\t| - )\s*(.+?)\s*", re.DOTALL)


def read_questionnaire(path: Path) -> dict[str, Asked]:
    """Name of a variable -> what was asked.

    Raises:
      UserError: no such file, a kind that cannot be read, damaged, or no questions in it.
    """
    check_file(path)
    suffix = path.suffix.lower()
    if suffix not in (*_READERS, *_TEXT):
        kinds = ", ".join((*_READERS, *_TEXT))
        raise UserError(f"{path}: not a kind of questionnaire that can be read; expected one of {kinds}")
    if path.stat().st_size > _LARGEST:
        raise UserError(f"{path}: has more than {_LARGEST >> 20} MiB, as no questionnaire does")
    asked = _READERS.get(suffix, _table)(path)
    found = {name: Asked(plain(a.text), _plain(a.options), a.verbatim) for name, a in asked.items()}
    found = {name: a for name, a in found.items() if a.text}
    if not found:
        raise UserError(f"{path}: has no questions")
    return found


def with_texts(respondents: Respondents, asked: Mapping[str, Asked]) -> tuple[Respondents, int]:
    """A file with a questionnaire's texts for labels, and how many of its variables these are.

    A questionnaire's options are taken where the file has no labels of its own. Raises UserError where no variable is
    in the questionnaire.
    """
    by_name = {_key(name): a for name, a in asked.items()}
    variables = dict(respondents.variables)
    matched = {name: by_name[_key(name)] for name in variables if _key(name) in by_name}
    if not matched:
        raise UserError(
            f"none of the {len(asked)} questions ({', '.join(list(asked)[:3])}, ...) is a column of {respondents.path} "
            f"({', '.join(list(variables)[:3])}, ...)"
        )
    for name, found in matched.items():
        variable = variables[name]
        values = variable.values or {canonical(code): text for code, text in found.options.items()}
        variables[name] = dataclasses.replace(variable, label=found.text, asked=found.verbatim, values=values)
    return dataclasses.replace(respondents, variables=variables), len(matched)


def _key(name: str) -> str:
    """A variable's name as files differ in it: LimeSurvey's Q1[SQ1] is Q1_SQ1 for SPSS; KoBo's group/q1 is q1."""
    return re.sub(r"[^\w]+", "_", fold(name).split("/")[-1]).strip("_")


def _plain(options: Mapping[str, str]) -> dict[str, str]:
    return {code: text for code, label in options.items() if (text := plain(label))}


def _table(path: Path) -> dict[str, Asked]:
    """A row for each variable: its name, its text, and perhaps its options."""
    rows = _rows(path)
    header = [fold(cell) for cell in rows[0]] if rows else []

    def column(names: Iterable[str]) -> int | None:
        return next((header.index(name) for name in names if name in header), None)

    name, options = column(_NAMES), column(_OPTIONS)
    asked, label = column(_ASKED), column(_LABELS)
    text = label if asked is None else asked
    if name is None or text is None:
        raise UserError(
            f"{path} line 1: needs a column with names of variables ({', '.join(_NAMES[2:5])}, ...) and one with texts "
            f"({', '.join((*_ASKED[2:4], *_LABELS[:1]))}, ...); it has {', '.join(rows[0]) if rows else 'nothing'}"
        )
    found: dict[str, Asked] = {}
    for row in rows[1:]:
        cells = [*row, *[""] * (len(header) - len(row))]
        if cells[name].strip():
            if cells[name].strip() in found:
                raise UserError(f"{path}: has two rows for {cells[name].strip()!r}; keep one")
            listed = _options(cells[options]) if options is not None else {}
            found[cells[name].strip()] = Asked(cells[text], listed, asked is not None)
    return found


def _rows(path: Path) -> list[list[str]]:
    data = path.read_bytes()
    encoding = encodings.declared(data[:4096]) or ("utf-8" if encodings.fits("utf-8", [data]) else None)
    encoding = encoding or next(iter(encodings.guesses(encodings.sample([data]))), "latin1")
    try:
        text = data.decode(encoding).removeprefix("\ufeff")
        first = text.partition("\n")[0]
        delimiter = max(",;\t|", key=first.count)
        return [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(row)]
    except (UnicodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error


def _options(cell: str) -> dict[str, str]:
    """The options in a cell: "1, Yes | 0, No", "1=Yes; 0=No", or a line each. Nothing where they have no codes.

    >>> _options("1, Yes, often | 0, No"), _options("1 = Agree; 2 = Disagree"), _options("sum([a], [b])")
    ({'1': 'Yes, often', '0': 'No'}, {'1': 'Agree', '2': 'Disagree'}, {})
    """
    for separator in ("|", "\n", ";", ","):
        parts: Sequence[str] = [part for part in cell.split(separator) if part.strip()]
        matches = [_OPTION.fullmatch(part) for part in parts]
        if len(parts) > 1 and all(matches):
            return {match[1]: match[2] for match in matches if match}
    return {}
