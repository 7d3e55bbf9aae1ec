"""Plans: they agree with what training takes, what cannot be is refused, and known models are what they are."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import pytest
from flax import nnx

import tiny
from places import ROOT
from published_models import PUBLISHED
from survey_jax.common.errors import UserError
from survey_jax.config import Config
from survey_jax.model.abstract import abstract_model
from survey_jax.model.flops import Flops
from survey_jax.planning.architectures import known_architectures, read_architecture
from survey_jax.planning.estimate import Plan, run_time, verdict
from survey_jax.planning.hlo_traffic import Traffic
from survey_jax.pretrained.families import decoder_config

SMALL = {
    "model_type": "llama",
    "vocab_size": 2048,
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-5,
}
BATCH = ("--config.batch.batch_size=8", "--config.batch.seq_len=384")


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", module, f"--config={ROOT / 'configs' / 'smollm2.py'}", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("model") / "config.json"
    file.write_text(json.dumps(SMALL))
    return file


@pytest.mark.parametrize("devices", [1, 8])
def test_planned_memory_is_what_a_step_takes(devices: int, small: Path) -> None:
    """Live arrays, and what the process grows by while a step runs."""
    done = run("benchmarks.plan_memory", f"--model={small}", f"--devices={devices}", *BATCH)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    print(f"{devices} devices: planned {result['planned'] / 1e6:.1f} MB, {result['ratio']:.3f} of what was measured")
    # With jax 0.12 the process grows by 13 % more than the arrays of eight virtual devices, with 0.10 by 7 %.
    assert result["ratio"] == pytest.approx(1, abs=0.15)


def test_a_plan_in_words_and_numbers(small: Path, tmp_path: Path) -> None:
    output = tmp_path / "plan.json"
    flags = ("--mesh=data:2,fsdp:2,tensor:2", "--chip=l4", f"--json={output}", "--explain_sharding", *BATCH)
    flags += ("--price=0.5", "--config.optim.steps=7200000")
    done = run("survey_jax.plan", f"--model={small}", *flags)
    assert done.returncode == 0, done.stderr
    for part in ("frozen parameters", "optimizer state", "sends: all-gather", "fits: ", "tokens/s", "blocks.q_lora_a"):
        assert part in done.stdout
    assert "; one device may be enough, as all hold " in done.stdout
    plans = json.loads(output.read_text())
    (made,) = plans["plans"]
    hours = [2000 * seconds for seconds in made["seconds_at_best"]]
    for per_hour, unit in ((1, "hours"), (8, "device-hours"), (8 * 0.5, "at 0.5 a device-hour")):
        low, high = (f"{per_hour * h:,.2f}" for h in hours)
        assert f"{low} to {high} {unit}" in done.stdout
    assert made["total"] == sum(made["memory"].values())
    c = read_architecture(str(small))
    whole = sum(p.size for p in jax.tree.leaves(nnx.state(abstract_model(c, 0, ()))))
    split = made["memory"]["frozen parameters"] / 4  # float32; in four, but for the norms
    assert whole / 4 < split < whole / 4 + 13 * 256
    assert made["warnings"] == 0


def test_epochs_of_a_table(small: Path, tmp_path: Path) -> None:
    """Eight groups answer each of 12 questions; with at most five answers to a question an epoch it has 60 of 96."""
    table = tiny.write_rows(tmp_path / "rows.jsonl", tiny.rows())
    flags = ("--mesh=data:1", f"--data={table}", "--config.optim.epochs=10", "--config.batch.answers_per_question=5")
    done = run("survey_jax.plan", f"--model={small}", *flags, "--config.batch.answers_per_seq=8", *BATCH)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "an epoch, at least" in line]
    assert line.startswith("60 answers an epoch, at least ")


def test_what_to_do_where_it_does_not_fit() -> None:
    nothing = Traffic({}, {})
    made = Plan({"all": 95}, 100, Flops(1.0, 1.0, 0.0), nothing, {"compute": 1.0}, 0, 3.0)
    assert not made.fits
    assert verdict(made, 2, searched=False).endswith("; --search tries other values of remat and microbatches")
    assert "--search" not in verdict(made, 2, searched=True)
    assert "one device" not in verdict(dataclasses.replace(made, memory={"all": 60}), 2, searched=False)


def test_the_run_in_hours() -> None:
    made = Plan(
        {}, 100, Flops(1.0, 1.0, 0.0), Traffic({}, {}), {"compute": 3.0, "memory": 1.0, "collectives": 1.5}, 0, 3.0
    )
    config = Config()
    of_steps = dataclasses.replace(config, optim=dataclasses.replace(config.optim, steps=2400))
    assert run_time(of_steps, made, 4, 2.0) == (
        "2,400 steps: at best 2.00 to 3.00 hours, 8.00 to 12.00 device-hours, 16.00 to 24.00 at 2 a device-hour"
    )
    of_epochs = dataclasses.replace(config, optim=dataclasses.replace(config.optim, epochs=2.0))
    assert run_time(of_epochs, made, 1, None) == (
        "1,000 steps: at best 0.83 to 1.25 hours, 0.83 to 1.25 device-hours; `train --dry_run` says how many steps an "
        "epoch has"
    )
    slots = config.batch.microbatches * config.batch.batch_size * config.batch.answers_per_seq
    answers = 600 * slots - 1
    assert run_time(of_epochs, made, 1, None, answers) == (
        f"{answers:,} answers an epoch, at least 1,200 steps: at best 1.00 to 1.50 hours, 1.00 to 1.50 device-hours; "
        "`train --dry_run` says how many steps an epoch has"
    )
    assert run_time(of_steps, made, 1, 2.0, answers) == run_time(of_steps, made, 1, 2.0)


def test_search_keeps_the_batch_and_finds_the_fastest_that_fits(small: Path, tmp_path: Path) -> None:
    output = tmp_path / "plan.json"
    done = run("survey_jax.plan", f"--model={small}", "--mesh=fsdp:4", "--search", f"--json={output}", *BATCH)
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    by_settings = {p["settings"]: p for p in result["plans"]}
    assert len(by_settings) == 6  # three kinds of remat; rows 8 x 1 and 4 x 2
    best = min((p for p in by_settings.values() if p["fits"]), key=lambda p: p["seconds_at_best"][1])
    assert best["settings"] == result["best"]
    none, full = (
        by_settings[f"--config.model.remat={r} --config.batch.batch_size=8 --config.batch.microbatches=1"]
        for r in ("none", "full")
    )
    assert full["total"] < none["total"]
    assert full["flops"]["recomputed"] > none["flops"]["recomputed"] > 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--mesh=data:1,fsdp:8", "--devices=4"), "does not cover the 4 devices"),
        (("--mesh=fsdp:-1",), "--devices: say how many, or give --mesh sizes without -1"),
        (("--mesh=expert:2", "--config.batch.batch_size=8"), "cannot split a model without experts"),
        (("--mesh=fsdp:16", "--config.batch.batch_size=8"), "must be a multiple of data x fsdp x expert = 16"),
        (("--mesh=fsdp:8", "--model=Llama-9-8B"), "neither a file nor a known model; did you mean Llama-3.1-8B"),
        (("--devices=1000000000",), "16384"),  # before memory is asked for a mesh of that size
        (("--mesh=data:1000000000",), "is not one of data, fsdp, tensor, expert and a number"),
        (("--mesh=data:99999",), "16,384"),
        (("--mesh=data:1", "--options=27"), "26"),
        (("--mesh=data:1", "--config.lora.rank=1000000"), "config.lora.rank"),
        (("--mesh=data:1", "--config.batch.batch_size=1000000000"), "config.batch.batch_size"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(flags: tuple[str, ...], message: str) -> None:
    done = run("survey_jax.plan", "--model=SmolLM2-135M", *flags)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line]
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize("entry", known_architectures(), ids=lambda entry: entry["ids"][0].split("/")[1])
def test_known_models_have_their_published_size(entry: dict[str, Any]) -> None:
    config, _ = decoder_config(entry["config"], entry["ids"][0])
    assert sum(p.size for p in jax.tree.leaves(nnx.state(abstract_model(config, 0, ())))) == entry["parameters"]
    for name in entry["ids"]:
        if published := PUBLISHED.get(name.split("/")[1]):
            of_file, _ = decoder_config(published[0], name)  # rotary embeddings have no shape
            assert dataclasses.replace(config, kinds=of_file.kinds) == of_file
        assert read_architecture(name.split("/")[1].upper()) == config


def test_the_models_of_every_config_are_known() -> None:
    import runpy

    for file in [*ROOT.glob("configs/*/*.py"), ROOT / "configs" / "gemma.py"]:
        config: Config = runpy.run_path(str(file))["get_config"]()
        assert read_architecture(config.model.weights).layers > 0


def test_a_model_that_is_not_known(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"neither a file nor a known model; known are .*Of any other, give the config\.json as --model"
    ):
        read_architecture("nobody/nothing-7b")
    with pytest.raises(UserError, match=r"config.json: cannot be read .No such file"):
        read_architecture(str(tmp_path))
