"""What an evaluation says of the baselines: all are scored, few are shown, the best is the bar."""

from pathlib import Path

import numpy as np
import pytest

from survey_jax.survey import report
from survey_jax.survey.all_baselines import BASELINES
from survey_jax.survey.metrics import row_metrics
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


def score(rows=NEW, train=TRAIN, mix=0.9) -> report.SplitScore:
    """Of a model that predicts the truth mixed with uniform."""
    model = np.array([mix * np.array(a.probs) + (1 - mix) / len(a.probs) for a in rows])
    filled = {name: predict(train, rows) for name, predict in BASELINES.items()}
    return report.score_split("new", rows, {"model": model, "control": model[:, ::-1]}, "model", filled, 0)


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
    good, bad = score(mix=1.0), score(mix=0.0)
    assert good.summary["best_baseline"] == {"paper_1_minus_jsd": "covariates", "kl": "covariates"}
    assert len(good.verdicts) == len(bad.verdicts) == 2  # the best baseline, and the control
    assert good.verdicts[0].startswith("1-√JSD better than the best baseline (covariates) by +0.")
    assert bad.verdicts[0].startswith("1-√JSD NOT better than the best baseline (covariates) by -0.")
    assert "KL NOT better than the best baseline (covariates) by -0." in bad.verdicts[0]


def test_each_metric_has_its_own_best_baseline():
    """KL says of what is mostly right, and rules out the rest, that it is worse than knowing nothing."""
    options = ("Yes", "No")

    def row(country: str, yes: float) -> Answer:
        return Answer("S", "Q1", "Is it?", options, (("country", country),), (yes, 1 - yes))

    train = [row(country, 1.0) for country in AFRICA]
    rows = [row("Zambia", 1.0), row("Peru", 1.0), row("Chile", 1.0), row("Bolivia", 0.5)]
    summary = score(rows, train).summary
    assert summary["best_baseline"] == {"paper_1_minus_jsd": "seen_group_mean", "kl": "uniform"}
    names = list(report.systems_of(summary))
    assert names == ["model", "uniform (best KL)", "seen_group_mean (best 1-√JSD)", "control", "sampling ceiling"]


def test_the_printed_table_has_the_best_baseline_and_not_all(capsys):
    report.print_table([score()])
    table, said = capsys.readouterr().out.split("└")
    for name in ("uniform", "seen_group_mean", "covariates (best)", "control", "sampling ceiling"):
        assert name in table
    for name in {*BASELINES} - {"uniform", "seen_group_mean", "covariates"}:
        assert f" {name} " not in table
    assert "new: seen_group_mean is from: same question (6)" in said
    assert "new: covariates is from: covariates (6)" in said
    assert all(len(line) <= 160 for line in table.splitlines())


def test_copies_of_another_baseline_are_named_once_in_the_page(tmp_path: Path):
    scored = score()
    assert set(scored.summary["same_as"]) >= COPIES
    assert {scored.summary["same_as"][name] for name in COPIES} == {"seen_group_mean"}
    report.write_html([scored], {}, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    every = page.split("<details>")[1]
    for name in BASELINES:
        copy = name in scored.summary["same_as"]
        assert every.count(f"<td>{name}</td>") == (0 if copy else 1)
        assert (f"{name} as " in every) == copy
    assert every.index("<td>covariates</td>") < every.index("<td>seen_group_mean</td>")
    assert every.index("<td>seen_group_mean</td>") < every.index("<td>paper_average_answer</td>")
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
