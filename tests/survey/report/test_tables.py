"""What an evaluation says of the baselines: all are scored, few are shown, the best is the bar."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from survey_jax.survey.baselines.registry import BASELINES
from survey_jax.survey.evaluation import scoring
from survey_jax.survey.evaluation.metrics import row_metrics
from survey_jax.survey.report import page as page_module
from survey_jax.survey.report import tables
from survey_jax.survey.report.disclosure import data_sections, surveys
from survey_jax.survey.report.tables import verdicts
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
COPIES = {"nearest_groups", "factor_model", "seen_group_mean_by_n", "text_neighbours", "text_ridge", "paper_average"}


def score(rows=NEW, train=TRAIN, mix=0.9, failed=(), control=None) -> scoring.SplitScore:
    """Scores of a model that predicts the truth mixed with uniform, and fails on some rows."""
    model = np.array([mix * np.array(a.probs) + (1 - mix) / len(a.probs) for a in rows])
    control = model[:, ::-1].copy() if control is None else control
    model[list(failed)] = np.nan
    filled = {name: predict(train, rows) for name, predict in BASELINES.items()}
    orders = [range(len(a.options)) for a in rows]
    systems = {"model": model, "control": control}
    return scoring.score_split("new", rows, systems, "model", filled, orders, 0, controls={"control"})


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


def test_the_verdict_is_on_the_best_baseline():
    countries = ("Zambia", "Malawi", "Angola", "Gambia", "Guyana", "Panama", "Belize", "Mexico")
    rows = [answer(q, c, c in countries[:4]) for q in QUESTIONS for c in countries]
    good, bad = score(rows, mix=1.0), score(rows, mix=0.0)
    assert good.summary["best_baseline"] == {"paper_1_minus_jsd": "covariates", "kl": "covariates"}
    # of the best baseline, and of the control
    assert len(verdicts(good.summary)) == len(verdicts(bad.summary)) == 2
    assert verdicts(good.summary)[0].startswith("beats the best baseline (covariates) by 0.")
    assert verdicts(bad.summary)[0].startswith("falls short of the best baseline (covariates) by 0.")
    assert verdicts(good.summary)[0].endswith("in KL")


def test_differences_are_paired_and_corrected_for_the_number_of_systems():
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
        assert entry["comparisons"] == found["control"][metric]["comparisons"] == 1


def test_a_difference_that_is_not_clear_is_not_called_one():
    half = [dataclasses.replace(a, probs=(0.5, 0.5)) for a in NEW]
    rng = np.random.default_rng(0)
    rows = [
        dataclasses.replace(a, question_id=f"N{i // 10}", question="?", group=(("country", f"C{i % 10}"),))
        for i, a in enumerate(half * 15)
    ]
    share = 0.5 + 0.1 * rng.normal(size=len(rows))
    control = 0.5 + 0.1 * rng.normal(size=len(rows))
    filled = {
        "uniform": BASELINES["uniform"](TRAIN, rows),
        "seen_group_mean": BASELINES["seen_group_mean"](TRAIN, rows),
    }
    systems = {"model": np.stack([share, 1 - share], -1), "other": np.stack([control, 1 - control], -1)}
    scored = scoring.score_split("new", rows, systems, "model", filled, [(0, 1)] * len(rows), 0)
    best, other = verdicts(scored.summary)
    assert best.startswith("falls short of the best baseline (uniform) by 0.")  # which is the truth here
    assert other.startswith("shows no clear difference from other: ")


def test_one_question_has_no_interval():
    rows = NEW[:2]
    scored = score(rows)
    expected = "has no interval (one question) against the best baseline (covariates): 0."
    assert verdicts(scored.summary)[0].startswith(expected)
    assert "[" not in verdicts(scored.summary)[0]
    assert scored.summary["differences"]["covariates"]["kl"]["low"] is None
    json.dumps(scored.summary, allow_nan=False)


def test_a_failed_prediction_is_named_counted_and_scored_as_uniform(capsys, tmp_path: Path):
    scored = score(failed=[1])
    assert scored.summary["failures"] == {"model": [NEW[1].describe()]}
    assert score().summary["failures"] == {}
    assert scored.rows["kl"][1] == pytest.approx(row_metrics(NEW, BASELINES["uniform"](TRAIN, NEW)[0])["kl"][1])
    assert scored.summary["model"]["kl"]["value"] == pytest.approx(scored.rows["kl"].mean())
    tables.print_table([scored])
    said = capsys.readouterr().out
    assert f"model: 1 of {len(NEW)} predictions failed and are scored as uniform: {NEW[1].describe()}" in said
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
    assert len(verdicts(scored.summary)) == 1


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
    filled = {name: BASELINES[name](TRAIN, NEW) for name in ("uniform", "seen_group_mean")}
    model = np.tile([0.9, 0.1], (len(NEW), 1))
    bias = []
    for order in ((0, 1), (1, 0)):
        scored = scoring.score_split("new", NEW, {"model": model}, "model", filled, [order] * len(NEW), 0)
        bias.append(scored.summary["diagnostics"]["position_bias"])
    assert bias[0]["first"] == bias[1]["last"]
    assert bias[0]["first"]["value"] == pytest.approx(0.9 - np.mean([a.probs[0] for a in NEW]))


def test_each_metric_has_its_own_best_baseline():
    """KL says of what is mostly right, and rules out the rest, that it is worse than knowing nothing."""
    options = ("Yes", "No")

    def row(country: str, yes: float) -> Answer:
        return Answer("S", "Q1", "Is it?", options, (("country", country),), (yes, 1 - yes))

    train = [row(country, 1.0) for country in AFRICA]
    rows = [row("Zambia", 1.0), row("Peru", 1.0), row("Chile", 1.0), row("Bolivia", 0.5)]
    summary = score(rows, train).summary
    assert summary["best_baseline"] == {"paper_1_minus_jsd": "seen_group_mean", "kl": "uniform"}
    names = list(tables.systems_of(summary))
    assert names == ["model", "uniform (best KL)", "seen_group_mean (best 1-√JSD)", "control", "sampling ceiling"]


def test_the_printed_table_has_the_best_baseline_and_not_all(capsys):
    tables.print_table([score()])
    table, said = capsys.readouterr().out.split("└")
    for name in ("uniform", "seen_group_mean", "covariates (best)", "control", "sampling ceiling"):
        assert name in table
    for name in {*BASELINES} - {"uniform", "seen_group_mean", "covariates"}:
        assert f" {name} " not in table
    assert " ".join(said.split("\n", 1)[1].split()) == "new: the model " + " ".join(
        verdicts(score().summary)[0].split()
    )
    assert all(len(line) <= 160 for line in table.splitlines())


def test_copies_of_another_baseline_are_named_once_in_the_page(tmp_path: Path):
    scored = score()
    assert set(scored.summary["same_as"]) >= COPIES
    assert {scored.summary["same_as"][name] for name in COPIES} == {"seen_group_mean"}
    card = data_sections(NEW, "", "")
    page_module.write_html({"new": scored}, [], "", surveys(NEW), card, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    every = page.split("All baselines, the best first")[1].split("</details>")[0]
    for name in BASELINES:
        copy = name in scored.summary["same_as"]
        assert every.count(f'<th scope="row">{name}</th>') == (0 if copy else 1)
        assert (f"{name} as " in every) == copy
    names = [every.index(f">{name}<") for name in ("covariates", "seen_group_mean", "paper_average_answer")]
    assert names == sorted(names)
    assert '<td class="text">same question (6)</td>' in every


@pytest.mark.parametrize("group", [(("country", "X"),), (("sex", "f"),), (("c", "国"), ("age", "1"))])
@pytest.mark.parametrize("text", ["?", "Is it?", "你好吗", "a b"])
@pytest.mark.parametrize("questions", [1, 7])
def test_tables_with_little_in_them_are_scored(text: str, group, questions: int):
    def row(number: int, who, probs):
        return Answer("S", f"Q{number}", text, ("1", "2"), who, probs)

    train = [row(q, group, (0.5, 0.5)) for q in range(questions)]
    rows = [row(0, (("country", "Y"),), (0.9, 0.1)), row(99, group, (0.9, 0.1)), row(99, (("age", "2"),), (1.0, 0.0))]
    assert set(score(rows, train).summary["baselines"]) == {*BASELINES, "control"}
