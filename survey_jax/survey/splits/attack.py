"""How near train comes to a test row by sums and differences of its groups, which `subtraction` is to prevent.

With counts (effective respondents, or respondents, or one a row, times shares), a held-out group is estimated by a
group that contains it less the known groups beside it, or by the known groups within it. A group that train lacks is
the sum of a division that train has. Of several estimates of a row the one counts whose number of people is nearest to
the row's own; whoever attacks would not know that, so this is the best that can be done this way.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.spatial.distance import cdist

from survey_jax.common.errors import plural
from survey_jax.survey.splits.kinds import NEW, kinds
from survey_jax.survey.splits.lattice import Cell, Lattice, cell, lattice
from survey_jax.survey.splits.subtraction import Part, question_parts
from survey_jax.survey.table import Answer


@dataclasses.dataclass(frozen=True)
class Guess:
    """What arithmetic on train says of a row.

    Attributes:
      shares: the estimate, in option order; sums to 1.
      tv: total variation distance to the row's own distribution, in [0, 1].
      seen_mean_tv: the same of the mean over train's groups of the same question, the simplest rule there is.
    """

    row: Answer
    shares: tuple[float, ...]
    tv: float
    seen_mean_tv: float


def attack(train: Sequence[Answer], rows: Sequence[Answer], table: Sequence[Answer] = ()) -> list[Guess]:
    """Estimates of those of `rows` of which train has groups that contain them, or that they contain.

    Args:
      rows: test rows; of interest are those on questions that train asks.
      table: more rows, which say what values an attribute has.
    """
    by_options: dict[object, tuple[list[Answer], ...]] = defaultdict(lambda: ([], [], []))
    for i, answers in enumerate((train, rows, table)):
        for answer in answers:
            by_options[answer.question_key, answer.options][i].append(answer)
    guesses: list[Guess] = []
    for known, hidden, others in by_options.values():
        people = {cell(a): (a.n_effective or a.n or 1.0) * np.array(a.probs) for a in known}
        if not known or not hidden:
            continue
        mean = np.mean([a.probs for a in known], axis=0)
        row_of = {cell(a): a for a in hidden}
        for part in question_parts(known, hidden, others):
            estimates = _estimates(part, people, {c: (a.n_effective or a.n or 1.0) for c, a in row_of.items()})
            for whole, estimate in estimates.items():
                row, shares = row_of[whole], estimate / estimate.sum()
                guesses.append(Guess(row, tuple(shares.tolist()), _tv(shares, row), _tv(mean, row)))
    return guesses


def summary(train: Sequence[Answer], splits: Mapping[str, Sequence[Answer]]) -> list[str]:
    """A line for each split with rows on questions that train asks."""
    lines = []
    for name, rows in splits.items():
        known = [a for a, kind in zip(rows, kinds(train, rows), strict=True) if kind != NEW]
        guesses = attack(train, known)
        if guesses:
            mean, simple = np.mean([(g.tv, g.seen_mean_tv) for g in guesses], axis=0)
            result = f"mean TV {mean:.3f}; of the mean of the seen groups {simple:.3f}"
        else:
            result = "there is no sum or difference of train's groups to estimate them by"
        if known:
            lines.append(f"by subtraction, {name}: {len(guesses):,} of {plural(len(known), 'row')}; {result}")
    return lines


def _estimates(part: Part, people: Mapping[Cell, np.ndarray], sizes: Mapping[Cell, float]) -> dict[Cell, np.ndarray]:
    """Cell -> people per option, for the held cells that can be estimated."""
    graph = lattice(frozenset(part.cells))
    known = {graph.index[group]: people[part.cells[group]] for group in part.train}
    for group, s in graph.chain(known).items():
        known[group] = _by_sum(graph, s, group, known)
    found = {}
    for rest in part.held:
        group, whole = graph.index[rest], part.cells[rest]
        ways = [known[group]] if group in known else []
        ways += [_by_sum(graph, s, group, known) for s in graph.of[group] if _possible(graph, s, group, known)]
        if ways := [way for way in ways if way.sum() > 0]:
            found[whole] = min(ways, key=lambda way: abs(way.sum() - sizes[whole]))
    return found


def _possible(graph: Lattice, s: int, group: int, known: Mapping[int, np.ndarray]) -> bool:
    """Whether a sum says something of a group: its base is known, or some of what it is the sum of."""
    base, values = graph.sums[s]
    return any(g in known for g in values) if group == base else base in known


def _by_sum(graph: Lattice, s: int, group: int, known: Mapping[int, np.ndarray]) -> np.ndarray:
    """People per option of a group by one sum, as if unknown groups beside it were empty; not negative."""
    base, values = graph.sums[s]
    beside = sum((known[g] for g in values if g in known and g != group), np.zeros(()))
    return np.asarray(beside if group == base else np.maximum(known[base] - beside, 0))


def _tv(shares: np.ndarray, row: Answer) -> float:
    return float(cdist(shares[None], [row.probs], "cityblock")[0, 0] / 2)
