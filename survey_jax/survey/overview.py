"""What a table says, in lines for a terminal: toplines, a few rows as sentences, and one question by group as bars."""

import difflib
import itertools
import string
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from survey_jax.common.console import one_line
from survey_jax.common.errors import UserError, plural
from survey_jax.survey.table import Answer, group_name
from survey_jax.survey.text import shorten

Words = Callable[[Answer], str]  # row -> how a prompt calls its group
QUESTIONS, ROWS, KINDS, OPTIONS = 3, 3, 4, 7  # shown, at most
EVERYBODY = "all respondents"
_TEXT, _OPTION = 100, 30  # characters of a question, and of an option
_GROUP, _BAR, _WIDEST = 30, 20, 60  # characters of a group's name beside a bar, and of a bar, at least and at most
_PLAIN = 120  # characters of a line of bars that no terminal limits


class Question(NamedTuple):
    """A question in one wave and one wording.

    Attributes:
      rows: one for each group, in the order of the table.
      topline: the answers of all respondents, whose group is empty; None where only groups are known.
    """

    rows: list[Answer]
    topline: Answer | None

    @property
    def all(self) -> list[Answer]:
        """The topline, if there is one, and the groups' rows; there is at least one of them."""
        return [*([self.topline] if self.topline else []), *self.rows]


def by_question(answers: Iterable[Answer], toplines: Iterable[Answer] = ()) -> list[Question]:
    """The questions of a table in the order in which they first appear."""
    found: dict[Any, Question] = {}
    for answer in (*toplines, *answers):
        key = (answer.question_key, answer.wave, answer.question, answer.options)
        question = found.setdefault(key, Question([], None))
        if answer.group:
            question.rows.append(answer)
        else:
            found[key] = Question(question.rows, answer)
    return list(found.values())


def by_kind(answers: Iterable[Answer]) -> dict[str, list[Answer]]:
    """A row of each group, by what the groups are made of, such as "country+age"."""
    found: dict[str, dict[Any, Answer]] = defaultdict(dict)
    for answer in answers:
        found["+".join(name for name, _ in answer.group)].setdefault(answer.group, answer)
    return {kind: list(groups.values()) for kind, groups in found.items()}


def nonresponse(answer: Answer) -> float | None:
    """The share of those asked who gave no answer; None where the table does not say, as numbers of 0 to 1 do."""
    share = answer.extra.get("item_nonresponse")
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        return None
    return float(share)


def percent(share: float) -> str:
    """A share in whole percent; what is not nothing is not 0.

    >>> percent(0.204), percent(0.001), percent(0.0)
    ('20%', '<1%', '0%')
    """
    return "<1%" if 0 < share < 0.005 else f"{100 * share:.0f}%"


def shares(answer: Answer) -> str:
    """The shares of a row, with n and those who gave no answer; without the rest of a long list of options."""
    pairs = list(zip(answer.options, answer.probs, strict=True))
    parts = [f"{shorten(option, _OPTION)} {percent(share)}" for option, share in pairs[:OPTIONS]]
    if more := len(pairs) - OPTIONS:
        parts += [f"{plural(more, 'more option')} {percent(sum(s for _, s in pairs[OPTIONS:]))}"] if more > 0 else []
    missing = nonresponse(answer)
    behind = [f"n {answer.n:,.0f}"] if answer.n else []
    behind += [] if missing is None else [f"no answer {missing:.1%}"]
    return ", ".join(parts) + (f" ({', '.join(behind)})" if behind else "")


def topline_lines(toplines: Sequence[Answer]) -> list[str]:
    """The newest topline of each of the first questions, to hold against a published one."""
    newest: dict[Any, Answer] = {}
    for answer in toplines:
        known = newest.get(answer.question_key)
        if known is None or _age(answer) >= _age(known):
            newest[answer.question_key] = answer
    lines = []
    for answer in list(newest.values())[:QUESTIONS]:
        wave = f", {answer.wave}" if answer.wave else ""
        lines += [f"  {answer.question_id}{wave}: {shorten(answer.question, _TEXT)}", f"    {shares(answer)}"]
    more = len(newest) - QUESTIONS
    return lines + ([f"  {plural(more, 'more question')}: --show=QUESTION"] if more > 0 else [])


