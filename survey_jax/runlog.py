"""What a run writes besides checkpoints: config, manifest, metrics.jsonl, TensorBoard, and lines for people."""

import importlib.metadata
import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import jax
from tensorboardX import SummaryWriter

from survey_jax.config import MAY_CHANGE, Config, differences, from_dict, to_dict
from survey_jax.errors import UserError

_MANIFEST = "manifest.json"
_PACKAGES = ("survey_jax", "jax", "flax", "optax", "orbax-checkpoint", "transformers", "datasets", "numpy")


def say(text: str) -> None:
    """A plain line for people, on process 0."""
    if jax.process_index() == 0:
        print(text, flush=True)


def start_jax(config: Config) -> None:
    """Process-wide jax settings; call before the first computation."""
    if config.run.compilation_cache:
        jax.config.update("jax_compilation_cache_dir", str(Path(config.run.compilation_cache).resolve()))


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file in one piece: never half of it."""
    partial = path.with_name(f".partial-{path.name}")
    partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial, path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises UserError if the file holds anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a JSON object")
    return value


def check_workdir(workdir: Path, config: Config, identity: dict[str, str]) -> None:
    """A folder that holds a run must hold this one.

    Raises:
      UserError: its run has another base model, other data, or a setting that would change what is trained.
    """
    if not (workdir / _MANIFEST).is_file():
        return
    remedy = "choose another --workdir, or delete this one to start over"
    before = read_json(workdir / _MANIFEST).get("identity")
    if not isinstance(before, dict):
        raise UserError(f"{workdir / _MANIFEST}: does not say what run it is of; {remedy}")
    for name, value in identity.items():
        if before.get(name) != value:
            raise UserError(
                f"{workdir}: holds a run with another {name} (fingerprint {before.get(name)}, now {value}); {remedy}"
            )
    for setting, (old, new) in differences(read_config(workdir), config).items():
        if not any(setting == free or setting.startswith(f"{free}.") for free in MAY_CHANGE.split()):
            raise UserError(f"{workdir}: holds a run with {setting} = {old!r}, now {new!r}; {remedy}")
        say(f"{setting} was {old!r} in this run so far, now {new!r}")


def record_start(workdir: Path, config: Config, identity: dict[str, str], commit: str | None) -> None:
    """Writes config.json and manifest.json, or adds to the manifest that the run was resumed.

    Args:
      commit: of a base model from the hub.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / "config.json", to_dict(config))
    file, now = workdir / _MANIFEST, manifest(config, identity, commit)
    if file.is_file():
        before = read_json(file)
        now = before | {"resumed": [*before.get("resumed", []), {k: now[k] for k in now if k != "identity"}]}
    write_json(file, now)


def manifest(config: Config, identity: dict[str, str], commit: str | None) -> dict[str, Any]:
    """What produced a run: base model, versions, commit, device, seed and fingerprints."""
    device = jax.devices()[0]
    return {
        "identity": identity,
        "base_model": {"weights": config.model.weights, "commit": commit},
        "seed": config.run.seed,
        "versions": {p: importlib.metadata.version(p) for p in _PACKAGES} | {"python": platform.python_version()},
        "git_commit": _git_commit(),
        "device": {"kind": device.device_kind, "platform": device.platform, "count": jax.device_count()},
        "processes": jax.process_count(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _git_commit() -> str | None:
    """Of the source tree this package runs from; None where it is installed without one."""
    here = Path(__file__).parent
    result = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return result.stdout.strip() or None


def read_config(workdir: Path) -> Config:
    """The config of a run. Raises UserError where there is no run."""
    file = workdir / "config.json"
    if not file.is_file():
        raise UserError(f"{workdir}: no run here (config.json is missing)")
    return from_dict(read_json(file), where=str(file))


class RunLog:
    """metrics.jsonl, TensorBoard and the progress line.

    Args:
      start: the step resumed at; later lines of an interrupted run are taken out, they will be written again.
      total: steps of the run, for the estimate of the remaining time.
    """

    def __init__(self, workdir: Path, start: int, total: int):
        self._path, self._total = workdir / "metrics.jsonl", total
        kept = []
        if self._path.is_file():
            lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
            whole = lines[:-1] if lines and not lines[-1].endswith("\n") else lines  # the last may be half a line
            kept = [line for number, line in enumerate(whole, 1) if _step(line, self._path, number) <= start]
        partial = self._path.with_name(".partial-metrics.jsonl")
        partial.write_text("".join(kept), encoding="utf-8")
        os.replace(partial, self._path)
        self._file = self._path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=start + 1)
        self._begin = self._mark = time.monotonic()
        self._start, self._answers, self._last = start, 0, (start, 0.0, 0.0)
        self._losses: list[float] = []

    def step(self, step: int, loss: float, grad_norm: float, lr: float, answers: int) -> None:
        """Collects a step."""
        self._answers += answers
        self._losses.append(loss)
        self._last = (step, grad_norm, lr)

    def flush(self) -> None:
        """Writes down the steps since the last time: their mean loss, and the newest of the rest.

        Called before every checkpoint too, so that a resumed run writes the same lines as one that never stopped.
        """
        if not self._losses:
            return
        step, grad_norm, lr = self._last
        now = time.monotonic()
        speed = self._answers / (now - self._mark)
        left = (now - self._begin) / (step - self._start) * (self._total - step)
        loss = sum(self._losses) / len(self._losses)
        self._write(step, {"loss": loss, "lr": lr, "grad_norm": grad_norm, "examples_per_second": speed})
        say(f"step {step}/{self._total}  loss {loss:.4f}  {speed:.1f} examples/s  {_clock(left)} left")
        self._mark, self._answers, self._losses = now, 0, []

    def evaluation(self, step: int, split: str, scores: dict[str, float]) -> None:
        """Writes the means of an evaluation."""
        self._write(step, {f"eval/{split}/{name}": value for name, value in scores.items()})
        say(
            f"step {step}/{self._total}  {split}: kl {scores['kl']:.4f} (by question {scores['kl_by_question']:.4f})  "
            f"1-sqrt(JSD) {scores['paper_1_minus_jsd']:.4f}  at temperature {scores['temperature']:.2f}"
        )
        self._mark = time.monotonic()  # examples per second count training alone

    def _write(self, step: int, values: dict[str, float]) -> None:
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name if "/" in name else f"train/{name}", value, step)

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        self._board.close()


def _step(line: str, path: Path, number: int) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} line {number}: not an object with a step; delete this line to resume") from error


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
