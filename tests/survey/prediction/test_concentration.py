"""The concentration follows what foretells errors, and its level makes intervals hold whatever the errors are like."""

import numpy as np
import pytest

from survey_jax.survey.prediction import dirichlet
from survey_jax.survey.prediction.concentration import Predicted, fit_concentration, holds, with_gain
from survey_jax.survey.table import Answer

OPTIONS = ("Never", "Sometimes", "Often")
MEAN = np.array([0.4, 0.2, 0.4])


def rows_of(people: np.ndarray, rng: np.random.Generator, n: int = 2000) -> list[Answer]:
    """A question each, asked of n people."""
    asked = rng.multinomial(n, people) / n
    return [Answer("S", f"q{i}", "Fair?", OPTIONS, (), tuple(p), n=n) for i, p in enumerate(asked)]


def predicted(concentrations: np.ndarray, rng: np.random.Generator, features: np.ndarray | None = None) -> Predicted:
    """MEAN is predicted of each row; people are as far from it as its concentration says."""
    people = np.array([rng.dirichlet(k * MEAN) for k in concentrations])
    shares = np.tile(MEAN, (len(people), 1))
    return Predicted(rows_of(people, rng), shares, np.zeros((len(people), 0)) if features is None else features)


def held(rows: Predicted, concentration: np.ndarray) -> list[float]:
    return [float(holds(rows, concentration, level).mean()) for level in (0.8, 0.95)]


def test_concentration_follows_what_foretells_errors() -> None:
    rng = np.random.default_rng(0)
    far = rng.random(600) < 0.5
    features = np.stack([far.astype(float), rng.normal(size=600)], axis=1)
    found = fit_concentration(predicted(np.where(far, 8.0, 80.0), rng, features))
    near, away = found(np.array([[0.0, 0.0], [1.0, 0.0]]))
    assert near == pytest.approx(80, rel=0.2)
    assert away == pytest.approx(8, rel=0.2)
    assert found(np.array([[0.0, 99.0]]))[0] < 2 * near  # beyond what was seen, a feature counts as the end


def test_what_holds_is_what_the_intervals_hold() -> None:
    rng = np.random.default_rng(0)
    shares, k = rng.dirichlet([1, 1, 1], size=50), rng.uniform(2, 200, size=50)
    rows = rows_of(rng.dirichlet([1, 1, 1], size=50), rng, n=50)
    for level in (0.5, 0.8, 0.95):
        low, high = dirichlet.intervals(shares, dirichlet.with_sampling(k, np.full(50, 50.0)), level)
        given = np.array([a.probs for a in rows])
        inside = (given >= low - 0.01) & (given <= high + 0.01)
        found = holds(Predicted(rows, shares, np.zeros((50, 0))), k, level)
        np.testing.assert_allclose(found, inside.mean(-1))


@pytest.mark.parametrize("tails", [0.0, 0.7, 1.5])
def test_intervals_hold_whatever_the_tails_of_the_errors(tails: float) -> None:
    rng = np.random.default_rng(0)
    rows, others = (predicted(np.exp(3 + tails * rng.normal(size=1000)), rng) for _ in range(2))
    found = fit_concentration(rows)
    eighty, most = held(others, found(others.features))
    assert (eighty + most) / 2 == pytest.approx(0.875, abs=0.025)
    if tails < 1:  # one concentration cannot have both levels right where tails are as heavy as can be
        assert (eighty, most) == pytest.approx((0.8, 0.95), abs=0.03)


def test_a_few_questions_are_enough_for_the_next_one() -> None:
    """On average over many draws of ten questions, not one by one."""
    rng, next_ones = np.random.default_rng(0), []
    for _ in range(40):
        found = fit_concentration(predicted(np.exp(3 + rng.normal(size=10)), rng))
        others = predicted(np.exp(3 + rng.normal(size=50)), rng)
        next_ones.append(np.mean(held(others, found(others.features))))
    assert 0.875 <= np.mean(next_ones) <= 0.875 * 1.1


def test_validation_rows_count_for_the_level_only() -> None:
    rng = np.random.default_rng(0)
    rows = predicted(np.full(200, 40.0), rng)
    alone, together = fit_concentration(rows), fit_concentration(rows, predicted(np.full(200, 10.0), rng))
    assert 10 < np.exp(together.intercept) < 40 < 1.2 * np.exp(alone.intercept)


def test_a_gain_is_that_on_the_same_rows() -> None:
    rng = np.random.default_rng(0)
    rows = predicted(np.full(100, 20.0), rng)
    fitted = fit_concentration(rows)
    easy = predicted(np.full(300, 90.0), rng)
    assert with_gain(fitted, easy, easy) == fitted  # easier rows, predicted no better
    truth = np.array([a.probs for a in easy.answers])
    nearer = Predicted(easy.answers, truth + (MEAN - truth) / 2, easy.features)  # half the error: four times the worth
    found = with_gain(fitted, easy, nearer)
    assert np.exp(found.intercept - fitted.intercept) == pytest.approx(4, rel=0.25)
