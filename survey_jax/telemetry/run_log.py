"""What a run writes while it trains: metrics.jsonl, TensorBoard, time.json, and progress lines on stdout.

docs/monitoring.md says what each value means.
"""

import dataclasses
import json
import resource
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
from etils import epath

from survey_jax.common.console import duration, is_first, say
from survey_jax.common.errors import UserError, plural
from survey_jax.common.files import checked, is_remote, read_json, write_json, write_text, writing
from survey_jax.config import Config
from survey_jax.telemetry.clock import COMPUTE, DATA, STARTUP, Clock
from survey_jax.telemetry.metric_writers import open_metric_writers


@dataclasses.dataclass
class _Lost:
    steps: int
    seconds: float


@dataclasses.dataclass
class _Start:
    step: int
    seconds: dict[str, float]
    lost: _Lost


@dataclasses.dataclass
class _Time:
    """What time.json holds."""

    starts: list[_Start]


@dataclasses.dataclass
class _Step:
    """What a checkpoint holds of a step that no line sums up yet."""

    step: int
    loss: float
    lr: float
    grad_norm: float


class Goodput:
    """Accounts for the time of all starts of a run, in time.json.

    Args:
      step: where this start continues.
      lost: lines of metrics.jsonl after that step, whose steps have to be computed again.
    """

    def __init__(self, workdir: epath.Path, step: int, lost: list[dict[str, Any]]):
        self._file = workdir / _TIME
        self._starts = _read_starts(self._file)
        steps = max((line["step"] for line in lost), default=step) - step
        seconds = sum(line.get(f"time/{COMPUTE}", 0.0) for line in lost)
        self._start = {
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "step": step,
            "seconds": {},
            "lost": {"steps": steps, "seconds": seconds},
        }
        self._starts.append(self._start)

    def write(self, seconds: dict[str, float]) -> None:
        """Records how this start has spent its time so far."""
        self._start["seconds"] = {name: round(value, 3) for name, value in seconds.items()}
        write_json(self._file, {"starts": self._starts, "goodput": round(self.share(), 4)})

    def share(self) -> float:
        """The share of all starts' time that went into training steps whose results were not lost."""
        return self._by_activity()[COMPUTE] / self._total()

    def summary(self) -> str:
        """One line: the total time of the run, and its shares by activity."""
        total, parts = self._total(), self._by_activity()
        shares = sorted(parts.items(), key=lambda part: -part[1])
        spent = ", ".join(f"{name} {value / total:.1%}" for name, value in shares if value >= 0.0005 * total)
        starts = plural(len(self._starts), "start")
        return f"time {duration(total)} in {starts}: {spent} (goodput {self.share():.1%})"

    def _total(self) -> float:
        return sum(sum(start["seconds"].values()) for start in self._starts)

    def _by_activity(self) -> dict[str, float]:
        parts: dict[str, float] = {}
        for start in self._starts:
            for name, value in start["seconds"].items():
                parts[name] = parts.get(name, 0.0) + value
        lost = sum(start["lost"]["seconds"] for start in self._starts)
        return parts | {COMPUTE: parts[COMPUTE] - lost, "lost": lost}


_LINES, _TIME = "metrics.jsonl", "time.json"
UPLOAD_EVERY = 60  # seconds
QUIET = 20  # seconds after the first step without a line of a step, after which one says how long training will take
# Name of a speed -> what `train_step` counts.
RATES = {"examples": "answers", "tokens": "tokens", "prompt_tokens": "prompt_tokens"}


