"""Who is seen and who is not: declarative, seeded splits of a survey table, and the audit that proves them.

split            groups      questions    what it measures
train            seen        seen         -
valid            seen        either       model selection
unseen_question  seen        held out     a new question put to known groups
unseen_group     held out    of train     a new group answering known questions
unseen_both      held out    held out     both at once
unseen_survey    any         of a survey that training never saw
"""

import dataclasses
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from survey_jax.errors import UserError
from survey_jax.survey.table import Answer

TRAIN, VALID = "train", "valid"
UNSEEN_QUESTION, UNSEEN_GROUP, UNSEEN_BOTH = "unseen_question", "unseen_group", "unseen_both"
UNSEEN_SURVEY = "unseen_survey"
SPLITS = (TRAIN, VALID, UNSEEN_QUESTION, UNSEEN_GROUP, UNSEEN_BOTH, UNSEEN_SURVEY)

SAME_AS_TRAIN = "same question as in train"  # reason in `Splits.left_out`
_NEW_QUESTION = (UNSEEN_QUESTION, UNSEEN_BOTH, UNSEEN_SURVEY)  # splits whose questions training must not have seen
_NEW_GROUP = (UNSEEN_GROUP, UNSEEN_BOTH)

T = TypeVar("T")


@dataclasses.dataclass
class SplitConfig:
    """What is held out. Either name a column that holds the split, or say what to hold out; both allow surveys."""

    column: str = ""  # take the splits from this column of the table, instead of holding out
    # Column value -> split; rows with other values are left out. If empty, values that are split names are used as is.
    rename: dict[str, str] = dataclasses.field(default_factory=dict)
    unseen_surveys: tuple[str, ...] = ()  # surveys held out whole, whatever the other fields say of them
    unseen_questions: tuple[str, ...] = ()  # question ids held out, in any survey
    unseen_question_fraction: float = 0.0  # in addition, this share of all questions, across surveys, by seed
    # Attribute -> values; a group is held out if any of its attributes has one of them.
    unseen_groups: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    # Validation picks the checkpoint. By questions, to select for questions never seen (the paper's way). By rows,
    # when what counts is new groups or gaps in a table: cheaper in data, but blind to overfitting the questions.
    valid_questions: tuple[str, ...] = ()  # question ids for validation, seen groups only
    valid_question_fraction: float = 0.0  # in addition, this share of all questions, across surveys, by seed
    valid_row_fraction: float = 0.0  # this share of the remaining training rows, drawn by seed
    max_rows: int = 0  # if > 0: each split but train is cut to at most this many rows, drawn by seed
    seed: int = 0  # of every draw above; draws do not depend on the order of rows in the file


@dataclasses.dataclass(frozen=True)
class Splits:
    """Rows per split (only splits that have rows, in the order of `SPLITS`), and rows left out per reason."""

    rows: dict[str, list[Answer]]
    left_out: dict[str, int]


def split(answers: Sequence[Answer], config: SplitConfig) -> Splits:
    """Assigns every row to one split, or to nowhere with a reason; the result has passed `audit`.

    Rows of an unseen question or survey whose wording and options also occur in train, under another id or survey,
    are left out (`SAME_AS_TRAIN`): trend questions are asked in many surveys.

    Raises:
      UserError: a name that the table does not have, a fraction outside [0, 1), a split asked for that has no rows
        (train always is), or a failed audit.
    """
    _check(answers, config)
    assign = _by_column(answers, config) if config.column else _by_holding_out(answers, config)
    held_surveys = set(config.unseen_surveys)
    rows: dict[str, list[Answer]] = {name: [] for name in SPLITS}
    left_out: Counter[str] = Counter()
    for answer in answers:
        place = UNSEEN_SURVEY if answer.survey in held_surveys else assign(answer)
        if place in rows:
            rows[place].append(answer)
        else:
            left_out[place] += 1
    in_train = {wording(a) for a in rows[TRAIN]}
    ids_in_train = {a.question_key for a in rows[TRAIN]}
    for name in _NEW_QUESTION:
        # The same id in train is a mistake in the table, not a coincidence of wording: the audit refuses it.
        fresh = [a for a in rows[name] if wording(a) not in in_train or a.question_key in ids_in_train]
        left_out[f"{SAME_AS_TRAIN} ({name})"] += len(rows[name]) - len(fresh)
        rows[name] = fresh
    for name in _requested(config):
        if not rows[name]:
            raise UserError(f"split {name} has no rows; left out: {dict(+left_out) or 'nothing'}")
    if config.max_rows > 0:
        for name in SPLITS[1:]:
            kept = _draw(rows[name], config.max_rows, lambda a: repr(a.key), config.seed, f"rows of {name}")
            left_out[f"beyond max_rows={config.max_rows} ({name})"] += len(rows[name]) - len(kept)
            rows[name] = kept
    result = Splits({name: r for name, r in rows.items() if r}, dict(+left_out))
    audit(result.rows)
    return result


