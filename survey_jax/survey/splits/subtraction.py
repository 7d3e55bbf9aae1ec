"""Which rows leave train so that it neither has nor gives a group with held-out people in it, and the proof of that.

Held out are people. A group of train that contains them shows them in part; and everybody, less the ages up to 64, are
those of 65 and older, to the last respondent. So where a survey asks its question of a held-out group, train must give
neither that group nor any that contains it (its ancestors: the same attributes, less some). Two kinds of rows leave:

- the ancestors themselves;
- where sums of groups (`lattice`) still give one of these, as women and men give everybody, the largest that can
  prevent it. Largest by the mean number of respondents in the survey, so that the same group leaves for all questions.

It is not enough that the held-out group itself is no difference of groups of train. Without the largest of its siblings
it is none, but everybody less the ages up to 44 are those of 45 and older, who are so near to those of 65 and older
that on the demo's table this estimate is as good as a second survey.

`determined` is the proof. It does not follow how rows left train: it asks linear algebra what the sums determine.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import linalg, sparse

from survey_jax.survey.splits.config import TRAIN, Promise
from survey_jax.survey.splits.lattice import Cell, Lattice, cell, lattice, name, parts
from survey_jax.survey.table import Answer
from survey_jax.survey.text import same_group

ANCESTOR = "includes people of a held-out group"  # reasons to leave train
DIFFERENCE = "would give a held-out group by subtraction"
_ZERO = 1e-9

Key = tuple[tuple[str, str], Cell]  # a question and who answered it
Rank = tuple[float, Any]  # respondents, then the name


@dataclasses.dataclass(frozen=True)
class Part:
    """The groups of one question in one part (`lattice.parts`), each without what they all share.

    Attributes:
      train, held: those that train has, and those that it must not give.
      cells: all of them, as in the table: group -> cell.
    """

    question: tuple[str, str]
    train: frozenset[Cell]
    held: frozenset[Cell]
    cells: Mapping[Cell, Cell]

    @property
    def structure(self) -> tuple[frozenset[Cell], ...]:
        """All that matters of a part; most questions of a survey have the same."""
        return self.train, self.held, frozenset(self.cells)


def is_held(promise: Promise, answer: Answer) -> bool:
    """Whether its split promises that train gives no group with a row's people in it."""
    if promise.parents_in_train:
        return False
    return promise.known_answers is not None or promise.new_wave or same_group(answer.group) in promise.new_groups


def held_rows(splits: Mapping[str, Sequence[Answer]], promises: Mapping[str, Promise]) -> list[Answer]:
    """The rows outside train for which `is_held` is true."""
    return [a for split, rows in splits.items() if split != TRAIN for a in rows if is_held(promises[split], a)]


def leaving(train: Sequence[Answer], held: Sequence[Answer], table: Sequence[Answer]) -> list[str]:
    """For each row of train why it must leave, ANCESTOR or DIFFERENCE; or "", if it stays.

    Args:
      held: rows whose people train must not give.
      table: all rows, which say what values an attribute has.
    """
    found = list(question_parts(train, held, table))
    sizes = _sizes(train, found)
    reasons: dict[Key, str] = {}
    done: dict[object, dict[Cell, str]] = {}
    for part in found:
        key = (part.question[0], part.structure)
        if key not in done:
            done[key] = _leaving(part, sizes[part.question[0]])
        reasons |= {(part.question, part.cells[group]): reason for group, reason in done[key].items()}
    return [reasons.get((a.question_key, cell(a)), "") for a in train]


def determined(train: Sequence[Answer], held: Sequence[Answer], table: Sequence[Answer]) -> Answer | None:
    """A row of `held` of whose people train gives a group, by itself or by sums; None if there is none.

    `table` as in `leaving`. Without it a group that left train is not known to exist, and the sums seem complete.
    """
    done: dict[object, set[Cell]] = {}
    leaks: set[Key] = set()
    for part in question_parts(train, held, table):
        if part.structure not in done:
            graph = lattice(frozenset(part.cells))
            known = {graph.index[group] for group in part.train}
            hidden = [g for g, group in enumerate(graph.groups) if any(group <= held for held in part.held)]
            given = [graph.groups[g] for g in _given(graph, known, hidden)]
            done[part.structure] = {h for h in part.held if any(group <= h for group in given)}
        leaks |= {(part.question, part.cells[group]) for group in done[part.structure]}
    return next((a for a in held if (a.question_key, cell(a)) in leaks), None)


def question_parts(train: Sequence[Answer], held: Sequence[Answer], table: Sequence[Answer]) -> Iterator[Part]:
    """The parts that have groups in train and groups held out, question by question."""
    of_train, of_held, of_table = map(_cells, (train, held, table))
    for question in sorted(of_train.keys() & of_held.keys()):
        known, hidden = of_train[question], of_held[question]
        for part in parts(frozenset(known | hidden | of_table.get(question, set()))):
            in_train = frozenset(group for group, whole in part.items() if whole in known)
            in_held = frozenset(group for group, whole in part.items() if whole in hidden)
            if in_train and in_held:
                yield Part(question, in_train, in_held, part)


def _cells(rows: Sequence[Answer]) -> dict[tuple[str, str], set[Cell]]:
    cells: dict[tuple[str, str], set[Cell]] = defaultdict(set)
    for answer in rows:
        cells[answer.survey, answer.question_id].add(cell(answer))
    return cells


