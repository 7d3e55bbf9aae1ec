"""Whether a question's options are in an order, as far as their labels tell: a guess for a draft.

By the words of data/survey_scales.yaml ("Strongly agree" to "Strongly disagree"), and by rules that need no language:
points of which the ends alone have labels, numbers and ranges that rise, and labels that mirror each other.
"""

import dataclasses
import functools
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from importlib import resources
from itertools import combinations, pairwise
from typing import Any

import yaml

from survey_jax.common.yaml_texts import TODO
from survey_jax.sources.microdata import words
from survey_jax.sources.microdata.codes import order
from survey_jax.sources.microdata.words import tokens

_PLAIN_DEGREE = 3  # of "agree", with no word for how much
_FEWEST = 3  # answers of a scale; the order of two does not matter
_LONGEST = 20  # tokens of a label that is a step of a scale, as of characters in Chinese
_BATTERY = 3  # questions with the same options, of which two steps of a scale are enough to be known
_CODE = re.compile(r"^\W*\d+\W*(?:[-–.):=]\s*)+(?=[^\s\d])")  # "1 - Very good", "(1) Very good"
_NUMBER = re.compile(r"\d+(?:[.,\u00a0 ]\d{3})*(?:[.,]\d+)?")
_THOUSANDS = re.compile(r"[.,\u00a0 ](?=\d{3}(?!\d))")

Phrase = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Scale:
    """What the options of a question seem to be.

    Attributes:
      kind: "ordinal", "nominal", or None where only the user can say.
      why: what speaks for it, or what is unclear.
      codes: the answers in the scale's order, where that is another than the order of codes.
      whole: every label is known to be a step of it.
    """

    kind: str | None
    why: str = ""
    codes: tuple[str, ...] = ()
    whole: bool = False


UNKNOWN = Scale(None)


@dataclasses.dataclass(frozen=True)
class _Language:
    """The words of one language; a phrase is a tuple of tokens.

    Attributes:
      parts: all phrases of which labels are composed.
      tokens: every token of a scale's phrases.
    """

    degrees: Mapping[Phrase, int]
    words: Mapping[str, frozenset[Phrase]]
    steps: Sequence[Mapping[Phrase, int]]
    parts: frozenset[Phrase]
    tokens: frozenset[str]


@functools.cache
def _languages() -> Mapping[str, _Language]:
    text = (resources.files("survey_jax") / "data" / "survey_scales.yaml").read_text(encoding="utf-8")
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    return {language: _language(section) for language, section in yaml.load(text, Loader=loader).items()}


def _language(section: Mapping[str, Any]) -> _Language:
    degrees = {tokens(p): int(degree) for degree, phrases in section["degrees"].items() for p in phrases}
    lists = {k: frozenset(map(tokens, v)) for k, v in section.items() if k not in ("degrees", "steps")}
    steps = [{tokens(p): -place for place, step in enumerate(s) for p in step} for s in section["steps"]]
    parts = frozenset(degrees).union(*(lists[key] for key in ("above", "below", "denies", "middle", "around")))
    said = frozenset(token for phrase in (*parts, *(p for s in steps for p in s)) for token in phrase)
    return _Language(degrees, lists, steps, parts, said)


def guess(answers: Mapping[str, str], about: str, is_list: bool = False, questions: int = 1) -> Scale:
    """What the options of a question seem to be.

    Args:
      answers: code -> text of each answer, in the order of codes; with TODO in front where it is still to be written.
      about: the question's name and label.
      is_list: the column is about something that has no order, such as a party.
      questions: how many questions have these options.
    """
    known = {code: text for code, text in answers.items() if not text.startswith(TODO)}
    if len(known) < 2 or 2 * len(known) < len(answers):
        return UNKNOWN
    if points := _numbered(known):
        return points
    by_words, labels = _by_words(known, questions), tuple(known.values())
    if not by_words.whole and not _texts_alone(known) and _mirrored(labels):
        return Scale("ordinal", f'"{labels[0]}" to "{labels[-1]}", which mirror each other')
    if by_words.kind:
        return by_words
    if ranges := _ranges(known):
        return ranges
    return by_words if by_words.why else _nominal(labels, about, is_list)


