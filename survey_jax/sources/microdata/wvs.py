"""The World Values Survey's wave 7 file as published: CSV without labels, or SPSS .sav with them.

Variables: B_COUNTRY (ISO numeric; 909 is Northern Ireland) or B_COUNTRY_ALPHA, W_WEIGHT, Q1 to Q259 (opinions), Q260
and on (demographics). Negative codes: -1 don't know, -2 no answer; -3 and below not asked, not applicable or lost.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from survey_jax.common.errors import UserError, some
from survey_jax.sources import Prepared, Request
from survey_jax.sources.ledger import option_problem
from survey_jax.sources.microdata import remarks
from survey_jax.sources.microdata.codebook import MIN_N, Codebook, CodebookAttribute, CodebookQuestion, read_questions
from survey_jax.sources.microdata.codes import Band, Codes
from survey_jax.sources.microdata.readers import open_respondents
from survey_jax.sources.microdata.respondents import Respondents
from survey_jax.sources.microdata.tabulate import tabulate
from survey_jax.sources.published import option_texts
from survey_jax.survey.splits.presets import EXCLUDED

ACCEPTS = frozenset({"codebook", "breakdowns", "min_n", "unweighted"})
QUESTIONS = tuple(f"Q{n}" for n in range(1, 260))

_MISSING = Codes(frozenset({"-1", "-2"}))
_NOT_ASKED = Codes(frozenset(str(-n) for n in range(3, 100)))
_NUMBER = re.compile(r"^Q\d+\w*\s*[:.]?\s*")  # a variable label may start with the variable's name

_AGES = {Band(0, 29): "16-29", Band(30, 49): "30-49", Band(50, 64): "50-64", Band(65, None): "65+"}
_EDUCATION = ("lower secondary or below", "upper secondary", "tertiary")
_ISCED = dict(zip((Band(0, 2), Band(3, 4), Band(5, None)), _EDUCATION, strict=True))  # levels of 2011
_RECODED = dict(zip((Band(1, 1), Band(2, 2), Band(3, 3)), _EDUCATION, strict=True))
_SEXES = {"1": "male", "2": "female"}


def load(request: Request) -> Prepared:
    """Q1-Q259 by country, or by country crossed with sex, age or education; see `tabulate`.

    Texts are the codebook's, else the labels of the file. Weighted by W_WEIGHT, unless `unweighted`.

    Raises:
      UserError: the file or the codebook is not as it should be, or a breakdown is unknown or lacks the country.
    """
    path = Path(request.input)
    respondents = open_respondents(path)
    present = [q for q in QUESTIONS if q in respondents.variables]
    if not present:
        raise UserError(f"{path}: has none of the columns Q1-Q259; is it the wave 7 file?")
    if not request.unweighted:
        respondents.require("W_WEIGHT", "the weights, unless --unweighted")
    for breakdown in request.breakdowns:
        if "country" not in breakdown:
            raise UserError(
                f"--breakdowns: {'+'.join(breakdown)} lacks country; W_WEIGHT does not weight countries against each "
                "other, so groups across countries would mean nothing"
            )
    asked = [q for q in present if q not in EXCLUDED]
    texts, language, notes = _texts(respondents, asked, request.codebook)
    codebook = Codebook(
        path=path,
        survey="World Values Survey",
        wave="7",
        wave_column=None,
        language=language,
        source="World Values Survey wave 7",
        weights=("W_WEIGHT",),
        min_n=MIN_N,
        encoding=None,
        common=_MISSING | _NOT_ASKED,
        attributes=_attributes(respondents),
        breakdowns=(("country",),),
        questions=tuple(texts[q] for q in asked if q in texts),
    )
    if excluded := EXCLUDED & set(present):
        notes.append(f"left out, as in the paper: {some(excluded)}")
    if untold := set(asked) - texts.keys():
        notes.append(f"left out for lack of a text: {some(untold)}")
    prepared = tabulate(respondents, codebook, request)
    # Countries are not weighted against each other: there are no toplines across them.
    return dataclasses.replace(prepared, notes=[*prepared.notes, *notes], toplines=())


def _texts(
    respondents: Respondents, asked: Sequence[str], codebook: Path | None
) -> tuple[dict[str, CodebookQuestion], str | None, list[str]]:
    """Questions by name, their language, and notes on labels that cannot be used."""
    found, notes = _labelled(respondents, asked)
    language: str | None = "en" if found else None
    if codebook is not None:
        given, own_language = read_questions(codebook, _MISSING, _NOT_ASKED)
        if strange := [q for q in given if q.id not in QUESTIONS]:
            raise UserError(f"{strange[0].where}: is not one of Q1-Q259")
        found |= {q.id: q for q in given}
        notes += remarks.merged_options(given)
        language = own_language or language
    if not found:
        raise UserError(
            f"{respondents.path}: has no question texts; give them with --codebook=FILE (docs/data.md), or use the .sav"
        )
    return found, language, notes


def _labelled(respondents: Respondents, asked: Sequence[str]) -> tuple[dict[str, CodebookQuestion], list[str]]:
    """Questions by the file's labels. Codes between labelled ones that occur are answers: points of a scale."""
    texts = {q: _NUMBER.sub("", respondents.variables[q].label or "").strip() for q in asked}
    labels = {
        q: {int(code): label for code, label in respondents.variables[q].values.items() if code.isdecimal()}
        for q in asked
    }
    named = [q for q in asked if texts[q] and labels[q]]
    gaps = [q for q in named if max(labels[q]) - min(labels[q]) >= len(labels[q])]
    for name, column in respondents.columns(gaps):
        between = range(min(labels[name]), max(labels[name]))
        labels[name] = {int(c): c for c in column.codes if c.isdecimal() and int(c) in between} | labels[name]
    found, notes = {}, []
    for name in named:
        codes = sorted(labels[name])
        options = tuple(labels[name][code] for code in codes)
        if problem := option_problem(options):
            notes.append(f"{name} left out: {problem} among the file's labels; --codebook can give others")
            continue
        found[name] = CodebookQuestion(
            where=f"{respondents.path}: {name}, by the file's labels (--codebook can give others)",
            id=name,
            column=name,
            text=texts[name],
            options=options,
            codes={str(code): i for i, code in enumerate(codes)},
            scale=option_texts.scale(options),
            missing=_MISSING,
            not_asked=_NOT_ASKED,
        )
    return found, notes


def _attributes(respondents: Respondents) -> Mapping[str, CodebookAttribute]:
    def attribute(
        name: str, columns: Sequence[str], labels: Mapping[str, str], bands: Mapping[Band, str]
    ) -> CodebookAttribute:
        column = next((c for c in columns if respondents.find(c)), columns[0])
        missing = _MISSING | _NOT_ASKED
        return CodebookAttribute(f"{respondents.path}: {name}", name, column, None, labels, bands, missing, False)

    isced = _ISCED if respondents.find("Q275") else _RECODED
    return {
        "country": attribute("country", ("B_COUNTRY", "B_COUNTRY_ALPHA"), {}, {}),
        "sex": attribute("sex", ("Q260",), _SEXES, {}),
        "age": attribute("age", ("Q262",), {}, _AGES),
        "education": attribute("education", ("Q275", "Q275R"), {}, isced),
    }
