"""Controls: the same rows, asked otherwise. What changes when only the asking does, is not about the population.

group_swapped    of a wrong group: a model that uses the group does worse
no_group         of "someone": what knowing the group is worth
reversed         options in reverse order (in the listed one, if the run has them reversed)
shuffled         options in a random order, one a question, other than the run's
orders:K         the mean of predictions over K orders of the options, the run's own and K - 1 random ones
template:NAME    another wording
language:XX      the wording in another language; question and options stay as they are
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from flax import nnx
from jaxtyping import Float

from survey_jax.common.console import say
from survey_jax.common.errors import UserError
from survey_jax.config import Config
from survey_jax.inference.predictor import Predictor
from survey_jax.inputs.prompts import Prompt, Prompter, limited
from survey_jax.inputs.token_cache import LazyTokenizer, TokenCache
from survey_jax.survey.baselines import seen_groups
from survey_jax.survey.table import Answer

if TYPE_CHECKING:
    import transformers

NAMES = ("group_swapped", "no_group", "reversed", "shuffled", "orders:K", "template:NAME", "language:XX")
# Rows to ask instead; None where there is nothing to change.
Change = Callable[[Sequence[Answer]], Sequence[Answer | None]]


@dataclasses.dataclass(frozen=True)
class Control:
    """One way of asking otherwise: other rows, other prompters (over which predictions are averaged), or both."""

    name: str
    change: Change
    prompters: tuple[Prompter, ...]


def make_controls(
    names: Sequence[str],
    config: Config,
    tokenizer: "transformers.PreTrainedTokenizerBase | LazyTokenizer",
    cache: TokenCache | None = None,
) -> list[Control]:
    """Controls by their names as this module's first lines have them.

    Raises:
      UserError: a name that is none, or a template or language that does not exist.
    """
    return [_make(name, config, tokenizer, cache) for name in names]


def _make(
    name: str,
    config: Config,
    tokenizer: "transformers.PreTrainedTokenizerBase | LazyTokenizer",
    cache: TokenCache | None,
) -> Control:
    data, seed = config.data, config.run.seed

    def prompter(template: str = "", language: str = "", order: str = "", draw: int = 0) -> Prompter:
        return Prompter(
            tokenizer,
            template or data.template,
            data.chat,
            language=language or data.language,
            order=order or data.option_order,
            seed=seed + draw,
            cache=cache,
        )

    kind, _, value = name.partition(":")
    if name == "group_swapped":
        return Control(name, lambda rows: _swapped(rows, seed), (prompter(),))
    if name == "no_group":
        return Control(name, lambda rows: [dataclasses.replace(a, group=()) for a in rows], (prompter(),))
    if name == "reversed":
        return Control(name, list, (prompter(order="listed" if data.option_order == "reversed" else "reversed"),))
    if name == "shuffled":
        return Control(name, list, (prompter(order="shuffled", draw=1),))
    if kind == "orders" and value.isdecimal() and int(value) > 1:
        shuffled = [prompter(order="shuffled", draw=i) for i in range(1, int(value))]
        return Control(name, list, (prompter(), *shuffled))
    if kind == "template" and value == data.template:
        raise UserError(f"--controls: {name} is the run's own; choose another")
    if kind == "template" and value:
        return Control(name, list, (prompter(template=value),))
    if kind == "language" and value:
        own = prompter()
        return Control(
            name, lambda rows: [None if own.words(a) == value else a for a in rows], (prompter(language=value),)
        )
    raise UserError(f"--controls: {name!r} is no control; choose from {', '.join(NAMES)} (K at least 2)")


def _swapped(rows: Sequence[Answer], seed: int) -> list[Answer | None]:
    swapped = seen_groups.swap_groups(rows, seed)
    return [new if new.group != old.group else None for new, old in zip(swapped, rows, strict=True)]


@dataclasses.dataclass(frozen=True)
class Asked:
    """The prompts of a control for some rows.

    Attributes:
      rows: how many.
      parts: one a prompter: its prompts, which row each is of, and its letters' token ids.
    """

    rows: int
    parts: list[tuple[list[Prompt], list[int], np.ndarray]]


def ask(control: Control, rows: Sequence[Answer], max_tokens: int, options: int) -> Asked:
    """Makes a control's prompts; every check that can fail on them has run when this returns.

    Args:
      options: the most that any row of the run has.
    """
    changed = control.change(rows)
    place = {id(answer): i for i, answer in enumerate(changed)}
    parts = []
    for prompter in control.prompters:
        asked = [a for a in changed if a is not None]
        everything, letters = prompter.tokenise(asked, options) if asked else ([], np.empty(0))
        if prompts := limited(everything, max_tokens, drop_long=True):
            parts.append((prompts, [place[id(p.answer)] for p in prompts], letters))
    return Asked(len(rows), parts)


def predict(asked: Asked, predictor: Predictor, params: nnx.State, label: str) -> Float[np.ndarray, "n K"]:
    """Predictions, averaged over prompters; NaN where there was nothing to change, or a prompt is too long."""
    found = np.full((len(asked.parts) or 1, asked.rows, predictor.options), np.nan)
    for part, (prompts, places, letters) in zip(found, asked.parts, strict=False):
        part[places] = predictor(params, prompts, label, letters)
    say(f"{label}: done")
    return found.mean(axis=0)
