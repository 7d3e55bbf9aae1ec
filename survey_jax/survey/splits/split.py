"""Who is seen and who is not: declarative, seeded splits of a survey table, and the audit that proves them.

split            groups      questions    what it measures
train            seen        seen         -
valid            either      either       model selection and calibration
unseen_question  seen        held out     a new question put to known groups
unseen_group     held out    of train     a new group answering known questions
unseen_subgroup  the same, but train may have groups that give it by subtraction (`parents_in_train`)
unseen_both      held out    held out     both at once
unseen_wave      any         any          a later (or earlier) round of a survey that training knows
unseen_survey    any         of a survey that training never saw
few_shot_...     with so many answers in train, else as unseen_group and unseen_both

Presets and `group_sets` x `question_sets` name their test splits themselves, e.g. C2Q1; docs/splits.md has it all.
"""

import dataclasses
import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from survey_jax.common.errors import UserError, plural
from survey_jax.survey.splits import presets, subtraction
from survey_jax.survey.splits.assign import LOST, assign_splits, draw, known
from survey_jax.survey.splits.config import (
    PROMISES,
    SPLITS,
    TRAIN,
    UNSEEN_BOTH,
    UNSEEN_GROUP,
    UNSEEN_QUESTION,
    UNSEEN_SUBGROUP,
    UNSEEN_SURVEY,
    UNSEEN_WAVE,
    VALID,
    Promise,
    SplitConfig,
    few_shot_name,
)
from survey_jax.survey.splits.kinds import kinds
from survey_jax.survey.table import Answer
from survey_jax.survey.text import Questions, fold, same_group

__all__ = [
    "PROMISES", "SPLITS", "TRAIN", "UNSEEN_BOTH", "UNSEEN_GROUP", "UNSEEN_QUESTION", "UNSEEN_SUBGROUP",
    "UNSEEN_SURVEY", "UNSEEN_WAVE", "VALID", "Promise", "SplitConfig", "Splits", "audit", "counts_table", "split",
]  # fmt: skip

SAME_AS_TRAIN = "same question as in train"  # reasons in `Splits.left_out`
NEAR_DUPLICATE = "near-duplicate of a question of train"


@dataclasses.dataclass(frozen=True)
class Splits:
    """The rows of each split that has any, train first; how many were left out for each reason; and remarks."""

    rows: dict[str, list[Answer]]
    left_out: dict[str, int]
    notes: tuple[str, ...] = ()


def split(answers: Sequence[Answer], config: SplitConfig) -> Splits:
    """Assigns every row to one split, or to nowhere with a reason; the result has passed `audit`.

    Only where `group_sets` overlap can a row be in two test splits. Rows leave train that give a group with held-out
    people in it (`subtraction`). Rows of valid, and of splits that promise new questions, whose question is also in
    train under another id or survey are left out (`SAME_AS_TRAIN`): trend questions are asked in many surveys.

    Raises:
      UserError: a name that the table does not have, a fraction outside [0, 1), fields that exclude each other, a split
        asked for that has no rows (train always is), or a failed audit.

    >>> from survey_jax.survey.table import DEMO, read_table
    >>> result = split(read_table(DEMO), SplitConfig(unseen_question_fraction=0.2))
    >>> {name: len({a.question_key for a in rows}) for name, rows in result.rows.items()}
    {'train': 128, 'unseen_question': 33}
    """
    config = presets.expand(config)
    _check(answers, config)
    assigned = assign_splits(answers, config)
    rows: dict[str, list[Answer]] = {name: [] for name in assigned.promises}
    left_out: Counter[str] = Counter()
    for answer, places in zip(answers, assigned.places, strict=True):
        for place in places:
            if place in rows:
                rows[place].append(answer)
            else:
                left_out[place] += 1
    _without_subtraction(rows, assigned.promises, answers, left_out)
    _without_copies(rows, assigned.promises, left_out)
    if config.remove_near_duplicates:
        # Here: scikit-learn takes a second.
        from survey_jax.survey.embeddings import read_embeddings
        from survey_jax.survey.splits.near_duplicates import NearDuplicates

        embeddings = read_embeddings(config.embeddings, answers)
        duplicates = NearDuplicates(dict(rows), config.remove_near_duplicates, embeddings)
        for name in list(rows)[1:]:
            leaked = duplicates.leaked_rows(name)
            left_out[f"{NEAR_DUPLICATE} ({name})"] += int(leaked.sum())
            rows[name] = [a for a, leak in zip(rows[name], leaked, strict=True) if not leak]
    for name in _requested(config):
        if not rows[name]:
            why = f"left out: {dict(+left_out)}" if +left_out else "all rows are in other splits; hold out less"
            raise UserError(f"split {name} has no rows; {why}")
    if config.max_rows > 0:
        for name in list(rows)[1:]:
            kept = _cut(rows, name, config)
            left_out[f"beyond max_rows={config.max_rows} ({name})"] += len(rows[name]) - len(kept)
            rows[name] = kept
    notes = assigned.notes
    if config.group_sets and (empty := [name for name, r in rows.items() if not r and name != UNSEEN_SURVEY]):
        notes += (f"no rows for: {', '.join(empty)}",)
    result = Splits({name: r for name, r in rows.items() if r}, dict(+left_out), notes)
    audit(result.rows, assigned.promises, answers)
    return result


