"""Intervals cover what is planted where questions or groups are few, and agree with their p-values."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

import populations
from survey_jax.survey.evaluation.bootstrap import Bootstrap, Replicates
from survey_jax.survey.evaluation.metrics import between_group_variance_ratio, summarise
from survey_jax.survey.evaluation.paired import difference
from survey_jax.survey.table import Answer


def every(size: int) -> np.ndarray:
    return np.ones(size, bool)


def uneven(sizes: list[int], groups: int, rng: np.random.Generator) -> list[Answer]:
    """A question for each size, asked of that many of the groups, drawn anew."""
    whole = populations.table(len(sizes), groups)
    asked = [rng.choice(groups, size, replace=False) for size in sizes]
    return [whole[q * groups + g] for q, some in enumerate(asked) for g in some]


def scores(bootstrap: Bootstrap, effects: tuple[float, float, float], rng: np.random.Generator) -> np.ndarray:
    """Values around 0, with effects (standard deviations) of question, group and row."""
    question, group, noise = (size * rng.normal(size=len(bootstrap.question)) for size in effects)
    return question[bootstrap.question] + group[bootstrap.group] + noise


SHAPES = {
    "150 questions, 3 groups": ([3] * 150, 3),
    "12 uneven questions, 125 rows": ([30, 25, 20, 12, 10, 8, 6, 5, 4, 2, 2, 1], 40),
    "8 uneven questions": ([30, 20, 10, 8, 5, 4, 2, 1], 30),
    "4 questions": ([30] * 4, 30),
    "2 questions": ([30] * 2, 30),
    "2 groups": ([2] * 30, 2),
    "60 questions, 30 groups": ([30] * 60, 30),
}


@pytest.mark.parametrize("effects", [(1.0, 0.5, 0.5), (0.5, 1.0, 0.5)], ids=["questions differ", "groups differ"])
@pytest.mark.parametrize("shape", SHAPES)
def test_interval_covers_where_questions_or_groups_are_few(shape: str, effects: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(0)
    bootstrap = Bootstrap(uneven(*SHAPES[shape], rng), samples=500)
    one_each, hits = np.ones(len(bootstrap.question)), []
    for _ in range(400):
        intervals = [r.interval() for r in bootstrap.ratios(scores(bootstrap, effects, rng), one_each)]
        hits.append([i["low"] <= 0 <= i["high"] for i in intervals])
    over_rows, by_question = np.mean(hits, axis=0)
    assert over_rows >= 0.92
    assert by_question >= 0.92


def test_interval_of_skewed_values_covers() -> None:
    rng = np.random.default_rng(1)
    bootstrap = Bootstrap(uneven(*SHAPES["12 uneven questions, 125 rows"], rng), samples=500)
    effects, hits = (0.6, 0.3, 0.3), []
    truth = math.exp(sum(e**2 for e in effects) / 2)  # the mean of a log-normal
    for _ in range(400):
        values = np.exp(scores(bootstrap, effects, rng))
        interval = bootstrap.mean(values, every(len(values))).interval()
        hits.append(interval["low"] <= truth <= interval["high"])
    assert np.mean(hits) >= 0.9


@pytest.mark.parametrize("questions", [5, 20])
def test_with_one_group_it_is_students_interval(questions: int) -> None:
    rows, rng = populations.table(questions, 1), np.random.default_rng(2)
    bootstrap = Bootstrap(rows, samples=2000)
    ends, expected = [], []
    for _ in range(100):
        values = rng.normal(size=questions)
        interval = bootstrap.mean(values, every(questions)).interval()
        ends.append(interval["high"] - interval["low"])
        expected.append(np.ptp(stats.t.interval(0.95, questions - 1, values.mean(), stats.sem(values))))
    assert np.mean(ends) == pytest.approx(np.mean(expected), rel=0.04)


def test_interval_and_p_value_never_contradict_each_other() -> None:
    rng = np.random.default_rng(3)
    clear = 0
    for _ in range(1000):
        questions, groups = rng.integers(2, 12), rng.integers(1, 6)
        rows = [row for row in populations.table(questions, groups) if rng.random() < 0.8]
        if len({row.question_id for row in rows}) < 2:
            continue
        change = rng.choice([0.0, 0.1, 0.3]) + 0.2 * np.round(rng.normal(size=len(rows)), int(rng.integers(3)))
        comparisons, samples = int(rng.choice([1, 2, 8])), int(rng.choice([199, 200, 1000]))
        got = difference(rows, {"tv": change}, {"tv": np.zeros(len(rows))}, "tv", 0, samples, comparisons)
        assert (got["p"] < 0.05) == (not got["low"] <= 0 <= got["high"])
        clear += got["p"] < 0.05
    assert 100 < clear < 900


def test_interval_and_p_value_agree_at_every_number_of_samples_beyond_zero() -> None:
    for samples, comparisons in itertools.product((39, 40, 199, 200, 319, 1000), (1, 8)):
        for negative in range(samples + 1):
            sampled = np.where(np.arange(samples) < negative, -1.0, 1.0) * np.arange(1, samples + 1)
            replicates = Replicates(1.0, sampled, comparisons)
            interval, p = replicates.interval(), replicates.p_value()
            outside = interval["low"] > 0 or interval["high"] < 0
            assert (p < 0.05) == outside
            assert p == pytest.approx(min(1, comparisons * 2 * (min(negative, samples - negative) + 1) / (samples + 1)))


def test_corrected_intervals_cover_all_truths_together() -> None:
    rng = np.random.default_rng(4)
    rows = populations.table(30, 6)
    bootstrap = Bootstrap(rows, samples=1600, comparisons=8)
    effects, hits = (1.0, 0.5, 0.5), []
    for _ in range(100):
        intervals = [bootstrap.mean(scores(bootstrap, effects, rng), every(180)).interval() for _ in range(8)]
        hits.append(all(i["low"] <= 0 <= i["high"] for i in intervals))
    assert np.mean(hits) >= 0.92


def test_eight_comparisons_need_no_more_than_1000_samples_and_too_few_give_no_interval() -> None:
    sampled = np.arange(1.0, 1001)
    assert Replicates(500.0, sampled, 8).interval() == {"value": 500, "low": 3, "high": 998}
    none = Replicates(500.0, sampled[:300], 8)
    assert math.isnan(none.interval()["low"])
    assert none.p_value() > 0.05


def test_intervals_end_where_the_metric_does() -> None:
    rows = populations.table(3, 2)
    got = summarise(rows, {"tv": np.array([0, 0, 0.1, 0.1, 0.9, 0.9]), "simbench": np.array([0, 0, 90, 90, 95, 95.0])})
    assert (got["tv"]["low"], got["tv"]["high"], got["simbench"]["high"]) == (0, 1, 100)
    truth, prediction = populations.draw(np.random.default_rng(0), 3, 3)
    ratio = between_group_variance_ratio(
        populations.with_shares(populations.table(3, 3), truth), prediction.reshape(-1, 4)
    )
    assert 0 <= ratio["low"] < ratio["value"] < ratio["high"]
