"""Finds which cell of a table, a question put to a group, a row of answers belongs to."""

import dataclasses
from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Float

from survey_jax.common.errors import UserError, some
from survey_jax.survey.table import Answer
from survey_jax.survey.text import Questions, fold, plain, same_group, wording

_LISTED = 3  # rows that a message names


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a row belongs.

    Attributes:
      cell: the number of the cell, from 0.
      order: for each option of the cell, the number of the same option in the row.
    """

    cell: int
    order: tuple[int, ...]


class Cells:
    """The cells of a table, in which rows of answers are looked up.

    The group must be the same to a reader (`text.same_group`).

    Args:
      asked: the cells: each a question put to a group.
      by_id: whether a row with the survey and the id of a question belongs to that question, whatever its wording.
        Any other row belongs to the question of the same wording (`text.Questions`).

    Raises:
      UserError: a cell is there twice.
    """

    def __init__(self, asked: Sequence[Answer], by_id: bool = True):
        self._asked, self._by_id = asked, by_id
        self._cells: dict[Hashable, int] = {}
        for number, answer in enumerate(asked):
            key = (answer.question_key, same_group(answer.group))
            if key in self._cells:
                raise UserError(f"{answer.describe()}: is predicted twice; leave one of them out")
            self._cells[key] = number
        self._ids = {a.question_key for a in asked}
        self._questions = Questions(asked)
        self._same: dict[Hashable, set[tuple[str, str]]] = defaultdict(set)
        for answer in asked:
            self._same[wording(answer)].add(answer.question_key)

    def places(self, answers: Sequence[Answer]) -> list[Place]:
        """The place of each row.

        Raises:
          UserError: rows that belong to no cell, which it names; a row whose options are not those of its question, or
            whose wording is that of several questions.
        """
        found = [self._place(answer) for answer in answers]
        lost = [a.describe() for a, place in zip(answers, found, strict=True) if place is None]
        if lost:
            raise UserError(
                f"no prediction for {some(lost, _LISTED)}: neither the id nor the wording of the question is "
                "known together with this group; leave such rows out, or predict them"
            )
        return [place for place in found if place is not None]

    def _place(self, answer: Answer) -> Place | None:
        question = self._question(answer)
        cell = self._cells.get((question, same_group(answer.group)))
        if cell is None:
            return None
        asked = self._asked[cell]
        for form in (fold, plain):  # punctuation counts where options differ in nothing else
            options, own = ([form(o) or fold(o) for o in row.options] for row in (asked, answer))
            if sorted(options) == sorted(own) and len(set(own)) == len(own):
                return Place(cell, tuple(map(own.index, options)))
        raise UserError(
            f"{answer.describe()}: has the options {', '.join(answer.options)}, and what is predicted has "
            f"{', '.join(asked.options)}; make them the same"
        )

    def _question(self, answer: Answer) -> tuple[str, str] | None:
        """The survey and id of the question that a row asks."""
        if self._by_id and answer.question_key in self._ids:
            return answer.question_key
        same = self._questions.find(answer)
        if same is None:
            return None
        keys = self._same[wording(same)]
        if len(keys) > 1:
            names = some(" / ".join(key) for key in keys)
            raise UserError(f"{answer.describe()}: reads like several questions ({names}); give it the id of one")
        return same.question_key


def in_order(values: Sequence[float] | Float[np.ndarray, " K"], place: Place) -> Float[np.ndarray, " K"]:
    """The values of a row's options, in the order of the cell's options."""
    return np.asarray(values, float)[list(place.order)]