def audit(splits: Mapping[str, Sequence[Answer]]) -> None:
    """Proves that the splits are what their names say, however they were made.

    All splits share no row. unseen_question, unseen_both, unseen_survey: no question of train, neither by survey and
    id nor by wording and options. unseen_group, unseen_both: no group of train. unseen_survey: no survey of train.
    Letter case and spacing are ignored. A group is its whole set of attributes: {country: Kenya} and
    {country: Kenya, age: 18-29} are two groups.

    Raises:
      UserError: a split is unknown or a rule is broken; names the split and a first offender.
    """
    if unknown := [name for name in splits if name not in SPLITS]:
        raise UserError(f"unknown split {unknown[0]!r}; one of: {', '.join(SPLITS)}")
    owner: dict[object, str] = {}
    for name, rows in splits.items():
        for answer in rows:
            if owner.setdefault(answer.key, name) != name:
                raise UserError(f"leak: the row {answer.describe()} is in both {owner[answer.key]} and {name}")
    train = splits.get(TRAIN, ())
    rules: list[tuple[str, Sequence[str], Callable[[Answer], object]]] = [
        ("question id", _NEW_QUESTION, lambda a: a.question_key),
        ("question wording and options", _NEW_QUESTION, wording),
        ("group", _NEW_GROUP, lambda a: tuple((fold(k), fold(v)) for k, v in a.group)),
        ("survey", (UNSEEN_SURVEY,), lambda a: fold(a.survey)),
    ]
    for what, names, key in rules:
        seen = {key(a) for a in train}
        for name in names:
            if leak := next((a for a in splits.get(name, ()) if key(a) in seen), None):
                raise UserError(f"leak: {name} shares a {what} with train: {leak.describe()}")


def counts_table(splits: Splits) -> str:
    """Plain text: rows, questions, groups and surveys of each split, then the rows left out by reason."""
    lines = [f"{'split':<16}{'rows':>9}{'questions':>11}{'groups':>9}{'surveys':>9}"]
    for name, rows in splits.rows.items():
        distinct = [len({a.question_key for a in rows}), len({a.group for a in rows}), len({a.survey for a in rows})]
        lines.append(f"{name:<16}{len(rows):>9,}{distinct[0]:>11,}{distinct[1]:>9,}{distinct[2]:>9,}")
    lines += [f"left out: {count:,} rows: {reason}" for reason, count in splits.left_out.items()]
    return "\n".join(lines)


def fold(text: str) -> str:
    """Text for comparison: letter case and runs of white space do not matter."""
    return " ".join(text.casefold().split())


def wording(answer: Answer) -> tuple[str, ...]:
    """What makes two questions the same to a reader: folded question text and options, in order."""
    return (fold(answer.question), *map(fold, answer.options))


def _by_column(answers: Sequence[Answer], config: SplitConfig) -> Callable[[Answer], str]:
    column = config.column
    values = {str(a.extra[column]) for a in answers if column in a.extra}
    if not values:
        raise UserError(f"no column {column!r} to take splits from; other columns: {_some(_extra_columns(answers))}")
    rename = config.rename or {name: name for name in SPLITS if name in values}
    _known("split", rename.values(), SPLITS)
    _known(f"value of column {column}", rename, values)

    def assign(answer: Answer) -> str:
        value = str(answer.extra.get(column))
        return rename.get(value, f"{column} = {value}")

    return assign


def _by_holding_out(answers: Sequence[Answer], config: SplitConfig) -> Callable[[Answer], str]:
    rows = [a for a in answers if a.survey not in config.unseen_surveys]
    ids = {a.question_id for a in rows}
    _known("question id", (*config.unseen_questions, *config.valid_questions), ids)
    for attribute, values in config.unseen_groups.items():
        _known("group attribute", [attribute], {a for row in rows for a, _ in row.group})
        _known(f"value of {attribute}", values, {v for row in rows for a, v in row.group if a == attribute})
    questions = {a.question_key for a in rows}
    unseen = {q for q in questions if q[1] in config.unseen_questions}
    valid = {q for q in questions if q[1] in config.valid_questions}
    if both := sorted(unseen & valid):
        raise UserError(f"question {both[0][1]!r} is in both unseen_questions and valid_questions")
    unseen |= _draw_questions(questions, unseen | valid, config.unseen_question_fraction, config.seed, UNSEEN_QUESTION)
    valid |= _draw_questions(questions, unseen | valid, config.valid_question_fraction, config.seed, VALID)
    held = {(attribute, value) for attribute, values in config.unseen_groups.items() for value in values}
    train = [a for a in rows if a.question_key not in unseen | valid and held.isdisjoint(a.group)]
    size = round(config.valid_row_fraction * len(train))
    valid_rows = {a.key for a in _draw(train, size, lambda a: repr(a.key), config.seed, "valid rows")}

    def assign(answer: Answer) -> str:
        new_group = not held.isdisjoint(answer.group)
        if answer.question_key in unseen:
            return UNSEEN_BOTH if new_group else UNSEEN_QUESTION
        if answer.question_key in valid:
            return "unseen group, validation question" if new_group else VALID
        if new_group:
            return UNSEEN_GROUP
        return VALID if answer.key in valid_rows else TRAIN

    return assign


