"""The results of an evaluation as a printed table and as sentences; `page.py` makes the HTML report of them."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from survey_jax.survey.evaluation import metrics
from survey_jax.survey.evaluation.scoring import HEADLINE, SplitScore

SHOWN = ("paper_1_minus_jsd", "kl", "jsd", "tv", "emd", "mode_accuracy", "entropy_ratio")
TITLES = HEADLINE | {"jsd": "JSD", "tv": "TV", "emd": "EMD", "mode_accuracy": "mode", "entropy_ratio": "entropy ratio"}
LEVEL = 0.05  # a difference is clear where its corrected p-value is below
_ALWAYS_SHOWN = ("uniform", "seen_group_mean")  # baselines; the best one is shown too
_CEILING = "sampling ceiling"


def verdicts(summary: Mapping[str, Any]) -> list[str]:
    """Sentences on what the subject beats and what it does not: first the best baseline, then each other system."""
    differences, best = summary["differences"], summary["best_baseline"]
    bar = {metric: (f"the best baseline ({name})", differences[name][metric]) for metric, name in best.items()}
    others = [rival for rival in differences if rival not in summary["sources"]]
    compared = [{metric: (other, entry) for metric, entry in differences[other].items()} for other in others]
    return [_sentence(rivals) for rivals in (bar, *compared) if rivals]


def _sentence(compared: Mapping[str, tuple[str, Mapping[str, float | None]]]) -> str:
    """How the subject compares with a rival in each metric; `compared` has the rival's name and the difference.

    E.g. "beats uniform by 0.027 [0.012, 0.041] in 1-√JSD; shows no clear difference from uniform: 0.004 [-0.010,
    0.018] in KL". Where it is not clear, numbers above zero are in the subject's favour.
    """
    said: dict[str, list[str]] = defaultdict(list)
    for metric, (rival, entry) in compared.items():
        value, low, high = gain(metric, entry)
        if entry["p_holm"] is None:
            start = f"has no interval (one question) against {rival}:"
        elif entry["p_holm"] >= LEVEL:
            start = f"shows no clear difference from {rival}:"
        elif value > 0:
            start = f"beats {rival} by"
        else:
            start, value, low, high = f"falls short of {rival} by", -value, -high, -low
        number = cell({metric: {"value": value, "low": low, "high": high}}, metric, interval=True)
        said[start].append(f"{number} in {TITLES[metric]}")
    return "; ".join(f"{start} {', '.join(numbers)}" for start, numbers in said.items())


def gain(metric: str, entry: Mapping[str, float | None]) -> tuple[float, float, float]:
    """A difference and its interval, signed so that above zero is better; NaN where the summary has none."""
    value, low, high = (math.nan if (x := entry[part]) is None else x for part in ("value", "low", "high"))
    return (value, low, high) if metrics.METRICS[metric].better == "higher" else (-value, -high, -low)


def systems_of(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The lines of a split's table: the subject, a few of the baselines, the controls, the ceiling."""
    scored, best = summary["baselines"], summary["best_baseline"]
    chosen = {}
    for baseline in dict.fromkeys([*_ALWAYS_SHOWN, *best.values()]):
        of = [TITLES[metric] for metric, name in best.items() if name == baseline]
        mark = " (best)" if len(of) == len(best) else f" (best {of[0]})" if of else ""
        chosen[baseline + mark] = scored[baseline]
    controls = {system: scores for system, scores in scored.items() if system not in summary["sources"]}
    return {"model": summary["model"], **chosen, **controls, _CEILING: summary["ceiling"]}


def baselines_of(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Every baseline that is not the same as another, the best first."""
    scores = {b: summary["baselines"][b] for b in summary["sources"] if b not in summary["same_as"]}
    return dict(sorted(scores.items(), key=lambda item: -item[1]["paper_1_minus_jsd"]["value"]))


def sources_of(summary: Mapping[str, Any], baseline: str) -> str:
    """How many rows a baseline predicted in which way, the most frequent first."""
    counts = sorted(summary["sources"][baseline].items(), key=lambda item: -item[1])
    return ", ".join(f"{source} ({n:,})" for source, n in counts)


def cell(scores: Mapping[str, Any], metric: str, interval: bool) -> str:
    """A value as text, with its 95 % interval where asked for."""
    entry = scores.get(metric)
    if entry is None or entry["value"] is None or math.isnan(entry["value"]):
        return "-"
    numbers = [entry[part] for part in ("value", "low", "high")]
    if not interval or any(number is None or math.isnan(number) for number in numbers):
        return f"{numbers[0]:z.3f}"
    return "{:z.3f} [{:z.3f}, {:z.3f}]".format(*numbers)


def print_table(splits: Iterable[SplitScore]) -> None:
    """Prints one table for all splits, and below it a sentence for each split and any predictions that failed."""
    splits = list(splits)
    table = Table(title="Predicted against human distributions (95 % intervals clustered by question and group)")
    table.add_column("split", no_wrap=True)
    table.add_column("system", no_wrap=True)
    for metric in SHOWN:
        table.add_column(TITLES[metric], justify="right", no_wrap=True)
    for split in splits:
        for number, (system, scores) in enumerate(systems_of(split.summary).items()):
            head = {0: split.name, 1: f"n = {split.summary['n']}"}.get(number, "")
            table.add_row(head, system, *(cell(scores, m, interval=m in HEADLINE) for m in SHOWN))
        table.add_section()
    # Wide enough for every column, whatever the terminal: a log must not lose digits.
    Console(width=160).print(table)
    for split in splits:
        print(f"{split.name}: the model {verdicts(split.summary)[0]}", flush=True)
    for warning in dict.fromkeys(w for split in splits for w in split.warnings):
        print(warning, flush=True)
