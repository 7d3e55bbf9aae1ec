"""A run whose predictions start from rules (`model.prior`), by the real binaries."""

import json
from pathlib import Path

import pytest

import tiny
from binaries import check_predicts, run


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that has learnt next to nothing: its model is the rules'."""
    folder = tmp_path_factory.mktemp("prior")
    model, table = tiny.write_model(folder / "model"), tiny.write_rows(folder / "table.jsonl", tiny.rows())
    changes = {"model__prior": "'rules'", "lora__dropout": "0.25", "optim__lr": "1e-12", "batch__seq_len": "512"}
    tiny.write_config(folder, model, table, optim__steps="2", run__eval_every="2", **changes)
    done = run(folder, "train", "--config=tiny_config.py", "--workdir=run")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_an_untrained_run_predicts_what_the_rules_do(world: Path) -> None:
    done = run(world, "eval", "--workdir=run", "--name=all")
    assert done.returncode == 0, done.stdout + done.stderr
    splits = json.loads((world / "run" / "eval" / "all" / "metrics.json").read_text())["splits"]
    for name, split in splits.items():
        model, rules = split["baselines"]["uncalibrated"], split["stack"]["rules_pooled"]
        for metric in ("kl", "tv"):
            assert model[metric]["value"] == pytest.approx(rules[metric]["value"], rel=1e-4), name
        zero_shot = split["baselines"]["zero_shot"]["kl"]["value"]  # the base model has no rules
        assert zero_shot != pytest.approx(rules["kl"]["value"], rel=1e-3)


def test_it_predicts_new_questions(world: Path) -> None:
    check_predicts(world, "Is the bus on time?", len(tiny.GROUPS) - 1)


def test_an_export_that_cannot_hold_the_rules_is_refused(world: Path) -> None:
    done = run(world, "export", "--workdir=run", "--format=merged", "--output=exported")
    assert done.returncode == 2
    assert "start from rules" in done.stderr
    assert not (world / "exported").exists()
