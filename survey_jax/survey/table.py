"""The survey table: one row is one question asked of one group, answered with a distribution over the options.

Columns of a file (JSON Lines, optionally gzipped, or Parquet):

    survey, question_id, question   text; together with wave and group they identify the row
    options                         list of option texts, in order, without letters
    group                           attribute -> value, e.g. {"country": "Kenya", "age": "18-29"}; in Parquet a column
                                    for each attribute, as group.country: null where a group does not have it
    counts                          respondents per option (may be weighted), or
    probs (also: dist)              share per option; sums to 1; wins over counts where both are given
    n, n_effective                  respondents, and Kish's effective number after weighting
    scale                           "ordinal" | "nominal" (also: ordinal = true | false)
    wave, language, source          text
    about                           name -> text, what the report discloses of the survey: sponsor, population, sample,
                                    mode, fieldwork, url, ...; kept in `Answer.extra`; in Parquet about.sponsor etc.
    any other column                kept in `Answer.extra`
"""

import dataclasses
import datetime
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow as pa

from survey_jax.common.buckets import local_file
from survey_jax.common.errors import UserError
from survey_jax.common.files import atomic_write
from survey_jax.survey.bad_rows import BadRows, Reasons
from survey_jax.survey.table_files import LONG_SUFFIXES, OUTPUT_SUFFIXES, SUFFIXES, absent, fold, read_rows, write_rows

DEMO = str(resources.files("survey_jax") / "data" / "demo.jsonl.gz")  # the table that comes with the package
ABOUT = "about"  # extra column
MAX_OPTIONS = 26  # one capital letter each
_LARGEST = 1e12  # respondents, weighted or not: more than there are people, and sums and squares stay numbers
_SMALLEST = 1e-9  # an effective number of respondents, of which reciprocals stay numbers
_DEPTH = 16  # of lists and objects within an extra column
_SUM_TOLERANCE = 1e-3  # published shares are rounded; anything worse is a mistake, not rounding
_COLUMNS = {"survey", "question_id", "question", "options", "group", "counts", "probs", "dist", "n", "n_effective",
            "scale", "ordinal", "wave", "language", "source"}  # fmt: skip
_TEXTS, _NUMBERS = pa.list_(pa.string()), pa.list_(pa.float64())
_TYPES = {"options": _TEXTS, "probs": _NUMBERS, "counts": _NUMBERS, "n": pa.float64(), "n_effective": pa.float64()}

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
    """A group as plain text.

    >>> group_name((("age", "18-29"), ("country", "Kenya")))
    '18-29, Kenya'
    """
    return ", ".join(value for _, value in group)


def read_table(
    path: str | Path, question_columns: Sequence[str] = ("question",), dropped: Counter[str] | None = None
) -> list[Answer]:
    """Reads and validates a survey table.

    Args:
      path: a .jsonl, .jsonl.gz or .parquet file, here or in a bucket (gs://, s3://).
      question_columns: where the question's wording stands, for files that carry several: the first that a row has.
      dropped: where given, bad rows are left out, and counted in it by reason.

    Returns:
      The rows, in file order, with `probs` normalised to sum to 1 exactly.

    Raises:
      UserError: no such file, unreadable, no rows, or (`BadRows`) a bad row; names the file, the row (from 1) and the
        reason.

    >>> rows = read_table(DEMO)
    >>> rows[0].question_id, rows[0].options, rows[0].n
    ('gss_natspac', ('Too much', 'About the right amount', 'Too little'), 2086.0)
    """
    where = str(path)
    if where.endswith(LONG_SUFFIXES):
        raise UserError(
            f"{where}: not a survey table, but results in long form, which are not read back, or a file of "
            "respondents, of which survey_jax.prepare makes a table; give a .parquet or .jsonl table"
        )
    if not where.endswith(SUFFIXES):
        raise UserError(f"{where}: not a survey table; expected one of {', '.join(SUFFIXES)}")
    file = local_file(where) if "://" in where else Path(path)
    answers = parse_rows(read_rows(file), where, question_columns, dropped)
    if not answers:
        raise UserError(f"{where}: has no rows" + (" that are not bad" if dropped else ""))
    return answers


