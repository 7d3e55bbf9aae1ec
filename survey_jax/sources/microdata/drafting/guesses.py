"""What the columns of a file of respondents seem to be: guesses for a draft, which its user corrects."""

import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from survey_jax.common.errors import plural
from survey_jax.sources.microdata import words
from survey_jax.sources.microdata.codes import order
from survey_jax.sources.microdata.drafting.meanings import apart, may_be_answers
from survey_jax.sources.microdata.drafting.seen import Seen
from survey_jax.survey.table import MAX_OPTIONS

YOUNGEST, OLDEST = 18, 110  # ages outside are put under missing

_ATTRIBUTES = {  # what data files call them, where words of a language do not tell
    "country": r"(b_)?countr(y|ies)(_?(alpha|name|code))?",
    "region": r"region\d*",
    "sex": r"female|male",
    "age": r"age_?(years|group|grp)|r?_?age",
    "education": r"edu[a-z]*\d*|degree|schooling",
    "race": r"race[a-z]*\d*|ethnic[a-z]*\d*",
    "income": r"income[a-z]*\d*",
    "party": r"pid[37]?[a-z]*",
}
_WEIGHT = re.compile(r".*(weight|wght|wgt|gewicht|ponder|poids|peso).*|w|wt.*|w_.*|.*_w|.*wts?\d*", re.IGNORECASE)
_BODY = re.compile(  # what is weighed, where it is a body
    r"(^|[\W_\d])(kg|kilos?|lbs?|pounds?|body|bmi|height|corporal|corporel|körper\w*)($|[\W_\d])|kg\d*$", re.IGNORECASE
)
_WHOLE = re.compile(r"-?\d{1,9}")
WAVES = ("wave", "year")  # what tells rounds of a survey apart; the first is likelier
DESIGN = {
    "identifier": "an identifier, by its name or label",
    "wave": "a wave of the survey, by its name or label",
    "year": "a year of the survey, by its name or label",
    "stratum": "a stratum of the sample, by its name or label",
    "cluster": "a sampling unit (PSU, cluster), by its name or label",
    "interviewer": "an interviewer's number, by its name or label",
    "interview": "about the interview (date, length, mode), by its name or label",
}
_NINES = re.compile(r"9{4,}")
_FIFTHS = (0.2, 0.4, 0.6, 0.8)
_MOST_YEARS = 30  # more than these are years of birth
_YEAR = re.compile(r"(19|20)\d\d")
_COMMA = re.compile(r"\d+,\d+")
_OLD_OR_NO_ANSWER = (77, 88, 97, 98, 99)  # ages, and codes that surveys use for no answer
_DATE = re.compile(
    r"\d{4}([-/.])\d{1,2}\1\d{1,2}([ T].*)?|\d{1,2}([-/.])\d{1,2}\3(\d{4}|\d{2})([ T].*)?|\d{1,2}:\d{2}(:\d{2}.*)?|"
    r"(19|20)\d{2}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])|\d{1,2}[-. ]+[^\W\d]{3,9}[-. ]+(\d{4}|\d{2})|"
    r"[^\W\d]{3,9}\.? \d{1,2}, ?\d{4}"
)
_FREE_TEXT = re.compile(r".*(comment|remark|verbatim|specify|free_?text|open_?end).*", re.IGNORECASE)
_POINTS = 11  # of the longest scale that is written in numbers alone, 0 to 10; more are counts, scores and totals
_SEXES = 6  # more values than this are no sex


@dataclasses.dataclass(frozen=True)
class Weight:
    """A column that may be a weight.

    Attributes:
      why: what speaks for it, for a remark.
      score: how much speaks for it.
      sure: its name or label says so, and it does not look like what bodies weigh.
    """

    name: str
    why: str
    score: int
    sure: bool


