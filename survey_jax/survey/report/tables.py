"""The results of an evaluation as a printed table and as sentences; `page.py` makes the HTML report of them."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from survey_jax.common.console import one_line, say
from survey_jax.common.errors import plural
from survey_jax.survey.evaluation.scoring import HEADLINE, SplitScore
from survey_jax.survey.report.verdict import SPOKEN, gain, intervals, notes, numbers, ordered, sentence
from survey_jax.survey.report.words import decimals, interviews, split_name, system_name

SHOWN = (*HEADLINE, "jsd", "emd", "mode_accuracy", "entropy_ratio")
TITLES = HEADLINE | {"jsd": "JSD", "emd": "EMD", "mode_accuracy": "mode", "entropy_ratio": "entropy ratio"}
_ALWAYS_SHOWN = ("uniform", "seen_group_mean")  # rules; the best ones are shown too
WIDTH = 140  # of the printed tables
CEILING, SECOND = "knowing the population (sampling ceiling)", "a second sample of people"


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a table of scores.

    Attributes:
      code: of the system; "" for one that is none, such as the sampling ceiling.
      mark: what else there is to say of it, such as "best rule".
    """

    code: str
    name: str
    mark: str
    scores: Mapping[str, Any]


def systems_of(summary: Mapping[str, Any]) -> list[Line]:
    """The lines of a split's table: the model, a few of the rules, the controls, and what people would score."""
    scored, best = summary["baselines"], summary["best_baseline"]
    chosen = [system for system in _ALWAYS_SHOWN if system in scored]
    rules = dict.fromkeys([best[SPOKEN], *best.values(), *chosen])
    others = [system for system in scored if system not in summary["sources"]]
    lines = []
    for code in ("stack", "rules_pooled") if "stack" in summary else ():
        lines.append(Line(code, system_name(code), "", summary["stack"][code]))
    lines.append(Line("model", system_name("model"), "", summary["model"]))
    lines += [Line(s, system_name(s), _mark(s, best), scored[s]) for s in [*rules, *others]]
    if summary["ceiling_n"]:
        lines += [Line("", SECOND, "", summary["second_survey"]), Line("", CEILING, "", summary["ceiling"])]
    return lines


def _mark(rule: str, best: Mapping[str, str]) -> str:
    """In which metrics the rule is the best one."""
    of = [HEADLINE[metric] for metric, name in best.items() if name == rule]
    return "best rule" if len(of) == len(best) else f"best in {' and '.join(of)}" if of else ""


def rules_of(summary: Mapping[str, Any]) -> list[Line]:
    """Every rule that is not the same as another, the best first."""
    scores = {rule: summary["baselines"][rule] for rule in summary["sources"] if rule not in summary["same_as"]}
    ordered = sorted(scores.items(), key=lambda item: item[1][SPOKEN]["value"])
    return [Line(rule, system_name(rule), _mark(rule, summary["best_baseline"]), s) for rule, s in ordered]


def sources_of(summary: Mapping[str, Any], rule: str) -> str:
    """How many rows a rule predicted in which way, the most frequent first."""
    counts = sorted(summary["sources"][rule].items(), key=lambda item: -item[1])
    return ", ".join(f"{source} ({n:,})" for source, n in counts)


def comparisons(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """Lines of the table of paired differences, the primary ones first; above zero is in favour of `system`."""
    lines = []
    compared = [("model", summary), *([("stack", summary["stack"])] if "stack" in summary else [])]
    for system, rival, by_metric in ((s, r, m) for s, part in compared for r, m in part["differences"].items()):
        for metric, entry in by_metric.items():
            value, low, high = gain(metric, entry)
            many = entry["comparisons"]
            lines.append({
                "system": system, "rival": rival, "metric": TITLES[metric],
                "gain": cell({metric: {"value": value, "low": low, "high": high}}, metric, interval=True),
                "p": "-" if entry["p"] is None else f"{entry['p']:.3f}",
                "among": "primary" if rival in summary["sources"] and system == compared[-1][0] else f"one of {many}",
                "n": f"{entry['n']:,}",
            })  # fmt: skip
    return sorted(lines, key=lambda line: line["among"] != "primary")


def cell(scores: Mapping[str, Any], metric: str, interval: bool) -> str:
    """A value as text, with its 95 % interval where asked for; `SPOKEN` of 100 answers, the others as they are."""
    entry = scores.get(metric)
    if entry is None or entry["value"] is None or math.isnan(entry["value"]):
        return "-"
    scale, places = (100, 1) if metric == SPOKEN else (1, 3)
    value, low, high = (scale * number for number in numbers(entry))
    if not interval or math.isnan(low) or math.isnan(high):
        return f"{value:z.{places}f}"
    places = decimals(low, high, places)  # an interval that leaves 0 out is shown to do so
    return f"{value:z.{places}f} [{low:z.{places}f}, {high:z.{places}f}]"


def worth(summary: Mapping[str, Any], system: str) -> str:
    """How many interviews a system's predictions are worth, with the interval; "" where that is not known."""
    entry = summary["stack"]["worth"] if system == "stack" else summary["worth"].get(system)
    if entry is None or entry["value"] is None:
        return ""
    value, low, high = numbers(entry)
    return interviews(value) if math.isnan(low) else f"{interviews(value)} [{interviews(low)}, {interviews(high)}]"


def print_table(splits: Iterable[SplitScore]) -> None:
    """Prints a table for each split; below them a sentence on each, and what else there is to know of it."""
    by_name = {split.name: split for split in splits}
    splits = [by_name[name] for name in ordered(by_name)]
    console = Console(width=WIDTH, markup=False)  # whatever the terminal: a log must not lose digits
    say("Predicted against human answers; 95 % intervals, clustered by question and group")
    for split in splits:
        console.print(_table(split.name, split.summary))
    for split in splits:
        said = [sentence(split.name, split.summary), intervals(split.summary), *notes(split)]
        say(" ".join([f"{split.name}:", *filter(None, said)]))
    for warning in dict.fromkeys(w for split in splits for w in split.warnings):
        say(warning)


def _table(code: str, summary: Mapping[str, Any]) -> Table:
    name, code = one_line(split_name(code)), one_line(code)
    in_code = "" if name == code else f" ({code})"
    table = Table(title=f"{name}{in_code}, {plural(summary['n'], 'row')}", title_justify="left")
    table.add_column("prediction by")
    for title in (*HEADLINE.values(), "worth interviews"):
        table.add_column(title, justify="right", no_wrap=True)
    for line in systems_of(summary):
        asked = worth(summary, line.code)
        if line.name == SECOND and summary["respondents"] is not None:
            asked = interviews(summary["respondents"])
        label = f"{line.name} <- {line.mark}" if line.mark else line.name
        table.add_row(one_line(label), *(cell(line.scores, m, interval=True) for m in HEADLINE), asked)
    return table
