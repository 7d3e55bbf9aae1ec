"""Floating-point operations of what a step must compute: each token that is really there, once."""

from collections.abc import Sequence

from benchmarks.speed.speed_data import Job, Tree
from survey_jax.model.architecture import DecoderConfig
from survey_jax.model.flops import adapted_channels, head_channels, projection_widths, weights_used


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
    widths = projection_widths(c)
    weights = weights_used(widths)
    adapters = job.rank * adapted_channels(c, job.projections)
    answers = sum(max(1, len(branches)) for _, branches in trees)
    per_product = 2 * tokens(trees)
    attention = 4 * visible_pairs(trees) * head_channels(c)
    head = 2 * answers * options * c.width
    forward = per_product * (weights + adapters) + attention + head
    if not job.train:
        return forward
    trained = per_product * (adapters if job.rank else weights) + (0 if job.rank else head)
    return 2 * forward + trained + attention
