"""Intervals cover what is planted; differences, skill and failed predictions."""

import math

import numpy as np
import pytest
from scipy.stats import norm

import populations
from survey_jax.common.errors import UserError
from survey_jax.survey.evaluation.bootstrap import Bootstrap
from survey_jax.survey.evaluation.diagnostics import collapse
from survey_jax.survey.evaluation.metrics import row_metrics, sampling_ceiling, second_survey, summarise
from survey_jax.survey.evaluation.paired import difference, failures_sentence, skill, without_failures

Q, G, SURVEYS = 25, 20, 200


def tv(truth, prediction):
    return (np.abs(truth - prediction).sum(-1) / 2).ravel()


def covered(intervals, truth):
    return np.mean([i["low"] <= truth <= i["high"] for i in intervals])


@pytest.fixture(scope="module")
def surveys():
    """Draws of questions and groups from one world, with two systems' predictions."""
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(2000):
        truth, a = populations.draw(rng, Q, G)
        drawn.append((truth, a, populations.draw(rng, Q, G)[1]))
    return drawn


@pytest.mark.parametrize(("questions", "groups"), [(25, 20), (60, 6), (12, 40)])
def test_interval_of_a_mean_covers_the_mean_over_all_questions_and_groups(questions, groups):
    rng = np.random.default_rng(1)
    scores = [tv(*populations.draw(rng, questions, groups)) for _ in range(2000)]
    bootstrap = Bootstrap(populations.table(questions, groups), samples=500)
    every = np.ones(questions * groups, bool)
    intervals = [bootstrap.mean(s, every).interval() for s in scores[:SURVEYS]]
    assert 0.9 <= covered(intervals, np.mean(scores)) <= 0.98


def test_interval_of_a_paired_difference_covers_and_is_narrower_than_unpaired_ones(surveys):
    rows = populations.table(Q, G)
    # B is A with a fifth of the truth mixed in: better on every kind of row, by a little.
    pairs = [(tv(t, a), tv(t, 0.8 * a + 0.2 * t)) for t, a, _ in surveys]
    got = [difference(rows, {"tv": a}, {"tv": b}, "tv", samples=200) for a, b in pairs[:SURVEYS]]
    assert 0.9 <= covered(got, np.mean([a - b for a, b in pairs])) <= 0.98
    assert all(d["p"] < 0.05 for d in got)
    alone = summarise(rows, {"tv": pairs[0][0]}, samples=200)["tv"]
    assert got[0]["high"] - got[0]["low"] < 0.5 * (alone["high"] - alone["low"])


def test_p_values_reject_equal_systems_about_as_often_as_they_say(surveys):
    rng = np.random.default_rng(2)
    rows = populations.table(Q, G)
    p = []
    for truth, a, _ in surveys[:SURVEYS]:
        both = populations.ask(a, 30, rng), populations.ask(a, 30, rng)  # the same prediction with different noise
        effects = rng.normal(size=(2, Q, 1)) * 0.05
        x, y = (tv(truth, s) + np.broadcast_to(e, (Q, G)).ravel() for s, e in zip(both, effects, strict=True))
        p.append(difference(rows, {"tv": x}, {"tv": y}, "tv", samples=200)["p"])
    assert 0.01 <= np.mean(np.array(p) < 0.05) <= 0.1


def test_p_value_is_two_sided_and_that_of_a_z_test_where_rows_are_independent():
    rows = populations.table(200, 1)
    for shift in (-0.1, 0.1):
        change = np.random.default_rng(5).normal(size=200)
        change += shift - change.mean()
        got = difference(rows, {"tv": change}, {"tv": np.zeros(200)}, "tv", samples=4000)
        z = change.mean() / change.std() * math.sqrt(200)
        assert got["p"] == pytest.approx(2 * norm.sf(abs(z)), abs=0.03)
        assert (got["low"] <= 0 <= got["high"]) == (got["p"] > 0.05)