def _without_subtraction(
    rows: dict[str, list[Answer]], promises: Mapping[str, Promise], table: Sequence[Answer], left_out: Counter[str]
) -> None:
    """Takes rows out of train that give held-out groups, then those on questions that train no longer has."""
    before = {a.question_key for a in rows[TRAIN]}
    reasons = subtraction.leaving(rows[TRAIN], subtraction.held_rows(rows, promises), table)
    rows[TRAIN] = [a for a, reason in zip(rows[TRAIN], reasons, strict=True) if not reason]
    left_out.update(f"{reason} ({TRAIN})" for reason in reasons if reason)
    lost = before - {a.question_key for a in rows[TRAIN]}
    for name, promise in promises.items():
        if name != TRAIN and not promise.new_question:
            kept = [a for a in rows[name] if a.question_key not in lost]
            left_out[f"{LOST} ({name})"] += len(rows[name]) - len(kept)
            rows[name] = kept


def _without_copies(rows: dict[str, list[Answer]], promises: Mapping[str, Promise], left_out: Counter[str]) -> None:
    """Takes rows out of valid, and of splits that promise new questions, whose question train has under another id."""
    questions, ids = Questions(rows[TRAIN]), {a.question_key for a in rows[TRAIN]}
    for name, promise in promises.items():
        if name == VALID or promise.new_question:
            # The same id in train is a mistake in the table, not a coincidence of wording: the audit refuses it.
            fresh = [a for a in rows[name] if a.question_key in ids or questions.find(a) is None]
            left_out[f"{SAME_AS_TRAIN} ({name})"] += len(rows[name]) - len(fresh)
            rows[name] = fresh


def _cut(rows: Mapping[str, Sequence[Answer]], name: str, config: SplitConfig) -> list[Answer]:
    """At most max_rows of a split, in the table's order; of valid as many of each kind, as far as each has them."""
    by_kind: dict[str, list[Answer]] = defaultdict(list)
    for answer, kind in zip(rows[name], kinds(rows[TRAIN], rows[name]), strict=True):
        by_kind[kind if name == VALID else ""].append(answer)
    kept: set[Any] = set()
    left = config.max_rows
    for number, (kind, members) in enumerate(sorted(by_kind.items(), key=lambda item: (len(item[1]), item[0]))):
        purpose = f"rows of {name}" + (f", {kind}" if len(by_kind) > 1 else "")
        size = left // (len(by_kind) - number)  # the smaller kind first: what it lacks goes to the larger one
        drawn = {a.key for a in draw(members, size, lambda a: repr(a.key), config.seed, purpose)}
        left -= len(drawn)
        kept |= drawn
    return [a for a in rows[name] if a.key in kept]


