"""Makes the page of a survey table: data/table.html.jinja, self-contained, to look at before anything is trained."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from survey_jax.common.errors import plural, some
from survey_jax.survey.overview import Question, Words, by_kind, nonresponse, percent
from survey_jax.survey.report import page
from survey_jax.survey.report.disclosure import surveys
from survey_jax.survey.table import ABOUT, Answer, group_name
from survey_jax.survey.text import shorten
from survey_jax.survey.weights import Weights

OPEN = 20  # questions: of more, the tables by group are folded
_CHARACTERS = 40  # of a question in the contents


@dataclasses.dataclass(frozen=True)
class TableFacts:
    """What the page says of how the table was made.

    Attributes:
      source: the file that it is made of, or is.
      respondents: how many were counted; None where the source publishes shares, or is a table.
      weights: what their weights do; None where all count the same.
      dropped, repaired: reason -> rows.
      notes: sentences on what was done, or may not be meant.
    """

    source: str
    respondents: int | None
    weights: Weights | None
    dropped: Mapping[str, int]
    repaired: Mapping[str, int]
    notes: Sequence[str]


def render(answers: Sequence[Answer], questions: Sequence[Question], facts: TableFacts, who: Words) -> str:
    """The page, without scripts; every text from outside is escaped, and nothing is loaded.

    Args:
      answers: at least one.
      questions: those of the answers, with their toplines where respondents were counted.
      who: what a prompt calls a row's group.
    """
    return page.template("table.html.jinja").render(
        answers=answers, questions=questions, facts=facts, who=who, kinds=_kinds(answers), surveys=surveys(answers),
        about=_about(answers), groups=len({a.group for a in answers}), most_open=OPEN, characters=_CHARACTERS,
        plural=plural, group_name=group_name, nonresponse=nonresponse, percent=percent, shorten=shorten, shade=_shade,
        zip=zip,
    )  # fmt: skip


def _kinds(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """A line for each kind of group: how many groups and rows, the fewest respondents of a row, and an example."""
    found = []
    rows = Counter("+".join(name for name, _ in a.group) for a in answers)
    fewest: dict[str, float] = {}
    for answer in answers:
        if answer.n is not None:
            kind = "+".join(name for name, _ in answer.group)
            fewest[kind] = min(answer.n, fewest.get(kind, answer.n))
    for kind, groups in by_kind(answers).items():
        found.append(
            {"kind": kind, "groups": len(groups), "rows": rows[kind], "fewest": fewest.get(kind), "example": groups[0]}
        )
    return found


def _about(answers: Sequence[Answer]) -> dict[str, str]:
    """What the table's column `about` says; with the surveys' names where they differ."""
    said: dict[str, dict[str, set[str]]] = {}
    for answer in answers:
        for term, text in answer.extra.get(ABOUT, {}).items():
            said.setdefault(term, {}).setdefault(text, set()).add(answer.survey)
    one = len({a.survey for a in answers}) == 1
    return {
        term: "; ".join(text if one else f"{some(names)}: {text}" for text, names in texts.items())
        for term, texts in said.items()
    }


def _shade(share: float) -> int:
    """How dark the cell of a share is: 0 to 10."""
    return round(10 * share)
