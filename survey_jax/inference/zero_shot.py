"""Asks the untrained base model in the wording that suits it best: training is not to be compared with a bad prompt."""

import sys
from collections.abc import Mapping, Sequence

import numpy as np
from flax import nnx

from survey_jax.common.console import is_first, say
from survey_jax.common.errors import UserError
from survey_jax.config import Config
from survey_jax.inference import controls
from survey_jax.inference.controls import ControlPrompts
from survey_jax.inference.predictor import Predictor
from survey_jax.inputs.prompts import TEMPLATES
from survey_jax.inputs.token_cache import LazyTokenizer, TokenCache
from survey_jax.parallel.distributed import all_gather_text
from survey_jax.survey.evaluation import metrics
from survey_jax.survey.evaluation.calibration import fit_temperature, with_temperature
from survey_jax.survey.splits.assign import draw
from survey_jax.survey.splits.config import VALID
from survey_jax.survey.table import Answer

ROWS = 120  # of valid that the templates are tried on: their scores lie far apart

Tokenizer = tuple[LazyTokenizer, TokenCache | None]


def prompts(
    config: Config,
    tokenizer: Tokenizer,
    rows: Mapping[str, Sequence[Answer]],
    names: Sequence[str],
    predictor: Predictor,
    params: nnx.State,
    weights: str,
) -> tuple[str, dict[str, ControlPrompts]]:
    """The best template on `valid` and its prompts for the splits `names`.

    The best one has the least mean KL over ROWS rows, each template at the temperature that suits it best. Templates
    that cannot ask every row of `names` are not tried. Without validation rows, it is the run's own template.

    Args:
      rows: split -> its rows.
      params, weights: the base model, and its fingerprint.
    """
    best: str = config.data.template
    usable = _usable(config, tokenizer, rows, names, predictor.options) if VALID in rows else {}
    if usable:
        tried = draw(list(rows[VALID]), ROWS, lambda a: repr(a.key), config.run.seed, "rows to choose a template on")
        place = {id(answer): i for i, answer in enumerate(rows[VALID])}
        found = {}
        for template, asked in usable.items():
            label = f"base model, template {template}"
            part = asked[VALID].select([place[id(answer)] for answer in tried])
            found[template] = controls.predict(part, predictor, params, label, weights)
        if is_first():  # the other processes lack what comes from the cache
            losses = {template: _loss(tried, predictions) for template, predictions in found.items()}
            best = min(losses, key=losses.__getitem__)
            shown = ", ".join(f"{template} {loss:.3f}" for template, loss in losses.items())
            say(f"base model: KL on {len(tried)} rows of valid by template: {shown}; zero-shot uses {best}")
        best = all_gather_text(best)[0]
    return best, usable[best] if best in usable else _ask(best, config, tokenizer, rows, names, predictor.options)


def _loss(answers: Sequence[Answer], predictions: np.ndarray) -> float:
    """Mean KL at the best temperature."""
    scaled = with_temperature(predictions, fit_temperature(answers, predictions))
    return metrics.summarise(answers, metrics.row_metrics(answers, scaled), samples=0)["kl"]["value"]


def _usable(
    config: Config, tokenizer: Tokenizer, rows: Mapping[str, Sequence[Answer]], names: Sequence[str], options: int
) -> dict[str, dict[str, ControlPrompts]]:
    """Prompts by template and split: of those with words for every row, letters that are tokens, and no long prompt."""
    found = {}
    for template in TEMPLATES:
        try:
            asked = _ask(template, config, tokenizer, rows, names, options)
        except UserError as error:
            say(f"base model: template {template} is not tried: {error}")
            continue
        longest = max(len(p.tokens) for made in asked.values() for part, _, _ in made.parts for p in part)
        if longest > config.batch.seq_len:
            say(f"base model: template {template} is not tried: {longest} tokens, over batch.seq_len (--seq_len)")
        else:
            found[template] = asked
    return found


def _ask(
    template: str,
    config: Config,
    tokenizer: Tokenizer,
    rows: Mapping[str, Sequence[Answer]],
    names: Sequence[str],
    options: int,
) -> dict[str, ControlPrompts]:
    control = controls.worded(template, config, *tokenizer)
    return {name: controls.make_prompts(control, rows[name], sys.maxsize, options) for name in names}