def audit(
    splits: Mapping[str, Sequence[Answer]],
    promises: Mapping[str, Promise] = PROMISES,
    table: Sequence[Answer] = (),
) -> None:
    """Checks that the splits are what their names promise, however they were made.

    No row is in two splits, unless both promise that they may overlap; and each split keeps its promise about train
    (`Promise`). Questions are compared as in `text.Questions`; letter case and spacing of other names are ignored, and
    a country's name is as good as its code. A group is its whole set of attributes: {country: Kenya} and {country:
    Kenya, age: 18-29} are two groups; where a split promises new ones, train gives neither, by sums or differences.

    Args:
      table: all rows that the splits are from, which say what values an attribute has; without them sums may seem
        complete that are not, and more is refused.

    Raises:
      UserError: a split is unknown or a rule is broken; names the split and a first offender.
    """
    if unknown := [name for name in splits if name not in promises]:
        raise UserError(f"unknown split {unknown[0]!r}; one of: {', '.join(promises)}")
    owner: dict[object, str] = {}
    for name, rows in splits.items():
        for answer in rows:
            other = owner.setdefault(answer.key, name)
            if other != name and not (promises[other].may_overlap and promises[name].may_overlap):
                raise UserError(f"leak: the row {answer.describe()} is in both {other} and {name}")
    train = splits.get(TRAIN, ())
    rules: list[tuple[str, Callable[[Promise], bool], Callable[[Answer], object]]] = [
        ("question id", lambda p: p.new_question, lambda a: a.question_key),
        ("group", lambda p: p.known_answers == 0, lambda a: same_group(a.group)),
        ("survey", lambda p: p.new_survey, lambda a: fold(a.survey)),
        ("wave", lambda p: p.new_wave, lambda a: (fold(a.survey), a.wave)),
    ]
    for what, applies, key in rules:
        seen = {key(a) for a in train}
        for name, rows in splits.items():
            if applies(promises[name]) and (leak := next((a for a in rows if key(a) in seen), None)):
                raise UserError(f"leak: {name} shares a {what} with train: {leak.describe()}")
    questions, ids = Questions(train), {a.question_key for a in train}
    for name, rows in splits.items():
        new = rows if promises[name].new_question else [a for a in rows if name == VALID and a.question_key not in ids]
        if leak := next((a for a in new if questions.find(a)), None):
            raise UserError(f"leak: {name} shares a question wording and options with train: {leak.describe()}")
    answered: dict[object, set[object]] = defaultdict(set)
    for answer in train:
        answered[same_group(answer.group)].add(answer.question_key)
    for name, rows in splits.items():
        limit = promises[name].known_answers or 0
        for answer in rows if limit else ():
            if len(answered[same_group(answer.group)]) > limit:
                raise UserError(f"leak: train has more than {limit} answers of a group of {name}: {answer.describe()}")
        for answer in rows:
            if (group := same_group(answer.group)) in promises[name].new_groups and group in answered:
                raise UserError(f"leak: {name} shares a group with train: {answer.describe()}")
    if row := subtraction.determined(train, subtraction.held_rows(splits, promises), table):
        raise UserError(f"leak: train gives a group with the people of a held-out row: {row.describe()}")


def counts_table(splits: Splits) -> str:
    """Plain text: rows, questions, groups and surveys of each split, then the rows left out by reason and remarks."""
    lines = [f"{'split':<16}{'rows':>9}{'questions':>11}{'groups':>9}{'surveys':>9}"]
    for name, rows in splits.rows.items():
        distinct = [len({a.question_key for a in rows}), len({a.group for a in rows}), len({a.survey for a in rows})]
        lines.append(f"{name:<16}{len(rows):>9,}{distinct[0]:>11,}{distinct[1]:>9,}{distinct[2]:>9,}")
    lines += [f"left out: {plural(count, 'row')}: {reason}" for reason, count in splits.left_out.items()]
    lines += [f"note: {note}" for note in splits.notes]
    return "\n".join(lines)


