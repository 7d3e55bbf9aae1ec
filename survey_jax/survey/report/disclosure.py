"""What the report discloses of the data, in the order of the American Association for Public Opinion Research.

The association's Code of Professional Ethics (2021, section III.A) and ESOMAR's guideline ask for: whose data, the
wording, the population, the sample, dates, sizes and precision, weights, how answers were processed, limits. What a
table does not say is called unknown, never guessed: its column `about` says what no other column has.
"""

import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence

from survey_jax.common.errors import some
from survey_jax.survey.table import ABOUT, Answer

Sections = dict[str, dict[str, str]]  # heading -> term -> text
_MANY = 30  # surveys that the table lists
# Section -> entries of `about` that belong there; any other is shown with the first.
_ABOUT = {
    "Whose data": ("sponsor", "source", "url"),
    "Population under study": ("population",),
    "Sample": ("sample", "mode"),
    "Dates": ("fieldwork", "dates"),
}
_UNKNOWN = "unknown: the table's column about does not say"


def surveys(answers: Sequence[Answer]) -> list[dict[str, str]]:
    """A line for each survey, the largest first; the smallest of many are added up."""
    rows: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        rows[answer.survey].append(answer)
    ordered = sorted(rows, key=lambda survey: -len(rows[survey]))
    lines = [_survey(survey, rows[survey]) for survey in ordered[:_MANY]]
    if rest := [a for survey in ordered[_MANY:] for a in rows[survey]]:
        lines.append(_survey(f"{len(ordered) - _MANY} others", rest))
    return lines


def _survey(name: str, rows: Sequence[Answer]) -> dict[str, str]:
    return {
        "survey": name,
        "dates": _list(_dates(rows))
        or _list({t for k in _ABOUT["Dates"] for t in _said(rows).get(k, {})})
        or "unknown",
        "rows": f"{len(rows):,}",
        "questions": f"{len({a.question_key for a in rows}):,}",
        "groups": f"{len({a.group for a in rows}):,}",
        "respondents a row": _range([a.n for a in rows if a.n is not None]),
        "effective": _range([a.n_effective for a in rows if a.n_effective is not None]),
    }


def data_sections(answers: Sequence[Answer], counts: str, leakage: str) -> Sections:
    """What the report says about the data besides the table of surveys.

    Args:
      answers: all rows, of train and of the splits evaluated.
      counts: the table of splits as printed.
      leakage: the table of the leakage audit as printed.
    """
    return {
        "Whose data": {
            "sources named by the table": _sources(answers),
            **({"sponsor": _UNKNOWN} | _about(answers, "Whose data")),
        },
        "Questions and answers offered": {
            "wording": "columns question and options of predictions.parquet, as they were put to the model",
            "languages": _list({a.language for a in answers if a.language}) or "unknown",
            "options a question": _range([len(a.options) for a in answers]),
            "scales": _counted(Counter(a.scale or "unknown" for a in answers), "rows"),
        },
        "Population under study": {
            "groups": f"{len({a.group for a in answers}):,}, described by {_attributes(answers)}",
            **({"population": _UNKNOWN} | _about(answers, "Population under study")),
        },
        "Sample": {"sample": _UNKNOWN, "mode": _UNKNOWN} | _about(answers, "Sample"),
        "Dates": {"waves or years": _list(_dates(answers)) or "unknown", **_about(answers, "Dates")},
        "Sample sizes and precision": _sizes(answers),
        "Weights": _weights(answers),
        "How answers were processed": {
            "shares": "of the people who chose one of the options; don't know, refused and not asked are none, unless "
            "the table lists them as options",
            "numbers of respondents": "as the table has them; where a source estimates them, so are the ceilings",
        },
        "Splits": {"rows and questions": counts, "audit": "no split shares with train what its name says it does not"},
        "Leakage audit": {"near-duplicate questions": leakage},
    }


def _said(answers: Sequence[Answer]) -> dict[str, dict[str, set[str]]]:
    """Entry of `about` -> text -> the surveys whose rows say so."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for answer in answers:
        for term, text in answer.extra.get(ABOUT, {}).items():
            found[term.casefold()][text].add(answer.survey)
    return found


def _about(answers: Sequence[Answer], section: str) -> dict[str, str]:
    """What `about` says for a section; with the survey's name where there are several surveys."""
    elsewhere = {term for terms in _ABOUT.values() for term in terms} - set(_ABOUT[section])
    said = _said(answers)
    terms = [term for term in _ABOUT[section] if term in said]
    if section == next(iter(_ABOUT)):
        terms += [term for term in said if term not in (*terms, *elsewhere)]
    several = len({a.survey for a in answers}) > 1
    return {
        term: "\n".join(f"{some(surveys)}: {text}" if several else text for text, surveys in said[term].items())
        for term in terms
    }


def _sources(answers: Sequence[Answer]) -> str:
    found = Counter(a.source or "not named" for a in answers)
    shown = "\n".join(f"{source}: {n:,} rows" for source, n in found.most_common(8))
    return shown + (f"\n... and {len(found) - 8:,} more, in the table's column source" if len(found) > 8 else "")


def _attributes(answers: Sequence[Answer]) -> str:
    values: dict[str, set[str]] = defaultdict(set)
    for answer in answers:
        for attribute, value in answer.group:
            values[attribute].add(value)
    return ", ".join(f"{attribute} ({len(found):,} values)" for attribute, found in sorted(values.items()))


def _sizes(answers: Sequence[Answer]) -> dict[str, str]:
    known = [a.n for a in answers if a.n is not None]
    effective = [a.n_effective for a in answers if a.n_effective is not None]
    return {
        "rows": f"{len(answers):,}, each one question put to one group",
        "respondents a row": f"{_range(known)}; known in {len(known):,} rows",
        "effective respondents a row": f"{_range(effective)}; known in {len(effective):,} rows",
        "precision": "the bars of the examples carry sampling errors of 95 %; the sampling ceiling is what these "
        "sample sizes allow. Beyond that, intervals are over questions and groups",
    }


def _weights(answers: Sequence[Answer]) -> dict[str, str]:
    effects = [a.n / a.n_effective for a in answers if a.n and a.n_effective]
    if not effects:
        return {"weights": "unknown: no row has an effective number of respondents; see the source"}
    return {
        "weights": f"{len(effects):,} rows have an effective number of respondents (Kish)",
        "design effect by weighting": f"median {statistics.median(effects):.2f}, at most {max(effects):.2f}",
    }


def _dates(answers: Sequence[Answer]) -> set[str]:
    """Waves, and years where groups have one."""
    waves = {a.wave for a in answers if a.wave}
    return waves | {value for a in answers for attribute, value in a.group if attribute.casefold() == "year"}


def _range(values: Sequence[float]) -> str:
    if not values:
        return "unknown"
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f} (median {middle:,.0f})"


def _counted(counts: Counter[str], what: str) -> str:
    return ", ".join(f"{name} ({n:,} {what})" for name, n in counts.most_common())


def _list(values: set[str]) -> str:
    return some(values, limit=12) if values else ""