def _sizes(train: Sequence[Answer], found: Sequence[Part]) -> dict[str, dict[Cell, float]]:
    """Survey -> group -> mean number of respondents of its rows in train; 0 where it is not known."""
    respondents = {(a.question_key, cell(a)): a.n or sum(a.counts or ()) for a in train}
    collected: dict[str, dict[Cell, list[float]]] = defaultdict(lambda: defaultdict(list))
    for part in found:
        for group in part.train:
            collected[part.question[0]][group].append(respondents[part.question, part.cells[group]])
    return {survey: {g: float(np.mean(n)) for g, n in groups.items()} for survey, groups in collected.items()}


def _leaving(part: Part, sizes: Mapping[Cell, float]) -> dict[Cell, str]:
    """Groups of one part that leave train, and why."""
    graph = lattice(frozenset(part.cells))
    hidden = [g for g, group in enumerate(graph.groups) if any(group <= held for held in part.held)]
    reasons = {graph.groups[g]: ANCESTOR for g in hidden if graph.groups[g] in part.train - part.held}
    known = {graph.index[group] for group in part.train} - set(hidden)
    size = [(sizes.get(group, 0.0), name(group)) for group in graph.groups]
    gone: list[int] = []
    while (group := _culprit(graph, known, hidden, size)) is not None:
        known.remove(group)
        gone.append(group)
    for group in sorted(gone, key=lambda g: size[g]):  # some need not have left, for what left after them
        if _culprit(graph, known | {group}, hidden, size) is None:
            known.add(group)
    return reasons | {graph.groups[group]: DIFFERENCE for group in gone if group not in known}


def _culprit(graph: Lattice, known: set[int], hidden: Sequence[int], size: Sequence[Rank]) -> int | None:
    """A known group without which a hidden one is harder to compute; None if no hidden one can be computed."""
    sums, wanted = graph.chain(known), set(hidden)
    group = next((g for g in sums if g in wanted), None)
    if group is None:
        return _culprit_by_algebra(graph, known, hidden, size)
    while True:  # from the hidden group along the sums that give it, beside it first, until a group of train
        base, values = graph.sums[sums[group]]
        beside = [g for g in values if g != group] or [base]
        if candidates := [g for g in beside if g in known]:
            return max(candidates, key=lambda g: size[g])
        group = max(beside, key=lambda g: size[g])


def _culprit_by_algebra(graph: Lattice, known: set[int], hidden: Sequence[int], size: Sequence[Rank]) -> int | None:
    """As `_culprit`, where no chain of sums gives a hidden group, but several of them together do."""
    if not (given := _given(graph, known, hidden)):
        return None
    sums = _matrix(graph)
    target = np.zeros(len(graph.groups))
    target[given[0]] = 1
    unknown = np.array([g not in known for g in range(len(graph.groups))])
    weights = sums.T @ np.linalg.lstsq(sums[:, unknown].T, target[unknown], rcond=None)[0]
    used = [g for g in known if abs(weights[g]) > _ZERO]
    hidden_group = graph.groups[given[0]]
    beside = [g for g in used if len(graph.groups[g]) == len(hidden_group) == len(graph.groups[g] & hidden_group) + 1]
    return max(beside or used, key=lambda g: size[g])


def _given(graph: Lattice, known: Collection[int], hidden: Sequence[int]) -> list[int]:
    """The hidden groups that the known ones give."""
    given = _determined(graph, known, hidden)
    # Where a table lacks small groups, its sums alone can say of one that it is empty: nothing of train gives that.
    nobody = _determined(graph, (), given) if given else []
    return [g for g in given if g not in nobody]


def _determined(graph: Lattice, known: Collection[int], hidden: Sequence[int]) -> list[int]:
    """The hidden groups that the sums determine, given the known ones.

    With x the answers of the groups that are not known, the sums say M x = b. An entry of x is determined if and only
    if its unit vector is a combination of the rows of M. Groups without a sum in common are looked at apart.
    """
    sums = _matrix(graph)
    unknown = [g for g in range(len(graph.groups)) if g not in known]
    links = sparse.csr_array(np.abs(sums[:, unknown]))
    _, component = sparse.csgraph.connected_components(links.T @ links, directed=False)
    given = set(known) & set(hidden)
    for number in {int(component[unknown.index(g)]) for g in hidden if g not in given}:
        members = [g for g, c in zip(unknown, component, strict=True) if c == number]
        part = sums[:, members]
        basis, triangle, _ = linalg.qr(part[part.any(1)].T, mode="economic", pivoting=True)
        rank = int((np.abs(np.diag(triangle)) > _ZERO).sum())
        inside = (basis[:, :rank] ** 2).sum(1)  # of each unit vector: the share of it among the rows' combinations
        given |= {g for g, share in zip(members, inside, strict=True) if g in set(hidden) and share > 1 - _ZERO}
    return [g for g in hidden if g in given]


def _matrix(graph: Lattice) -> np.ndarray:
    """[sums, groups]: 1 for the base of a sum, -1 for what it is the sum of."""
    matrix = np.zeros((len(graph.sums), len(graph.groups)))
    for row, (base, values) in enumerate(graph.sums):
        matrix[row, base] = 1
        matrix[row, list(values)] = -1
    return matrix
