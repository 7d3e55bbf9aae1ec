"""What the columns of a file of respondents seem to be: guesses for a draft, which its user corrects."""

import dataclasses
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

import numpy as np

from survey_jax.common.errors import plural
from survey_jax.sources.microdata.codes import NO_ANSWER_LABEL, NOT_ASKED_LABEL, order
from survey_jax.sources.microdata.readers import Column, Variable
from survey_jax.survey.table import MAX_OPTIONS

ATTRIBUTES = {
    "country": r"(b_)?countr(y|ies)(_?(alpha|name|code))?|cntry|nation|land",
    "region": r"region.*|state|province",
    "sex": r"sex|gender|gndr|female|male",
    "age": r"age|agea|age_?(years|group|grp)|r?_?age",
    "education": r"edu.*|degree|isced|eisced|schooling",
    "race": r"race.*|ethnic.*",
    "income": r"income.*|hinctnta",
    "religion": r"relig(ion)?",
    "party": r"party(id)?|pid[37]?.*",
}
YOUNGEST, OLDEST = 18, 110  # ages outside are put under missing
MANY = 3  # as many questions show that a code of theirs is meant for all

_WEIGHT = re.compile(r".*(weight|wght|wgt|gewicht|ponder|poids).*|w|wt.*|w_.*|.*_wt?", re.IGNORECASE)
_NOTHING = ("na", "nan", "n/a", ".", "null", "#null!")  # how CSV files write blank cells; "None" and "-" are answers
_WHOLE = re.compile(r"-?\d{1,9}")
_NO_ANSWER = {int(digit * times) for digit in "789" for times in range(1, 5)} | {97, 98, 997, 998, 9997, 9998}
_OLD_OR_NO_ANSWER = (77, 88, 97, 98, 99)  # ages, and codes that surveys use for no answer
_DATE = re.compile(
    r"\d{4}([-/.])\d{1,2}\1\d{1,2}([ T].*)?|\d{1,2}([-/.])\d{1,2}\3(\d{4}|\d{2})([ T].*)?|\d{1,2}:\d{2}(:\d{2}.*)?|"
    r"(19|20)\d{2}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])|\d{1,2}[-. ]+[^\W\d]{3,9}[-. ]+(\d{4}|\d{2})|"
    r"[^\W\d]{3,9}\.? \d{1,2}, ?\d{4}"
)
_FREE_TEXT = re.compile(r".*(comment|remark|verbatim|specify|free_?text|open_?end).*", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Seen:
    """A column that was read.

    Attributes:
      counts: code -> how many respondents; numbers first, in order; neither blank nor declared missing.
      blank: codes that stand for blank cells.
      individual: every respondent has a value of their own.
    """

    name: str
    variable: Variable
    counts: Mapping[str, int]
    blank: tuple[str, ...]
    individual: bool


def see(name: str, variable: Variable, column: Column) -> Seen:
    """Counts a column's codes."""
    present = column.index[column.index >= 0]
    counts: Counter[str] = Counter()
    for code, n in zip(column.codes, np.bincount(present, minlength=len(column.codes)).tolist(), strict=True):
        counts[code] += n
    codes = sorted((c for c, n in counts.items() if c and n), key=order)
    blank = () if variable.values else tuple(c for c in codes if c.lower() in _NOTHING)
    kept = {c: counts[c] for c in codes if c not in blank and not variable.declared_missing(c)}
    individual = len(set(column.codes)) == len(column.index) > 2
    return Seen(name, variable, kept, blank, individual)


def is_weight(seen: Seen) -> bool:
    """Whether a column is named like a weight and holds numbers, other than the few whole ones that answers are."""
    whole = all(map(_WHOLE.fullmatch, seen.counts))
    return called_weight(seen) and not (whole and no_question(seen) is None)


def called_weight(seen: Seen) -> bool:
    """Whether a column of numbers is named like a weight."""
    numbers = all(not word and number >= 0 for word, number, _ in map(order, seen.counts))
    return bool(_WEIGHT.fullmatch(seen.name)) and not seen.variable.values and len(seen.counts) > 1 and numbers


def attribute_of(seen: Seen) -> str | None:
    """The attribute that a column is named like, if any."""
    if not seen.counts:
        return None
    return next((a for a, pattern in ATTRIBUTES.items() if re.fullmatch(pattern, seen.name, re.IGNORECASE)), None)


def no_question(seen: Seen) -> str | None:
    """Why a column is no question; None where it may be one."""
    if not seen.counts:
        return "no values"
    if seen.variable.date or (not seen.variable.values and _mostly(bool(_DATE.fullmatch(c)) for c in seen.counts)):
        return "dates or times"
    if seen.individual:
        return "a value of its own for every respondent"
    if _free_text(seen):
        return "texts in the respondents' own words"
    return None if 2 <= len(options(seen)) <= MAX_OPTIONS else plural(len(seen.counts), "different value")


def _free_text(seen: Seen) -> bool:
    """Whether the texts are the respondents' own words, which unlike answers rarely recur."""
    texts = [n for code, n in seen.counts.items() if order(code)[0]]
    if seen.variable.values or not texts:
        return False
    return bool(_FREE_TEXT.fullmatch(seen.name)) or (len(texts) > 2 and _mostly(n == 1 for n in texts))


def _mostly(which: Iterable[bool]) -> bool:
    found = list(which)
    return 2 * sum(found) > len(found)


def options(seen: Seen, silent: Collection[str] = ()) -> dict[str, str]:
    """code -> text of what seem to be answers; `silent` codes are none."""
    variable = seen.variable
    known = {c for c in variable.values if not variable.declared_missing(c)}
    known |= seen.counts.keys() - {*unlabelled_negative(seen), *silent}
    labels = {c: variable.values.get(c, c) for c in sorted(known, key=order)}
    labels = {c: label for c, label in labels.items() if not _no_option(label)}
    folded = Counter(label.casefold() for label in labels.values())
    return {c: label if folded[label.casefold()] == 1 else f"{label} ({c})" for c, label in labels.items()}


def _no_option(label: str) -> bool:
    return bool(NO_ANSWER_LABEL.search(label) or NOT_ASKED_LABEL.search(label))


def unlabelled_negative(seen: Seen) -> list[str]:
    """Negative codes without a label, where the file has labels and none of its negative codes is an answer."""
    variable = seen.variable
    answers = [c for c, label in variable.values.items() if not variable.declared_missing(c) and not _no_option(label)]
    if not variable.values or any(map(_negative, answers)):
        return []
    return [c for c in seen.counts if _negative(c) and c not in variable.values]


def _negative(code: str) -> bool:
    return order(code)[1] < 0


def no_answers(seen: Seen) -> tuple[list[str], list[str]]:
    """The codes of no answer and those not asked, by label or sign, unless the file declares them missing anyway."""
    variable = seen.variable
    known = {*seen.counts, *variable.values}
    labels = {c: variable.values.get(c, c) for c in sorted(known, key=order) if not variable.declared_missing(c)}
    not_asked = [c for c, label in labels.items() if NOT_ASKED_LABEL.search(label)]
    negative = unlabelled_negative(seen)
    missing = [c for c, label in labels.items() if c in negative or NO_ANSWER_LABEL.search(label)]
    return [c for c in missing if c not in not_asked], not_asked


def apart(seen: Seen) -> list[str]:
    """Codes without a label that surveys use for no answer (-9, 8, 99, ...) and that continue no scale of the column.

    The scale is the longest run of whole numbers: with 1 to 5 or 0 to 10, 99 is apart; with 1 to 10, 9 is not.
    """
    values = seen.variable.values
    numbers = {int(c): c for c in sorted({*seen.counts, *values}, key=order) if _WHOLE.fullmatch(c)}
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    scale = max(runs, key=lambda run: (len(run), run[0] >= 0, -run[0]), default=[])
    if len(scale) == 1 and any(order(c)[0] for c in seen.counts):
        scale = []  # the answers are texts
    unusual = [n for n in numbers if n not in scale and (n < 0 or n in _NO_ANSWER)]
    found = [numbers[n] for n in unusual if numbers[n] in seen.counts and numbers[n] not in values]
    return found if len(seen.counts) - len(found) > 1 else []


def shared(questions: Iterable[Seen]) -> dict[str, int]:
    """Codes that stand apart in many questions, and in more than have them among their answers -> in how many."""
    stands_apart: Counter[str] = Counter()
    occurs: Counter[str] = Counter()
    for seen in questions:
        stands_apart.update(apart(seen))
        occurs.update(options(seen).keys())
    codes = sorted(stands_apart, key=order)
    return {c: stands_apart[c] for c in codes if stands_apart[c] >= MANY and 2 * stands_apart[c] > occurs[c]}


def doubtful_ages(counts: Mapping[str, int]) -> dict[str, int]:
    """Ages that may be codes of no answer: more respondents have them than the five ages below -> how many."""
    found = {}
    for age in _OLD_OR_NO_ANSWER:
        below = [counts.get(str(a), 0) for a in range(age - 5, age) if a not in _OLD_OR_NO_ANSWER]
        if counts.get(str(age), 0) > sum(below):
            found[str(age)] = counts[str(age)]
    return found
