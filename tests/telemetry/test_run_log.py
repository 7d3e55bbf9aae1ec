"""What a run writes while it trains, by a clock that the test sets."""

import json
import sys
import types
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from etils import epath

from made_prompts import random_prompts
from object_store import ObjectStore, object_store  # noqa: F401  # a fixture
from survey_jax.common.errors import UserError
from survey_jax.config import Config, OptimConfig, RunConfig
from survey_jax.inputs.batches import Batches
from survey_jax.inputs.trees import BatchShape
from survey_jax.telemetry import clock, metric_writers, run_log
from survey_jax.telemetry.clock import CHECKPOINT, COMPUTE, DATA, EVALUATION, Clock
from survey_jax.telemetry.metric_writers import check_metric_writers
from survey_jax.telemetry.run_log import Lines, RunLog, memory
from survey_jax.training.step import counts
from tiny import is_timing

SCORES = {"kl": 0.5, "kl_by_question": 0.25, "paper_1_minus_jsd": 0.75, "temperature": 2.0}


SAVED: dict[tuple[str, int], list[dict[str, float]]] = {}  # workdir and step -> what a checkpoint holds of the log


class Time:
    """Time that passes when the test says so."""

    def __init__(self, patch: pytest.MonkeyPatch):
        self.now = 1000.0
        patch.setattr(clock, "time", types.SimpleNamespace(monotonic=lambda: self.now))
        self.restart()

    def restart(self) -> None:
        """A new process."""
        clock.STARTED = self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    monkeypatch.setattr(clock, "STARTED", 0.0)
    return Time(monkeypatch)


def config(steps: int = 8, wandb: str = "") -> Config:
    return Config(optim=OptimConfig(steps=steps), run=RunConfig(wandb=wandb))


def train(
    time: Time,
    workdir: Any,
    start: int,
    stop: int,
    killed: str = "",
    peak: float | None = None,
    run_id: str = "abc",
    wandb: str = "",
) -> None:
    """A process that trains to step `stop` of 8.

    10 s of start-up; steps of 2 s with a wait of 0.5 s before each; a line every 2 steps; an evaluation of 3 s and a
    checkpoint of 1 s every 4.
    """
    if isinstance(workdir, Path):
        workdir.mkdir(exist_ok=True)
    time.restart()
    ticks = Clock()
    time.passes(10)
    log = RunLog(
        workdir,
        config(wandb=wandb),
        run_id,
        start,
        ticks,
        evaluated=True,
        collected=SAVED.get((str(workdir), start), ()),
        flops=6e6,
        peak=peak,
    )

    def wait():
        for step in range(start + 1, stop + 1):
            time.passes(0.5)
            yield step

    for step in ticks.each(DATA, wait()):
        with ticks.of(COMPUTE):
            time.passes(2)
        measured = {"loss": 1 / step, "grad_norm": 1.0, "lr": 0.1}
        log.step(step, measured | {"answers": 6, "tokens": 100, "prompt_tokens": 300})
        if step % 2 == 0:
            log.flush()
        if step % 4 == 0:
            with ticks.of(EVALUATION):
                time.passes(3)
            log.evaluation(step, "valid", SCORES)
            log.sync()
            SAVED[str(workdir), step] = list(log.collected)
            with ticks.of(CHECKPOINT):
                time.passes(1)
    if killed != "before saving":
        log.sync()
        SAVED[str(workdir), stop] = list(log.collected)
    if not killed:
        log.close()


def read(workdir: Any) -> list[dict[str, float]]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def without_timing(workdir: Any) -> list[dict[str, float]]:
    return [{name: value for name, value in line.items() if not is_timing(name)} for line in read(workdir)]


