"""Compares runs on the rows that all of them predicted: paired differences, corrected for their number."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from rich.console import Console
from rich.table import Table

from survey_jax.common.console import one_line
from survey_jax.common.errors import UserError
from survey_jax.survey.evaluation import metrics
from survey_jax.survey.evaluation.paired import difference
from survey_jax.survey.evaluation.scoring import HEADLINE
from survey_jax.survey.table import Answer, Group
from survey_jax.survey.table_files import fold

_FILE = "predictions.parquet"
_SAME = 1e-6  # how far apart the targets of two evaluations of one table may be

Key = tuple[str, str, str | None, str, Group]  # split, survey, wave, question id, group
Predictions = dict[Key, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two or more runs on one split; all others are compared with the first.

    Attributes:
      n: how many rows all runs have; left_out: how many only some of them have.
      scores: run -> metric -> value, low, high.
      differences: run, without the first -> metric -> value, low, high, p, corrected for all splits, runs and metrics.
    """

    split: str
    n: int
    left_out: int
    scores: dict[str, dict[str, metrics.Interval]]
    differences: dict[str, dict[str, metrics.Interval]]


def find_predictions(places: Sequence[Path]) -> list[Path]:
    """The predictions file of each evaluation's folder, or of a run's newest evaluation of the same splits.

    The first place decides which splits: those of its newest evaluation.

    Raises:
      UserError: a place has no evaluation, or none of these splits.
    """
    files: list[Path] = []
    for place in places:
        found = [place / _FILE] if (place / _FILE).is_file() else _newest_first(place)
        if not found:
            raise UserError(f"{place}: no {_FILE} here or under eval/; evaluate the run first")
        if not files:
            files, wanted = [found[0]], _splits(found[0])
            continue
        same = [file for file in found if _splits(file) == wanted]
        if not same:
            others = "; ".join(f"{file.parent.name}: {', '.join(sorted(_splits(file)))}" for file in found)
            raise UserError(
                f"{place}: no evaluation of {', '.join(sorted(wanted))}, which are the splits of {files[0].parent}, "
                f"only {others}; name the folders to compare, as RUN/eval/NAME"
            )
        files.append(same[0])
    return files


def _newest_first(run: Path) -> list[Path]:
    return sorted(run.glob(f"eval/*/{_FILE}"), key=lambda file: file.stat().st_mtime, reverse=True)


def _splits(file: Path) -> set[str]:
    return set(_read(file, ["split"])["split"].to_pylist())


