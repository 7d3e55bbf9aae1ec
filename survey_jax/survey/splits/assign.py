"""Assigns rows to splits, one function for each way to say what is held out; `split.split` checks the result."""

import dataclasses
import itertools
import math
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from scipy import sparse

from survey_jax.common.errors import BadSetting, UserError, some
from survey_jax.survey import countries
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
from survey_jax.survey.table import Answer, Group, group_name
from survey_jax.survey.text import is_country, same_group

LOST = "question that all rows of train left"  # a reason
Places = tuple[str, ...]  # the splits of a row, or one reason why it is left out
Assign = Callable[[Answer], Places]
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Assignment:
    """Where rows go.

    Attributes:
      places: for each row its splits (names in `promises`), or one reason why it is left out.
      promises: split -> its promise; train is first, then valid.
      notes: remarks for the user.
    """

    places: list[Places]
    promises: dict[str, Promise]
    notes: tuple[str, ...] = ()


def assign_splits(answers: Sequence[Answer], config: SplitConfig) -> Assignment:
    """Assigns every row. Raises UserError where the config names what the table does not have."""
    unseen_surveys = set(config.unseen_surveys)
    if config.seen_surveys:
        unseen_surveys |= {a.survey for a in answers} - set(config.seen_surveys)
    rest = [a for a in answers if a.survey not in unseen_surveys]
    notes: tuple[str, ...] = ()
    promises = dict(PROMISES)
    if config.column:
        assign = by_column(answers, config)
    elif config.group_sets:
        assign, promises, notes = by_sets(rest, config)
        promises[UNSEEN_SURVEY] = PROMISES[UNSEEN_SURVEY]
    else:
        assign = by_holding_out(rest, config)
    places = [(UNSEEN_SURVEY,) if a.survey in unseen_surveys else assign(a) for a in answers]
    result = Assignment(places, promises, notes)
    if config.valid_group_fraction:
        result = validation_groups(answers, result, config)
    if config.known_answers:
        result = reveal(answers, result, config)
    return with_parents(result) if config.parents_in_train else result


def by_column(answers: Sequence[Answer], config: SplitConfig) -> Assign:
    """Takes the splits from a column of the table."""
    column = config.column
    values = {str(a.extra[column]) for a in answers if column in a.extra}
    if not values:
        others = {column for a in answers for column in a.extra}
        raise UserError(f"no column {column!r} to take splits from; other columns: {some(others)}")
    rename = config.rename or {name: name for name in SPLITS if name in values}
    known("rename", "split", rename.values(), SPLITS)
    known("rename", f"value of column {column}", rename, values)

    def assign(answer: Answer) -> Places:
        value = str(answer.extra.get(column))
        return (rename.get(value, f"{column} = {value}"),)

    return assign


def by_sets(answers: Sequence[Answer], config: SplitConfig) -> tuple[Assign, dict[str, Promise], tuple[str, ...]]:
    """Crosses named sets of groups with named sets of questions. Also returns each block's promise, and notes."""
    attribute = config.group_attribute
    groups = {name: {_value(attribute, v) for v in values} for name, values in config.group_sets.items()}
    questions = {name: set(ids) for name, ids in config.question_sets.items()}
    _check_sets(answers, groups, questions)
    first_group, first_question = next(iter(groups)), next(iter(questions))
    names, promises = {}, {TRAIN: Promise()}
    for q, question in enumerate(questions):
        for g, group in enumerate(groups):
            name = f"{group}{question}" if g or q > 1 else (TRAIN, VALID)[q]
            others = set().union(*(members for other, members in groups.items() if other != group))
            names[group, question] = name
            promises[name] = Promise(
                new_question=question != first_question,
                known_answers=None if group == first_group else 0,
                may_overlap=not groups[group].isdisjoint(others),
            )

    def assign(answer: Answer) -> Places:
        value = _value(attribute, dict(answer.group).get(attribute, ""))
        asked = [name for name, ids in questions.items() if answer.question_id in ids]
        of = [name for name, values in groups.items() if value in values]
        if not asked:
            return (f"question in none of {', '.join(questions)}",)
        if not of:
            return (f"{attribute} in none of {', '.join(groups)}: {dict(answer.group).get(attribute, 'not given')}",)
        return tuple(names[name, asked[0]] for name in of)

    present = {_value(attribute, dict(a.group).get(attribute, "")) for a in answers}
    notes = []
    for name, values in config.group_sets.items():
        if missing := [v for v in values if _value(attribute, v) not in present]:
            notes.append(f"{name}: {len(missing)} of {len(values)} not in the tables: {some(missing)}")
    order = (TRAIN, *(n for n in (VALID,) if n in promises), *sorted(n for n in promises if n not in (TRAIN, VALID)))
    return assign, {name: promises[name] for name in order}, tuple(notes)


