"""Notes on what a codebook may not mean to say. Nothing here is an error, and nothing is changed."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from survey_jax.common.errors import plural, some
from survey_jax.sources.microdata.codebook import Codebook, CodebookAttribute, CodebookQuestion
from survey_jax.sources.microdata.codes import Codes
from survey_jax.sources.microdata.respondents import Column


def on_codebook(codebook: Codebook, breakdowns_overruled: bool = False) -> list[str]:
    """Notes on a codebook that a user wrote: codes made one, and attributes that no group has.

    `breakdowns_overruled`: by --breakdowns, which leaves attributes out on purpose.
    """
    notes = merged_options(codebook.questions)
    for attribute in codebook.attributes.values():
        bands = {str(band): label for band, label in attribute.bands.items()}
        if merged := _merged({**attribute.labels, **bands}, "value"):
            notes.append(f"{attribute.name}: {merged}")
    used = {name for names in codebook.breakdowns for name in names}
    unused = [name for name in codebook.attributes if name not in used]
    if unused and not breakdowns_overruled:
        notes.append(f"in no breakdown, so not used: {some(unused)}")
    return notes


def merged_options(questions: Iterable[CodebookQuestion]) -> list[str]:
    """Notes on codes with the same text, which are therefore one option."""
    return _by_remark({q.id: _merged({c: q.options[i] for c, i in q.codes.items()}, "option") for q in questions})


def unused_options(chosen: Mapping[str, Sequence[int]], questions: Iterable[CodebookQuestion]) -> list[str]:
    """Notes on options that no respondent chose. `chosen`: question id -> how many respondents chose each option."""
    remarks = {}
    for question in questions:
        never = [repr(o) for o, n in zip(question.options, chosen[question.id], strict=True) if not n]
        occur = "never occurs" if len(never) == 1 else "never occur"
        remarks[question.id] = f"option{'s' * (len(never) > 1)} {', '.join(never)} {occur}" if never else ""
    return _by_remark(remarks)


def missing_in_bands(attribute: CodebookAttribute, column: Column, questions: Iterable[CodebookQuestion]) -> list[str]:
    """Notes on codes that questions call missing and that lie in a band of an attribute: 99 in 65+."""
    listed: dict[Codes, list[str]] = defaultdict(list)  # questions mostly share one list
    for question in questions:
        listed[question.missing | question.not_asked].append(question.id)
    counts = np.bincount(column.index[column.index >= 0], minlength=len(column.codes))
    notes = []
    for code, count in sorted(zip(column.codes, counts.tolist(), strict=True)):
        band = next((label for band, label in attribute.bands.items() if code in band), None)
        who = [name for codes, names in listed.items() if code in codes for name in names]
        if count and band and who and code not in attribute.missing and code not in attribute.labels:
            verb = "lists" if len(who) == 1 else "list"
            notes.append(
                f"{attribute.name}: code {code} ({plural(count, 'respondent')}) counts as {band}, but "
                f"question{'s' * (len(who) > 1)} {some(who, 3)} {verb} it as missing"
            )
    return notes


def _merged(meanings: Mapping[str, str], what: str) -> str:
    """ "codes 1, 3 are one option 'Too little'", or nothing if each code means something else."""
    codes: dict[str, list[str]] = defaultdict(list)
    for code, meaning in meanings.items():
        codes[meaning].append(code)
    several = [(meaning, same) for meaning, same in codes.items() if len(same) > 1]
    return "; ".join(f"codes {', '.join(same)} are one {what} {meaning!r}" for meaning, same in several)


def _by_remark(remarks: Mapping[str, str]) -> list[str]:
    """A line for each remark, with the names of all that it is on."""
    names: dict[str, list[str]] = defaultdict(list)
    for name, remark in remarks.items():
        names[remark].append(name)
    return [f"{some(who)}: {remark}" for remark, who in names.items() if remark]
