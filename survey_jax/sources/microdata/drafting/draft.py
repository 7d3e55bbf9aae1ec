"""Drafts a codebook from what a file of respondents says about itself, for the user to edit."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from survey_jax.common.console import track
from survey_jax.common.errors import UserError, plural, some
from survey_jax.common.files import atomic_write
from survey_jax.common.yaml_texts import TODO
from survey_jax.sources.microdata import several, words
from survey_jax.sources.microdata.codebook import MIN_N
from survey_jax.sources.microdata.drafting import entries, guesses, scales
from survey_jax.sources.microdata.drafting.entries import Question, listed, with_remarks
from survey_jax.sources.microdata.drafting.meanings import share
from survey_jax.sources.microdata.drafting.questionnaire import read_questionnaire, with_texts
from survey_jax.sources.microdata.drafting.seen import Seen, see
from survey_jax.sources.microdata.drafting.yaml_text import comment, in_quotes, quoted
from survey_jax.sources.microdata.readers import open_respondents
from survey_jax.sources.microdata.respondents import Respondents

_FEW = 4  # weights that are named where only the user can choose
_HEAD = """\
# - write each question's text as respondents read it, and remove "TODO: "; a label of the file is rarely one;
# - check whether its options are ordered (scale: ordinal or scale: nominal), and that they stand in their order;
#   a list of options that many questions share is written once: &name is where, *name stands for it;
# - check that "don't know" and the like are under missing (asked, no answer) or not_asked, not among the options;
#   blank cells are not asked, and missing values that the file itself declares need no mention;
# - "an answer, or no answer?": remove "TODO: " from an answer, and move any other code to missing or not_asked;
# - delete the questions that are none; one that describes the respondents may be an attribute instead.
"""


def draft_codebook(path: Path, output: Path, encoding: str | None = None, questionnaire: Path | None = None) -> str:
    """Writes a draft, and says in one line what is in it. UserError if `output` exists, or a file cannot be used.

    Args:
      encoding: of the file's text; None: found, and where it is a guess, the draft says so.
      questionnaire: what has the questions' texts, if the file of respondents has not.
    """
    if output.exists():
        raise UserError(f"{output}: exists, and may hold your work; name another file, or remove it first")
    if not output.parent.is_dir():
        raise UserError(f"{output.parent}: no such folder; make it first")
    respondents, matched = open_respondents(path, encoding, guess=True), ""
    if questionnaire is not None:
        respondents, texts = with_texts(respondents, read_questionnaire(questionnaire))
        matched = f"; texts of {plural(texts, 'column')} from {questionnaire.name}"
    columns = _sort(respondents)
    with atomic_write(output) as partial:
        partial.write_text("\n".join(_lines(columns, respondents)) + "\n", encoding="utf-8")
    questions = len(columns.questions) + len(columns.several)
    return (
        f"drafted {output}: questions: {questions}, attributes: {len(columns.attributes)}, "
        f"columns left out: {len(columns.left_out)}{matched}; edit it, its first lines say what to look for"
    )


@dataclasses.dataclass
class _Columns:
    """A file's columns by what they seem to be.

    Attributes:
      several: column whose cells hold several answers -> itself, and what separates them.
      waves: columns that tell the wave or the year of the survey, of which the first is the likeliest.
      left_out: column -> why.
      also: attribute -> columns that may be it, too.
      blank: codes that stand for blank cells -> in which columns.
    """

    weights: list[guesses.Weight] = dataclasses.field(default_factory=list)
    attributes: dict[str, Seen] = dataclasses.field(default_factory=dict)
    questions: list[Seen] = dataclasses.field(default_factory=list)
    several: dict[str, tuple[Seen, str]] = dataclasses.field(default_factory=dict)
    waves: list[Seen] = dataclasses.field(default_factory=list)
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)
    also: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    blank: dict[str, list[str]] = dataclasses.field(default_factory=dict)


def _sort(respondents: Respondents) -> _Columns:
    result = _Columns()
    names = list(respondents.variables)
    for name, column in track(respondents.columns(names), len(names), "columns read"):
        seen = see(name, respondents.variables[name], column)
        for blank in seen.blank:
            result.blank.setdefault(blank, []).append(name)
        attribute = guesses.attribute_of(seen)
        if not name.strip():
            result.left_out[name] = "a column without a name"
        elif weight := guesses.weight(seen):
            result.weights.append(weight)
        elif design := guesses.design(seen):
            if design in guesses.WAVES:
                result.waves.append(seen)
            result.left_out[name] = guesses.DESIGN[design]
        elif attribute is not None and attribute not in result.attributes:
            result.attributes[attribute] = seen
        elif not seen.variable.values and (separator := several.separator_of(seen.counts)):
            result.several[name] = (seen, separator)
        else:
            if perhaps := guesses.perhaps_attribute(seen):
                result.also.setdefault(perhaps, []).append(name)
            if reason := guesses.no_question(seen):
                result.left_out[name] = f"{reason}; or an attribute, {perhaps}?" if perhaps else reason
            else:
                result.questions.append(seen)
    result.waves.sort(key=lambda seen: guesses.WAVES.index(guesses.design(seen) or ""))
    if result.waves:
        del result.left_out[result.waves[0].name]
    return result


def _lines(columns: _Columns, respondents: Respondents) -> Iterator[str]:
    shared, name = share(columns.questions), respondents.path.name
    questions = entries.questions(columns.questions, shared)
    yield comment(f"Codebook of {name}, drafted from the file itself. Edit it before use:").strip()
    yield from _HEAD.splitlines()
    yield from (comment(note).strip() for note in respondents.notes)
    yield ""
    yield f"survey: {quoted(name.split('.')[0] or name)}"
    yield from _wave(columns.waves)
    yield _language(columns, questions)
    yield "# about: {sponsor: ..., population: ..., sample: ..., mode: ..., fieldwork: ...}  # for the report"
    if respondents.encoding:
        guess = ["a guess, by the text itself: do its letters look right below?"] if respondents.guessed else []
        yield with_remarks(f"encoding: {respondents.encoding}", guess)
    yield from _weight(columns.weights)
    yield f"min_n: {MIN_N}"
    if any(not q.scale.kind and not q.seen.variable.scale for q in questions):
        yield "# scale: nominal  # or ordinal: of every question that does not say"
    if shared.silent:
        where = ", ".join(f"{c} in {plural(n, 'question')}" for c, n in shared.silent.items())
        remark = f"a guess: without a label, and apart from the answers ({where})"
        yield f"missing: {listed(shared.silent)}{comment(remark)}"
    if columns.blank:
        blank = sorted(columns.blank.items())
        where = "; ".join(f"{c} in {some(map(quoted, names), 3)}" for c, names in blank)
        yield f"not_asked: {listed(c for c, _ in blank)}{comment(f'a guess: read as blank cells ({where})')}"
    yield ""
    yield "attributes:"
    if "country" not in columns.attributes:
        yield f'  country: {{value: "{TODO}: where all of them live"}}'
    for attribute, seen in columns.attributes.items():
        yield from entries.attribute_lines(attribute, seen, shared, columns.also.get(attribute, ()))
    yield _breakdowns(list(columns.attributes))
    yield ""
    yield "questions:"
    for question in questions:
        yield from entries.question_lines(question, shared)
    for seen, separator in columns.several.values():
        yield from entries.choices(seen, separator)
    for name, reason in columns.left_out.items():
        yield comment(f"{quoted(name)} is left out: {reason}")


def _wave(waves: Sequence[Seen]) -> Iterator[str]:
    """The column that tells the wave; its only value, if there is but one."""
    if not waves:
        return
    seen, values = waves[0], list(waves[0].counts)
    if len(values) == 1:
        yield f"wave: {quoted(seen.label(values[0]) or values[0])}{comment(f'a guess, by {seen.name}')}"
    else:
        yield f"wave: {{column: {quoted(seen.name)}}}{comment(f'a guess, by its name or label: {some(values, 4)}')}"
    for other in waves[1:]:
        yield f"# wave: {{column: {quoted(other.name)}}}{comment('another column that may tell it')}"


def _language(columns: _Columns, questions: Sequence[Question]) -> str:
    """The language that most of the words that are known belong to, by labels, or else by names of columns."""
    seen = [*columns.attributes.values(), *columns.questions]
    labels = {label for s in seen for c in s.known if (label := s.label(c))} | {s.variable.label or "" for s in seen}
    votes = words.language_votes(labels)
    votes.update(scales.language_votes({text for q in questions for text in q.found.answers.values()}))
    votes = votes or words.language_votes({s.name for s in columns.attributes.values()})
    most = max(votes.values(), default=0)
    likely = sorted(language for language, n in votes.items() if n == most)
    if not likely:
        return f"language: en{comment('a guess: no label has a word of a known language')}"
    language = "en" if "en" in likely else likely[0]
    others = [other for other in likely if other != language]
    doubt = f"; or {some(others)}?" if others else ""
    return f"language: {quoted(language)}{comment(f'a guess, by words of its labels{doubt}')}"


def _weight(weights: Sequence[guesses.Weight]) -> Iterator[str]:
    """The weight for which most speaks, and which others there may be; TODO where only the user can choose."""
    likely, others = guesses.choose(weights)
    if not likely:
        yield "# weight: no column looks like one"
    elif len(likely) == 1 and likely[0].sure:
        yield f"weight: {quoted(likely[0].name)}{comment(f'a guess, by {likely[0].why}')}"
    else:
        names = " or ".join(w.name for w in likely[:_FEW])
        several = names if len(likely) <= _FEW else f"{names} ... ({len(likely)} in all)"
        question = f"which, {several}?" if len(likely) > 1 else f"is it {names}? it has {likely[0].why}"
        yield f"weight: {in_quotes(f'{TODO}: {question}')}"
    for other in others:
        yield f"# weight: {quoted(other.name)}{comment('another column that may be one')}"


def _breakdowns(attributes: Sequence[str]) -> str:
    """All of them, and one attribute at a time: within countries, as weights rarely weight them against each other."""
    others = [name for name in attributes if name != "country"]
    if "country" in attributes:
        crossed = [f"[country, {name}]" for name in others]
        line = f"breakdowns: [{', '.join(['[country]', *crossed])}]"
        return f"{line}  # {crossed[0]}: by both crossed" if crossed else line
    lists = ["[country]", *(f"[{name}]" for name in others)]
    line = f"breakdowns: [{', '.join(lists)}]"
    if len(others) > 1:
        a, b = others[:2]
        return f"{line}  # [[country], [{a}], [{b}], [{a}, {b}]]: all of them, by {a}, by {b}, and by both crossed"
    return f"{line}  # [country]: all of them"
