"""Control conditions: the same rows with a perturbed prompt.

A change in score under a control is an effect of the prompt, not knowledge of the population.

group_swapped    a wrong group: a model that uses the group does worse
no_group         "someone" instead of a group: what knowing the group is worth
reversed         options in reverse order (in the listed one, if the run reverses them)
shuffled         options in a random order for each question, other than the run's
orders:K         the mean of predictions over K orders of the options, the run's own and K - 1 random ones
template:NAME    another wording
language:XX      the wording in another language; question and options stay as they are
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from flax import nnx
from jaxtyping import Float

from survey_jax.common.console import say
from survey_jax.common.errors import UserError
from survey_jax.config import Config
from survey_jax.inference.asking import MAX_ORDERS
from survey_jax.inference.predictor import Predictor
from survey_jax.inputs.prompts import Prior, Prompt, Prompter, Told, limited, with_prior
from survey_jax.inputs.task import make_chat
from survey_jax.inputs.token_cache import LazyTokenizer, TokenCache
from survey_jax.survey.baselines import seen_groups
from survey_jax.survey.table import Answer

if TYPE_CHECKING:
    import transformers

NAMES = ("group_swapped", "no_group", "reversed", "shuffled", "orders:K", "template:NAME", "language:XX")
AnyTokenizer: TypeAlias = "transformers.PreTrainedTokenizerBase | LazyTokenizer"
# Rows -> rows to predict instead; None where there is nothing to change.
Change = Callable[[Sequence[Answer]], Sequence[Answer | None]]


@dataclasses.dataclass(frozen=True)
class Control:
    """A control condition: changed rows, other prompters (over which predictions are averaged), or both."""

    name: str
    change: Change
    prompters: tuple[Prompter, ...]


def make_controls(
    names: Sequence[str],
    config: Config,
    tokenizer: AnyTokenizer,
    cache: TokenCache | None = None,
) -> list[Control]:
    """Controls by name, see the list above.

    Raises:
      UserError: an unknown control, template or language.
    """
    return [_make(name, config, tokenizer, cache) for name in names]


def worded(template: str, config: Config, tokenizer: AnyTokenizer, cache: TokenCache | None = None) -> Control:
    """The same rows in the wording of a template. UserError for one that is unknown."""
    return Control(f"template:{template}", list, (_prompter(config, tokenizer, cache, template=template),))


def prompters(
    config: Config,
    tokenizer: AnyTokenizer,
    cache: TokenCache | None = None,
    orders: int = 1,
    templates: Sequence[str] = (),
) -> tuple[Prompter, ...]:
    """The ways of asking over whose predictions a mean is taken; the run's own comes first.

    Args:
      orders: of the options: the run's own and random ones.
      templates: asked in beside the run's own; each in all orders.
    """
    drawn = [("", 0), *(("shuffled", draw) for draw in range(1, orders))]
    return tuple(
        _prompter(config, tokenizer, cache, template=template, order=order, draw=draw)
        for template in ("", *templates)
        for order, draw in drawn
    )


def _prompter(
    config: Config,
    tokenizer: AnyTokenizer,
    cache: TokenCache | None,
    *,
    template: str = "",
    language: str = "",
    order: str = "",
    draw: int = 0,
) -> Prompter:
    """The run's prompter, but for what is given; `draw` is added to the seed of random orders."""
    d = config.data
    return Prompter(
        tokenizer,
        template or d.template,
        make_chat(config),
        language=language or d.language,
        order=order or d.option_order,
        seed=config.run.seed + draw,
        cache=cache,
    )


def _make(name: str, config: Config, tokenizer: AnyTokenizer, cache: TokenCache | None) -> Control:
    data, prompter = config.data, functools.partial(_prompter, config, tokenizer, cache)
    kind, _, value = name.partition(":")
    if name == "group_swapped":
        return Control(name, lambda rows: _swapped(rows, config.run.seed), (prompter(),))
    if name == "no_group":
        return Control(name, lambda rows: [dataclasses.replace(a, group=()) for a in rows], (prompter(),))
    if name == "reversed":
        return Control(name, list, (prompter(order="listed" if data.option_order == "reversed" else "reversed"),))
    if name == "shuffled":
        return Control(name, list, (prompter(order="shuffled", draw=1),))
    if kind == "orders" and re.fullmatch(r"\d{1,9}", value) and 1 < int(value) <= MAX_ORDERS:
        return Control(name, list, prompters(config, tokenizer, cache, int(value)))
    if kind == "template" and value == data.template:
        raise UserError(f"--controls: {name} is the run's own; choose another")
    if kind == "template" and value:
        return worded(value, config, tokenizer, cache)
    if kind == "language" and value:
        own = prompter()
        return Control(
            name, lambda rows: [None if own.words(a) == value else a for a in rows], (prompter(language=value),)
        )
    raise UserError(f"--controls: {name!r} is no control; choose from {', '.join(NAMES)} (K from 2 to {MAX_ORDERS:,})")


def _swapped(rows: Sequence[Answer], seed: int) -> list[Answer | None]:
    swapped = seen_groups.swap_groups(rows, seed)
    return [new if new.group != old.group else None for new, old in zip(swapped, rows, strict=True)]


@dataclasses.dataclass(frozen=True)
class ControlPrompts:
    """The prompts of a control for some rows.

    Attributes:
      rows: how many.
      parts: for each prompter, its prompts, the index of each prompt's row, and the token ids of its letters.
    """

    rows: int
    parts: list[tuple[list[Prompt], list[int], np.ndarray]]

    def select(self, rows: Sequence[int]) -> "ControlPrompts":
        """The prompts of some of the rows, in the order of `rows`."""
        new = {row: i for i, row in enumerate(rows)}
        parts = []
        for prompts, places, letters in self.parts:
            chosen = [(p, new[place]) for p, place in zip(prompts, places, strict=True) if place in new]
            if chosen:
                parts.append(([p for p, _ in chosen], [place for _, place in chosen], letters))
        return ControlPrompts(len(rows), parts)


def make_prompts(
    control: Control,
    rows: Sequence[Answer],
    max_tokens: int,
    options: int,
    prior: Prior | None = None,
    told: Told | None = None,
) -> ControlPrompts:
    """Makes a control's prompts; everything that can fail on them has been checked when this returns.

    Args:
      options: the largest number of options of any row of the run.
      prior: what predictions start from.
      told: what prompts tell of a row's group.
    """
    changed = control.change(rows)
    place = {id(answer): i for i, answer in enumerate(changed)}
    parts = []
    for prompter in control.prompters:
        present = [a for a in changed if a is not None]
        everything, letters = prompter.telling(told).tokenise(present, options) if present else ([], np.empty(0))
        if prompts := limited(everything, max_tokens, drop_long=True):
            places = [place[id(p.answer)] for p in prompts]
            parts.append((with_prior(prompts, prior), places, letters))
    return ControlPrompts(len(rows), parts)


def predict(
    made: ControlPrompts, predictor: Predictor, params: nnx.State, label: str, weights: str = ""
) -> Float[np.ndarray, "n K"]:
    """Predictions, averaged over prompters; NaN where there is nothing to change or a prompt is too long.

    Args:
      weights: what `params` are, for the predictor's cache.
    """
    found = np.full((len(made.parts) or 1, made.rows, predictor.options), np.nan)
    for part, (prompts, places, letters) in zip(found, made.parts, strict=False):
        part[places] = predictor(params, prompts, label, letters, weights)
    say(f"{label}: done")
    return found.mean(axis=0)
