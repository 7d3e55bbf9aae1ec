"""Drafts a codebook from what a file of respondents says about itself, for the user to edit."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from survey_jax.errors import UserError
from survey_jax.survey.sources.codebook import MIN_N
from survey_jax.survey.sources.codes import NO_ANSWER_LABEL, NOT_ASKED_LABEL
from survey_jax.survey.sources.progress import track
from survey_jax.survey.sources.respondents import Column, EncodingError, Variable, open_respondents
from survey_jax.survey.sources.sections import TODO
from survey_jax.survey.table import MAX_OPTIONS

_WEIGHT = re.compile(r".*(weight|wght|wgt|gewicht|ponder|poids).*|w|wt.*|w_.*|.*_wt?", re.IGNORECASE)
_ATTRIBUTES = {
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
_NOTHING = ("na", "nan", "n/a", ".", "null", "none", "#null!", "-")  # how CSV files write blank cells
_OLDEST = 110  # a higher age is a missing code
_HEAD = """\
# Codebook of {file}, drafted from the file itself. Edit it before use:
# - write each question's text as respondents read it, and remove "TODO: "; a label of the file is no question;
# - say whether its options are ordered: scale: ordinal or scale: nominal; put the options in their order;
# - check that "don't know" and the like are under missing (asked, no answer) or not_asked, not among the options;
#   blank cells are not asked, and missing values that the file itself declares need no mention;
# - delete the questions that are none.
"""


def draft_codebook(path: Path, output: Path) -> str:
    """Writes a draft beside whatever is there, and says in one line what is in it.

    Raises:
      UserError: the draft's file exists, cannot be written, or the data cannot be read.
    """
    if output.exists():
        raise UserError(f"{output}: exists, and may hold your work; name another file, or remove it first")
    if not output.parent.is_dir():
        raise UserError(f"{output.parent}: no such folder; make it first")
    try:
        text, counts = _draft(path, None)
    except EncodingError:
        text, counts = _draft(path, "latin1")
    partial = output.with_name(f".partial-{output.name}")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, output)
    return f"drafted {output}: {counts}; edit it, its first lines say what to look for"


def _draft(path: Path, encoding: str | None) -> tuple[str, str]:
    """The draft, and what is in it."""
    respondents = open_respondents(path, encoding)
    names = list(respondents.variables)
    weights: list[str] = []
    attributes: dict[str, list[str]] = {}
    questions: dict[str, list[str]] = {}
    left_out: dict[str, int] = {}
    nothing: set[str] = set()
    for name, column in track(respondents.columns(names), len(names), "columns read"):
        variable, codes = respondents.variables[name], _present(column)
        if not variable.values:
            nothing |= {code for code in codes if code.lower() in _NOTHING}
        codes = [c for c in codes if c not in nothing and not variable.declared_missing(c)]
        attribute = next((a for a, pattern in _ATTRIBUTES.items() if re.fullmatch(pattern, name, re.IGNORECASE)), None)
        if _WEIGHT.fullmatch(name) and not variable.values and _are_weights(codes):
            weights.append(name)
        elif attribute is not None and attribute not in attributes and codes:
            attributes[attribute] = [
                f"  {attribute}:",
                f"    column: {_quoted(name)}",
                *_recode(variable, codes, attribute == "age"),
            ]
        elif 2 <= len(_options(variable, codes)) <= MAX_OPTIONS and not _is_id(column):
            questions[name] = [f"  {_quoted(name)}:", *_question(variable, codes)]
        else:
            left_out[name] = len(codes)

    lines = [*_HEAD.format(file=path.name).splitlines(), "", f"survey: {_quoted(path.name.split('.')[0])}"]
    lines += ["language: en"] + ([f"encoding: {encoding}"] if encoding else [])
    lines += [f"weight: {weights[0]}"] if weights else ["# weight: no column looks like one"]
    lines += [f"# weight: {name}  # another column that may be one" for name in weights[1:]]
    lines += [f"min_n: {MIN_N}"]
    lines += [f"not_asked: [{', '.join(map(_quoted, sorted(nothing)))}]"] if nothing else []
    lines += ["", "attributes:"]
    lines += [line for entry in attributes.values() for line in entry] or [
        f'  country: {{value: "{TODO}: where all of them live"}}'
    ]
    lines += _breakdowns(list(attributes))
    lines += ["", "questions:", *(line for entry in questions.values() for line in entry)]
    lines += [f"  # {name} is left out: {n:,} different values" for name, n in left_out.items()]
    counts = f"questions: {len(questions)}, attributes: {len(attributes)}, columns left out: {len(left_out)}"
    return "\n".join(lines) + "\n", counts


def _present(column: Column) -> list[str]:
    """The codes that occur, but for blank ones, numbers first and in their order."""
    counts = np.bincount(column.index[column.index >= 0], minlength=len(column.codes))
    return sorted({c for c, n in zip(column.codes, counts, strict=True) if c and n}, key=_order)


def _order(code: str) -> tuple[bool, float, str]:
    try:
        return (False, float(code), code)
    except ValueError:
        return (True, 0.0, code)


def _is_id(column: Column) -> bool:
    """Whether every respondent has a value of their own."""
    return len(set(column.codes)) == len(column.index) > 2


def _are_weights(codes: Sequence[str]) -> bool:
    return len(codes) > 1 and all(not word and number >= 0 for word, number, _ in map(_order, codes))


def _options(variable: Variable, codes: Sequence[str]) -> dict[str, str]:
    """code -> text of what seem to be answers."""
    known = {c for c in variable.values if not variable.declared_missing(c)}
    known |= {*codes} - {*_unlabelled_negative(variable, codes)}
    labels = {c: variable.values.get(c, c) for c in sorted(known, key=_order)}
    labels = {c: label for c, label in labels.items() if not _no_option(label)}
    folded = [label.casefold() for label in labels.values()]
    return {c: label if folded.count(label.casefold()) == 1 else f"{label} ({c})" for c, label in labels.items()}


def _no_option(label: str) -> bool:
    return bool(NO_ANSWER_LABEL.search(label) or NOT_ASKED_LABEL.search(label))


def _unlabelled_negative(variable: Variable, codes: Sequence[str]) -> list[str]:
    """Negative codes without a label, where the file has labels and none of its negative codes is an answer."""
    answers = [c for c, label in variable.values.items() if not variable.declared_missing(c) and not _no_option(label)]
    if not variable.values or any(map(_negative, answers)):
        return []
    return [c for c in codes if _negative(c) and c not in variable.values]


def _negative(code: str) -> bool:
    return _order(code)[1] < 0


def _missing(variable: Variable, codes: Sequence[str]) -> tuple[list[str], list[str]]:
    """The codes of no answer and those not asked, by label or sign, unless the file declares them missing anyway."""
    known = {*codes, *variable.values}
    labels = {c: variable.values.get(c, c) for c in sorted(known, key=_order) if not variable.declared_missing(c)}
    not_asked = [c for c, label in labels.items() if NOT_ASKED_LABEL.search(label)]
    negative = _unlabelled_negative(variable, codes)
    missing = [c for c, label in labels.items() if c in negative or NO_ANSWER_LABEL.search(label)]
    missing = [c for c in missing if c not in not_asked]
    return missing, not_asked


def _question(variable: Variable, codes: Sequence[str]) -> Iterator[str]:
    text = f"{TODO}: {variable.label or 'the question as respondents read it'}"
    yield f"    text: {json.dumps(text, ensure_ascii=False)}"
    yield "    options:"
    for code, label in _options(variable, codes).items():
        yield _meaning(variable, code, label)
    yield f"    scale: {variable.scale}" if variable.scale else "    # scale: ordinal or nominal"
    missing, not_asked = _missing(variable, codes)
    yield from _list("missing", missing, _unlabelled_negative(variable, codes))
    yield from _list("not_asked", not_asked)


def _recode(variable: Variable, codes: Sequence[str], is_age: bool) -> Iterator[str]:
    """Bands for ages, labels of the file or to be written for other numbers; texts stay as they are."""
    numbers = [number for word, number, _ in map(_order, codes) if not word]
    if is_age and len(numbers) == len(codes) and not variable.values.keys() & set(codes) and max(numbers) > 15:
        yield "    recode: [18-29, 30-44, 45-64, 65+]"
        yield from _list("missing", [c for c, n in zip(codes, numbers, strict=True) if not 18 <= n <= _OLDEST])
        return
    if variable.values or numbers:
        yield "    recode:"
        for code, label in _options(variable, codes).items():
            yield _meaning(variable, code, label)
    missing, not_asked = _missing(variable, codes)
    yield from _list("missing", missing + not_asked, _unlabelled_negative(variable, codes))


def _list(key: str, codes: Sequence[str], guessed: Sequence[str] = ()) -> Iterator[str]:
    if codes:
        note = f"  # a guess, {', '.join(guessed)}: no label, and no answer of this file is negative" if guessed else ""
        yield f"    {key}: [{', '.join(map(_quoted, codes))}]{note}"


def _meaning(variable: Variable, code: str, label: str) -> str:
    """A line for one code. In a file that labels none of a variable's numbers, their meaning is for the user to say."""
    if not variable.values and not _order(code)[0]:
        label = f"{TODO}: what {code} means"
    return f"      {_quoted(code)}: {json.dumps(label, ensure_ascii=False)}"


def _breakdowns(attributes: Sequence[str]) -> list[str]:
    """One attribute at a time, and within countries: weights rarely weight countries against each other."""
    if "country" in attributes:
        others = [name for name in attributes if name != "country"]
        return [f"breakdowns: [{', '.join(['[country]', *(f'[country, {name}]' for name in others)])}]"]
    crossed = f"  # [{', '.join(attributes[:2])}] would cross two" if len(attributes) > 1 else ""
    return [f"breakdowns: [{', '.join(f'[{name}]' for name in attributes)}]{crossed}"] if attributes else []


def _quoted(text: str) -> str:
    """As YAML, with quotes where it needs them."""
    return text if re.fullmatch(r"\.?[\w+-]+(\.\d+)?", text, re.ASCII) else json.dumps(text, ensure_ascii=False)