def language_votes(texts: Collection[str]) -> Counter[str]:
    """Language -> how many labels are wholly made of its words. A label that several languages have says nothing."""
    found = [[name for name, of in _languages().items() if _is_of(_bare(text), of)] for text in texts]
    return Counter(languages[0] for languages in found if len(languages) == 1)


def _is_of(label: Phrase, language: _Language) -> bool:
    if label in language.words["kinds"] | language.words["other"] or any(label in steps for steps in language.steps):
        return True
    return 0 < len(label) <= _LONGEST and _composed(label, language, frozenset()) is not None


def _texts_alone(answers: Mapping[str, str]) -> bool:
    """Whether codes are the labels themselves, so that their order is the alphabet's."""
    return all(order(code)[0] for code in answers)


def _numbered(answers: Mapping[str, str]) -> Scale | None:
    """Points from 0 to 10 or 1 to 7 of which the ends, and perhaps the middle, have labels."""
    numbers = {code: _leading_number(text) for code, text in answers.items()}
    bare = [code for code, text in answers.items() if text.strip().isdecimal()]
    coded = {code: n if n is not None else _whole(code) for code, n in numbers.items()}
    if len(bare) < 2 or len(answers) == len(bare) or None in coded.values():
        return None
    in_order = sorted(answers, key=lambda code: coded[code] or 0)
    points = [coded[code] or 0 for code in in_order]
    labelled = [code for code in in_order if code not in bare]
    ends = {in_order[0], in_order[-1]} & set(labelled)
    if any(b - a != 1 for a, b in pairwise(points)) or not ends or len(labelled) > len(bare) + 1:
        return None
    codes = () if in_order == list(answers) else tuple(in_order)
    return Scale("ordinal", f"points from {points[0]} to {points[-1]}, of which only some have labels", codes)


def _leading_number(text: str) -> int | None:
    found = re.match(r"\W*(\d{1,3})(?!\d)", text)
    return int(found[1]) if found else None


def _whole(code: str) -> int | None:
    return int(code) if re.fullmatch(r"-?\d{1,3}", code) else None


def _by_words(answers: Mapping[str, str], questions: int) -> Scale:
    """A scale by the words of one language; what is unclear about it, if only some labels have such words."""
    values = _values(tuple(map(_bare, answers.values())))
    placed = {code: v for code, v in zip(answers, values, strict=True) if v is not None}
    distinct, steps = len(set(placed.values())), list(placed.values())
    if len(answers) < _FEWEST or distinct < 2:
        return UNKNOWN
    in_order = not _texts_alone(answers) and steps in (sorted(steps), sorted(steps, reverse=True))
    why = f'"{_end(answers, placed, max)}" to "{_end(answers, placed, min)}"'
    if len(placed) == len(answers) and distinct >= _FEWEST and in_order:
        return Scale("ordinal", why, whole=True)
    if len(placed) == len(answers) == distinct:
        return Scale("ordinal", f"{why}; the options were put in this order", _sorted(placed), whole=True)
    if in_order and _ends_and_most(answers, placed, questions):
        return Scale("ordinal", why)
    if len(placed) * 2 >= len(answers) and distinct >= _FEWEST:
        return Scale(None, "some labels are steps of a scale: put the options in its order")
    return UNKNOWN


def _ends_and_most(answers: Mapping[str, str], placed: Collection[str], questions: int) -> bool:
    """Whether both ends are known steps, and enough of what lies between them; "yes" and "no" are no ends."""
    codes = list(answers)
    ends = (codes[0], codes[-1])
    if not all(c in placed for c in ends) or any(words.is_yes_or_no(answers[c]) for c in ends):
        return False
    inside = len(codes) - len(placed)
    return inside > 0 and (inside == 1 or len(placed) * 2 >= len(codes) or questions >= _BATTERY)


