"""SubPOP (Suh et al. 2025) with Mistral 7B v0.1, the base model.

Tables and commands: docs/reproduction.md.
"""

from survey_jax.config import Config
from survey_jax.published import subpop


def get_config() -> Config:
    """See `survey_jax.published.subpop`."""
    return subpop("mistralai/Mistral-7B-v0.1")
