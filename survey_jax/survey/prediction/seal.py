"""Seals predictions before anybody has answered: a file whose digest, once published, shows that nothing was changed.

The digest is the SHA-256 of the file's content in one canonical form: JSON with sorted keys, without blank space, in
UTF-8, without the digest itself. Shares are rounded to 12 digits. Whoever knows the digest can tell later that a file
holds the same predictions, questions, groups and facts of the run, and no others.
"""

import dataclasses
import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Float

from survey_jax import __version__
from survey_jax.common.errors import UserError
from survey_jax.common.files import atomic_write, read_json
from survey_jax.survey.prediction.cells import Cells
from survey_jax.survey.prediction.forecast import Forecast
from survey_jax.survey.table import Answer

FORMAT = 1
DIGEST = "sha256"
_DIGITS = 12
NOT_RECORDED = "not recorded"
# The form of a registration: heading -> its lines, each a label and the fact that it takes (a name, or names joined by
# dots for a fact inside a fact).
_FORM: Mapping[str, Mapping[str, str]] = {
    "Study": {
        "Title": "title",
        "Date of registration (UTC)": "sealed",
        "SHA-256 of the sealed predictions": DIGEST,
        "Questions": "questions",
        "Groups": "groups",
        "Hypotheses": "hypotheses",
    },
    "Model": {
        "Base model": "base_model.weights",
        "Revision of the base model": "base_model.commit",
        "Knowledge cut-off of the base model": "knowledge_cutoff",
        "Run": "id",
        "Checkpoint": "checkpoint",
        "Stack": "stack",
    },
    "Prompts": {"Template": "prompts", "Sampling": "sampling", "Seeds": "seed"},
    "Data": {
        "Training data": "data",
        "Fingerprints": "identity",
        "Latest fieldwork in the training data": "data_cutoff",
    },
    "Analysis": {
        "Configurations tried": "configurations_tried",
        "Rule for choosing among them": "selection",
        "Hash of the settings": "config_hash",
        "Human answers used": "human_answers",
    },
    "Compute": {
        "Devices": "device",
        "Processes": "processes",
        "Started": "started",
        "Versions": "versions",
        "Source (git commit)": "git_commit",
        "Files changed since": "git_changes",
    },
}


@dataclasses.dataclass(frozen=True)
class SealedRows:
    """Answers that came in later, and what had been predicted, row by row.

    Attributes:
      answers: as given.
      shares: sealed, in the order of each answer's options.
      concentration: sealed.
    """

    answers: list[Answer]
    shares: list[Float[np.ndarray, " K"]]
    concentration: Float[np.ndarray, " n"]


