"""The main path on whatever Python and versions are installed: import, train, stop, resume, evaluate, export."""

import json
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest

import survey_jax
from survey_jax.__main__ import COMMANDS
from tiny import rows, write_config, write_model, write_rows


def run(command: str, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu"}
    words = [sys.executable, "-m", "survey_jax", command, *arguments]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""  # no library's warning reaches a user
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of eight steps that was started for four of them, and resumed."""
    folder = tmp_path_factory.mktemp("smoke")
    model, table = write_model(folder / "model"), write_rows(folder / "table.jsonl", rows())
    config = write_config(folder, model, table, run__eval_every="4", run__log_every="2")
    flags = [f"--config={config}", f"--workdir={folder / 'run'}"]
    run("train", *flags, "--config.optim.steps=4")
    assert "resumed at step 4" in run("train", *flags, "--config.optim.steps=8")
    return folder / "run"


def test_every_module_is_importable() -> None:
    """Commands apart: each defines flags of its own, so that a process can have but one."""
    names = {module.name for module in pkgutil.walk_packages(survey_jax.__path__, "survey_jax.")}
    assert len(names) > 100
    commands = {f"survey_jax.{command}" for command in COMMANDS}
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    subprocess.run([sys.executable, "-c", code, *sorted(names - commands)], check=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    shown = run(command, "--help")
    assert f"survey_jax.{command}" in shown or f"survey-jax {command}" in shown
    assert ("--config.optim.lr=0.0001\n        Peak learning rate" in shown) == (command in ("train", "eval", "plan"))


def test_a_resumed_run_logs_every_step(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [2, 4, 6, 8]
    assert [line["step"] for line in lines if "eval/valid/kl" in line] == [4, 8]


def test_a_dry_run_says_what_would_be_done_and_leaves_nothing(trained: Path, tmp_path: Path) -> None:
    folder = trained.parent
    before = sorted(folder.rglob("*"))
    config = f"--config={folder / 'tiny_config.py'}"
    out = run("train", config, "--config.batch.microbatches=2", f"--workdir={tmp_path / 'dry'}", "--dry_run")
    assert not list(tmp_path.iterdir())
    assert sorted(folder.rglob("*")) == before
    for split in ("train", "valid", "unseen_question", "unseen_group", "unseen_both"):
        count, tokens = re.search(
            rf"^{split}: (\d+) prompts?, (\d+) tokens in the mean, \d+ at most", out, re.M
        ).groups()
        assert re.search(rf"^{split} +{count} ", out, re.M)  # as the table of splits has it
        assert 100 < int(tokens) < 384
    assert out.count("had to select one of the options") == 5
    epoch = int(re.search(r"in (\d+) steps an epoch", out)[1])
    assert (
        f"a step: 2 x 2 sequences of 384 tokens; an epoch: {epoch} steps; in all 40 steps, {40 / epoch:.1f} epochs"
        in out
    )
    assert re.search(r"0\.\d\d GB of frozen parameters and 0\.\d\d GB for trained ones", out)
    assert "--config.batch.microbatches=2 --mesh=" in out
    plan = out.splitlines()[-2].partition("says: python -m survey_jax.")[2].split()
    assert "memory in all" in run(*plan, "--chip=l4")


def test_it_is_evaluated(trained: Path) -> None:
    assert "unseen_both" in run("eval", f"--workdir={trained}", "--name=smoke")
    metrics = json.loads((trained / "eval" / "smoke" / "metrics.json").read_text())["splits"]
    assert set(metrics) == {"valid", "unseen_question", "unseen_group", "unseen_both"}
    predictions = pyarrow.parquet.read_table(trained / "eval" / "smoke" / "predictions.parquet").to_pylist()
    assert all(abs(sum(row["prediction"]) - 1) < 1e-6 for row in predictions)


def test_it_is_exported(trained: Path, tmp_path: Path) -> None:
    run("export", f"--workdir={trained}", "--format=merged", f"--output={tmp_path / 'merged'}")
    assert {"config.json", "model.safetensors", "survey_jax.json"} <= {p.name for p in (tmp_path / "merged").iterdir()}
