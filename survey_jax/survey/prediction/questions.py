"""Reads the questions to predict: texts and options, answered by nobody yet.

Columns of a .csv, .jsonl or .json file (see `rows`), a question a row:

    question (also: text)       text; the only column that must be there, with the options
    options                     a list of texts, in order, without letters; in one cell separated by | or ;
    option_1, option_2, ...     or a column for each
    question_id (also: id)      text; "q1", "q2", ... by default, by its place in the file
    scale                       "ordinal" | "nominal"
    survey                      text; "new questions" by default
    language                    text

A .yaml file is in the form of a codebook (docs/data.md): `questions` maps ids to `text` (or `question`), `options` and
`scale`, and `survey` and `language` stand at the top. A whole codebook serves: what it says of answers is not needed.
"""

import dataclasses
import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

from survey_jax.common.errors import UserError
from survey_jax.common.yaml_texts import parse_yaml, to_be_written
from survey_jax.survey.prediction.rows import SUFFIXES, Row, read_rows, read_text
from survey_jax.survey.table import Answer, Group, as_text, check_options
from survey_jax.survey.text import fold, wording

SURVEY = "new questions"  # the name of a survey that has none
_YAML = (".yaml", ".yml")
_COLUMNS = ("question", "options", "question_id", "scale", "survey", "language")
_ALIASES = {"text": "question", "id": "question_id"}
_COUNTED = {"counts", "probs", "dist", "n", "n_effective", "group"}  # columns of a survey table
_CODED = {"column", "missing", "not_asked"}  # what a codebook says of a question's answers
_RESPONDENTS = _CODED | {"wave", "source", "about", "weight", "min_n", "encoding", "attributes", "breakdowns"}
_OPTION = re.compile(r"option_([1-9][0-9]?)")
Scale = Literal["ordinal", "nominal"]


@dataclasses.dataclass(frozen=True)
class Question:
    """A question to be asked.

    Attributes:
      options: texts in order, without letters.
      scale: "ordinal" if the options are ordered, "nominal" if not, None if unknown.
    """

    question_id: str
    question: str
    options: tuple[str, ...]
    scale: Scale | None = None
    survey: str = SURVEY
    language: str | None = None

    def put_to(self, group: Group) -> Answer:
        """The question as a row of a survey table. Nobody has answered: its shares are even ones that nothing reads."""
        return Answer(
            survey=self.survey,
            question_id=self.question_id,
            question=self.question,
            options=self.options,
            group=group,
            probs=(1 / len(self.options),) * len(self.options),
            scale=self.scale,
            language=self.language,
        )


def read_questions(path: str | Path) -> list[Question]:
    """Reads and checks a file of questions, in file order.

    Raises:
      UserError: no such file, not of a kind above, no questions, or a bad one; names the file, the row and the reason.

    >>> _ = Path("new.csv").write_text("question,options\\nIs the bus on time?,Always|Mostly|Never\\n")
    >>> (question,) = read_questions("new.csv")
    >>> question.question_id, question.options
    ('q1', ('Always', 'Mostly', 'Never'))
    """
    path = Path(path)
    if path.suffix not in (*SUFFIXES, *_YAML):
        raise UserError(f"{path}: questions are read from {', '.join((*SUFFIXES, *_YAML))} files")
    rows = _yaml_rows(path) if path.suffix in _YAML else read_rows(path)
    if not rows:
        raise UserError(f"{path}: has no questions")
    questions: list[Question] = []
    places: dict[Any, str] = {}  # of ids and wordings
    for number, (where, row) in enumerate(rows, start=1):
        try:
            question = _question(row, f"q{number}")
        except ValueError as error:
            raise UserError(f"{where}: {error}") from error
        answer = question.put_to(())
        for key, what in (
            (answer.question_key, f"the question_id {question.question_id!r} is also that of"),
            (wording(answer), "the same question and options as"),
        ):
            if key in places:
                raise UserError(f"{where}: {what} {places[key]}")
            places[key] = where
        questions.append(question)
    return questions


