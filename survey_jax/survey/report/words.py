"""Names of splits and systems in words, and numbers as people say them."""

import math
from collections.abc import Mapping

from survey_jax.survey.baselines.registry import IN_WORDS
from survey_jax.survey.evaluation.worth import MOST
from survey_jax.survey.splits.config import (
    DISTINCT,
    UNSEEN_BOTH,
    UNSEEN_GROUP,
    UNSEEN_QUESTION,
    UNSEEN_SUBGROUP,
    UNSEEN_SURVEY,
    UNSEEN_WAVE,
    VALID,
    few_shot_name,
)

MOST_DECIMALS = 6

_NEW_QUESTIONS, _NEW_GROUPS = "new questions, known groups", "new groups, known questions"
_NEW_BOTH = "new questions, new groups"
SPLITS: Mapping[str, str] = {
    UNSEEN_QUESTION: _NEW_QUESTIONS,
    UNSEEN_GROUP: _NEW_GROUPS,
    UNSEEN_SUBGROUP: "new groups that are part of known ones, known questions",
    UNSEEN_BOTH: _NEW_BOTH,
    UNSEEN_SURVEY: "a new survey",
    UNSEEN_WAVE: "a new wave of a known survey",
    few_shot_name(UNSEEN_GROUP): "known questions, groups with a few known answers",
    few_shot_name(UNSEEN_BOTH): "new questions, groups with a few known answers",
    "data": "the tables given",
    "C1Q3": _NEW_QUESTIONS,
    "C2Q1": _NEW_GROUPS,
    "C3Q1": _NEW_GROUPS,
    "C2Q2": "new groups, questions used for tuning",
    "C3Q2": "new groups, questions used for tuning",
    "C2Q3": _NEW_BOTH,
    "C3Q3": _NEW_BOTH,
    VALID: "used for tuning",
}
_ON: Mapping[str, str] = {  # how a sentence on a split begins
    _NEW_QUESTIONS: "On questions it was not trained on",
    _NEW_GROUPS: "On groups it was not trained on",
    _NEW_BOTH: "On questions and groups it was not trained on",
    SPLITS[UNSEEN_SUBGROUP]: "On groups it was not trained on, but that are part of others it was",
    SPLITS[UNSEEN_SURVEY]: "On a survey it was not trained on",
    SPLITS[UNSEEN_WAVE]: "On a wave it was not trained on",
    SPLITS[VALID]: "On what it was tuned on",
}
_CONTROLS = {"orders": "the model, mean over {} orders of the options", "template": "the model asked by template {}",
             "language": "the model asked in language {}"}  # fmt: skip


def split_name(code: str) -> str:
    """A split in words; its code where there are none.

    >>> split_name("unseen_question"), split_name("my_split")
    ('new questions, known groups', 'my_split')
    """
    if code.endswith(DISTINCT):
        return f"{split_name(code.removesuffix(DISTINCT))}; without near-copies of training questions"
    return SPLITS.get(code, code)


def on_split(code: str) -> str:
    """How a sentence about the split begins.

    >>> on_split("unseen_question")
    'On questions it was not trained on'
    """
    if code.endswith(DISTINCT):
        return f"{on_split(code.removesuffix(DISTINCT))} (without near-copies of training questions)"
    name = split_name(code)
    return _ON.get(name, f"On {name}")


def system_name(code: str) -> str:
    """A system in words; its code where there are none.

    >>> system_name("group_swapped"), system_name("orders:4")
    ('the model asked about the wrong group', 'the model, mean over 4 orders of the options')
    """
    kind, _, value = code.partition(":")
    if value and kind in _CONTROLS:
        return _CONTROLS[kind].format(value)
    return IN_WORDS.get(code, code)


def decimals(low: float, high: float, least: int) -> int:
    """The fewest decimals, `least` or more, with which an interval that leaves out 0 still does so when rounded.

    >>> decimals(0.4, 3.0, least=0), decimals(-0.4, 3.0, least=0)
    (1, 0)
    """
    nearest = min(abs(low), abs(high)) if low * high > 0 else 1.0
    return next((d for d in range(least, MOST_DECIMALS) if round(nearest, d)), MOST_DECIMALS)


def fewer(value: float, low: float, high: float, places: int) -> str:
    """A difference in misplaced answers of 100, below 0 in the model's favour, and its interval.

    >>> fewer(-2.2, -4.1, -0.6, 0), fewer(0.6, -1.0, 2.5, 1)
    ('2 fewer [1 to 4 fewer]', '0.6 more [1.0 fewer to 2.5 more]')
    """
    number = _signed(value, places) if round(value, places) else "as many"
    if math.isnan(low) or math.isnan(high):
        return number
    low, high = round(low, places), round(high, places)
    if low * high < 0:
        first, last = (low, high) if value > 0 else (high, low)
        return f"{number} [{_signed(first, places)} to {_signed(last, places)}]"
    near, far = sorted((low, high), key=abs)
    return f"{number} [{abs(near):.{places}f} to {_signed(far, places) if far else f'{far:.{places}f}'}]"


def _signed(value: float, places: int) -> str:
    return f"{abs(value):.{places}f} {'more' if value > 0 else 'fewer'}"


def interviews(value: float) -> str:
    """A number of interviews.

    >>> interviews(13.6), interviews(0.2), interviews(10_000)
    ('14', 'less than 1', '10,000 or more')
    """
    if value >= MOST:
        return f"{MOST:,.0f} or more"
    return f"{value:,.0f}" if value >= 1 else "less than 1"
