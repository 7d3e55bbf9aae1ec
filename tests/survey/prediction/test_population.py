"""What a whole population answers: as `rectified` by hand; sizes are read, and bad samples refused."""

import csv
import dataclasses

import numpy as np
import pytest

from survey_jax.common.errors import UserError
from survey_jax.survey.prediction.forecast import Forecast
from survey_jax.survey.prediction.groups import read_groups, read_people
from survey_jax.survey.prediction.population import Sample, check_unseen, estimates_text, write_estimates
from survey_jax.survey.prediction.rectify import rectified
from survey_jax.survey.table import Answer

PLACES, PEOPLE = ("Kenya", "Peru", "Iceland"), [50.0, 30.0, 20.0]
OPTIONS = ("No", "Perhaps", "Yes")
PREDICTED = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])
COUNTS = [(30, 15, 5), (4, 16, 10), (5, 0, 15)]


def row(place: str, counts: tuple[float, ...] = (1, 1, 1), **fields) -> Answer:
    total = sum(counts)
    answer = Answer("S", "q1", "Is it fair?", OPTIONS, (("country", place),), tuple(c / total for c in counts))
    return dataclasses.replace(answer, **{"counts": counts, "scale": "ordinal"} | fields)


ASKED = [row(place) for place in PLACES]
FORECASTS = [Forecast(a, shares, 20.0, "new question", {}) for a, shares in zip(ASKED, PREDICTED, strict=True)]
SAMPLE = [row(place, counts) for place, counts in zip(PLACES, COUNTS, strict=True)]


def by_hand(weights=(1.0, 1.0, 1.0)):
    """A line for each respondent."""
    group = np.repeat([0, 1, 2], [sum(c) for c in COUNTS])
    answers = np.concatenate([np.repeat(np.eye(3), c, axis=0) for c in COUNTS])
    return PREDICTED[group], answers, np.array(weights)[group], np.array(PEOPLE) / 100 @ PREDICTED


def same(one, other) -> None:
    for part in ("value", "low", "high", "power", "as_good_as"):
        assert getattr(one, part) == pytest.approx(getattr(other, part))


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (3.0, 1.0, 0.5)])
def test_it_is_rectified_with_a_line_for_each_respondent(weights) -> None:
    rows = [dataclasses.replace(r, extra={"weight": w}) for r, w in zip(SAMPLE, weights, strict=True)]
    (found,) = Sample(rows, ASKED, PEOPLE).estimates(FORECASTS)
    said, answers, each, overall = by_hand(weights)
    points = np.array([1.0, 2.0, 3.0])
    same(found.shares.found, rectified(said, answers, each, overall))
    same(found.shares.alone, rectified(0 * said, answers, each, np.zeros(3)))
    same(found.mean.found, rectified(said @ points, answers @ points, each, overall @ points))
    assert found.shares.predicted == pytest.approx(overall)
    assert found.interviews == 100


def test_sizes_before_and_after_weighting_are_told_apart() -> None:
    """Weighted counts say what part of the sample a group is, and n_effective how much its answers tell."""
    rows = [dataclasses.replace(r, n_effective=float(sum(r.counts)) / 2) for r in SAMPLE]
    (whole,), (half,) = (Sample(rows, ASKED, PEOPLE).estimates(FORECASTS) for rows in (SAMPLE, rows))
    assert half.shares.alone.value == pytest.approx(whole.shares.alone.value)
    assert half.interviews == 50
    widths = (half.shares.alone.high - half.shares.alone.low) / (whole.shares.alone.high - whole.shares.alone.low)
    assert widths == pytest.approx(2**0.5, rel=0.03)


def test_options_in_another_order_are_the_same_answers() -> None:
    turned = [dataclasses.replace(r, options=OPTIONS[::-1], probs=r.probs[::-1], counts=r.counts[::-1]) for r in SAMPLE]
    (one,), (other,) = (Sample(rows, ASKED, PEOPLE).estimates(FORECASTS) for rows in (SAMPLE, turned))
    same(one.shares.found, other.shares.found)