def _question(row: Mapping[str, Any], default_id: str) -> Question:
    """Raises ValueError with the reason."""
    values: dict[str, Any] = {}
    for column, value in row.items():
        name = _ALIASES.get(fold(column), fold(column))
        _check_column(column, name)
        if name in values:
            raise ValueError(f"gives its {name} twice, once as {column}")
        if value is not None:
            values[name] = value
    scale = values.get("scale")
    if scale not in (None, "ordinal", "nominal"):
        raise ValueError(f'scale must be "ordinal" or "nominal", got {scale!r:.60}')
    question, options = as_text(values.get("question"), "question"), _options(values)
    if unwritten := next((text for text in (question, *options) if to_be_written(text)), None):
        raise ValueError(f"a text is still to be written: {unwritten!r:.60}")
    return Question(
        question_id=as_text(values.get("question_id", default_id), "question_id"),
        question=question,
        options=options,
        scale=cast(Scale | None, scale),
        survey=as_text(values.get("survey", SURVEY), "survey"),
        language=as_text(values["language"], "language") if "language" in values else None,
    )


def _check_column(column: str, name: str) -> None:
    if name in _COUNTED:
        raise ValueError(
            f"{column} is a column of tables of answers, which are compared with predictions by `eval --data`; "
            "a file of questions has none"
        )
    if name not in _COLUMNS and not _OPTION.fullmatch(name):
        close = difflib.get_close_matches(name, (*_COLUMNS, "option_1"), n=1)
        hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(_COLUMNS)}, option_1, option_2, ..."
        raise ValueError(f"unknown column {column!r}; {hint}")


def _options(values: Mapping[str, Any]) -> tuple[str, ...]:
    found = values.get("options")
    numbered = {int(match[1]): value for name, value in values.items() if (match := _OPTION.fullmatch(name))}
    if found is not None and numbered:
        raise ValueError("has options and option_1, option_2, ... too; keep one of them")
    if numbered:
        found = [numbered.get(number) for number in range(1, max(numbered) + 1)]
    elif isinstance(found, str):
        found = _split(found)
    listed = list(found.values()) if isinstance(found, Mapping) else found
    if not isinstance(listed, list):
        raise ValueError("options are missing" if found is None else f"options must be a list, got {found!r:.60}")
    options = tuple(as_text(option, f"option {number}") for number, option in enumerate(listed, start=1))
    if isinstance(found, Mapping):  # codes with the same text are one option, as in a codebook
        options = tuple(dict.fromkeys(options))
    check_options(options)
    return options


def _split(cell: str) -> list[str]:
    """The options of one cell. Raises ValueError where it cannot be known what separates them."""
    separators = [mark for mark in "|;" if mark in cell]
    if not separators:
        raise ValueError(f"options in one cell must be separated by | or ;, got {cell!r:.60}")
    if len(separators) > 1:
        raise ValueError("options hold both | and ;, so that it is unclear which of them separates; use option_1, ...")
    return cell.split(separators[0])


def _yaml_rows(path: Path) -> list[Row]:
    top = parse_yaml(path, read_text(path))
    questions = top.get("questions") if isinstance(top, dict) else None
    if not isinstance(questions, dict):
        raise UserError(f"{path}: needs `questions`, a mapping from ids to text and options, as a codebook has it")
    if unknown := set(top) - {"questions", "survey", "language"} - _RESPONDENTS:
        raise UserError(f"{path}: unknown key {min(unknown)!r}; choose from survey, language, questions")
    common = {key: top[key] for key in ("survey", "language") if key in top}
    rows = []
    for name, entry in questions.items():
        where = f"{path}: questions: {name}"
        if not isinstance(entry, dict):
            raise UserError(f"{where}: must map text and options to their values")
        asked = {key: value for key, value in entry.items() if key not in _CODED}
        if "question_id" in asked:
            raise UserError(f"{where}: has its id as its name; leave question_id out")
        rows.append((where, {"question_id": name} | common | asked))
    return rows
