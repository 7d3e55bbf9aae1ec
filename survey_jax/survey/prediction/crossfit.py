"""What rules predict for rows of train that they have not seen: hidden by question, by survey, by group or by row.

Validation rows are few; train is large. A rule's predictions for a part of train that was hidden from it show, from
many more questions, what it is worth beside the others, and how far off it is.
"""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from survey_jax.survey.baselines.seen_groups import Baseline
from survey_jax.survey.evaluation import metrics
from survey_jax.survey.prediction.similar import Similarity
from survey_jax.survey.table import Answer, Group
from survey_jax.survey.text import same_group, wording

FOLDS = 5
ROWS = 600  # at most predicted: from each question or group one in turn
_LARGEST = 0.3  # a value of more than this share of the rows is not hidden: too little would be left

Rows = Sequence[Answer]
Hide = Literal["question", "survey", "group", "value", "most of a group", "row"]


@dataclasses.dataclass(frozen=True)
class CrossFit:
    """Rows of train, and what was predicted while they were hidden.

    Attributes:
      predicted: rule -> a distribution for each row.
      unlike: of each row, see `Similarity.features`.
    """

    answers: list[Answer]
    predicted: dict[str, Float[np.ndarray, "n K"]]
    unlike: Float[np.ndarray, "n 3"]


def crossfit(
    train: Rows, rules: Mapping[str, Baseline], hide: Hide, known: int = 0, rows: int = ROWS
) -> CrossFit | None:
    """What each rule predicts for rows of train, from the rows that are not hidden with them.

    Train is dealt into FOLDS folds by seed, and each is hidden in turn:

    - "question": its questions, by their wording;
    - "survey": its surveys; what another survey asks in the same words is not predicted;
    - "group": its groups, and all groups that include one of them or are part of it;
    - "value": everybody of one value of an attribute, such as an age, and all groups that include some of them; as many
      values are drawn as there are folds;
    - "most of a group": its groups but for `known` of their answers;
    - "row": its rows.

    But for "question" and "survey", questions that are not shown at all are not predicted.

    Args:
      known: how many answers of a group are known, for "most of a group".
      rows: the most rows to predict.

    Returns:
      at most `rows` rows; None where train has not two parts to hide in turn.
    """
    answers: list[Answer] = []
    filled: dict[str, list[np.ndarray]] = {name: [] for name in rules}
    unlike: list[np.ndarray] = []
    by_group = hide in ("group", "value", "most of a group")
    for hidden, shown in folds(train, hide, known):
        asked = _in_turn(hidden, -(-rows // FOLDS), by_group)
        if asked and shown:
            answers += asked
            unlike.append(Similarity(shown).features(asked))
            for name, rule in rules.items():
                filled[name] += rule(shown, asked)[0]
    if not answers:
        return None
    predicted = {name: metrics.stack(answers, shares) for name, shares in filled.items()}
    return CrossFit(answers, predicted, np.concatenate(unlike))


def folds(train: Rows, hide: Hide, known: int = 0) -> Iterator[tuple[list[Answer], list[Answer]]]:
    """For each fold the rows to predict, and the rows that are shown; see `crossfit`."""
    for mine in _values(train) if hide == "value" else _dealt([_unit(a, hide) for a in train]):
        hidden = [a for a, own in zip(train, mine, strict=True) if own]
        shown = [a for a, own in zip(train, mine, strict=True) if not own]
        if hide in ("group", "value"):
            apart = _without_relatives({a.group for a in shown}, {a.group for a in hidden})
            shown = [a for a in shown if a.group in apart]
        elif hide == "most of a group":
            kept = {id(a) for a in some_of_each_group(hidden, known)}
            shown += [a for a in hidden if id(a) in kept]
            hidden = [a for a in hidden if id(a) not in kept]
        if hide in ("question", "survey"):
            words = {wording(a) for a in shown}
            hidden = [a for a in hidden if wording(a) not in words]
        else:
            asked = {a.question_key for a in shown}
            hidden = [a for a in hidden if a.question_key in asked]
        yield hidden, shown


def _dealt(units: Sequence[Hashable]) -> Iterator[list[bool]]:
    """Which rows each fold has; none where there is one unit only."""
    order = list(dict.fromkeys(units))
    if len(order) < 2:
        return
    dealt = np.random.default_rng(0).permutation(len(order))
    fold_of = {unit: int(place) % FOLDS for unit, place in zip(order, dealt, strict=True)}
    for fold in range(min(FOLDS, len(order))):
        yield [fold_of[unit] == fold for unit in units]


def _values(train: Rows) -> Iterator[list[bool]]:
    """Which rows have each of the values drawn; none where groups have one attribute, as a value is then a group."""
    groups = {a.group: frozenset(same_group(a.group)) for a in train}
    if max(map(len, groups.values())) < 2:
        return
    counts = Counter(pair for a in train for pair in sorted(groups[a.group]))
    pairs = [pair for pair, count in counts.items() if count <= _LARGEST * len(train)]
    for i in np.random.default_rng(0).permutation(len(pairs))[:FOLDS].tolist():
        yield [pairs[i] in groups[a.group] for a in train]


def _without_relatives(groups: Collection[Group], hidden: Collection[Group]) -> set[Group]:
    """The groups that neither include a hidden one nor are part of one."""
    away = [frozenset(same_group(g)) for g in hidden]
    cells = {group: frozenset(same_group(group)) for group in groups}
    return {group for group, cell in cells.items() if not any(cell < other or other < cell for other in away)}


def some_of_each_group(rows: Rows, known: int) -> list[Answer]:
    """So many rows of each group, drawn by seed."""
    by_group: dict[Hashable, list[Answer]] = defaultdict(list)
    for row in np.random.default_rng(1).permutation(len(rows)).tolist():
        by_group[same_group(rows[row].group)].append(rows[row])
    return [a for own in by_group.values() for a in own[:known]]


def _unit(answer: Answer, hide: Hide) -> Hashable:
    """What is hidden as a whole."""
    if hide == "question":
        return wording(answer)
    if hide == "survey":
        return answer.survey
    return answer.key if hide == "row" else same_group(answer.group)


def _in_turn(rows: Rows, size: int, by_group: bool) -> list[Answer]:
    """At most `size` rows, drawn by seed: from each group, or from each question, one in turn."""
    turns: dict[Hashable, int] = defaultdict(int)
    drawn = []
    for row in np.random.default_rng(0).permutation(len(rows)).tolist():
        unit = same_group(rows[row].group) if by_group else wording(rows[row])
        turns[unit] += 1
        drawn.append((turns[unit], row))
    drawn.sort(key=lambda turn_and_row: turn_and_row[0])  # stable: within a turn as drawn
    return [rows[row] for _, row in drawn[:size]]
