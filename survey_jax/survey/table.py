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
    about                           name -> text, what the report discloses of the survey: sponsor, population, sample,
                                    mode, fieldwork, url, ...; kept in `Answer.extra`
    any other column                kept in `Answer.extra`
"""

import dataclasses
import datetime
import gzip
import json
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from survey_jax.common.errors import UserError, plural
from survey_jax.common.files import atomic_write

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")
OUTPUT_SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
DEMO = str(resources.files("survey_jax") / "data" / "demo.jsonl.gz")  # the table that comes with the package
ABOUT = "about"  # extra column
MAX_OPTIONS = 26  # one capital letter each
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


def read_table(path: str | Path, question_columns: Sequence[str] = ("question",)) -> list[Answer]:
    """Reads and validates a survey table.

    Args:
      path: a .jsonl, .jsonl.gz or .parquet file.
      question_columns: where the question's wording stands, for files that carry several: the first that a row has.

    Returns:
      The rows, in file order, with `probs` normalised to sum to 1 exactly.

    Raises:
      UserError: no such file, unreadable, no rows, or a bad row; names the file, the row (from 1) and the reason.

    >>> rows = read_table(DEMO)
    >>> rows[0].question_id, rows[0].options, rows[0].n
    ('gss_natspac', ('Too much', 'About the right amount', 'Too little'), 2086.0)
    """
    path = Path(path)
    if not str(path).endswith(SUFFIXES):
        raise UserError(f"{path}: not a survey table; expected one of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    kind = "parquet" if path.suffix == ".parquet" else "json"
    try:
        rows = _read_parquet(path) if kind == "parquet" else _read_json(path)
    except (pa.ArrowException, OSError, EOFError, zlib.error, ValueError) as error:
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: cannot be read as a {kind} table: {cause}") from error
    if not rows:
        raise UserError(f"{path}: has no rows")
    return parse_rows(rows, str(path), question_columns)


def parse_rows(rows: Iterable[Any], where: str, question_columns: Sequence[str] = ("question",)) -> list[Answer]:
    """Makes `Answer`s of plain dictionaries. Raises UserError, which begins with `where`, for one that is not valid.

    >>> row = {"survey": "Town", "question_id": "q1", "question": "Fair?", "options": ["Yes", "No"]}
    >>> (answer,) = parse_rows([row | {"group": {"age": "18-29"}, "counts": [30, 10]}], "my rows")
    >>> answer.probs
    (0.75, 0.25)
    """
    answers: list[Answer] = []
    seen: dict[tuple[Any, ...], int] = {}
    problems: list[str] = []
    for number, row in enumerate(rows, start=1):
        try:
            answer = _parse_row(row, question_columns)
            if answer.key in seen:
                raise ValueError(f"same question and group as row {seen[answer.key]} ({answer.describe()})")
        except (ValueError, OverflowError) as error:
            reason = "holds a number that is too large" if isinstance(error, OverflowError) else error
            problems.append(f"{where} row {number}: {reason}")
            continue
        seen[answer.key] = number
        answers.append(answer)
    if problems:
        more = f" (and {plural(len(problems) - 1, 'more bad row')})" if len(problems) > 1 else ""
        raise UserError(problems[0] + more)
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
            if path.suffix == ".parquet":
                pyarrow.parquet.write_table(_columns(answers), partial)
            else:
                _write_json(answers, partial)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise UserError(f"{path}: cannot be written: {' '.join(str(error).split())}") from error


def check_output(path: Path) -> None:
    """Raises UserError where `write_table` cannot write; to be called before long work."""
    if not path.name.endswith(OUTPUT_SUFFIXES):
        raise UserError(f"{path}: tables are written as .jsonl, .jsonl.gz or .parquet")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent}: no such folder; make it first")


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pyarrow.parquet.ParquetFile(path).read().to_pylist(maps_as_pydicts="strict")
    return rows


def _read_json(path: Path) -> list[Any]:
    """Rows of JSON Lines, numbered as the lines are, or of the one list in a .json file. Raises ValueError."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    text = content.decode("utf-8-sig").rstrip()
    if path.name.endswith((".json", ".json.gz")) and text.startswith("["):
        whole: list[Any] = json.loads(text)
        return whole
    rows = []
    for number, line in enumerate(text.split("\n") if text else [], start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}" if line.strip() else f"line {number} is empty") from error
    return rows


def _write_json(answers: Sequence[Answer], path: Path) -> None:
    """JSON Lines, without absent values; numbers in full, so that they read back to the same bits."""
    with path.open("wb") as raw:
        # no name and no time in the header: the same table gives the same bytes
        file = gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) if path.suffix == ".gz" else raw
        for answer in answers:
            row = {k: v for k, v in _row(answer).items() if v is not None}
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False, default=_json_value).encode() + b"\n")
        if file is not raw:
            file.close()


def _json_value(value: Any) -> str:
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    raise TypeError(f"JSON has no {type(value).__name__}, which an extra column holds")


def _columns(answers: Sequence[Answer]) -> pa.Table:
    """The rows as Arrow columns. Raises ValueError for an extra column whose values have no common type."""
    rows = [_row(answer) for answer in answers]
    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(values, _TYPES.get(name))
        except (pa.ArrowException, OverflowError) as error:
            raise ValueError(f"the values of column {name!r} are not of one kind: {error}") from error
    return pa.table(columns)


def _row(answer: Answer) -> dict[str, Any]:
    row = {f.name: getattr(answer, f.name) for f in dataclasses.fields(answer) if f.name != "extra"}
    row["group"] = dict(answer.group)
    return row | dict(answer.extra)


def _parse_row(row: Any, question_columns: Sequence[str]) -> Answer:
    """One dictionary -> Answer; raises ValueError with the reason."""
    if not isinstance(row, Mapping):
        raise ValueError(f"a row must be an object with names and values, got {row!r:.60}")
    options = tuple(as_text(o, "option") for o in _sequence(row, "options"))
    check_options(options)
    raw_group = row.get("group")
    if not isinstance(raw_group, Mapping):
        raise ValueError(f"group must map attributes to values, got {raw_group!r}")
    given = [(a, v) for a, v in raw_group.items() if v is not None]
    group = tuple(sorted((as_text(a, "an attribute of group"), as_text(v, f"group[{a}]")) for a, v in given))
    if not group:
        raise ValueError("group is empty")
    if len(dict(group)) < len(group):
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
        extra={k: _about(v) if k == ABOUT else v for k, v in row.items() if k not in _COLUMNS and not _absent(v)},
    )


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
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError(f"{what} holds half a character (a lone surrogate): {text!r:.60}")
    return text


def _absent(value: Any) -> bool:
    """None, or the NaN that pandas writes for it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _optional_text(row: Mapping[str, Any], column: str) -> str | None:
    return None if row.get(column) is None else as_text(row[column], column)


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
