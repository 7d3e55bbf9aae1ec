"""GlobalOpinionQA (Durmus et al. 2023, arXiv 2306.16388) as published: `Anthropic/llm_global_opinions` on the hub.

Columns: question; selections, a string such as "defaultdict(<class 'list'>, {'Belgium': [0.21, 0.79], ...})"; options,
the string of a Python list; source, GAS (Pew Global Attitudes) or WVS (World Values Survey wave 7 with EVS).
"""

import re
from typing import Any

from survey_jax.common.errors import UserError
from survey_jax.sources import Prepared, Request
from survey_jax.sources.files import read_rows
from survey_jax.sources.ledger import Ledger
from survey_jax.sources.published import option_texts
from survey_jax.sources.published.shares import PublishedQuestion, add_question
from survey_jax.survey import countries

ACCEPTS: frozenset[str] = frozenset()
SURVEYS = {"GAS": "Pew Global Attitudes (GlobalOpinionQA)", "WVS": "World Values Survey (GlobalOpinionQA)"}

NO_TEXT = "no question text"
NO_OPTIONS = "no answer options"
OWN_LEADER = "names one country's leaders in a question that several countries answered about their own"

# Items that each country was asked of its own leaders, published with one country's names (or a blank) for all.
_OWN_LEADER = re.compile(
    r"(additional|some) political leaders|(president|chancellor|minister) of country", re.IGNORECASE
)
_ENOUGH = 3  # countries: if all have zeros for the last options of a list that looks split, these are filling
_NAN = re.compile(r"(?<=[\[ ])nan(?=[,\]])")


def load(request: Request) -> Prepared:
    """The published rows, tidied by the rules in `shares`. Question ids are SOURCE-ROW, rows counted from 0.

    Extra columns: country_label (as published), item_nonresponse, country_specific_label. Raises UserError: no such
    file or data set, a column is missing, or a cell is not what is published.
    """
    ledger, labels = Ledger(), set()
    for number, row in enumerate(read_rows(request.input, ("question", "selections", "options", "source"))):
        try:
            selections, options = _selections(row["selections"]), _options(row["options"])
            source = str(row["source"]).strip()
            if source not in SURVEYS:
                raise ValueError(f"source is {source!r}, not GAS or WVS")
        except ValueError as error:
            raise UserError(f"{request.input} row {number + 1}: {error}") from error
        text = " ".join(str(row["question"] or "").split())
        own_leader = bool(_OWN_LEADER.search(text))
        several = len({place.iso3 if (place := countries.find(label)) else label for label in selections}) > 1
        if not text or text == "nan":
            ledger.dropped[NO_TEXT] += len(selections)
        elif not options:
            ledger.dropped[NO_OPTIONS] += len(selections)
        elif own_leader and several:
            ledger.dropped[OWN_LEADER] += len(selections)
        else:
            labels |= set(selections)
            columns = {
                "survey": SURVEYS[source],
                "question_id": f"{source}-{number}",
                "question": text,
                "language": "en",
                "source": "GlobalOpinionQA",
                "country_specific_label": own_leader,
            }
            padded = len(selections) >= _ENOUGH
            add_question(ledger, PublishedQuestion(columns, options, selections, padded, is_wvs=source == "WVS"))
    return ledger.prepared(request.input, countries.report_unknown(labels))


def _selections(cell: Any) -> dict[str, list[Any]]:
    """The dictionary inside the printed defaultdict. Raises ValueError."""
    match = re.fullmatch(r"\s*(?:defaultdict\(<class 'list'>,\s*)?(\{.*\})\)?\s*", str(cell), re.DOTALL)
    found = option_texts.literal(_NAN.sub("None", match[1])) if match else None
    if not isinstance(found, dict) or not all(isinstance(v, list) for v in found.values()):
        raise ValueError(f"selections must hold a dictionary of country -> shares, got {str(cell)[:60]!r}")
    return {str(country): list(shares) for country, shares in found.items()}


def _options(cell: Any) -> list[Any]:
    """Option texts, perhaps with numbers among them; [] for an empty cell. Raises ValueError."""
    if cell is None or str(cell).strip() in ("", "nan"):
        return []
    found = cell if isinstance(cell, list) else option_texts.literal(str(cell))
    if not isinstance(found, list):
        raise ValueError(f"options must hold a list, got {str(cell)[:60]!r}")
    return found