def _end(answers: Mapping[str, str], placed: Mapping[str, float], which: Any) -> str:
    return answers[which(placed, key=placed.__getitem__)]


def _sorted(placed: Mapping[str, float]) -> tuple[str, ...]:
    """The codes in the scale's order, in the direction that most of them have already; texts from most to least."""
    pairs = combinations(placed.values(), 2)
    rises = sum((b > a) - (b < a) for a, b in pairs) > 0 and not _texts_alone(dict.fromkeys(placed, ""))
    return tuple(sorted(placed, key=placed.__getitem__, reverse=not rises))


def _bare(text: str) -> Phrase:
    """A label's tokens without brackets and a code in front, as far as anything is left."""
    short = words.without_brackets(_CODE.sub("", text))
    return tokens(short) or tokens(text)


@functools.cache
def _values(labels: tuple[Phrase, ...]) -> tuple[float | None, ...]:
    """Where each label stands on the scale that knows most of them; None for labels that it does not know."""
    count = Counter(token for label in labels for token in set(label))
    shared = frozenset(token for token, n in count.items() if n > 1)
    best: tuple[float | None, ...] = (None,) * len(labels)
    labels = tuple(label if len(label) <= _LONGEST else () for label in labels)
    for language in _languages().values():
        if sum(not language.tokens.isdisjoint(label) for label in labels) < 2:
            continue
        idle = shared - {t for p in language.words["denies"] | language.words["middle"] for t in p}
        found = [tuple(_step(label, steps, language, idle) for label in labels) for steps in language.steps]
        for values in [*found, _all_composed(labels, language, idle)]:
            if _known(values) > _known(best):
                best = values
    return best


def _known(values: Sequence[float | None]) -> tuple[int, int]:
    placed = [v for v in values if v is not None]
    return (len(placed), len(set(placed))) if len(set(placed)) > 1 else (0, 0)


def _step(label: Phrase, steps: Mapping[Phrase, int], language: _Language, idle: frozenset[str]) -> float | None:
    """The place of the longest phrase in a label, if nothing but idle words stands beside it."""
    if label in steps:
        return steps[label]
    found = [(end - start, start) for start, end in words.spans(len(label)) if label[start:end] in steps]
    if not found:
        return None
    length, start = max(found)
    beside = (*label[:start], *label[start + length :])
    around = {token for phrase in language.words["around"] for token in phrase}
    return steps[label[start : start + length]] if all(t in idle or t in around for t in beside) else None


def _all_composed(labels: Sequence[Phrase], language: _Language, idle: frozenset[str]) -> tuple[float | None, ...]:
    """The places of labels made of degrees and heads. If all heads are at the lower end, that is what is measured."""
    parts = [_composed(label, language, idle) for label in labels]
    two_ends = any(part and part[0] > 0 for part in parts)
    return tuple(None if part is None else part[1] if two_ends or not part[0] else part[2] for part in parts)


def _composed(label: Phrase, language: _Language, idle: frozenset[str]) -> tuple[int, float, float] | None:
    """Where a label such as "not very satisfied" stands, which is made of degrees ("very") and heads ("satisfied").

    Returns:
      the end of the scale that its head is at (1, -1, or 0 without one), its place, and its place if heads did not
      count; None if other words are in it.
    """
    start, end_of_head, denied, middle, degrees, said = 0, 0, False, False, [], False
    while start < len(label):
        part = next((label[start:e] for e in range(len(label), start, -1) if label[start:e] in language.parts), None)
        if part is None:
            if label[start] not in idle:
                return None
            start += 1
            continue
        start += len(part)
        said |= part not in language.words["around"] or part in language.degrees
        middle |= part in language.words["middle"]
        if part in language.degrees:
            degrees.append(language.degrees[part])
        elif part in language.words["denies"]:
            denied = True
        elif part in language.words["above"]:
            end_of_head = end_of_head or 1
        elif part in language.words["below"]:
            end_of_head = -1
    if not said:
        return None
    if middle:
        return (0, 0.0, 0.0)
    degree = max(degrees, key=abs, default=_PLAIN_DEGREE)
    if degree < 0:
        return (end_of_head, float(degree), float(degree))
    unsigned = float(-degree if denied else degree)
    return (end_of_head, -unsigned if end_of_head < 0 else unsigned, unsigned)


