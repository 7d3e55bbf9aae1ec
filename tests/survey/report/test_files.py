"""The files beside the page: predictions in long form, figures, and a paragraph to paste."""

import dataclasses
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import made_scores
import populations
from survey_jax.survey.report import figures
from survey_jax.survey.report.files import COLUMNS, write_long_predictions, write_report
from survey_jax.survey.report.methods import Facts, methods
from survey_jax.survey.report.verdict import sentence
from survey_jax.survey.table import Answer

FACTS = Facts(
    model="hub/model", revision="abc123", stored_as="bfloat16", checkpoint="step 9 (best)",
    training="LoRA of rank 4 (kl loss, 200 steps)", template="question_first", date="2026-07-14", preset="paper",
    seed="3 (run), 4 (splits)", versions={"survey_jax": "1.0", "jax": "0.10"},
)  # fmt: skip


def rows(n: float | None = 300, groups: int = 5) -> list[Answer]:
    truth, _ = populations.draw(np.random.default_rng(1), 6, groups)
    made = populations.with_shares(populations.table(6, groups, n=n), truth)
    names = ("Kenya", "Peru", "Japan", "Norway", "Chile")
    return [dataclasses.replace(a, group=(("age", "18, 29"), ("country", names[i % 5]))) for i, a in enumerate(made)]


def test_every_file_is_named_and_there(tmp_path: Path):
    answers = rows()
    splits = {name: made_scores.split(answers, name) for name in ("unseen_both", "unseen_both_distinct", "../a b")}
    names = write_report(tmp_path, splits, ["unseen_both_distinct"], answers, {}, FACTS)
    assert len(set(names)) == len(names)
    assert {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()} == set(names)
    assert set(names) >= {"report.html", "predictions.csv", "methods.txt", "figures/skill.svg"}
    kinds = {name.split("_", 3)[-1] for name in names if name.startswith("figures/1_unseen_both")}
    assert kinds >= {"departures.svg", "reliability.svg", "places.svg", "map.svg", "worst_1.svg", "typical_1.svg"}
    assert sum(name.startswith("figures/2_") for name in names) == len(kinds)
    before = {name: (tmp_path / name).read_bytes() for name in names}
    assert write_report(tmp_path, splits, ["unseen_both_distinct"], answers, {}, FACTS) == names
    assert {name: (tmp_path / name).read_bytes() for name in names} == before


def test_figures_are_drawings_that_need_nothing_else(tmp_path: Path):
    answers = rows()
    names = write_report(tmp_path, {"a": made_scores.split(answers, "a")}, [], answers, {}, FACTS)
    for name in [name for name in names if name.endswith(".svg")]:
        root = ElementTree.parse(tmp_path / name).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert float(root.attrib["width"]) > 0
        ids = {e.attrib["id"] for e in root.iter() if "id" in e.attrib}
        links = [v for e in root.iter() for k, v in e.attrib.items() if k.split("}")[-1] == "href"]
        assert all(link[1:] in ids if link.startswith("#") else link.startswith("data:image/png") for link in links)
    assert (tmp_path / "figures" / "1_a_map.svg").read_text().count('id="land-') > 100


def test_predictions_in_long_form_are_those_of_the_split(tmp_path: Path):
    answers = [
        dataclasses.replace(rows()[0], question='Is "x", y\nso?', n=80, n_effective=50.0, wave="2020"),
        *rows()[1:],
    ]
    model = made_scores.noisy(answers, 0.3)
    model[2] = np.nan
    split = made_scores.split(answers, "unseen_both", model)
    write_long_predictions([split], tmp_path / "p.csv")
    found = pd.read_csv(tmp_path / "p.csv")
    assert set(COLUMNS) - set(found.columns) == {"stack", "concentration"}
    assert set(found.columns) - set(COLUMNS) == {"group.age", "group.country"}
    assert len(found) == sum(len(a.options) for a in answers)
    for i, answer in enumerate(answers):
        lines = found.iloc[4 * i : 4 * i + 4]
        assert lines["option"].tolist() == list(answer.options)
        assert lines["human"].to_numpy() == pytest.approx(answer.probs)
        assert lines["predicted"].isna().all() if i == 2 else lines["predicted"].to_numpy() == pytest.approx(model[i])
        low, high = figures.sampling_error(answer)
        assert lines["low"].to_numpy() == pytest.approx(low)
        assert lines["high"].to_numpy() == pytest.approx(high)
    first = found.iloc[0]
    assert (first.question, first.wave, first.n) == ('Is "x", y\nso?', 2020, 80)
    assert (first.group, first["group.age"], first["group.country"]) == ("18, 29, Kenya", "18, 29", "Kenya")
    assert set(found["split"]) == {"unseen_both"}


def test_what_is_not_known_is_empty(tmp_path: Path):
    write_long_predictions([made_scores.split(rows(n=None), "a")], tmp_path / "p.csv")
    found = pd.read_csv(tmp_path / "p.csv")
    assert found[["low", "high", "n", "wave"]].isna().all().all()
    assert found["predicted"].notna().all()


def test_the_methods_paragraph_has_the_facts():
    answers = [dataclasses.replace(a, n_effective=100.0) for a in rows()]
    splits = {"unseen_question": made_scores.split(answers), "valid": made_scores.split(answers, "valid")}
    text = " ".join(methods(splits, answers, FACTS).split())
    for fact in (
        "hub/model (revision abc123; weights stored as bfloat16)", "fine-tuned by LoRA of rank 4 (kl loss, 200 steps)",
        "step 9 (best)", "The training set had 30 rows, 6 questions, 5 groups of 1 survey",
        "new questions, known groups (unseen_question; 30 rows, 6 questions, 5 groups)",
        "60 of the 60 rows evaluated have an effective number of respondents", "template question_first",
        "1.25 for a new question (by itself 1.50, from 20 questions and 300 rows)", "chosen on the validation rows",
        "bootstrap of 1,000 draws", sentence("unseen_question", splits["unseen_question"].summary), "2026-07-14",
        "preset paper", "3 (run), 4 (splits)", "survey_jax 1.0, jax 0.10",
    ):  # fmt: skip
        assert fact in text
    assert all(len(line) <= 100 for line in methods(splits, answers, FACTS).splitlines())


def test_the_methods_paragraph_of_an_untrained_local_model_without_calibration():
    answers = rows()
    facts = dataclasses.replace(FACTS, revision=None, checkpoint=None, training="", model="/weights/my.gguf", preset="")
    split = made_scores.split(answers, calibration={"model": {}}, chosen_on="this split")
    text = " ".join(methods({"unseen_question": split}, answers, facts).split())
    assert "/weights/my.gguf (a local copy; weights stored as bfloat16). It was not trained on survey answers." in text
    assert "No prediction was calibrated" in text
    assert "chosen on the rows evaluated" in text
    assert "preset" not in text
    assert facts.subject == "my.gguf, untrained"
