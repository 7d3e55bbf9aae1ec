"""Hostile and unlucky inputs of every kind: each must give a right result, or one line and exit code 2.

    python -m benchmarks.hostile [--kinds=tables,respondents,settings,weights,runs] [--most=200] [--seed=0]

Inputs are made by rule, some by chance. Each is given to the command that reads it, in a process that serves many; it
must end with exit code 0 and a result that an independent reading confirms, or with exit code 2, one line and nothing
written, in 20 seconds and one gigabyte beyond what its size costs. Prints each failure and a table of kinds, and writes
benchmarks/results/hostile.json.
"""

import dataclasses
import importlib
import json
import random
import sys
from pathlib import Path

from absl import app, flags, logging

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

KINDS = flags.DEFINE_list("kinds", ["tables", "respondents", "settings", "weights", "runs"], "Kinds of inputs.")
MOST = flags.DEFINE_integer("most", 200, "Inputs of a kind, drawn from all; 0: all.")
SEED = flags.DEFINE_integer("seed", 0, "Of what is left to chance.")
ONLY = flags.DEFINE_string("only", "", "Only inputs whose name has this text.")
RESULTS = flags.DEFINE_string("results", "benchmarks/results/hostile.json", "Where figures go.")


def main(_: list[str]) -> None:
    from benchmarks.hostile.judge import Court

    logging.set_verbosity(logging.WARNING)  # the GGUF writer narrates
    court, results = Court(), {}
    for kind in KINDS.value:
        rng = random.Random(SEED.value)
        cases = [c for c in importlib.import_module(f"benchmarks.hostile.{kind}").cases(rng) if ONLY.value in c.name]
        chosen = rng.sample(cases, min(MOST.value or len(cases), len(cases)))
        verdicts = []
        for case in chosen:
            verdicts.append(verdict := court.try_case(case))
            if verdict.wrong:
                print(f"FAILED {verdict.name}: {verdict.wrong}\n       {verdict.said!r}", flush=True)
        results[kind] = [dataclasses.asdict(verdict) for verdict in verdicts]
        refused = sum(v.code == 2 and not v.wrong for v in verdicts)
        right, wrong = sum(v.code == 0 and not v.wrong for v in verdicts), sum(bool(v.wrong) for v in verdicts)
        slowest, largest = max(v.seconds for v in verdicts), max(v.memory for v in verdicts)
        print(
            f"{kind}: {len(verdicts)} of {len(cases)} tried: {refused} refused by one line, {right} read right, "
            f"{wrong} failed; at most {slowest:.1f} s and {largest / 1e6:.0f} MB",
            flush=True,
        )
    court.close()
    Path(RESULTS.value).parent.mkdir(parents=True, exist_ok=True)
    Path(RESULTS.value).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    app.run(main)
