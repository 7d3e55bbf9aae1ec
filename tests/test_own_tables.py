"""Own tables with the configs of the project: what is held out, and errors that say which setting of which file."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import tiny
from places import ROOT
from survey_jax.config import Config
from survey_jax.inputs.task import make_splits, read_answers

OWN = ("gemma", "smollm2", "mine")
COMMAND = """
from survey_jax import cli
from survey_jax.inputs.task import make_splits, read_answers

def main():
    config = cli.read_config(flag)
    make_splits(read_answers(config), config)

flag = cli.define_config(required=True)
cli.run(main)
"""  # what training does with its config, up to the splits


def config(name: str, *tables: Path) -> Config:
    found = runpy.run_path(str(ROOT / "configs" / f"{name}.py"))["get_config"](",".join(map(str, tables)))
    assert isinstance(found, Config)
    return found


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tiny.write_rows(tmp_path / "own.jsonl", tiny.rows())


@pytest.mark.parametrize("name", OWN)
def test_a_config_splits_a_table_that_has_none_of_its_names(name: str, table: Path) -> None:
    made = config(name, table)
    assert made.data.tables == (str(table),)
    splits = make_splits(read_answers(made), made)
    assert list(splits.rows) == ["train", "valid", "unseen_question"]


@pytest.mark.parametrize("name", ["gemma", "smollm2"])
def test_without_a_table_it_is_the_demo_s_with_groups_and_a_survey_held_out(name: str) -> None:
    made = runpy.run_path(str(ROOT / "configs" / f"{name}.py"))["get_config"]()
    assert made.data.tables == ("demo",)
    assert made.data.splits.unseen_groups == {"age": ("65 or older",)}
    assert len(made.data.splits.unseen_surveys) == 1


CONFIG, LINE = "comes from configs/gemma.py", "is given on the command line"
NOTHING = ["unseen_surveys=()", "unseen_groups={}"]
TOLD = [  # settings that are given, the one that is wrong, its value, what is not known, and where it comes from
    ([], "unseen_surveys", "('European Social Survey',)", "survey 'European Social Survey'", CONFIG),
    (NOTHING[:1], "unseen_groups", "{'age': ('65 or older',)}", "group attribute 'age'", CONFIG),
    ([*NOTHING, "unseen_questions=('z',)"], "unseen_questions", "('z',)", "question id 'z'", LINE),
]


@pytest.mark.parametrize(("given", "setting", "value", "unknown", "origin"), TOLD)
def test_a_name_that_the_table_does_not_have_is_told_with_its_setting_its_file_and_the_table(
    given: list[str], setting: str, value: str, unknown: str, origin: str, table: Path
) -> None:
    flags = ["--config=configs/gemma.py", f"--config.data.tables=('{table}',)"]
    words = [sys.executable, "-c", COMMAND, *flags, *(f"--config.data.splits.{s}" for s in given)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    message = done.stderr
    name = f"config.data.splits.{setting}"
    assert message.startswith(f"error: {name} is {value}, for the tables {table}: unknown {unknown}; available: ")
    assert f". It {origin}" in message
    assert f"--{name}" in message
    assert message.count("\n") == 1
