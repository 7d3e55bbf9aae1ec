"""How far trainings lie apart that differ in their seed alone."""

import numpy as np
import pytest

from survey_jax.survey.report.seeds import cells, combined, over_seeds


def summary(tv: float, gain: float, half: float = 0.02) -> dict:
    entry = {"value": -gain, "low": -gain - half, "high": -gain + half}  # less is better
    return {
        "n": 40,
        "best_baseline": {"tv": "covariates"},
        "model": {"tv": {"value": tv}},
        "differences": {"covariates": {"tv": entry}},
    }


def test_mean_spread_and_how_often_it_is_clear() -> None:
    runs = {seed: {"valid": summary(0.2 + 0.01 * seed, 0.03 - 0.01 * seed)} for seed in range(3)}
    runs[2]["only_here"] = summary(0.1, 0.1)
    (split,) = over_seeds(runs)
    assert split.values == pytest.approx({0: 20, 1: 21, 2: 22})
    assert (split.mean, split.spread) == pytest.approx((21, 1))
    assert split.clear == "clearly better in 1 of 3"
    value, low, high = split.gain
    assert (value, value - low) == pytest.approx((2, high - value))
    assert value - low > 4.302 * np.sqrt(4 / 3)  # Student's t with two degrees of freedom, for one more training
    assert "<b>" not in "".join(cells(split))


def test_without_an_interval_over_questions_there_is_none() -> None:
    lost = summary(0.2, 0.1)
    lost["differences"]["covariates"]["tv"] |= {"low": None, "high": None}
    (split,) = over_seeds({0: {"valid": lost}, 1: {"valid": lost}})
    assert np.isnan(split.gain[1:]).all()
    assert split.clear == "no verdict"
    assert cells(split)[6] == "10.0"


@pytest.mark.parametrize("of_seeds", [0.0, 0.3, 2.0])
def test_the_interval_holds_what_one_more_training_on_other_rows_is_worth(of_seeds: float) -> None:
    """Made-up trainings: the truth is 0, rows move all of them alike, and each seed its own."""
    rng = np.random.default_rng(0)
    held = []
    for _ in range(4000):
        rows, seeds = rng.normal(), rng.normal(0, of_seeds, 4)
        intervals = [(rows + s, rows + s - 1.96, rows + s + 1.96) for s in seeds[:3]]
        _, low, high = combined(intervals)
        held.append(low <= seeds[3] <= high)
    assert 0.94 < np.mean(held) < 0.99
