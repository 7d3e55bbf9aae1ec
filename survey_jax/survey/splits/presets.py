"""Published designs of splits, as settings of `SplitConfig`.

"paper": Cao et al., NAACL 2025 (arXiv 2502.07068), Table 10 and Figure 5, World Values Survey wave 7. Countries C1
(seen), C2 (Africa) and C3 (the world's regions), questions Q1 (seen), Q2 (validation) and Q3 (unseen): C1Q1 is train,
C1Q2 is valid, the other seven pairs are the test splits C1Q3, C2Q1, ..., C3Q3. Nigeria and Morocco are in C2 and C3, so
their rows count twice in any average over splits, as published. "paper_distinct": the same with these two in C2 only.
`question_id` must be the survey's own variable name, Q1 to Q259.

Verified against the paper's appendix and its published code: the three country lists, the question ranges and the
excluded questions (its code leaves out Q94-Q105; its Table 10 says 94-106, but its data have Q106). Not verified: what
its columns "C2-Q1" and "C3-Q1" average. Its Table 8 counts 185 entries for a C2 country, which are Q1 and Q2 together,
but 150 for a C3 country, which are Q1 alone. Here Q1 is Q1 alone.

"subpop": Suh et al., ACL 2025 (arXiv 2502.16761), and its published code: train on nine tenths of the questions of
SubPOP-Train, validate on the rest, test on surveys never seen (SubPOP-Eval, OpinionQA, or any other in the tables).
Which questions are in the last tenth could not be verified: its code shuffles them by a random state of its own.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from survey_jax.common.errors import UserError
from survey_jax.survey.splits.config import SplitConfig

C1 = """
    Andorra, Argentina, Armenia, Australia, Bangladesh, Bolivia, Brazil, Canada, Chile, China, Cyprus, Ecuador, Germany,
    Great Britain, Guatemala, Hong Kong SAR, Indonesia, Iran, Iraq, Japan, Jordan, Kazakhstan, Kyrgyzstan, Lebanon,
    Macao SAR, Maldives, Mongolia, Myanmar, Netherlands, Nicaragua, Pakistan, Philippines, Romania, Russia, Serbia,
    Singapore, Slovakia, South Korea, Taiwan ROC, Tajikistan, Turkey, Ukraine, United States, Uruguay, Venezuela,
    Vietnam
"""
C2 = "Egypt, Ethiopia, Kenya, Libya, Morocco, Nigeria, Tunisia, Zimbabwe"
C3 = "Malaysia, Thailand, Czechia, Greece, Nigeria, Morocco, Peru, Colombia, Mexico, Puerto Rico, New Zealand"
DOUBLE_COUNTED = ("Nigeria", "Morocco")
EXCLUDED = frozenset({"Q82", "Q223", *(f"Q{n}" for n in range(94, 106))})  # organisations, memberships, parties

SUBPOP_TRAIN, SUBPOP_EVAL = "SubPOP-Train", "SubPOP-Eval"  # the `survey` of their rows


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _questions(first: int, last: int) -> tuple[str, ...]:
    numbered = (f"Q{number}" for number in range(first, last + 1))
    return tuple(name for name in numbered if name not in EXCLUDED)


_PAPER: dict[str, Any] = {
    "group_sets": {"C1": _names(C1), "C2": _names(C2), "C3": _names(C3)},
    "question_sets": {"Q1": _questions(1, 163), "Q2": _questions(164, 198), "Q3": _questions(199, 259)},
}
_C3_ONCE = tuple(country for country in _names(C3) if country not in DOUBLE_COUNTED)
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper": _PAPER,
    "paper_distinct": _PAPER | {"group_sets": _PAPER["group_sets"] | {"C3": _C3_ONCE}},
    "subpop": {"seen_surveys": (SUBPOP_TRAIN,), "valid_question_fraction": 0.1},
}


def expand(config: SplitConfig) -> SplitConfig:
    """Fills in the fields that the config's preset sets; without a preset, returns the config as it is.

    Raises:
      UserError: an unknown preset, or a field that the preset sets is set as well.
    """
    if not config.preset:
        return config
    if config.preset not in PRESETS:
        raise UserError(f"unknown preset {config.preset!r}; one of: {', '.join(PRESETS)}")
    fields = PRESETS[config.preset]
    empty = SplitConfig()
    if taken := [name for name in fields if getattr(config, name) != getattr(empty, name)]:
        raise UserError(f"preset {config.preset!r} sets {', '.join(taken)}, so the config cannot")
    return dataclasses.replace(config, preset="", **fields)
