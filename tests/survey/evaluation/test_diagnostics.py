"""Each diagnostic against its formula, and moving when its fault is planted."""

import json
import math

import numpy as np
import pytest
from scipy.stats import entropy, spearmanr

import populations
from survey_jax.survey.evaluation.diagnostics import (
    calibration,
    collapse,
    diagnose,
    diversity,
    position_bias,
    rank_correlation,
    rank_correlations,
    sharpness,
)
from survey_jax.survey.evaluation.metrics import between_group_variance_ratio

Q, G = 30, 12


@pytest.fixture(scope="module", params=["ordinal", "nominal"])
def world(request):
    """Answers of samples of 2,000, the true shares (what a perfect model predicts), and a middling model's."""
    rng = np.random.default_rng(0)
    truth, model = populations.draw(rng, Q, G, use=1.0, error=0.2)
    shares = populations.ask(truth, 2000, rng)
    answers = populations.with_shares(populations.table(Q, G, request.param), shares)
    return answers, shares, truth, model


def flat(shares):
    return shares.reshape(-1, 4)


def rounded(result):
    return json.dumps(json.loads(json.dumps(result), parse_float=lambda text: round(float(text), 9)))


def squeezed(truth, factor):
    """All groups moved towards their question's mean."""
    mean = truth.mean(1, keepdims=True)
    return mean + factor * (truth - mean)


def test_collapse_is_what_it_says(world):
    answers, shares, _, model = world
    d, e = (x - x.mean(1, keepdims=True) for x in (shares, model))
    got = collapse(answers, flat(model))
    assert got["slope"]["value"] == pytest.approx(np.polyfit(e.ravel(), d.ravel(), 1)[0])
    assert got["explained"]["value"] == pytest.approx(1 - ((d - e) ** 2).sum() / (d**2).sum())
    assert got["between_group_variance_ratio"] == between_group_variance_ratio(answers, flat(model))
    for interval in got.values():
        assert interval["low"] < interval["value"] < interval["high"]


def test_collapsed_variance_shows(world):
    answers, _, truth, _ = world
    perfect, half = (collapse(answers, flat(squeezed(truth, x))) for x in (1.0, 0.5))
    assert perfect["slope"]["value"] == pytest.approx(1, abs=0.01)
    assert perfect["explained"]["value"] > 0.95
    assert half["slope"]["value"] == pytest.approx(2 * perfect["slope"]["value"])
    assert half["between_group_variance_ratio"]["value"] == pytest.approx(0.25, abs=0.01)
    assert half["explained"]["value"] == pytest.approx(0.75, abs=0.02)
    assert diversity(answers, flat(squeezed(truth, 0.5)))["ratio"]["high"] < 0.5
    # The other way round: predicted differences are twice the true ones.
    alike = populations.with_shares(answers, squeezed(truth, 0.5))
    assert collapse(alike, flat(truth))["slope"]["value"] == pytest.approx(0.5)


def test_an_ignored_group_shows(world):
    answers, _, truth, _ = world
    ignored = flat(squeezed(truth, 0.0))
    got = diagnose(answers, ignored)
    assert got["collapse"]["between_group_variance_ratio"]["value"] == 0
    assert math.isnan(got["collapse"]["slope"]["value"])
    assert got["collapse"]["explained"]["value"] == 0
    assert got["diversity"]["ratio"]["value"] == 0
    assert got["rank_correlation"]["value"] == 0
    # Groups exchanged: as diverse as people, and wrong.
    swapped = diagnose(answers, flat(truth[:, np.random.default_rng(1).permutation(G)]))
    assert swapped["collapse"]["between_group_variance_ratio"]["value"] == pytest.approx(1, abs=0.05)
    assert swapped["collapse"]["slope"]["low"] < 0.5
    assert swapped["collapse"]["explained"]["value"] < 0
    assert swapped["rank_correlation"]["high"] < 0.5


def test_reversed_options_show(world):
    answers, _, truth, _ = world
    good, bad = (diagnose(answers, flat(p)) for p in (truth, truth[:, :, ::-1]))
    assert good["rank_correlation"]["low"] > 0.9
    if answers[0].scale == "ordinal":
        assert bad["rank_correlation"]["high"] < -0.9
    assert bad["collapse"]["slope"]["high"] < good["collapse"]["slope"]["low"]
    assert bad["collapse"]["explained"]["value"] < 0
    assert bad["calibration"]["error"] > 5 * good["calibration"]["error"]
    assert bad["sharpness"]["entropy_ratio"]["value"] == pytest.approx(good["sharpness"]["entropy_ratio"]["value"])


def test_letter_bias_shows_whatever_the_order_of_the_options(world):
    answers, _, truth, _ = world
    rng = np.random.default_rng(2)
    orders = [rng.permutation(4).tolist() for _ in answers]
    fair = position_bias(answers, flat(truth), orders)
    assert all(abs(interval["value"]) < 0.01 for interval in fair.values())
    for name, place in (("first", 0), ("last", -1)):
        biased = 0.8 * flat(truth)
        biased[np.arange(len(answers)), [order[place] for order in orders]] += 0.2
        got = position_bias(answers, biased, orders)
        assert got[name]["low"] > 0.1
        assert got[name]["value"] == pytest.approx(0.2 * 0.75, abs=0.02)  # 0.2 (1 - mean share)
        assert max(v["value"] for k, v in got.items() if k != name) < 0


