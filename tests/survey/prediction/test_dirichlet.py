"""Intervals and expected errors against draws from the Dirichlet distribution."""

import numpy as np
import pytest

from survey_jax.common.errors import UserError
from survey_jax.survey.prediction import dirichlet
from survey_jax.survey.prediction.forecast import SHARED, Forecast, difference
from survey_jax.survey.splits.kinds import NEW
from survey_jax.survey.table import Answer

SHARES = np.array([0.55, 0.3, 0.1, 0.05])


@pytest.mark.parametrize("concentration", [2.0, 15.0, 200.0])
def test_against_draws(concentration: float) -> None:
    rng = np.random.default_rng(0)
    people = rng.dirichlet(concentration * SHARES, 200_000)
    low, high = dirichlet.intervals(SHARES, np.array(concentration), 0.8)
    assert low == pytest.approx(np.quantile(people, 0.1, axis=0), abs=0.01)
    assert high == pytest.approx(np.quantile(people, 0.9, axis=0), abs=0.01)
    distance = np.abs(people - SHARES).sum(-1) / 2
    assert dirichlet.misplaced(SHARES, np.array(concentration)) == pytest.approx(distance.mean(), abs=0.003)
    points = np.arange(1.0, 5.0)
    mean, bottom, top = dirichlet.mean_interval(SHARES, np.array(concentration), points, 0.8)
    assert mean == pytest.approx((people @ points).mean(), abs=0.01)
    assert (bottom, top) == pytest.approx(tuple(np.quantile(people @ points, [0.1, 0.9])), abs=0.06)  # of a scale of 3


@pytest.mark.parametrize("n", [10.0, 400.0])
def test_what_a_sample_will_answer_varies_more(n: float) -> None:
    rng = np.random.default_rng(1)
    people = rng.dirichlet(30 * SHARES, 100_000)
    asked = rng.multinomial(int(n), people) / n
    wider = dirichlet.with_sampling(np.array(30.0), np.array(n))
    assert asked.var(0) == pytest.approx(SHARES * (1 - SHARES) / (wider + 1), rel=0.03)


def test_an_option_that_does_not_exist_has_no_interval() -> None:
    low, high = dirichlet.intervals(np.array([[0.5, 0.5, 0.0]]), np.array([20.0]))
    assert (low[0, 2], high[0, 2]) == (0, 0)
    padded = dirichlet.misplaced(np.array([[0.5, 0.5, 0.0]]), np.array([20.0]))
    assert padded[0] == pytest.approx(float(dirichlet.misplaced(np.array([0.5, 0.5]), np.array(20.0))))


def test_a_difference_of_groups_takes_out_the_error_that_they_share() -> None:
    """Against draws of two groups whose errors are correlated as SHARED says, on a normal scale."""
    options = ("Yes", "No")
    first, second = (
        Forecast(Answer("S", "q", "Fair?", options, (("area", a),), (0.5, 0.5)), np.array([p, 1 - p]), k, NEW, {})
        for a, p, k in (("A", 0.4, 40.0), ("B", 0.55, 25.0))
    )
    value, low, high = difference(first, second, 0.8)
    rho = SHARED[NEW]
    a, b = (np.sqrt(f.shares[0] * (1 - f.shares[0]) / (f.concentration + 1)) for f in (first, second))
    errors = np.random.default_rng(0).multivariate_normal([0, 0], [[a * a, rho * a * b], [rho * a * b, b * b]], 200_000)
    drawn = 0.15 + errors[:, 1] - errors[:, 0]
    assert value == pytest.approx([0.15, -0.15])
    assert (low[0], high[0]) == pytest.approx(tuple(np.quantile(drawn, [0.1, 0.9])), abs=0.003)
    alone = np.sqrt(a * a + b * b)
    assert high[0] - low[0] < 0.75 * 2 * 1.2816 * alone


def test_a_difference_needs_the_same_options() -> None:
    one, other = (
        Forecast(Answer("S", "q", "Fair?", options, (("area", "A"),), (0.5, 0.5)), np.array([0.5, 0.5]), 9.0, NEW, {})
        for options in (("Yes", "No"), ("No", "Yes"))
    )
    with pytest.raises(UserError, match="not the same options"):
        difference(one, other)
