"""A finished run of which each file is damaged, lost or of another version; then evaluated, resumed or asked."""

import dataclasses
import functools
import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tiny
from benchmarks.hostile.judge import Case, main_command
from benchmarks.hostile.values import ODD

TEXTS = {
    "empty": b"",
    "no JSON": b"{",
    "an empty map": b"{}",
    "a list": b"[]",
    "null": b"null",
    "no text": b"\xff\xfe\x00",
}


@dataclasses.dataclass(frozen=True)
class Base:
    """What all cases start from."""

    model: Path
    config: Path
    run: Path


@functools.cache
def base() -> Base:
    """A tiny model, its table, and a finished run of two steps with its evaluation."""
    folder = Path(tempfile.mkdtemp(prefix="hostile-base-"))
    model, table = tiny.write_model(folder / "model"), tiny.write_rows(folder / "table.jsonl", tiny.rows())
    config = tiny.write_config(folder, model, table, optim__steps="2", run__eval_every="1", run__log_every="1")
    main_command("train", f"--config={config}", f"--workdir={folder / 'run'}")
    main_command("eval", f"--workdir={folder / 'run'}", "--controls=")
    return Base(model, config, folder / "run")


def trained(output: Path) -> str:
    """A training that ended must have a loss that is a number."""
    lines = (output / "metrics.jsonl").read_text().splitlines()
    losses = [row["loss"] for row in map(json.loads, lines) if "loss" in row]
    return "" if losses and all(abs(loss) < 1e6 for loss in losses) else f"losses {losses}"


def cases(rng: random.Random) -> Iterator[Case]:
    """Each file of the run in each state; JSON files also with each key lost or odd."""
    run = base().run
    files = sorted(path.relative_to(run) for path in run.rglob("*") if path.is_file())
    places = [*files, Path("checkpoints"), Path("eval")]
    for place in places:
        for what in ("lost", "a folder", "a pipe", "a dangling link", *TEXTS):
            for command in ("eval", "train"):
                yield _case(place, what, command, None)
    for place in (f for f in files if f.suffix == ".json"):
        values = json.loads((run / place).read_text())
        for key in values if isinstance(values, dict) else ():
            for what in ("absent", *rng.sample(sorted(ODD), 3)):
                yield _case(place, what, rng.choice(("eval", "train")), key)
    for name in ("../../x", "/x", ".", "a/b", "a\nb", "x" * 300):
        yield Case(
            f"run: --name={name[:20]!r}", "eval", functools.partial(_named, name=name), lambda output: "accepted"
        )


def _named(folder: Path, name: str) -> list[str]:
    return [*_copied(folder), f"--name={name}", "--controls="]


def _case(place: Path, what: str, command: str, key: str | None) -> Case:
    def flags(folder: Path) -> list[str]:
        found = _copied(folder)
        _damage(folder / "run" / place, what, key)
        return found + ([f"--config={base().config}"] if command == "train" else ["--controls="])

    inside = f" {key}" if key else ""
    same = functools.partial(_same, evaluated=command == "eval", damaged=place)
    return Case(f"run: {command}, {place}{inside} is {what}", command, flags, same)


def _copied(folder: Path) -> list[str]:
    shutil.copytree(base().run, folder / "run")
    return [f"--workdir={folder / 'run'}"]


def _damage(path: Path, what: str, key: str | None) -> None:
    if key is not None:
        values: dict[str, Any] = json.loads(path.read_text())
        del values[key]
        path.write_text(json.dumps(values if what == "absent" else values | {key: ODD[what]}))
        return
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if what in TEXTS:
        path.write_bytes(TEXTS[what])
    elif what == "a folder":
        path.mkdir()
    elif what == "a pipe":
        os.mkfifo(path)
    elif what == "a dangling link":
        path.symlink_to(path.parent / "nowhere")


def _same(output: Path, evaluated: bool, damaged: Path) -> str:
    """An evaluation must have the figures of the undamaged run; a training the log."""
    run = output.parent / "input" / "run"
    if evaluated:
        [expected] = base().run.glob("eval/*/metrics.json")
        found = json.loads((run / expected.relative_to(base().run)).read_text())["splits"]
        return "" if found == json.loads(expected.read_text())["splits"] else "other figures"
    if damaged.name == "metrics.jsonl":
        return ""
    return "" if _logged(run) == _logged(base().run) else "another log"


def _logged(run: Path) -> list[dict[str, Any]]:
    """What was logged but for timings; steps that were trained again, after a damaged checkpoint, log the same."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if not tiny.is_timing(name)} for line in lines]
