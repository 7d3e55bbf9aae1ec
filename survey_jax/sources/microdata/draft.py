"""Drafts a codebook from what a file of respondents says about itself, for the user to edit."""

import dataclasses
import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from survey_jax.common.console import track
from survey_jax.common.errors import UserError, plural, some
from survey_jax.common.files import atomic_write
from survey_jax.sources.microdata import guesses
from survey_jax.sources.microdata.codebook import MIN_N
from survey_jax.sources.microdata.codes import order
from survey_jax.sources.microdata.guesses import OLDEST, YOUNGEST, Seen
from survey_jax.sources.microdata.readers import EncodingError, Respondents, Variable, open_respondents
from survey_jax.sources.microdata.yaml_section import TODO

_BANDS = "[18-29, 30-44, 45-64, 65+]"
_HEAD = """\
# Codebook of {file}, drafted from the file itself. Edit it before use:
# - write each question's text as respondents read it, and remove "TODO: "; a label of the file is no question;
# - say whether its options are ordered: scale: ordinal or scale: nominal; put the options in their order;
# - check that "don't know" and the like are under missing (asked, no answer) or not_asked, not among the options;
#   blank cells are not asked, and missing values that the file itself declares need no mention;
# - delete the questions that are none.
"""


def draft_codebook(path: Path, output: Path) -> str:
    """Writes a draft, and says in one line what is in it. UserError if `output` exists, or a file cannot be used."""
    if output.exists():
        raise UserError(f"{output}: exists, and may hold your work; name another file, or remove it first")
    if not output.parent.is_dir():
        raise UserError(f"{output.parent}: no such folder; make it first")
    encoding = None
    try:
        columns = _sort(open_respondents(path, encoding))
    except EncodingError:
        encoding = "latin1"
        columns = _sort(open_respondents(path, encoding))
    with atomic_write(output) as partial:
        partial.write_text("\n".join(_lines(columns, path, encoding)) + "\n", encoding="utf-8")
    return (
        f"drafted {output}: questions: {len(columns.questions)}, attributes: {len(columns.attributes)}, "
        f"columns left out: {len(columns.left_out)}; edit it, its first lines say what to look for"
    )


@dataclasses.dataclass
class _Columns:
    """A file's columns by what they seem to be.

    Attributes:
      left_out: column -> why.
      blank: codes that stand for blank cells -> in which columns.
    """

    weights: list[str] = dataclasses.field(default_factory=list)
    attributes: dict[str, Seen] = dataclasses.field(default_factory=dict)
    questions: list[Seen] = dataclasses.field(default_factory=list)
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)
    blank: dict[str, list[str]] = dataclasses.field(default_factory=dict)


def _sort(respondents: Respondents) -> _Columns:
    result = _Columns()
    names = list(respondents.variables)
    for name, column in track(respondents.columns(names), len(names), "columns read"):
        seen = guesses.see(name, respondents.variables[name], column)
        for code in seen.blank:
            result.blank.setdefault(code, []).append(name)
        attribute = guesses.attribute_of(seen)
        if guesses.is_weight(seen):
            result.weights.append(name)
        elif attribute is not None and attribute not in result.attributes:
            result.attributes[attribute] = seen
        elif reason := guesses.no_question(seen):
            result.left_out[name] = reason
        else:
            result.questions.append(seen)
    return result


def _lines(columns: _Columns, path: Path, encoding: str | None) -> Iterator[str]:
    common = guesses.shared(columns.questions)
    yield from _HEAD.format(file=path.name).splitlines()
    yield ""
    yield f"survey: {_quoted(path.name.split('.')[0])}"
    yield "language: en"
    yield "# about: {sponsor: ..., population: ..., sample: ..., mode: ..., fieldwork: ...}  # for the report"
    if encoding:
        yield f"encoding: {encoding}"
    weight = f"weight: {_quoted(columns.weights[0])}  # a guess, by its name" if columns.weights else ""
    yield weight or "# weight: no column looks like one"
    for name in columns.weights[1:]:
        yield f"# weight: {_quoted(name)}  # another column that may be one"
    yield f"min_n: {MIN_N}"
    if common:
        where = ", ".join(f"{code} in {plural(n, 'question')}" for code, n in common.items())
        yield f"missing: {_listed(common)}  # a guess: without a label, and apart from the answers ({where})"
    if columns.blank:
        blank = sorted(columns.blank.items())
        where = "; ".join(f"{code} in {some(map(_quoted, names), 3)}" for code, names in blank)
        yield f"not_asked: {_listed(code for code, _ in blank)}  # a guess: read as blank cells ({where})"
    yield ""
    yield "attributes:"
    for attribute, seen in columns.attributes.items():
        yield f"  {attribute}:"
        yield f"    column: {_quoted(seen.name)}"
        yield from _attribute(seen, common, attribute == "age")
    if not columns.attributes:
        yield f'  country: {{value: "{TODO}: where all of them live"}}'
    yield from _breakdowns(list(columns.attributes))
    yield ""
    yield "questions:"
    for seen in columns.questions:
        doubts = ["called like a weight, but it has only a few whole numbers"] if guesses.called_weight(seen) else []
        yield _with_remarks(f"  {_quoted(seen.name)}:", doubts)
        yield from _question(seen, common)
    for name, reason in columns.left_out.items():
        yield f"  # {name} is left out: {reason}"


