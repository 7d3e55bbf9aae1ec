"""A run whose prompts tell what groups have answered (`data.known_answers`), by the real binaries."""

import json
from pathlib import Path

import pytest

import tiny
from binaries import check_predicts, run

THINGS = ("tea", "war", "the bus", "grandparents", "prison", "oil", "a king", "snow", "unions", "dogs", "debt", "poems")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("known")
    rows = tiny.rows(len(THINGS))
    for row in rows:
        row["question"] = f"Do you like {THINGS[int(row['question_id'][1:])]}?"
    model, table = tiny.write_model(folder / "model"), tiny.write_rows(folder / "table.jsonl", rows)
    changes = {"data__known_answers": "2", "batch__seq_len": "512"}
    tiny.write_config(folder, model, table, optim__steps="2", run__eval_every="2", **changes)
    done = run(folder, "train", "--config=tiny_config.py", "--workdir=run")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_trained_and_evaluated_prompts_tell_them_and_the_base_model_is_asked_without(world: Path) -> None:
    done = run(world, "eval", "--workdir=run", "--name=all", "--controls=no_group")
    assert done.returncode == 0, done.stdout + done.stderr
    splits = json.loads((world / "run" / "eval" / "all" / "metrics.json").read_text())["splits"]
    assert splits["unseen_question"]["baselines"].keys() >= {"no_group", "zero_shot"}
    done = run(world, "eval", "--workdir=run", "--name=base", "--zero_shot", "--controls=")
    assert done.returncode == 0, done.stdout + done.stderr
    base = json.loads((world / "run" / "eval" / "base" / "metrics.json").read_text())["splits"]
    assert base.keys() == splits.keys()
    cards = {
        name: (world / "run" / "eval" / name / "report.html").read_text(encoding="utf-8") for name in ("all", "base")
    }
    assert "Other answers of someone" in cards["all"]  # the example of a prompt
    assert "Other answers of someone" not in cards["base"]


def test_it_predicts_new_questions(world: Path) -> None:
    check_predicts(world, "Do you like trains?", len(tiny.GROUPS) - 1)


def test_an_export_that_cannot_hold_the_answers_is_refused(world: Path) -> None:
    done = run(world, "export", "--workdir=run", "--format=merged", "--output=exported")
    assert done.returncode == 2
    assert "config.data.known_answers" in done.stderr
    assert not (world / "exported").exists()
