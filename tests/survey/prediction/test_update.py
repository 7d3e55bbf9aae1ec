"""Human answers: exact where nothing is shared, closer to the truth where something is, and as sure as they say."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from survey_jax.common.errors import UserError
from survey_jax.survey.prediction import dirichlet
from survey_jax.survey.prediction.forecast import Forecast
from survey_jax.survey.prediction.update import update
from survey_jax.survey.splits.kinds import KNOWN, NEW
from survey_jax.survey.table import Answer

OPTIONS, GROUPS, ASKED = tuple("abcd"), 6, 2  # of the groups, the first ones are asked


def cell(question: int, group: int, options: tuple[str, ...] = OPTIONS) -> Answer:
    even = (1 / len(options),) * len(options)
    return Answer("new questions", f"q{question}", f"Is it {question}?", options, (("town", f"T{group}"),), even)


def answered(row: Answer, counts: np.ndarray | list[int]) -> Answer:
    x = np.asarray(counts, float)
    return dataclasses.replace(row, counts=tuple(x.tolist()), probs=tuple((x / x.sum()).tolist()))


def world(
    rng: np.random.Generator, questions: int, k: float, rho: float, n: int, kind: str = NEW
) -> tuple[list[Forecast], list[Answer], np.ndarray]:
    """Forecasts that are as good as they say, answers of ASKED groups, and the true shares, Float[cells K].

    The true shares of a cell have exactly the Dirichlet distribution of its forecast: gamma variables divided by their
    sum, which cells of a question share in part (a normal copula).
    """
    level = rng.dirichlet(3 * np.ones(len(OPTIONS)), questions)
    predicted = np.stack([rng.dirichlet(60 * p + 0.5, GROUPS) for p in level])
    own, common = rng.normal(size=predicted.shape), rng.normal(size=(questions, 1, len(OPTIONS)))
    z = np.sqrt(rho) * common + np.sqrt(1 - rho) * own
    gammas = np.maximum(stats.gamma.ppf(stats.norm.cdf(z), k * predicted), 1e-12)
    truth = gammas / gammas.sum(-1, keepdims=True)
    forecasts, answers = [], []
    for q, g in np.ndindex(questions, GROUPS):
        forecasts.append(Forecast(cell(q, g), predicted[q, g], k, kind, {}))
        if g < ASKED:
            answers.append(answered(cell(q, g), rng.multinomial(n, truth[q, g])))
    return forecasts, answers, truth.reshape(-1, len(OPTIONS))


def errors(forecasts: list[Forecast], truth: np.ndarray) -> np.ndarray:
    return np.abs(np.stack([f.shares for f in forecasts]) - truth).sum(-1) / 2


def covered(forecasts: list[Forecast], truth: np.ndarray, level: float) -> np.ndarray:
    """Of each cell, the part of its intervals that hold the truth."""
    worth = np.array([f.concentration for f in forecasts])
    low, high = dirichlet.intervals(np.stack([f.shares for f in forecasts]), worth, level)
    return ((low <= truth) & (truth <= high)).mean(-1)


def test_without_answers_nothing_changes() -> None:
    forecasts, _, _ = world(np.random.default_rng(0), 3, 20.0, 0.5, 50)
    assert update(forecasts, []) == forecasts


def test_questions_without_answers_keep_their_forecasts() -> None:
    forecasts, answers, _ = world(np.random.default_rng(0), 3, 20.0, 0.5, 50)
    after = update(forecasts, [a for a in answers if a.question_id == "q1"])
    assert [a is b for a, b in zip(after, forecasts, strict=True)] == [f.answer.question_id != "q1" for f in forecasts]


@pytest.mark.parametrize("kind", [NEW, KNOWN])
@pytest.mark.parametrize("k", [0.5, 17.0, 4000.0])
def test_a_cell_that_shares_nothing_follows_conjugacy(kind: str, k: float) -> None:
    shares, x = np.array([0.6, 0.397, 0.003, 0.0]), np.array([3.0, 0.0, 25.0, 12.5])
    others = [
        Forecast(cell(1, 0), np.full(4, 0.25), 9.0, kind, {}),
        Forecast(cell(2, 5), np.full(4, 0.25), 9.0, kind, {}),
    ]
    (after, *rest) = update([Forecast(cell(0, 0), shares, k, kind, {}), *others], [answered(cell(0, 0), x)])
    assert after.shares == pytest.approx((k * shares + x) / (k + 40.5), abs=1e-12)
    assert after.concentration == pytest.approx(k + 40.5, rel=1e-12)
    assert rest == others


def test_worth_of_a_sample_is_its_effective_size() -> None:
    row = dataclasses.replace(answered(cell(0, 0), [30, 10, 5, 5]), n=50.0, n_effective=25.0)
    (after,) = update([Forecast(cell(0, 0), np.full(4, 0.25), 10.0, NEW, {})], [row])
    assert after.concentration == pytest.approx(35)
    assert after.shares[0] == pytest.approx((2.5 + 15) / 35)


def test_one_answered_group_is_the_textbook_regression() -> None:
    """Two groups, two options: errors are numbers, and the best linear prediction of one from the other is known."""
    k, n, q, rho = 19.0, 60.0, 0.3, 0.6  # rho before any answer, which one answer hardly moves: one question
    forecasts = [Forecast(cell(0, g, ("Yes", "No")), np.array([q, 1 - q]), k, NEW, {}) for g in (0, 1)]
    asked = answered(cell(0, 0, ("Yes", "No")), [24, 36])
    other = update(forecasts, [asked])[1]
    prior = q * (1 - q) / (k + 1)
    sampling = q * (1 - q) * k / (k + 1) / n
    slope = rho * prior / (prior + sampling)
    assert other.shares[0] == pytest.approx(q + slope * (0.4 - q), abs=0.01)
    left = prior - slope * rho * prior
    mean_square = q * (1 - q) - slope * rho * prior  # E q'(1 - q')
    assert other.concentration + 1 == pytest.approx(mean_square / left, rel=0.05)


@pytest.mark.parametrize("rho", [0.3, 0.8])
def test_unanswered_groups_get_closer_to_the_truth(rho: float) -> None:
    forecasts, answers, truth = world(np.random.default_rng(1), 150, 20.0, rho, 100)
    after = update(forecasts, answers)
    others = np.arange(len(truth)) % GROUPS >= ASKED
    gain = (errors(forecasts, truth) - errors(after, truth))[others].reshape(150, -1).mean(1)
    assert gain.mean() > 4 * gain.std() / np.sqrt(150)
    assert all(b.concentration > a.concentration for a, b in zip(forecasts, after, strict=True))
    expected = np.array([f.misplaced for f in after])[others].mean()
    assert 100 * errors(after, truth)[others].mean() == pytest.approx(expected, rel=0.08)


def test_known_questions_share_what_answers_show() -> None:
    """Little is thought to be shared before there are answers; many answers overrule that."""
    forecasts, answers, truth = world(np.random.default_rng(2), 150, 20.0, 0.7, 100, KNOWN)
    others = np.arange(len(truth)) % GROUPS >= ASKED
    before, after = (errors(f, truth)[others].mean() for f in (forecasts, update(forecasts, answers)))
    assert after < 0.8 * before
    few = update(forecasts, answers[:1])[GROUPS - 1]
    assert few.shares == pytest.approx(forecasts[GROUPS - 1].shares, abs=0.02)


def test_no_harm_where_nothing_is_shared() -> None:
    forecasts, answers, truth = world(np.random.default_rng(3), 150, 20.0, 0.0, 100)
    others = np.arange(len(truth)) % GROUPS >= ASKED
    before, after = (errors(f, truth)[others].mean() for f in (forecasts, update(forecasts, answers)))
    assert after < 1.02 * before


@pytest.mark.parametrize(("k", "rho", "n"), [(8.0, 0.5, 100), (30.0, 0.7, 50), (30.0, 0.2, 400), (120.0, 0.5, 100)])
def test_intervals_cover(k: float, rho: float, n: int) -> None:
    forecasts, answers, truth = world(np.random.default_rng(4), 600, k, rho, n)
    after = update(forecasts, answers)
    asked = np.arange(len(truth)) % GROUPS < ASKED
    for level in (0.8, 0.95):
        found = covered(after, truth, level)
        assert found[asked].mean() == pytest.approx(level, abs=0.03)
        assert found[~asked].mean() == pytest.approx(level, abs=0.03)


def test_shares_stay_shares() -> None:
    """A large error of one group does not make another group's small share negative."""
    big, small = np.array([0.7, 0.1, 0.1, 0.1]), np.array([0.01, 0.33, 0.33, 0.33])
    forecasts = [Forecast(cell(0, g), p, 3.0, NEW, {}) for g, p in enumerate((big, small))]
    after = update(forecasts, [answered(cell(0, 0), [0, 400, 300, 300])])[1]
    assert (after.shares > 0).all()
    assert after.shares.sum() == pytest.approx(1)


