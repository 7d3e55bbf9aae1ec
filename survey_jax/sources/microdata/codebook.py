"""The codebook of a file of respondents: a small YAML file that says what its columns mean.

docs/data.md has the format, with every key.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from survey_jax.common.errors import UserError
from survey_jax.sources.microdata.codes import Band, Codes, parse_band
from survey_jax.sources.microdata.yaml_section import Section, read_yaml
from survey_jax.survey import table

MIN_N = 50  # fewer respondents than this are noise, not an opinion

_TOP = ("survey", "wave", "language", "source", "about", "weight", "min_n", "encoding", "missing", "not_asked",
        "attributes", "breakdowns", "questions")  # fmt: skip
_QUESTION = ("column", "text", "options", "scale", "missing", "not_asked")
_ATTRIBUTE = ("column", "value", "recode", "missing")


@dataclasses.dataclass(frozen=True)
class CodebookQuestion:
    """One question.

    Attributes:
      where: its place in the codebook, for messages.
      codes: code -> index of the option that it means.
      missing: codes of those who were asked and gave no answer.
      not_asked: codes of those who were not asked.
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
    """Reads and checks a codebook. Raises UserError, which names the file, the line and the entry."""
    top = Section(path, "", read_yaml(path))
    top.check_keys(_TOP)
    wave = top.values.get("wave")
    common = {key: top.codes(key, Codes()) for key in ("missing", "not_asked")}
    attributes = {name: _attribute(name, section, common) for name, section in top.sections("attributes", "column")}
    questions = _questions(top, common)
    if not attributes:
        raise top.error("has no attributes, of which groups are made", "attributes")
    breakdowns = [_breakdown(top, item) for item in top.items("breakdowns")]
    return Codebook(
        path=path,
        survey=top.text("survey", required=True) or "",
        wave=None if isinstance(wave, dict) else top.text("wave"),
        wave_column=top.section("wave", ("column",)).text("column", required=True) if isinstance(wave, dict) else None,
        language=top.text("language"),
        source=top.text("source"),
        weights=tuple(top.texts("weight")),
        min_n=_min_n(top),
        encoding=top.text("encoding"),
        common=common["missing"] | common["not_asked"],
        attributes=attributes,
        breakdowns=check_breakdowns(attributes, breakdowns, top.where("breakdowns")),
        questions=questions,
        about=_about(top),
    )


def read_questions(path: Path, missing: Codes, not_asked: Codes) -> tuple[tuple[CodebookQuestion, ...], str | None]:
    """Reads a codebook of `questions` and perhaps their `language`, for a published file of which the rest is known.

    `missing` and `not_asked` are codes that mean so in every question. Raises UserError as `read_codebook` does.
    """
    top = Section(path, "", read_yaml(path))
    top.check_keys(("language", "questions"))
    return _questions(top, {"missing": missing, "not_asked": not_asked}), top.text("language")


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


def _about(top: Section) -> dict[str, str]:
    values = top.values.get(table.ABOUT, {})
    if not isinstance(values, dict):
        raise top.error("about must map names to texts, such as {sponsor: A foundation, mode: web}", table.ABOUT)
    return {name: top.section(table.ABOUT, [*values]).text(name, required=True) or "" for name in values}


def _questions(top: Section, common: Mapping[str, Codes]) -> tuple[CodebookQuestion, ...]:
    questions = tuple(_question(name, section, common) for name, section in top.sections("questions", "text"))
    if not questions:
        raise top.error("has no questions", "questions")
    return questions


def _question(name: str, section: Section, common: Mapping[str, Codes]) -> CodebookQuestion:
    section.check_keys(_QUESTION)
    mapping = section.labels("options")
    options = tuple(dict.fromkeys(mapping.values()))
    try:
        table.check_options(options)
    except ValueError as error:
        raise section.error(str(error), "options") from error
    text = section.text("text", required=True) or ""
    scale = section.text("scale")
    if scale not in (None, "ordinal", "nominal"):
        raise section.error(f'scale must be "ordinal" or "nominal", got {scale!r}', "scale")
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
    column = section.text("column") or name
    return CodebookQuestion(section.where(), name, column, text, options, codes, scale, missing, not_asked)


def _attribute(name: str, section: Section, common: Mapping[str, Codes]) -> CodebookAttribute:
    section.check_keys(_ATTRIBUTE)
    if any(c in name for c in "+,"):
        raise section.error("the name of an attribute cannot hold a plus sign or a comma")
    column, value = section.text("column"), section.text("value")
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
    if not text.isdecimal() or int(text) < 1:
        raise top.error(f"min_n must be a whole number of at least 1, got {text!r}", "min_n")
    return int(text)
