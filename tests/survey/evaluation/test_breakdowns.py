"""A metric by part of the table, and the worst of it."""

import math

import numpy as np
import pytest

from survey_jax.survey.evaluation.breakdowns import (
    BREAKDOWNS,
    NO_LABEL,
    breakdown,
    cross_table,
    worst_questions,
)
from survey_jax.survey.table import Answer


def row(question, country="Kenya", options=2, topic=None, scale="ordinal", **group) -> Answer:
    attributes = tuple(sorted({"country": country, **group}.items()))
    texts = tuple(f"option {i}" for i in range(options))
    extra = {} if topic is None else {"topic": topic}
    return Answer("S", question, "How?", texts, attributes, (1 / options,) * options, scale=scale, extra=extra)


ANSWERS = [
    row("Q1", "Kenya", topic="work"),
    row("Q1", "Japan", topic="work"),
    row("Q2", "Kenya", 3, "faith", scale=None),
    row("Q2", "Japan", 3, "faith", scale=None),
    row("Q3", "Atlantis", 3, scale="nominal", age="18-29"),
]
TV = np.array([0.1, 0.3, 0.5, 0.9, 0.2])


def means(by, values=TV, metric="tv"):
    return {label: part["value"] for label, part in breakdown(ANSWERS, values, metric, by, samples=50).items()}


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("question", {"S / Q2": 0.7, "S / Q1": 0.2, "S / Q3": 0.2}),
        ("topic", {"faith": 0.7, "work": 0.2, NO_LABEL: 0.2}),
        ("group", {"Japan": 0.6, "Kenya": 0.3, "18-29, Atlantis": 0.2}),
        ("attribute", {"country = Japan": 0.6, "country = Kenya": 0.3, "age = 18-29": 0.2, "country = Atlantis": 0.2}),
        ("attributes", {"country": 0.45, "age, country": 0.2}),
        ("region", {"Asia": 0.6, "Eastern Asia": 0.6, "Africa": 0.3, "Eastern Africa": 0.3, NO_LABEL: 0.2}),
        ("options", {"3": 1.6 / 3, "2": 0.2}),
        ("scale", {NO_LABEL: 0.7, "ordinal": 0.2, "nominal": 0.2}),
    ],
)
def test_means_worst_first(by, expected):
    got = means(by)
    assert got == pytest.approx(expected)
    assert list(got.values()) == sorted(got.values(), reverse=True)
    assert by in BREAKDOWNS


def test_worst_depends_on_the_metric():
    assert list(means("options", metric="mode_accuracy")) == ["2", "3"]
    assert list(means("options", np.array([1.1, 1.1, 0.2, 1.0, 1.0]), "entropy_ratio")) == ["3", "2"]


def test_every_row_and_value_is_accounted_for():
    values = np.array([0.1, np.nan, 0.5, 0.9, np.nan])
    parts = breakdown(ANSWERS, values, "tv", "topic", samples=50)
    assert {label: (p["n"], p["questions"]) for label, p in parts.items()} == {"faith": (2, 1), "work": (1, 1)}
    assert breakdown(ANSWERS[4:], TV[4:], "tv", "topic") == {}  # no row has a topic


def test_parts_have_intervals_unless_they_are_of_one_question():
    rng = np.random.default_rng(0)
    answers = [row(f"Q{q}", c) for q in range(40) for c in ("Kenya", "Japan", "Peru")]
    parts = breakdown(answers, rng.random(120), "tv", "group")
    for part in parts.values():  # forty independent rows a country
        assert part["high"] - part["low"] == pytest.approx(2 * 1.96 * math.sqrt(1 / 12 / 40), rel=0.3)
    assert all(math.isnan(p["low"]) for p in breakdown(answers, rng.random(120), "tv", "question").values())


def test_cross_table():
    rows, columns, table = cross_table(ANSWERS, TV, "topic", "attribute")
    assert rows == [NO_LABEL, "faith", "work"]
    assert columns == ["age = 18-29", "country = Atlantis", "country = Japan", "country = Kenya"]
    expected = [[0.2, 0.2, np.nan, np.nan], [np.nan, np.nan, 0.9, 0.5], [np.nan, np.nan, 0.3, 0.1]]
    np.testing.assert_allclose(table, expected)


def test_worst_questions():
    worst = worst_questions(ANSWERS, TV, "tv", 1)
    assert list(worst) == ["S / Q2"]
    assert worst["S / Q2"]["n"] == 2
