"""What predictions are worth in respondents: planted worths are found, and scipy agrees on the likelihood."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import optimize, stats
from scipy.special import softmax

import populations
from survey_jax.survey.evaluation.worth import LEAST, MOST, UNIFORM, log_likelihood, respondents, worth
from survey_jax.survey.table import Answer

Q, G = 30, 6


def planted(concentration: float, rng: np.random.Generator, n: int = 200, alike: bool = False):
    """Answers of n people a row, drawn around predictions that are worth so many; or around one draw a question."""
    prediction = softmax(rng.normal(size=(Q, 1 if alike else G, 4)), -1)
    truth = rng.standard_gamma(concentration * prediction) + 1e-12
    truth, prediction = (np.broadcast_to(x, (Q, G, 4)) for x in (truth / truth.sum(-1, keepdims=True), prediction))
    return populations.with_shares(populations.table(Q, G, n=n), populations.ask(truth, n, rng)), prediction.reshape(
        -1, 4
    )


def of_scipy(answers: list[Answer], prediction: np.ndarray) -> float:
    counts = np.round([np.array(a.probs) * a.n for a in answers]).astype(int)
    mixed = (1 - UNIFORM) * prediction + UNIFORM / 4

    def loss(log_k: float) -> float:
        rows = zip(counts, mixed, strict=True)
        return -sum(stats.dirichlet_multinomial.logpmf(c, math.exp(log_k) * q, c.sum()) for c, q in rows)

    return math.exp(optimize.minimize_scalar(loss, bounds=(math.log(LEAST), math.log(MOST)), method="bounded").x)


@pytest.mark.parametrize("concentration", [3.0, 40.0, 400.0])
def test_value_is_the_maximum_that_scipy_finds(concentration: float) -> None:
    answers, prediction = planted(concentration, np.random.default_rng(0))
    assert worth(answers, prediction, samples=50)["value"] == pytest.approx(of_scipy(answers, prediction), rel=0.005)


def test_likelihood_is_scipys_but_for_a_constant() -> None:
    rng = np.random.default_rng(1)
    counts, shares = rng.multinomial(60, [0.2, 0.5, 0.3], size=5).astype(float), rng.dirichlet([1, 1, 1], size=5)
    got = log_likelihood(counts, shares, np.array([2.0, 30.0]))
    expected = [
        [stats.dirichlet_multinomial.logpmf(c.astype(int), k * q, 60) for k in (2, 30)]
        for c, q in zip(counts, shares, strict=True)
    ]
    np.testing.assert_allclose(np.diff(got), np.diff(expected))
    # An option that a row does not have changes nothing.
    np.testing.assert_allclose(
        log_likelihood(np.pad(counts, ((0, 0), (0, 2))), np.pad(shares, ((0, 0), (0, 2))), np.array([2.0, 30.0])), got
    )


@pytest.mark.parametrize(("concentration", "alike"), [(8.0, False), (60.0, False), (8.0, True)])
def test_interval_holds_the_planted_worth(concentration: float, alike: bool) -> None:
    rng = np.random.default_rng(2)
    hits = []
    for _ in range(120):
        found = worth(*planted(concentration, rng, alike=alike), samples=200)
        hits.append(found["low"] <= concentration <= found["high"])
    assert np.mean(hits) >= 0.92


def test_interval_is_wider_where_groups_share_their_question_s_error() -> None:
    rng = np.random.default_rng(3)
    apart, alike = (worth(*planted(20, rng, alike=alike)) for alike in (False, True))
    assert alike["high"] / alike["low"] > 1.3 * apart["high"] / apart["low"]


def test_sample_size_does_not_matter_but_for_its_noise() -> None:
    rng = np.random.default_rng(4)
    values = [worth(*planted(20, rng, n=n), samples=50)["value"] for n in (30, 3000)]
    assert values == pytest.approx([20, 20], rel=0.25)


def test_a_perfect_and_a_hopeless_prediction_are_at_the_bounds() -> None:
    rng = np.random.default_rng(5)
    answers, _ = planted(20, rng, n=1000)
    perfect = worth(answers, [a.probs for a in answers])
    assert perfect == {"value": MOST, "low": MOST, "high": MOST}
    wrong = np.eye(4)[[int(np.argmin(a.probs)) for a in answers]]
    assert LEAST <= worth(answers, wrong)["value"] < 1  # though it rules out what most people answered


def test_rows_without_respondents_or_prediction_do_not_count() -> None:
    answers, prediction = planted(20, np.random.default_rng(6))
    half = [dataclasses.replace(a, n=None) if i % 2 else a for i, a in enumerate(answers)]
    missing = prediction.copy()
    missing[1::2] = np.nan
    assert worth(half, prediction) == worth(answers, missing)
    assert worth(half, prediction)["value"] == pytest.approx(worth(answers[::2], prediction[::2])["value"])
    nobody = [dataclasses.replace(a, n=None) for a in answers]
    assert all(math.isnan(x) for x in worth(nobody, prediction).values())
    one = worth(answers[:G], prediction[:G])
    assert one["value"] > 0
    assert math.isnan(one["low"])


def test_respondents_are_those_after_weighting() -> None:
    row = populations.table(1, 1)[0]
    rows = [dataclasses.replace(row, n=900.0, n_effective=300.0), dataclasses.replace(row, n=100.0), row,
            dataclasses.replace(row, counts=(10.0, 20.0, 5.0, 5.0))]  # fmt: skip
    assert respondents(rows) == 100
    assert math.isnan(respondents([row]))