def _mirrored(labels: tuple[str, ...]) -> bool:
    """Whether the first label is the last but for words of its half, and so the second and the last but one.

    So are "zcela souhlasím, spíše souhlasím, spíše nesouhlasím, zcela nesouhlasím", with any label in the middle.
    """
    found = [frozenset(_bare(label)) for label in labels]
    half = len(found) // 2
    if half < 2:
        return False
    first, last = found[:half], found[: -half - 1 : -1]
    heads = [_heads(part, other) for part, other in ((first, last), (last, first))]
    degrees = [(a - heads[0], b - heads[1]) for a, b in zip(first, last, strict=True)]
    return any(heads) and all(a == b for a, b in degrees) and len(set(degrees)) == half


def _heads(part: Sequence[frozenset[str]], other: Sequence[frozenset[str]]) -> frozenset[str]:
    """The words of all labels of one half that no label of the other half has."""
    return frozenset.intersection(*part).difference(*other)


def _ranges(answers: Mapping[str, str]) -> Scale | None:
    """Numbers and ranges that rise ("None, 1-2, 3 to 5, more than 5"), or texts that can be so ordered."""
    numbers = {code: _numbers(text) for code, text in answers.items()}
    without = [code for code, found in numbers.items() if not found]
    if len(answers) < _FEWEST or len(without) > 1 or (without and len(answers) - 1 < _FEWEST):
        return None
    spans = any(len(found) > 1 for found in numbers.values())
    texts = [text for code, text in answers.items() if numbers[code]]
    in_front = all(re.match(r"\W*\d", text) and not _CODE.match(text) for text in texts)
    if not spans and not in_front:
        return None
    if all(_CODE.match(text) for text in answers.values()) and not any(len(n) > 2 for n in numbers.values()):
        return None  # codes in front of labels
    keys = {code: (found[0], len(found)) if found else (-1.0, 0) for code, found in numbers.items()}
    if len(set(keys.values())) < len(keys):
        return None
    rising = [code for code in answers if code not in without]
    falls = [keys[code] for code in rising] == sorted((keys[code] for code in rising), reverse=True)
    in_order = sorted(answers, key=keys.__getitem__, reverse=falls)
    if in_order == list(answers):
        return Scale("ordinal", "numbers that rise or fall")
    if _texts_alone(answers):
        return Scale("ordinal", "numbers; the options were put in their order", tuple(in_order))
    return None


def _numbers(text: str) -> list[float]:
    return [float(_THOUSANDS.sub("", n).replace(",", ".").replace(" ", "")) for n in _NUMBER.findall(text)]


def _nominal(labels: tuple[str, ...], about: str, is_list: bool) -> Scale:
    """Yes and no, a list with an answer "other", and kinds of things that have no order."""
    bare = tuple(map(_bare, labels))
    if len(labels) == 2 and all(words.is_yes_or_no(label) for label in labels):
        return Scale("nominal", "yes or no")
    for language in _languages().values():
        lists = language.words
        if len(labels) == 2 and set(bare) <= lists.get("chosen", frozenset()):
            return Scale("nominal", "chosen or not")
        if len(labels) > 2 and any(label in lists["other"] for label in bare):
            return Scale("nominal", "a list with an answer for others")
        if sum(label in lists["kinds"] for label in bare) >= 2:
            return Scale("nominal", "kinds without an order")
    if is_list:
        return Scale("nominal", "a list of what the column is about")
    steps = any(value is not None for value in _values(bare))
    about_a_list = any(words.has_phrase(about, language.words["lists"]) for language in _languages().values())
    if len(labels) > 2 and about_a_list and not steps:
        return Scale("nominal", "a list, by what the question is about")
    return UNKNOWN