def weight(seen: Seen) -> Weight | None:
    """What speaks for a weight: its name, its label, and many positive numbers with a mean near 1.

    None if nothing does, or if it has the few whole numbers that answers are.
    """
    numbers, counts = _numbers(seen)
    whole = all(map(_WHOLE.fullmatch, seen.counts))
    if numbers is None or (whole and no_question(seen) is None):
        return None
    mean, many = float(np.average(numbers, weights=counts)), len(numbers) > 20
    near_one = many and not whole and 0.9 <= mean <= 1.1 and numbers.min() >= 0 and numbers.max() <= 100
    by_name = called_weight(seen)
    by_label = not by_name and "weight" in frozenset().union(*words.about("", seen.variable.label))
    if not (by_name or by_label or (near_one and numbers.min() > 0)):
        return None
    reasons = [("its name", by_name), ("its label", by_label), (f"a mean of {mean:.2f}", near_one)]
    body = whole and many and np.quantile(numbers, 0.05) >= 30 and np.quantile(numbers, 0.95) <= 250
    body |= any(_BODY.search(text or "") for text in (seen.name, seen.variable.label))
    score = 2 * (by_name or by_label) + near_one + many - 2 * body
    why = " and ".join(reason for reason, holds in reasons if holds)
    return Weight(seen.name, why, int(score), bool((by_name or by_label) and not body))


def called_weight(seen: Seen) -> bool:
    """Whether a column of numbers is named like a weight."""
    named = _WEIGHT.fullmatch(seen.name) or "weight" in frozenset().union(*words.about(seen.name, None))
    return bool(named) and _numbers(seen)[0] is not None


def choose(weights: Sequence[Weight]) -> tuple[list[Weight], list[Weight]]:
    """The weights for which most speaks (more than one: only the user can choose), and the others."""
    best = max((w.score for w in weights), default=0)
    return [w for w in weights if w.score == best], [w for w in weights if w.score < best]


def _numbers(seen: Seen) -> tuple[np.ndarray | None, np.ndarray]:
    """The distinct values, none negative, and how often each occurs; None if there are others, or labels."""
    codes = [c.replace(",", ".") if _COMMA.fullmatch(c) else c for c in seen.counts]
    few = sum(c in seen.variable.values for c in seen.counts) * 10 <= len(seen.counts)
    if len(codes) < 2 or not few or any(word or not 0 <= number < np.inf for word, number, _ in map(order, codes)):
        return None, np.empty(0)
    return np.array([float(c) for c in codes]), np.array(list(seen.counts.values()))


def design(seen: Seen) -> str | None:
    """What a column says of the survey itself (DESIGN), by its whole name or label, if its values fit; else None."""
    whole, _ = words.about(seen.name, seen.variable.label)
    found = next((what for what in words.DESIGN if what in whole), None)
    if found is None or whole & {"weight", *words.ATTRIBUTES} or not seen.counts:
        return None
    numbers = all(not order(c)[0] for c in seen.counts)
    labelled, label = bool(seen.variable.values), seen.variable.label
    years = len(seen.counts) <= _MOST_YEARS and all(_YEAR.fullmatch(seen.label(c) or c) for c in seen.counts)
    of_survey = label is None or "year" in words.about("", label)[0]  # "Year of birth" is not
    fits = {
        "identifier": not labelled and (seen.individual or len(seen.counts) > MAX_OPTIONS),
        "wave": len(seen.counts) <= 10 * MAX_OPTIONS and not seen.individual,
        "year": years and of_survey,
        "stratum": True,
        "cluster": numbers or not labelled,
        "interviewer": not labelled,
        "interview": True,
    }
    return found if fits[found] else None


@dataclasses.dataclass(frozen=True)
class Bands:
    """Bands of a number, as a codebook has them.

    Attributes:
      outside: codes that lie in none.
    """

    names: list[str]
    outside: list[str]


