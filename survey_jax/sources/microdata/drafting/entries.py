"""The lines of a draft that are about one question or attribute: its options, scale, bands and missing codes."""

import dataclasses
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from survey_jax.common.errors import plural, some
from survey_jax.common.yaml_texts import TODO
from survey_jax.sources.microdata import several, words
from survey_jax.sources.microdata.codes import order
from survey_jax.sources.microdata.drafting import guesses, scales
from survey_jax.sources.microdata.drafting.guesses import OLDEST, YOUNGEST
from survey_jax.sources.microdata.drafting.meanings import Meanings, Shared, meanings, unlabelled_negative
from survey_jax.sources.microdata.drafting.scales import Scale
from survey_jax.sources.microdata.drafting.seen import Seen
from survey_jax.sources.microdata.drafting.yaml_text import code, comment, entry, in_quotes, quoted
from survey_jax.sources.microdata.words import Says

_BANDS = "[18-29, 30-44, 45-64, 65+]"
_LONGEST_LABEL = 80  # characters of a label in a remark
_LISTS = ("country", "region", "sex", "race", "religion", "party")  # attributes whose values have no order
_LONGEST_ANCHOR = 40  # characters


@dataclasses.dataclass(frozen=True)
class Question:
    """A question to be drafted.

    Attributes:
      options: the lines of its options, in their order.
      anchor: the name by which YAML knows the options, where other questions have the same; else "".
      first: it is the first of these questions.
      asks: its label is a question in itself, and is the label of no other column.
    """

    seen: Seen
    found: Meanings
    scale: Scale
    options: tuple[str, ...]
    anchor: str = ""
    first: bool = True
    asks: bool = False


def questions(columns: Sequence[Seen], shared: Shared) -> list[Question]:
    """What the columns seem to ask, with options that several have in common under one name."""
    found = [meanings(seen, shared) for seen in columns]
    alike = Counter(tuple(f.answers.items()) for f in found)
    labels = Counter(seen.variable.label for seen in columns)
    result = []
    for seen, of in zip(columns, found, strict=True):
        is_list = guesses.perhaps_attribute(seen) in _LISTS
        about = f"{seen.name} {seen.variable.label or ''}"
        scale = scales.guess(of.answers, about, is_list, alike[tuple(of.answers.items())])
        asks = labels[label := seen.variable.label] == 1 and _is_question(label or "")
        result.append(Question(seen, of, scale, tuple(_texts(of, scale.codes)), asks=asks))
    return _named(result)


def _is_question(label: str) -> bool:
    """Whether a label ends as questions do, and is more than a key word or two; some scripts have no spaces."""
    asks = label.rstrip("\"'”»)] ").endswith(("?", "？", "؟"))
    return asks and (len(label.split()) > 3 if " " in label.strip() else not label.isascii() and len(label) > 8)


def _named(questions: Sequence[Question]) -> list[Question]:
    """Gives a name to options that several questions have: that of the first of them."""
    alike, names = Counter(q.options for q in questions), dict[tuple[str, ...], str]()
    result = []
    for question in questions:
        if alike[question.options] == 1:
            result.append(question)
            continue
        first = question.options not in names
        if first:
            name = re.sub(r"[^A-Za-z0-9]+", "_", question.seen.name).strip("_")[:_LONGEST_ANCHOR] or "options"
            while name in names.values():
                name += "_"
            names[question.options] = name
        result.append(dataclasses.replace(question, anchor=names[question.options], first=first))
    return result


def question_lines(question: Question, shared: Shared) -> Iterator[str]:
    """A question's entry."""
    seen, found = question.seen, question.found
    doubts = ["called like a weight, but it has only a few whole numbers"] if guesses.called_weight(seen) else []
    if perhaps := guesses.perhaps_attribute(seen):
        doubts.append(f"or an attribute: {perhaps}")
    yield with_remarks(entry("  ", quoted(seen.name)), doubts)
    text = seen.variable.label or "the question as respondents read it"
    if seen.variable.asked or not question.asks:
        yield f"    text: {in_quotes(text if seen.variable.asked else f'{TODO}: {text}')}"
    else:
        yield with_remarks(f"    text: {in_quotes(text)}", ["the file's label; is it what respondents read?"])
    if question.first:
        yield f"    options: &{question.anchor}" if question.anchor else "    options:"
        yield from question.options
    else:
        yield f"    options: *{question.anchor}"
    yield _scale(seen.variable.scale, question.scale)
    yield from _missing(seen, found.missing, shared.silent, [*found.answers, *found.not_asked])
    if found.not_asked:
        yield with_remarks(f"    not_asked: {listed([*found.not_asked, *seen.blank])}", _guessed(found.not_asked))


def _scale(declared: str | None, guess: Scale) -> str:
    """The scale that the file declares; one of labels that are in order where it declares none, or says that it has
    none, as SPSS says of all numbers where nobody has said anything."""
    if guess.kind and (declared is None or (declared, guess.kind) == ("nominal", "ordinal")):
        against = "; the file says nominal" if declared else ""
        return with_remarks(f"    scale: {guess.kind}", [f"a guess: {_short(guess.why)}{against}"])
    if declared:
        return with_remarks(f"    scale: {declared}", [f"options: {_short(guess.why)}"] if guess.codes else [])
    return f"    # scale: ordinal or nominal{f'; {guess.why}' if guess.why else ''}"


