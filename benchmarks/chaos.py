"""Trainings killed at random moments, until they are done: each must end with the bits of one that nobody disturbed.

    python -m benchmarks.chaos [--runs=20] [--seed=0]

Half of the trainings are two processes of one device each, of which one is hit. A blow is SIGKILL or SIGTERM, at a
random moment of the process's life, or just when a checkpoint is being written. Prints a line for each training, and
writes benchmarks/results/chaos.json.
"""

import collections
import dataclasses
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import app, flags

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import processes
import tiny

BLOWS = 3  # a training
PATIENCE = 60  # seconds in which all processes must have ended once one was hit
TEMPORARY = ".orbax-checkpoint-tmp"  # in the name of a checkpoint that is being written

RUNS = flags.DEFINE_integer("runs", 20, "Trainings.")
SEED = flags.DEFINE_integer("seed", 0, "Of the blows.")


@dataclasses.dataclass
class Training:
    """One training, by one process or several, started as often as it takes. What they print is added to LOG-I."""

    config: Path
    workdir: Path
    processes: int
    steps: int
    left: set[str] = dataclasses.field(default_factory=set)  # half checkpoints of earlier starts
    log: Path = Path()  # default: WORKDIR.log

    def __post_init__(self) -> None:
        if self.log == Path():
            self.log = self.workdir.with_suffix(".log")

    def start(self) -> list[subprocess.Popen[bytes]]:
        """All processes."""
        self.left = self._half_written()
        flags = [f"--config={self.config}", f"--workdir={self.workdir}"]
        return processes.start("survey_jax.train", flags, self.log, self.processes)

    def printed(self) -> str:
        """What process 0 has printed so far, in all its starts."""
        return processes.printed(self.log)

    def finish(self) -> None:
        """Runs to the end."""
        codes = [process.wait() for process in self.start()]
        if any(codes):
            raise RuntimeError(f"{self.workdir}: exit codes {codes}; see {self.log}-*")

    def saving(self) -> bool:
        """Whether a checkpoint is being written, other than what an earlier blow has left."""
        return bool(self._half_written() - self.left)

    def joined(self) -> int:
        """In how many starts all processes had found each other and read their data."""
        return self.printed().count("a prompt; its answer")

    def step(self) -> int:
        """The last that was told of, in any start."""
        found = re.findall(r"^step (\d+)/", self.printed(), re.MULTILINE)
        return int(found[-1]) if found else 0

    def _half_written(self) -> set[str]:
        return {path.name for path in (self.workdir / "checkpoints").glob(f"*{TEMPORARY}*")}


def strike(training: Training, rng: random.Random) -> dict[str, object]:
    """Starts the training, hits one of its processes and waits until all are gone. Says what happened.

    A third of the blows come some seconds after the start, a third at a step that was not yet done, a third when a
    checkpoint is being written.

    Raises:
      RuntimeError: a process outlived the blow by PATIENCE, or ended otherwise than it should.
    """
    kind = rng.choice([signal.SIGKILL, signal.SIGTERM])
    moment = rng.choice(["seconds", "step", "save"])
    seconds, reached = rng.uniform(1, 12), training.step()
    step = rng.randint(min(reached + 1, training.steps - 2), training.steps - 2)
    before = training.joined()
    started = training.start()
    begun = time.monotonic()
    sights = {
        "seconds": lambda: time.monotonic() > begun + seconds,
        "step": lambda: training.step() >= step and training.joined() > before,
        "save": training.saving,
    }
    victim = rng.choice(started)
    while not (done := any(p.poll() is not None for p in started)) and not sights[moment]():
        time.sleep(0.002)
    if done:
        return {"blow": "none: it was done first", "codes": [p.wait() for p in started], "seconds": 0.0}
    name = kind.name + (" in a save" if training.saving() else "")
    victim.send_signal(kind)
    hit = time.monotonic()
    if training.processes > 1 and training.joined() == before:
        # Those that wait for one that never comes are the launcher's to end.
        name += " at the start"
        victim.wait()
        for process in started:
            process.kill()
    try:
        codes = [process.wait(timeout=PATIENCE) for process in started]
    except subprocess.TimeoutExpired as error:
        for process in started:
            process.kill()
        raise RuntimeError(f"{training.workdir}: a process outlived {name} by {PATIENCE} s") from error
    if kind == signal.SIGTERM and "start" not in name and not set(codes) <= {0, 75, -signal.SIGTERM}:
        raise RuntimeError(f"{training.workdir}: exit codes {codes} after {name}")
    return {"blow": name, "codes": codes, "seconds": time.monotonic() - hit}


def final_state(workdir: Path) -> dict[str, np.ndarray]:
    """Parameters and optimizer state after the last step, whatever mesh they were on."""
    import jax
    from orbax.checkpoint import v1 as ocp

    folder = max((workdir / "checkpoints").glob("*[0-9]"), key=lambda path: int(path.name))
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    found = ocp.checkpointables_metadata(folder).metadata
    like = {
        item: jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), found[item])
        for item in ("parameters", "optimizer")
    }
    leaves = jax.tree.leaves_with_path(ocp.load_checkpointables(folder, like))
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def same_bits(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    """Whether two states are the same to the last bit."""
    return a.keys() == b.keys() and all(a[name].tobytes() == b[name].tobytes() for name in a)


def storm(folder: Path, runs: int, seed: int, steps: int) -> list[dict[str, object]]:
    """`runs` disturbed trainings of so many steps, every other one of two processes; what became of each."""
    rng, config = random.Random(seed), tiny_config(folder, steps)
    references = {}
    for count in (1, 2):
        calm = Training(config, folder / f"calm-{count}", count, steps)
        calm.finish()
        references[count] = final_state(calm.workdir)
    results = []
    for number in range(runs):
        training = Training(config, folder / f"run-{number}", 1 + number % 2, steps)
        blows = [strike(training, rng) for _ in range(BLOWS)]
        training.finish()
        same = same_bits(final_state(training.workdir), references[training.processes])
        results.append({"processes": training.processes, "blows": blows, "same": same})
        told = "; ".join(f"{b['blow']} ({b['seconds']:.0f} s)" for b in blows)
        print(
            f"{number + 1}/{runs}, {training.processes} process(es): {told}: {'same' if same else 'OTHER'} bits",
            flush=True,
        )
    return results


def tiny_config(folder: Path, steps: int) -> Path:
    """A model and a table of the size that tests use: what is tried is the machinery."""
    model = tiny.write_model(folder / "model")
    table = tiny.write_rows(folder / "rows.jsonl", tiny.rows())
    return tiny.write_config(
        folder,
        model,
        table,
        batch__batch_size="4",
        optim__steps=str(steps),
        run__eval_every=str(steps // 4),
        run__log_every="2",
        run__save_minutes="0.01",
    )


def main(_: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        results = storm(Path(folder), RUNS.value, SEED.value, steps=60)
    kinds = collections.Counter(blow["blow"] for result in results for blow in result["blows"])
    slowest = max(blow["seconds"] for result in results for blow in result["blows"])
    same = sum(result["same"] for result in results)
    print(
        f"{same} of {len(results)} end with the same bits; blows: {dict(kinds)}; all gone {slowest:.0f} s after at most"
    )
    output = Path("benchmarks/results/chaos.json")
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps({"same": same, "results": results}, indent=2) + "\n")
    sys.exit(same != len(results))


if __name__ == "__main__":
    app.run(main)
