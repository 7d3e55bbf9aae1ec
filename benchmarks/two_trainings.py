"""Two trainings started in one folder: one must run as if it were alone, and the other be told of it.

    python -m benchmarks.two_trainings [--pairs=20]

The second one starts at a random moment of the first one's start. In every other pair the folder was left by a training
that was killed. Prints a line for each pair, and writes benchmarks/results/two_trainings.json.
"""

import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import app, flags, logging

from benchmarks import chaos
from benchmarks.chaos import Training

LATEST = 6.0  # seconds between the two starts, at most

PAIRS = flags.DEFINE_integer("pairs", 20, "Pairs of trainings.")


def killed(training: Training) -> None:
    """A start that is killed once it has done a step."""
    (process,) = training.start()
    while process.poll() is None and not training.step():
        time.sleep(0.01)
    process.kill()
    if process.wait() != -signal.SIGKILL:
        raise RuntimeError(f"{training.workdir}: was done before it was killed")


def pair(folder: Path, config: Path, steps: int, delay: float, after_kill: bool) -> tuple[Training, str]:
    """Starts two trainings in one folder; returns one of them, and "" or what the two did wrong."""
    trainings = [Training(config, folder, 1, steps, log=folder.with_name(f"{folder.name}-{n}.log")) for n in (1, 2)]
    if after_kill:
        killed(Training(config, folder, 1, steps))
    started: list[subprocess.Popen[bytes]] = []
    for training in trainings:
        started += training.start()
        time.sleep(delay if len(started) == 1 else 0)
    codes = [process.wait() for process in started]
    if sorted(codes) != [0, 2]:
        return trainings[0], f"exit codes {codes}"
    loser, winner = trainings[codes.index(2)], started[codes.index(0)]
    errors = [line for line in loser.printed().splitlines() if line.startswith("error: ")]
    told = re.fullmatch(
        rf"error: {re.escape(str(folder))}: another training runs here: process {winner.pid} on \S+, since .*",
        errors[-1] if errors else "",
    )
    return trainings[codes.index(0)], "" if told and len(errors) == 1 else f"the second one said {errors}"


def compete(folder: Path, pairs: int, steps: int) -> list[dict[str, object]]:
    """So many pairs; what became of each."""
    rng, config = random.Random(0), chaos.tiny_config(folder, steps)
    calm = Training(config, folder / "calm", 1, steps)
    calm.finish()
    expected, results = chaos.final_state(calm.workdir), []
    for number in range(pairs):
        delay = rng.choice([0.0, rng.uniform(0, LATEST)])
        run, wrong = pair(folder / f"run-{number}", config, steps, delay, after_kill=bool(number % 2))
        same = not wrong and chaos.same_bits(chaos.final_state(run.workdir), expected)
        results.append({"delay": delay, "after_kill": bool(number % 2), "wrong": wrong, "same": same})
        told = wrong or f"one refused, {'same' if same else 'OTHER'} bits"
        print(f"{number + 1}/{pairs}, the second one {delay:.1f} s later: {told}", flush=True)
    return results


def main(_: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # orbax narrates at INFO
    with tempfile.TemporaryDirectory() as folder:
        results = compete(Path(folder), PAIRS.value, steps=20)
    same = sum(bool(result["same"]) for result in results)
    print(f"in {same} of {len(results)} pairs one ran undisturbed, and the other was told of it")
    output = Path("benchmarks/results/two_trainings.json")
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps({"same": same, "results": results}, indent=2) + "\n")
    sys.exit(same != len(results))


if __name__ == "__main__":
    app.run(main)