def test_each_second_has_one_activity(time: Time) -> None:
    ticks = Clock()
    with ticks.of(COMPUTE):
        time.passes(7)  # the first step compiles: start-up
    ticks.begin()
    with ticks.of(EVALUATION):
        time.passes(1)
        with ticks.of(DATA):
            time.passes(2)
        time.passes(4)
    with pytest.raises(ValueError, match="x"), ticks.of(CHECKPOINT):  # noqa: PT012  # both are of the point
        time.passes(8)
        raise ValueError("x")
    time.passes(16)
    expected = {"startup": 7, "data": 2, "compute": 0, "evaluation": 5, "checkpoint": 8, "rest": 16}
    assert ticks.seconds() == expected


def test_a_line_tells_speed_and_where_the_time_went(time: Time, tmp_path: Path, capsys) -> None:
    train(time, tmp_path, 0, 8, peak=12e6)
    lines = [line for line in read(tmp_path) if "loss" in line]
    assert [line["step"] for line in lines] == [2, 4, 6, 8]
    first, second, third = lines[:3]
    spent = {name: value for name, value in third.items() if name.startswith("time/")}
    assert spent == {
        "time/startup": 0, "time/data": 1, "time/compute": 4, "time/evaluation": 3, "time/checkpoint": 1, "time/rest": 0
    }  # fmt: skip
    assert first["time/startup"] == 12.5, "ten seconds, and the first step"
    assert sum(value for line in lines for name, value in line.items() if name.startswith("time/")) == 38 - 4, (
        "all but the evaluation and the checkpoint after the last line"
    )
    # Two steps in five seconds, evaluation and checkpoint aside; the first line has one step beside the first one.
    for line in (first, second, third):
        assert line["examples_per_second"] == pytest.approx(6 / 2.5)
        assert line["tokens_per_second"] == pytest.approx(100 / 2.5)
        assert line["prompt_tokens_per_second"] == pytest.approx(300 / 2.5)
        assert line["flops_per_second"] == pytest.approx(6e6 / 2.5)
        assert line["mfu"] == pytest.approx(6e6 / 2.5 / 12e6)
    assert second["loss"] == pytest.approx((1 / 3 + 1 / 4) / 2)
    printed = capsys.readouterr().out
    assert "first step done 12 s after the start" in printed
    # 5 steps in 16.5 s after the first, evaluation and checkpoint included; 2 are left
    assert "step 6/8  loss 0.1833  2.4 examples/s  MFU 20.0%  0:00:07 left\n" in printed


def test_slow_steps_do_not_keep_one_waiting_for_the_first_line(time: Time, tmp_path: Path, capsys) -> None:
    """Steps of 15 s and a line only every 8: the first one that ends 20 s or more after the first step says so."""
    ticks = Clock()
    log = RunLog(tmp_path, config(), "abc", 0, ticks, evaluated=True, flops=6e6, peak=None)
    for step in range(1, 8):
        with ticks.of(COMPUTE):
            time.passes(15)
        log.step(step, {"loss": 1.0, "grad_norm": 1.0, "lr": 0.1, "answers": 6, "tokens": 100, "prompt_tokens": 300})
    printed = capsys.readouterr().out.splitlines()
    assert printed[1:] == ["step 3/8  0:01:15 left"]
    log.close()


def test_tokens_are_counted_where_they_are_computed() -> None:
    """Against the prompts that a batch holds; the last one of an epoch is padded."""
    prompts = random_prompts(0, questions=15)
    batches = Batches(prompts, BatchShape(2, 40, 6, 40, 5), groups=3, microbatches=2)
    for step in (0, batches.first_step(1) - 1):
        batch = batches.batch(step)
        here = [prompts[i] for i in batch["prompt"].flat if i >= 0]
        counted = {name: int(value) for name, value in counts(jax.tree.map(jnp.asarray, batch)).items()}
        assert counted["prompt_tokens"] == sum(len(prompt.tokens) for prompt in here)
        assert counted["tokens"] == (batch["trees"] > 0).sum() < counted["prompt_tokens"]


