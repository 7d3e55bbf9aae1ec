"""Draws benchmarks/learning_curve.py's figures, and prints them as a table.

python -m benchmarks.learning_curve_plot [--results=benchmarks/results/learning_curve.json] [--plot=docs/FILE.png]
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from matplotlib import pyplot

from survey_jax import cli
from survey_jax.survey.splits.config import UNSEEN_QUESTION, UNSEEN_SURVEY

RESULTS = flags.DEFINE_string("results", "benchmarks/results/learning_curve.json", "What the benchmark wrote.")
PLOT = flags.DEFINE_string("plot", "docs/learning_curve.png", "Where the figure goes.")

SPLITS = {UNSEEN_QUESTION: "new questions of the same surveys", UNSEEN_SURVEY: "questions of an unseen survey"}
METRICS = {"tv": ("misplaced answers of 100", 100.0, 1), "kl": ("KL (nats)", 1.0, 3)}
LINES = {
    "best rule": ("#999999", "s"),
    "rules together": ("#1b4f72", "D"),
    "language model": ("#f0a83c", "o"),
    "rules and model together": ("#a02c2c", "^"),
}
Estimate = dict[str, float]  # value, low, high


def main() -> None:
    runs = sorted(json.loads(Path(RESULTS.value).read_text()).values(), key=lambda run: run["questions"])
    print(table(runs))
    figure, axes = pyplot.subplots(
        len(METRICS), len(SPLITS), figsize=(10, 7), sharex=True, sharey="row", layout="constrained"
    )
    for row, metric in zip(axes, METRICS, strict=True):
        for panel, split in zip(row, SPLITS, strict=True):
            draw(panel, runs, split, metric)
        row[0].set_ylabel(METRICS[metric][0])
    for panel, title in zip(axes[0], SPLITS.values(), strict=True):
        panel.set_title(title)
    for panel in axes[-1]:
        panel.set_xlabel("training questions")
    axes[0, 0].legend(frameon=False)
    figure.savefig(PLOT.value, dpi=110)
    print(f"results: {PLOT.value}")


def draw(panel: Any, runs: list[dict[str, Any]], split: str, metric: str) -> None:
    """One panel: a line a system, with 95 % intervals."""
    _, scale, _ = METRICS[metric]
    for place, (name, (colour, marker)) in enumerate(LINES.items()):
        found = [systems(run["splits"][split], metric)[name] for run in runs]
        x = np.array([run["questions"] for run in runs]) * 1.04 ** (place - 1.5)  # side by side
        middle, low, high = (scale * np.array([f[end] for f in found]) for end in ("value", "low", "high"))
        panel.errorbar(x, middle, [middle - low, high - middle], color=colour, marker=marker, label=name, capsize=2)
    panel.set_xscale("log")
    panel.set_xticks([run["questions"] for run in runs], [f"{run['questions']:,}" for run in runs])
    panel.minorticks_off()
    panel.spines[["top", "right"]].set_visible(False)


def systems(split: dict[str, Any], metric: str) -> dict[str, Estimate]:
    """What each line has for a metric of a split."""
    return {
        "best rule": split["baselines"][split["best_baseline"][metric]][metric],
        "rules together": split["stack"]["rules_pooled"][metric],
        "language model": split["model"][metric],
        "rules and model together": split["stack"]["stack"][metric],
    }


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown: misplaced answers / KL of each system, and what the stack gains, with 95 % intervals."""
    lines = [
        f"| training questions | split | {' | '.join(LINES)} | together against the best rule | against the rules |",
        "|" + "---|" * (len(LINES) + 4),
    ]
    for run in runs:
        for split, title in SPLITS.items():
            part = run["splits"][split]
            found = {metric: systems(part, metric) for metric in METRICS}
            cells = [f"{100 * found['tv'][name]['value']:.1f} / {found['kl'][name]['value']:.3f}" for name in LINES]
            rivals = (part["best_baseline"]["tv"], "rules_pooled")
            gains = [gain(part["stack"]["differences"][rival]["tv"]) for rival in rivals]
            lines.append(f"| {run['questions']:,} | {title} | {' | '.join(cells + gains)} |")
    return "\n".join(lines)


def gain(difference: Estimate) -> str:
    value, low, high = (100 * difference[end] for end in ("value", "low", "high"))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


if __name__ == "__main__":
    cli.run(main)