def by_holding_out(rows: Sequence[Answer], config: SplitConfig) -> Assign:
    """Holds out waves, questions, groups and rows, by name or by drawing; the other rows are train."""
    known("unseen_waves", "wave", config.unseen_waves, {a.wave for a in rows if a.wave is not None})
    for setting in ("unseen_questions", "valid_questions"):
        known(setting, "question id", getattr(config, setting), {a.question_id for a in rows})
    topics = {a.question_key: str(a.extra[config.topic_column]) for a in rows if config.topic_column in a.extra}
    known("unseen_topics", f"value of column {config.topic_column}", config.unseen_topics, topics.values())
    for attribute, values in config.unseen_groups.items():
        known("unseen_groups", "group attribute", [attribute], {a for row in rows for a, _ in row.group})
        found = {v for row in rows for a, v in row.group if a == attribute}
        known("unseen_groups", f"value of {attribute}", values, found)
    held = {(attribute, value) for attribute, values in config.unseen_groups.items() for value in values}
    in_region, nowhere = _regions(rows, config.unseen_regions)
    held |= in_region

    questions = {a.question_key for a in rows}
    unseen = {q for q in questions if q[1] in config.unseen_questions or topics.get(q) in config.unseen_topics}
    valid = {q for q in questions if q[1] in config.valid_questions}
    if both := sorted(unseen & valid):
        raise UserError(f"question {both[0][1]!r} is in both: the unseen ones and valid_questions")
    unseen |= draw_questions(questions, unseen | valid, config.unseen_question_fraction, config.seed, UNSEEN_QUESTION)
    valid |= draw_questions(questions, unseen | valid, config.valid_question_fraction, config.seed, VALID)

    def assign(answer: Answer) -> Places:
        if answer.wave in config.unseen_waves:
            return (UNSEEN_WAVE,)
        if answer.group in nowhere:
            return (f"unseen_regions is set, and no region is known of {nowhere[answer.group]}",)
        new_group = not held.isdisjoint(answer.group)
        if answer.question_key in unseen:
            return (UNSEEN_BOTH if new_group else UNSEEN_QUESTION,)
        if answer.question_key in valid:
            return ("unseen group, validation question" if new_group else VALID,)
        return (UNSEEN_GROUP if new_group else TRAIN,)

    train = [a for a in rows if assign(a) == (TRAIN,)]
    size = round(config.valid_row_fraction * len(train))
    valid_rows = {a.key for a in draw(train, size, lambda a: repr(a.key), config.seed, "valid rows")}
    return lambda answer: (VALID,) if answer.key in valid_rows else assign(answer)


