"""SubPOP (Suh et al. 2025, ACL, arXiv 2502.16761) as published: `jjssuh/subpop` on the hub, or its JSONL files.

Columns: qkey, attribute, group, question, options (a refusal option last), ordinal and responses (one value an option,
refusals apart), refusal_rate. SubPOP-Train is Pew's American Trends Panel (qkey ends in the wave: SAFE_W61),
SubPOP-Eval the General Social Survey 2022; each is a survey of that name in the table, as the preset "subpop" has them.
The same columns as CSV, lists printed, are its processed OpinionQA file.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from survey_jax.common.errors import UserError
from survey_jax.sources import Prepared, Request
from survey_jax.sources.files import SPLIT, read_rows
from survey_jax.sources.ledger import Ledger, option_problem
from survey_jax.sources.published import option_texts
from survey_jax.survey.splits.presets import SUBPOP_EVAL, SUBPOP_TRAIN

ACCEPTS: frozenset[str] = frozenset()
COLUMNS = ("qkey", "attribute", "group", "question", "options", "ordinal", "responses", "refusal_rate")
COUNTRY = {"country": "United States"}

# Pew's names of attributes -> ours. "Overall" is everybody.
ATTRIBUTES = {
    "CREGION": "region", "AGE": "age", "SEX": "sex", "EDUCATION": "education", "CITIZEN": "citizen",
    "MARITAL": "marital_status", "RELIG": "religion", "RELIGATTEND": "religious_attendance", "POLPARTY": "party",
    "INCOME": "income", "POLIDEOLOGY": "ideology", "RACE": "race",
}  # fmt: skip

REPEATED = "repeated row"
BAD_RESPONSES = "responses are no shares that sum to 1"
NUMBERED = "one key for several questions: numbered KEY#2, ..."
REORDERED = "options put in the order of their ordinal values"
CLEANED = "quotes around an option removed"

_WAVE = re.compile(r"_W(\d+)$")


def load(request: Request, survey: str | None = None) -> Prepared:
    """The published rows. Groups are of the United States, e.g. {country, party}; "Overall" is {country} alone.

    Extra columns: attribute (as published), item_nonresponse (the refusal rate), ordinal_values (in the order of
    `options`), and published_split where the hub names one.

    Args:
      survey: the survey of all rows; by default SubPOP-Train or SubPOP-Eval, depending on the key.

    Raises:
      UserError: no such file or data set, a column is missing, or a cell is not what is published.
    """
    ledger = Ledger()
    questions: dict[tuple[str, str], int] = {}  # (key, what is asked) -> its number among those of the key
    numbers: dict[str, int] = {}
    seen = set()
    for number, raw in enumerate(read_rows(request.input, COLUMNS), start=1):
        try:
            row = _parse(raw)
        except (TypeError, ValueError) as error:
            raise UserError(f"{request.input} row {number}: {error}") from error
        row["survey"] = survey or (SUBPOP_TRAIN if _WAVE.search(row["question_id"]) else SUBPOP_EVAL)
        key, asked = row["question_id"], repr((row["question"], row["options"]))
        if (key, asked) not in questions:
            numbers[key] = numbers.get(key, 0) + 1
            questions[key, asked] = numbers[key]
        repairs = [REORDERED] * row.pop("reordered") + [CLEANED] * row.pop("cleaned")
        if questions[key, asked] > 1:
            row["question_id"] = f"{key}#{questions[key, asked]}"
            repairs.append(NUMBERED)
        unique = (row["survey"], row["question_id"], tuple(sorted(row["group"].items())))
        probs = row["probs"]
        good = all(math.isfinite(p) and p >= 0 for p in probs) and abs(math.fsum(probs) - 1) <= 1e-3
        problem = option_problem(row["options"]) or (not good and BAD_RESPONSES) or (unique in seen and REPEATED)
        if problem:
            ledger.dropped[problem] += 1
        else:
            seen.add(unique)
            ledger.keep(row, repairs)
    return ledger.prepared(request.input)


def order(ordinal: Sequence[float]) -> tuple[str | None, list[int]]:
    """What ordinal values say of a scale, and the order of its options.

    All different: "ordinal", by value ("it depends" is published last, with a value in the middle). All equal:
    "nominal", as published. Some equal: unknown (None), as published.
    """
    published = list(range(len(ordinal)))
    if len(set(ordinal)) == len(ordinal):
        return "ordinal", sorted(published, key=lambda i: ordinal[i])
    return ("nominal" if len(set(ordinal)) == 1 else None), published


def group(attribute: str, value: str) -> dict[str, str]:
    """A published group in the table's terms. Raises ValueError."""
    if attribute == "Overall":
        return dict(COUNTRY)
    if attribute not in ATTRIBUTES:
        raise ValueError(f"attribute {attribute!r} is unknown; one of Overall, {', '.join(ATTRIBUTES)}")
    return {**COUNTRY, ATTRIBUTES[attribute]: value}


def wave(key: str) -> str:
    """The panel's wave at the end of a question key; else the year of the General Social Survey's round."""
    match = _WAVE.search(key)
    return f"W{match[1]}" if match else "2022"


def _parse(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A table row, with `reordered` and `cleaned`. Raises ValueError with the reason."""
    key, attribute = str(raw["qkey"]).strip(), str(raw["attribute"]).strip()
    published = [str(o) for o in _list(raw, "options")]
    ordinal, responses = _numbers(raw, "ordinal"), _numbers(raw, "responses")
    if len(ordinal) != len(responses) or len(published) < len(responses):
        raise ValueError(f"{key}: {len(published)} options, {len(responses)} responses, {len(ordinal)} ordinal values")
    refusals = [option_texts.clean(o) for o in published[len(responses) :]]
    if stray := [o for o in refusals if not option_texts.is_no_answer(o)]:
        raise ValueError(f"{key}: {len(responses)} responses, but option {stray[0]!r} after them is no refusal")
    scale, places = order(ordinal)
    texts = [option_texts.clean(o) for o in published]
    return {
        "wave": wave(key), "question_id": key, "question": " ".join(str(raw["question"]).split()),
        "options": [texts[i] for i in places], "probs": [responses[i] for i in places], "scale": scale,
        "group": group(attribute, str(raw["group"]).strip()), "source": "SubPOP", "language": "en",
        "attribute": attribute, "item_nonresponse": float(raw["refusal_rate"]),
        "ordinal_values": [ordinal[i] for i in places], "published_split": raw.get(SPLIT),
        "reordered": places != sorted(places),
        "cleaned": any(t != " ".join(p.split()) for t, p in zip(texts, published, strict=True)),
    }  # fmt: skip


def _list(raw: Mapping[str, Any], column: str) -> list[Any]:
    """A list, or one printed by Python or numpy ("[0.2 0.8]"). Raises ValueError."""
    cell = raw[column]
    if isinstance(cell, str):
        numbers = re.fullmatch(r"\[\s*([-+.\deE\s]|nan)*\]", cell)
        cell = cell.strip("[] \n").split() if numbers else option_texts.literal(re.sub(r"\bnan\b", "None", cell))
    if not isinstance(cell, list):
        raise ValueError(f"{column} must be a list, got {str(raw[column])[:60]!r}")
    return cell


def _numbers(raw: Mapping[str, Any], column: str) -> list[float]:
    return [math.nan if value is None else float(value) for value in _list(raw, column)]