def _requested(config: SplitConfig) -> list[str]:
    """Splits that must not be empty. The others may be: unseen_both, because tables have gaps, and named blocks."""
    wanted = {TRAIN: True, UNSEEN_SURVEY: bool(config.unseen_surveys)}
    if config.column:
        wanted |= dict.fromkeys(config.rename.values(), True)
    elif not config.group_sets:
        group = UNSEEN_SUBGROUP if config.parents_in_train else UNSEEN_GROUP
        group = few_shot_name(UNSEEN_GROUP) if config.known_answers else group
        wanted[VALID] = bool(config.valid_questions or any(getattr(config, name) for name in _VALID_FRACTIONS))
        wanted[UNSEEN_QUESTION] = bool(
            config.unseen_questions or config.unseen_question_fraction or config.unseen_topics
        )
        wanted[group] = bool(config.unseen_groups or config.unseen_regions)
        wanted[UNSEEN_WAVE] = bool(config.unseen_waves)
    return [name for name, want in wanted.items() if want]


_VALID_FRACTIONS = ("valid_question_fraction", "valid_group_fraction", "valid_row_fraction")
_FRACTIONS = ("unseen_question_fraction", *_VALID_FRACTIONS)
_HOLDING_OUT = (
    "unseen_waves",
    "unseen_questions",
    "unseen_topics",
    "unseen_groups",
    "unseen_regions",
    "unseen_question_fraction",
    "valid_questions",
    "valid_question_fraction",
    "valid_row_fraction",
)


def _check(answers: Sequence[Answer], config: SplitConfig) -> None:
    """Refuses what cannot be meant, before any work."""
    if not answers:
        raise UserError("no rows to split")
    for name in ("seed", "max_rows", "known_answers"):
        if getattr(config, name) < 0:
            raise UserError(f"{name} must not be negative, got {getattr(config, name)}")
    for name in _FRACTIONS:
        if not 0 <= getattr(config, name) < 1:
            raise UserError(f"{name} must be at least 0 and less than 1, got {getattr(config, name)}")
    if not 0 <= config.remove_near_duplicates <= 1:
        raise UserError(f"remove_near_duplicates must be at least 0 and at most 1, got {config.remove_near_duplicates}")
    if config.embeddings and not config.remove_near_duplicates:
        raise UserError("embeddings are set, but remove_near_duplicates, which uses them, is not")
    for setting in ("unseen_surveys", "seen_surveys"):
        known(setting, "survey", getattr(config, setting), {a.survey for a in answers})
    if bool(config.group_sets) != bool(config.question_sets):
        raise UserError("group_sets and question_sets go together; one of them is not set")
    if not all({**config.group_sets, **config.question_sets}.values()):
        raise UserError("group_sets and question_sets: a set is empty")
    used = [name for name in _HOLDING_OUT if getattr(config, name)]
    if config.column and (used := [*used, *(n for n in ("group_sets", "valid_group_fraction") if getattr(config, n))]):
        raise UserError(f"splits come from the column {config.column!r}, so {', '.join(used)} cannot be set too")
    if config.group_sets and used:
        raise UserError(f"splits come from group_sets x question_sets, so {', '.join(used)} cannot be set too")
    if config.rename and not config.column:
        raise UserError("rename is set, but column, whose values it renames, is not")
    holds_groups = config.column or config.group_sets or config.unseen_groups or config.unseen_regions
    if config.known_answers and not holds_groups:
        raise UserError("known_answers is set, but no group is held out")


def fingerprint(answers: Iterable[Answer]) -> str:
    """Hash of rows: who was asked what, and what they answered. The order of the rows does not matter."""
    lines = sorted(repr((a.key, a.question, a.options, a.probs)) for a in answers)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def held_out(splits: Splits) -> dict[str, Any]:
    """Which questions and groups each split has, as JSON can hold them."""
    return {
        name: {
            "rows": len(rows),
            "questions": [list(key) for key in sorted({a.question_key for a in rows})],
            "groups": [dict(group) for group in sorted({a.group for a in rows})],
        }
        for name, rows in splits.rows.items()
    }
