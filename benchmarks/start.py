"""Time from the start of training's process to the end of its first step, cold and with a warm cache.

    python -m benchmarks.start [--config=configs/demo.py] [--warm=3] [--config.data.tables="('TABLE',)" ...]

Starts `survey_jax.train` anew each time, with a cache that is empty at first, and writes benchmarks/results/start.json.
Each start ends with its first step. "cpu" is user and system time of the process, which on a shared machine tells more
than the wall clock. The weights' file is read once before, so that no start waits for the disk. Parts are wall seconds.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from absl import app, flags

RESULT = Path("benchmarks/results/start.json")
WARM = flags.DEFINE_integer("warm", 3, "How many starts with a warm cache.")
_TIMES, _STARTED = "SURVEY_JAX_START_TIMES", "SURVEY_JAX_STARTED"  # for a training process: a file, a time

# What training calls -> the part of a start that begins with it; before the first of them, imports and flags.
PARTS = {
    "open_pretrained": "tables, splits, tokens",
    "build_model": "weights",
    "Batches": "batches, optimizer, records",
    "Predictor": "mass on letters",
    "fit": "first step",
}


def main(argv: list[str]) -> None:
    settings = [argument for argument in argv[1:] if argument.startswith("--config")]
    if not any(setting.startswith("--config=") for setting in settings):
        settings.insert(0, "--config=configs/demo.py")
    with tempfile.TemporaryDirectory() as folder:
        starts = [start(Path(folder), number, settings) for number in range(1 + WARM.value)]
    cold, warm = starts[0], starts[1:]
    result = {
        "settings": settings,
        "cold": cold,
        "warm": {name: _spread([s[name] for s in warm]) for name in ("wall", "cpu")}
        | {"parts": {part: _spread([s["parts"][part] for s in warm]) for part in warm[0]["parts"]}},
        "load_average": os.getloadavg(),
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


def start(folder: Path, number: int, settings: list[str]) -> dict[str, Any]:
    """One start, to its first step."""
    times, workdir = folder / f"{number}.json", folder / f"run{number}"
    settings = [*settings, f"--config.run.cache={folder / 'cache'}", f"--workdir={workdir}"]
    subprocess.run(
        [sys.executable, "-m", "benchmarks.start", *settings],
        env=os.environ | {_TIMES: str(times), _STARTED: repr(time.time())},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    found: dict[str, Any] = json.loads(times.read_text())
    print(json.dumps(found), flush=True)
    return found


def train() -> None:
    """Trains as the command line does, until the first step is done."""
    times, began = Path(os.environ[_TIMES]), float(os.environ[_STARTED])
    from survey_jax import cli
    from survey_jax import train as training
    from survey_jax.telemetry import run_log  # here, so that importing it counts

    marks = {"imports": began}
    for name, part in PARTS.items():
        setattr(training, name, _marking(getattr(training, name), part, marks))

    def done(self: run_log.RunLog, step: int, measured: dict[str, float]) -> None:
        del self, step, measured
        ends = [*list(marks.values())[1:], time.time()]
        parts = {part: round(end - at, 2) for (part, at), end in zip(marks.items(), ends, strict=True)}
        used = resource.getrusage(resource.RUSAGE_SELF)
        wall, cpu = ends[-1] - began, used.ru_utime + used.ru_stime
        times.write_text(json.dumps({"wall": round(wall, 2), "cpu": round(cpu, 2), "parts": parts}))
        os._exit(0)

    run_log.RunLog.step = done  # type: ignore[method-assign]
    cli.run(training.main)


def _marking(function: Any, part: str, marks: dict[str, float]) -> Any:
    def marked(*args: Any, **settings: Any) -> Any:
        marks.setdefault(part, time.time())
        return function(*args, **settings)

    return marked


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


if __name__ == "__main__":
    if _TIMES in os.environ:
        train()
    else:
        app.run(main, flags_parser=lambda argv: flags.FLAGS(argv, known_only=True))
