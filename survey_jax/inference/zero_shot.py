"""Asks the untrained base model in the wording that suits it best: training is not to be compared with a bad prompt."""

import sys
from collections.abc import Mapping, Sequence

from flax import nnx

from survey_jax.common.console import say
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

    The best one has the least mean KL over ROWS rows, each template at the temperature that suits it best. Without
    validation rows, it is the run's own template.

    Args:
      rows: split -> its rows.
      params, weights: the base model, and its fingerprint.
    """
    best: str = config.data.template
    if VALID in rows:
        tried = draw(list(rows[VALID]), ROWS, lambda a: repr(a.key), config.run.seed, "rows to choose a template on")
        losses = {}
        for template, asked in _usable(config, tokenizer, tried, predictor.options).items():
            found = controls.predict(asked, predictor, params, f"base model, template {template}", weights)
            scaled = with_temperature(found, fit_temperature(tried, found))
            losses[template] = metrics.summarise(tried, metrics.row_metrics(tried, scaled), samples=0)["kl"]["value"]
        best = all_gather_text(min(losses, key=losses.__getitem__))[0]  # process 0 alone has what is in the cache
        shown = ", ".join(f"{template} {loss:.3f}" for template, loss in losses.items())
        say(f"base model: KL on {len(tried)} rows of valid by template: {shown}; zero-shot uses {best}")
    control = controls.worded(best, config, *tokenizer)
    return best, {n: controls.make_prompts(control, rows[n], config.batch.seq_len, predictor.options) for n in names}


def _usable(config: Config, tokenizer: Tokenizer, rows: Sequence[Answer], options: int) -> dict[str, ControlPrompts]:
    """Prompts by template: those with words in the rows' languages, letters that are tokens, and no prompt too long."""
    found = {}
    for template in TEMPLATES:
        try:
            asked = controls.make_prompts(controls.worded(template, config, *tokenizer), rows, sys.maxsize, options)
        except UserError as error:
            say(f"base model: template {template} is not tried: {error}")
            continue
        longest = max(len(prompt.tokens) for part, _, _ in asked.parts for prompt in part)
        if longest > config.batch.seq_len:
            say(f"base model: template {template} is not tried: {longest} tokens, over batch.seq_len (--seq_len)")
        else:
            found[template] = asked
    return found
