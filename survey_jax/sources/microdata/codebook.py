"""The codebook of a file of respondents: a small YAML file that says what its columns mean.

docs/data.md has the format, with every key.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from survey_jax.common.errors import UserError
from survey_jax.common.problems import Problems
from survey_jax.sources.microdata.codes import Band, Codes, canonical, parse_band
from survey_jax.sources.microdata.yaml_section import Section, read_yaml, unwritten
from survey_jax.survey import table

MIN_N = 50  # fewer respondents than this are noise, not an opinion

_TOP = ("survey", "wave", "language", "source", "about", "weight", "min_n", "encoding", "scale", "missing",
        "not_asked", "attributes", "breakdowns", "questions")  # fmt: skip
_QUESTION = ("column", "text", "options", "scale", "missing", "not_asked", "chosen", "separator")
_ATTRIBUTE = ("column", "value", "recode", "missing")
_SCALES = ("ordinal", "nominal")


@dataclasses.dataclass(frozen=True)
class CodebookQuestion:
    """One question.

    Attributes:
      where: its place in the codebook, for messages.
      codes: code -> index of the option that it means.
      scale: its own, or the codebook's for all questions; None: unknown.
      missing: codes of those who were asked and gave no answer.
      not_asked: codes of those who were not asked.
      chosen: where cells hold several codes, between `separator`: the one that the question is about. Its first option
        is for those who have it in their cell, its second for those who do not.
    """

    where: str
    id: str
    column: str
    text: str
    options: tuple[str, ...]
    codes: Mapping[str, int]
    scale: str | None
    missing: Codes
    not_asked: Codes
    chosen: str | None = None
    separator: str = ""


@dataclasses.dataclass(frozen=True)
class CodebookAttribute:
    """What groups are made of.

    Attributes:
      column: the column that has it; None if everyone has `value`.
      labels: code -> value. If this and `bands` are empty, the file's labels are the values, or else its codes.
      bands: band -> value.
      missing: codes of respondents who belong to no group.
      own_missing: whether these codes are listed for this attribute alone.
    """

    where: str
    name: str
    column: str | None
    value: str | None
    labels: Mapping[str, str]
    bands: Mapping[Band, str]
    missing: Codes
    own_missing: bool


@dataclasses.dataclass(frozen=True)
class Codebook:
    """A codebook that has passed its checks.

    Attributes:
      common: codes that mean missing or not asked in every question.
      about: name -> text, what the report discloses of the survey; the column `about` of every row.
    """

    path: Path
    survey: str
    wave: str | None
    wave_column: str | None
    language: str | None
    source: str | None
    weights: tuple[str, ...]
    min_n: int
    encoding: str | None
    common: Codes
    attributes: Mapping[str, CodebookAttribute]
    breakdowns: tuple[tuple[str, ...], ...]
    questions: tuple[CodebookQuestion, ...]
    about: Mapping[str, str] = dataclasses.field(default_factory=dict)


def read_codebook(path: Path) -> Codebook:
    """Reads and checks a codebook. Raises UserError, which names the file, and all that is to mend with its line."""
    top = Section(path, "", read_yaml(path))
    problems = _begin(top, _TOP)
    tried, wave = problems.tried, top.values.get("wave")
    common = {key: tried(partial(top.codes, key, Codes())) or Codes() for key in ("missing", "not_asked")}
    attributes = tried(lambda: _attributes(top, common)) or {}
    questions = tried(lambda: _questions(top, common)) or ()
    lists = tried(lambda: [_breakdown(top, item) for item in top.items("breakdowns")]) or []
    where = top.where("breakdowns")
    breakdowns = tried(lambda: check_breakdowns(attributes, lists, where)) or () if attributes else ()
    survey = tried(lambda: top.text("survey", required=True))
    codebook = Codebook(
        path=path,
        survey=survey or "",
        wave=None if isinstance(wave, dict) else tried(lambda: top.text("wave")),
        wave_column=tried(lambda: _wave_column(top)) if isinstance(wave, dict) else None,
        language=tried(lambda: top.text("language")),
        source=tried(lambda: top.text("source")),
        weights=tuple(tried(lambda: top.texts("weight")) or []),
        min_n=tried(lambda: _min_n(top)) or MIN_N,
        encoding=tried(lambda: _encoding(top)),
        common=common["missing"] | common["not_asked"],
        attributes=attributes,
        breakdowns=breakdowns,
        questions=questions,
        about=tried(lambda: _about(top)) or {},
    )
    problems.check()
    return codebook


def read_questions(path: Path, missing: Codes, not_asked: Codes) -> tuple[tuple[CodebookQuestion, ...], str | None]:
    """Reads a codebook of `questions` and perhaps their `language` and `scale`, for a published file of which the rest
    is known.

    `missing` and `not_asked` are codes that mean so in every question. Raises UserError as `read_codebook` does.
    """
    top = Section(path, "", read_yaml(path))
    problems = _begin(top, ("language", "scale", "questions"))
    questions = problems.tried(lambda: _questions(top, {"missing": missing, "not_asked": not_asked})) or ()
    language = problems.tried(lambda: top.text("language"))
    problems.check()
    return questions, language


def check_breakdowns(
    attributes: Mapping[str, CodebookAttribute], breakdowns: Sequence[Sequence[str]], where: str
) -> tuple[tuple[str, ...], ...]:
    """The breakdowns, or by default each attribute that varies alone; attributes of one value are in all of them.

    Raises UserError, beginning with `where`, if an attribute is unknown or a breakdown is there twice.
    """
    constant = [name for name, attribute in attributes.items() if attribute.value is not None]
    varying = [name for name in attributes if name not in constant]
    result: list[tuple[str, ...]] = []
    for names in breakdowns or [[name] for name in varying] or [constant]:
        if unknown := [name for name in names if name not in attributes]:
            raise UserError(f"{where}: unknown attribute {unknown[0]!r}; choose from {', '.join(attributes)}")
        whole = tuple(dict.fromkeys([*constant, *names]))
        if set(whole) in map(set, result):
            raise UserError(f"{where}: the breakdown {'+'.join(names)} is there twice")
        result.append(whole)
    return tuple(result)


def _begin(top: Section, keys: Sequence[str]) -> Problems:
    """What is to be written, and keys that are unknown."""
    problems = Problems(top.path)
    for message in unwritten(top.path, top.values):
        problems.add(message)
    problems.tried(lambda: top.check_keys(keys))
    return problems


def _wave_column(top: Section) -> str:
    section = top.section("wave", ("column",))
    section.text("column", required=True)
    return section.column() or ""


def _about(top: Section) -> dict[str, str]:
    values = top.values.get(table.ABOUT, {})
    if not isinstance(values, dict):
        raise top.error("about must map names to texts, such as {sponsor: A foundation, mode: web}", table.ABOUT)
    return {name: top.section(table.ABOUT, [*values]).text(name, required=True) or "" for name in values}


def _questions(top: Section, common: Mapping[str, Codes]) -> tuple[CodebookQuestion, ...]:
    """Raises UserError with what is wrong in any of the questions."""
    problems = Problems(top.path)
    default = problems.tried(lambda: _scale(top))
    sections = top.sections("questions", "text")
    if not sections:
        raise top.error("has no questions", "questions")
    found = [problems.tried(partial(_question, *section, common, default)) for section in sections]
    problems.check()
    return tuple(question for question in found if question)


def _attributes(top: Section, common: Mapping[str, Codes]) -> dict[str, CodebookAttribute]:
    """Raises UserError with what is wrong in any of the attributes."""
    problems, sections = Problems(top.path), top.sections("attributes", "column")
    if not sections:
        raise top.error("has no attributes, of which groups are made", "attributes")
    found = [problems.tried(partial(_attribute, *section, common)) for section in sections]
    problems.check()
    return {attribute.name: attribute for attribute in found if attribute}


def _scale(section: Section) -> str | None:
    scale = section.text("scale")
    if scale not in (None, *_SCALES):
        raise section.error(f'scale must be "ordinal" or "nominal", got {scale!r}', "scale")
    return scale


def _question(name: str, section: Section, common: Mapping[str, Codes], default_scale: str | None) -> CodebookQuestion:
    section.check_keys(_QUESTION)
    mapping = section.labels("options")
    options = tuple(dict.fromkeys(mapping.values()))
    try:
        table.check_options(options)
    except ValueError as error:
        raise section.error(str(error), "options") from error
    text = section.text("text", required=True) or ""
    scale = _scale(section) or default_scale
    missing, not_asked = (section.codes(key, common[key]) for key in ("missing", "not_asked"))
    codes = {code: options.index(option) for code, option in mapping.items()}
    for what, listed in (("missing", missing), ("not_asked", not_asked)):
        if both := [code for code in codes if code in listed]:
            raise section.error(
                f"the code {both[0]} is an option and also in the list `{what}` that applies here; "
                f"give the question a `{what}` of its own",
                "options",
            )
    if both := sorted(missing.exact & not_asked.exact):
        raise section.error(f"the code {both[0]} is both in `missing` and in `not_asked`", "missing")
    column, chosen = section.column() or name, section.text("chosen")
    separator = section.values.get("separator", "")
    if (chosen is None) != (separator == "") or not isinstance(separator, str):
        raise section.error("chosen (one of several codes in a cell) and separator (between them) need each other")
    if chosen is not None and len(options) != 2:
        raise section.error("chosen needs two options: the first if it is chosen, the second if not", "options")
    chosen = chosen and canonical(chosen)
    return CodebookQuestion(
        section.where(), name, column, text, options, codes, scale, missing, not_asked, chosen, separator
    )


def _attribute(name: str, section: Section, common: Mapping[str, Codes]) -> CodebookAttribute:
    section.check_keys(_ATTRIBUTE)
    if any(c in name for c in "+,"):
        raise section.error("the name of an attribute cannot hold a plus sign or a comma")
    column, value = section.column(), section.text("value")
    if (column is None) == (value is None):
        raise section.error("needs either a column or, if it is the same for everyone, a value")
    if value is not None and len(section.values) > 1:
        raise section.error("has a value for everyone, so it can have nothing else")
    labels: dict[str, str] = {}
    bands: dict[Band, str] = {}
    for code, label in section.labels("recode").items() if "recode" in section.values else ():
        try:
            band = parse_band(code)
        except ValueError as error:
            raise section.error(str(error), "recode") from error
        if band is None:
            labels[code] = label
        elif other := next((b for b in bands if b.overlaps(band)), None):
            raise section.error(f"the bands {bands[other]} and {label} overlap", "recode")
        else:
            bands[band] = label
    missing = section.codes("missing", common["missing"] | common["not_asked"])
    if both := [code for code in labels if code in missing]:
        raise section.error(f"the code {both[0]} is in `recode` and in the missing codes that apply here", "recode")
    return CodebookAttribute(section.where(), name, column, value, labels, bands, missing, "missing" in section.values)


def _breakdown(top: Section, item: Any) -> list[str]:
    """[country, age], or one of them as text; "country+age" is both."""
    names = item.split("+") if isinstance(item, str) else item
    if not isinstance(names, list) or not names or not all(isinstance(n, str) and n.strip() for n in names):
        raise top.error("each breakdown is a list of attributes, such as [country, age]", "breakdowns")
    return [name.strip() for name in names]


def _min_n(top: Section) -> int:
    text = top.text("min_n") or str(MIN_N)
    if not text.isdecimal() or len(text) > 12 or int(text) < 1:
        raise top.error(f"min_n must be a whole number of at least 1 and at most 12 digits, got {text!r:.60}", "min_n")
    return int(text)


def _encoding(top: Section) -> str | None:
    text = top.text("encoding")
    if text and not re.fullmatch(r"[\w.:+-]+", text, re.ASCII):
        raise top.error(f"encoding must be a name such as utf-8 or latin1, got {text!r}", "encoding")
    return text
