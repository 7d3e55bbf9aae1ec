"""SubPOP (Suh et al. 2025) with Llama 2 7B, the base model.

Tables and commands: docs/reproduction.md.
"""

from survey_jax.config import Config
from survey_jax.published import subpop


def get_config() -> Config:
    """See `survey_jax.published.subpop`."""
    return subpop("meta-llama/Llama-2-7b-hf")
