"""Writes forecasts as a table that survey software reads: a line for each option of each question put to each group."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from survey_jax.common.errors import UserError
from survey_jax.survey.long_form import Column, check_output, group_columns, group_values, write_long
from survey_jax.survey.prediction.forecast import Forecast

# `group.ATTRIBUTE` (text) and `member.NAME` (number) follow `group` and `nearest_similarity`.
COLUMNS: Mapping[str, Column] = {
    "survey": Column("Survey", str),
    "question_id": Column("Id of the question", str),
    "question": Column("Question", str),
    "group": Column("Group", str),
    "option_number": Column("Number of the option, from 1", int),
    "option": Column("Option", str),
    "share": Column("Predicted share of the option", float),
    "low": Column("Low end of the share's 95 % interval", float),
    "high": Column("High end of the share's 95 % interval", float),
    "low_80": Column("Low end of the share's 80 % interval", float),
    "high_80": Column("High end of the share's 80 % interval", float),
    "expected_misplaced": Column("Of 100 answers, how many are expected to be misplaced", float),
    "worth_interviews": Column("How many interviews the prediction is worth", float),
    "kind": Column("What the training data knows of question and group", str),
    "nearest_question": Column("Question of the training data that reads most like this one", str),
    "nearest_similarity": Column("Similarity of the nearest question, from 0 to 1", float),
    "cautions": Column("What is unlike anything in the training data", str),
}


def write_forecasts(forecasts: Sequence[Forecast], path: str | Path) -> None:
    """Writes forecasts in long form, with the columns of COLUMNS and one for each group attribute and each member.

    What is not known is empty: an attribute that a group has not, a member that was not asked.

    Args:
      path: a .csv, .parquet, .sav or .dta file.

    Raises:
      UserError: no forecasts, a path that cannot be written, or a text that the format cannot hold.
    """
    check_output(path, "forecasts")
    if not forecasts:
        raise UserError(f"{path}: there are no forecasts to write")
    write_long(_columns(forecasts), _all_lines(forecasts), path)


def _columns(forecasts: Sequence[Forecast]) -> dict[str, Column]:
    members = dict.fromkeys(member for f in forecasts for member in f.members)
    in_place: dict[str, dict[str, Column]] = {
        "group": group_columns(f.answer.group for f in forecasts),
        "nearest_similarity": {
            "nearest_similarity": COLUMNS["nearest_similarity"],
            **{f"member.{m}": Column(f"Share that {m} predicts", float) for m in members},
        },
    }
    columns: dict[str, Column] = {}
    for name, column in COLUMNS.items():
        columns |= in_place.get(name, {name: column})
    return columns


def _all_lines(forecasts: Sequence[Forecast]) -> Iterator[dict[str, Any]]:
    for forecast in forecasts:
        yield from _lines(forecast)


def _lines(forecast: Forecast) -> list[dict[str, Any]]:
    """The lines of a forecast, one an option, without what is not known."""
    answer = forecast.answer
    (low, high), (low_80, high_80) = forecast.interval(0.95), forecast.interval(0.8)
    same = {
        "survey": answer.survey,
        "question_id": answer.question_id,
        "question": answer.question,
        **group_values(answer.group),
        "expected_misplaced": forecast.misplaced,
        "worth_interviews": float(forecast.concentration),
        "kind": forecast.kind,
        "cautions": "; ".join(forecast.cautions),
    }
    if forecast.similar:
        nearest = forecast.similar[0]
        same |= {"nearest_question": nearest.question.question, "nearest_similarity": float(nearest.similarity)}
    return [
        same
        | {
            "option_number": k + 1,
            "option": option,
            "share": float(forecast.shares[k]),
            "low": float(low[k]),
            "high": float(high[k]),
            "low_80": float(low_80[k]),
            "high_80": float(high_80[k]),
            **{f"member.{name}": float(shares[k]) for name, (_, shares) in forecast.members.items()},
        }
        for k, option in enumerate(answer.options)
    ]
