"""Stopped at any moment, the same command ends as if nothing had happened: the real binary, killed for real."""

import gzip
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

import tiny
from processes import QUICK
from survey_jax.checkpointing.manager import METRIC, Checkpoints
from survey_jax.common.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:Sharding info not provided")  # final_state reads what is there
STEPS, EVERY = 40, 20
TEMPORARY = "orbax-checkpoint-tmp"


def start(config: Path, workdir: Path, *flags: str, devices: int = 1) -> subprocess.Popen[str]:
    environment = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} {QUICK}"}
    command = [sys.executable, "-m", "survey_jax.train", f"--config={config}", f"--workdir={workdir}", *flags]
    return subprocess.Popen(
        command, env=os.environ | environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finish(config: Path, workdir: Path, *flags: str, devices: int = 1) -> str:
    process = start(config, workdir, *flags, devices=devices)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return output


def kill_when(condition: Callable[[], bool], config: Path, workdir: Path) -> None:
    """Starts the run and kills it without warning at the first sight of `condition`."""
    process = start(config, workdir)
    while process.poll() is None and not condition():
        time.sleep(0.002)
    process.kill()
    output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, output


def lines(workdir: Path) -> list[dict[str, Any]]:
    """metrics.jsonl less what tells of the machine; a line that is being written does not count."""
    file = workdir / "metrics.jsonl"
    text = file.read_text() if file.is_file() else ""
    parsed = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [{k: v for k, v in line.items() if not tiny.is_timing(k)} for line in parsed]


def last_step(workdir: Path) -> int:
    return max((line["step"] for line in lines(workdir)), default=0)


def final_state(workdir: Path) -> list[np.ndarray]:
    """Trained parameters and optimizer state after the last step."""
    saved = ocp.load_checkpointables(workdir.resolve() / f"checkpoints/{STEPS}")
    assert set(saved) >= {"parameters", "optimizer"}
    return [np.asarray(x) for x in jax.tree.leaves((saved["parameters"], saved["optimizer"]))]


def assert_same_end(workdir: Path, whole: Path) -> None:
    assert lines(workdir) == lines(whole)
    ours, theirs = final_state(workdir), final_state(whole)
    assert len(ours) == len(theirs) > 3 * 14  # A and B of seven projections, with two moments each
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def write_config(directory: Path, **changes: str) -> Path:
    model = tiny.write_model(directory / "model")
    table = tiny.write_rows(directory / "rows.jsonl", tiny.rows())
    often = {"run__log_every": "1", "run__eval_every": str(EVERY), "batch__microbatches": "2"}
    return tiny.write_config(directory, model, table, **often, **changes)


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    return write_config(tmp_path_factory.mktemp("config"))


@pytest.fixture(scope="module")
def whole(config: Path) -> Path:
    """A run that never stopped."""
    workdir = config.parent / "whole"
    finish(config, workdir)
    return workdir


def kill_in_between(config: Path) -> Path:
    """A run killed between its first checkpoint and its second."""
    workdir = config.parent / "killed"
    kill_when(lambda: (workdir / f"checkpoints/{EVERY}").is_dir() and last_step(workdir) > EVERY, config, workdir)
    assert EVERY < last_step(workdir) < STEPS
    return workdir


@pytest.fixture(scope="module")
def killed(config: Path, whole: Path) -> Path:
    return kill_in_between(config)


def test_a_whole_run_logs_every_step_once(whole: Path) -> None:
    assert [line["step"] for line in lines(whole) if "loss" in line] == list(range(1, STEPS + 1))
    assert [line["step"] for line in lines(whole) if "eval/valid/kl" in line] == [EVERY, STEPS]


def test_the_same_seed_gives_the_same_bits(config: Path, whole: Path, tmp_path: Path) -> None:
    """Compiled anew, and with a profile taken on the way, which holds the steps that were asked for."""
    finish(config, tmp_path, "--config.run.cache=", "--config.run.profile=(3, 5)")
    assert_same_end(tmp_path, whole)
    [trace] = (tmp_path / "profile").glob("plugins/profile/*/*.trace.json.gz")
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    assert [int(event["args"]["step_num"]) for event in events if event.get("name") == "train"] == [3, 4, 5]


def test_killed_and_resumed(config: Path, whole: Path, killed: Path, tmp_path: Path) -> None:
    """With half a save and half a line lying about."""
    workdir = shutil.copytree(killed, tmp_path / "run")
    half = shutil.copytree(workdir / f"checkpoints/{EVERY}", workdir / f"checkpoints/{STEPS}.{TEMPORARY}")
    shutil.rmtree(half / "optimizer")
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 39, "loss": 0.')
    assert f"resumed at step {EVERY}" in finish(config, workdir)
    assert_same_end(workdir, whole)
    assert not half.exists()


def test_killed_and_resumed_where_predictions_start_from_rules(tmp_path: Path) -> None:
    changes = {"model__prior": "'rules'", "lora__dropout": "0.25", "data__known_answers": "1", "batch__seq_len": "512"}
    config = write_config(tmp_path, **changes)
    finish(config, tmp_path / "whole")
    killed = kill_in_between(config)
    assert f"resumed at step {EVERY}" in finish(config, killed)
    assert_same_end(killed, tmp_path / "whole")


def test_killed_while_saving(config: Path, whole: Path, tmp_path: Path) -> None:
    checkpoints = tmp_path / "checkpoints"
    kill_when(lambda: any(TEMPORARY in p.name for p in checkpoints.glob("*")), config, tmp_path)
    finish(config, tmp_path)
    assert_same_end(tmp_path, whole)


def test_ctrl_c_twice_ends_at_once_and_quietly(config: Path, tmp_path: Path) -> None:
    process = start(config, tmp_path, "--config.optim.steps=100000", "--config.run.eval_every=100000")
    assert process.stdout
    before = list(itertools.takewhile(lambda line: "step 2/" not in line, process.stdout))
    for _ in range(3):  # a nervous hand
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    output, _ = process.communicate()
    assert process.returncode == 130, "".join(before) + output
    said = [line for line in output.splitlines() if not line.startswith("step ")]
    assert said == [
        "will save and stop soon; Ctrl-C once more ends at once",
        "interrupted; what was saved is intact",
    ]
    assert not (tmp_path / "training.lock").exists()


def test_a_finished_run_stays_as_it_is(config: Path, whole: Path, tmp_path: Path) -> None:
    workdir = shutil.copytree(whole, tmp_path / "run")
    saved = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}
    assert "nothing to train" in finish(config, workdir)
    assert {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()} == saved


