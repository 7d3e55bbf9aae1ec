"""Sums and differences of train's groups: what they gave of the demo's held-out people, and that they no longer do."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from survey_jax.survey.splits import attack
from survey_jax.survey.splits.split import SplitConfig, split
from survey_jax.survey.splits.subtraction import determined
from survey_jax.survey.table import DEMO, Answer, read_table


def row(counts, **group) -> Answer:
    shares = tuple(c / sum(counts) for c in counts)
    return Answer("S", "Q1", "Fair?", ("Yes", "No"), tuple(sorted(group.items())), shares, n=float(sum(counts)))


EVERYBODY, YOUNG, OLD = row((60, 40), country="KEN"), row((50, 10), age="young", country="KEN"), (10, 30)


def test_everybody_less_the_young_are_the_old():
    (guess,) = attack.attack([EVERYBODY, YOUNG], [row(OLD, age="old", country="KEN")])
    np.testing.assert_allclose(guess.shares, (0.25, 0.75))
    assert guess.tv == pytest.approx(0)
    assert guess.seen_mean_tv == pytest.approx((0.6 + 50 / 60) / 2 - 0.25)


def test_what_train_lacks_is_the_sum_of_a_division():
    men, women = row((40, 10), sex="m", country="KEN"), row((20, 30), sex="f", country="KEN")
    (guess,) = attack.attack([men, women, YOUNG], [row(OLD, age="old", country="KEN")])
    np.testing.assert_allclose(guess.shares, (0.25, 0.75))
    table = [row((1, 1), sex="other", country="KEN")]
    assert attack.attack([men, women, YOUNG], [row(OLD, age="old", country="KEN")], table) == []


def test_groups_within_a_group_estimate_it():
    men = row((40, 10), sex="m", country="KEN")
    (guess,) = attack.attack([men], [EVERYBODY])
    np.testing.assert_allclose(guess.shares, (0.8, 0.2))


def test_other_questions_and_countries_say_nothing():
    assert attack.attack([row((6, 4), country="PER")], [EVERYBODY]) == []
    assert attack.attack([], [EVERYBODY]) == []


def test_summary():
    old = row(OLD, age="old", country="KEN")
    other = dataclasses.replace(old, question_id="Q2")
    assert attack.summary([EVERYBODY, YOUNG], {"unseen_group": [old, other], "unseen_question": [other]}) == [
        "by subtraction, unseen_group: 1 of 1 row; mean TV 0.000; of the mean of the seen groups 0.467"
    ]
    assert attack.summary([YOUNG], {"unseen_group": [old]}) == [
        "by subtraction, unseen_group: 0 of 1 row; there is no sum or difference of train's groups to estimate them by"
    ]


OLDEST = SplitConfig(
    unseen_question_fraction=0.15,
    unseen_groups={"age": ("65 or older",)},
    unseen_surveys=("American National Election Studies",),
    valid_question_fraction=0.15,
    max_rows=300,
)


@pytest.fixture(scope="module")
def demo():
    return read_table(DEMO)


def test_the_old_of_the_demo_can_be_computed_if_their_parents_stay_in_train(demo):
    result = split(demo, dataclasses.replace(OLDEST, parents_in_train=True))
    train, held = result.rows["train"], result.rows["unseen_subgroup"]
    guesses = attack.attack(train, held, demo)
    assert len(guesses) == len(held) == 300
    apart = [g for g in guesses if g.tv > 1e-9]  # of equal ones SciPy's distance is the root of a rounding error
    distance = [jensenshannon(g.row.probs, g.shares) for g in apart]
    assert 1 - np.sum(distance) / len(guesses) == pytest.approx(0.992, abs=0.002)
    assert np.sum([entropy(g.row.probs, g.shares) for g in apart]) / len(guesses) == pytest.approx(0.001, abs=0.0005)
    assert determined(train, held, demo) is not None


def test_and_cannot_otherwise(demo):
    result = split(demo, OLDEST)
    train, held = result.rows["train"], result.rows["unseen_group"]
    assert determined(train, held, demo) is None
    assert attack.attack(train, held, demo) == []  # nothing that contains them, or that they contain
    blind = attack.attack(train, held)  # as if what is missing in train did not exist
    assert len(blind) < len(held) / 2
    assert np.mean([g.tv for g in blind]) > 2 * np.mean([g.seen_mean_tv for g in blind])
