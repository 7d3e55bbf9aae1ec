"""The README's lines on one's own data, as they are typed there, from a file of respondents to two trained runs.

What is added is short of time alone: a tiny model in place of the real one, and few steps.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyreadstat
import pytest

import tiny
from places import ROOT
from survey_jax.survey.table import read_table

SECTION = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Your own data\n")[2].partition("\n## ")[0]
COUNTRIES, TOPICS = ("Kenya", "Peru", "Japan"), [f"thing number {number}" for number in range(24)]


def commands() -> list[list[str]]:
    lines = re.sub(r"\\\n\s*", "", SECTION)
    return [shlex.split(line) for line in re.findall(r"^    python -m (survey_jax\..*)$", lines, re.MULTILINE)]


def write_file(file: Path) -> None:
    """900 respondents, with labels that are questions, so that nothing of the draft is to be edited."""
    rng, n = np.random.default_rng(0), 900
    people = pd.DataFrame(
        {"country": rng.integers(1, 4, n), "sex": rng.integers(1, 3, n), "age": rng.integers(18, 80, n)}
    )
    items = {f"q{i}": rng.choice([1, 2, 3, 9], n, p=[0.5, 0.3, 0.1, 0.1]) for i in range(len(TOPICS))}
    answers = {1: "Agree", 2: "Neither agree nor disagree", 3: "Disagree", 9: "Don't know"}
    countries, sexes = dict(enumerate(COUNTRIES, 1)), {1: "male", 2: "female"}
    pyreadstat.write_sav(
        people.assign(**items),
        file,
        column_labels=["country", "sex", "age", *(f"Do you agree that {topic} is good?" for topic in TOPICS)],
        variable_value_labels={"country": countries, "sex": sexes, **dict.fromkeys(items, answers)},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """After all commands."""
    folder = tmp_path_factory.mktemp("readme")
    write_file(folder / "survey.sav")
    model = tiny.write_model(folder / "model")
    short = [f"--config.model.weights={model}", f"--config.run.cache={tiny.CACHE}", "--config.optim.steps=2"]
    for module, *given in commands():
        more = [*short, "--config.run.eval_every=2"] if module == "survey_jax.train" else []
        command = [sys.executable, "-m", module, *given, *more]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return folder


def test_nothing_is_left_to_be_written(folder: Path) -> None:
    assert "TODO: " not in (folder / "survey.yaml").read_text(encoding="utf-8").partition("\nsurvey:")[2]


def test_the_table_is_what_pandas_counts(folder: Path) -> None:
    people, _ = pyreadstat.read_sav(folder / "survey.sav")
    rows = [row for row in read_table(folder / "survey.parquet") if dict(row.group).keys() == {"country"}]
    assert len(rows) == len(COUNTRIES) * len(TOPICS)
    for row in rows:
        own = people[people["country"] == COUNTRIES.index(dict(row.group)["country"]) + 1]
        counts = own[row.question_id].value_counts()
        assert row.counts is not None
        assert list(row.counts) == [counts[code] for code in (1, 2, 3)]
        assert row.question == f"Do you agree that thing number {row.question_id[1:]} is good?"


def test_the_newest_run_is_evaluated_and_the_second_holds_out_a_country(folder: Path) -> None:
    first, second = folder / "checkpoints" / "mine_survey.parquet", folder / "checkpoints" / "kenya"
    assert len(list(first.glob("eval/*/report.html"))) == 1
    held_out = (second / "splits.json").read_text(encoding="utf-8")
    assert '"unseen_group"' in held_out
    assert "Kenya" in held_out
