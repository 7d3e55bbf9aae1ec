"""Cao et al. 2025 with DeepSeek-R1-Distill-Qwen 14B.

Tables and commands: docs/reproduction.md.
"""

from survey_jax.config import Config
from survey_jax.published import paper


def get_config() -> Config:
    """See `survey_jax.published.paper`."""
    return paper("deepseek-ai/DeepSeek-R1-Distill-Qwen-14B", chat=True)