def test_interval_of_the_slope_covers(surveys):
    rows = populations.table(Q, G)

    def sums(truth, prediction):
        d, e = (x - x.mean(1, keepdims=True) for x in (truth, prediction))
        return (d * e).sum(), (e**2).sum()

    planted = np.sum([sums(t, a) for t, a, _ in surveys], axis=0)
    got = [collapse(populations.with_shares(rows, t), a.reshape(-1, 4), samples=200)["slope"]
           for t, a, _ in surveys[:SURVEYS]]  # fmt: skip
    assert 0.9 <= covered(got, planted[0] / planted[1]) <= 0.98


def test_interval_of_the_skill_covers():
    rng = np.random.default_rng(3)
    rows = populations.table(Q, G)
    scores = []
    for _ in range(1000):
        truth, model = populations.draw(rng, Q, G, use=1.0, error=0.2)
        baseline = np.broadcast_to(truth.mean(1, keepdims=True), truth.shape)
        scores.append((tv(truth, model), tv(truth, baseline), tv(truth, populations.ask(truth, 500, rng))))
    model, base, top = np.mean(scores, axis=(0, 2))
    got = []
    for m, b, t in scores[:SURVEYS]:
        got.append(skill(rows, {"tv": m}, {"tv": b}, {"tv": t}, "tv", samples=200))
    assert 0.9 <= covered(got, (model - base) / (top - base)) <= 0.98


def test_skill_over_the_best_of_eight_equal_baselines_contains_0_where_it_is_chosen_on_other_rows():
    rng = np.random.default_rng(6)
    rows = populations.table(50, 25)

    def losses_of_nine():  # equal in the population; each has its own luck with questions, groups and rows
        luck = (rng.normal(size=(9, q, g)) * size for q, g, size in ((50, 1, 0.05), (1, 25, 0.02), (50, 25, 0.05)))
        return (0.25 + 0.1 * rng.normal(size=(1, 50, 1)) + sum(luck)).reshape(9, -1)

    contains = []
    for _ in range(600):
        best = 1 + losses_of_nine()[1:].mean(1).argmin()
        model, *baselines = losses_of_nine()
        got = skill(rows, {"tv": model}, {"tv": baselines[best - 1]}, {"tv": np.full(1250, 0.05)}, "tv", samples=400)
        contains.append(got["low"] <= 0 <= got["high"])
    assert 0.93 <= np.mean(contains) <= 0.97


@pytest.mark.parametrize("n", [100, 1000])
def test_ceiling_is_met_by_a_perfect_model_and_the_second_survey_by_resampled_humans(n):
    rng = np.random.default_rng(4)
    truth = populations.draw(rng, 300, 10)[0]
    first, second = (populations.ask(truth, n, rng) for _ in range(2))
    answers = populations.with_shares(populations.table(300, 10, n=n), first)
    perfect = row_metrics(answers, truth.reshape(-1, 4))
    again = row_metrics(answers, second.reshape(-1, 4))
    ceiling = sampling_ceiling(answers, rng)
    repeat = second_survey(answers, rng)
    for metric in ("paper_1_minus_jsd", "jsd", "tv", "emd", "mean_error", "kl"):
        assert np.nanmean(ceiling[metric]) == pytest.approx(np.nanmean(perfect[metric]), rel=0.06), metric
        if metric != "kl":  # one person's choice that the other sample lacks decides it
            assert np.nanmean(repeat[metric]) == pytest.approx(np.nanmean(again[metric]), rel=0.06), metric
    assert np.nanmean(repeat["tv"]) == pytest.approx(math.sqrt(2) * np.nanmean(ceiling["tv"]), rel=0.05)


def test_ceiling_of_a_row_without_n_is_nan_and_leaves_the_others_alone():
    truth = populations.draw(np.random.default_rng(0), 2, 20)[0]
    rows = [*populations.table(1, 20, n=100), *populations.table(2, 20)[20:]]
    answers = populations.with_shares(rows, truth)
    for function in (sampling_ceiling, second_survey):
        got = function(answers, np.random.default_rng(0))
        assert all(np.isfinite(v[:20]).all() and np.isnan(v[20:]).all() for v in got.values())


