"""Metrics against scipy and against loops that follow the formulas word by word."""

import dataclasses
import math
import pkgutil
import subprocess
import sys

import numpy as np
import pytest
from scipy import special
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy, wasserstein_distance

from survey_jax import survey as package
from survey_jax.common.errors import UserError
from survey_jax.survey.evaluation.metrics import (
    METRICS,
    between_group_variance_ratio,
    row_metrics,
    sampling_ceiling,
    summarise,
)
from survey_jax.survey.table import Answer


def answer(probs, question=0, group=0, scale="ordinal", survey="S", n=None, n_effective=None) -> Answer:
    options = tuple(f"option {i}" for i in range(len(probs)))
    key = (("country", f"C{group}"),)
    probs = tuple(map(float, probs))
    return Answer(survey, f"Q{question}", "How?", options, key, probs, scale=scale, n=n, n_effective=n_effective)


def random_rows(seed=0, n=200):
    """Rows of 2 to 10 options with zeros in targets and, now and then, in predictions."""
    rng = np.random.default_rng(seed)
    answers, predictions = [], []
    for i in range(n):
        k = 2 + i % 9
        target, prediction = rng.dirichlet(np.full(k, 0.5), size=2)
        target[rng.random(k) < 0.3] = 0
        if target.sum() == 0:
            target[0] = 1
        if i % 5 == 0:
            prediction[0] = 0
        scale = ("ordinal", "nominal", None)[i % 3]
        answers.append(answer(target / target.sum(), i // 10, i % 10, scale, "ST"[i % 2], n=i + 1))
        predictions.append(prediction / prediction.sum())
    return answers, predictions


def by_the_formula(p, q):
    """One row's metrics, written without arrays."""
    k = len(p)
    mean_p, mean_q = (sum((i + 1) * x for i, x in enumerate(d)) for d in (p, q))
    var_p = sum((i + 1 - mean_p) ** 2 * x for i, x in enumerate(p))
    var_q = sum((i + 1 - mean_q) ** 2 * x for i, x in enumerate(q))
    kl = sum(x * math.log(x / max(y, 1e-12)) for x, y in zip(p, q, strict=True) if x > 0)
    return {
        "paper_1_minus_jsd": 1 - jensenshannon(p, q),
        "paper_emd": wasserstein_distance(p, q),
        "paper_kl": kl / k,
        "kl": kl,
        "jsd": jensenshannon(p, q, base=2) ** 2,
        "tv": sum(abs(x - y) for x, y in zip(p, q, strict=True)) / 2,
        "emd": wasserstein_distance(range(k), range(k), p, q) / (k - 1),
        "mean_error": abs(mean_p - mean_q),
        "sd_error": abs(math.sqrt(var_p) - math.sqrt(var_q)),
        "entropy_ratio": entropy(q) / entropy(p) if max(p) < 1 else math.nan,
        "mode_accuracy": float(np.argmax(p) == np.argmax(q)),
    }


def test_rows_equal_the_formulas():
    answers, predictions = random_rows()
    got = row_metrics(answers, predictions)
    assert set(got) == set(METRICS)
    for i, (a, q) in enumerate(zip(answers, predictions, strict=True)):
        for name, expected in by_the_formula(a.probs, q).items():
            if METRICS[name].ordinal_only and a.scale != "ordinal":
                expected = math.nan
            assert got[name][i] == pytest.approx(expected, abs=1e-7, nan_ok=True), (name, i)


def test_paper_track_is_scipys_on_1000_rows_with_zeros_and_one_hot_targets():
    rng = np.random.default_rng(3)
    answers, predictions = [], []
    for i in range(1000):
        k = int(rng.integers(2, 13))
        target, prediction = rng.dirichlet(np.full(k, 0.7), size=2)
        if i % 4 == 0:
            target = np.eye(k)[rng.integers(k)]
        elif i % 4 == 1:
            target[rng.integers(k)] = 0
        if i % 6 == 0:
            prediction[rng.integers(k)] = 0
        if i % 50 == 0:
            prediction = np.eye(k)[rng.integers(k)]
        answers.append(answer(target / target.sum(), i))
        predictions.append(prediction / prediction.sum())
    got = row_metrics(answers, predictions)
    for i, (a, q) in enumerate(zip(answers, predictions, strict=True)):
        p, clipped = np.array(a.probs), np.maximum(q, 1e-12)
        assert got["paper_1_minus_jsd"][i] == pytest.approx(1 - jensenshannon(p, q), rel=0, abs=1e-12)
        assert got["paper_emd"][i] == pytest.approx(wasserstein_distance(p, q), rel=0, abs=1e-12)
        kl = special.kl_div(p, clipped).sum() + p.sum() - clipped.sum()
        assert got["paper_kl"][i] == pytest.approx(kl / len(p), rel=0, abs=1e-12)


def on_a_scale(probs, points, question=0, scale="ordinal"):
    return dataclasses.replace(answer(probs, question, scale=scale), extra={"ordinal_values": points})


def test_scale_points_of_the_codebook_set_the_distances_between_options():
    rng = np.random.default_rng(0)
    scales = [[1.0, 2.0, 4.0, 5.0], [0, 10, 20, 100], [-2, -1, 1, 2], [5, 4, 2, 1], [1, 1.5, 2]]
    p, q = ([rng.dirichlet(np.ones(len(x))) for x in scales] for _ in range(2))
    got = row_metrics([on_a_scale(p[i], x, i) for i, x in enumerate(scales)], q)
    for i, x in enumerate(scales):
        span = max(x) - min(x)
        unit = (len(x) - 1) / span  # scales of K options are K - 1 long, however the codebook counts
        assert got["emd"][i] == pytest.approx(wasserstein_distance(x, x, p[i], q[i]) / span)
        assert got["mean_error"][i] == pytest.approx(abs(p[i] @ x - q[i] @ x) * unit)
        sd = [math.sqrt(d @ np.square(x) - (d @ x) ** 2) for d in (p[i], q[i])]
        assert got["sd_error"][i] == pytest.approx(abs(sd[0] - sd[1]) * unit)


def test_equal_steps_are_the_default_and_nominal_rows_have_no_scale():
    p, q = [0.1, 0.2, 0.7], [[0.3, 0.3, 0.4]]
    plain = row_metrics([answer(p)], q)
    for points in ([1, 2, 3], [10, 20, 30], [2, 1, 0]):
        for name, values in row_metrics([on_a_scale(p, points)], q).items():
            np.testing.assert_allclose(values, plain[name], atol=1e-15, err_msg=name)
    assert np.isnan(row_metrics([on_a_scale(p, [1, 1, 1], scale="nominal")], q)["emd"]).all()


@pytest.mark.parametrize("points", [[1, 2], [1, 1, 2], [1, 3, 2], [1, None, 2], [1, 2, math.nan]])
def test_scale_points_out_of_order_are_refused(points):
    with pytest.raises(UserError, match=r"ordinal_values .* are not 3 values in order: S / Q0 / country=C0"):
        row_metrics([on_a_scale([0.1, 0.2, 0.7], points)], [[0.3, 0.3, 0.4]])


def test_simbench_is_relative_to_the_mean_of_uniform_over_a_survey():
    answers, predictions = random_rows()
    got = row_metrics(answers, predictions)
    uniform = row_metrics(answers, [np.full(len(a.options), 1 / len(a.options)) for a in answers])
    for survey in "ST":
        rows = np.array([a.survey == survey for a in answers])
        expected = 100 * (1 - got["tv"][rows] / uniform["tv"][rows].mean())
        np.testing.assert_allclose(got["simbench"][rows], expected)
        assert uniform["simbench"][rows].mean() == pytest.approx(0, abs=1e-9)
    assert np.isnan(row_metrics([answer([0.5, 0.5])], [[0.4, 0.6]])["simbench"]).all()


def test_width_of_the_padding_does_not_matter():
    answers, predictions = random_rows()
    padded = np.zeros((len(answers), 26))
    for row, p in zip(padded, predictions, strict=True):
        row[: len(p)] = p
    for name, values in row_metrics(answers, padded).items():
        np.testing.assert_allclose(values, row_metrics(answers, predictions)[name], atol=1e-14)


@pytest.mark.parametrize("k", range(2, 11))
def test_a_perfect_prediction(k):
    probs = np.arange(1, k + 1) / (k * (k + 1) / 2)
    best = {"paper_1_minus_jsd": 1, "entropy_ratio": 1, "mode_accuracy": 1, "simbench": 100}
    for name, values in row_metrics([answer(probs)], [probs]).items():
        assert values[0] == pytest.approx(best.get(name, 0), abs=1e-12), name


def test_the_worst_prediction_stays_finite_and_in_range():
    got = {name: v[0] for name, v in row_metrics([answer([1, 0, 0])], [[0, 0, 1]]).items()}
    assert got["jsd"] == got["tv"] == got["emd"] == pytest.approx(1)
    assert got["mean_error"] == 2
    assert got["kl"] == pytest.approx(-math.log(1e-12))
    assert got["paper_1_minus_jsd"] == pytest.approx(1 - math.sqrt(math.log(2)))
    assert math.isnan(got["entropy_ratio"])


def test_paper_emd_is_blind_to_order_and_emd_is_not():
    got = row_metrics([answer([0.7, 0.2, 0.1])], [[0.1, 0.2, 0.7]])
    assert got["paper_emd"][0] == pytest.approx(0, abs=1e-15)
    assert got["emd"][0] == pytest.approx(0.6)


def test_ties_in_the_prediction_score_their_chance():
    got = row_metrics([answer([0.2, 0.5, 0.3])] * 2, [[1 / 3] * 3, [0.4, 0.4, 0.2]])
    assert got["mode_accuracy"] == pytest.approx([1 / 3, 1 / 2])


def test_rows_without_prediction_are_nan():
    answers = [answer([0.5, 0.5]), answer([0.2, 0.8], 1)]
    got = row_metrics(answers, [[np.nan, np.nan], [0.3, 0.7]])
    assert all(np.isnan(v[0]) for v in got.values())
    assert got["tv"][1] == pytest.approx(0.1)
    assert summarise(answers, got)["tv"]["value"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("prediction", "reason"),
    [
        ([0.5, 0.4], "not a distribution over 2 options"),
        ([1.5, -0.5], "not a distribution"),
        ([1.0], "not a distribution"),
        ([0.5, 0.3, 0.2], "not a distribution"),
        ([0.5, np.nan], "not a distribution"),
    ],
)
def test_bad_predictions_are_refused(prediction, reason):
    with pytest.raises(UserError, match=rf"{reason}.* for S / Q0 / country=C0"):
        row_metrics([answer([0.5, 0.5])], [prediction])


def test_number_of_predictions_must_fit():
    with pytest.raises(UserError, match="1 predictions for 2 rows"):
        row_metrics([answer([0.5, 0.5])] * 2, [[0.5, 0.5]])


def table(questions=30, groups=20, effect=1.0, seed=0):
    """A full questions x groups table of scores with a question effect, a group effect and noise."""
    rng = np.random.default_rng(seed)
    answers = [answer([0.5, 0.5], q, g) for q in range(questions) for g in range(groups)]
    scores = effect * rng.normal(size=(questions, 1)) + rng.normal(size=(1, groups))
    return answers, (scores + rng.normal(size=(questions, groups))).ravel()


def test_interval_against_a_naive_bootstrap():
    answers, scores = table()
    got = summarise(answers, {"x": scores}, samples=4000)["x"]
    rng = np.random.default_rng(1)
    grid = scores.reshape(30, 20)
    naive = [grid[rng.integers(30, size=30)][:, rng.integers(20, size=20)].mean() for _ in range(4000)]
    assert got["value"] == pytest.approx(scores.mean())
    assert got["low"] == pytest.approx(np.percentile(naive, 2.5), abs=0.06)
    assert got["high"] == pytest.approx(np.percentile(naive, 97.5), abs=0.06)


def test_interval_covers_clusters_and_not_only_rows():
    answers, scores = table(questions=30, groups=20)
    got = summarise(answers, {"x": scores})["x"]
    as_if_independent = 2 * 1.96 * scores.std() / math.sqrt(len(scores))
    assert got["high"] - got["low"] > 3 * as_if_independent


def test_macro_average_counts_each_question_once():
    answers = [answer([0.5, 0.5], 0, g) for g in range(9)] + [answer([0.5, 0.5], 1, 0)]
    scores = np.array([1.0] * 8 + [np.nan] + [3.0])
    got = summarise(answers, {"x": scores, "nothing": np.full(10, np.nan)})
    assert got["x"]["value"] == pytest.approx(11 / 9)
    assert got["x_by_question"]["value"] == pytest.approx(2)
    assert set(got) == {"x", "x_by_question"}
    assert got["x_by_question"]["low"] < 1 < 3 < got["x_by_question"]["high"]  # two questions say next to nothing


def test_one_group_resamples_questions_and_one_row_nothing():
    answers, scores = table(questions=40, groups=1)
    one = summarise(answers, {"x": scores}, samples=4000)["x"]
    half_width = 1.96 * scores.std() / math.sqrt(40)
    assert one["high"] - one["low"] == pytest.approx(2 * half_width, rel=0.1)
    alone = summarise(answers[:1], {"x": scores[:1]})["x"]
    assert alone["value"] == scores[0]
    assert math.isnan(alone["low"])
    assert math.isnan(alone["high"])


def test_summary_depends_on_the_seed_only():
    answers, scores = table()
    assert summarise(answers, {"x": scores}) == summarise(answers, {"x": scores})
    assert summarise(answers, {"x": scores}) != summarise(answers, {"x": scores}, seed=1)


def naive_variance_ratio(answers, predictions):
    above = below = 0.0
    for question in {a.question_id for a in answers}:
        rows = [i for i, a in enumerate(answers) if a.question_id == question]
        p, q = (np.array([d[i] for i in rows]) for d in ([a.probs for a in answers], predictions))
        above += ((q - q.mean(0)) ** 2).sum()
        below += ((p - p.mean(0)) ** 2).sum()
    return above / below


def test_between_group_variance_ratio():
    rng = np.random.default_rng(0)
    answers = [answer(rng.dirichlet(np.ones(2 + q % 4)), q, g) for q in range(12) for g in range(8)]
    predictions = [rng.dirichlet(np.full(len(a.options), 5.0)) for a in answers]
    got = between_group_variance_ratio(answers, predictions)
    assert got["value"] == pytest.approx(naive_variance_ratio(answers, predictions))
    assert got["low"] < got["value"] < got["high"]
    assert between_group_variance_ratio(answers, [a.probs for a in answers])["value"] == pytest.approx(1)
    collapsed = [np.full(len(a.options), 1 / len(a.options)) for a in answers]
    assert between_group_variance_ratio(answers, collapsed)["value"] == 0
    # Half way between each question's mean and the truth: a quarter of the variance.
    means = {
        q: np.mean([a.probs for a in answers if a.question_id == q], axis=0) for q in {a.question_id for a in answers}
    }
    half = [(np.array(a.probs) + means[a.question_id]) / 2 for a in answers]
    assert between_group_variance_ratio(answers, half)["value"] == pytest.approx(0.25)


def test_variance_ratio_is_nan_where_groups_do_not_differ():
    answers = [answer([0.1, 0.9], 0, g) for g in range(3)]
    assert math.isnan(between_group_variance_ratio(answers, [[0.2, 0.8], [0.3, 0.7], [0.1, 0.9]])["value"])


def test_ceiling_matches_theory_and_prefers_the_effective_size():
    rows = [answer([0.3, 0.7], q, n=1_000_000, n_effective=400) for q in range(300)] + [answer([0.3, 0.7], 999)]
    got = sampling_ceiling(rows, np.random.default_rng(0))
    expected_tv = math.sqrt(2 / math.pi) * math.sqrt(0.3 * 0.7 / 400)  # mean |normal deviation| of one share
    assert np.nanmean(got["tv"]) == pytest.approx(expected_tv, rel=0.05)
    assert all(np.isnan(v[-1]) for v in got.values())
    assert set(got) == set(METRICS)


def test_ceiling_gives_nothing_to_impossible_or_absent_options():
    rows = [answer([0.5, 0.5, 0], 0, n=50), answer([0.1, 0.2, 0.3, 0.2, 0.2], 1, n=50)]
    assert np.isfinite(sampling_ceiling(rows, np.random.default_rng(0), draws=200)["tv"]).all()


def test_survey_imports_no_jax():
    imports = "; ".join(
        f"import {module.name}" for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    )
    code = f"import sys; {imports}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_answers_are_not_changed():
    answers, predictions = random_rows(n=20)
    before = [dataclasses.replace(a) for a in answers], [p.copy() for p in predictions]
    row_metrics(answers, predictions)
    assert answers == before[0]
    assert all((p == b).all() for p, b in zip(predictions, before[1], strict=True))
