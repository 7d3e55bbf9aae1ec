"""What the speed benchmark works on: jobs and rows, the same for everyone. Imports neither jax nor torch."""

import dataclasses
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np

from survey_jax.common.errors import UserError
from survey_jax.inputs.prompts import Prompt, Prompter, limited
from survey_jax.survey.splits.config import SplitConfig
from survey_jax.survey.splits.split import TRAIN, VALID, split
from survey_jax.survey.table import Answer, read_table

LONGEST = 256  # tokens of a prompt, at most: what the paper pads to
CHECKED = 8  # rows whose loss all recipes must agree on
COLUMNS = ("question_paper", "question")  # where the wording stands
ATTENTION, EVERYTHING = ("q", "v"), ("q", "k", "v", "o", "gate", "up", "down")


@dataclasses.dataclass(frozen=True)
class Job:
    """What is done with the rows.

    Attributes:
      rank: of adapters; 0: none.
      projections: that have adapters.
      train: False for zero-shot evaluation.
    """

    rank: int = 0
    projections: tuple[str, ...] = ATTENTION
    train: bool = True

    @property
    def together(self) -> bool:
        """Whether all recipes can be in memory at once; each has an optimizer's state of what it trains."""
        return self.rank > 0 or not self.train

    @property
    def rows(self) -> str:
        """The split it works on."""
        return TRAIN if self.train else VALID


JOBS = {
    "lora_qv": Job(rank=8),
    "lora_all": Job(rank=8, projections=EVERYTHING),
    "full": Job(),
    "eval": Job(train=False),
}


def check_choice(flag: str, chosen: list[str], known: Any) -> None:
    """UserError unless all chosen are known."""
    if unknown := [name for name in chosen if name not in known]:
        raise UserError(f"--{flag}: {unknown[0]!r} is unknown; choose from {', '.join(known)}")


def split_config(data: str) -> SplitConfig:
    """A table's own column `split`; the demo's questions are drawn."""
    if data == "demo":
        return SplitConfig(valid_question_fraction=0.3)
    return SplitConfig(column="split", rename={TRAIN: TRAIN, VALID: VALID})


def read_rows(data: str, job: Job) -> list[Answer]:
    """A job's rows."""
    path = str(resources.files("survey_jax") / "data" / "demo.jsonl.gz") if data == "demo" else data
    return split(read_table(path, COLUMNS), split_config(data)).rows[job.rows]


def encode(prompter: Prompter, answers: Sequence[Answer]) -> tuple[list[Prompt], list[int]]:
    """Prompts of at most LONGEST tokens (says how many are left out), and token ids of the letters."""
    prompts = limited(prompter.tokenise(answers)[0], LONGEST, drop_long=True)
    texts = [prompter.text(p.answer) for p in prompts]
    return prompts, prompter.letters(texts, max(len(p.order) for p in prompts)).tolist()


def checked(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The rows whose loss is compared: the first of one question."""
    key = prompts[0].answer.question_key
    return [p for p in prompts if p.answer.question_key == key][:CHECKED]


def spread(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """`count` prompts (0: all of them), evenly from the shortest to the longest."""
    ordered = sorted(prompts, key=lambda p: len(p.tokens))
    picks = np.linspace(0, len(ordered) - 1, min(count or len(ordered), len(ordered)))
    return [ordered[i] for i in picks.round().astype(int)]


# A tree as numbers: tokens of its trunk, and of each branch.
Tree = tuple[int, list[int]]


@dataclasses.dataclass(frozen=True)
class Round:
    """What a worker did in a round.

    Attributes:
      seconds: of each step, or of all the evaluation.
      examples: answers in all of them.
      computed: tokens, padding included.
      trees: the tokens really there; a prompt of its own is a tree without branches.
    """

    seconds: list[float]
    examples: int
    computed: int
    trees: list[Tree]


def as_round(values: Mapping[str, Any]) -> Round:
    """The inverse of `dataclasses.asdict`."""
    return Round(**{f.name: values[f.name] for f in dataclasses.fields(Round)})
