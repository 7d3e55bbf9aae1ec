"""What docs/data.md shows of a user's own file is what the command does."""

import json
import textwrap
from pathlib import Path

import pytest

from command import Prepare
from places import ROOT
from survey_jax.sources.microdata import codebook
from survey_jax.survey.table import read_table

PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")


def block(start: str) -> str:
    """The indented block that begins with these words."""
    lines = PAGE[PAGE.index(f"\n    {start}") + 1 :].splitlines()
    end = next(i for i, line in enumerate(lines) if line and not line.startswith("    "))
    return textwrap.dedent("\n".join(lines[:end])).strip() + "\n"


@pytest.fixture
def command(capfd, monkeypatch, tmp_path) -> Prepare:
    """In a folder with the page's file."""
    monkeypatch.chdir(tmp_path)
    exec(block("import numpy as np, pandas as pd"), {})
    return Prepare(capfd, monkeypatch)


def test_the_worked_example(command):
    assert Path("panel.csv").read_text().startswith(block("id,country,gender,age,q1,q2,weight"))
    draft = block("$ python -m survey_jax.prepare --input=panel.csv --draft").splitlines()
    assert command(input="panel.csv", draft_codebook="panel.yaml")[1].splitlines() == draft[1:]
    book = block("survey: City panel 2024")
    Path("panel.yaml").write_text(book)
    files = {"source": "microdata", "input": "panel.csv", "codebook": "panel.yaml", "output": "panel.parquet"}
    count = block("$ python -m survey_jax.prepare --source=microdata --input=panel.csv").splitlines()
    assert count[0].split()[4:] == [f"--{name}={value}" for name, value in files.items()]
    assert command(**files)[1].splitlines() == count[1:]

    look = block(
        "$ python -m survey_jax.prepare --source=microdata --input=panel.csv --codebook=panel.yaml --breakdowns"
    )
    flags = dict(word.removeprefix("--").split("=") for word in look.splitlines()[0].split()[4:])
    bars = command(**flags)[1].splitlines()
    start = look.splitlines()[1:]
    assert [line.rstrip() for line in bars] == start

    shown, first = json.loads(block('{"survey": "City panel 2024"')), read_table("panel.parquet")[0]
    assert (first.question, list(first.options)) == (shown["question"], shown["options"])
    assert (dict(first.group), first.n) == (shown["group"], shown["n"])
    assert first.counts == pytest.approx(shown["counts"], abs=5e-4)
    assert first.probs == pytest.approx(shown["probs"], abs=5e-4)
    assert first.n_effective == pytest.approx(shown["n_effective"], abs=0.05)
    assert first.extra["item_nonresponse"] == pytest.approx(shown["item_nonresponse"], abs=5e-4)

    Path("panel.yaml").write_text(book.replace("missing: [9, ", "missing: [8, "))
    code, _, error = command(**files)
    assert code == 2
    assert error.split() == block("error: panel.yaml line").split()


def test_groups_are_called_as_the_page_says(command):
    start = PAGE.index("```yaml\nattributes:\n  country: {value: Mexico}") + len("```yaml\n")
    book = "survey: Households\nmin_n: 1\n" + PAGE[start : PAGE.index("```", start)]
    Path("book.yaml").write_text(book + "questions:\n  q:\n    text: Fair?\n    options: {1: Fair, 2: Unfair}\n")
    Path("homes.csv").write_text("hv270,q\n" + "".join(f"{1 + i % 5},{1 + i % 2}\n" for i in range(20)))
    code, out, _ = command(source="microdata", input="homes.csv", codebook="book.yaml", output="homes.parquet")
    assert code == 0
    words = "someone from Mexico, whose wealth is poorest fifth"
    assert words in PAGE
    assert f"  country+wealth (5 groups): {words}\n" in out


def test_the_codebook_of_the_page_has_every_key_and_is_one(tmp_path):
    start = PAGE.index("```yaml\nsurvey: City panel ") + len("```yaml\n")
    (tmp_path / "book.yaml").write_text(PAGE[start : PAGE.index("```", start)], encoding="utf-8")
    read = codebook.read_yaml(tmp_path / "book.yaml")
    assert set(read) == set(codebook._TOP)
    assert {key for entry in read["questions"].values() for key in entry} == set(codebook._QUESTION)
    entries = [entry for entry in read["attributes"].values() if isinstance(entry, dict)]
    assert {key for entry in entries for key in entry} == set(codebook._ATTRIBUTE)
    assert codebook.read_codebook(tmp_path / "book.yaml").breakdowns == (("country", "sex"), ("country", "age", "sex"))