def _draw_questions(
    questions: set[tuple[str, str]], taken: set[tuple[str, str]], fraction: float, seed: int, purpose: str
) -> set[tuple[str, str]]:
    """A share of all questions, at least one, in proportion to each survey's; from those not taken.

    Shares are rounded in the running total, so that of many small surveys only some lose a question.
    """
    drawn: set[tuple[str, str]] = set()
    passed = 0  # questions of the surveys so far
    for survey in sorted({s for s, _ in questions}) if fraction else ():
        own = [q for q in questions if q[0] == survey]
        size = _share(fraction, passed + len(own)) - _share(fraction, passed)
        passed += len(own)
        drawn.update(_draw([q for q in own if q not in taken], size, repr, seed, f"{purpose} of {survey}"))
    return drawn


def _share(fraction: float, count: int) -> int:
    """fraction x count, rounded up; but 0.1 x 30 is 3, whatever floats say."""
    return math.ceil(round(fraction * count, 9))


def _draw(items: Sequence[T], size: int, name: Callable[[T], str], seed: int, purpose: str) -> list[T]:
    """`size` of the items (all, if fewer), in their given order; which ones depends on names, seed and purpose."""
    if size >= len(items):
        return list(items)
    by_name = sorted(range(len(items)), key=lambda i: name(items[i]))
    rng = np.random.default_rng([seed, zlib.crc32(purpose.encode())])  # crc32: hash() differs from run to run
    chosen = rng.choice(len(items), size=size, replace=False)
    return [items[i] for i in sorted(by_name[j] for j in chosen)]


def _requested(config: SplitConfig) -> list[str]:
    """Splits that must not come out empty. unseen_both is a by-product, and tables may be sparse."""
    wanted = {TRAIN: True, UNSEEN_SURVEY: bool(config.unseen_surveys)}
    if config.column:
        wanted |= dict.fromkeys(config.rename.values(), True)
    else:
        wanted[VALID] = bool(config.valid_questions or config.valid_question_fraction or config.valid_row_fraction)
        wanted[UNSEEN_QUESTION] = bool(config.unseen_questions or config.unseen_question_fraction)
        wanted[UNSEEN_GROUP] = bool(config.unseen_groups)
    return [name for name, want in wanted.items() if want]


def _check(answers: Sequence[Answer], config: SplitConfig) -> None:
    """Refuses what cannot be meant, before any work."""
    if not answers:
        raise UserError("no rows to split")
    if config.seed < 0 or config.max_rows < 0:
        raise UserError(f"seed and max_rows must not be negative, got {config.seed} and {config.max_rows}")
    fractions = ("unseen_question_fraction", "valid_question_fraction", "valid_row_fraction")
    for name in fractions:
        if not 0 <= getattr(config, name) < 1:
            raise UserError(f"{name} must be at least 0 and less than 1, got {getattr(config, name)}")
    _known("survey", config.unseen_surveys, {a.survey for a in answers})
    if config.column:
        held = ("unseen_questions", "unseen_groups", "valid_questions", *fractions)
        if used := [name for name in held if getattr(config, name)]:
            raise UserError(f"splits come from the column {config.column!r}, so {', '.join(used)} cannot be set too")
    elif config.rename:
        raise UserError("rename is set, but column, whose values it renames, is not")


def _extra_columns(answers: Iterable[Answer]) -> set[str]:
    return {column for a in answers for column in a.extra}


def _known(what: str, names: Iterable[str], available: Iterable[str]) -> None:
    available = set(available)
    missing = [name for name in names if name not in available]
    if missing:
        raise UserError(f"unknown {what} {missing[0]!r}; available: {_some(available)}")


def _some(values: Iterable[str], limit: int = 8) -> str:
    ordered = sorted(values)
    more = f", ... ({len(ordered)} in all)" if len(ordered) > limit else ""
    return (", ".join(ordered[:limit]) + more) or "none"