def _read(file: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        return pa.parquet.read_table(file, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{file}: cannot be read ({error}); evaluate the run again") from error


def read_predictions(file: Path) -> Predictions:
    """The rows of a predictions.parquet, by what identifies them. UserError if the file is none."""
    table = _read(file)
    needed = {"split", "survey", "wave", "question_id", "question", "options", "target", *metrics.METRICS}
    if missing := needed - set(table.column_names):
        raise UserError(f"{file}: has no column {sorted(missing)[0]!r}; evaluate the run again")
    rows: Predictions = {}
    for number, row in enumerate(map(fold, table.to_pylist()), start=1):
        try:
            group = tuple(sorted((k, v) for k, v in row["group"].items() if v is not None))
            row |= {"target": np.array(row["target"], float)} | {
                m: np.nan if row[m] is None else float(row[m]) for m in metrics.METRICS
            }
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{file} row {number}: not as an evaluation writes it ({error})") from error
        key = (row["split"], row["survey"], row["wave"], row["question_id"], group)
        if key in rows:
            raise UserError(f"{file} row {number}: is there twice; evaluate the run again")
        rows[key] = row
    return rows


def compare(runs: Mapping[str, Predictions], seed: int = 0) -> list[Comparison]:
    """Compares the runs with the first of them, split by split.

    Args:
      runs: name -> rows, as from `read_predictions`; two or more.

    Raises:
      UserError: no split in common, or the runs were scored against different answers.

    >>> key = ("valid", "S", None, "q", (("country", "Kenya"),))
    >>> row = {"question": "?", "options": ["A", "B"], "target": (0.6, 0.4)}
    >>> row |= {"tv": 0.25, "kl": 0.25, "paper_1_minus_jsd": 0.75}
    >>> (valid,) = compare({"old": {key: row}, "new": {key: row | {"kl": 0.125}}})
    >>> valid.differences["new"]["kl"]["value"]
    -0.125
    """
    names = list(runs)
    splits = [
        s for s in dict.fromkeys(key[0] for key in runs[names[0]]) if all(s in {k[0] for k in runs[n]} for n in names)
    ]
    if not splits:
        raise UserError(f"{names[0]} and {', '.join(names[1:])} have no split in common")
    comparisons = len(splits) * (len(runs) - 1)  # in each metric
    return [_compare_split(split, runs, comparisons, seed) for split in splits]


def _compare_split(split: str, runs: Mapping[str, Predictions], comparisons: int, seed: int) -> Comparison:
    keys_of = {name: {key for key in rows if key[0] == split} for name, rows in runs.items()}
    common = [key for key in next(iter(runs.values())) if all(key in keys for keys in keys_of.values())]
    if not common:
        raise UserError(f"split {split}: {', '.join(runs)} have no row in common; were they trained on other splits?")
    answers = _answers(common, runs)
    values = {name: {m: _column(rows, common, m) for m in HEADLINE} for name, rows in runs.items()}
    for m in HEADLINE:  # a row that one run has no score for is left out for all
        unknown = np.isnan([by_metric[m] for by_metric in values.values()]).any(axis=0)
        for by_metric in values.values():
            by_metric[m][unknown] = np.nan
    scores = {name: metrics.summarise(answers, by_metric, seed) for name, by_metric in values.items()}
    first, *others = runs
    differences = {
        name: {m: difference(answers, values[name], values[first], m, seed, comparisons=comparisons) for m in HEADLINE}
        for name in others
    }
    return Comparison(split, len(common), len(set().union(*keys_of.values())) - len(common), scores, differences)


def _answers(common: Sequence[Key], runs: Mapping[str, Predictions]) -> list[Answer]:
    """The rows as answers. Raises UserError if the runs were not scored against the same ones."""
    (first, rows), *others = runs.items()
    answers = []
    for key in common:
        row = rows[key]
        answer = Answer(
            key[1], key[3], row["question"], tuple(row["options"]), key[4], tuple(row["target"]), wave=key[2]
        )
        for name, theirs in others:
            other = theirs[key]
            same_options = other["options"] == row["options"] and len(other["target"]) == len(row["target"])
            if not same_options or not np.allclose(other["target"], row["target"], atol=_SAME):
                raise UserError(
                    f"{answer.describe()}: {first} and {name} were scored against different answers; evaluate both on "
                    "one table"
                )
        answers.append(answer)
    return answers


def _column(rows: Predictions, keys: Sequence[Key], metric: str) -> np.ndarray:
    return np.array([rows[key][metric] for key in keys])


def print_comparison(comparisons: Sequence[Comparison]) -> None:
    """Prints a table of scores, and of differences from the first run."""
    table = Table(title="Paired on common rows; differences from the first run, intervals and p by Bonferroni")
    for column in ("split", "run", *HEADLINE.values()):
        table.add_column(column, no_wrap=True)
    for title in HEADLINE.values():
        table.add_column(f"difference in {title}", no_wrap=True)
    for c in comparisons:
        for number, (name, scores) in enumerate(c.scores.items()):
            head = {0: c.split, 1: f"n = {c.n}" + (f" ({c.left_out} left out)" if c.left_out else "")}.get(number, "")
            shown = [f"{scores[m]['value']:.3f}" for m in HEADLINE]
            table.add_row(
                one_line(head), one_line(name), *shown, *(_cell(c.differences.get(name, {}).get(m)) for m in HEADLINE)
            )
        table.add_section()
    Console(width=160, markup=False).print(table)


def _cell(entry: metrics.Interval | None) -> str:
    if entry is None:
        return ""
    if np.isnan(entry["low"]):
        return f"{entry['value']:+.3f} (one question: no interval)"
    return f"{entry['value']:+.3f} [{entry['low']:+.3f}, {entry['high']:+.3f}] p = {entry['p']:.3f}"


def to_json(comparisons: Sequence[Comparison], files: Mapping[str, Path]) -> dict[str, Any]:
    """All comparisons as JSON can hold them; NaN becomes null."""
    value = {
        "runs": {n: str(f) for n, f in files.items()},
        "splits": {c.split: dataclasses.asdict(c) for c in comparisons},
    }
    return json.loads(json.dumps(value), parse_constant=lambda _: None)