def _question(seen: Seen, common: Collection[str]) -> Iterator[str]:
    text = f"{TODO}: {seen.variable.label or 'the question as respondents read it'}"
    yield f"    text: {json.dumps(text, ensure_ascii=False)}"
    yield "    options:"
    silent = [c for c in guesses.apart(seen) if c in common]
    options = guesses.options(seen, silent)
    for code, label in options.items():
        yield _meaning(seen.variable, code, label)
    yield f"    scale: {seen.variable.scale}" if seen.variable.scale else "    # scale: ordinal or nominal"
    missing, not_asked = guesses.no_answers(seen)
    yield from _missing(seen, [*missing, *silent], common, [*options, *not_asked])
    if not_asked:
        yield f"    not_asked: {_listed([*not_asked, *seen.blank])}"


def _attribute(seen: Seen, common: Collection[str], is_age: bool) -> Iterator[str]:
    """Bands for ages, labels of the file or to be written for other numbers; texts stay as they are."""
    numbers = [number for word, number, _ in map(order, seen.counts) if not word]
    labelled = seen.variable.values.keys() & seen.counts.keys()
    if is_age and len(numbers) == len(seen.counts) and not labelled and max(numbers) > 15:
        yield from _ages(seen, common)
        return
    silent = [c for c in guesses.apart(seen) if c in common]
    options = guesses.options(seen, silent)
    if seen.variable.values or numbers:
        yield "    recode:"
        for code, label in options.items():
            yield _meaning(seen.variable, code, label)
    missing, not_asked = guesses.no_answers(seen)
    yield from _missing(seen, [*missing, *not_asked, *silent], common, options, seen.blank)


def _missing(
    seen: Seen, codes: Sequence[str], common: Collection[str], answers: Collection[str], blank: Sequence[str] = ()
) -> Iterator[str]:
    """The entry's own list of missing codes, if the common list lacks one or has one that means something else here.

    Args:
      codes: codes that mean no answer here.
      answers: codes that mean something else here.
      blank: codes of blank cells, where the entry's list replaces the common `not_asked` too.
    """
    remarks = []
    if guessed := [c for c in guesses.unlabelled_negative(seen) if c not in common]:
        remarks.append(f"a guess, {', '.join(guessed)}: no label, and no answer of this file is negative")
    if taken := [c for c in answers if c in common]:
        remarks.append(f"in place of the common list, since {', '.join(taken)} may mean something else here")
    if taken or not set(codes) <= set(common):
        yield _with_remarks(f"    missing: {_listed([*sorted(codes, key=order), *blank])}", remarks)


def _ages(seen: Seen, common: Collection[str]) -> Iterator[str]:
    """Bands of ages. An age that may mean no answer is under missing if questions use it so, else in its band."""
    outside = [c for c in seen.counts if not YOUNGEST <= float(c) <= OLDEST]
    doubtful = guesses.doubtful_ages(seen.counts)
    doubts = [f"{code} occurs {plural(n, 'time')}: an age, or no answer?" for code, n in doubtful.items()]
    yield _with_remarks(f"    recode: {_BANDS}", doubts)
    codes = [*outside, *(c for c in doubtful if c in common)]
    in_bands = [c for c in seen.counts if c in common and c not in outside]
    if in_bands or not set(outside) <= set(common):
        too_high = [f"{c} occurs {plural(seen.counts[c], 'time')}: no age" for c in outside if float(c) > OLDEST]
        yield _with_remarks(f"    missing: {_listed([*codes, *seen.blank])}", too_high)


def _with_remarks(line: str, remarks: Sequence[str]) -> str:
    return f"{line}  # {'; '.join(remarks)}" if remarks else line


def _listed(codes: Iterable[str]) -> str:
    return f"[{', '.join(map(_quoted, codes))}]"


def _meaning(variable: Variable, code: str, label: str) -> str:
    """A line for one code. In a file that labels none of a variable's numbers, their meaning is for the user to say."""
    if not variable.values and not order(code)[0]:
        label = f"{TODO}: what {code} means"
    return f"      {_quoted(code)}: {json.dumps(label, ensure_ascii=False)}"


def _breakdowns(attributes: Sequence[str]) -> list[str]:
    """One attribute at a time, and within countries: weights rarely weight countries against each other."""
    if "country" in attributes:
        others = [name for name in attributes if name != "country"]
        crossed = [f"[country, {name}]" for name in others]
        line = f"breakdowns: [{', '.join(['[country]', *crossed])}]"
        return [f"{line}  # {crossed[0]}: by both crossed" if crossed else line]
    line = f"breakdowns: [{', '.join(f'[{name}]' for name in attributes)}]"
    if len(attributes) > 1:
        a, b = attributes[:2]
        line += f"  # [[{a}], [{b}], [{a}, {b}]]: by {a}, by {b}, and by both crossed"
    return [line] if attributes else []


def _quoted(text: str) -> str:
    """As YAML, with quotes where it needs them."""
    return text if re.fullmatch(r"\.?[\w+-]+(\.\d+)?", text, re.ASCII) else json.dumps(text, ensure_ascii=False)
