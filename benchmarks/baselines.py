"""What every baseline scores on every split of the paper's design; no model.

    python -m benchmarks.baselines --table=PATH [--preset=paper] [--known_answers=10]

PATH: World Values Survey wave 7 by country, as a survey table. Besides the preset's splits, the few-shot ones, in which
a held-out country has so many known answers. Prints a Markdown table: 1 - sqrt(JSD) (the paper's), KL and TV. Rows in
brackets were filled by a fallback for all rows of the split, so they repeat another line.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from survey_jax import cli
from survey_jax.survey.baselines.registry import BASELINES
from survey_jax.survey.baselines.seen_groups import FALLBACK, seen_group_mean
from survey_jax.survey.evaluation.metrics import row_metrics, sampling_ceiling
from survey_jax.survey.splits.split import TRAIN, SplitConfig, counts_table, split
from survey_jax.survey.table import Answer, read_table

TABLE = flags.DEFINE_string("table", None, "Survey table.", required=True)
PRESET = flags.DEFINE_string("preset", "paper", "Preset of survey/presets.py.")
KNOWN = flags.DEFINE_integer("known_answers", 10, "Known answers of a held-out group in the few-shot splits.")
METRICS = ("paper_1_minus_jsd", "kl", "tv")
Scores = dict[str, np.ndarray]


def main() -> None:
    answers = read_table(Path(TABLE.value))
    parts = split(answers, SplitConfig(preset=PRESET.value))
    few = split(answers, SplitConfig(preset=PRESET.value, known_answers=KNOWN.value))
    print(counts_table(parts), counts_table(few), sep="\n\n", end="\n\n")
    tests = {name: (parts.rows[TRAIN], rows) for name, rows in parts.rows.items() if name != TRAIN}
    tests |= {name: (few.rows[TRAIN], rows) for name, rows in few.rows.items() if name not in tests and name != TRAIN}
    print(f"| 1-√JSD / KL / TV | {' | '.join(tests)} |\n|---|{'---|' * len(tests)}", flush=True)
    for baseline, predict in BASELINES.items():
        cells = []
        for train, rows in tests.values():
            shares, sources = predict(train, rows)
            cell = show(row_metrics(rows, shares))
            cells.append(f"({cell})" if all(s.startswith(FALLBACK) for s in sources) else cell)
        print(f"| {baseline} | {' | '.join(cells)} |", flush=True)
    others = [show(leave_one_group_out(rows)) for _, rows in tests.values()]
    print(f"| *the split's own other groups* | {' | '.join(others)} |")
    ceiling = [show(sampling_ceiling(rows, np.random.default_rng(0))) for _, rows in tests.values()]
    print(f"| *sampling ceiling* | {' | '.join(ceiling)} |")


def leave_one_group_out(rows: Sequence[Answer]) -> Scores:
    """The mean of the other groups of the same split: knows what no baseline may, the answers to the same question."""
    total: dict[str, list[float]] = {metric: [] for metric in METRICS}
    for group in sorted({a.group for a in rows}):
        own = [a for a in rows if a.group == group]
        scores = row_metrics(own, seen_group_mean([a for a in rows if a.group != group], own)[0])
        for metric in METRICS:
            total[metric] += list(scores[metric])
    return {metric: np.array(values) for metric, values in total.items()}


def show(scores: Scores) -> str:
    """Means over rows that have a value."""
    return " / ".join(f"{np.nanmean(scores[m]):.3f}".removeprefix("0") for m in METRICS)


if __name__ == "__main__":
    cli.run(main)
