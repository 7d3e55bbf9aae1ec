"""Cao et al. 2025, ablation: cross entropy as the loss, done right.

Tables and commands: docs/reproduction.md.
"""

from survey_jax.config import Config
from survey_jax.published import paper


def get_config() -> Config:
    """See `survey_jax.published.paper`."""
    return paper("meta-llama/Meta-Llama-3-8B-Instruct", chat=True, loss="cross_entropy")
