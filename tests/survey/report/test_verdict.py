"""What is said of a model: verdict and interval never contradict each other, and faults are said where they are."""

import dataclasses
import re
from typing import Any

import numpy as np
import pytest

import made_scores
import populations
from survey_jax.survey.report import verdict
from survey_jax.survey.table import Answer


def rows(questions: int = 8, groups: int = 6, n: float | None = 300, apart: float = 0.5) -> list[Answer]:
    truth, _ = populations.draw(np.random.default_rng(1), questions, groups)
    truth = (1 - apart) * truth.mean(1, keepdims=True) + apart * truth
    return populations.with_shares(populations.table(questions, groups, n=n), truth)


def summary(model: float, rule: float, low: float | None, high: float | None, **changes: Any) -> dict[str, Any]:
    """A summary with these misplaced shares, and this interval of their difference."""
    entry = {"value": model - rule, "low": low, "high": high, "p": 0.5, "n": 9, "unpaired": 0, "comparisons": 1}
    return {
        "model": {"tv": {"value": model, "low": model - 0.02, "high": model + 0.02}},
        "baselines": {"uniform": {"tv": {"value": rule, "low": rule - 0.02, "high": rule + 0.02}}},
        "best_baseline": {"tv": "uniform"}, "sources": {"uniform": {}}, "differences": {"uniform": {"tv": entry}},
    } | changes  # fmt: skip


def test_the_sentence_is_in_people():
    said = verdict.sentence("unseen_question", summary(0.2, 0.22, -0.041, -0.006))
    assert said == (
        "On questions it was not trained on, the model misplaces 20 of 100 answers, the best rule that needs no model "
        "(even guess) 22: clearly better, 2 fewer [1 to 4 fewer]."
    )
    assert "clearly worse, 6 more [4 to 8 more]." in verdict.sentence("x", summary(0.28, 0.22, 0.04, 0.08))
    unclear = verdict.sentence("x", summary(0.2, 0.21, -0.03, 0.01))
    assert "not clearly different, 1 fewer [1 more to 3 fewer]." in unclear
    unknown = verdict.sentence("x", summary(0.2, 0.22, None, None))
    assert "no verdict, 2.0 fewer; too few questions or groups for an interval." in unknown


BRACKET = re.compile(r"\[(\S+?)(?: (fewer|more))? to (\S+?)(?: (fewer|more))?\]")


def test_verdict_and_shown_interval_never_contradict():
    """Whatever the numbers and however they are rounded: clear if and only if the interval, as shown, leaves out 0."""
    rng = np.random.default_rng(0)
    for _ in range(1000):
        model, rule = rng.uniform(0.02, 0.5, 2)
        spread = 10 ** rng.uniform(-4, -0.5, 2)
        low, high = model - rule - spread[0], model - rule + spread[1]
        if rng.random() < 0.5:  # near the edge
            shift = rng.choice([low, high]) + rng.choice([-1, 1]) * 10 ** rng.uniform(-5, -1)
            low, high = low - shift, high - shift
        said = verdict.sentence("unseen_both", summary(model, rule, low, high))
        first, side, last, far_side = BRACKET.search(said).groups()
        sign = {"fewer": -1, "more": 1, None: 0}
        ends = [float(first) * sign[side or far_side], float(last) * sign[far_side]]
        assert (min(ends) > 0 or max(ends) < 0) == ("clearly better" in said or "clearly worse" in said)
        assert (low > 0) == ("clearly worse" in said)
        assert (high < 0) == ("clearly better" in said)
        assert ("not clearly different" in said) == (low <= 0 <= high)


@pytest.mark.parametrize("metric", ["kl", "paper_1_minus_jsd"])
def test_other_metrics_are_better_in_their_own_direction(metric: str):
    sign = -1 if metric == "kl" else 1
    entry = {"value": sign * 0.003, "low": min(sign * 0.0002, sign * 0.006), "high": max(sign * 0.0002, sign * 0.006)}
    whole = {"best_baseline": {metric: "uniform"}, "differences": {"uniform": {metric: entry}}}
    assert "clearly better by 0.0030 [0.0002, 0.0060], against even guess" in verdict.in_metric(whole, metric)
    worse = {"value": -entry["value"], "low": -entry["high"], "high": -entry["low"]}
    whole["differences"] = {"uniform": {metric: worse}}
    assert "clearly worse by 0.0030 [0.0002, 0.0060]" in verdict.in_metric(whole, metric)


def test_secondary_comparisons_say_for_how_many_they_are_corrected():
    split = made_scores.split(rows())
    said = verdict.against_others(split.summary)
    assert [s.split(":")[0] for s in said] == [
        "Against the same model untrained",
        "Against the model without calibration",
    ]
    assert all("corrected for 2 comparisons" in s for s in said)


def test_the_first_screen_begins_with_what_is_new_and_ends_with_what_was_tuned_on():
    names = ("valid", "B2", "unseen_both", "unseen_question", "unseen_question_distinct", "unseen_group")
    splits = {name: made_scores.split(rows(4, 4), name) for name in names}
    found = verdict.first_screen(splits, ["unseen_question_distinct"])
    assert [row.code for row in found] == ["unseen_question", "unseen_group", "unseen_both", "B2", "valid"]
    assert [row.tuning for row in found] == [False] * 4 + [True]
    assert verdict.ordered(names)[:2] == ["unseen_question", "unseen_question_distinct"]
    assert verdict.ordered(["b_distinct", "a"]) == ["b_distinct", "a"]


