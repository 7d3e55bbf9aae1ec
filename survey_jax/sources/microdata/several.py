"""Several answers in one cell, as platforms write those to a question that may be answered more than once."""

from collections import Counter
from collections.abc import Mapping, Sequence

from survey_jax.sources.microdata.codes import canonical, order

_SEPARATORS = (";", "|", "\n", ",", " ")  # a space between numbers alone
_MOST = 40  # answers to choose from


def split(cell: str, separator: str) -> list[str]:
    """The codes in a cell."""
    return [code for code in map(canonical, cell.split(separator)) if code]


def separator_of(counts: Mapping[str, int]) -> str | None:
    """What separates the answers in a column's cells, if there seem to be several.

    Then cells are sets of a few answers: none is twice in a cell, most also stand alone in one, and all recur.

    Args:
      counts: cell -> how many respondents have it.
    """
    return next((s for s in _SEPARATORS if any(s in cell for cell in counts) and _is_set(counts, s)), None)


def _is_set(counts: Mapping[str, int], separator: str) -> bool:
    cells = {cell: split(cell, separator) for cell in counts}
    recur: Counter[str] = Counter()
    for cell, answers in cells.items():
        recur.update(dict.fromkeys(answers, counts[cell]))
    alone = {answers[0] for answers in cells.values() if len(answers) == 1}
    numbers = not any(order(answer)[0] for answer in recur)
    if separator == " " and not numbers:
        return False
    if separator == "," and numbers and max(map(len, cells.values())) < 3:
        return False  # decimal commas
    return (
        2 <= len(recur) <= min(_MOST, len(cells) - 1)
        and max(map(len, cells.values())) > 1
        and min(recur.values()) > 1
        and 2 * len(alone) >= len(recur)
        and all(len(set(answers)) == len(answers) for answers in cells.values())
    )


def answers(counts: Mapping[str, int], separator: str) -> Sequence[str]:
    """All answers in the cells of a column; numbers first, in order."""
    return sorted({answer for cell in counts for answer in split(cell, separator)}, key=order)
