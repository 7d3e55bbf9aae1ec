"""Cao et al. 2025 with Vicuna 1.5 13B.

The hub's main revision has pickled weights only; this one, a conversion proposed there, has safetensors.

Tables and commands: docs/reproduction.md.
"""

from survey_jax.config import Config
from survey_jax.published import paper


def get_config() -> Config:
    """See `survey_jax.published.paper`."""
    return paper("lmsys/vicuna-13b-v1.5", revision="refs/pr/5")
