"""How long a training goes on: for so many steps or epochs, and no longer than it gets better."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import tiny


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("length")
    model, table = tiny.write_model(folder / "model"), tiny.write_rows(folder / "table.jsonl", tiny.rows())
    # At such a rate no evaluation is better than the first.
    tiny.write_config(folder, model, table, optim__steps="12", optim__lr="1e-30", run__eval_every="2")
    return folder


def train(world: Path, name: str, *flags: str) -> str:
    words = [sys.executable, "-m", "survey_jax.train", "--config=tiny_config.py", f"--workdir={name}", *flags]
    done = subprocess.run(words, cwd=world, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def evaluated(world: Path, name: str) -> list[int]:
    lines = map(json.loads, (world / name / "metrics.jsonl").read_text().splitlines())
    return [line["step"] for line in lines if "eval/valid/kl" in line]


def test_it_ends_when_evaluations_are_no_better_and_goes_on_with_more_patience(world: Path) -> None:
    said = train(world, "patient", "--config.optim.patience=2")
    assert "ends early: the best evaluation is that of step 2, 4 steps ago" in said
    assert evaluated(world, "patient") == [2, 4, 6]
    again = train(world, "patient", "--config.optim.patience=2")
    assert "nothing to train: the best evaluation is that of step 2" in again
    assert evaluated(world, "patient") == [2, 4, 6]
    train(world, "patient", "--config.optim.patience=3")
    assert evaluated(world, "patient") == [2, 4, 6, 8]


def test_epochs_in_place_of_steps(world: Path) -> None:
    said = train(world, "epochs", "--config.optim.epochs=1.5", "--config.optim.lr=1e-3")
    (line,) = (line for line in said.splitlines() if "steps an epoch" in line)
    steps = round(1.5 * int(line.split(" steps an epoch")[0].rsplit(" ", 1)[1]))
    assert f"1.5 epochs are {steps} steps" in said
    train(world, "steps", f"--config.optim.steps={steps}", "--config.optim.lr=1e-3")

    def last(name: str) -> dict[str, float]:
        lines = map(json.loads, (world / name / "metrics.jsonl").read_text().splitlines())
        return {key: value for key, value in list(lines)[-1].items() if not tiny.is_timing(key)}

    assert last("epochs") == last("steps")
    assert last("epochs")["step"] == steps


def test_several_seeds_are_trained_evaluated_and_compared(world: Path) -> None:
    flags = ("--config.optim.steps=2", "--config.optim.lr=1e-2")
    train(world, "seeds", "--seeds=2", *flags)
    assert "nothing to train" in train(world, "seeds", "--seeds=2", *flags)
    words = [sys.executable, "-m", "survey_jax.eval", "--workdir=seeds", "--controls="]
    done = subprocess.run(words, cwd=world, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((world / "seeds/eval/seeds/seeds.json").read_text())
    for name, split in found["splits"].items():
        for seed in ("0", "1"):
            own = json.loads((world / f"seeds/seed_{seed}/eval/step_2/metrics.json").read_text())["splits"][name]
            own = own["stack"]["stack"] if "stack" in own else own["model"]
            assert split["values"][seed] == pytest.approx(100 * own["tv"]["value"])
    assert found["splits"]["unseen_question"]["spread"] >= 0
    page = (world / "seeds/eval/seeds/report.html").read_text()
    assert 'href="../../seed_1/eval/step_2/report.html"' in page
    one = [sys.executable, "-m", "survey_jax.export", "--workdir=seeds", "--format=peft", "--output=out"]
    refused = subprocess.run(one, cwd=world, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "holds runs of 2 seeds; name one of them, such as seeds/seed_0" in refused.stderr
    words[2:] = ["survey_jax.train", "--config=tiny_config.py", "--workdir=seeds", *flags]
    alone = subprocess.run(words, cwd=world, capture_output=True, text=True, check=False)
    assert alone.returncode == 2
    assert "holds runs of several seeds" in alone.stderr
