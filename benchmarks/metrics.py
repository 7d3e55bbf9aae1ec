"""Time and memory of metrics, intervals and diagnostics on many made-up predictions.

    python -m benchmarks.metrics [--rows=100000] [--groups=100] [--samples=1000]

Scores one system on rows of 2 to 10 options: row metrics, intervals of each metric's two averages, the sampling ceiling
with its intervals, a paired difference and the skill against a baseline, all diagnostics, and breakdowns by group and
topic. Writes benchmarks/results/metrics.json.
"""

import json
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from survey_jax.survey.evaluation import breakdowns, diagnostics, metrics, paired
from survey_jax.survey.table import Answer

ROWS = flags.DEFINE_integer("rows", 100_000, "Predictions.")
GROUPS = flags.DEFINE_integer("groups", 100, "Groups; there are rows / groups questions, each asked of every group.")
SAMPLES = flags.DEFINE_integer("samples", 1000, "Bootstrap replicates.")
RESULT = Path("benchmarks/results/metrics.json")


def main(argv: list[str]) -> None:
    del argv
    answers, predictions = make(ROWS.value, GROUPS.value)
    print(f"made {len(answers)} rows", flush=True)
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        result = work()
        seconds[name] = round(time.perf_counter() - begin, 2)
        print(f"{name:24} {seconds[name]:7.2f} s", flush=True)
        return result

    samples = SAMPLES.value
    uniform = [np.full(len(a.options), 1 / len(a.options)) for a in answers]
    rows = timed("row metrics", lambda: metrics.row_metrics(answers, predictions))
    base = timed("row metrics of a baseline", lambda: metrics.row_metrics(answers, uniform))
    timed("intervals", lambda: metrics.summarise(answers, rows, samples=samples))
    ceiling = timed("sampling ceiling", lambda: metrics.sampling_ceiling(answers, np.random.default_rng(0)))
    timed("intervals of the ceiling", lambda: metrics.summarise(answers, ceiling, samples=samples))
    timed("paired difference", lambda: paired.difference(answers, rows, base, "kl", samples=samples))
    timed("skill", lambda: paired.skill(answers, rows, base, ceiling, "kl", samples=samples))
    orders = [range(len(a.options)) for a in answers]
    timed("diagnostics", lambda: diagnostics.diagnose(answers, predictions, orders, samples=samples))
    for by in ("group", "topic"):
        timed(f"by {by}", lambda by=by: breakdowns.breakdown(answers, rows["kl"], "kl", by, samples=samples))
    result = {
        "rows": ROWS.value, "groups": GROUPS.value, "samples": samples, "cpus": len(os.sched_getaffinity(0)),
        "seconds": seconds, "total_seconds": round(sum(seconds.values()), 1),
        "peak_gigabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }  # fmt: skip
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(f"total {result['total_seconds']} s, peak {result['peak_gigabytes']} GB")


def make(rows: int, groups: int) -> tuple[list[Answer], list[np.ndarray]]:
    """Invented answers and predictions near them."""
    rng = np.random.default_rng(0)
    answers, predictions = [], []
    for i in range(rows):
        question = i // groups
        options = tuple(f"option {k}" for k in range(2 + question % 9))
        target, noise = rng.dirichlet(np.ones(len(options)), size=2)
        predictions.append(0.7 * target + 0.3 * noise)
        answers.append(
            Answer("S", f"Q{question}", "How?", options, (("country", f"C{i % groups}"),), tuple(target.tolist()),
                   n=1000, scale=("ordinal", "nominal")[question % 2], extra={"topic": f"T{question % 20}"})
        )  # fmt: skip
    return answers, predictions


if __name__ == "__main__":
    app.run(main)
