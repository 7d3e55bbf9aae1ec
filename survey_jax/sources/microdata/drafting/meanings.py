"""What the codes of a column seem to mean: an answer, no answer, not asked, or what only the user can say.

By the words of a label, in many languages, and by rules that need no language: which codes stand apart from the scale,
and which labels recur so in many questions.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from survey_jax.common.errors import plural
from survey_jax.common.yaml_texts import TODO
from survey_jax.sources.microdata import words
from survey_jax.sources.microdata.codes import order
from survey_jax.sources.microdata.drafting.seen import Seen
from survey_jax.sources.microdata.words import Says

MANY = 3  # as many questions show that a code of theirs is meant for all

_WHOLE = re.compile(r"-?\d{1,9}")
_NO_ANSWER = {int(digit * times) for digit in "789" for times in range(1, 7)} | {97, 98}
_NO_ANSWER |= {10**digits - below for digits in range(3, 7) for below in range(1, 6)}  # 995 to 999, 9995 to 9999, ...
_ABBREVIATIONS = 5  # as many answers of three letters at most are abbreviations themselves: states, parties


@dataclasses.dataclass(frozen=True)
class Shared:
    """What many questions of a file have in common.

    Attributes:
      silent: codes without a label that stand apart from the answers -> in how many questions.
      recurring: code and label, of unknown words, that stand apart from the answers -> in how many questions.
    """

    silent: Mapping[str, int] = dataclasses.field(default_factory=dict)
    recurring: Mapping[tuple[str, str], int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Meanings:
    """The codes of a column, in order, without those that the file declares missing.

    Attributes:
      answers: code -> its text, which begins with TODO where only the user can say what it means.
      doubts: code of an answer -> what the user is to say of it.
      missing: code of no answer -> why; "" for a code without a label.
      not_asked: code of a question that was not asked -> why.
    """

    answers: dict[str, str]
    doubts: dict[str, str]
    missing: dict[str, str]
    not_asked: dict[str, str]


def meanings(seen: Seen, shared: Shared, is_list: bool = False) -> Meanings:
    """Sorts a column's codes; `is_list`: its numbers are names, as of countries, and no scale has an end."""
    found = Meanings({}, {}, {}, {})
    standing_apart = {c for c in apart(seen) if not is_list or _number(c) < 0}
    negative = unlabelled_negative(seen)
    for code in seen.known:
        label = seen.label(code)
        says = _says(seen, code)
        follows = not order(code)[0] and f"{_number(code) - 1:g}" in found.missing  # "6 No sabe, 7 Rechaza"
        if says in (Says.NO_ANSWER_APART, Says.NOT_ASKED_APART) and (code in standing_apart or follows):
            says = Says.NO_ANSWER if says is Says.NO_ANSWER_APART else Says.NOT_ASKED
        why = code if label == code else f"{code} {label}"
        if says is Says.NO_ANSWER:
            found.missing[code] = why
        elif says is Says.NOT_ASKED:
            found.not_asked[code] = why
        elif says is None and label and (code, label) in shared.recurring:
            apart_in = plural(shared.recurring[code, label], "question")
            found.missing[code] = f"{code} {label} (apart from the answers of {apart_in}: or was it not asked?)"
        elif code in negative or (label is None and code in standing_apart and code in shared.silent):
            found.missing[code] = ""
        else:
            found.answers[code] = _answer(seen, code)
            if _is_doubtful(seen, code, says, code in standing_apart):
                found.answers[code] = f"{TODO}: {label or code}"
                found.doubts[code] = "an answer, or no answer?" if label else "no label: an answer, or no answer?"
    folded = Counter(text.casefold() for text in found.answers.values())
    for code, text in found.answers.items():
        found.answers[code] = text if folded[text.casefold()] == 1 or TODO in text else f"{text} ({code})"
    return found


def share(questions: Collection[Seen]) -> Shared:
    """The codes and labels that stand apart in many questions, and in more than have them among their answers."""
    stands_apart: Counter[str] = Counter()
    labelled_apart: Counter[tuple[str, str]] = Counter()
    occurs: Counter[str] = Counter()
    labels: Counter[tuple[str, str]] = Counter()
    for seen in questions:
        codes = apart(seen)
        stands_apart.update(c for c in codes if c in seen.counts and seen.label(c) is None)
        occurs.update(meanings(seen, Shared()).answers.keys())
        for code, label in seen.variable.values.items():
            if words.says(label) is None and not seen.variable.declared_missing(code):
                labels[code, label] += 1
                labelled_apart[code, label] += code in codes
    silent = {c: n for c, n in sorted(stands_apart.items(), key=lambda item: order(item[0])) if _many(n, occurs[c])}
    return Shared(silent, {pair: n for pair, n in labelled_apart.items() if _many(n, labels[pair])})