class RunLog:
    """Writes metrics.jsonl, TensorBoard's files, time.json and progress lines, on process 0 only.

    Args:
      start: the step to resume at; later lines are removed, since this start writes them again.
      evaluated: whether that checkpoint has scores.
      collected: what this attribute was when that checkpoint was saved.
      flops: useful floating-point operations of a step.
      peak: peak FLOP/s of all devices together; None if unknown.

    Attributes:
      collected: the steps since the last line of a step; checkpoints hold them for the next start.
    """

    def __init__(
        self,
        workdir: epath.Path,
        config: Config,
        run_id: str,
        start: int,
        clock: Clock,
        *,
        evaluated: bool,
        collected: Sequence[dict[str, float]] = (),
        flops: float,
        peak: float | None,
    ):
        self._total, self._clock, self._flops, self._peak = config.optim.steps, clock, flops, peak
        steps = checked(list(collected), list[_Step], workdir / "checkpoints")
        self.collected: list[Any] = [step | {"timed": False} for step in steps]  # another process's clock timed them
        self._before = dict.fromkeys(clock.seconds(), 0.0)  # the clock at the last line of a step
        self._timed = 0  # steps of this start that the clock has as "compute"
        self._quiet_since: float | None = None  # when the first step was done, until a line says how far training is
        self._writes = is_first()
        if self._writes:
            self._lines = Lines(workdir / _LINES, start, evaluated)
            if removed := self._lines.removed:
                say(f"metrics.jsonl: {plural(len(removed), 'line')} after step {start} are written again")
            self._synced = clock.age()
            self._goodput = Goodput(workdir, start, self._lines.removed)
            self._metric_writers = open_metric_writers(workdir, config, run_id, start)

    def step(self, step: int, measured: dict[str, float]) -> None:
        """Collects what `train_step` measured. The first call ends start-up."""
        timed = self._clock.running
        if not timed:
            self._clock.begin()
            took, compiling = self._clock.seconds()[STARTUP], self._clock.compiling
            say(f"first step done {took:.0f} s after the start, {compiling:.0f} s of them compiling")
            self._quiet_since = self._clock.age()
        self._timed += timed
        if timed and self._quiet_since is not None and self._clock.age() - self._quiet_since > QUIET:
            say(f"step {step}/{self._total}  {self._left(step)} left")
            self._quiet_since = None
        self.collected.append({**measured, "step": step, "timed": timed})

    def flush(self) -> None:
        """Writes one line for the steps since the last one: mean loss, newest lr and grad_norm, speeds, times, memory.

        It must be called at the same steps however often the run is resumed.
        """
        if not self.collected:
            return
        steps, self.collected = self.collected, []
        step, newest = int(steps[-1]["step"]), steps[-1]
        loss = sum(s["loss"] for s in steps) / len(steps)
        seconds = self._clock.seconds()
        spent = {name: seconds[name] - self._before[name] for name in seconds}
        self._before = seconds
        speeds = self._speeds([s for s in steps if s["timed"]], spent)
        values = {"loss": loss, "lr": newest["lr"], "grad_norm": newest["grad_norm"], **speeds, **memory()}
        self._write(step, values | {f"time/{name}": round(value, 4) for name, value in spent.items()})
        parts = [f"step {step}/{self._total}  loss {loss:.4f}"]
        if speeds:
            self._quiet_since = None
            parts += [f"{speeds['examples_per_second']:.1f} examples/s"]
            parts += [f"MFU {speeds['mfu']:.1%}"] if "mfu" in speeds else []
            parts += [f"{self._left(step)} left"]
        say("  ".join(parts))

    def _left(self, step: int) -> str:
        """The time left, if steps go on as those since the first did."""
        seconds = self._clock.seconds()
        return duration((sum(seconds.values()) - seconds[STARTUP]) / self._timed * (self._total - step))

    def _speeds(self, steps: list[dict[str, float]], spent: dict[str, float]) -> dict[str, float]:
        """Speeds over the time spent on steps and on waiting for batches; `steps` lacks the first step of a start."""
        if not steps:
            return {}
        seconds = spent[DATA] + spent[COMPUTE]
        flops = self._flops * len(steps) / seconds
        speeds = {f"{name}_per_second": sum(s[count] for s in steps) / seconds for name, count in RATES.items()}
        speeds["flops_per_second"] = flops
        return speeds | ({"mfu": flops / self._peak} if self._peak else {})

    def evaluation(self, step: int, split: str, scores: dict[str, float]) -> None:
        """Writes the mean scores of an evaluation."""
        self._write(step, {f"eval/{split}/{name}": value for name, value in scores.items()})
        temperatures = {n.removeprefix("temperature_"): t for n, t in scores.items() if n.startswith("temperature_")}
        used = ", ".join(f"{t:.2f} ({kind.replace('_', ' ')})" for kind, t in temperatures.items())
        say(
            f"step {step}/{self._total}  {split}: kl {scores['kl']:.4f} (by question {scores['kl_by_question']:.4f})  "
            f"1-sqrt(JSD) {scores['paper_1_minus_jsd']:.4f}  at temperature {used or '1'}"
        )

    def _write(self, step: int, values: dict[str, float]) -> None:
        if not self._writes:
            return
        self._lines.write({"step": step, **values})
        for writer in self._metric_writers:
            writer.write(step, values)
        if not self._lines.remote or self._clock.age() - self._synced > UPLOAD_EVERY:
            self.sync()

    def sync(self) -> None:
        """Uploads lines and writes time.json; call it before a checkpoint, which must not be ahead of the log."""
        if not self._writes:
            return
        self._synced = self._clock.age()
        self._lines.sync()
        self._goodput.write(self._clock.seconds())

    def close(self) -> None:
        """Closes all files, and prints how the run has spent its time."""
        if not self._writes:
            return
        self.sync()
        say(self._goodput.summary())
        for writer in self._metric_writers:
            writer.close()


