"""Plans of interviews against draws, brute force and a textbook's sample size."""

import itertools

import numpy as np
import pytest

from survey_jax.common.errors import UserError
from survey_jax.survey.prediction import dirichlet
from survey_jax.survey.prediction.design import design_text, first_to_ask, interviews_needed
from survey_jax.survey.prediction.forecast import Forecast
from survey_jax.survey.table import Answer


def forecast(question: int, group: str, shares: list[float], k: float) -> Forecast:
    options = tuple("abcde"[: len(shares)])
    even = (1 / len(options),) * len(options)
    row = Answer("S", f"q{question}", f"Is it {question}?", options, (("town", group),), even)
    return Forecast(row, np.array(shares), k, "new question", {})


def test_without_a_prediction_it_is_the_textbook_sample_size() -> None:
    needed = interviews_needed(forecast(0, "A", [0.5, 0.3, 0.2], 80.0))
    assert needed.without == pytest.approx(1.96**2 * 0.25 / 0.03**2, rel=0.005)
    assert needed.with_prediction == needed.without - 80


@pytest.mark.parametrize(("option", "share"), [(None, 0.6), (2, 0.1)])
def test_the_interval_is_as_short_as_wanted_and_with_one_less_it_is_not(option, share) -> None:
    cell = forecast(0, "A", [0.6, 0.3, 0.1], 35.5)
    n = interviews_needed(cell, 0.05, 0.9, option).with_prediction
    rng = np.random.default_rng(0)
    k = 35.5 + n
    low, high = np.quantile(rng.beta(k * share, k * (1 - share), 400_000), [0.05, 0.95])
    assert (high - low) / 2 == pytest.approx(0.05, abs=0.0005)
    for size, enough in ((n, True), (n - 1, False)):
        ends = dirichlet.intervals(np.array([share]), np.array(35.5 + size), 0.9)
        assert ((ends[1] - ends[0]).item() / 2 <= 0.05 + 1e-9) == enough


def test_a_prediction_that_is_good_enough_needs_no_interview() -> None:
    assert interviews_needed(forecast(0, "A", [0.5, 0.5], 5000.0)).with_prediction == 0
    assert interviews_needed(forecast(0, "A", [1.0, 0.0], 5.0), 0.4).without == 1


def test_no_other_division_is_better() -> None:
    towns = {"A": 4.0, "B": 30.0, "C": 12.0}
    shares = {0: [0.5, 0.3, 0.2], 1: [0.9, 0.1]}
    cells = [forecast(q, t, s, k * (q + 1)) for t, k in towns.items() for q, s in shares.items()]

    def error(n: dict[str, int]) -> float:
        return sum(
            dirichlet.misplaced(f.shares, np.array(f.concentration + n[f.answer.group[0][1]])).item() for f in cells
        )

    plan = {group[0][1]: n for group, n in first_to_ask(cells, 25)}
    divisions = (dict(zip("ABC", n, strict=True)) for n in itertools.product(range(26), repeat=3) if sum(n) == 25)
    assert error(plan) == pytest.approx(min(map(error, divisions)), abs=1e-12)
    assert sum(plan.values()) == 25


def test_a_large_budget_is_spent_to_the_last_interview() -> None:
    cells = [forecast(0, "A", [0.5, 0.5], 10.0), forecast(0, "B", [0.5, 0.5], 3000.0)]
    (first, a), (_, b) = first_to_ask(cells, 10_001)
    assert (first, a + b) == ((("town", "A"),), 10_001)
    assert a + 10 == pytest.approx(b + 3000, abs=12)  # alike but for what is known already: alike in the end


def test_groups_that_are_the_same_to_a_reader_are_one() -> None:
    cells = [forecast(0, "Old Town", [0.5, 0.5], 10.0), forecast(1, "old  town", [0.5, 0.5], 10.0)]
    assert first_to_ask(cells, 7) == [((("town", "Old Town"),), 7)]


def test_the_text_says_what_the_plan_does() -> None:
    cells = [forecast(0, "A", [0.5, 0.5], 10.0), forecast(0, "Far away", [0.5, 0.5], 100.0)]
    text = design_text(cells, 40)
    assert text.splitlines()[0].startswith("For the widest share of a question to be known to +-3 points")
    assert "ask 1,011 of its people together with the prediction, or 1,066 without" in text
    rows = {line.rsplit(maxsplit=3)[0]: line.split()[-3:] for line in text.splitlines()[-2:]}
    before, after = (100 * dirichlet.misplaced(np.array([0.5, 0.5]), np.array(k)).item() for k in (10.0, 50.0))
    assert rows["A"] == ["40", f"{before:.1f}", f"{after:.1f}"]
    assert rows["Far away"][0] == "0"


def test_bad_requests_are_told() -> None:
    cell = forecast(0, "A", [0.5, 0.5], 10.0)
    with pytest.raises(UserError, match="half-width of 3"):
        interviews_needed(cell, 3)
    with pytest.raises(UserError, match="has no option 2"):
        interviews_needed(cell, option=2)
    with pytest.raises(UserError, match="budget of -1"):
        first_to_ask([cell], -1)
    with pytest.raises(UserError, match="no predictions"):
        design_text([], 10)