def test_no_utilisation_for_a_device_whose_peak_is_not_known(time: Time, tmp_path: Path, capsys) -> None:
    train(time, tmp_path, 0, 4)
    assert not any("mfu" in line for line in read(tmp_path))
    assert "MFU" not in capsys.readouterr().out


def test_resumed_lines_are_those_of_a_whole_run(time: Time, tmp_path: Path) -> None:
    train(time, tmp_path / "whole", 0, 8)
    train(time, tmp_path / "stopped", 0, 5)  # between two lines
    train(time, tmp_path / "stopped", 5, 7, killed="before saving")
    train(time, tmp_path / "stopped", 5, 7, killed="while saving")
    train(time, tmp_path / "stopped", 5, 7)
    train(time, tmp_path / "stopped", 7, 8)
    assert without_timing(tmp_path / "stopped") == without_timing(tmp_path / "whole")

    train(time, tmp_path / "killed", 0, 7, killed="before saving")
    with (tmp_path / "killed" / "metrics.jsonl").open("ab") as file:
        file.write('{"step": 8, "loss": "é'.encode()[:-1])  # killed in the middle of a letter
    train(time, tmp_path / "killed", 4, 8)
    assert without_timing(tmp_path / "killed") == without_timing(tmp_path / "whole")


def test_a_stopped_run_may_go_on_with_other_intervals(time: Time, tmp_path: Path) -> None:
    train(time, tmp_path, 0, 5)
    saved = SAVED[str(tmp_path), 5]
    log = RunLog(tmp_path, config(), "abc", 5, Clock(), evaluated=True, collected=saved, flops=0, peak=None)
    log.flush()  # before an evaluation that is due now
    last = read(tmp_path)[-1]
    assert (last["step"], last["loss"]) == (5, 1 / 5)


def test_goodput_counts_all_starts_and_not_what_was_computed_twice(time: Time, tmp_path: Path, capsys) -> None:
    train(time, tmp_path, 0, 6, killed="before saving")
    train(time, tmp_path, 4, 8)
    account = json.loads((tmp_path / "time.json").read_text())
    first, second = account["starts"]
    assert (first["step"], second["step"]) == (0, 4)
    assert first["seconds"] == {
        "startup": 12.5, "data": 2.5, "compute": 10, "evaluation": 3, "checkpoint": 1, "rest": 0
    }  # fmt: skip
    assert second["seconds"] == {
        "startup": 12.5, "data": 1.5, "compute": 6, "evaluation": 3, "checkpoint": 1, "rest": 0
    }  # fmt: skip
    assert first["lost"] == {"steps": 0, "seconds": 0}
    assert second["lost"] == {"steps": 2, "seconds": 4}
    assert account["goodput"] == pytest.approx((10 - 4 + 6) / (29 + 24), abs=1e-4)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("time 0:00:53 in 2 starts: startup 47.2%, compute 22.6%, evaluation 11.3%, ")
    assert "lost 7.5%" in last
    assert last.endswith("(goodput 22.6%)")


def test_a_start_before_the_first_checkpoint_counts(time: Time, tmp_path: Path) -> None:
    train(time, tmp_path, 0, 2, killed="before saving")
    train(time, tmp_path, 0, 4)
    starts = json.loads((tmp_path / "time.json").read_text())["starts"]
    assert [start["lost"]["steps"] for start in starts] == [0, 2]


@pytest.mark.parametrize("line", ["not json", "[1]", '{"loss": 1}', '{"step": "x"}', "\xff"])
def test_a_line_that_is_none_is_refused_by_number(tmp_path: Path, line: str) -> None:
    file = tmp_path / "metrics.jsonl"
    text = f'{{"step": 1}}\n{line}\n{{"step": 3}}\n'.encode("latin-1")
    file.write_bytes(text)
    with pytest.raises(UserError, match=r"metrics\.jsonl line 2: not an object with a step"):
        Lines(file, 1)
    assert file.read_bytes() == text


