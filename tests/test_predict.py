"""The command `predict`, as a new user meets it: questions and groups in files, a table and a page out, bad input."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from survey_jax.survey.prediction.rectify import rectified
from tiny import GROUPS, rows, write_config, write_model, write_rows

QUESTIONS = """question_id,question,options,scale
bus,"Is the bus on time, mostly?",Yes|No|Not sure,nominal
rain,How much do you mind the rain?,A lot|A little|Not at all,ordinal
"""
PEOPLE = "country\nKenya\nPeru\nIceland\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict")
    model, table = write_model(folder / "model"), write_rows(folder / "table.jsonl", rows())
    config = write_config(folder, model, table, optim__steps="2", run__eval_every="2", batch__seq_len="512")
    command = [sys.executable, "-m", "survey_jax.train", f"--config={config}", f"--workdir={folder / 'run'}"]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "questions.csv").write_text(QUESTIONS)
    (folder / "groups.csv").write_text(PEOPLE)
    return folder / "run"


def predict(run: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "survey_jax.predict", f"--workdir={run}", *flags]
    return subprocess.run(command, capture_output=True, text=True, cwd=run.parent)


def read_lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def refused(run: Path, *flags: str) -> str:
    result = predict(run, *flags)
    assert result.returncode == 2, result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    return line


@pytest.fixture(scope="module")
def predicted(run: Path) -> subprocess.CompletedProcess[str]:
    result = predict(run, "--questions=questions.csv", "--groups=groups.csv", "--output=out.csv")
    assert result.returncode == 0, result.stderr
    return result


def test_a_table_with_shares_and_intervals(run: Path, predicted: subprocess.CompletedProcess[str]) -> None:
    lines = read_lines(run.parent / "out.csv")
    assert len(lines) == 2 * 3 * 3  # questions, groups, options
    assert {line["group.country"] for line in lines} == {"Kenya", "Peru", "Iceland"}
    for first in range(0, len(lines), 3):
        cell = lines[first : first + 3]
        assert [line["option_number"] for line in cell] == ["1", "2", "3"]
        assert sum(float(line["share"]) for line in cell) == pytest.approx(1, abs=1e-6)
        assert all(float(line["low"]) <= float(line["share"]) <= float(line["high"]) for line in cell)
    assert lines[0]["kind"] == "new question"


def test_what_is_new_is_said(run: Path, predicted: subprocess.CompletedProcess[str]) -> None:
    assert "2 questions put to 3 groups: 6 predictions" in predicted.stdout
    assert "note: country = Iceland: no group of the training data has this value" in predicted.stdout
    page = (run.parent / "out.html").read_text(encoding="utf-8")
    assert "Is the bus on time, mostly?" in page
    assert "<script" not in page


def test_every_group_of_an_attribute_can_be_asked_and_the_page_explored(
    run: Path, predicted: subprocess.CompletedProcess[str]
) -> None:
    result = predict(run, "--questions=questions.csv", "--groups=country", "--output=all.parquet", "--explore")
    assert result.returncode == 0, result.stderr
    trained = len(GROUPS) - 1  # one is held out
    assert f"2 questions put to {trained} groups" in result.stdout
    assert "fitting weights" not in result.stdout  # they are there from the first time
    assert "<script" in (run.parent / "all.html").read_text(encoding="utf-8")


def test_human_answers_a_design_and_a_seal_that_is_scored_later(
    run: Path, predicted: subprocess.CompletedProcess[str]
) -> None:
    flags = ("--questions=questions.csv", "--groups=groups.csv")
    asked = {"survey": "Field", "question_id": "1", "question": "Is the bus on time, mostly?"}
    asked |= {"options": ["Yes", "No", "Not sure"]}
    answers = [asked | {"group": {"country": "Kenya"}, "counts": [90, 5, 5]}]
    write_rows(run.parent / "answers.jsonl", answers)
    result = predict(run, *flags, "--output=updated.csv", "--answers=answers.jsonl", "--design=300", "--seal")
    assert result.returncode == 0, result.stderr
    before, after = (
        list(csv.DictReader((run.parent / name).open(newline="", encoding="utf-8")))
        for name in ("out.csv", "updated.csv")
    )
    assert float(after[0]["worth_interviews"]) > float(before[0]["worth_interviews"]) + 99
    assert float(before[0]["share"]) < float(after[0]["share"]) <= 0.9
    assert "300" in result.stdout
    sealed = json.loads((run.parent / "updated.seal.json").read_text(encoding="utf-8"))
    assert sealed["sha256"] in result.stdout
    assert sealed["sha256"] in (run.parent / "updated.registration.txt").read_text(encoding="utf-8")

    others = [asked | {"group": {"country": "Peru"}, "counts": [50, 30, 20]}]
    write_rows(run.parent / "results.jsonl", answers + others)
    command = [sys.executable, "-m", "survey_jax.eval", "--sealed=updated.seal.json", "--data=results.jsonl"]
    scored = subprocess.run(command, capture_output=True, text=True, cwd=run.parent)
    assert scored.returncode == 0, scored.stderr
    found = json.loads((run.parent / "updated.scores.json").read_text(encoding="utf-8"))
    assert found["n"] == 2
    kenya = [float(line["share"]) for line in after[:3]]
    peru = [float(line["share"]) for line in after if line["group.country"] == "Peru"][:3]
    expected = (sum(abs(np.subtract(kenya, [0.9, 0.05, 0.05]))) + sum(abs(np.subtract(peru, [0.5, 0.3, 0.2])))) / 4
    assert found["scores"]["tv"]["value"] == pytest.approx(expected, abs=1e-6)

    changed = sealed | {"predictions": sealed["predictions"][1:]}
    (run.parent / "changed.seal.json").write_text(json.dumps(changed), encoding="utf-8")
    command[3] = "--sealed=changed.seal.json"
    refusal = subprocess.run(command, capture_output=True, text=True, cwd=run.parent)
    assert refusal.returncode == 2
    assert "changed.seal.json" in refusal.stderr


@pytest.mark.parametrize(
    ("questions", "groups", "output", "says"),
    [
        ("question,options\nIs it?,\n", PEOPLE, "o.csv", "row 2: options are missing"),
        ("question,options\nIs it?,Yes|\n", PEOPLE, "o.csv", "option 2 is"),
        ("question,option_1\nIs it?,Yes\n", PEOPLE, "o.csv", "needs at least two options, has 1"),
        ("question,options\nIs it?,Yes|No\nIs it?,Yes|No\n", PEOPLE, "o.csv", "the same question"),
        ("question,options\nIs it?," + "|".join(map(str, range(27))) + "\n", PEOPLE, "o.csv", "has 27 options"),
        ("question,options,counts\nIs it?,Yes|No,3|4\n", PEOPLE, "o.csv", "eval --data"),
        ("", PEOPLE, "o.csv", "is empty"),
        (QUESTIONS, "countri\nPeru\n", "o.csv", "did you mean country"),
        (QUESTIONS, "country\nPeru\nPeru\n", "o.csv", "the same group"),
        (QUESTIONS, PEOPLE, "o.xlsx", "o.xlsx"),
        ("question,options\n" + "Is it long? " * 60 + ",Yes|No\n", PEOPLE, "o.csv", "over the 512 of batch.seq_len"),
    ],
)
def test_bad_input_is_one_line(run: Path, tmp_path: Path, questions: str, groups: str, output: str, says: str) -> None:
    (tmp_path / "q.csv").write_text(questions)
    (tmp_path / "g.csv").write_text(groups)
    flags = (f"--questions={tmp_path}/q.csv", f"--groups={tmp_path}/g.csv", f"--output={tmp_path}/{output}")
    assert says in refused(run, *flags)
    assert not (tmp_path / output).exists()


def test_the_number_of_orders_has_a_limit(run: Path, tmp_path: Path) -> None:
    flags = ("--questions=questions.csv", "--groups=groups.csv", f"--output={tmp_path}/o.csv", "--orders=1000000000")
    result = predict(run, *flags)
    assert result.returncode == 2
    assert "--orders" in result.stderr.splitlines()[-1]
    assert "1000" in result.stderr.splitlines()[-1]


def test_human_answers_to_nothing_asked_are_refused_before_anything_is_predicted(run: Path, tmp_path: Path) -> None:
    strange = {"survey": "Field", "question_id": "9", "question": "Is it late?", "options": ["Yes", "No"]}
    table = write_rows(tmp_path / "a.jsonl", [strange | {"group": {"country": "Kenya"}, "counts": [9, 5]}])
    flags = ("--questions=questions.csv", "--groups=groups.csv", f"--output={tmp_path}/o.csv", f"--answers={table}")
    result = predict(run, *flags)
    assert result.returncode == 2
    assert "Field / 9 / country=Kenya" in result.stderr
    assert "likely misplaced" not in result.stdout


POPULATION = "country,people\nKenya,50\nPeru,30\nIceland,20\n"
INTERVIEWS = [
    {
        "survey": "Field",
        "question_id": "1",
        "question": "How much do you mind the rain?",
        "options": ["A lot", "A little", "Not at all"],
        "group": {"country": country},
        "counts": counts,
    }
    for country, counts in [("Kenya", [30, 15, 5]), ("Peru", [4, 16, 10]), ("Iceland", [5, 0, 15])]
]


def test_a_sample_of_everybody_gives_what_the_population_answers(
    run: Path, predicted: subprocess.CompletedProcess[str]
) -> None:
    (run.parent / "people.csv").write_text(POPULATION)
    write_rows(run.parent / "sample.jsonl", INTERVIEWS)
    flags = ("--questions=questions.csv", "--groups=people.csv", "--output=sampled.csv", "--rectify=sample.jsonl")
    result = predict(run, *flags)
    assert result.returncode == 0, result.stderr
    lines = read_lines(run.parent / "sampled.population.csv")
    assert [(line["question_id"], line["measure"]) for line in lines] == [("rain", "share")] * 3 + [("rain", "mean")]

    cells = [line for line in read_lines(run.parent / "sampled.csv") if line["question_id"] == "rain"]
    shares = np.array([float(line["share"]) for line in cells]).reshape(3, 3)  # groups, options
    counts = np.array([row["counts"] for row in INTERVIEWS])
    answered = np.concatenate([np.repeat(np.eye(3), c, axis=0) for c in counts])
    said = np.repeat(shares, counts.sum(1), axis=0)
    expected = rectified(said, answered, np.ones(100), np.array([0.5, 0.3, 0.2]) @ shares)
    for end in ("value", "low", "high"):
        assert [float(line[end]) for line in lines[:3]] == pytest.approx(getattr(expected, end).tolist(), abs=1e-6)
    assert f"100 interviews, as good as {expected.as_good_as:,.0f}" in result.stdout
    assert "sampled.population.csv" in result.stdout


@pytest.mark.parametrize(
    ("people", "more", "says"),
    [
        (PEOPLE, (), "does not say how many people each group stands for"),
        (POPULATION, ("--answers=sample.jsonl",), "the same answers are in --answers"),
        (POPULATION.replace("Iceland", "Norway"), (), "no prediction for Field / 1 / country=Iceland"),
    ],
)
def test_a_sample_that_proves_nothing_is_refused(
    run: Path, tmp_path: Path, people: str, more: tuple[str, ...], says: str
) -> None:
    (tmp_path / "g.csv").write_text(people)
    write_rows(run.parent / "sample.jsonl", INTERVIEWS)
    flags = ("--questions=questions.csv", f"--groups={tmp_path}/g.csv", f"--output={tmp_path}/o.csv")
    assert says in refused(run, *flags, "--rectify=sample.jsonl", *more)
    assert not (tmp_path / "o.csv").exists()


def test_a_sample_that_the_run_was_trained_on_is_refused(run: Path, tmp_path: Path) -> None:
    asked = [row for row in rows() if row["question_id"] == "q2" and row["group"]["country"] in ("Kenya", "Canada")]
    questions = [{key: asked[0][key] for key in ("question_id", "question", "options")}]
    write_rows(tmp_path / "q.jsonl", questions)
    write_rows(tmp_path / "s.jsonl", asked)
    (tmp_path / "g.csv").write_text("country,people\nKenya,1\nCanada,2\n")
    flags = (f"--questions={tmp_path}/q.jsonl", f"--groups={tmp_path}/g.csv", f"--output={tmp_path}/o.csv")
    assert "the same answers are in the run's tables" in refused(run, *flags, f"--rectify={tmp_path}/s.jsonl")


def test_questions_are_no_table_to_evaluate_on(run: Path, tmp_path: Path) -> None:
    table = write_rows(tmp_path / "t.jsonl", [{k: v for k, v in rows()[0].items() if k != "counts"}])
    result = subprocess.run(
        [sys.executable, "-m", "survey_jax.eval", f"--workdir={run}", f"--data={table}"], capture_output=True, text=True
    )
    assert result.returncode == 2
    assert "survey_jax.predict --questions" in result.stderr