def test_a_table_and_a_line(tmp_path) -> None:
    estimates = Sample(SAMPLE, ASKED, PEOPLE).estimates(FORECASTS)
    write_estimates(estimates, tmp_path / "o.csv")
    with (tmp_path / "o.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [(line["measure"], line["option"]) for line in lines] == [*(("share", o) for o in OPTIONS), ("mean", "")]
    found = estimates[0].shares.found
    assert [float(line["value"]) for line in lines[:3]] == pytest.approx(found.value.tolist())
    assert float(lines[3]["interviews_low"]) == pytest.approx(float(estimates[0].mean.alone.low))
    assert float(lines[0]["as_good_as"]) == pytest.approx(found.as_good_as)
    assert f"100 interviews, as good as {found.as_good_as:,.0f}" in estimates_text(estimates)


def test_a_sample_out_of_proportion_is_told() -> None:
    assert Sample(SAMPLE, ASKED, PEOPLE).cautions() == []
    (caution,) = Sample(SAMPLE, ASKED, [5.0, 5.0, 90.0]).cautions()
    assert "has 20% of the interviews and 90% of the people" in caution


def without_counts(place: str) -> Answer:
    return dataclasses.replace(row(place), counts=None)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row("Chad")], "no prediction for S / q1 / country=Chad"),
        ([without_counts("Peru")], "does not say how many people answered"),
        ([row("Peru", (3, 3, 3))], "S / q1: 9 respondents; 10 are needed"),
        ([row("Peru", extra={"weight": 1.0}), row("Kenya")], "country=Kenya: weight must be .* got nothing"),
        ([row("Peru", extra={"weight": -1})], "weight must be a positive number in every row, got -1"),
    ],
)
def test_bad_samples_are_told(rows, message) -> None:
    with pytest.raises(UserError, match=message):
        Sample(rows, ASKED, PEOPLE)


def test_groups_that_share_people_are_no_population() -> None:
    young = dataclasses.replace(ASKED[0], group=(("age", "18-29"), ("country", "Kenya")))
    with pytest.raises(UserError, match="'Kenya' and '18-29, Kenya' may share people"):
        Sample(SAMPLE, [*ASKED, young], [*PEOPLE, 10.0])


def test_answers_that_predictions_have_seen_are_told() -> None:
    turned = dataclasses.replace(
        SAMPLE[0], survey="T", question_id="7", options=OPTIONS[::-1], probs=SAMPLE[0].probs[::-1]
    )
    with pytest.raises(UserError, match="S / q1 / country=Kenya: the same answers are in --answers"):
        check_unseen(SAMPLE, [turned], "--answers")
    check_unseen(SAMPLE, [dataclasses.replace(turned, group=(("country", "Chad"),))], "--answers")


def test_people_are_a_column_of_the_groups_and_no_attribute(tmp_path) -> None:
    (tmp_path / "g.csv").write_text("country,People\nKenya,50\nPeru,30.5\n")
    assert read_groups(tmp_path / "g.csv", [(("country", "Kenya"),)])[0] == [
        (("country", "Kenya"),),
        (("country", "Peru"),),
    ]
    assert read_people(tmp_path / "g.csv") == [50, 30.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("country\nKenya\n", "does not say how many people .* column `people`"),
        ("country,people\nKenya,5\nPeru,\n", "row 3: people must be a positive number, got nothing"),
        ("country,people\nKenya,many\n", "row 2: people must be a positive number, got 'many'"),
        ("country,people\nKenya,-1\n", "got '-1'"),
        ("country,people\nKenya,inf\n", "got 'inf'"),
    ],
)
def test_sizes_that_are_none_are_told(tmp_path, text, message) -> None:
    (tmp_path / "g.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_people(tmp_path / "g.csv")


def test_words_for_groups_have_no_sizes() -> None:
    with pytest.raises(UserError, match="--groups=country: does not say how many people"):
        read_people("country")