def income_bands(counts: Mapping[str, int], missing: Collection[str]) -> Bands | None:
    """Bands of an income with about a fifth of the respondents each, between numbers of two digits and zeros.

    None where the numbers are too few, or too low, to be amounts of money.
    """
    amounts = {c: n for c, n in counts.items() if c not in missing}
    highest = max(map(_amount, amounts), default=0)
    nines = [c for c, n in amounts.items() if _NINES.fullmatch(c) and _amount(c) == highest and n > 1]
    outside = [c for c in amounts if _amount(c) < 0 or c in nines]
    amounts = {c: n for c, n in amounts.items() if c not in outside}
    if len(amounts) <= 20 or max(map(_amount, amounts)) < 100:
        return None
    values = np.repeat([_amount(c) for c in amounts], list(amounts.values()))
    bounds = sorted({_rounded(float(v)) for v in np.quantile(values, _FIFTHS)} - {0})
    if not bounds:
        return None
    names = [f"{low}-{high - 1}" for low, high in zip([0, *bounds[:-1]], bounds, strict=True)]
    return Bands([*names, f"{bounds[-1]}+"], outside)


def _amount(code: str) -> float:
    return order(code)[1]


def _rounded(number: float) -> int:
    """A number of two digits and zeros."""
    size = 10 ** max(len(str(int(number))) - 2, 0)
    return round(number / size) * size


def attribute_of(seen: Seen) -> str | None:
    """The attribute that a column is called, by its whole name or label, if it may hold it."""
    if not seen.counts:
        return None
    named = [a for a, pattern in _ATTRIBUTES.items() if re.fullmatch(pattern, seen.name, re.IGNORECASE)]
    whole, _ = words.about(seen.name, seen.variable.label)
    return next((a for a in words.ATTRIBUTES if (a in named or a in whole) and _may_hold(seen, a)), None)


def perhaps_attribute(seen: Seen) -> str | None:
    """The attribute that a column may be: so called, or with a word for it in its name or label."""
    whole, part = words.about(seen.name, seen.variable.label)
    return attribute_of(seen) or next((a for a in words.ATTRIBUTES if a in whole | part and _may_hold(seen, a)), None)


def _may_hold(seen: Seen, attribute: str) -> bool:
    """Whether the values of a column fit an attribute."""
    if attribute == "sex":
        return may_be_answers(seen) <= _SEXES
    amounts = attribute == "income" and not any(order(c)[0] for c in seen.counts)
    return not seen.variable.date and (attribute == "age" or amounts or not seen.individual)


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
    few = len(seen.known) <= 10 * MAX_OPTIONS  # with some to spare for codes of no answer
    answers = may_be_answers(seen) if few else 0
    if not 2 <= answers <= MAX_OPTIONS:
        return plural(len(seen.counts), "different value")
    if seen.variable.values or any(order(c)[0] for c in seen.counts):
        return None
    points = len(seen.counts.keys() - set(apart(seen)))
    return f"{points} different numbers without labels" if points > _POINTS else None


def _free_text(seen: Seen) -> bool:
    """Whether the texts are the respondents' own words, which unlike answers rarely recur."""
    texts = [n for code, n in seen.counts.items() if order(code)[0]]
    if seen.variable.values or not texts:
        return False
    return bool(_FREE_TEXT.fullmatch(seen.name)) or (len(texts) > 2 and _mostly(n == 1 for n in texts))


def _mostly(which: Iterable[bool]) -> bool:
    found = list(which)
    return 2 * sum(found) > len(found)


def doubtful_ages(counts: Mapping[str, int]) -> dict[str, int]:
    """Ages that may be codes of no answer: more respondents have them than the five ages below -> how many."""
    found = {}
    for age in _OLD_OR_NO_ANSWER:
        below = [counts.get(str(a), 0) for a in range(age - 5, age) if a not in _OLD_OR_NO_ANSWER]
        if counts.get(str(age), 0) > sum(below):
            found[str(age)] = counts[str(age)]
    return found
