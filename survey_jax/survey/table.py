"""The survey table: one row is one question asked of one group, answered with a distribution over the options.

Columns of a file (JSON Lines, optionally gzipped, or Parquet):

    survey, question_id, question   text; together with wave and group they identify the row
    options                         list of option texts, in order, without letters
    group                           attribute -> value, e.g. {"country": "Kenya", "age": "18-29"}
    counts                          respondents per option (may be weighted), or
    probs (also: dist)              share per option; sums to 1; wins over counts where both are given
    n, n_effective                  respondents, and Kish's effective number after weighting
    scale                           "ordinal" | "nominal" (also: ordinal = true | false)
    wave, language, source          text
    any other column                kept in `Answer.extra`
"""

import contextlib
import dataclasses
import datetime
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets

from survey_jax.errors import UserError

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")
MAX_OPTIONS = 26  # one capital letter each
_SUM_TOLERANCE = 1e-3  # published shares are rounded; anything worse is a mistake, not rounding
_COLUMNS = {"survey", "question_id", "question", "options", "group", "counts", "probs", "dist", "n", "n_effective",
            "scale", "ordinal", "wave", "language", "source"}  # fmt: skip

Group = tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Answer:
    """How one group answered one question.

    Attributes:
      group: (attribute, value) pairs, sorted by attribute: the order in a file carries no meaning.
      probs: share per option, in option order; non-negative, sums to 1.
      counts: respondents per option where the source gives them.
      n: respondents behind the distribution (unweighted), where known.
      n_effective: Kish's effective sample size after weighting, where known.
      scale: "ordinal" if the options are ordered, "nominal" if not, None if unknown.
    """

    survey: str
    question_id: str
    question: str
    options: tuple[str, ...]
    group: Group
    probs: tuple[float, ...]
    counts: tuple[float, ...] | None = None
    n: float | None = None
    n_effective: float | None = None
    scale: str | None = None
    wave: str | None = None
    language: str | None = None
    source: str | None = None
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False)

    @property
    def question_key(self) -> tuple[str, str]:
        """What makes a question the same question: its survey and its id."""
        return (self.survey, self.question_id)

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes a row unique in a table."""
        return (self.survey, self.wave, self.question_id, self.group)

    def describe(self) -> str:
        """Names the row in a message."""
        group = ", ".join(f"{a}={v}" for a, v in self.group)
        return f"{self.survey} / {self.question_id} / {group}"


def group_name(group: Group) -> str:
    """A group as plain text, e.g. "Kenya, 18-29"."""
    return ", ".join(value for _, value in group)


def read_table(path: str | Path, question_columns: Sequence[str] = ("question",)) -> list[Answer]:
    """Reads and validates a survey table.

    Args:
      path: a .jsonl, .jsonl.gz or .parquet file.
      question_columns: where the question's wording stands, for files that carry several: the first that a row has.

    Returns:
      The rows, in file order, with `probs` normalised to sum to 1 exactly.

    Raises:
      UserError: no such file, unreadable, no rows, or a bad row; names the file, the row (from 1) and the reason.
    """
    path = Path(path)
    if not str(path).endswith(SUFFIXES):
        raise UserError(f"{path}: not a survey table; expected one of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    builder = "parquet" if path.suffix == ".parquet" else "json"
    try:
        with tempfile.TemporaryDirectory() as cache, _no_bars():
            rows = datasets.load_dataset(
                builder, data_files=str(path), split="train", cache_dir=cache, keep_in_memory=True
            ).to_list()
    except Exception as error:  # datasets raises many kinds; all mean that the file cannot be read as a table
        cause = (str(error.__cause__ or error).strip() or "no rows").splitlines()[0]
        raise UserError(f"{path}: cannot be read as a {builder} table: {cause}") from error
    if not rows:
        raise UserError(f"{path}: has no rows")
    return parse_rows(rows, str(path), question_columns)


def parse_rows(
    rows: Iterable[Mapping[str, Any]], where: str, question_columns: Sequence[str] = ("question",)
) -> list[Answer]:
    """Validates plain dictionaries into `Answer`s; `where` names their origin in messages. Raises UserError."""
    answers: list[Answer] = []
    seen: dict[tuple[Any, ...], int] = {}
    problems: list[str] = []
    for number, row in enumerate(rows, start=1):
        try:
            answer = _parse_row(row, question_columns)
            if answer.key in seen:
                raise ValueError(f"same question and group as row {seen[answer.key]} ({answer.describe()})")
        except ValueError as error:
            problems.append(f"{where} row {number}: {error}")
            continue
        seen[answer.key] = number
        answers.append(answer)
    if problems:
        more = f" (and {len(problems) - 1} more bad rows)" if len(problems) > 1 else ""
        raise UserError(problems[0] + more)
    return answers


def write_table(answers: Sequence[Answer], path: str | Path) -> None:
    """Writes rows in the schema above, as .jsonl, .jsonl.gz or .parquet; `read_table` gives them back."""
    path = Path(path)
    rows = [_row(a) for a in answers]
    table = datasets.Dataset.from_list(rows)
    partial = path.with_name(f".partial-{path.name}")
    with _no_bars():
        if path.suffix == ".parquet":
            table.to_parquet(str(partial))
        elif str(path).endswith((".jsonl", ".jsonl.gz")):
            # datasets writes absent struct fields as null, which read_table takes as absent.
            table.to_json(str(partial), double_precision=15, compression="gzip" if path.suffix == ".gz" else None)
        else:
            raise UserError(f"{path}: tables are written as .jsonl, .jsonl.gz or .parquet")
    partial.replace(path)


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """datasets' own progress bars are noise around reads of a second."""
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _row(answer: Answer) -> dict[str, Any]:
    row = {f.name: getattr(answer, f.name) for f in dataclasses.fields(answer) if f.name != "extra"}
    row["group"] = dict(answer.group)
    return row | dict(answer.extra)