def validation_groups(answers: Sequence[Answer], assignment: Assignment, config: SplitConfig) -> Assignment:
    """Draws groups of train for validation: their rows in train move to valid, those of unseen questions go nowhere."""
    seen = {same_group(a.group) for a, places in zip(answers, assignment.places, strict=True) if TRAIN in places}
    size = _share(config.valid_group_fraction, len(seen))
    drawn = frozenset(draw(sorted(seen), size, repr, config.seed, "validation groups"))
    promises = assignment.promises
    new_question = {name for name, p in promises.items() if p.new_question and not p.new_survey} - {VALID}
    new_group = {name for name, p in promises.items() if p.known_answers == 0 and not p.new_question}
    before: set[tuple[str, str]] = set()
    after: set[tuple[str, str]] = set()
    for answer, places in zip(answers, assignment.places, strict=True):
        if TRAIN in places:
            before.add(answer.question_key)
            after |= {answer.question_key} if same_group(answer.group) not in drawn else set()
    lost = before - after

    def place(answer: Answer, places: Places) -> Places:
        if answer.question_key in lost and not new_group.isdisjoint(places):
            return (LOST,)
        if same_group(answer.group) not in drawn:
            return places
        if places == (TRAIN,):
            return (VALID,)
        return ("validation group, unseen question",) if not new_question.isdisjoint(places) else places

    rest = {name: promise for name, promise in promises.items() if name not in (TRAIN, VALID)}
    promises = {TRAIN: promises[TRAIN], VALID: Promise(new_groups=drawn), **rest}
    return Assignment(
        [place(*pair) for pair in zip(answers, assignment.places, strict=True)], promises, assignment.notes
    )


def with_parents(assignment: Assignment) -> Assignment:
    """The looser promise for groups and waves, and the name that says so for unseen groups."""
    rename = {UNSEEN_GROUP: UNSEEN_SUBGROUP}
    promises = {}
    for name, promise in assignment.promises.items():
        promises[rename.get(name, name)] = dataclasses.replace(promise, parents_in_train=True)
    places = [tuple(rename.get(name, name) for name in places) for places in assignment.places]
    note = "parents_in_train: train may have groups and waves that give those of the tests by sums or differences"
    return Assignment(places, promises, (*assignment.notes, note))


def reveal(answers: Sequence[Answer], assignment: Assignment, config: SplitConfig) -> Assignment:
    """Few-shot: moves `known_answers` questions of each held-out group to train, and renames the group's splits.

    Groups of which one contains another are drawn the same questions, and a group has those that it was asked: what one
    of them answers in train is then not to be predicted for another.
    """
    new_group = {name for name, promise in assignment.promises.items() if promise.known_answers == 0}
    asked: dict[Group, set[tuple[str, str]]] = defaultdict(set)
    for answer, places in zip(answers, assignment.places, strict=True):
        if any(name in new_group and not assignment.promises[name].new_question for name in places):
            asked[same_group(answer.group)].add(answer.question_key)
    revealed: dict[Group, set[tuple[str, str]]] = {}
    for family in _families(asked):
        ids = sorted(set().union(*(asked[group] for group in family)))
        drawn = set(draw(ids, config.known_answers, repr, config.seed, f"answers of {group_name(family[0])}"))
        revealed |= dict.fromkeys(family, drawn)

    def place(answer: Answer, places: Places) -> Places:
        if new_group.isdisjoint(places):
            return places
        if answer.question_key in revealed.get(same_group(answer.group), ()):
            return (TRAIN,)
        return tuple(few_shot_name(name) for name in places)

    promises = {}
    for name, promise in assignment.promises.items():
        if name in new_group:
            name, promise = few_shot_name(name), dataclasses.replace(promise, known_answers=config.known_answers)
        promises[name] = promise
    return Assignment(
        [place(*pair) for pair in zip(answers, assignment.places, strict=True)], promises, assignment.notes
    )


def _families(groups: Iterable[Group]) -> list[list[Group]]:
    """Groups, together with those that contain them or that they contain, and so on; the largest comes first."""
    ordered = sorted(groups, key=lambda group: (len(group), group))
    index = {group: i for i, group in enumerate(ordered)}
    links = [
        (index[group], index[larger])
        for group in ordered
        for size in range(1, len(group) + 1)
        for larger in itertools.combinations(group, size)
        if larger in index
    ]
    graph = sparse.coo_array((np.ones(len(links)), np.array(links).reshape(-1, 2).T), shape=(len(index),) * 2)
    families: dict[int, list[Group]] = defaultdict(list)
    for group, number in zip(ordered, sparse.csgraph.connected_components(graph, directed=False)[1], strict=True):
        families[int(number)].append(group)
    return list(families.values())