def test_answers_are_found_by_wording_and_in_any_order_of_options() -> None:
    forecast = Forecast(cell(0, 0), np.full(4, 0.25), 10.0, NEW, {})
    row = Answer("Other", "x9", "is it 0 ?", ("D", "c", "b", "a"), (("Town", "t0"),), (0.7, 0.1, 0.1, 0.1), n=30.0)
    (after,) = update([forecast], [row])
    assert after.shares == pytest.approx([5.5 / 40, 5.5 / 40, 5.5 / 40, 23.5 / 40])


def test_options_that_differ_in_punctuation_only_are_not_confused() -> None:
    options = ("5-6", "5.6", "None")
    forecast = Forecast(cell(0, 0, options), np.full(3, 1 / 3), 30.0, NEW, {})
    (after,) = update([forecast], [answered(cell(0, 0, ("none", "5.6", "5-6")), [5, 10, 15])])
    assert after.shares * 60 == pytest.approx([25, 20, 15])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (answered(cell(7, 0), [1, 1, 1, 1]), "no prediction for new questions / q7 / town=T0"),
        (answered(cell(0, 9), [1, 1, 1, 1]), "no prediction for new questions / q0 / town=T9"),
        (
            answered(cell(0, 0, ("a", "b")), [1, 1]),
            "q0 / town=T0: has the options a, b, and what is predicted has a, b",
        ),
        (cell(0, 0), "q0 / town=T0: does not say how many people answered"),
        (dataclasses.replace(answered(cell(0, 0), [1, 1, 1, 1]), survey="Z", question="Same?"), "several questions"),
    ],
)
def test_rows_that_cannot_be_used_are_named(row: Answer, message: str) -> None:
    same = [dataclasses.replace(cell(q, 0), question="Same?") for q in (3, 4)]
    forecasts = [Forecast(a, np.full(4, 0.25), 10.0, NEW, {}) for a in (cell(0, 0), *same)]
    with pytest.raises(UserError, match=message):
        update(forecasts, [row])


def test_a_cell_predicted_twice_is_refused() -> None:
    forecast = Forecast(cell(0, 0), np.full(4, 0.25), 10.0, NEW, {})
    with pytest.raises(UserError, match="q0 / town=T0: is predicted twice"):
        update([forecast, forecast], [answered(cell(0, 0), [1, 1, 1, 1])])
