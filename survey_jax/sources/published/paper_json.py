"""The processed files of Cao et al. 2025 (NAACL, arXiv 2502.07068), as their repository publishes them.

A JSON list of objects: id, instruction ("How would someone from Kenya answer the following question:\\n\\n", or its
Chinese form), input (the question), options ("(A)text"), options_dist (letter -> share) and data_type. The World Values
Survey files hold percentages and letters in any order; the Pew file (rows of GlobalOpinionQA) holds fractions.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

from survey_jax.common.errors import UserError
from survey_jax.sources import Prepared, Request
from survey_jax.sources.files import read_rows
from survey_jax.sources.ledger import Ledger
from survey_jax.sources.published.option_texts import clean, is_not_asked
from survey_jax.sources.published.shares import PublishedQuestion, add_question
from survey_jax.survey import countries

ACCEPTS: frozenset[str] = frozenset()

# data_type of the World Values Survey files -> the paper's countries x questions.
BLOCKS = {
    "train": "C1 x Q1", "valid": "C1 x Q2", "test_1": "C1 x Q3",
    "test_2": "C2 x Q1", "test_3": "C2 x Q2", "test_4": "C2 x Q3",
    "test_5": "C3 x Q1", "test_6": "C3 x Q2", "test_7": "C3 x Q3",
}  # fmt: skip
WVS, WVS_IN_PEW, PEW = "World Values Survey", "World Values Survey (GlobalOpinionQA)", "Pew Global Attitudes"

TWICE = "same question and country twice (Nigeria and Morocco are in both C2 and C3)"
TWICE_DIFFERENT = "same question and country twice, with other shares"
NO_OPTION = "a letter with a share has no option"
CODE_0_FIRST = "code 0 (letter X) put before the other options"
CODE_0_LEFT_OUT = "share of code 0 (letter X) left out: it has no option"

_WHO = re.compile(r"How would someone from (?P<en>.*?) answer the following question|来自(?P<zh>.*?)的人会如何回答")
_TAIL = re.compile(r"\s*(Here are the options:|以下是选项：)\s*$")
_OPTION = re.compile(r"\(([A-Z])\)\s*(.*)", re.DOTALL)


@dataclasses.dataclass
class _Row:
    """One object: `letters` and `texts` in the order of the codes; shares by letter."""

    label: str
    language: str
    question: str
    letters: tuple[str, ...]
    texts: tuple[str, ...]
    shares: Mapping[str, float]
    moved: bool  # the option of code 0 was not the first


def load(request: Request) -> Prepared:
    """The published rows, tidied by the rules in `shares`. World Values Survey ids become Q1 ... Q259.

    Extra columns: country_label, item_nonresponse, data_type, and paper_block such as "C2 x Q3": where the paper
    counts a country twice, both blocks ("C2 x Q3 + C3 x Q3"). Raises UserError: the file cannot be read, or an object
    is not of the published form.
    """
    ledger, labels = Ledger(), set()
    questions: dict[tuple[Any, ...], dict[str, _Row]] = collections.defaultdict(dict)
    types: dict[tuple[Any, ...], dict[str, list[str]]] = collections.defaultdict(dict)
    for number, raw in enumerate(read_rows(request.input, ("id", "instruction", "input", "options", "options_dist"))):
        try:
            row = _parse(raw)
        except (TypeError, ValueError) as error:
            raise UserError(f"{request.input} row {number + 1}: {error}") from error
        labels.add(row.label)
        key = (str(raw["id"]), str(raw.get("data_type")) in BLOCKS, row.language, row.question, row.letters, row.texts)
        seen = questions[key].setdefault(row.label, row)
        if seen is not row:
            ledger.dropped[TWICE if seen.shares == row.shares else TWICE_DIFFERENT] += 1
        if seen.shares == row.shares:
            types[key].setdefault(row.label, []).append(str(raw.get("data_type")))
    for key, rows in questions.items():
        _add(ledger, key, rows, types[key])
    return ledger.prepared(request.input, countries.report_unknown(labels))


def _parse(raw: Mapping[str, Any]) -> _Row:
    """Raises ValueError with the reason."""
    who = _WHO.search(str(raw["instruction"]))
    if not who:
        raise ValueError(f"instruction names no country: {str(raw['instruction'])[:60]!r}")
    options = [_OPTION.fullmatch(str(o).strip()) for o in raw["options"]]
    if any(o is None for o in options) or not isinstance(raw["options_dist"], dict):
        raise ValueError(f"expected options of the form '(A)text' and their shares, got {str(raw['options'])[:60]!r}")
    published = [(o[1], o[2].strip()) for o in options if o]
    # X is code 0, unless the options reach the letter X.
    pairs = sorted(published, key=lambda pair: pair[0] != "X" or len(published) > 23)
    return _Row(
        label=who["en"] or who["zh"],
        language="en" if who["en"] else "zh",
        question=" ".join(_TAIL.sub("", str(raw["input"])).split()),
        letters=tuple(letter for letter, _ in pairs),
        texts=tuple(text for _, text in pairs),
        shares={str(k): float(v) for k, v in raw["options_dist"].items()},
        moved=pairs != published,
    )


def _add(ledger: Ledger, key: tuple[Any, ...], rows: Mapping[str, _Row], types: Mapping[str, list[str]]) -> None:
    """One question with all its countries."""
    number, in_wvs_file, language, text, letters, texts = key
    in_wvs_part = in_wvs_file or any(is_not_asked(clean(t)) for t in texts)
    survey = WVS if in_wvs_file else WVS_IN_PEW if in_wvs_part else PEW
    columns = {
        "survey": survey,
        "question_id": f"Q{number}" if in_wvs_file else f"goqa-{number}",
        "question": text,
        "language": language,
        "wave": "7" if in_wvs_part else None,
        "source": "Cao et al. 2025",
    }
    shares, extras, repairs = {}, {}, {}
    for label, row in rows.items():
        stray = {letter for letter, share in row.shares.items() if letter not in letters and share}
        if stray - {"X"}:
            ledger.dropped[NO_OPTION] += 1
            continue
        # They sum to what all published ones sum to: code 0 may have had no option.
        listed = [row.shares.get(letter, 0.0) for letter in letters]
        total, left = math.fsum(row.shares.values()), math.fsum(listed)
        shares[label] = [share * total / left for share in listed] if left else listed
        repairs[label] = [CODE_0_LEFT_OUT] * bool(stray) + [CODE_0_FIRST] * row.moved
        blocks = " + ".join(BLOCKS[t] for t in types[label] if t in BLOCKS)
        extras[label] = {"data_type": types[label][0], "paper_block": blocks or None}
    in_part = survey == WVS_IN_PEW
    add_question(ledger, PublishedQuestion(columns, texts, shares, not in_wvs_file, in_part, extras, repairs))
