"""What an evaluation's summary holds: all baselines are scored, the best is the bar, and differences are paired."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from survey_jax.survey.baselines.registry import BASELINES
from survey_jax.survey.evaluation import scoring
from survey_jax.survey.evaluation.metrics import row_metrics, stack
from survey_jax.survey.table import Answer

AFRICA = ("Kenya", "Uganda", "Ghana", "Nigeria", "Senegal")
AMERICA = ("Peru", "Chile", "Bolivia", "Ecuador", "Uruguay")
QUESTIONS = ("Q1", "Q2", "Q3")


def answer(question: str, country: str, africa: bool) -> Answer:
    shift = ((len(country) * 7 + int(question[1]) * 5 + ord(country[0])) % 9 - 4) / 50  # no two countries are alike
    probs = (0.8 + shift, 0.2 - shift) if africa else (0.3 + shift, 0.7 - shift)
    return Answer("S", question, f"Is {question} so?", ("Yes", "No"), (("country", country),), probs)


TRAIN = [answer(q, c, c in AFRICA) for q in QUESTIONS for c in AFRICA + AMERICA]
NEW = [answer(q, c, c == "Zambia") for q in QUESTIONS for c in ("Zambia", "Guyana")]  # reads like Ghana


def systems(train, rows, model, control) -> dict[str, scoring.System]:
    """A model, a control and every rule, none of them calibrated."""
    found = {"model": scoring.System("subject", model), "control": scoring.System("control", control)}
    for name, predict in BASELINES.items():
        shares, sources = predict(train, rows)
        found[name] = scoring.System("rule", stack(rows, shares), sources=sources)
    return found


def score(rows=NEW, train=TRAIN, mix=0.9, failed=(), control=None) -> scoring.SplitScore:
    """Scores of a model that predicts the truth mixed with uniform, and fails on some rows."""
    model = np.array([mix * np.array(a.probs) + (1 - mix) / len(a.probs) for a in rows])
    control = model[:, ::-1].copy() if control is None else control
    model[list(failed)] = np.nan
    orders = [range(len(a.options)) for a in rows]
    kinds = ["known question"] * len(rows)
    return scoring.score_split("new", rows, kinds, systems(train, rows, model, control), orders)


def test_every_baseline_is_scored_and_says_how_its_rows_were_made():
    summary = score().summary
    assert set(summary["baselines"]) == {*BASELINES, "control"}
    for name, predict in BASELINES.items():
        shares, sources = predict(TRAIN, NEW)
        expected = row_metrics(NEW, shares)
        for metric in ("paper_1_minus_jsd", "kl", "tv"):
            assert summary["baselines"][name][metric]["value"] == pytest.approx(expected[metric].mean())
        assert summary["sources"][name] == {source: sources.count(source) for source in sources}
    assert summary["sources"]["nearest_groups"] == {"fallback: same question": 6}


def test_differences_are_paired():
    scored = score()
    rows = {
        s: row_metrics(NEW, p)
        for s, p in (("model", scored.predictions), ("covariates", BASELINES["covariates"](TRAIN, NEW)[0]))
    }
    found = scored.summary["differences"]
    assert set(found) == {"covariates", "control"}
    for metric in scoring.HEADLINE:
        entry = found["covariates"][metric]
        assert entry["value"] == pytest.approx((rows["model"][metric] - rows["covariates"][metric]).mean())
        assert entry["n"] == len(NEW)
        assert (entry["comparisons"], found["control"][metric]["comparisons"]) == (1, 1)


def test_a_failed_prediction_is_named_counted_and_scored_as_uniform(tmp_path: Path):
    scored = score(failed=[1])
    assert scored.summary["failures"] == {"model": [NEW[1].describe()]}
    assert score().summary["failures"] == {}
    assert scored.rows["kl"][1] == pytest.approx(row_metrics(NEW, BASELINES["uniform"](TRAIN, NEW)[0])["kl"][1])
    assert scored.summary["model"]["kl"]["value"] == pytest.approx(scored.rows["kl"].mean())
    said = f"new: model: 1 of {len(NEW)} predictions failed and are scored as uniform: {NEW[1].describe()}"
    assert scored.warnings == [said]
    scoring.write_predictions([scored], tmp_path / "p.parquet")
    assert pd.read_parquet(tmp_path / "p.parquet")["failed"].tolist() == [i == 1 for i in range(len(NEW))]


def test_a_control_without_a_group_to_swap_did_not_fail():
    control = np.full((len(NEW), 2), np.nan)
    control[:2] = 0.5
    scored = score(control=control)
    assert scored.summary["failures"] == {}
    assert scored.summary["differences"]["control"]["kl"]["n"] == 2
    scored = score(control=np.full((len(NEW), 2), np.nan))
    assert "control" not in scored.summary["differences"]


def test_skill_is_between_the_best_baseline_and_the_ceiling():
    assert score().summary["skill"] == {}  # nobody knows how many were asked
    rows = [dataclasses.replace(a, n=500) for a in NEW]
    perfect, as_good = score(rows, mix=1.0).summary["skill"], score(rows, mix=0.9).summary["skill"]
    for metric in scoring.HEADLINE:
        assert perfect[metric]["baseline"] == "covariates"
        assert as_good[metric]["value"] < perfect[metric]["value"]
    assert perfect["kl"]["value"] > 1  # it predicts this very sample, which no knowledge of the population can
    scores = score(rows).summary
    assert scores["second_survey"]["jsd"]["value"] > scores["ceiling"]["jsd"]["value"] > 0


def test_diagnostics_use_the_order_in_which_options_were_shown():
    model = np.tile([0.9, 0.1], (len(NEW), 1))
    kinds = ["known question"] * len(NEW)
    bias = []
    for order in ((0, 1), (1, 0)):
        scored = scoring.score_split("new", NEW, kinds, systems(TRAIN, NEW, model, model), [order] * len(NEW))
        bias.append(scored.summary["diagnostics"]["position_bias"])
    assert bias[0]["first"] == bias[1]["last"]
    assert bias[0]["first"]["value"] == pytest.approx(0.9 - np.mean([a.probs[0] for a in NEW]))


def test_each_metric_has_its_own_best_baseline():
    """KL says of what is mostly right, and rules out the rest, that it is worse than half an even guess."""
    options = ("Yes", "No")

    def row(country: str, yes: float) -> Answer:
        return Answer("S", "Q1", "Is it?", options, (("country", country),), (yes, 1 - yes))

    train = [row(country, 1.0) for country in AFRICA]
    rows = [row("Zambia", 1.0), row("Peru", 1.0), row("Chile", 1.0), row("Bolivia", 0.5)]
    summary = score(rows, train).summary
    best = summary["best_baseline"]
    assert (best["paper_1_minus_jsd"], best["kl"]) == ("seen_group_mean", "half_seen_mean")


@pytest.mark.parametrize("group", [(("country", "X"),), (("sex", "f"),), (("c", "国"), ("age", "1"))])
@pytest.mark.parametrize("text", ["?", "Is it?", "你好吗", "a b"])
@pytest.mark.parametrize("questions", [1, 7])
def test_tables_with_little_in_them_are_scored(text: str, group, questions: int):
    def row(number: int, who, probs):
        return Answer("S", f"Q{number}", text, ("1", "2"), who, probs)

    train = [row(q, group, (0.5, 0.5)) for q in range(questions)]
    rows = [row(0, (("country", "Y"),), (0.9, 0.1)), row(99, group, (0.9, 0.1)), row(99, (("age", "2"),), (1.0, 0.0))]
    assert set(score(rows, train).summary["baselines"]) == {*BASELINES, "control"}
