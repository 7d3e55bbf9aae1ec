"""How time and memory of a training step grow: with groups of a question, its length, the batch and the model.

    python -m benchmarks.growth [--series=groups,prompt,batch,model] [--plot=docs/growth.png]

Random weights and tokens (benchmarks.speed.step_worker), LoRA of rank 8 on q and v, float32, each point a process of
its own. Against what was measured stands a model with one number for all points: seconds are the FLOPs that the program
computes (padding, masked pairs and recomputation included) over a speed. Writes growth.json under --results, and the
plot.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks.speed.speed_data import check_choice
from benchmarks.speed.speed_report import table, write_whole
from survey_jax import cli

USUAL = {
    "model": "SmolLM2-135M",
    "side": "two_part",
    "dtype": "float32",
    "job": "lora_qv",
    "quantize": "",
    "rows": 1,
    "row_tokens": 1024,
    "groups": 46,
    "trunk": [60, 130],
    "remat": "dots",
    "steps": 4,
}
AXES: dict[str, tuple[str, Callable[[dict[str, Any]], float]]] = {
    "groups": ("groups a question", lambda p: p["groups"]),
    "prompt": ("tokens shared by prompts", lambda p: p["trunk"][0]),
    "batch": ("tokens a step", lambda p: p["tokens"]),
    "model": ("million weights in products", lambda p: p["parameters"] / 1e6),
}
SERIES: dict[str, list[dict[str, Any]]] = {
    "groups": [{"groups": n} for n in (1, 2, 5, 10, 20, 46, 100, 200)],
    "prompt": [{"trunk": [n, n + 1], "row_tokens": 2048} for n in (25, 50, 100, 200, 400, 800)],
    "batch": [{"rows": n} for n in (1, 2, 4, 8)],
    "model": [
        {"model": name} for name in ("SmolLM2-135M", "gemma-3-270m", "SmolLM2-360M", "Qwen2.5-0.5B", "gemma-3-1b-pt")
    ],
}
CHOSEN = flags.DEFINE_list("series", list(SERIES), f"Of {', '.join(SERIES)}.")
OUTPUT = flags.DEFINE_string("results", "benchmarks/results", "Folder for growth.json.")
PLOT = flags.DEFINE_string("plot", "benchmarks/results/growth.png", "Where the plot goes.")
HEAD = ("", "examples a step", "examples/s", "step, s", "model: s", "tokens an example", "GFLOP/s", "GB")


def main() -> None:
    check_choice("series", CHOSEN.value, SERIES)
    found: dict[str, list[dict[str, Any]]] = {}
    for name in CHOSEN.value:
        for changes in SERIES[name]:
            found.setdefault(name, []).append(measure(name, changes))
            write(found)
    plot(found, Path(PLOT.value))
    for name, points in found.items():
        print(f"\n{table((AXES[name][0], *HEAD[1:]), [row(p) for p in points])}")
    print(f"\nresults: {OUTPUT.value}/growth.json, {PLOT.value}")


def write(found: dict[str, list[dict[str, Any]]]) -> None:
    """All points so far, with what the model says of each: "expected_seconds"."""
    everything = [point for points in found.values() for point in points]
    speed = statistics.median(p["computed"] / p["seconds"] for p in everything)
    for point in everything:
        point["expected_seconds"] = point["computed"] / speed
    write_whole(Path(OUTPUT.value) / "growth.json", json.dumps(found, indent=2))


def measure(series: str, changes: dict[str, Any]) -> dict[str, Any]:
    """A point: what the worker says of a step."""
    spec = USUAL | changes
    command = [sys.executable, "-m", "benchmarks.speed.step_worker", json.dumps(spec)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    point = spec | json.loads(done.stdout.splitlines()[-1])
    point["x"] = AXES[series][1](point)
    print(f"{changes}: {point['examples'] / point['seconds']:.3g} examples/s", flush=True)
    return point


def row(p: dict[str, Any]) -> list[str]:
    """Of the table."""
    values = (
        p["x"],
        p["examples"],
        p["examples"] / p["seconds"],
        p["seconds"],
        p["expected_seconds"],
        p["tokens"] / p["examples"],
        p["computed"] / p["seconds"] / 1e9,
        p["memory"] / 1e9,
    )
    return [f"{v:.4g}" for v in values]


def plot(found: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """A column for each series: seconds an example above, memory below; dots measured, lines as the model says."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot, ticker

    size = (3.2 * len(found), 5.2)
    figure, axes = pyplot.subplots(2, len(found), figsize=size, squeeze=False, sharey="row", layout="constrained")
    for (name, points), (above, below) in zip(found.items(), axes.T, strict=True):
        points = sorted(points, key=lambda p: p["x"])
        x = [p["x"] for p in points]
        above.plot(x, [1e3 * p["seconds"] / p["examples"] for p in points], "o")
        above.plot(x, [1e3 * p["expected_seconds"] / p["examples"] for p in points], "-", linewidth=1)
        below.plot(x, [p["memory"] / 1e9 for p in points], "o")
        above.set_yscale("log")
        above.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        above.yaxis.set_major_formatter("{x:g}")
        above.yaxis.set_minor_locator(ticker.NullLocator())
        for axis in (above, below):
            axis.set_xscale("log")
            axis.set_xticks(x, [f"{v:.0f}" for v in x], rotation=60)
            axis.set_xticks([], minor=True)
        below.set_xlabel(AXES[name][0])
    axes[1][0].set_ylim(bottom=0)
    axes[0][0].set_ylabel("milliseconds an example")
    axes[1][0].set_ylabel("memory of a step, GB")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    cli.run(main)
