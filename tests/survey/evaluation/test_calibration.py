"""The temperature: found where it is known, and of no effect on what it must not change."""

import itertools

import numpy as np
import pytest
import scipy

import populations
from survey_jax.survey.evaluation.calibration import (
    BOUNDS,
    NONE,
    calibrate,
    fit_calibration,
    fit_temperature,
    with_temperature,
)
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


def test_no_temperature_where_it_changes_nothing() -> None:
    truth = np.random.default_rng(3).dirichlet(np.ones(4), 40)
    certain = np.eye(4)[truth.argmax(1)]
    assert fit_temperature(rows(truth, list(range(40))), certain) == 1.0


KINDS = ("known question", "new question")


def test_each_kind_of_row_has_its_own_temperature() -> None:
    truth = np.random.default_rng(4).dirichlet(np.full(4, 2.0), 120)
    kinds = [KINDS[i % 2] for i in range(120)]
    answers = rows(truth, [i // 2 for i in range(120)])
    predictions = np.where(np.arange(120)[:, None] % 2 == 0, with_temperature(truth, 2.0), with_temperature(truth, 0.4))
    fitted = fit_calibration(answers, predictions, kinds)
    assert fitted["known question"].value == pytest.approx(0.5, rel=1e-2)
    assert fitted["new question"].value == pytest.approx(2.5, rel=1e-2)
    assert (fitted["new question"].questions, fitted["new question"].rows) == (60, 60)
    np.testing.assert_allclose(calibrate(predictions, kinds, fitted), truth, atol=0.01)


def test_failed_rows_and_padding_do_not_count() -> None:
    truth = np.random.default_rng(5).dirichlet(np.full(3, 2.0), 40)
    answers, sharp = rows(truth, list(range(40))), with_temperature(truth, 0.5)
    fitted = fit_calibration(answers, sharp, ["new"] * 40)
    padded = np.concatenate([np.pad(sharp, ((0, 0), (0, 2))), np.full((3, 5), np.nan)])
    more = fit_calibration([*answers, *rows(truth[:3], [90, 91, 92])], padded, ["new"] * 43)
    assert more["new"].value == pytest.approx(fitted["new"].value, rel=1e-12)
    assert (more["new"].questions, more["new"].rows) == (40, 40)
    after = calibrate(padded, ["new"] * 43, more)
    assert np.isnan(after[40:]).all()
    assert (after[:40, 3:] == 0).all()


def test_kinds_without_evidence_stay_as_they_are() -> None:
    truth = np.random.default_rng(6).dirichlet(np.full(4, 2.0), 14)
    sharp = with_temperature(truth, 0.5)
    fitted = fit_calibration(rows(truth, list(range(14))), sharp, ["new"] * 14)
    assert fitted["new"].value == 1
    assert fitted["new"].fitted == pytest.approx(2, rel=1e-3)
    np.testing.assert_array_equal(calibrate(sharp, ["new"] * 7 + ["known"] * 7, fitted), sharp)
    failed = fit_calibration(rows(truth, list(range(14))), np.full((14, 4), np.nan), ["new"] * 14)
    assert failed == {"new": NONE}


def planted(rng: np.random.Generator, questions: int, sharpness: float, spread: float):
    """A model with errors of its own, whose logits are then multiplied; three groups a question."""
    truth, prediction = populations.draw(rng, questions, 3, error=0.3)
    factor = sharpness * np.exp(spread * rng.normal(size=(questions, 1, 1)))
    predicted = scipy.special.softmax(factor * np.log(prediction), -1)
    answers = populations.with_shares(populations.table(questions, 3), truth)
    return answers, predicted.reshape(-1, 4)


def kl(answers: list[Answer], predictions: np.ndarray) -> float:
    return float(scipy.special.rel_entr([a.probs for a in answers], predictions).sum(-1).mean())


def gains(questions: int, sharpness: float, spread: float, repetitions: int, fit) -> np.ndarray:
    """How much KL falls on 60 new questions when `questions` others are for validation; one number a repetition."""
    rng = np.random.default_rng(questions)
    found = []
    for _ in range(repetitions):
        answers, predictions = planted(rng, questions + 60, sharpness, spread)
        cut = 3 * questions
        temperature = fit(answers[:cut], predictions[:cut])
        new = predictions[cut:]
        found.append(kl(answers[cut:], new) - kl(answers[cut:], with_temperature(new, temperature)))
    return np.array(found)


def used(answers: list[Answer], predictions: np.ndarray) -> float:
    return fit_calibration(answers, predictions, ["new"] * len(answers))["new"].value


# How sure compared with what it should be, and how much that differs from question to question. An erratic model is
# nearly calibrated on average, so that a temperature has nothing to gain and much to lose.
MODELS = {"overconfident": (2.0, 0.4), "right": (0.85, 0.2), "underconfident": (0.4, 0.4), "erratic": (0.5, 0.9)}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("questions", [1, 5, 10, 30])
def test_calibration_does_not_harm_whatever_the_evidence(questions: int, model: str) -> None:
    assert gains(questions, *MODELS[model], 25, used).mean() > -0.005


@pytest.mark.parametrize("questions", [1, 5])
def test_the_temperature_as_fitted_would_harm(questions: int) -> None:
    """So the planted models above are hard enough to tell shrinking from none."""
    assert gains(questions, *MODELS["erratic"], 25, fit_temperature).mean() < -0.005


def test_much_evidence_keeps_the_gain() -> None:
    kept, whole = (gains(100, *MODELS["overconfident"], 10, fit).mean() for fit in (used, fit_temperature))
    assert whole > 0.1
    assert kept > 0.97 * whole


def test_many_questions_put_to_a_few_groups_are_little_evidence_about_the_next_group() -> None:
    """Each group is over- or underpredicted on all questions alike; its own temperature helps no other group."""
    rng = np.random.default_rng(7)
    harm = {used: 0.0, fit_temperature: 0.0}
    for _ in range(20):
        truth, prediction = populations.draw(rng, 60, 24, error=0.1)
        factor = np.exp(0.7 * rng.normal(size=(1, 24, 1)))
        predicted = scipy.special.softmax(0.9 * factor * np.log(prediction), -1).reshape(-1, 4)
        answers = populations.with_shares(populations.table(60, 24), truth)
        seen = np.arange(len(answers)) % 24 < 4
        valid, new = (list(itertools.compress(answers, mask)) for mask in (seen, ~seen))
        for fit in harm:
            temperature = fit(valid, predicted[seen])
            harm[fit] += kl(new, with_temperature(predicted[~seen], temperature)) - kl(new, predicted[~seen])
    assert harm[fit_temperature] / 20 > 0.005
    assert harm[used] / 20 < 0.005
