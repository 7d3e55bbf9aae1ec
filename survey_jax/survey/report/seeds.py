"""What trainings that differ in their seed alone have in common: how much of a result is the seed's.

One training shows one draw of the order of data and of the adapters' first values. Beside the interval over questions
and groups, which every evaluation has, stands here how far trainings lie apart.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.stats
from etils import epath
from rich.console import Console
from rich.table import Table

from survey_jax.common.console import one_line, say
from survey_jax.common.errors import plural
from survey_jax.common.files import read_json, replaced_folder, write_json
from survey_jax.survey.report import page
from survey_jax.survey.report.verdict import BETTER, SPOKEN, UNKNOWN, WORSE, gain, ordered, primary, subject, verdict
from survey_jax.survey.report.words import split_name, system_name

_LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class OverSeeds:
    """A split, over trainings. Numbers are misplaced answers of 100; a gain above 0 is in favour of what is tested.

    Attributes:
      values: seed -> of what is put to the test.
      mean, spread: of these; the spread is the standard deviation from one training to the next.
      gains: seed -> over the best rule.
      gain: their mean, with an interval for one more training, over questions, groups and seeds; NaN where unknown.
      verdicts: seed -> of that training alone.
    """

    split: str
    rows: int
    subject: str
    rule: str
    values: dict[int, float]
    mean: float
    spread: float
    gains: dict[int, float]
    gain: tuple[float, float, float]
    verdicts: dict[int, str]

    @property
    def clear(self) -> str:
        """In how many trainings the difference is clear, in words."""
        counts = {word: list(self.verdicts.values()).count(word) for word in (BETTER, WORSE)}
        parts = [f"{word} in {count} of {len(self.verdicts)}" for word, count in counts.items() if count]
        return "; ".join(parts) or ("no verdict" if UNKNOWN in self.verdicts.values() else "clear in none")


def compare_seeds(folders: Mapping[int, epath.Path], output: epath.Path) -> None:
    """Says how far the evaluations of several seeds lie apart, and writes report.html and seeds.json.

    Args:
      folders: seed -> its evaluation.
      output: the folder for the two files.
    """
    found = over_seeds({seed: read_json(folder / "metrics.json")["splits"] for seed, folder in folders.items()})
    print_seeds(found)
    reports = {seed: os.path.relpath(folder / "report.html", output) for seed, folder in folders.items()}
    with replaced_folder(output) as made:
        (made / "report.html").write_text(render(found, reports), encoding="utf-8")
        write_json(epath.Path(made) / "seeds.json", to_json(found))
    say(f"results: {output}/report.html, seeds.json")


def over_seeds(summaries: Mapping[int, Mapping[str, Any]]) -> list[OverSeeds]:
    """Summaries of one evaluation by seed, two or more -> each split that all of them have.

    Args:
      summaries: seed -> "splits" of its metrics.json.
    """
    common = set.intersection(*(set(splits) for splits in summaries.values()))
    return [_over_seeds(name, {seed: splits[name] for seed, splits in summaries.items()}) for name in ordered(common)]


def _over_seeds(name: str, summaries: Mapping[int, Mapping[str, Any]]) -> OverSeeds:
    first = next(iter(summaries.values()))
    entries = {seed: primary(summary) for seed, summary in summaries.items()}
    values = {seed: 100 * _tested(summary)[SPOKEN]["value"] for seed, summary in summaries.items()}
    intervals = [tuple(100 * x for x in gain(SPOKEN, entry)) for entry in entries.values()]
    numbers = list(values.values())
    return OverSeeds(
        split=name,
        rows=first["n"],
        subject=subject(first),
        rule=first["best_baseline"][SPOKEN],
        values=values,
        mean=float(np.mean(numbers)),
        spread=float(np.std(numbers, ddof=1)),
        gains={seed: value for seed, (value, _, _) in zip(entries, intervals, strict=True)},
        gain=combined(intervals),
        verdicts={seed: verdict(SPOKEN, entry) for seed, entry in entries.items()},
    )


def combined(intervals: Sequence[tuple[float, ...]]) -> tuple[float, float, float]:
    """Mean of estimates from several trainings on the same rows, and a 95 % interval for one more training.

    The rows are the same, so that their part of the error is that of one training; the seeds' part is a prediction
    interval of Student's t. Their squares add up, as they have nothing to do with each other.

    Args:
      intervals: value, low and high of each training, at the same level; two or more.
    """
    values = np.array([value for value, _, _ in intervals])
    low, high = (np.array([ends[i] for ends in intervals]) for i in (1, 2))
    count = len(values)
    reach = scipy.stats.t.ppf((1 + _LEVEL) / 2, count - 1) * values.std(ddof=1) * np.sqrt(1 + 1 / count)
    mean = values.mean()
    below, above = np.hypot((values - low).mean(), reach), np.hypot((high - values).mean(), reach)
    return float(mean), float(mean - below), float(mean + above)


def _tested(summary: Mapping[str, Any]) -> Mapping[str, Any]:
    return summary["stack"]["stack"] if "stack" in summary else summary["model"]


def cells(split: OverSeeds) -> list[str]:
    """A line of the table, as texts."""
    value, low, high = split.gain
    known = "" if np.isnan(low) else f" [{low:z.1f}, {high:z.1f}]"
    return [
        split_name(split.split),
        f"{split.rows:,}",
        " ".join(f"{number:.1f}" for number in split.values.values()),
        f"{split.mean:.1f}",
        f"{split.spread:.1f}",
        system_name(split.rule),
        f"{value:z.1f}{known}",
        split.clear,
    ]


COLUMNS = ("what is predicted", "n", "each seed", "mean", "s.d.", "best rule", "fewer than it", "by itself")


def print_seeds(splits: Sequence[OverSeeds]) -> None:
    """Prints a table of the splits."""
    seeds = ", ".join(map(str, splits[0].values))
    table = Table(title=f"Misplaced of 100, trained with seeds {seeds}", title_justify="left")
    for column in COLUMNS:
        table.add_column(column)
    for split in splits:
        table.add_row(*map(one_line, cells(split)))
    Console(width=160, markup=False).print(table)


def render(splits: Sequence[OverSeeds], reports: Mapping[int, str]) -> str:
    """The page of the table.

    Args:
      reports: seed -> the address of that training's own report, relative to the page.
    """
    return page.template("seeds.html.jinja").render(
        columns=COLUMNS, lines=[cells(split) for split in splits], reports=reports, subject=splits[0].subject,
        trainings=plural(len(reports), "training"),
    )  # fmt: skip


def to_json(splits: Sequence[OverSeeds]) -> dict[str, Any]:
    """The table for a program; None where a number does not exist."""
    made = {split.split: dataclasses.asdict(split) | {"gain": _entry(split.gain)} for split in splits}
    return {"metric": SPOKEN, "unit": "of 100", "splits": made}


def _entry(numbers: tuple[float, float, float]) -> dict[str, float | None]:
    return {name: None if np.isnan(x) else x for name, x in zip(("value", "low", "high"), numbers, strict=True)}
