"""What `benchmarks.quality` trains; it sets the rest by flags."""

from survey_jax.config import Config, DataConfig, ModelConfig
from survey_jax.survey.splits.split import SplitConfig


def get_config() -> Config:
    """The paper's design, of which training uses "train" and "valid"."""
    return Config(
        model=ModelConfig(weights="checkpoints/weights/smollm2.gguf"),
        data=DataConfig(tables=("demo",), splits=SplitConfig(preset="paper")),
    )
