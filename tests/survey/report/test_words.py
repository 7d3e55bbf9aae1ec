"""Numbers as people say them: what is shown agrees with what is so, and names are words."""

import numpy as np
import pytest

from survey_jax.survey.report import words
from survey_jax.survey.splits.config import SPLITS, TRAIN


@pytest.mark.parametrize(
    ("value", "low", "high", "said"),
    [
        (-2.2, -4.1, -0.6, "2 fewer [1 to 4 fewer]"),
        (5.6, 3.6, 8.2, "6 more [4 to 8 more]"),
        (-1.0, -3.0, 1.0, "1 fewer [1 more to 3 fewer]"),
        (1.0, -1.0, 3.0, "1 more [1 fewer to 3 more]"),
        (-1.0, -2.4, 0.3, "1 fewer [0 to 2 fewer]"),
        (0.1, -2.0, 2.0, "as many [2 fewer to 2 more]"),
        (0.0, 0.0, 0.0, "as many [0 to 0]"),
        (-3.0, np.nan, np.nan, "3 fewer"),
    ],
)
def test_a_difference_is_said_in_people(value: float, low: float, high: float, said: str):
    assert words.fewer(value, low, high, 0) == said


def test_decimals_grow_until_an_interval_without_zero_is_shown_so():
    rng = np.random.default_rng(0)
    for low, width in zip(10 ** rng.uniform(-4, 1, 200), rng.uniform(0, 5, 200), strict=True):
        places = words.decimals(low, low + width, 0)
        assert round(low, places) > 0
        assert places == 0 or round(low, places - 1) == 0
        assert words.decimals(-low - width, -low, 0) == places
        assert words.decimals(-low, width, 1) == 1


def test_every_split_has_words_and_codes_without_any_stay():
    for split in set(SPLITS) - {TRAIN}:
        assert words.split_name(split) != split
        assert "_" not in words.split_name(split) + words.on_split(split)
    assert words.split_name("B2") == "B2"
    assert words.on_split("B2") == "On B2"
    assert words.on_split("unseen_group_distinct").startswith(words.on_split("unseen_group"))
    assert words.system_name("my_rule") == "my_rule"


@pytest.mark.parametrize("control", ["group_swapped", "reversed", "orders:4", "template:paper", "language:de"])
def test_every_system_that_is_the_model_says_so(control: str):
    assert words.system_name(control).startswith("the model")