def choices(seen: Seen, separator: str) -> Iterator[str]:
    """A question for each answer of a column whose cells hold several."""
    found = several.answers(seen.counts, separator)
    missing = [answer for answer in found if words.says(answer) in (Says.NO_ANSWER, Says.NOT_ASKED)]
    yield comment(f"{quoted(seen.name)}: cells hold several answers, so each is a question of its own, yes or no.")
    yield "  # Who has a blank cell counts as not asked; where it means none of them, write so into the file."
    for answer in (answer for answer in found if answer not in missing):
        text = f"{TODO}: {seen.variable.label or 'the question as respondents read it'} ({answer})"
        yield entry("  ", quoted(f"{seen.name}: {answer}"))
        yield f"    column: {quoted(seen.name)}"
        yield f"    chosen: {code(answer)}"
        yield f"    separator: {in_quotes(separator)}"
        yield f"    text: {in_quotes(text)}"
        yield '    options: ["Yes", "No"]'
        yield "    scale: nominal"
        if missing:
            yield f"    missing: {listed(missing)}"


def attribute_lines(attribute: str, seen: Seen, shared: Shared, others: Sequence[str] = ()) -> Iterator[str]:
    """Bands for ages and incomes, labels of the file or to be written for other numbers; texts stay as they are.

    Args:
      others: columns that may be the attribute, too.
    """
    yield f"  {attribute}:"
    yield with_remarks(f"    column: {quoted(seen.name)}", [f"or {some(others, 3)}?"] if others else [])
    numbers = [number for word, number, _ in map(order, seen.counts) if not word]
    found = meanings(seen, shared, is_list=attribute == "country")
    labelled = seen.variable.values.keys() & seen.counts.keys() & found.answers.keys()
    numeric = len(numbers) == len(seen.counts) and len(labelled) * 5 < len(found.answers)
    if attribute == "age" and numeric and max(numbers) > 15:
        yield from _ages(seen, found, shared.silent)
    elif attribute == "income" and numeric and (bands := guesses.income_bands(seen.counts, found.missing)):
        yield with_remarks(f"    recode: [{', '.join(bands.names)}]", ["a guess: bands of about a fifth each"])
        yield from _income_missing(seen, found, bands, shared.silent)
    else:
        if seen.variable.values or numbers or any(text.startswith(TODO) for text in found.answers.values()):
            yield "    recode:"
            yield from _texts(found)
        yield from _missing(seen, found.missing | found.not_asked, shared.silent, found.answers, seen.blank)


def _income_missing(seen: Seen, found: Meanings, bands: guesses.Bands, common: Collection[str]) -> Iterator[str]:
    """What is no income: codes that mean so, negative numbers, and numbers of nines that many have."""
    silent = found.missing | found.not_asked
    codes = sorted({*silent, *bands.outside}, key=order)
    remarks = [f"a guess: {c} occurs {plural(seen.counts[c], 'time')}: no income" for c in bands.outside]
    if codes or common:
        yield with_remarks(f"    missing: {listed([*codes, *seen.blank])}", [*remarks, *_guessed(silent)])


def _texts(found: Meanings, codes: Sequence[str] = ()) -> Iterator[str]:
    """The lines of answers: first those of `codes`, in that order."""
    for answer in dict.fromkeys([*codes, *found.answers]):
        doubt = found.doubts.get(answer)
        yield with_remarks(entry("      ", code(answer), in_quotes(found.answers[answer])), [doubt] if doubt else [])


def _missing(
    seen: Seen, reasons: Mapping[str, str], common: Collection[str], answers: Collection[str], blank: Sequence[str] = ()
) -> Iterator[str]:
    """The entry's own list of missing codes, if the common list lacks one or has one that means something else here.

    Args:
      reasons: code that means no answer here -> why.
      answers: codes that mean something else here.
      blank: codes of blank cells, where the entry's list replaces the common `not_asked` too.
    """
    remarks = []
    if negative := [c for c in unlabelled_negative(seen) if c in reasons and c not in common]:
        remarks.append(f"a guess, {', '.join(negative)}: no label, and no answer of this file is negative")
    remarks += _guessed(reasons)
    if taken := [c for c in answers if c in common]:
        remarks.append(f"in place of the common list, since {', '.join(taken)} may mean something else here")
    if taken or not reasons.keys() <= set(common):
        yield with_remarks(f"    missing: {listed([*sorted(reasons, key=order), *blank])}", remarks)


def _guessed(reasons: Mapping[str, str]) -> list[str]:
    """A remark on codes that were sorted by what they are called, or by where they stand."""
    known = [_short(why) for why in reasons.values() if why]
    return [f"a guess: {', '.join(known)}"] if known else []


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 3]}..."


def _ages(seen: Seen, found: Meanings, common: Collection[str]) -> Iterator[str]:
    """Bands of ages. An age that may mean no answer is under missing if questions use it so, else in its band."""
    silent = {c: why for c, why in (found.missing | found.not_asked).items() if why}
    ages = {c: n for c, n in seen.counts.items() if c not in silent}
    outside = [c for c in ages if not YOUNGEST <= float(c) <= OLDEST]
    doubtful = guesses.doubtful_ages(ages)
    doubts = [f"{c} occurs {plural(n, 'time')}: an age, or no answer?" for c, n in doubtful.items()]
    yield with_remarks(f"    recode: {_BANDS}", doubts)
    codes = [*outside, *(c for c in doubtful if c in common), *silent]
    in_bands = [c for c in ages if c in common and c not in outside]
    if in_bands or not {*outside, *silent} <= set(common):
        too_high = [f"{c} occurs {plural(seen.counts[c], 'time')}: no age" for c in outside if float(c) > OLDEST]
        yield with_remarks(f"    missing: {listed([*codes, *seen.blank])}", [*too_high, *_guessed(silent)])


def with_remarks(line: str, remarks: Sequence[str]) -> str:
    """A line of YAML, with remarks behind it."""
    return line + (comment("; ".join(remarks)) if remarks else "")


def listed(codes: Iterable[str]) -> str:
    """Codes as a list of YAML."""
    return f"[{', '.join(map(code, codes))}]"