@pytest.mark.parametrize(
    "line", ['{"step": 2, "time/compute": "x"}', '{"step": 2, "loss": {}}', '{"step": 2, "x": null}']
)
def test_a_line_of_another_version_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(f'{{"step": 1}}\n{line}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl line 2: .*: written by another version of survey_jax"):
        Lines(file, 1)
    assert file.read_text() == f'{{"step": 1}}\n{line}\n'


GOOD_START = {"started": "", "step": 0, "seconds": {"compute": 1.0}, "lost": {"steps": 0, "seconds": 0}}


@pytest.mark.parametrize(
    "content",
    [{}, {"starts": 1}, {"starts": [{}]}, {"starts": [GOOD_START | {"lost": 1}]},
     {"starts": [GOOD_START | {"seconds": {"compute": "x"}}]}],
)  # fmt: skip
def test_a_time_json_of_another_version_is_named(time: Time, tmp_path: Path, content: dict[str, Any]) -> None:
    (tmp_path / "time.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"time\.json: .*: written by another version of survey_jax"):
        train(time, tmp_path, 0, 2)
    assert json.loads((tmp_path / "time.json").read_text()) == content


@pytest.mark.parametrize("step", [{}, {"step": 1, "loss": 0.5, "lr": 0.1}, {"step": 1, "loss": "x"}])
def test_steps_that_another_version_collected_are_refused(time: Time, tmp_path: Path, step: dict[str, Any]) -> None:
    SAVED[str(tmp_path), 1] = [step]
    with pytest.raises(UserError, match=r"checkpoints: .*: written by another version of survey_jax"):
        train(time, tmp_path, 1, 2)


def test_lines_that_are_cut_off_are_counted(time: Time, tmp_path: Path, capsys) -> None:
    train(time, tmp_path, 0, 4)
    capsys.readouterr()
    train(time, tmp_path, 2, 4)
    assert "metrics.jsonl: 2 lines after step 2 are written again" in capsys.readouterr().out


def test_other_processes_write_and_say_nothing(time: Time, tmp_path: Path, monkeypatch, capfd) -> None:
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    train(time, tmp_path, 0, 8)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


class Device:
    def __init__(self, peak: int, limit: int):
        self.stats = {"peak_bytes_in_use": peak, "bytes_limit": limit}

    def memory_stats(self) -> dict[str, int]:
        return self.stats


def test_memory_is_the_devices_where_they_tell_it(monkeypatch) -> None:
    assert set(memory()) == {"memory/host_peak_gb"}  # on CPU
    assert 0.05 < memory()["memory/host_peak_gb"] < 100
    monkeypatch.setattr(jax, "local_devices", lambda: [Device(3 * 10**9, 8 * 10**9), Device(5 * 10**9, 8 * 10**9)])
    told = {name: value for name, value in memory().items() if "device" in name}
    assert told == {"memory/device_peak_gb": 5, "memory/device_limit_gb": 8}


def test_in_an_object_store(time: Time, tmp_path: Path, object_store: type[ObjectStore], capsys) -> None:  # noqa: F811
    """The same lines as on a disk; TensorBoard's files, which grow, are left out, and that is said."""
    workdir = epath.Path("gs://bucket/run")
    train(time, workdir, 0, 6, killed="before saving")
    assert [line["step"] for line in read(workdir)] == [2, 4, 4], "up to the checkpoint at least"
    train(time, workdir, 4, 8)
    assert "no TensorBoard files in an object store" in capsys.readouterr().out
    assert {name.rpartition("/")[2] for name in object_store.store} == {"metrics.jsonl", "time.json"}
    train(time, tmp_path, 0, 8)
    assert without_timing(workdir) == without_timing(tmp_path)
    assert not any(".partial" in name for name in object_store.store)


def test_an_object_is_not_written_anew_with_every_line(time: Time, object_store, monkeypatch) -> None:  # noqa: F811
    written: list[str] = []
    monkeypatch.setattr(run_log, "write_text", lambda path, text: written.append(path.name))
    ticks = Clock()
    log = RunLog(epath.Path("gs://bucket/run"), config(200), "abc", 0, ticks, evaluated=True, flops=0, peak=None)
    for step in range(1, 101):
        with ticks.of(COMPUTE):
            time.passes(6)
        log.step(step, {"loss": 1, "grad_norm": 1, "lr": 1, "answers": 1, "tokens": 1, "prompt_tokens": 1})
        log.flush()
    assert 5 < written.count("metrics.jsonl") < 12, "a hundred lines in ten minutes"


class FakeWandB(types.ModuleType):
    """The parts of the package that are used."""

    class Error(Exception):
        pass

    def __init__(self) -> None:
        super().__init__("wandb")
        self.started: list[dict[str, Any]] = []
        self.logged: list[dict[str, float]] = []
        self.finished = 0

    def init(self, **options: Any) -> "FakeWandB":
        if options["project"] == "closed":
            raise self.Error("permission denied")
        self.started.append(options)
        return self

    def define_metric(self, name: str, step_metric: str) -> None:
        assert (name, step_metric) == ("*", "step")

    def log(self, values: dict[str, float]) -> None:
        self.logged.append(values)

    def finish(self) -> None:
        self.finished += 1


def test_weights_and_biases_get_every_line(time: Time, tmp_path: Path, monkeypatch) -> None:
    """One run of theirs for all starts of ours."""
    fake = FakeWandB()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    train(time, tmp_path / "run", 0, 4, wandb="surveys")
    train(time, tmp_path / "run", 4, 8, wandb="surveys")
    assert fake.logged == read(tmp_path / "run")
    assert [(s["project"], s["id"], s["name"], s["resume"]) for s in fake.started] == 2 * [
        ("surveys", "abc", "run", "allow")
    ]
    assert fake.started[0]["config"]["optim"]["steps"] == 8
    assert all(s["settings"]["console"] == "off" for s in fake.started), "an example of a prompt would leave the house"
    assert fake.finished == 2
    with pytest.raises(UserError, match=r"config\.run\.wandb = 'closed': permission denied"):
        train(time, tmp_path / "other", 0, 4, wandb="closed")


def test_weights_and_biases_must_be_installed_to_be_used(monkeypatch) -> None:
    monkeypatch.setattr(metric_writers.importlib.util, "find_spec", lambda name: None)
    check_metric_writers(config())
    with pytest.raises(UserError, match=r"config\.run\.wandb = 'surveys': needs Weights & Biases \(pip install"):
        check_metric_writers(config(wandb="surveys"))


def payload(log: bytes) -> bytes:
    """What a log in LevelDB's format holds: blocks of 32 KiB, records with headers of 7 bytes, one of 7 before all."""
    content, at = b"", 7
    while at < len(log):
        left = 2**15 - at % 2**15
        if left < 7:  # too short for a header
            at += left
            continue
        length = int.from_bytes(log[at + 4 : at + 6], "little")
        content += log[at + 7 : at + 7 + length]
        at += 7 + length
    return content


def test_weights_and_biases_for_real(tmp_path: Path, monkeypatch) -> None:
    """The package itself, without its service: what it keeps for a later upload has all values."""
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    board = metric_writers.WandbWriter(tmp_path, config(wandb="surveys"), "abc")
    print("Is the government good?")
    board.write(4, {"loss": 0.123456789, "eval/valid/kl": 0.987654321})
    board.close()
    [file] = tmp_path.glob("wandb/offline-run-*/run-abc.wandb")
    deadline = monotonic() + 20  # a process of the package writes it, and may do so after `close`
    while b"0.987654321" not in (kept := payload(file.read_bytes())) and monotonic() < deadline:
        sleep(0.1)
    for text in (b"surveys", b"loss", b"0.123456789", b"eval/valid/kl", b"0.987654321"):
        assert text in kept
    assert not any(b"the government" in p.read_bytes() for p in (tmp_path / "wandb").rglob("*") if p.is_file())
