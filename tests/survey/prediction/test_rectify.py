"""Intervals hold whatever the predictions are worth, and are shorter where they are worth something."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from survey_jax.common.errors import UserError
from survey_jax.survey.prediction.rectify import Rectified, rectified

DRAWS, GROUPS = 3000, 40
WORTH = ("constant", "random", "adversarial", "good", "perfect")


class Population:
    """Groups of different sizes whose answers differ much, and predictions of all kinds for them."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.sizes = rng.dirichlet(5 * np.ones(GROUPS))
        self.shares = rng.dirichlet(np.array([0.6, 0.3, 0.3]), GROUPS)
        self.truth = self.sizes @ self.shares
        noise = rng.dirichlet(np.ones(3), GROUPS)
        self.predictions = {
            "constant": np.full((GROUPS, 3), 1 / 3),
            "random": noise,
            "adversarial": (1 - self.shares) / 2,
            "good": 0.7 * self.shares + 0.3 * noise,
            "perfect": self.shares,
        }
        self.odds = rng.lognormal(0, 0.5, GROUPS)  # how much likelier a person of the group is to be asked

    def ask(self, rng: np.random.Generator, n: int, weighted: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Groups, answers (one-hot) and weights of n respondents."""
        odds = self.odds if weighted else np.ones(GROUPS)
        group = rng.choice(GROUPS, n, p=self.sizes * odds / (self.sizes @ odds))
        chosen = (rng.random(n)[:, None] > self.shares[group].cumsum(-1)).sum(-1).clip(0, 2)
        return group, np.eye(3)[chosen], 1 / odds[group]


@pytest.fixture(scope="module")
def population() -> Population:
    return Population()


@pytest.mark.parametrize(("n", "weighted"), [(50, False), (50, True), (200, True)])
@pytest.mark.parametrize("worth", WORTH)
def test_intervals_cover_whatever_the_predictions_are_worth(population, worth, n, weighted) -> None:
    rng = np.random.default_rng(1)
    prediction = population.predictions[worth]
    held, widths, alone = np.zeros(3), 0.0, 0.0
    for draw in range(DRAWS):
        group, answers, weights = population.ask(rng, n, weighted)
        found = rectified(prediction[group], answers, weights, population.sizes @ prediction)
        held += (found.low <= population.truth) & (population.truth <= found.high)
        if draw < DRAWS // 5:
            without = rectified(np.zeros((n, 3)), answers, weights, np.zeros(3))
            widths, alone = (w + (x.high - x.low).sum() for w, x in ((widths, found), (alone, without)))
    assert held / DRAWS == pytest.approx(0.95, abs=0.02)
    if worth in ("good", "perfect", "adversarial"):  # what is always wrong in the same way says as much
        assert widths < 0.88 * alone
    else:
        assert widths < 1.05 * alone


def test_a_mean_is_covered_too(population) -> None:
    rng, points = np.random.default_rng(2), np.array([1.0, 2.0, 4.0])
    for worth in WORTH:
        prediction, held = population.predictions[worth] @ points, 0
        for _ in range(DRAWS):
            group, answers, weights = population.ask(rng, 60, True)
            found = rectified(prediction[group], answers @ points, weights, population.sizes @ prediction)
            held += bool(found.low <= population.truth @ points <= found.high)
        assert held / DRAWS == pytest.approx(0.95, abs=0.02), worth


def test_without_predictions_it_is_the_textbook_interval() -> None:
    y = np.random.default_rng(3).normal(5, 2, 80)
    found = rectified(np.zeros(80), y, np.ones(80), np.array(0.0))
    without = [np.delete(y, i).mean() for i in range(80)]
    half = stats.t.ppf(0.975, 79) * np.sqrt(79 / 80 * ((np.array(without) - np.mean(without)) ** 2).sum())  # jackknife
    assert (found.value, found.high - found.value) == (pytest.approx(y.mean()), pytest.approx(half, rel=0.01))
    assert (found.power, found.as_good_as) == (0, pytest.approx(80))


def test_it_is_the_regression_estimator_of_survey_sampling() -> None:
    """With equal weights: the value on a regression line at the population's prediction, and its error."""
    rng = np.random.default_rng(4)
    f = rng.normal(size=300)
    y = 1.5 * f + rng.normal(size=300)
    found = rectified(f, y, np.full(300, 2.0), 0.4)
    line = sm.OLS(y, sm.add_constant(f)).fit(cov_type="HC3").get_prediction([[1, 0.4]])
    half = stats.t.ppf(0.975, 299) * line.se[0]
    assert found.value == pytest.approx(line.predicted[0])
    assert found.high - found.value == pytest.approx(half)
    assert found.as_good_as == pytest.approx(300 * y.var() * 300 / 299**2 / line.se[0] ** 2)


def test_shares_sum_to_one_and_stay_inside(population) -> None:
    rng = np.random.default_rng(5)
    group, answers, weights = population.ask(rng, 30, True)
    prediction = population.predictions["good"]
    found = rectified(prediction[group], answers, weights, population.sizes @ prediction)
    assert found.value.sum() == pytest.approx(1)
    rare = np.eye(3)[np.zeros(30, int)]  # everybody chose the first option
    alone: Rectified = rectified(prediction[group], rare, np.ones(30), population.sizes @ prediction)
    assert (alone.low >= 0).all()
    assert (alone.high <= 1).all()
    assert alone.high[1] == pytest.approx(3.84 / 30, rel=0.15)  # nobody of 30: about 4 / 30, as of the rule of three


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"predicted_population": np.array([0.5, 0.5])}, "do not fit together"),
        ({"weights": np.r_[np.ones(19), 0.0]}, "respondent 20 has the weight 0"),
        ({"answered": np.r_[np.ones(19), np.nan]}, "must be finite"),
    ],
)
def test_bad_input_is_told(change, message) -> None:
    good = {
        "predicted_unit": np.zeros(20),
        "answered": np.ones(20),
        "weights": np.ones(20),
        "predicted_population": np.array(0.0),
    }
    with pytest.raises(UserError, match=message):
        rectified(**good | change)


def test_shares_outside_zero_to_one_and_few_respondents_are_told() -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        rectified(np.zeros((20, 2)), np.full((20, 2), 2.0), np.ones(20), np.zeros(2))
    with pytest.raises(UserError, match="9 respondents; at least 10"):
        rectified(np.zeros(9), np.ones(9), np.ones(9), np.array(0.0))


def test_a_line_may_stand_for_several_respondents(population) -> None:
    rng = np.random.default_rng(6)
    group, answers, weights = population.ask(rng, 80, True)
    prediction, times = population.predictions["good"], rng.integers(1, 4, 80)
    everybody = np.repeat(np.arange(80), times)
    overall = population.sizes @ prediction
    each = rectified(prediction[group][everybody], answers[everybody], weights[everybody], overall)
    lines = rectified(prediction[group], answers, weights, overall, times=times.astype(float))
    for part in ("value", "low", "high", "power", "as_good_as"):
        assert getattr(lines, part) == pytest.approx(getattr(each, part))
