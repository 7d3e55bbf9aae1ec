"""What an evaluation says of a model, in sentences: is it better than the best rule, and what is wrong with it.

A difference is clear if and only if its interval leaves out 0. The primary one is with the best rule, in the first
headline metric (`SPOKEN`), and is said in people: of 100 answers, so many are misplaced.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from survey_jax.common.errors import plural
from survey_jax.survey.evaluation.metrics import METRICS, deviations
from survey_jax.survey.evaluation.scoring import HEADLINE, SplitScore
from survey_jax.survey.report.words import decimals, fewer, interviews, on_split, split_name, system_name
from survey_jax.survey.splits.config import (
    DISTINCT,
    UNSEEN_BOTH,
    UNSEEN_GROUP,
    UNSEEN_QUESTION,
    UNSEEN_SUBGROUP,
    UNSEEN_SURVEY,
    UNSEEN_WAVE,
    VALID,
)
from survey_jax.survey.table import Answer

SPOKEN = next(iter(HEADLINE))
BETTER, WORSE, UNCLEAR, UNKNOWN = "clearly better", "clearly worse", "not clearly different", "no verdict"
# All groups are said to get nearly the same answer where predictions vary between groups by less than this share of
# the variance of people's answers, with the whole interval: less than a third of the differences (.1 = .32 squared).
SAME_ANSWER = 0.1
_FIRST = (
    UNSEEN_QUESTION,
    UNSEEN_GROUP,
    UNSEEN_SUBGROUP,
    UNSEEN_BOTH,
    UNSEEN_SURVEY,
    UNSEEN_WAVE,
)  # the order of the first screen
_CALIBRATED_FOR = ("kl", SPOKEN)  # where calibration may hurt

_NO_BREAK_TO = "\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}"  # an interval stays on one line

Entry = Mapping[str, Any]  # value, low, high, and more; None where there is no such number


@dataclasses.dataclass(frozen=True)
class Row:
    """A split on the first screen.

    Attributes:
      tuning: whether the model was tuned on it, so that its numbers flatter.
      verdict: with the best rule `rule`; difference: from it, with its interval.
      cells: what is put to the test, the best rule, a second sample of people: number, and what stands in small print
        below it.
      share: of each cell, as a percentage for a bar; None without a number.
    """

    code: str
    name: str
    tuning: bool
    verdict: str
    difference: str
    rule: str
    sentence: str
    cells: tuple[tuple[str, tuple[str, ...]], ...]
    share: tuple[float | None, ...]
    notes: list[str]


def numbers(entry: Entry, *keys: str) -> tuple[float, ...]:
    """The entry's numbers, NaN for those that do not exist; value, low and high unless named."""
    return tuple(math.nan if entry[key] is None else entry[key] for key in keys or ("value", "low", "high"))


def gain(metric: str, entry: Entry) -> tuple[float, float, float]:
    """A difference and its interval, signed so that above zero is better; NaN where the summary has none."""
    value, low, high = numbers(entry)
    return (value, low, high) if METRICS[metric].better == "higher" else (-value, -high, -low)


def verdict(metric: str, entry: Entry) -> str:
    """Whether a difference is clear, by its interval alone; `entry` as in a summary's `differences`.

    >>> verdict("tv", {"value": -0.02, "low": -0.04, "high": -0.01})
    'clearly better'
    """
    _, low, high = gain(metric, entry)
    if math.isnan(low) or math.isnan(high):
        return UNKNOWN
    return BETTER if low > 0 else WORSE if high < 0 else UNCLEAR


def primary(summary: Entry, metric: str = SPOKEN) -> Entry:
    """What is put to the test less the best rule: the stack, or the model where there is no stack."""
    differences = summary.get("stack", summary)["differences"]
    entry: Entry = differences[summary["best_baseline"][metric]][metric]
    return entry


def subject(summary: Entry) -> str:
    """What is put to the test, in words."""
    if "stack" not in summary:
        return "the model"
    adds = any(summary["stack"]["model_adds"].values())
    return (
        f"the prediction ({'rules and model together' if adds else 'rules alone, as the model adds nothing to them'})"
    )