def test_a_row_has_the_numbers_of_the_summary():
    split = made_scores.split(rows())
    (row,) = verdict.first_screen({"unseen_question": split}, [])
    s = split.summary
    expected = [100 * scores["tv"]["value"] for scores in (s["model"], s["baselines"]["uniform"], s["second_survey"])]
    assert list(row.share) == pytest.approx(expected)
    for (number, _), value in zip(row.cells, expected, strict=True):
        assert float(number) == pytest.approx(value, abs=0.5)
    model, rule, people = (" ".join(below) for _, below in row.cells)
    assert "worth 14 interviews [11\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}18]" in model
    assert "worth 14 interviews" in rule
    assert "300 interviews" in people


def test_without_numbers_of_respondents_there_is_no_second_sample():
    (row,) = verdict.first_screen({"a": made_scores.split(rows(n=None), "a")}, [])
    assert row.cells[2] == ("-", ())
    assert row.share[2] is None
    assert not any("worth" in text for _, below in row.cells for text in below)


def alike(answers: list[Answer], apart: float) -> np.ndarray:
    """Predictions that move the share `apart` of the way from the question's mean to each group."""
    shares = np.array([a.probs for a in answers])
    ids = [a.question_id for a in answers]
    mean = np.array([shares[[i == q for i in ids]].mean(0) for q in ids])
    return (1 - apart) * mean + apart * shares


@pytest.mark.parametrize(("apart", "said"), [(0.0, True), (0.2, True), (0.5, False), (1.0, False)])
def test_one_answer_for_all_groups_is_said(apart: float, said: bool):
    answers = rows(n=100_000)
    notes = verdict.notes(made_scores.split(answers, model=alike(answers, apart)))
    assert any("It gives all groups nearly the same answer" in note for note in notes) == said
    if said:
        assert f"vary {100 * apart**2:.0f} %" in notes[0]


def test_groups_that_differ_by_sampling_error_alone_are_no_fault_of_the_model():
    rng = np.random.default_rng(0)
    one = rows(n=30, apart=0.0)
    answers = populations.with_shares(one, populations.ask(np.array([a.probs for a in one]), 30, rng))
    ratio = made_scores.split(answers, model=alike(answers, 0.0)).summary["diagnostics"]["collapse"]
    assert ratio["between_group_variance_ratio"]["high"] < verdict.SAME_ANSWER
    assert verdict.notes(made_scores.split(answers, model=alike(answers, 0.0))) == []


@pytest.mark.parametrize("better", ["calibrated", "raw"])
def test_calibration_that_hurts_is_said(better: str):
    answers = rows()
    good, bad = made_scores.mixed(answers, 0.95), made_scores.mixed(answers, 0.5)
    model, raw = (good, bad) if better == "calibrated" else (bad, good)
    notes = verdict.notes(made_scores.split(answers, model=model, others={"uncalibrated": raw}))
    assert any("Calibration hurts here" in note for note in notes) == (better == "raw")


def test_a_rule_chosen_on_the_scored_rows_is_said():
    split = made_scores.split(rows(), chosen_on="this split")
    assert "The best rule was chosen on these very answers, which favours the rule." in verdict.notes(split)
    assert verdict.notes(dataclasses.replace(split, summary=split.summary | {"chosen_on": "valid"})) == []


def pooled(adds: bool) -> dict[str, Any]:
    """A summary whose stack is clearly better than the best rule, where the model alone is clearly worse."""
    better = {"value": -0.04, "low": -0.06, "high": -0.02, "p": 0.01, "n": 9, "unpaired": 0, "comparisons": 1}
    against = {rival: {"tv": better | {"comparisons": 2}} for rival in ("model", "rules_pooled")}
    coverage = {level: {"value": held, "low": 0.7, "high": 0.97} for level, held in (("80", 0.78), ("95", 0.94))}
    stack = {
        "stack": {"tv": {"value": 0.18, "low": 0.15, "high": 0.2}},
        "rules_pooled": {"tv": {"value": 0.2, "low": 0.15, "high": 0.2}},
        "differences": {"uniform": {"tv": better}} | against,
        "coverage": coverage,
        "expected": 0.17,
        "model_adds": {"new question": adds},
    }
    return summary(0.28, 0.22, 0.04, 0.08, stack=stack)


def test_the_verdict_is_on_the_prediction_where_there_is_one():
    said = verdict.sentence("unseen_question", pooled(True))
    assert "the prediction (rules and model together) misplaces 18 of 100 answers" in said
    assert "22: clearly better, 4 fewer [2 to 6 fewer]." in said
    alone = verdict.sentence("unseen_question", pooled(False))
    assert "the prediction (rules alone, as the model adds nothing to them) misplaces 18" in alone


def test_the_model_alone_and_the_rules_alone_are_secondary_rivals_of_the_prediction():
    said = verdict.against_others(pooled(True))
    assert [s.split(":")[0] for s in said] == [
        "The prediction against the model alone",
        "The prediction against the rules together",
    ]
    assert all("corrected for 2 comparisons" in s for s in said)


def test_it_is_said_how_many_intervals_hold():
    said = verdict.intervals(pooled(True))
    assert "of the 80 % intervals 78 % [70 to 97], of the 95 % intervals 94 % [70 to 97]" in said
    assert "It expected to misplace 17 of 100, and misplaced 18." in said
    assert verdict.intervals(summary(0.2, 0.22, None, None)) == ""