def _parse_row(row: Mapping[str, Any], question_columns: Sequence[str]) -> Answer:
    """One dictionary -> Answer; raises ValueError with the reason."""
    options = tuple(_text(o, "option") for o in _sequence(row, "options"))
    check_options(options)
    raw_group = row.get("group")
    if not isinstance(raw_group, Mapping):
        raise ValueError(f"group must map attributes to values, got {raw_group!r}")
    group = tuple(sorted((str(a), _text(v, f"group[{a}]")) for a, v in raw_group.items() if v is not None))
    if not group:
        raise ValueError("group is empty")
    counts = None
    if row.get("counts") is not None:
        counts = _shares(row, "counts", len(options))
    share_column = next((c for c in ("probs", "dist") if row.get(c) is not None), None)
    if share_column:
        probs = _shares(row, share_column, len(options))
        if abs(math.fsum(probs) - 1) > _SUM_TOLERANCE:
            raise ValueError(f"{share_column} sum to {math.fsum(probs):.4f}, not 1")
    elif counts is not None:
        probs = counts
    else:
        raise ValueError("has neither counts nor probs")
    if math.fsum(probs) <= 0:
        raise ValueError("nobody answered: counts sum to 0")
    wording = next((row[c] for c in question_columns if row.get(c) not in (None, "")), None)
    return Answer(
        survey=_text(row.get("survey"), "survey"),
        question_id=_text(row.get("question_id"), "question_id"),
        question=_text(wording, " / ".join(question_columns)),
        options=options,
        group=group,
        probs=_normalised(probs),
        counts=counts,
        n=_number(row, "n"),
        n_effective=_number(row, "n_effective"),
        scale=_scale(row),
        wave=_optional_text(row, "wave"),
        language=_optional_text(row, "language"),
        source=_optional_text(row, "source"),
        extra={k: v for k, v in row.items() if k not in _COLUMNS and v is not None},
    )


def check_options(options: Sequence[str]) -> None:
    """Raises ValueError with the reason if these texts cannot be the options of one question."""
    if len(options) < 2:
        raise ValueError(f"needs at least two options, has {len(options)}")
    if len(options) > MAX_OPTIONS:
        raise ValueError(f"has {len(options)} options; at most {MAX_OPTIONS} can have a letter")
    folded = [o.casefold() for o in options]
    for i, option in enumerate(folded):
        if option in folded[:i]:
            raise ValueError(f"two equal options: {options[i]!r}")


def _sequence(row: Mapping[str, Any], column: str) -> Sequence[Any]:
    value = row.get(column)
    if not isinstance(value, list | tuple):
        raise ValueError(f"{column} must be a list, got {value!r}")
    return value


def _shares(row: Mapping[str, Any], column: str, length: int) -> tuple[float, ...]:
    values = _sequence(row, column)
    if len(values) != length:
        raise ValueError(f"{column} has {len(values)} values for {length} options")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{column} holds {value!r}, not a number")
        if not math.isfinite(value):
            raise ValueError(f"{column} holds {value}")
        if value < 0:
            raise ValueError(f"{column} holds the negative value {value}")
    return tuple(float(v) for v in values)


def _normalised(probs: Sequence[float]) -> tuple[float, ...]:
    """Sums to 1. Leaves what already does untouched, so that a copy of a table reads back equal."""
    total = math.fsum(probs)
    return tuple(probs) if abs(total - 1) < 1e-12 else tuple(p / total for p in probs)


def _text(value: Any, what: str) -> str:
    if isinstance(value, datetime.datetime):  # datasets reads "2021-03-01" as a date
        value = value.date() if value.time() == datetime.time() else value
    if isinstance(value, bool) or not isinstance(value, str | int | float | datetime.date):
        raise ValueError(f"{what} is missing" if value is None else f"{what} must be text, got {value!r}")
    text = str(value).strip()
    if not text:
        raise ValueError(f"{what} is empty")
    return text


def _optional_text(row: Mapping[str, Any], column: str) -> str | None:
    return None if row.get(column) is None else _text(row[column], column)


def _number(row: Mapping[str, Any], column: str) -> float | None:
    value = row.get(column)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"{column} must be a positive number, got {value!r}")
    return float(value)


def _scale(row: Mapping[str, Any]) -> str | None:
    scale = row.get("scale")
    if scale is None and row.get("ordinal") is not None:
        if not isinstance(row["ordinal"], bool):
            raise ValueError(f"ordinal must be true or false, got {row['ordinal']!r}")
        scale = "ordinal" if row["ordinal"] else "nominal"
    if scale not in (None, "ordinal", "nominal"):
        raise ValueError(f'scale must be "ordinal" or "nominal", got {scale!r}')
    return scale
