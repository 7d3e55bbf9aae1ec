"""The pool: the truth gets the weight, rubbish none, and the pool is never worse than its best member."""

import numpy as np
import pytest
from scipy import optimize

from survey_jax.common.errors import UserError
from survey_jax.survey.evaluation import metrics
from survey_jax.survey.prediction.pool import FLOOR, Pool, equal, fit_pool
from survey_jax.survey.splits.kinds import KNOWN, NEW
from survey_jax.survey.table import Answer

QUESTIONS = 40


def truths(rng: np.random.Generator, questions: int = QUESTIONS, groups: int = 4) -> list[Answer]:
    """Questions of two to five options, each put to the same groups."""
    rows = []
    for q in range(questions):
        options = tuple("abcde"[: 2 + q % 4])
        typical = rng.dirichlet(np.ones(len(options)))
        for g in range(groups):
            probs = tuple(rng.dirichlet(30 * typical + 0.5))
            rows.append(Answer("S", f"q{q}", f"Question {q}?", options, (("country", f"C{g}"),), probs))
    return rows


def near(rows: list[Answer], rng: np.random.Generator, noise: float) -> list[np.ndarray]:
    """The truth with log-normal errors of its own for each question."""
    errors = {a.question_id: rng.normal(size=len(a.options)) for a in rows}
    made = [np.array(a.probs) * np.exp(noise * errors[a.question_id]) + 1e-6 for a in rows]
    return [p / p.sum() for p in made]


def random(rows: list[Answer], rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.dirichlet(0.3 * np.ones(len(a.options))) for a in rows]


def kl_by_question(rows: list[Answer], predicted: object) -> np.ndarray:
    losses = metrics.row_metrics(rows, predicted)["kl"]
    names = list(dict.fromkeys(a.question_id for a in rows))
    return np.array([np.mean([x for x, a in zip(losses, rows, strict=True) if a.question_id == q]) for q in names])


def test_the_truth_gets_weight_one_and_random_predictions_none() -> None:
    rng = np.random.default_rng(0)
    rows = truths(rng)
    members = {"random": random(rows, rng), "truth": [np.array(a.probs) for a in rows], "noisy": near(rows, rng, 1.0)}
    pool, held_out = fit_pool(rows, members, NEW)
    assert pool.weights["truth"] == pytest.approx(1, abs=0.05)
    assert pool.weights["random"] == 0
    assert kl_by_question(rows, held_out).mean() < 0.01
    assert pool.gains["truth"][0] > 0.05


def test_the_gain_of_a_copy_is_nothing_even_if_what_it_copies_has_no_weight() -> None:
    rng = np.random.default_rng(0)
    rows = truths(rng)
    one = near(rows, rng, 0.4)
    pool, _ = fit_pool(rows, {"one": one, "the same again": one}, NEW)
    assert all(abs(gain) < 1e-3 for gain, _ in pool.gains.values()), pool.gains


def test_a_prediction_that_is_no_number_is_refused_by_name() -> None:
    rng = np.random.default_rng(0)
    rows = truths(rng)
    broken = near(rows, rng, 0.5)
    broken[7] = np.full_like(broken[7], np.nan)
    with pytest.raises(UserError, match=r"broken: predicts no distribution for S / q1 / country=C3"):
        fit_pool(rows, {"fine": near(rows, rng, 0.5), "broken": broken}, NEW)


@pytest.mark.parametrize("questions", [3, 16, 40])
@pytest.mark.parametrize("rubbish", ["random", "one option", "turned round"])
@pytest.mark.parametrize("seed", range(3))
def test_the_pool_is_no_worse_than_its_best_member_by_more_than_a_standard_error(
    rubbish: str, seed: int, questions: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = truths(rng, questions)
    bad = {
        "random": random(rows, rng),
        "one option": [np.eye(len(a.options))[0] for a in rows],
        "turned round": [(m := 1 / (np.array(a.probs) + 0.01)) / m.sum() for a in rows],
    }[rubbish]
    members = {"good": near(rows, rng, 0.3), "fair": near(rows, rng, 0.8), "bad": bad}
    pool, _ = fit_pool(rows, members, NEW)
    own = kl_by_question(rows, pool(rows, members))
    # as the pool takes them in: nobody's share is exactly 0
    floored = {m: [(1 - FLOOR) * p + FLOOR / len(p) for p in shares] for m, shares in members.items()}
    best = min((kl_by_question(rows, shares) for shares in floored.values()), key=np.mean)
    worse = own - best
    assert worse.mean() <= worse.std(ddof=1) / np.sqrt(len(worse)) + 1e-9


def test_errors_that_are_independent_average_out() -> None:
    rng = np.random.default_rng(1)
    rows = truths(rng, 60)
    members = {name: near(rows, rng, 0.8) for name in ("one", "two", "three")}
    pool, held_out = fit_pool(rows, members, NEW)
    best = min(kl_by_question(rows, shares).mean() for shares in members.values())
    assert kl_by_question(rows, held_out).mean() < 0.7 * best
    assert all(0.1 < weight < 0.6 for weight in pool.weights.values())


def test_weights_are_those_of_least_divergence() -> None:
    """Against a general optimiser that is given nothing but the formula, where there is much evidence."""
    rng = np.random.default_rng(2)
    rows = truths(rng, 200, 1)
    members = {"one": near(rows, rng, 0.5), "two": near(rows, rng, 0.9)}
    pool, _ = fit_pool(rows, members, NEW)

    def loss(weights: np.ndarray) -> float:
        mixed = []
        for row in range(len(rows)):
            shares = [(1 - FLOOR) * m[row] + FLOOR / len(m[row]) for m in members.values()]
            product = np.prod([p**w for p, w in zip(shares, weights, strict=True)], axis=0)
            mixed.append(product / product.sum())
        return float(metrics.row_metrics(rows, mixed)["kl"].mean())

    best = optimize.minimize(loss, [0.5, 0.5], method="Nelder-Mead").fun
    assert loss(np.array([*pool.weights.values()])) < 1.03 * best


def test_few_questions_leave_the_weights_equal() -> None:
    rng = np.random.default_rng(3)
    rows = truths(rng, 10)
    pool, _ = fit_pool(rows, {"one": near(rows, rng, 0.5), "two": near(rows, rng, 0.6)}, NEW)
    assert [*pool.weights.values()] == pytest.approx([0.5, 0.5], abs=0.02)


def test_one_group_is_no_evidence_about_new_groups() -> None:
    rng = np.random.default_rng(4)
    rows = truths(rng, 40, 1)
    members = {"one": near(rows, rng, 0.5), "two": near(rows, rng, 0.6)}
    assert [*fit_pool(rows, members, KNOWN)[0].weights.values()] == pytest.approx([0.5, 0.5], abs=0.02)
    assert [*fit_pool(rows, members, NEW)[0].weights.values()] != pytest.approx([0.5, 0.5], abs=0.02)


def test_equal_weights_are_the_geometric_mean() -> None:
    (row,) = truths(np.random.default_rng(5), 1, 1)
    pooled = equal(["a", "b"])([row], {"a": [np.array([0.8, 0.2])], "b": [np.array([0.5, 0.5])]})
    assert pooled[0] == pytest.approx([2 / 3, 1 / 3], abs=1e-3)


def test_a_member_without_weight_is_not_needed() -> None:
    (row,) = truths(np.random.default_rng(6), 1, 1)
    pooled = Pool({"a": 1.0, "b": 0.0})([row], {"a": [np.array([0.8, 0.2])]})
    assert pooled[0] == pytest.approx([0.8, 0.2], abs=1e-3)