class Lines:
    """A file of JSON lines, each with a step. A local file is appended to; an object in a store is uploaded by `sync`.

    Args:
      start: the lines of later steps are removed from the file, and available as `removed`.
      evaluated: whether the checkpoint of step `start` has scores; if not, its evaluation is removed as well.

    Raises:
      UserError: a line is not an object with a step. Half a line at the end, which a killed run may leave, is removed.
    """

    def __init__(self, path: epath.Path, start: int, evaluated: bool = True):
        self._path, self.remote = path, is_remote(path)
        whole, parsed = _read_lines(path)
        again = start if evaluated else start - 1  # an evaluation after this step is repeated
        limits = [again if any(name.startswith("eval/") for name in values) else start for values in parsed]
        self._text_lines = [
            line for line, values, limit in zip(whole, parsed, limits, strict=True) if values["step"] <= limit
        ]
        self.removed = [values for values in parsed if values["step"] > start]
        write_text(path, "".join(self._text_lines))

    def write(self, values: dict[str, Any]) -> None:
        """Adds a line; in an object store it is there after the next `sync`."""
        line = json.dumps(values) + "\n"
        if self.remote:
            self._text_lines.append(line)
        else:
            with writing(self._path), self._path.open("a", encoding="utf-8") as file:
                file.write(line)

    def sync(self) -> None:
        """Uploads the lines."""
        if self.remote:
            write_text(self._path, "".join(self._text_lines))


def check_log(workdir: epath.Path) -> None:
    """Raises UserError if another version has written what a `RunLog` goes on with; changes nothing."""
    _read_starts(workdir / _TIME)
    _read_lines(workdir / _LINES)


def _read_starts(file: epath.Path) -> list[dict[str, Any]]:
    """The starts in time.json; none if there is no such file."""
    found: list[dict[str, Any]] = checked(read_json(file), _Time, file)["starts"] if file.exists() else []
    return found


def _read_lines(path: epath.Path) -> tuple[list[str], list[dict[str, Any]]]:
    """The whole lines of a file, as text and as values; none if there is no such file."""
    if not is_remote(path) and path.exists() and not path.is_file():
        raise UserError(f"{path}: not a file; move it away")
    text = path.read_bytes().decode("utf-8", errors="replace") if path.exists() else ""
    lines = text.splitlines(keepends=True)
    whole = lines[:-1] if lines and not lines[-1].endswith("\n") else lines
    return whole, [_parse(line, path, number) for number, line in enumerate(whole, 1)]


def _parse(line: str, path: epath.Path, number: int) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or type(values.get("step")) is not int:
        raise UserError(f"{path} line {number}: not an object with a step; delete this line to resume")
    found: dict[str, Any] = checked(values, dict[str, float], f"{path} line {number}")
    return found


def memory() -> dict[str, float]:
    """Peak memory so far in GB: that of this process, and that of its fullest device where the platform reports it."""
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    found = {"memory/host_peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9}
    reported = [stats for device in jax.local_devices() if (stats := device.memory_stats())]
    if reported:
        found["memory/device_peak_gb"] = max(stats["peak_bytes_in_use"] for stats in reported) / 1e9
        found["memory/device_limit_gb"] = min(stats["bytes_limit"] for stats in reported) / 1e9
    return found