def may_be_answers(seen: Seen) -> int:
    """How many codes are answers, as far as one column tells."""
    return len(meanings(seen, Shared()).answers)


def unlabelled_negative(seen: Seen) -> list[str]:
    """Negative codes without a label, where the file has labels and none of its negative codes is an answer."""
    values = seen.variable.values
    none = (Says.NO_ANSWER, Says.NOT_ASKED)
    answers = [c for c in seen.known if c in values and _says(seen, c) not in none]
    if not values or any(_number(c) < 0 for c in answers):
        return []
    return [c for c in seen.counts if _number(c) < 0 and c not in values]


def apart(seen: Seen) -> list[str]:
    """Codes that surveys use for no answer (-9, 8, 99, 998, ...) and that continue no scale of the column.

    The scale is the longest run of whole numbers: with 1 to 5 or 0 to 10, 99 is apart; with 1 to 10, 9 is not. A
    negative code is in the scale if there is as much above zero as below.
    """
    values = seen.variable.values
    numbers = {int(c): c for c in seen.known if _WHOLE.fullmatch(c)}
    lowest = -_below_zero(numbers.keys(), bool(values))
    scale = _scale(n for n in numbers if n >= lowest)
    if len(scale) == 1 and any(order(c)[0] for c in seen.counts):
        scale = []  # the answers are texts
    top = max(scale, default=-1)
    found = [c for n, c in sorted(numbers.items()) if n < lowest or (n in _NO_ANSWER and n > top)]
    return found if values or len(seen.known) - len(found) > 1 else []


def _scale(numbers: Iterable[int]) -> list[int]:
    """The longest run, of several the lowest; one of codes of no answer alone (8, 9) only where there is no other."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return max(runs, key=lambda run: (not set(run) <= _NO_ANSWER, len(run), run[0] >= 0, -run[0]), default=[])


def _below_zero(numbers: Collection[int], labelled: bool) -> int:
    """How far below zero a scale reaches, perhaps without zero, or without an end that nobody chose; 0: it does not."""
    low = next(n for n in range(len(numbers) + 1) if -n - 1 not in numbers)
    high = next(n for n in range(len(numbers) + 1) if n + 1 not in numbers)
    if 0 in numbers:
        return low if low == high or (min(low, high) >= 3 and abs(low - high) == 1) else 0
    return low if low == high > 1 and not labelled else 0


def _says(seen: Seen, code: str) -> Says | None:
    label = seen.label(code)
    if label is None:
        return None
    if words.is_abbreviation(label):
        others = [other for c in seen.known if c != code and (other := seen.label(c)) and not other.isdecimal()]
        if len(others) >= _ABBREVIATIONS and all(map(words.is_abbreviation, others)):
            return None
    return words.says(label)


def _answer(seen: Seen, code: str) -> str:
    """The text of an answer; with TODO in front where the user must write it."""
    return seen.label(code) or (code if _stands_for_itself(seen, code) else f"{TODO}: what {code} means")


def _is_doubtful(seen: Seen, code: str, says: Says | None, stands_apart: bool) -> bool:
    """Whether a code may as well be no answer, of those that are not known to be."""
    label = seen.label(code)
    if label is None:
        return stands_apart and bool(seen.variable.values)
    if says in (Says.NO_ANSWER_APART, Says.NOT_ASKED_APART):  # "trifft nicht zu" below "trifft zu" is an answer
        own = set(words.tokens(label))
        others = [set(words.tokens(text)) for c in seen.known if c != code and (text := seen.label(c))]
        return not any(own & other for other in others)
    if says is Says.ANSWER and stands_apart:  # "None" below points from 0 to 10, which is none of them
        rest = [c for c in seen.known if c != code]
        return 2 * sum(seen.label(c) is None for c in rest) > len(rest)
    return says is Says.DOUBTFUL or (says is None and stands_apart)


def _stands_for_itself(seen: Seen, code: str) -> bool:
    """Whether a number without a label is its own text: in a scale of which the ends, or few numbers, have labels."""
    labelled = [_number(c) for c in seen.known if c in seen.variable.values and _says(seen, c) in (None, Says.ANSWER)]
    bare = [c for c in seen.known if seen.label(c) is None]
    return len(labelled) > 0 and (min(labelled) < _number(code) < max(labelled) or len(bare) > len(labelled))


def _number(code: str) -> float:
    return order(code)[1]


def _many(apart_in: int, occurs_in: int) -> bool:
    return apart_in >= MANY and 2 * apart_in > occurs_in
