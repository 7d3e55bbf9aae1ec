"""The World Values Survey's wave 7 file as published: CSV, or SPSS .sav with its labels.

Variables: B_COUNTRY (ISO numeric; 909 is Northern Ireland) or B_COUNTRY_ALPHA, A_YEAR, W_WEIGHT, Q1 to Q259
(opinions), Q260 and on (demographics). Negative codes are missing: -1 don't know, -2 no answer, -4 not asked, -5 other.
"""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from survey_jax.errors import UserError
from survey_jax.survey import countries
from survey_jax.survey.sources import Prepared, Request, option_texts
from survey_jax.survey.sources.counting import count
from survey_jax.survey.sources.ledger import Ledger, option_problem
from survey_jax.survey.sources.wvs_files import QUESTIONS, Text, read, texts

ACCEPTS = frozenset({"codebook", "breakdowns", "min_n", "unweighted"})

# Cao et al. 2025 leave these out: regional organisations, memberships, parties (as their published code says).
EXCLUDED = frozenset({"Q82", "Q223", *(f"Q{n}" for n in range(94, 106))})

NO_TEXT = "question without a text (codebook) or label (.sav)"
IN_PAPER = "question excluded in the paper (Q82, Q94-Q105, Q223)"
NOT_ASKED = "question not asked, or nobody answered"
UNKNOWN_COUNTRY = "country code not recognised"

_SEX = {1: "Male", 2: "Female"}
_AGES = {0: "16-29", 30: "30-49", 50: "50-64", 65: "65+"}  # lower bound -> band
_EDUCATION = {0: "lower secondary or below", 3: "upper secondary", 5: "tertiary"}  # lower ISCED 2011 level -> group
_RECODED_EDUCATION = {1: "lower secondary or below", 2: "upper secondary", 3: "tertiary"}
ATTRIBUTES = {"country": ("B_COUNTRY", "B_COUNTRY_ALPHA"), "sex": ("Q260",), "age": ("Q262",),
              "education": ("Q275", "Q275R")}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Groups:
    """Who belongs where. index: group of each respondent, -1 for none; values: attribute -> value, of each group."""

    index: Int[np.ndarray, " r"]
    values: list[dict[str, str]]
    places: list[countries.Place | None]


def load(request: Request) -> Prepared:
    """Q1-Q259 by country, or by the breakdowns of country, sex, age and education asked for.

    Distributions are weighted by W_WEIGHT unless `unweighted`. Extra columns: country_iso3; year (of the interviews);
    share_dk, the unweighted share of don't know and no answer among those asked.

    Raises:
      UserError: the file or the codebook is not as it should be, or a breakdown is unknown or lacks the country.
    """
    breakdowns = request.breakdowns or (("country",),)
    _check(breakdowns)
    wanted = {a for breakdown in breakdowns for a in breakdown}
    file = read(request.input, [c for a in ATTRIBUTES if a in wanted for c in ATTRIBUTES[a]], not request.unweighted)
    known = texts(file, request.codebook)
    weights, notes = _weights(file.frame, request.unweighted)
    members = {a: _attribute(file.frame, a, request.input) for a in ATTRIBUTES if a in wanted}
    ledger = Ledger()
    labels = members["country"][1]
    notes += countries.report_unknown(labels)
    for breakdown in breakdowns:
        groups = _groups({a: members[a] for a in ATTRIBUTES if a in breakdown})
        years = _years(file.frame, groups)
        outside = int((groups.index < 0).sum())
        if outside:
            notes.append(f"{outside:,} respondents have no {' x '.join(breakdown)}: in no group of that breakdown")
        for question in (q for q in QUESTIONS if q in file.frame):
            codes = np.where(np.isnan(weights), np.nan, file.frame[question].to_numpy(float))
            _add_question(ledger, question, codes, known.get(question), groups, weights, years, request)
    return ledger.prepared(request.input, notes)


def _check(breakdowns: Sequence[Sequence[str]]) -> None:
    for breakdown in breakdowns:
        if unknown := [a for a in breakdown if a not in ATTRIBUTES]:
            raise UserError(f"--breakdowns: {unknown[0]!r} is unknown here; choose from {', '.join(ATTRIBUTES)}")
        if "country" not in breakdown:
            raise UserError(
                f"--breakdowns: {' x '.join(breakdown)} lacks country; W_WEIGHT does not weight countries against "
                "each other, so groups across countries would mean nothing"
            )


def _weights(frame: pd.DataFrame, unweighted: bool) -> tuple[Float[np.ndarray, " r"], list[str]]:
    """W_WEIGHT, NaN where a respondent cannot count; and a note about those."""
    if unweighted:
        return np.ones(len(frame)), []
    weights = frame["W_WEIGHT"].to_numpy(float)
    weights = np.where(weights > 0, weights, np.nan)
    lost = int(np.isnan(weights).sum())
    return weights, [f"{lost:,} respondents have no positive W_WEIGHT and do not count"] if lost else []