def seal(forecasts: Sequence[Forecast], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Predictions as they are sealed now.

    Args:
      facts: of the run, for JSON: what its manifest.json holds, prompts, and whatever a reader must know.

    Returns:
      format, sealed (time in UTC), version (of this package), facts, questions, groups, predictions (by number of
      question and group) and sha256.

    Raises:
      UserError: no forecasts, or a fact that JSON cannot hold.
    """
    if not forecasts:
        raise UserError("there are no predictions to seal")
    questions: dict[Any, tuple[int, dict[str, Any]]] = {}
    groups: dict[Any, int] = {}
    predictions = []
    for forecast in forecasts:
        answer = forecast.answer
        asked = (answer.question_key, answer.question, answer.options)
        question, _ = questions.setdefault(asked, (len(questions), _question(answer)))
        group = groups.setdefault(answer.group, len(groups))
        shares = [round(float(share), _DIGITS) for share in forecast.shares]
        concentration = round(float(forecast.concentration), _DIGITS)
        predictions.append(
            {
                "question": question,
                "group": group,
                "shares": shares,
                "concentration": concentration,
                "kind": forecast.kind,
            }
        )
    content: dict[str, Any] = {
        "format": FORMAT,
        "sealed": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "facts": dict(facts),
        "questions": [question for _, question in questions.values()],
        "groups": [dict(group) for group in groups],
        "predictions": predictions,
    }
    content = json.loads(_canonical(content))  # as it will be read
    return content | {DIGEST: digest(content)}


def digest(content: Mapping[str, Any]) -> str:
    """The SHA-256 of the canonical form of a seal, in hexadecimal digits.

    >>> digest({"b": 0.5, "a": "é"}) == hashlib.sha256('{"a":"é","b":0.5}'.encode()).hexdigest()
    True
    """
    return hashlib.sha256(_canonical({k: v for k, v in content.items() if k != DIGEST})).hexdigest()


def write_seal(sealed: Mapping[str, Any], path: str | Path) -> None:
    """Writes a seal as a JSON file, which appears in one piece. Raises UserError if it cannot, or if one is there."""
    path = Path(path)
    if path.suffix != ".json":
        raise UserError(f"{path}: a seal is written as .json")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent}: no such folder; make it first")
    if path.exists():
        raise UserError(f"{path}: is there already, and a seal is not written over; choose another name")
    with atomic_write(path) as partial:
        partial.write_bytes(_canonical(sealed) + b"\n")


def read_seal(path: str | Path) -> dict[str, Any]:
    """Reads a seal and checks that nothing in it was changed.

    Raises:
      UserError: no such file, no seal, or one whose digest is not that of its content.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    content = read_json(epath.Path(path))
    if content.get("format") != FORMAT or not isinstance(content.get(DIGEST), str):
        raise UserError(f"{path}: not a seal of format {FORMAT}")
    found = digest(content)
    if found != content[DIGEST]:
        raise UserError(
            f"{path}: was altered after it was sealed: its content has the SHA-256 {found}, and it says "
            f"{content[DIGEST]}; use the file as it was written"
        )
    return content


def sealed_rows(sealed: Mapping[str, Any], answers: Sequence[Answer]) -> SealedRows:
    """The sealed predictions of rows of answers, found by the wording of their questions and by group.

    Raises:
      UserError: rows without a sealed prediction, which it names, and as `Cells`.
    """
    places = Cells(_asked(sealed), by_id=False).places(answers)
    predictions = [sealed["predictions"][place.cell] for place in places]
    shares = []
    for place, prediction in zip(places, predictions, strict=True):
        own = np.zeros(len(place.order))
        own[list(place.order)] = prediction["shares"]
        shares.append(own / own.sum())
    return SealedRows(list(answers), shares, np.array([p["concentration"] for p in predictions], float))


def registration(facts: Mapping[str, Any]) -> str:
    """Plain text: a registration of a study that predicts answers, filled in as far as its facts are known.

    Args:
      facts: names -> values: those of a run's manifest.json (of which the last start counts) and what else the form
        asks for: title, hypotheses, prompts, sampling, knowledge_cutoff, data, data_cutoff, configurations_tried,
        selection, stack, human_answers, checkpoint, and of a seal sealed, sha256, and how many questions and groups.
        What is not there, or is None, is "not recorded".
    """
    starts = facts.get("starts") or [{}]
    known = dict(starts[-1]) | {name: value for name, value in facts.items() if value is not None}
    parts = ["Registration of a study with predicted survey answers"]
    for heading, lines in _FORM.items():
        parts.append("\n".join([heading, *(f"  {label}: {_fact(known, name)}" for label, name in lines.items())]))
    return "\n\n".join(parts) + "\n"


def _fact(facts: Mapping[str, Any], name: str) -> str:
    value: Any = facts
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return NOT_RECORDED if value is None or value == "" else _in_words(value)


def _in_words(value: Any) -> str:
    """A fact as a line; an empty list is "none"."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_in_words(inner)}" for name, inner in value.items()) or "none"
    if isinstance(value, list | tuple):
        return "; ".join(map(_in_words, value)) or "none"
    return " ".join(str(value).split())


def _question(answer: Answer) -> dict[str, Any]:
    return {
        "survey": answer.survey,
        "question_id": answer.question_id,
        "question": answer.question,
        "options": list(answer.options),
        "scale": answer.scale,
    }


def _asked(sealed: Mapping[str, Any]) -> list[Answer]:
    """The sealed cells, as rows that nobody has answered."""
    rows = []
    for prediction in sealed["predictions"]:
        question, group = sealed["questions"][prediction["question"]], sealed["groups"][prediction["group"]]
        options, pairs = tuple(question["options"]), tuple(sorted(group.items()))
        even = (1 / len(options),) * len(options)
        text, survey, name = (question[part] for part in ("question", "survey", "question_id"))
        rows.append(Answer(survey, name, text, options, pairs, even, scale=question["scale"]))
    return rows


def _canonical(content: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (TypeError, ValueError) as error:
        raise UserError(f"a seal holds what JSON can hold: {error}") from error