def test_too_flat_and_too_sharp_predictions_show(world):
    answers, shares, truth, model = world
    got = sharpness(answers, flat(model))
    h = [entropy(x, base=2, axis=-1) for x in (shares, model)]
    assert got["entropy_ratio"]["value"] == pytest.approx(h[1].sum() / h[0].sum())
    assert got["entropy_error"]["value"] == pytest.approx(np.abs(h[1] - h[0]).mean())
    sharp = truth**2 / (truth**2).sum(-1, keepdims=True)
    assert sharpness(answers, flat(sharp))["entropy_ratio"]["high"] < 1
    assert sharpness(answers, flat(0.5 * truth + 0.125))["entropy_ratio"]["low"] > 1


def test_calibration_is_what_it_says(world):
    answers, shares, _, model = world
    got = calibration(answers, flat(model))
    error, q, p = 0.0, model.ravel(), shares.ravel()
    for entry in got["table"]:
        inside = [i for i in range(len(q)) if entry["from"] <= q[i] < entry["to"] or q[i] == 1 == entry["to"]]
        assert entry["n"] == len(inside)
        assert entry["predicted"] == pytest.approx(q[inside].mean())
        assert entry["human"]["value"] == pytest.approx(p[inside].mean())
        error += len(inside) / len(q) * abs(q[inside].mean() - p[inside].mean())
    assert sum(entry["n"] for entry in got["table"]) == len(q)
    assert got["error"] == pytest.approx(error)


def test_calibration_shows_predictions_that_are_too_sure(world):
    answers, _, truth, _ = world
    sharp = truth**3 / (truth**3).sum(-1, keepdims=True)
    good, bad = (calibration(answers, flat(p)) for p in (truth, sharp))
    assert good["error"] < 0.01 < 0.05 < bad["error"]
    assert bad["table"][0]["human"]["low"] > bad["table"][0]["predicted"]
    assert bad["table"][-1]["human"]["high"] < bad["table"][-1]["predicted"]


def test_absent_options_are_no_part_of_calibration():
    answers = populations.with_shares(populations.table(2, 2), np.full((2, 2, 4), 0.25))
    two = [type(a)(a.survey, "two", "How?", ("x", "y"), a.group, (0.5, 0.5)) for a in answers[:2]]
    got = calibration([*answers, *two], [[0.25] * 4] * 4 + [[1, 0]] * 2)
    assert [(e["n"], e["predicted"]) for e in got["table"]] == [(2, 0), (16, 0.25), (2, 1)]
    assert got["error"] == pytest.approx((2 * 0.5 + 2 * 0.5) / 20)


def test_diversity_is_the_divergence_of_groups_from_their_mean(world):
    answers, shares, _, model = world
    got = diversity(answers, flat(model))
    for name, x in (("human", shares), ("predicted", model)):
        # the generalised Jensen-Shannon divergence: entropy of the mean less mean of the entropies
        of_question = entropy(x.mean(1), base=2, axis=-1) - entropy(x, base=2, axis=-1).mean(1)
        assert got[name]["value"] == pytest.approx(of_question.mean())
    assert got["ratio"]["value"] == pytest.approx(got["predicted"]["value"] / got["human"]["value"])


def test_rank_correlations_against_scipy(world):
    answers, shares, _, model = world
    got = rank_correlations(answers, flat(model))
    assert len(got) == Q
    for q, value in enumerate(got.values()):
        if answers[0].scale == "ordinal":
            expected = spearmanr(shares[q] @ [1, 2, 3, 4], model[q] @ [1, 2, 3, 4]).statistic
        else:
            expected = np.mean([spearmanr(shares[q, :, k], model[q, :, k]).statistic for k in range(4)])
        assert value == pytest.approx(expected)
    mean = rank_correlation(answers, flat(model))
    assert mean["value"] == pytest.approx(np.mean(list(got.values())))
    assert mean["low"] < mean["value"] < mean["high"]


def test_rank_correlation_wants_groups_that_differ():
    level = populations.with_shares(populations.table(2, 5), np.full((2, 5, 4), 0.25))
    assert rank_correlations(level, [a.probs for a in level]) == {}
    assert math.isnan(rank_correlation(level, [a.probs for a in level])["value"])
    two_groups = populations.with_shares(
        populations.table(1, 2), np.random.default_rng(0).dirichlet(np.ones(4), (1, 2))
    )
    assert rank_correlations(two_groups, [a.probs for a in two_groups]) == {}


def test_rows_without_prediction_do_not_count(world):
    answers, _, _, model = world
    orders = [range(4)] * len(answers)
    some = flat(model).copy()
    some[5 * G :] = np.nan
    few = diagnose(answers[: 5 * G], flat(model)[: 5 * G], orders[: 5 * G], samples=0)
    assert rounded(diagnose(answers, some, orders, samples=0)) == rounded(few)


def test_diagnose_has_intervals_except_for_one_question(world):
    answers, _, _, model = world
    got = diagnose(answers[:G], flat(model)[:G], [range(4)] * G)
    for name in ("collapse", "diversity", "sharpness", "position_bias"):
        assert all(math.isnan(v["low"]) and math.isfinite(v["value"]) for v in got[name].values()), name
    assert math.isnan(got["rank_correlation"]["low"])
