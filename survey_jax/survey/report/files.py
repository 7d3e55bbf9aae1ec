"""Writes what people read of an evaluation: report.html, predictions.csv, methods.txt and figures/*.svg."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from survey_jax.common.files import atomic_write
from survey_jax.survey.evaluation.scoring import SplitScore
from survey_jax.survey.long_form import OPTION_COLUMNS, Column, group_columns, group_values, write_long
from survey_jax.survey.prediction.stack import Stacked
from survey_jax.survey.report import figures, page, world_map
from survey_jax.survey.report.disclosure import Sections, surveys
from survey_jax.survey.report.methods import Facts, methods
from survey_jax.survey.report.verdict import ordered
from survey_jax.survey.table import Answer

FIGURES = "figures"  # folder
# Of predictions in long form; `group.ATTRIBUTE` follows `group`, and the pool's columns are there where there is one.
COLUMNS: Mapping[str, Column] = OPTION_COLUMNS | {
    "human": Column("Share of people who chose the option", float),
    "predicted": Column("Share that the language model alone predicts", float),
    "stack": Column("Share that rules and language model predict together", float),
    "concentration": Column("How many interviews the prediction of both together is worth", float),
    "low": Column("Low end of the 95 % sampling error of the human share", float),
    "high": Column("High end of the 95 % sampling error of the human share", float),
    "n": Column("Respondents of the row, unweighted", float),
    "split": Column("Part of the evaluation", str),
}


def write_report(
    folder: Path,
    splits: Mapping[str, SplitScore],
    subsets: Sequence[str],
    train: Sequence[Answer],
    card: Sections,
    facts: Facts,
) -> list[str]:
    """Writes the report and the files beside it; the same evaluation gives the same files.

    Args:
      folder: a local folder that exists; files of the same names are replaced.
      splits: by name.
      subsets: names of splits whose rows are part of another one; they get tables in the page only.
      card: what the page discloses of data and model: `disclosure.data_sections`, and the model's after it.

    Returns:
      the files' names in `folder`, those of figures with their folder, such as "figures/skill.svg".

    Raises:
      UserError: a file cannot be written.
    """
    splits = {name: splits[name] for name in ordered(splits)}
    whole = {name: split for name, split in splits.items() if name not in subsets}
    details = {name: page.details(split) for name, split in whole.items()}
    known = list({a.key: a for part in (train, *(s.answers for s in whole.values())) for a in part}.values())
    texts = {
        "report.html": page.render(splits, subsets, details, surveys(known), card, facts),
        "methods.txt": methods(whole, train, facts),
        **{f"{FIGURES}/{name}.svg": text for name, text in _figures(splits, subsets, details).items()},
    }
    (folder / FIGURES).mkdir(exist_ok=True)
    for name, text in texts.items():
        with atomic_write(folder / name) as partial:
            partial.write_text(text, encoding="utf-8")
    write_long_predictions(whole.values(), folder / "predictions.csv")
    return [*texts, "predictions.csv"]


def write_long_predictions(splits: Iterable[SplitScore], path: Path) -> None:
    """Writes predictions in long form, a line for each option of each row; see COLUMNS and docs/report.md.

    Raises:
      UserError: the file cannot be written, or its format cannot hold a text.
    """
    splits = list(splits)
    stacked = any(split.stacked is not None for split in splits)
    columns: dict[str, Column] = {}
    for name, column in COLUMNS.items():
        if name == "group":
            columns |= group_columns(a.group for split in splits for a in split.answers)
        elif stacked or name not in ("stack", "concentration"):
            columns[name] = column
    write_long(
        columns, (line for split in splits for i in range(len(split.answers)) for line in _lines(split, i)), path
    )


def _lines(split: SplitScore, row: int) -> Iterator[dict[str, Any]]:
    """The lines of a row. What is not known is empty, and so is a prediction that failed."""
    answer, stacked, bounds = split.answers[row], split.stacked, figures.sampling_error(split.answers[row])
    for k, option in enumerate(answer.options):
        yield {
            **{name: getattr(answer, name) for name in ("survey", "wave", "question_id", "question", "scale", "n")},
            **group_values(answer.group),
            "option_number": k + 1,
            "option": option,
            "human": answer.probs[k],
            "predicted": None if split.failed[row] else float(split.predictions[row][k]),
            **({} if stacked is None else _pooled(stacked, row, k)),
            "low": None if bounds is None else float(bounds[0][k]),
            "high": None if bounds is None else float(bounds[1][k]),
            "split": split.name,
        }


def _pooled(stacked: Stacked, row: int, option: int) -> dict[str, float]:
    return {"stack": float(stacked.shares[row, option]), "concentration": float(stacked.concentration[row])}


def _figures(
    splits: Mapping[str, SplitScore], subsets: Sequence[str], details: Mapping[str, page.Details]
) -> dict[str, str]:
    """Name of a file -> the figure, as the page has it."""
    skill = page.skill_figure(splits, subsets)
    found = {"skill": figures.standalone(skill)} if skill else {}
    for number, (name, d) in enumerate(details.items(), start=1):
        start = f"{number}_{re.sub(r'[^A-Za-z0-9_-]', '_', name)[:60]}"  # the number, as two names may become one
        drawn = {"departures": d.departures, "reliability": d.reliability, "places": d.places}
        drawn |= {f"worst_{i}": example.figure for i, example in enumerate(d.worst, start=1)}
        drawn |= {f"typical_{i}": example.figure for i, example in enumerate(d.typical, start=1)}
        found |= {f"{start}_{what}": figures.standalone(figure) for what, figure in drawn.items()}
        if d.map:
            found[f"{start}_map"] = figures.standalone(d.map["figure"], world_map.outlines())
    return found
