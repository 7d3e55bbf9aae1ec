"""Writes what people read of an evaluation: report.html, predictions.csv, methods.txt and figures/*.svg."""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from survey_jax.common.files import atomic_write
from survey_jax.survey.evaluation.scoring import SplitScore
from survey_jax.survey.report import figures, page, world_map
from survey_jax.survey.report.disclosure import Sections, surveys
from survey_jax.survey.report.methods import Facts, methods
from survey_jax.survey.report.verdict import ordered
from survey_jax.survey.table import Answer

FIGURES = "figures"  # folder
COLUMNS = (
    *("survey", "wave", "question_id", "question", "group", "option"),
    *("human", "predicted", "low", "high", "n", "split"),
)


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
    write_csv(whole, folder / "predictions.csv")
    return [*texts, "predictions.csv"]


def write_csv(splits: Mapping[str, SplitScore], path: Path) -> None:
    """Writes predictions in long form, a line for each option of each row; see COLUMNS and docs/report.md.

    Raises:
      UserError: the file cannot be written.
    """
    with atomic_write(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(COLUMNS)
        for name, split in splits.items():
            for i, answer in enumerate(split.answers):
                lines.writerows(_lines(name, answer, split.predictions[i], bool(split.failed[i])))


def _lines(split: str, answer: Answer, prediction: np.ndarray, failed: bool) -> list[list[str | float | None]]:
    """The lines of a row. What is not known is empty, and so is a prediction that failed."""
    group = "; ".join(f"{attribute}={value}" for attribute, value in answer.group)
    bounds = figures.sampling_error(answer)
    return [
        [
            *(answer.survey, answer.wave, answer.question_id, answer.question, group, option),
            *(answer.probs[k], None if failed else float(prediction[k])),
            *((None, None) if bounds is None else bounds[:, k].tolist()),
            *(answer.n, split),
        ]
        for k, option in enumerate(answer.options)
    ]


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
