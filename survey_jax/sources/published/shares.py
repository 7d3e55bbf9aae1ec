"""Tidies published shares by country, by rules that GlobalOpinionQA and the paper's files made from it have in common.

Each question and country either becomes a row or is counted under the rule that dropped it.
"""

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from survey_jax.sources.ledger import Ledger, option_problem
from survey_jax.sources.published import option_texts
from survey_jax.survey import countries

UNKNOWN_COUNTRY = "country name not recognised"
SUB_NATIONAL = "sample of a part of a country"
SECOND_SAMPLE = "second sample of the same country"
SHIFTED = "World Values Survey: the country label is known to be shifted"
SPLIT_LIST = "options split at commas, cannot be mended"
ZERO_SUM = "shares sum to 0"
BAD_SUM = "shares do not sum to 1"
BAD_SHARE = "a share is negative or not a number"
NO_ANSWERS = "nobody gave an answer"

MENDED_LIST = "options split at commas, joined again"
RESCALED = "percentages, divided by 100"
ROUNDED = "shares summed to 1 only roughly, renormalised"
NO_ANSWER_OPTIONS = "don't know / refused was an option, left out and kept as item_nonresponse"
NOT_ASKED_OPTIONS = "missing or not asked was an option, left out"

# Country labels in GlobalOpinionQA's World Values Survey part that carry other countries' shares, by ISO code. The
# first four are wrong wherever they were compared with the survey; the other four are suspected: they have the survey's
# neighbouring codes (8, 31, 40 and 50 among 20, 32, 36 and 51).
SHIFTED_LABELS = frozenset({"AND", "ARG", "ARM", "AUS", "ALB", "AUT", "AZE", "BGD"})

_ROUNDING = 0.03  # published shares are whole percents: ten of them may miss 1 by so much


@dataclasses.dataclass(frozen=True)
class PublishedQuestion:
    """One published question.

    Attributes:
      row: the table columns that do not depend on the country: survey, question_id, question, and extras.
      options: as published.
      shares: country label -> what the file has as shares, in the order of `options`.
      padded: where there are as many shares as (possibly split) options, zeros at the end of every country's shares
        may be filling.
      is_wvs: whether it belongs to the World Values Survey part of GlobalOpinionQA.
      extras, repairs: country label -> further columns, and what the adapter has mended already.
    """

    row: Mapping[str, Any]
    options: Sequence[Any]
    shares: Mapping[str, Sequence[Any]]
    padded: bool = False
    is_wvs: bool = False
    extras: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    repairs: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)


def add_question(ledger: Ledger, question: PublishedQuestion) -> None:
    """Adds a row per country; drops and mends by the rules above."""
    places = _choose_places(ledger, question)
    options = [o.strip() if isinstance(o, str) else option_texts.clean(o) for o in question.options]
    # How many options, up to the last with a share in any country; the rest may be filling.
    full = max((i + 1 for shares in question.shares.values() for i, share in enumerate(shares) if share), default=0)
    groups: dict[tuple[int, bool], list[str]] = collections.defaultdict(list)
    for label in places:
        length = len(question.shares[label])
        padded = question.padded and length == len(options)
        groups[full if padded else length, not padded].append(label)
    for (used, exact), labels in groups.items():
        mended = option_texts.mend_split(options, used, exact) if options else None
        if mended is None:
            ledger.dropped[SPLIT_LIST] += len(labels)
            continue
        repairs = [MENDED_LIST] if len(mended) < len(options) else []
        texts = [option_texts.clean(o) for o in mended]
        for label in labels:
            shares = question.shares[label][: len(texts)]
            _add_row(ledger, question, places[label], label, texts, shares, repairs)


def _choose_places(ledger: Ledger, question: PublishedQuestion) -> dict[str, countries.Place]:
    """The labels whose rows may be kept: one for each country, its current national sample before any other."""
    chosen: dict[str, str] = {}
    places: dict[str, countries.Place] = {}
    for label in sorted(question.shares, key=lambda label: "(old" in label.casefold()):  # old samples last
        place = countries.find(label)
        if place is None:
            ledger.dropped[UNKNOWN_COUNTRY] += 1
        elif not place.national:
            ledger.dropped[SUB_NATIONAL] += 1
        elif question.is_wvs and place.iso3 in SHIFTED_LABELS:
            ledger.dropped[SHIFTED] += 1
        elif place.iso3 in chosen:
            ledger.dropped[SECOND_SAMPLE] += 1
        else:
            chosen[place.iso3] = label
            places[label] = place
    return {label: places[label] for label in question.shares if label in places}


def _add_row(
    ledger: Ledger,
    question: PublishedQuestion,
    place: countries.Place,
    label: str,
    options: Sequence[str],
    shares: Sequence[Any],
    repairs: Sequence[str],
) -> None:
    repairs = [*question.repairs.get(label, ()), *repairs]
    if any(not isinstance(s, int | float) or isinstance(s, bool) or not math.isfinite(s) or s < 0 for s in shares):
        ledger.dropped[BAD_SHARE] += 1
        return
    total = math.fsum(shares)
    if total == 0:
        ledger.dropped[ZERO_SUM] += 1
        return
    if abs(total / 100 - 1) <= _ROUNDING:
        shares, total = [s / 100 for s in shares], total / 100
        repairs.append(RESCALED)
    if abs(total - 1) > _ROUNDING:
        ledger.dropped[BAD_SUM] += 1
        return
    if abs(total - 1) > 1e-6:
        repairs.append(ROUNDED)
    no_answer = [option_texts.is_no_answer(o) for o in options]
    not_asked = [option_texts.is_not_asked(o) for o in options]
    kept = [i for i in range(len(options)) if not no_answer[i] and not not_asked[i]]
    repairs += [NO_ANSWER_OPTIONS] * any(no_answer) + [NOT_ASKED_OPTIONS] * any(not_asked)
    answered = math.fsum(shares[i] for i in kept)
    refused = math.fsum(share for share, none in zip(shares, no_answer, strict=True) if none)
    texts = [options[i] for i in kept]
    if problem := option_problem(texts):
        ledger.dropped[problem] += 1
        return
    if answered == 0:
        ledger.dropped[NO_ANSWERS] += 1
        return
    row = {
        **question.row,
        **question.extras.get(label, {}),
        "options": texts,
        "probs": [shares[i] / answered for i in kept],
        "scale": option_texts.scale(texts),
        "group": {"country": place.name},
        "country_label": label,
        "item_nonresponse": refused / (answered + refused) if any(no_answer) else None,
    }
    ledger.keep(row, repairs)
