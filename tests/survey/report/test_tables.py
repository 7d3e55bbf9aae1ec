"""The printed tables, and the lines of the page's."""

import numpy as np
import pytest

import made_scores
import populations
from survey_jax.survey.report import tables
from survey_jax.survey.report.verdict import sentence
from survey_jax.survey.table import Answer


def rows(questions: int = 6, groups: int = 5, n: float | None = 300) -> list[Answer]:
    truth, _ = populations.draw(np.random.default_rng(1), questions, groups)
    return populations.with_shares(populations.table(questions, groups, n=n), truth)


def many_rules(answers: list[Answer]) -> dict[str, np.ndarray]:
    noise = {"seen_group_mean": 0.6, "text_ridge": 0.2, "covariates": 0.4}
    made = {rule: made_scores.noisy(answers, noise[rule], 9) for rule in noise}
    return {"uniform": made_scores.mixed(answers, 0.0), **made}


def test_the_printed_table_has_misplaced_answers_first_the_best_rule_and_not_all(capsys):
    answers = rows()
    split = made_scores.split(answers, rules=many_rules(answers), best="text_ridge")
    tables.print_table([split])
    said = capsys.readouterr().out
    assert "new questions, known groups (unseen_question), 30 rows" in said
    columns = [said.index(title) for title in ("prediction by", "misplaced of 100", "KL", "1-√JSD", "worth interviews")]
    assert columns == sorted(columns)
    assert f"{100 * split.summary['model']['tv']['value']:.1f} [" in said
    for name in ("the model", tables.system_name("text_ridge") + " <- best rule", "even guess"):
        assert name in said
    assert tables.system_name("covariates") not in said
    assert f"unseen_question: {sentence('unseen_question', split.summary)}" in said
    assert all(len(line) <= tables.WIDTH for line in said.splitlines() if line.startswith("│"))


def test_names_of_splits_are_no_markup(capsys):
    tables.print_table([made_scores.split(rows(3, 2), "[bold red]mine[/]")])
    assert "[bold red]mine[/], 6 rows" in capsys.readouterr().out


def test_tuning_comes_last_and_failures_are_told(capsys):
    answers = rows(3, 3)
    model = made_scores.noisy(answers, 0.3)
    model[1] = np.nan
    tables.print_table([made_scores.split(answers, "valid", model), made_scores.split(answers, "unseen_both")])
    said = capsys.readouterr().out
    assert said.index("unseen_both: On") < said.index("valid: On what it was tuned on")
    assert "valid: model: 1 of 9 predictions failed and are scored as uniform" in said


def test_each_metric_has_its_own_best_rule():
    answers = rows()
    best = {"tv": "text_ridge", "kl": "uniform", "paper_1_minus_jsd": "text_ridge"}
    split = made_scores.split(answers, rules=many_rules(answers), best="text_ridge", best_baseline=best)
    marks = {line.code: line.mark for line in tables.systems_of(split.summary)}
    assert marks["text_ridge"] == "best in misplaced of 100 and 1-√JSD"
    assert marks["uniform"] == "best in KL"
    assert marks["seen_group_mean"] == ""


def test_rules_stand_in_order_and_copies_are_left_out():
    answers = rows()
    rules = many_rules(answers) | {"paper_average": made_scores.noisy(answers, 0.6, 9)}
    split = made_scores.split(answers, rules=rules, same_as={"paper_average": "seen_group_mean"})
    lines = tables.rules_of(split.summary)
    assert {line.code for line in lines} == {*rules} - {"paper_average"}
    values = [line.scores["tv"]["value"] for line in lines]
    assert values == sorted(values)
    assert tables.sources_of(split.summary, "uniform") == "same options (30)"


def test_people_have_lines_only_where_it_is_known_how_many_were_asked():
    names = {line.name for line in tables.systems_of(made_scores.split(rows()).summary)}
    assert {tables.CEILING, tables.SECOND} <= names
    names = {line.name for line in tables.systems_of(made_scores.split(rows(n=None)).summary)}
    assert not {tables.CEILING, tables.SECOND} & names


def test_comparisons_begin_with_the_primary_ones():
    lines = tables.comparisons(made_scores.split(rows()).summary)
    assert [line["among"] for line in lines] == ["primary"] * 3 + ["one of 2"] * 6
    assert {line["rival"] for line in lines[:3]} == {"uniform"}


@pytest.mark.parametrize(
    ("metric", "entry", "shown"),
    [
        ("tv", {"value": 0.2034, "low": 0.1812, "high": 0.2241}, "20.3 [18.1, 22.4]"),
        ("tv", {"value": 0.003, "low": 0.0002, "high": 0.006}, "0.30 [0.02, 0.60]"),
        ("kl", {"value": 0.1, "low": -0.0001, "high": 0.2}, "0.100 [0.000, 0.200]"),
        ("kl", {"value": 0.1, "low": None, "high": None}, "0.100"),
        ("kl", {"value": None, "low": None, "high": None}, "-"),
    ],
)
def test_a_cell(metric: str, entry: dict[str, float | None], shown: str):
    assert tables.cell({metric: entry}, metric, interval=True) == shown
