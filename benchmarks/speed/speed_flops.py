"""Floating-point operations of what a step must compute: each token that is really there, once."""

import math
from collections.abc import Sequence

from benchmarks.speed.speed_data import Job, Tree
from survey_jax.model.decoder import PROJECTIONS, DecoderConfig
from survey_jax.model.flops import projection_widths


def tokens(trees: Sequence[Tree]) -> int:
    """In all of them."""
    return sum(trunk + sum(branches) for trunk, branches in trees)


def visible_pairs(trees: Sequence[Tree]) -> int:
    """Query-key pairs that attention needs: a token sees what comes before it on its own way from the root."""
    return sum(
        trunk * (trunk + 1) // 2 + sum(b * trunk + b * (b + 1) // 2 for b in branches) for trunk, branches in trees
    )


def unique_flops(c: DecoderConfig, trees: Sequence[Tree], job: Job, options: int) -> float:
    """As `survey_jax.model.flops.step_flops` counts, without padding, masked pairs and recomputation.

    Sliding windows are not shorter than the prompts here.

    Args:
      options: letters K.
    """
    width = projection_widths(c)
    weights = sum(math.prod(width[name]) for name in PROJECTIONS)
    adapters = sum(job.rank * sum(width[name]) for name in job.projections)
    answers = sum(max(1, len(branches)) for _, branches in trees)
    per_product = 2 * tokens(trees) * c.layers
    attention = 4 * visible_pairs(trees) * c.heads * c.head_width * c.layers
    head = 2 * answers * options * c.width
    forward = per_product * (weights + adapters) + attention + head
    if not job.train:
        return forward
    trained = per_product * (adapters if job.rank else weights) + (0 if job.rank else head)
    return 2 * forward + trained + attention