def said(answer: Answer, who: Words) -> str:
    """A row as people would say it, in a line."""
    pairs = sorted(zip(answer.options, answer.probs, strict=True), key=lambda pair: -pair[1])
    parts = [f"{100 * share:.0f} say “{shorten(option, _OPTION)}”" for option, share in pairs if share >= 0.005]
    counted = ", ".join(parts[:OPTIONS]) + (", and others less often" if len(parts) > OPTIONS else "")
    return f"“{shorten(answer.question, _TEXT)}” Of 100 people like “{who(answer)}”, {counted}."


def said_lines(answers: Sequence[Answer], who: Words) -> list[str]:
    """The first, the middle and the last row as sentences."""
    chosen = sorted({0, len(answers) // 2, len(answers) - 1})
    return [f"  {said(answers[i], who)}" for i in chosen]


def kind_lines(answers: Sequence[Answer], who: Words) -> list[str]:
    """What a prompt calls one group of each kind."""
    found = by_kind(answers)
    lines = [f"  {kind} ({plural(len(groups), 'group')}): {who(groups[0])}" for kind, groups in found.items()]
    more = len(lines) - KINDS
    return lines[:KINDS] + ([f"  {plural(more, 'more kind')} of groups"] if more > 0 else [])


def find(questions: Sequence[Question], name: str, flag: str) -> list[Question]:
    """The questions of this id, in all surveys and waves. Raises UserError, which begins with `flag`, for none."""
    ids = [question.all[0].question_id for question in questions]
    found = [question for question, own in zip(questions, ids, strict=True) if own == name]
    found = found or [q for q, own in zip(questions, ids, strict=True) if own.casefold() == name.casefold()]
    if not found:
        known = list(dict.fromkeys(ids))
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"the first are {', '.join(known[:5])}"
        raise UserError(f"{flag}={name}: no such question among {len(known):,}; {hint}")
    return found


def show(question: Question) -> None:
    """Prints a question by group: n, who gave no answer, shares, and a bar of the options' letters."""
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=_PLAIN)
    first = question.all[0]
    wave = f", {first.wave}" if first.wave else ""
    print(one_line(f"{first.question_id} ({first.survey}{wave}; scale {first.scale or 'unknown'}): {first.question}"))
    letters = string.ascii_uppercase[: len(first.options)]
    for letter, option in zip(letters, first.options, strict=True):
        print(f"  {letter}  {one_line(option)}")
    names = [one_line(group_name(answer.group)) or EVERYBODY for answer in question.all]
    left = console.width - min(_GROUP, max(map(cell_len, names))) - 20  # less n, missing and the space between columns
    numbers = left - 5 * len(letters) >= _BAR  # a share takes as much: in a narrow terminal there are bars alone
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("group", overflow="fold", max_width=_GROUP)
    for title in ("n", "missing", *(letters if numbers else "")):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    kinds = [[attribute for attribute, _ in answer.group] for answer in question.all]
    for i, (answer, name, kind) in enumerate(zip(question.all, names, kinds, strict=True)):
        if i and kind != kinds[i - 1]:
            table.add_row()
        missing = nonresponse(answer)
        cells = [f"{answer.n:,.0f}" if answer.n else "?", "?" if missing is None else f"{missing:.1%}"]
        cells += [percent(share) for share in answer.probs] if numbers else []
        bar = _bar(answer.probs, letters, min(_WIDEST, left - 5 * len(letters) * numbers))
        table.add_row(Text(name), *cells, bar)
    console.print(table)


def _bar(shares: Sequence[float], letters: str, width: int) -> Text:
    """As much of the width for each letter as its share; every other one in reverse, where colours can be seen."""
    ends = [round(width * end) for end in itertools.accumulate(shares)]
    bar = Text()
    for i, (letter, start, end) in enumerate(zip(letters, [0, *ends], ends, strict=False)):
        bar.append(letter * (end - start), style="" if i % 2 else "reverse")
    return bar


def _age(answer: Answer) -> tuple[int, str]:
    """Orders waves that are numbers or years, and those of one form."""
    wave = answer.wave or ""
    return len(wave), wave
