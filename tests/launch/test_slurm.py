"""launch/slurm.sbatch under a real Slurm: requeued, preempted, cancelled, refused."""

import contextlib
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

import slurm_cluster
import tiny
from places import ROOT
from slurm_cluster import SlurmCluster

SCRIPT = ROOT / "launch" / "slurm.sbatch"
STEPS = 16
NO_GPU = "--gres=none"

pytestmark = pytest.mark.skipif(
    bool(slurm_cluster.missing()), reason=f"Slurm is not installed: {', '.join(slurm_cluster.missing())}"
)

# Stands in for training: on SIGTERM it "saves" and ends with 75, one by one; resumed, it is done.
STUB = """#!/usr/bin/env bash
[ "$1" != -c ] || exit 0
echo "process $SLURM_PROCID of $SLURM_NTASKS, GPUs ${JAX_LOCAL_DEVICE_IDS:-by number}: $* ${HF_TOKEN:+has the token}"
[ "${SLURM_RESTART_COUNT:-0}" = 0 ] || exit 0
[ -z "${STUB:-}" ] || { [[ $* != *"${STUB#done}"* ]] || exit "${SAVED:-0}"; exit 0; }
trap 'trap - TERM; sleep 0.$SLURM_PROCID; exit 75' TERM
for i in $(seq 600); do sleep 0.1; done
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[SlurmCluster]:
    cluster = SlurmCluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def stub(tmp_path: Path) -> dict[str, str]:
    """An environment whose `python` is STUB."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(STUB)
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "tiny.py").touch()
    return {"PATH": f"{python.parent}:{os.environ['PATH']}"}


def wait_until(condition: Callable[[], bool], slurm: SlurmCluster, job: str, log: Path) -> None:
    """Waits for something that must happen while a job runs."""
    while not condition():
        assert slurm.state(job)["JobState"] in ("PENDING", "RUNNING"), log.read_text()
        time.sleep(0.05)


def losses(workdir: Path) -> dict[int, float]:
    """Step -> loss, as far as metrics.jsonl has whole lines."""
    file = workdir / "metrics.jsonl"
    written = file.read_text().splitlines(keepends=True) if file.is_file() else []
    lines = [json.loads(line) for line in written if line.endswith("\n")]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def final_state(workdir: Path) -> list[Any]:
    """Parameters and optimizer state after the last step, on the one device here."""
    path = workdir / "checkpoints" / str(STEPS)
    saved = ocp.checkpointables_metadata(path).metadata
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = jax.tree.map(
        lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=here),
        {name: saved[name] for name in ("parameters", "optimizer")},
    )
    return [np.asarray(x) for x in jax.tree.leaves(ocp.load_checkpointables(path, like))]


def test_requeued_in_mid_run_it_ends_with_the_same_bits(slurm: SlurmCluster, tmp_path: Path) -> None:
    """Two processes, as in a job that nobody disturbs."""
    model = tiny.write_model(tmp_path / "model")
    table = tiny.write_rows(tmp_path / "rows.jsonl", tiny.rows())
    changes = {"optim__steps": str(STEPS), "run__eval_every": "8", "run__log_every": "1"}
    config = tiny.write_config(tmp_path, model, table, **changes)

    def submit(name: str) -> str:
        options = ["--ntasks-per-node=2", "--cpus-per-task=1", NO_GPU, f"--output={tmp_path}/{name}.log"]
        return slurm.submit(
            *options,
            SCRIPT,
            config,
            f"--workdir={tmp_path / name}",
            PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            PYTHONPATH=str(ROOT),
            JAX_PLATFORMS="cpu",
        )

    requeued, log = submit("requeued"), tmp_path / "requeued.log"
    wait_until(lambda: len(losses(tmp_path / "requeued")) >= 2, slurm, requeued, log)
    slurm.requeue(requeued)
    whole = submit("whole")
    ends = {job: slurm.finished(job, 300) for job in (requeued, whole)}
    logs = {name: (tmp_path / f"{name}.log").read_text() for name in ("requeued", "whole")}
    assert {job: (end["JobState"], end["Restarts"]) for job, end in ends.items()} == {
        requeued: ("COMPLETED", "1"),
        whole: ("COMPLETED", "0"),
    }, logs["requeued"] + logs["whole"]

    assert "stopped as asked, after step" in logs["requeued"]
    assert "resumed at step" in logs["requeued"]
    assert "resumed" not in logs["whole"]
    assert "'fsdp': 2" in logs["whole"]
    assert list(losses(tmp_path / "requeued")) == list(range(1, STEPS + 1))
    assert losses(tmp_path / "requeued") == losses(tmp_path / "whole")
    ours, theirs = final_state(tmp_path / "requeued"), final_state(tmp_path / "whole")
    assert len(ours) == len(theirs) > 3 * 14  # A and B of seven projections, with two moments each
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def running(words: str) -> bool:
    """Whether any process on this machine has these words in its command line."""
    commands = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            commands.append(file.read_text(errors="replace"))
    return any(words in command for command in commands)


