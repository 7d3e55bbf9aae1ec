"""The temperature: found where it is known, and of no effect on what it must not change."""

import numpy as np
import pytest
import scipy

from survey_jax.survey.evaluation.calibration import BOUNDS, fit_temperature, with_temperature
from survey_jax.survey.table import Answer


def rows(targets: np.ndarray, questions: list[int]) -> list[Answer]:
    return [
        Answer("S", f"q{q}", f"Question {q}?", tuple("abcd"[: len(t)]), (("country", f"c{i}"),), tuple(t))
        for i, (q, t) in enumerate(zip(questions, targets, strict=True))
    ]


def test_divides_logits() -> None:
    logits = np.random.default_rng(0).normal(0, 2, (5, 4))
    got = with_temperature(scipy.special.softmax(logits, axis=1), 2.5)
    np.testing.assert_allclose(got, scipy.special.softmax(logits / 2.5, axis=1), rtol=1e-12)


def test_absent_options_stay_absent_and_absent_predictions_absent() -> None:
    got = with_temperature(np.array([[0.25, 0.75, 0.0], [np.nan] * 3]), 2.0)
    np.testing.assert_allclose(got[0], np.array([0.5, 0.75**0.5, 0]) / (0.5 + 0.75**0.5))
    assert np.isnan(got[1]).all()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_finds_the_temperature_that_was_put_in(temperature: float) -> None:
    truth = np.random.default_rng(1).dirichlet(np.full(4, 2.0), 60)
    sharpened = with_temperature(truth, 1 / temperature)
    assert fit_temperature(rows(truth, [i % 7 for i in range(60)]), sharpened) == pytest.approx(temperature, rel=1e-3)


def test_questions_count_alike() -> None:
    """One question asked of a single group weighs as much as one asked of 99."""
    truth = np.array([[0.5, 0.3, 0.2]] * 100)
    sharpened = np.concatenate([with_temperature(truth[:99], 1 / 2), with_temperature(truth[99:], 1)])
    by_grid = np.geomspace(*BOUNDS, 2001)

    def kl(t: float, part: slice) -> float:
        return float(scipy.special.rel_entr(truth[part], with_temperature(sharpened[part], t)).sum(-1).mean())

    expected = min(by_grid, key=lambda t: kl(t, slice(99)) + kl(t, slice(99, 100)))
    assert fit_temperature(rows(truth, [0] * 99 + [1]), sharpened) == pytest.approx(expected, rel=3e-3)
    assert 1.2 < expected < 1.9


def test_a_model_without_a_clue_is_flattened_as_far_as_allowed() -> None:
    rng = np.random.default_rng(2)
    truth, noise = rng.dirichlet(np.ones(4), 400), rng.dirichlet(np.full(4, 0.1), 400) + 1e-9
    assert fit_temperature(rows(truth, list(range(400))), noise) == pytest.approx(BOUNDS[1], rel=0.05)