def test_resumed_on_another_mesh(config: Path, whole: Path, killed: Path, tmp_path: Path) -> None:
    """Saved on one device, continued on eight."""
    workdir = shutil.copytree(killed, tmp_path / "run")
    flags = ("--config.mesh.fsdp=2", "--config.mesh.tensor=4")
    assert f"resumed at step {EVERY}" in finish(config, workdir, *flags, devices=8)
    ours, theirs = ([line["loss"] for line in lines(w) if "loss" in line] for w in (workdir, whole))
    print(f"one device and eight: {max(abs(a / b - 1) for a, b in zip(ours, theirs, strict=True)):.1e}")
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert ours[EVERY:] != theirs[EVERY:], "the mesh made no difference at all: was there one?"


def test_resumed_before_a_damaged_checkpoint(config: Path, whole: Path, tmp_path: Path) -> None:
    """Of a finished run the last checkpoint is damaged: the same command makes it again."""
    workdir = shutil.copytree(whole, tmp_path / "run")
    (data,) = (workdir / f"checkpoints/{STEPS}/parameters/ocdbt.process_0/d").iterdir()
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    output = finish(config, workdir)
    assert f"warning: {workdir}/checkpoints/{STEPS}" in output
    assert f"resumed at step {EVERY}" in output
    assert_same_end(workdir, whole)


def test_a_loss_that_is_not_finite_is_not_saved(config: Path, tmp_path: Path) -> None:
    """The run ends at the step that breaks, also where an evaluation and a save are due right after it."""
    process = start(config, tmp_path, "--config.optim.lr=1e30", "--config.optim.warmup=0", "--config.run.eval_every=2")
    output, _ = process.communicate()
    assert process.returncode == 2, output
    last = output.splitlines()[-1]
    assert last.startswith("error: step 2: loss nan, gradient norm"), output
    assert "check these questions: " in last
    assert not list((tmp_path / "checkpoints").glob("*"))


def test_a_full_disk(config: Path, tmp_path: Path) -> None:
    """The second checkpoint does not fit; the first is intact, and once there is room the run goes on."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", tmp_path], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.strip()}")
    try:
        flags = ("--config.lora.rank=160", f"--config.optim.steps={STEPS}")
        process = start(config, tmp_path / "run", *flags)
        output, _ = process.communicate()
        assert process.returncode == 2, output
        last = output.splitlines()[-1]
        assert last.startswith(f"error: {tmp_path}/run/checkpoints/{STEPS}: cannot be saved: no space is left"), output
        assert f"the checkpoint of step {EVERY} is intact" in last
        assert "Traceback" not in output
        assert not (tmp_path / f"run/checkpoints/{STEPS}").exists()

        subprocess.run(["mount", "-o", "remount,size=50m", tmp_path], check=True)
        assert f"resumed at step {EVERY}" in finish(config, tmp_path / "run", *flags)
        assert {path.name for path in (tmp_path / "run/checkpoints").iterdir()} == {f"{EVERY}", f"{STEPS}"}
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def tiny_save(checkpoints: Checkpoints, step: int, kl: float) -> None:
    checkpoints.save(step, {"x": jnp.full(1000, step)}, {"m": jnp.zeros(3)}, {"data": "abc"}, {METRIC: kl})


def test_latest_and_best_are_kept(tmp_path: Path) -> None:
    """Saves that follow each other faster than the disk are all made."""
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step, kl in enumerate((3.0, 1.0, 2.0, 5.0, 4.0), start=1):
        tiny_save(checkpoints, step, kl)
    checkpoints.wait()
    assert {p.name for p in (tmp_path / "checkpoints").iterdir() if p.name.isdecimal()} == {"2", "4", "5"}

    reading = Checkpoints(tmp_path)
    assert {which: reading.step(which) for which in ("best", "last", "4")} == {"best": 2, "last": 5, "4": 4}
    assert reading.identity(2) == {"data": "abc"}
    assert reading.restore_parameters(2, {"x": jnp.zeros(1000, int)})["x"].tolist() == [2] * 1000
    with pytest.raises(UserError, match=r"--step=3: .* has best, last and 2, 4, 5"):
        reading.step("3")


def test_reading_leaves_a_save_under_way_alone(tmp_path: Path) -> None:
    """Evaluation beside training must not tidy up what training is writing."""
    training = Checkpoints(tmp_path, keep=2)
    tiny_save(training, 1, 1.0)
    training.wait()
    under_way = tmp_path / f"checkpoints/2.{TEMPORARY}"
    under_way.mkdir()
    Checkpoints(tmp_path).wait()
    assert under_way.is_dir()