def test_preempted_or_its_node_lost_it_comes_back_and_cancelled_it_does_not(
    slurm: SlurmCluster, tmp_path: Path, stub
) -> None:
    """Processes that end one by one do not hide each other's exit code."""
    log = tmp_path / "log"

    def submit() -> str:
        log.unlink(missing_ok=True)
        job = slurm.submit(f"--output={log}", SCRIPT, tmp_path / "tiny.py", f"--workdir={tmp_path / 'run'}", **stub)
        wait_until(lambda: log.is_file() and log.read_text().count("process ") == 8, slurm, job, log)
        return job

    preempted = submit()
    urgent = slurm.submit("--partition=high", "--exclusive", f"--output={tmp_path}/urgent", "--wrap=true")
    assert slurm.finished(urgent)["JobState"] == "COMPLETED"
    end = slurm.finished(preempted)
    assert (end["JobState"], end["Restarts"]) == ("COMPLETED", "1"), log.read_text()
    assert f"job {preempted}: saved, queued again" in log.read_text()

    lost = submit()
    slurm.call("scontrol", "update", "NodeName=localhost", "State=DOWN", "Reason=lost")
    # A node that comes back with the job still on it is not used any more: "duplicate jobid".
    for _ in range(300):
        if not running(f"{tmp_path}/bin/python") and not running("slurm_script"):
            break
        time.sleep(0.1)
    slurm.call("scontrol", "update", "NodeName=localhost", "State=RESUME", check=False)  # it may be back already
    end = slurm.finished(lost)
    assert (end["JobState"], end["Restarts"]) == ("COMPLETED", "1"), log.read_text()

    cancelled = submit()
    slurm.call("scancel", cancelled)
    end = slurm.finished(cancelled)
    assert (end["JobState"], end["Restarts"]) == ("CANCELLED", "0"), log.read_text()
    assert not list((tmp_path / "run").iterdir()), "the file that proves the folder shared is gone"


def test_jobs_of_seeds_are_queued_again_one_by_one(slurm: SlurmCluster, tmp_path: Path, stub) -> None:
    """The last one of them has the number of all. The token reaches all, and is shown nowhere."""
    options = ["--array=3,5", "--ntasks-per-node=1", NO_GPU, f"--output={tmp_path}/%a.log"]
    command = [SCRIPT, tmp_path / "tiny.py", f"--workdir={tmp_path / 'runs'}"]
    job = slurm.submit(*options, *command, STUB="seed=5", SAVED="75", HF_TOKEN="hf_secretsecret", **stub)
    ends = {seed: slurm.finished(f"{job}_{seed}") for seed in ("3", "5")}
    logs = {seed: (tmp_path / f"{seed}.log").read_text() for seed in ends}
    assert {seed: (end["JobState"], end["Restarts"]) for seed, end in ends.items()} == {
        "3": ("COMPLETED", "0"),
        "5": ("COMPLETED", "1"),
    }, logs
    assert ends["5"]["JobId"] == job
    assert f"job {job}_5: saved, queued again" in logs["5"]
    for seed, log in logs.items():
        assert f"--config.run.seed={seed} --workdir={tmp_path}/runs/seed_{seed}" in log
        assert "has the token" in log
        assert "hf_secret" not in log + slurm.call("scontrol", "show", "job", "--details", f"{job}_{seed}")


def test_one_process_per_gpu_or_per_node(slurm: SlurmCluster, tmp_path: Path, stub) -> None:
    """jax takes one GPU a process under Slurm, unless it is told of all."""
    expected = {
        "--ntasks-per-node=8": ("process 7 of 8, GPUs by number: -m survey_jax.train", "--config.mesh.devices=8"),
        "--ntasks-per-node=1": ("process 0 of 1, GPUs 0,1,2,3,4,5,6,7: -m survey_jax.train", "--config.mesh.devices=8"),
    }
    jobs = {}
    for tasks in expected:
        options = [tasks, f"--output={tmp_path}/{tasks}.log"]
        jobs[tasks] = slurm.submit(*options, SCRIPT, tmp_path / "tiny.py", f"--workdir={tmp_path}", STUB="done", **stub)
    for tasks, job in jobs.items():
        end, log = slurm.finished(job), (tmp_path / f"{tasks}.log").read_text()
        assert end["JobState"] == "COMPLETED", log
        assert all(words in log for words in expected[tasks]), log


def test_refused_before_it_starts(slurm: SlurmCluster, tmp_path: Path, stub) -> None:
    """Each with one line and exit code 2."""
    config, bare = str(tmp_path / "tiny.py"), tmp_path / "bare" / "python"
    bare.parent.mkdir()
    bare.write_text("#!/bin/sh\nexit 1\n")
    bare.chmod(0o755)
    without = {"PATH": f"{bare.parent}:{os.environ['PATH']}"}
    one, two = ("--ntasks-per-node=1", NO_GPU), ("--ntasks-per-node=2",)
    per_task = ("--ntasks-per-node=2", NO_GPU, "--gpus-per-task=1")
    cases = [
        (one, "gone.py", stub, f"error: gone.py: no such config (seen from {ROOT})"),
        (one, "eval", stub, "error: eval: give --workdir=DIR"),
        (two, config, stub, "error: 2 processes and 8 GPUs per node; --ntasks-per-node must be 8 or 1"),
        (per_task, config, stub, "error: --gpus-per-task shows each process one GPU alone"),
        (one, config, without, f"{bare} has no survey_jax; activate its environment"),
    ]
    jobs = []
    for number, (options, what, environment, _) in enumerate(cases):
        where = (f"--output={tmp_path}/{number}.log", f"--chdir={ROOT}")
        flags = [] if what == "eval" else [f"--workdir={tmp_path / 'run'}"]
        jobs.append(slurm.submit(*options, "--cpus-per-task=1", *where, SCRIPT, what, *flags, **environment))
    for number, (job, (_, what, _, message)) in enumerate(zip(jobs, cases, strict=True)):
        end, log = slurm.finished(job), (tmp_path / f"{number}.log").read_text()
        assert (end["JobState"], end["ExitCode"]) == ("FAILED", "2:0"), f"{what}: {log}"
        assert message in log
        assert len([line for line in log.splitlines() if line.startswith("error: ")]) == 1, log