def draw_questions(
    questions: set[tuple[str, str]], taken: set[tuple[str, str]], fraction: float, seed: int, purpose: str
) -> set[tuple[str, str]]:
    """Draws a share of all questions, at least one, from those not taken; of each survey in proportion to its size.

    The running total is rounded, not each survey's share, so that of many small surveys only some lose a question.
    """
    drawn: set[tuple[str, str]] = set()
    passed = 0  # questions of the surveys so far
    for survey in sorted({s for s, _ in questions}) if fraction else ():
        own = [q for q in questions if q[0] == survey]
        size = _share(fraction, passed + len(own)) - _share(fraction, passed)
        passed += len(own)
        drawn.update(draw([q for q in own if q not in taken], size, repr, seed, f"{purpose} of {survey}"))
    return drawn


def draw(items: Sequence[T], size: int, name: Callable[[T], str], seed: int, purpose: str) -> list[T]:
    """Draws `size` of the items (all, if fewer) and keeps their order; the draw depends on names, seed and purpose."""
    if size >= len(items):
        return list(items)
    by_name = sorted(range(len(items)), key=lambda i: name(items[i]))
    rng = np.random.default_rng([seed, zlib.crc32(purpose.encode())])  # crc32: hash() differs from run to run
    chosen = rng.choice(len(items), size=size, replace=False)
    return [items[i] for i in sorted(by_name[j] for j in chosen)]


def known(setting: str, what: str, names: Iterable[str], available: Iterable[str]) -> None:
    """Raises BadSetting if one of the names that the setting has is not available."""
    available = set(available)
    missing = [name for name in names if name not in available]
    if missing:
        raise BadSetting(setting, f"unknown {what} {missing[0]!r}; available: {some(available)}")


def _share(fraction: float, count: int) -> int:
    """fraction x count, rounded up; but 0.1 x 30 is 3, whatever floats say."""
    return math.ceil(round(fraction * count, 9))


def _value(attribute: str, value: str) -> str:
    """An attribute's value for comparison."""
    return same_group(((attribute, value),))[0][1]


def _check_sets(answers: Sequence[Answer], groups: Mapping[str, set[str]], questions: Mapping[str, set[str]]) -> None:
    """Refuses sets that cannot give honest splits."""
    first = next(iter(groups))
    for name, members in groups.items():
        if name != first and (both := sorted(members & groups[first])):
            raise UserError(f"group_sets: {both[0]!r} is in both {first}, which is seen, and {name}, which is not")
    owner: dict[str, str] = {}
    for name, ids in questions.items():
        for question in sorted(ids):
            if owner.setdefault(question, name) != name:
                raise UserError(f"question_sets: {question!r} is in both {owner[question]} and {name}")
    asked: dict[str, str] = {}
    for answer in answers:
        if answer.question_id in owner and asked.setdefault(answer.question_id, answer.survey) != answer.survey:
            surveys = f"{asked[answer.question_id]!r} and {answer.survey!r}"
            raise UserError(
                f"question_sets: {answer.question_id!r} is a question of {surveys}; name one in unseen_surveys"
            )


def _regions(rows: Sequence[Answer], unseen: Sequence[str]) -> tuple[set[tuple[str, str]], dict[Group, str]]:
    """(attribute, value) pairs of countries in the unseen regions; groups without a known region, and what they say."""
    if not unseen:
        return set(), {}
    held: set[tuple[str, str]] = set()
    nowhere: dict[Group, str] = {}
    found: set[str] = set()
    for group in sorted({a.group for a in rows}):
        pair = next(((k, v) for k, v in group if is_country(k)), None)
        regions = countries.regions(pair[1]) if pair else frozenset()
        found |= regions
        if pair is None or not regions:
            nowhere[group] = f"country {pair[1]!r}" if pair else "groups without a country"
        elif not regions.isdisjoint(unseen):
            held.add(pair)
    known("unseen_regions", "region", unseen, found)
    return held, nowhere