def sentence(code: str, summary: Entry) -> str:
    """The verdict on a split in one sentence, in people."""
    rule, entry = summary["best_baseline"][SPOKEN], primary(summary)
    places = _places(summary, rule)
    own, best = (f"{_of_100(scores, places)[0]}" for scores in (_scores(summary), summary["baselines"][rule]))
    found = verdict(SPOKEN, entry)
    known = "" if found != UNKNOWN else "; too few questions or groups for an interval"
    return (
        f"{on_split(code)}, {subject(summary)} misplaces {own} of 100 answers, the best rule that needs no model "
        f"({system_name(rule)}) {best}: {found}, {_fewer(entry, places)}{known}."
    )


def in_metric(summary: Entry, metric: str) -> str:
    """The verdict against the best rule in another metric."""
    rule = summary["best_baseline"][metric]
    return f"In {HEADLINE[metric]} it is {_compared(metric, primary(summary, metric))}, against {system_name(rule)}."


def against_others(summary: Entry) -> list[str]:
    """Sentences on the secondary comparisons, which are corrected for their number, intervals too."""
    found = []
    pooled = [("The prediction against", summary["stack"])] if "stack" in summary else []
    for begin, source in (*pooled, ("The model alone against" if pooled else "Against", summary)):
        others = {r: by_metric[SPOKEN] for r, by_metric in source["differences"].items() if r not in summary["sources"]}
        found += [
            f"{begin} {_rival(rival)}: {_compared(SPOKEN, entry)}, corrected for "
            f"{plural(entry['comparisons'], 'comparison')}."
            for rival, entry in others.items()
        ]
    return found


def intervals(summary: Entry) -> str:
    """Whether the intervals of the stack hold what they should, in a sentence; "" without a stack."""
    if "stack" not in summary:
        return ""
    held = ", ".join(
        f"of the {level} % intervals {100 * entry['value']:.0f} %{_between(entry)}"
        for level, entry in summary["stack"]["coverage"].items()
    )
    expected, own = 100 * summary["stack"]["expected"], 100 * _scores(summary)[SPOKEN]["value"]
    return f"Hold what people answered: {held}. It expected to misplace {expected:.0f} of 100, and misplaced {own:.0f}."


def _between(entry: Entry) -> str:
    _, low, high = numbers(entry)
    return "" if math.isnan(low) else f" [{100 * low:.0f} to {100 * high:.0f}]"


def _rival(code: str) -> str:
    return "the model alone" if code == "model" else system_name(code)


def _scores(summary: Entry) -> Entry:
    scores: Entry = summary["stack"]["stack"] if "stack" in summary else summary["model"]
    return scores


def ordered(splits: Iterable[str]) -> list[str]:
    """Names of splits as readers want them: first what is new, last what the model was tuned on; parts follow theirs.

    >>> ordered(["valid", "unseen_both", "unseen_question", "unseen_question_distinct"])
    ['unseen_question', 'unseen_question_distinct', 'unseen_both', 'valid']
    """
    names = [*splits]
    whole = [n for n in names if not (n.endswith(DISTINCT) and n.removesuffix(DISTINCT) in names)]
    first = [n for n in _FIRST if n in whole]
    order = [*first, *(n for n in whole if n not in (*_FIRST, VALID)), *(n for n in whole if n == VALID)]
    return [n for name in order for n in (name, name + DISTINCT) if n in names]


def first_screen(splits: Mapping[str, SplitScore], subsets: Sequence[str]) -> list[Row]:
    """The rows of the first screen."""
    return [_row(splits[name]) for name in ordered(splits) if name not in subsets]


def notes(split: SplitScore) -> list[str]:
    """What a reader has to know besides the verdict, in words; each only where the numbers say so."""
    found = [_same_answer(split), _calibration_hurts(split.summary)]
    if split.summary["chosen_on"] != VALID:
        found.append("The best rule was chosen on these very answers, which favours the rule.")
    return [note for note in found if note]


def _row(split: SplitScore) -> Row:
    summary, rule = split.summary, split.summary["best_baseline"][SPOKEN]
    places = _places(summary, rule)
    scored = (_scores(summary), summary["baselines"][rule], summary["second_survey"])
    own = summary["stack"]["worth"] if "stack" in summary else summary["worth"]["model"]
    people = (_worth(own), _worth(summary["worth"][rule]), _asked(summary))
    cells = []
    for scores, asked in zip(scored, people, strict=True):
        number, interval = _of_100(scores, places) if SPOKEN in scores else ("-", "")
        cells.append((number, tuple(text for text in (interval, asked) if text)))
    shares = tuple(None if SPOKEN not in scores else 100 * scores[SPOKEN]["value"] for scores in scored)
    entry = primary(summary)
    found = verdict(SPOKEN, entry)
    return Row(split.name, split_name(split.name), split.name == VALID, found.capitalize(), _fewer(entry, places), rule,
               sentence(split.name, summary), tuple(cells), shares, notes(split))  # fmt: skip


