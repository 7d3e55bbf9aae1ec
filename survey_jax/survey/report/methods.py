"""A Methods paragraph to paste into an article, made of what an evaluation knows of itself."""

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from survey_jax.common.errors import plural
from survey_jax.survey.evaluation.bootstrap import SAMPLES
from survey_jax.survey.evaluation.scoring import SplitScore
from survey_jax.survey.report.verdict import sentence
from survey_jax.survey.report.words import split_name, system_name
from survey_jax.survey.table import Answer


@dataclasses.dataclass(frozen=True)
class Facts:
    """What was evaluated, when and with what.

    Attributes:
      model: the base model, as a hub id, a folder or a file; revision: its commit on the hub, None for local files.
      stored_as: its weights' type, such as "bfloat16" or "int8".
      checkpoint: which one, such as "step 300 (best on validation)"; None for the base model, untrained.
      training: how it was trained, as the end of the sentence "It was fine-tuned by ..."; "" if untrained.
      template: of the prompt, with what else there is to say, such as "question_first, as a chat".
      date: of the evaluation, such as "2026-07-14".
      preset: of the splits, "" if they have none.
      seed: of the run and of the splits, as text.
      versions: package -> version, survey_jax among them.
    """

    model: str
    revision: str | None
    stored_as: str
    checkpoint: str | None
    training: str
    template: str
    date: str
    preset: str
    seed: str
    versions: Mapping[str, str]

    @property
    def subject(self) -> str:
        """The model in a few words."""
        name = self.model if self.revision else PurePath(self.model).name
        return f"{name}, {f'fine-tuned, {self.checkpoint}' if self.checkpoint else 'untrained'}"


def methods(splits: Mapping[str, SplitScore], train: Sequence[Answer], facts: Facts) -> str:
    """The text, a line at most 100 characters; `splits` without those that are part of another."""
    parts = [_model(facts), _data(splits, train), _prompt(facts), _calibration(splits), _pool(splits),
             _comparison(splits), _results(splits), _software(facts)]  # fmt: skip
    parts = [part for part in parts if part]
    return "\n\n".join(textwrap.fill(" ".join(part.split()), 100, break_long_words=False) for part in parts) + "\n"


def _model(facts: Facts) -> str:
    revision = f"revision {facts.revision}" if facts.revision else "a local copy"
    trained = f"It was fine-tuned by {facts.training}; evaluated was {facts.checkpoint}." if facts.checkpoint else (
        "It was not trained on survey answers."
    )  # fmt: skip
    return (
        f"We predicted the distribution of answers that groups of people give to survey questions with the language "
        f"model {facts.model} ({revision}; weights stored as {facts.stored_as}). {trained}"
    )


def _data(splits: Mapping[str, SplitScore], train: Sequence[Answer]) -> str:
    scored = [f"{split_name(name)} ({name}; {_counted(split.answers)})" for name, split in splits.items()]
    weighted = sum(a.n_effective is not None for split in splits.values() for a in split.answers)
    total = sum(len(split.answers) for split in splits.values())
    shares = f"{weighted:,} of the {total:,} rows evaluated have an effective number of respondents after weighting"
    return (
        f"A row of the data is one question put to one group. The training set had {_counted(train)} of "
        f"{plural(len({a.survey for a in train}), 'survey')}. We evaluated on {'; '.join(scored)}. Human shares are "
        f"weighted as their source weights them; {shares}."
    )


def _counted(answers: Sequence[Answer]) -> str:
    counts = (("row", answers), ("question", {a.question_key for a in answers}), ("group", {a.group for a in answers}))
    return ", ".join(plural(len(found), noun) for noun, found in counts)


def _prompt(facts: Facts) -> str:
    return (
        f"Prompts follow the template {facts.template}: question, lettered options and who is asked, ending before the "
        "letter. The prediction is the softmax over the logits of the option letters at the last token of the prompt."
    )


def _calibration(splits: Mapping[str, SplitScore]) -> str:
    found: dict[str, Mapping[str, Any]] = {}
    asked: set[str] = set()
    for split in splits.values():
        found |= split.summary["calibration"].get("model", {})
        asked |= split.summary["kinds"].keys()
    fitted = [
        f"{t['value']:.2f} for a {kind} (by itself {t['fitted']:.2f}, from {plural(t['questions'], 'question')} and "
        f"{plural(t['rows'], 'row')})"
        for kind, t in found.items()
        if kind in asked
    ]
    if not fitted:
        return "No prediction was calibrated."
    bare = sorted(asked - found.keys())
    return (
        "Every system and every rule was calibrated in the same way: by one temperature for each kind of row, fitted "
        "to least Kullback-Leibler divergence on validation rows of that kind and shrunk towards 1 where these are "
        f"few. The model's were {'; '.join(fitted)}."
        + (f" For these kinds there were no validation rows, and no calibration: {', '.join(bare)}." if bare else "")
    )


def _pool(splits: Mapping[str, SplitScore]) -> str:
    """What predictions are pooled from; "" where nothing is pooled."""
    weights = {
        k: w for split in splits.values() for k, w in split.summary.get("stack", {"weights": {}})["weights"].items()
    }
    if not weights:
        return ""
    found = [
        f"for a {kind}, {', '.join(f'{weight:.2f} {name}' for name, weight in parts['members'].items())} (rules: "
        f"{', '.join(f'{weight:.2f} {system_name(rule)}' for rule, weight in parts['rules'].items() if weight)})"
        for kind, parts in weights.items()
    ]
    return (
        "The predictions put to the test are log-linear pools of rules that need no model and of the language model. "
        "Weights of the rules were fitted on parts of the training set that were hidden from them, and those of the "
        f"rules together and the model on validation rows. They were {'; '.join(found)}. Intervals are those of a "
        "Dirichlet distribution whose concentration was fitted on the same rows."
    )


def _comparison(splits: Mapping[str, SplitScore]) -> str:
    places = {split.summary["chosen_on"] for split in splits.values()}
    on = "the validation rows" if places == {"valid"} else " or, where these lack a kind of row, ".join(
        sorted({"valid": "the validation rows"}.get(place, "the rows evaluated") for place in places)[::-1]
    )  # fmt: skip
    return (
        "The distance between predicted and human answers is the total variation distance, times 100: of 100 answers, "
        "so many are misplaced. The one primary comparison on each set is with the best of the rules that need no "
        f"model, chosen on {on}; it is paired by row, and clear if its 95 % interval leaves out 0. Other comparisons "
        f"are secondary and corrected for their number. Intervals are from a bootstrap of {SAMPLES:,} draws, clustered "
        "by question and group."
    )


def _results(splits: Mapping[str, SplitScore]) -> str:
    return " ".join(sentence(name, split.summary) for name, split in splits.items())


def _software(facts: Facts) -> str:
    versions = ", ".join(f"{package} {version}" for package, version in facts.versions.items())
    splits = f" Splits follow the preset {facts.preset}." if facts.preset else ""
    return f"Evaluated on {facts.date}.{splits} Seeds: {facts.seed}. Software: {versions}."
