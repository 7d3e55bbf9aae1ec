"""Two processes, each with devices of its own: they end together, whatever ends one, and do what one process does."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

import tiny
from benchmarks.chaos import PATIENCE, final_state, same_bits, tiny_config
from benchmarks.two_trainings import compete
from processes import printed, start

RESUMABLE = 75


def until(condition: Callable[[], bool], processes: list[subprocess.Popen[bytes]]) -> None:
    """Waits for a sight of something while the processes run."""
    while not condition():
        assert all(process.poll() is None for process in processes), "ended too early"
        time.sleep(0.05)


def codes(processes: list[subprocess.Popen[bytes]], seconds: float = PATIENCE) -> list[int]:
    """Exit codes; all must end within so many seconds of each other."""
    try:
        return [process.wait(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    return tiny_config(tmp_path_factory.mktemp("config"), steps=20)


def train(config: Path, workdir: Path, *flags: str, **options) -> list[subprocess.Popen[bytes]]:
    return start("survey_jax.train", [f"--config={config}", f"--workdir={workdir}", *flags], log(workdir), **options)


def evaluate(workdir: Path, name: str, *flags: str, **options) -> list[subprocess.Popen[bytes]]:
    return start("survey_jax.eval", [f"--workdir={workdir}", f"--name={name}", *flags], log(workdir), **options)


def log(workdir: Path) -> Path:
    return workdir.with_suffix(".log")


@pytest.fixture(scope="module")
def whole(config: Path) -> Path:
    """A run of two processes that nobody disturbed."""
    workdir = config.parent / "whole"
    assert codes(train(config, workdir, processes=2), seconds=600) == [0, 0], printed(log(workdir))
    return workdir


def test_only_the_first_writes(whole: Path) -> None:
    steps = [json.loads(line)["step"] for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)
    assert len(list((whole / "tensorboard").iterdir())) == 1
    assert "loss" not in printed(log(whole), 1)
    manifest = json.loads((whole / "manifest.json").read_text())
    assert [(s["processes"], s["device"]["count"]) for s in manifest["starts"]] == [(2, 2)]


def test_bad_input_of_one_ends_all(config: Path, tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    missing = f"--config.data.tables=('{tmp_path}/nowhere.jsonl',)"
    assert codes(train(config, workdir, processes=2, only=[missing]), seconds=300) == [2, 2]
    for number in (0, 1):
        errors = [line for line in printed(log(workdir), number).splitlines() if line.startswith("error: ")]
        assert errors == [f"error: process 1: {tmp_path}/nowhere.jsonl: no such file"]
    assert not (workdir / "checkpoints").exists()


@pytest.mark.parametrize("flag", ["--config.optim.lr=0.02", "--config.optim.steps=25", "--config.model.remat=full"])
def test_other_settings_of_one_end_all(config: Path, tmp_path: Path, flag: str) -> None:
    """Each trains, but not the same."""
    workdir = tmp_path / "run"
    assert codes(train(config, workdir, processes=2, only=[flag]), seconds=300) == [2, 2]
    setting = flag[2:].split("=")[0]
    assert f"processes 0 and 1 have another {setting} (" in printed(log(workdir))


def test_bad_flags_of_one_end_all(config: Path, tmp_path: Path) -> None:
    """It cannot even start, but the others need not wait for it."""
    workdir = tmp_path / "run"
    assert codes(train(config, workdir, processes=2, only=["--config.optim.rate=1"]), seconds=60) == [2, 2]
    assert "error: process 1: --config.optim.rate: no such setting" in printed(log(workdir))


def test_other_input_of_one_ends_all(config: Path, tmp_path: Path) -> None:
    """Each is good input, but they are not the same."""
    table = tiny.write_rows(tmp_path / "rows.jsonl", tiny.rows(seed=1))
    workdir = tmp_path / "run"
    processes = train(config, workdir, processes=2, only=[f"--config.data.tables=('{table}',)"])
    assert codes(processes, seconds=300) == [2, 2]
    assert "processes 0 and 1 have another training set" in printed(log(workdir))


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_one_ends_all(config: Path, tmp_path: Path, victim: int) -> None:
    workdir = tmp_path / "run"
    processes = train(config, workdir, "--config.run.eval_every=1000", processes=2)  # no save, which would fail first
    until(lambda: "step 4/" in printed(log(workdir)), processes)
    processes[victim].kill()
    began = time.monotonic()
    found = codes(processes)
    print(f"process {1 - victim} ended {time.monotonic() - began:.1f} s after process {victim} was killed")
    assert found[victim] == -signal.SIGKILL
    assert found[1 - victim] not in (0, 2, RESUMABLE), printed(log(workdir), 1 - victim)
    said = f"error: process {1 - victim}: process {victim} is gone: it was killed, or its machine is lost. "
    assert said in printed(log(workdir), 1 - victim)
    assert "Traceback" not in printed(log(workdir), 1 - victim)


def test_asked_to_stop(config: Path, whole: Path, tmp_path: Path) -> None:
    """One of two gets SIGTERM; both save the same step. Resumed, they end as if nothing had happened."""
    workdir = tmp_path / "run"
    processes = train(config, workdir, processes=2)
    until(lambda: "step 4/" in printed(log(workdir)), processes)
    processes[1].terminate()
    assert codes(processes) == [RESUMABLE, RESUMABLE]
    (said,) = re.findall(r"stopped as asked, after step (\d+)", printed(log(workdir)))
    assert (workdir / f"checkpoints/{said}-interim").is_dir()
    assert codes(train(config, workdir, processes=2), seconds=600) == [0, 0]
    assert f"resumed at step {said}" in printed(log(workdir))
    assert same_bits(final_state(workdir), final_state(whole))


def test_too_few_devices(config: Path, tmp_path: Path) -> None:
    """As when a scheduler gives each process one device of several."""
    workdir = tmp_path / "run"
    assert codes(train(config, workdir, "--config.mesh.devices=8", processes=2), seconds=300) == [2, 2]
    assert "config.mesh.devices = 8, and there are 2: processes 0 to 1 see 1 cpu each" in printed(log(workdir))


def test_evaluation_of_two_equals_that_of_one(whole: Path) -> None:
    """Saved by two processes, evaluated by two and by one; eight rows a batch, and a tail that does not fill them."""
    settings = json.loads((whole / "config.json").read_text())
    settings["mesh"] |= {"fsdp": 2, "devices": 2}  # what two processes have; one makes do with what it has
    (whole / "config.json").write_text(json.dumps(settings))
    for name, count in (("two", 2), ("one", 1)):
        assert codes(evaluate(whole, name, processes=count), seconds=600) == [0] * count, printed(log(whole))
    assert "the run's mesh does not cover the 1 device here" in printed(log(whole))
    one, two = (pyarrow.parquet.read_table(whole / f"eval/{name}/predictions.parquet") for name in ("one", "two"))
    assert one.num_rows == two.num_rows > 30
    ours, theirs = (np.concatenate(table["prediction"].to_pylist()) for table in (two, one))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert one.drop_columns([c for c in one.column_names if one[c].type == "double" or c == "prediction"]).equals(
        two.drop_columns([c for c in two.column_names if two[c].type == "double" or c == "prediction"])
    )
    values = [json.loads((whole / f"eval/{name}/metrics.json").read_text()) for name in ("one", "two")]
    assert _numbers(values[1]) == pytest.approx(_numbers(values[0]), rel=1e-4, abs=1e-5)


def test_evaluation_is_taken_up_where_it_was_stopped(whole: Path, tmp_path: Path) -> None:
    """What was predicted is not predicted again."""
    workdir = shutil.copytree(whole, tmp_path / "run", ignore=shutil.ignore_patterns("eval"))
    processes = evaluate(workdir, "stopped")
    until(lambda: "model: valid done" in printed(log(workdir)), processes)
    processes[0].terminate()
    assert codes(processes) == [RESUMABLE]
    assert not (workdir / "eval/stopped/metrics.json").exists()
    for kept in (workdir / "eval/.predictions").iterdir():
        with np.load(kept) as first:
            batches, result = int(first["batches"]), first["predictions"]
        exists = result > 0
        uniform = exists / np.maximum(exists.sum(axis=1, keepdims=True), 1)
        np.savez(kept, batches=batches, predictions=uniform)  # a mark: is it used?
    assert codes(evaluate(workdir, "stopped"), seconds=600) == [0]
    shutil.rmtree(workdir / "eval/.predictions")
    assert codes(evaluate(workdir, "again"), seconds=600) == [0]
    stopped, again = (
        json.loads((workdir / f"eval/{name}/metrics.json").read_text())["splits"]["valid"]["raw"]
        for name in ("stopped", "again")
    )
    assert stopped["model"]["kl"]["value"] == pytest.approx(stopped["uniform"]["kl"]["value"])
    assert again["model"]["kl"]["value"] != pytest.approx(again["uniform"]["kl"]["value"])


def test_found_by_what_open_mpi_tells(tmp_path: Path) -> None:
    """Its variables, without it."""
    script = tmp_path / "join.py"
    script.write_text(
        "import sys, jax\nfrom absl import flags\nfrom survey_jax.parallel import distributed\nflags.FLAGS(sys.argv)\n"
        "distributed.start()\nprint('joined', jax.process_index(), jax.process_count(), jax.device_count())\n"
    )
    told = {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://127.0.0.1:34911", "OMPI_COMM_WORLD_SIZE": "2"}
    processes = []
    for rank in ("0", "1"):
        own = {"OMPI_COMM_WORLD_RANK": rank, "OMPI_COMM_WORLD_LOCAL_RANK": rank, "JAX_PLATFORMS": "cpu"}
        environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | told | own
        processes.append(subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True))
    printed = [process.communicate(timeout=100)[0] for process in processes]
    assert [line for text in printed for line in text.splitlines() if line.startswith("joined")] == [
        "joined 0 2 2",
        "joined 1 2 2",
    ]


def test_two_trainings_in_one_folder(tmp_path: Path) -> None:
    """The short form of benchmarks/two_trainings.py: one pair in a new folder, one in that of a killed training."""
    assert [(result["wrong"], result["same"]) for result in compete(tmp_path, pairs=2, steps=20)] == [("", True)] * 2


def _numbers(value: object) -> list[float]:
    if isinstance(value, dict):
        return [number for key in sorted(value) for number in _numbers(value[key])]
    if isinstance(value, list):
        return [number for part in value for number in _numbers(part)]
    return [float(value)] if isinstance(value, int | float) else []