def _of_100(scores: Entry, places: int) -> tuple[str, str]:
    """The number of misplaced answers of 100, and its interval if there is one."""
    value, low, high = (100 * x for x in numbers(scores[SPOKEN]))
    interval = "" if math.isnan(low) else f"[{low:z.{places}f} to {high:z.{places}f}]"
    return f"{value:z.{places}f}", interval


def _fewer(entry: Entry, places: int) -> str:
    value, low, high = (100 * x for x in numbers(entry))
    return fewer(value, low, high, places)


def _places(summary: Entry, rule: str) -> int:
    """The fewest decimals with which the interval agrees with the verdict, and the difference with its two numbers."""
    value, low, high = (100 * x for x in numbers(primary(summary)))
    least = 1 if math.isnan(low) else decimals(low, high, least=0)
    own, best = (100 * s[SPOKEN]["value"] for s in (_scores(summary), summary["baselines"][rule]))
    for places in range(least, 2):
        if abs(round(own, places) - round(best, places) - round(value, places)) < 1e-6:
            return places
    return max(least, 1)


def _compared(metric: str, entry: Entry) -> str:
    """E.g. "clearly better by 0.027 [0.012, 0.041]"; above zero is in the model's favour."""
    found = verdict(metric, entry)
    if metric == SPOKEN:
        value, low, high = (100 * x for x in numbers(entry))
        return f"{found}, {fewer(value, low, high, 1 if math.isnan(low) else decimals(low, high, 1))}"
    value, low, high = gain(metric, entry)
    if found == UNKNOWN:
        return f"{found}: {value:.3f} better, without an interval"
    if found == WORSE:
        value, low, high = -value, -high, -low
    places = decimals(low, high, least=3)
    by = "; it gains" if found == UNCLEAR else " by"
    return f"{found}{by} {value:z.{places}f} [{low:z.{places}f}, {high:z.{places}f}]"


def _worth(entry: Entry) -> str:
    value, low, high = numbers(entry)
    if math.isnan(value):
        return ""
    interval = "" if math.isnan(low) else f" [{interviews(low)} to {interviews(high)}]".replace(" to ", _NO_BREAK_TO)
    return f"worth {interviews(value)} interviews{interval}"


def _asked(summary: Entry) -> str:
    people = summary["respondents"]
    return "" if people is None else f"{interviews(people)} interviews"


def _same_answer(split: SplitScore) -> str:
    """Whether all groups get nearly the same prediction: see SAME_ANSWER; said only where groups truly differ."""
    entry = split.summary["diagnostics"]["collapse"]["between_group_variance_ratio"]
    value, low, high = numbers(entry)
    truly = 1 - _noise(split.answers, split.predictions)
    if math.isnan(high) or truly <= 0 or high / truly >= SAME_ANSWER:
        return ""
    who = "The model alone" if "stack" in split.summary else "It"
    return (
        f"{who} gives all groups nearly the same answer: between groups, its predictions vary {100 * value:.0f} % "
        f"[{100 * low:.0f} to {100 * high:.0f}] as much as people's answers (variance)."
    )


def _noise(answers: Sequence[Answer], predictions: np.ndarray) -> float:
    """How much of people's variance between groups is sampling error: p (1 - p) / n in rows whose n is known."""
    true, _ = deviations(answers, predictions)
    size = np.array([a.n_effective or a.n or np.inf for a in answers])
    spread = np.array([sum(p * (1 - p) for p in a.probs) for a in answers])
    moved = (true != 0).any(-1)
    return float((spread / size)[moved].sum() / max((true**2).sum(), 1e-12))


def _calibration_hurts(summary: Entry) -> str:
    """Whether the model is clearly worse with its calibration than without."""
    for metric in _CALIBRATED_FOR:
        entry = summary["differences"].get("uncalibrated", {}).get(metric)
        if entry and verdict(metric, entry) == WORSE:
            title = "misplaced answers" if metric == SPOKEN else HEADLINE[metric]
            return f"Calibration hurts here: with it, the model is {_compared(metric, entry)} ({title})."
    return ""