def parse_rows(
    rows: Iterable[Any],
    where: str,
    question_columns: Sequence[str] = ("question",),
    dropped: Counter[str] | None = None,
) -> list[Answer]:
    """Makes `Answer`s of plain dictionaries. Raises BadRows, which begins with `where`, for rows that are not valid.

    `dropped` is as for `read_table`.

    >>> row = {"survey": "Town", "question_id": "q1", "question": "Fair?", "options": ["Yes", "No"]}
    >>> (answer,) = parse_rows([row | {"group": {"age": "18-29"}, "counts": [30, 10]}], "my rows")
    >>> answer.probs
    (0.75, 0.25)
    """
    answers: list[Answer] = []
    seen: dict[tuple[Any, ...], int] = {}
    reasons = Reasons()
    for number, row in enumerate(rows, start=1):
        try:
            answer = _parse_row(row, question_columns)
            if answer.key in seen:
                raise ValueError(f"same question and group as row {seen[answer.key]} ({answer.describe()})")
        except (ValueError, OverflowError, RecursionError) as error:
            reasons.add(number, error)
            continue
        seen[answer.key] = number
        answers.append(answer)
    if dropped is not None:
        dropped.update(reasons.counts())
    elif reasons.found:
        raise BadRows(reasons.describe(where))
    return answers


def write_table(answers: Sequence[Answer], path: str | Path) -> None:
    """Writes rows in the schema above, as .jsonl, .jsonl.gz or .parquet; `read_table` gives them back.

    The file appears in one piece, in place of any of that name.

    Raises:
      UserError: no rows, a path that cannot be written, or an extra column that the format cannot hold.

    >>> rows = read_table(DEMO)[:100]
    >>> write_table(rows, "first_hundred.parquet")
    >>> read_table("first_hundred.parquet") == rows
    True
    """
    path = Path(path)
    check_output(path)
    if not answers:
        raise UserError(f"{path}: there are no rows to write")
    try:
        with atomic_write(path) as partial:
            write_rows([_row(answer) for answer in answers], partial, _TYPES)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise UserError(f"{path}: cannot be written: {' '.join(str(error).split())}") from error


def check_output(path: Path) -> None:
    """Raises UserError where `write_table` cannot write; to be called before long work."""
    if not path.name.endswith(OUTPUT_SUFFIXES):
        raise UserError(
            f"{path}: tables are written as .jsonl, .jsonl.gz or .parquet; in long form as {', '.join(LONG_SUFFIXES)}"
        )
    if not path.parent.is_dir():
        raise UserError(f"{path.parent}: no such folder; make it first")


def _row(answer: Answer) -> dict[str, Any]:
    row = {f.name: getattr(answer, f.name) for f in dataclasses.fields(answer) if f.name != "extra"}
    row["group"] = dict(answer.group)
    return row | dict(answer.extra)


def _parse_row(row: Any, question_columns: Sequence[str]) -> Answer:
    """One dictionary -> Answer; raises ValueError with the reason."""
    if not isinstance(row, Mapping):
        raise ValueError(f"a row must be an object with names and values, got {row!r:.60}")
    row = fold(row)
    options = tuple(as_text(o, "option") for o in _sequence(row, "options"))
    check_options(options)
    raw_group = row.get("group")
    if not isinstance(raw_group, Mapping):
        raise ValueError(f"group must map attributes to values, got {raw_group!r}")
    # Older Parquet files have null for attributes of other rows.
    given = [(a, v) for a, v in raw_group.items() if v is not None]
    group = tuple(sorted((as_text(a, "an attribute of group"), as_text(v, f"group[{a}]")) for a, v in given))
    if not group:
        raise ValueError("group is empty")
    if len({" ".join(name.casefold().split()) for name, _ in group}) < len(group):
        raise ValueError(f"group has an attribute twice: {', '.join(name for name, _ in group)}")
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
        raise ValueError(
            "has neither counts nor probs; questions that nobody has answered are for survey_jax.predict --questions"
        )
    if math.fsum(probs) <= 0:
        raise ValueError("nobody answered: counts sum to 0")
    wording = next((row[c] for c in question_columns if row.get(c) not in (None, "")), None)
    return Answer(
        survey=as_text(row.get("survey"), "survey"),
        question_id=as_text(row.get("question_id"), "question_id"),
        question=as_text(wording, " / ".join(question_columns)),
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
        extra={k: _extra(k, v) for k, v in row.items() if k not in _COLUMNS and not absent(v)},
    )