def _attribute(frame: pd.DataFrame, attribute: str, where: str) -> tuple[Int[np.ndarray, " r"], list[str]]:
    """Each respondent's value as an index (-1: missing) into the list of values."""
    column = next((c for c in ATTRIBUTES[attribute] if c in frame), None)
    if column is None:
        raise UserError(f"{where}: has no column {' or '.join(ATTRIBUTES[attribute])}, needed for {attribute}")
    if attribute == "country":
        labels = frame[column].map(lambda v: str(int(v)) if isinstance(v, int | float) and v == v else str(v).strip())
        index, values = pd.factorize(labels, sort=True)
        return index, list(values)
    bounds = {"sex": _SEX, "age": _AGES, "education": _EDUCATION if column == "Q275" else _RECODED_EDUCATION}[attribute]
    codes = frame[column].to_numpy(float)
    if attribute == "sex":
        codes = np.where(np.isin(codes, list(_SEX)), codes, np.nan)
    index = np.searchsorted(list(bounds), codes, side="right") - 1
    return np.where(codes >= 0, index, -1), list(bounds.values())


def _groups(members: Mapping[str, tuple[Int[np.ndarray, " r"], list[str]]]) -> _Groups:
    """Crosses attributes; only groups that have respondents."""
    rows = np.stack([index for index, _ in members.values()])
    inside = (rows >= 0).all(axis=0)
    combinations, inverse = np.unique(rows[:, inside], axis=1, return_inverse=True)
    index = np.full(rows.shape[1], -1)
    index[inside] = inverse.ravel()
    values, places = [], []
    for combination in combinations.T:
        value = {a: members[a][1][i] for a, i in zip(members, combination, strict=True)}
        place = countries.find(value["country"])
        places.append(place)
        values.append({**value, "country": place.name if place else value["country"]})
    return _Groups(index, values, places)


def _years(frame: pd.DataFrame, groups: _Groups) -> list[str | None]:
    """When each group was interviewed: "2018" or "2018-2019"."""
    found: list[str | None] = [None] * len(groups.values)
    if "A_YEAR" in frame:
        years = frame["A_YEAR"].where(frame["A_YEAR"] > 0).groupby(groups.index).agg(["min", "max"]).dropna()
        for group, (first, last) in zip(years.index, years.to_numpy(int), strict=True):
            if group >= 0:
                found[group] = str(first) if first == last else f"{first}-{last}"
    return found


def _add_question(
    ledger: Ledger,
    question: str,
    codes: Float[np.ndarray, " r"],
    text: Text | None,
    groups: _Groups,
    weights: Float[np.ndarray, " r"],
    years: Sequence[str | None],
    request: Request,
) -> None:
    """A row per group that answered. `codes` is NaN for respondents who do not count."""
    observed = np.unique(codes[codes >= 0])
    answers = np.array(_answer_codes(question, text, observed))
    option = np.where(np.isin(codes, answers), np.searchsorted(answers, np.nan_to_num(codes)), -1)
    counted = count(groups.index, option, weights, (len(groups.values), max(len(answers), 1)))
    silent = np.bincount(groups.index[np.isin(codes, (-1, -2)) & (groups.index >= 0)], minlength=len(groups.values))
    options = [text.options.get(code, str(code)) for code in answers.tolist()] if text else []
    problem = IN_PAPER if question in EXCLUDED else option_problem(options) if text else NO_TEXT
    reasons: collections.Counter[str] = collections.Counter()
    for g, place in enumerate(groups.places):
        n = int(counted.n[g])
        reason = NOT_ASKED if n == 0 else problem or (UNKNOWN_COUNTRY if place is None else None)
        if reason is None and request.min_n is not None and n < request.min_n:
            reason = f"fewer than {request.min_n} respondents"
        if reason is not None or place is None or text is None:
            reasons[str(reason)] += 1
            continue
        row: dict[str, Any] = {
            "survey": "World Values Survey", "wave": "7", "question_id": question, "question": text.question,
            "options": options, "scale": text.scale or option_texts.scale(options), "group": groups.values[g],
            "counts": counted.counts[g].tolist(), "n": n, "n_effective": float(counted.n_effective[g]),
            "source": "World Values Survey wave 7", "country_iso3": place.iso3, "year": years[g],
            "share_dk": float(silent[g] / (n + silent[g])),
        }  # fmt: skip
        ledger.keep(row)
    ledger.dropped.update(reasons)


def _answer_codes(question: str, text: Text | None, observed: Float[np.ndarray, " c"]) -> list[int]:
    """Codes that are answers, in order: those with a text, and those that occur. Raises UserError."""
    codes = {int(c) for c in observed}
    if text is None:
        return sorted(codes)
    if text.complete and (extra := sorted(codes - text.options.keys())):
        raise UserError(f"codebook: {question} has the code {extra[0]} in the file, but no option for it; add one")
    return sorted(codes | text.options.keys())
