"""What rules predict for rows of train that they have not seen: hidden by question, by group or by row.

Validation rows are few; train is large. A rule's predictions for a part of train that was hidden from it show, from
many more questions, what it is worth beside the others.
"""

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from survey_jax.survey.baselines.seen_groups import Baseline
from survey_jax.survey.evaluation import metrics
from survey_jax.survey.splits.kinds import FEW_ANSWERS, KNOWN, NEW
from survey_jax.survey.table import Answer, Group
from survey_jax.survey.text import same_group, wording

FOLDS = 5
ROWS = 600  # at most predicted: from each question, group or row one in turn

Rows = Sequence[Answer]


def crossfit(
    train: Rows, rules: Mapping[str, Baseline], kind: str, known: int = 0, rows: int = ROWS
) -> tuple[list[Answer], dict[str, Float[np.ndarray, "n K"]]]:
    """Rows of train, and what each rule predicts for them from the rows of train that are not hidden.

    Train is dealt into FOLDS folds by seed, and each fold is hidden in turn, in the way of the kind of row:

    - "new question": the questions of the fold, by their wording;
    - "known question": its groups, and all groups that include one of them or are part of it;
    - "known question and few answers of the group": its groups but for `known` of their answers;
    - any other: its rows.

    Args:
      kind: of `splits.kinds`.
      known: how many answers of a group are known, where they are few.
      rows: the most rows to predict.

    Returns:
      at most `rows` rows, and rule -> a distribution for each; no rows where train cannot be dealt into two folds.
    """
    answers: list[Answer] = []
    filled: dict[str, list[np.ndarray]] = {name: [] for name in rules}
    chosen = {id(a) for a in _in_turn(train, rows, kind)}
    for hidden, shown in _folds(train, kind, known):
        asked = [a for a in hidden if id(a) in chosen]
        if asked and shown:
            answers += asked
            for name, rule in rules.items():
                filled[name] += rule(shown, asked)[0]
    return answers, {name: metrics.stack(answers, shares) for name, shares in filled.items() if answers}


def _folds(train: Rows, kind: str, known: int) -> Iterator[tuple[list[Answer], list[Answer]]]:
    """For each fold the rows to predict, and the rows that are shown."""
    units = [_unit(a, kind) for a in train]
    order = list(dict.fromkeys(units))
    if len(order) < 2:
        return
    dealt = np.random.default_rng(0).permutation(len(order))
    fold_of = {unit: int(place) % FOLDS for unit, place in zip(order, dealt, strict=True)}
    for fold in range(min(FOLDS, len(order))):
        own = [fold_of[unit] == fold for unit in units]
        hidden = [a for a, mine in zip(train, own, strict=True) if mine]
        shown = [a for a, mine in zip(train, own, strict=True) if not mine]
        if kind == KNOWN:
            groups = {frozenset(same_group(a.group)) for a in hidden}
            relatives = {
                g for g in {frozenset(same_group(a.group)) for a in shown} if any(g < h or h < g for h in groups)
            }
            shown = [a for a in shown if frozenset(same_group(a.group)) not in relatives]
        elif kind == FEW_ANSWERS:
            kept = {id(a) for a in some_of_each_group(hidden, known)}
            shown += [a for a in hidden if id(a) in kept]
            hidden = [a for a in hidden if id(a) not in kept]
        if kind != NEW:
            asked = {a.question_key for a in shown}
            hidden = [a for a in hidden if a.question_key in asked]
        yield hidden, shown


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


def _unit(answer: Answer, kind: str) -> Hashable:
    """What is hidden as a whole."""
    if kind == NEW:
        return wording(answer)
    return same_group(answer.group) if kind in (KNOWN, FEW_ANSWERS) else answer.key


def _in_turn(train: Rows, size: int, kind: str) -> list[Answer]:
    """At most `size` rows, drawn by seed: from each question one in turn; from each group, where groups are hidden."""
    turns: dict[Hashable, int] = defaultdict(int)
    drawn = []
    for row in np.random.default_rng(0).permutation(len(train)).tolist():
        unit = _unit(train[row], kind if kind in (KNOWN, FEW_ANSWERS) else NEW)
        turns[unit] += 1
        drawn.append((turns[unit], row))
    drawn.sort(key=lambda turn_and_row: turn_and_row[0])  # stable: within a turn as drawn
    return [train[row] for _, row in drawn[:size]]