def _extra(column: str, value: Any) -> Any:
    """The value of a column that is kept as it is, if JSON and Parquet can hold it; raises ValueError."""
    _check_whole(column, "the name of a column")
    _check_extra(value, column)
    return _about(value) if column == ABOUT else value


def _check_extra(value: Any, column: str, depth: int = 0) -> None:
    """Raises ValueError for half a character, a number that is none or too large, and for endless nesting."""
    if depth > _DEPTH:
        raise ValueError(f"{column} is nested too deeply")
    if isinstance(value, str):
        _check_whole(value, column)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{column} holds {value}")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{column} holds an integer of more than 64 bits")
    elif isinstance(value, Mapping):
        for name, part in value.items():
            _check_extra(name, column, depth + 1)
            _check_extra(part, column, depth + 1)
    elif isinstance(value, list | tuple):
        for part in value:
            _check_extra(part, column, depth + 1)


def _about(value: Any) -> dict[str, str]:
    """Texts by name; a Parquet file has None for names that only other rows have."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{ABOUT} must map names to texts, got {value!r:.60}")
    return {as_text(k, f"a name in {ABOUT}"): as_text(v, f"{ABOUT}[{k}]") for k, v in value.items() if v is not None}


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
        if value > _LARGEST:
            raise ValueError(f"{column} holds {value}, more than {_LARGEST:.0e}")
    return tuple(float(v) for v in values)


def _normalised(probs: Sequence[float]) -> tuple[float, ...]:
    """Shares that sum to 1. Those that already do are left alone, so that a copy of a table reads back equal."""
    total = math.fsum(probs)
    return tuple(probs) if abs(total - 1) < 1e-12 else tuple(p / total for p in probs)


def as_text(value: Any, what: str) -> str:
    """A value as text without blank space around it; numbers and dates are taken as they are written.

    Raises ValueError, which begins with `what`, if it is absent, empty, or no text.

    >>> as_text(2016, "year")
    '2016'
    """
    if isinstance(value, datetime.datetime):  # Parquet files may hold dates
        value = value.date() if value.time() == datetime.time() else value
    if isinstance(value, bool) or not isinstance(value, str | int | float | datetime.date):
        raise ValueError(f"{what} is missing" if value is None else f"{what} must be text, got {value!r:.60}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{what} must be text, got {value}")
    text = str(value).strip()
    if not text:
        raise ValueError(f"{what} is empty")
    _check_whole(text, what)
    return text


def _check_whole(text: str, what: str) -> None:
    """Raises ValueError for half a character, which JSON can spell and no file can hold."""
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError(f"{what} holds half a character (a lone surrogate): {text!r:.60}")


def _optional_text(row: Mapping[str, Any], column: str) -> str | None:
    return None if row.get(column) is None else as_text(row[column], column)


def _number(row: Mapping[str, Any], column: str) -> float | None:
    value = row.get(column)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"{column} must be a positive number, got {value!r}")
    if not _SMALLEST <= value <= _LARGEST:
        raise ValueError(f"{column} must be at least {_SMALLEST:.0e} and at most {_LARGEST:.0e}, got {value!r}")
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
