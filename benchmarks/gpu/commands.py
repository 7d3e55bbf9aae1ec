"""The commands as a user runs them, for benchmarks.gpu: a smoke test, and small trainings on real weights.

`python -m benchmarks.gpu.commands SPECIFICATION` is not for people. This process leaves the accelerator to the commands
that it starts. A specification has "what":

smoke      A tiny model of random weights, of "dtype", trains four steps; the same command takes it up and trains four
           more; it is evaluated. Prints seconds of each, and "losses" of both halves.
training   Trains "weights" by the config file "config" on "data" (a table, "demo" or "made": chance_survey.py, of
           "questions" and "countries"), with the settings "flags", and if "evaluate" evaluates. Prints seconds of both,
           "steps", "examples_per_second" (median of what was logged), "mfu", "valid_kl" of the first and the best
           evaluation, "device_peak_gb" and, by split, the "kl" of the model and of the best rule.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu import chance_survey
from benchmarks.gpu.look import ROOT
from benchmarks.speed.made_model import AbsentError, tell


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """What the process prints."""
    with tempfile.TemporaryDirectory() as folder:
        return {"smoke": smoke, "training": training}[spec["what"]](spec, Path(folder))


def smoke(spec: dict[str, Any], folder: Path) -> dict[str, Any]:
    """RuntimeError if a command fails, does not resume, or leaves something out."""
    import jax

    jax.config.update("jax_platforms", "cpu")  # in this process, which only draws weights
    sys.path.insert(0, str(ROOT / "tests"))
    import tiny

    model, table = tiny.write_model(folder / "model"), tiny.write_rows(folder / "table.jsonl", tiny.rows())
    settings = {"model__dtype": repr(spec["dtype"]), "run__eval_every": "4", "run__log_every": "1"}
    flags = [f"--config={tiny.write_config(folder, model, table, **settings)}", f"--workdir={folder / 'run'}"]
    found: dict[str, Any] = {"train": run("train", *flags, "--config.optim.steps=4")[0]}
    found["resume"], printed = run("train", *flags, "--config.optim.steps=8")
    if "resumed at step 4" not in printed:
        raise RuntimeError("the second training did not resume at step 4")
    found |= evaluate(folder / "run")
    if set(found["kl"]) != {"valid", "unseen_question", "unseen_group", "unseen_both"}:
        raise RuntimeError(f"evaluated are {', '.join(found['kl'])}")
    losses = [line["loss"] for line in logged(folder / "run") if "loss" in line]
    return found | {"losses": [statistics.mean(losses[:4]), statistics.mean(losses[4:])]}


def training(spec: dict[str, Any], folder: Path) -> dict[str, Any]:
    """AbsentError where the weights are not there; RuntimeError if a command fails."""
    if not (ROOT / spec["weights"]).exists():
        name = Path(spec["weights"]).stem
        raise AbsentError(f"{spec['weights']} is absent: python -m survey_jax.fetch {name}, or bring the file")
    table = spec["data"]
    if table == "made":
        table = str(chance_survey.write(folder / "made.jsonl", spec["questions"], spec["countries"]))
    flags = [f"--config={spec['config']}:{table}", f"--config.model.weights={spec['weights']}", *spec["flags"]]
    seconds, _ = run("train", *flags, f"--workdir={folder / 'run'}")
    lines = logged(folder / "run")
    valid = [line["eval/valid/kl"] for line in lines if "eval/valid/kl" in line]
    return {
        "train": seconds,
        "steps": max(line["step"] for line in lines),
        "examples_per_second": median(lines, "examples_per_second"),
        "mfu": median(lines, "mfu"),
        "valid_kl": [valid[0], min(valid)],
        "device_peak_gb": max((line.get("memory/device_peak_gb", 0) for line in lines), default=0) or None,
    } | (evaluate(folder / "run") if spec["evaluate"] else {})


def evaluate(workdir: Path) -> dict[str, Any]:
    """Seconds of a run's evaluation, and by split the "kl" of the model and of the best rule."""
    seconds, _ = run("eval", f"--workdir={workdir}", "--name=hour", "--controls=")
    splits = json.loads((workdir / "eval" / "hour" / "metrics.json").read_text(encoding="utf-8"))["splits"]
    kl = {
        name: [split["model"]["kl"]["value"], min(rule["kl"]["value"] for rule in split["baselines"].values())]
        for name, split in splits.items()
    }
    return {"eval": seconds, "kl": kl}


def run(command: str, *flags: str) -> tuple[float, str]:
    """Seconds that a command of survey_jax took, and what it printed. RuntimeError with its last words if it fails."""
    begin = time.perf_counter()
    words = [sys.executable, "-m", f"survey_jax.{command}", *flags]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        print(done.stdout[-1000:], done.stderr[-3000:], file=sys.stderr)
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise RuntimeError(f"survey_jax.{command}: {last}")
    return time.perf_counter() - begin, done.stdout


def logged(workdir: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def median(lines: list[dict[str, Any]], name: str) -> float | None:
    """Of what was logged after the first line, in which compiling counts; None where nothing was."""
    values = [line[name] for line in lines if name in line]
    return statistics.median(values[1:] or values) if values else None


if __name__ == "__main__":
    tell(measure)
