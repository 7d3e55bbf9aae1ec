"""Which groups are sums of which: the men and the women of Kenya together are Kenya.

The groups that answered one question form a lattice. Removing attributes one at a time from a group leads to larger and
larger groups that contain it, whether the table has them or not. Each group is the sum over the values of one more
attribute; the values are those that occur with the group in the table. Where a table lacks a value (too few people),
its sums are taken as complete all the same: what is nearly a sum gives nearly as much away.
"""

import dataclasses
import functools
from collections import defaultdict, deque
from collections.abc import Collection, Mapping

from survey_jax.survey.table import Answer
from survey_jax.survey.text import fold, same_group

Cell = frozenset[tuple[str, str]]  # (attribute, value) pairs for comparison; the wave is one of them
WAVE = ""  # the wave's attribute in a cell: tables have no attribute without a name


def cell(answer: Answer) -> Cell:
    """Who answered. A row without a wave stands for all waves together, as one without an age does for all ages."""
    return _cell(answer.group, answer.wave)


@functools.cache
def _cell(group: tuple[tuple[str, str], ...], wave: str | None) -> Cell:
    return frozenset(same_group(group)) | (frozenset() if wave is None else {(WAVE, fold(wave))})


@functools.lru_cache(maxsize=4096)
def parts(cells: frozenset[Cell]) -> tuple[Mapping[Cell, Cell], ...]:
    """Cells in parts that have no people in common and no sum; in each, the cell without what its part shares -> cell.

    Where all cells name a country, those of two countries tell nothing of each other; within one, the country says
    nothing more. So small lattices remain, and the same ones in many countries.
    """
    done, pending = [], [{c: c for c in cells}]
    while pending:
        part = pending.pop()
        shared = set.intersection(*({attribute for attribute, _ in rest} for rest in part)) if part else set()
        if not shared:
            done.append(part)
            continue
        by_values: dict[Cell, dict[Cell, Cell]] = defaultdict(dict)
        for rest, whole in part.items():
            values = frozenset(pair for pair in rest if pair[0] in shared)
            by_values[values][rest - values] = whole
        pending += by_values.values()
    return tuple(done)


@dataclasses.dataclass(frozen=True)
class Lattice:
    """Groups, and which are sums of which.

    Attributes:
      groups: those of the table and all that contain them; everything else here is indices of these.
      index: group -> its index.
      sums: (base, groups that it is the sum of).
      of: for each group the indices of the sums that it is in.
    """

    groups: tuple[Cell, ...]
    index: Mapping[Cell, int]
    sums: tuple[tuple[int, tuple[int, ...]], ...]
    of: tuple[tuple[int, ...], ...]

    def chain(self, known: Collection[int]) -> dict[int, int]:
        """What follows from known groups by sums with one unknown: group -> the sum that gives it, in that order."""
        reached = set(known)
        unknown = [sum(g not in reached for g in (base, *values)) for base, values in self.sums]
        queue = deque(s for s, count in enumerate(unknown) if count == 1)
        found: dict[int, int] = {}
        while queue:
            s = queue.popleft()
            base, values = self.sums[s]
            for group in {base, *values} - reached:  # one, or none if it has been found meanwhile
                found[group] = s
                reached.add(group)
                for other in self.of[group]:
                    unknown[other] -= 1
                    if unknown[other] == 1:
                        queue.append(other)
        return found


@functools.lru_cache(maxsize=1024)
def lattice(cells: frozenset[Cell]) -> Lattice:
    """The lattice of a part's groups (see `parts`)."""
    sums: dict[tuple[Cell, str], set[Cell]] = defaultdict(set)
    seen, pending = set(cells), list(cells)
    while pending:
        group = pending.pop()
        for pair in group:
            base = group - {pair}
            sums[base, pair[0]].add(group)
            if base not in seen:
                seen.add(base)
                pending.append(base)
    incomplete = _incomplete(sums)
    groups = tuple(sorted(seen, key=name))
    index = {group: i for i, group in enumerate(groups)}
    pairs: list[tuple[int, tuple[int, ...]]] = sorted(
        (index[base], tuple(sorted(index[v] for v in values)))
        for (base, attribute), values in sums.items()
        if (base, attribute) not in incomplete
    )
    of: list[list[int]] = [[] for _ in groups]
    for s, (whole, members) in enumerate(pairs):
        for g in (whole, *members):
            of[g].append(s)
    return Lattice(groups, index, tuple(pairs), tuple(map(tuple, of)))


def _incomplete(sums: Mapping[tuple[Cell, str], set[Cell]]) -> set[tuple[Cell, str]]:
    """The (base, attribute) of which the table cannot have all values.

    There the base without one pair has one more value, which the table does not divide by that pair's attribute: with
    the old in the table, but not the old by sex, the men are not the young men.
    """
    found: set[tuple[Cell, str]] = set()
    for base, attribute in sorted(sums, key=lambda key: len(key[0])):
        for pair in base:
            larger = base - {pair}
            more = (g for g in sums[larger, attribute] if g | {pair} not in sums[base, attribute])
            if (larger, attribute) in found or any((g, pair[0]) not in sums for g in more):
                found.add((base, attribute))
                break
    return found


def name(group: Cell) -> tuple[int, list[tuple[str, str]]]:
    """A key to sort groups by: larger ones first, then by name."""
    return len(group), sorted(group)