def test_difference_keeps_the_metrics_sign_and_counts_rows():
    rows = populations.table(3, 2)
    a = {"tv": np.array([0.1, 0.2, 0.3, np.nan, np.nan, 0.4]), "entropy_ratio": np.full(6, 0.5), "simbench": np.ones(6)}
    b = {"tv": np.array([0.2, 0.3, 0.4, 0.5, np.nan, 0.5]), "entropy_ratio": np.full(6, 1.2), "simbench": np.zeros(6)}
    got = difference(rows, a, b, "tv")
    assert (got["value"], got["n"], got["unpaired"]) == (pytest.approx(-0.1), 4, 1)
    assert difference(rows, a, b, "simbench")["value"] == 1
    assert difference(rows, a, b, "entropy_ratio")["value"] == pytest.approx(0.5 - 0.2)  # how far each is from 1


def test_difference_of_other_tables_or_of_nothing_in_common_is_refused():
    rows = populations.table(2, 2)
    with pytest.raises(UserError, match="tv: 4 and 3 rows to compare for 4 answers"):
        difference(rows, {"tv": np.zeros(4)}, {"tv": np.zeros(3)}, "tv")
    with pytest.raises(UserError, match="no row that both systems have"):
        difference(rows, {"tv": np.array([0, 0, np.nan, np.nan])}, {"tv": np.array([np.nan, np.nan, 0, 0])}, "tv")


def test_one_question_has_no_interval_however_many_groups():
    rows, values = populations.table(1, 30), np.random.default_rng(0).random(30)
    got = [summarise(rows, {"tv": values})["tv"], summarise(rows, {"tv": values})["tv_by_question"],
           difference(rows, {"tv": values}, {"tv": values + 1}, "tv")]  # fmt: skip
    assert got[0]["value"] == pytest.approx(values.mean())
    assert all(math.isnan(x[end]) for x in got for end in ("low", "high"))
    assert math.isnan(got[2]["p"])
    # Nor does a metric that only one of two questions has.
    ordinal = np.concatenate([values, np.full(30, np.nan)])
    assert math.isnan(summarise(populations.table(2, 30), {"emd": ordinal})["emd"]["low"])


def test_skill_is_the_share_of_the_way_to_the_ceiling():
    rows = populations.table(2, 2)
    levels = {"bad": 0.6, "good": 0.7, "me": 0.8, "top": 0.95}
    of = {name: {"paper_1_minus_jsd": np.full(4, level)} for name, level in levels.items()}
    got = skill(rows, of["me"], of["good"], of["top"], "paper_1_minus_jsd")
    assert [got["value"], got["low"], got["high"]] == pytest.approx([0.4] * 3)
    assert skill(rows, of["bad"], of["good"], of["top"], "paper_1_minus_jsd")["value"] == pytest.approx(-0.4)
    assert math.isnan(skill(rows, of["me"], of["top"], of["top"], "paper_1_minus_jsd")["value"])
    with pytest.raises(UserError, match="which needs n"):
        skill(rows, of["me"], of["bad"], {"paper_1_minus_jsd": np.full(4, np.nan)}, "paper_1_minus_jsd")


def test_failed_predictions_are_named_and_scored_as_uniform():
    truth, prediction = populations.draw(np.random.default_rng(0), 3, 4)
    answers, prediction = populations.with_shares(populations.table(3, 4), truth), prediction.reshape(-1, 4)
    failed = prediction.copy()
    failed[[2, 7]] = np.nan
    filled, names = without_failures(answers, failed)
    assert names == ["S / Q0 / country=C2", "S / Q1 / country=C3"]
    np.testing.assert_allclose(filled[[2, 7]], 0.25)
    np.testing.assert_allclose(np.delete(filled, [2, 7], 0), np.delete(prediction, [2, 7], 0))
    sentence = failures_sentence("model", names, len(answers))
    assert sentence == "model: 2 of 12 predictions failed and are scored as uniform: " + ", ".join(names)
    assert without_failures(answers, prediction)[1] == []
    assert failures_sentence("model", [], 12) == ""


def test_a_wide_and_a_long_table_give_the_same_numbers_in_parts_or_at_once(monkeypatch):
    rows, values = populations.table(40, 5), np.random.default_rng(0).random(200)
    whole = summarise(rows, {"x": values})
    monkeypatch.setattr("survey_jax.survey.evaluation.bootstrap._CELLS", 100)
    assert summarise(rows, {"x": values}) == whole
