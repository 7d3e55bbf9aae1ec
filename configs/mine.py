"""Your own survey table: a starting point to copy and edit.

    python -m survey_jax.fetch gemma3-270m
    python -m survey_jax.train --config=configs/mine.py:survey.parquet
    python -m survey_jax.eval

Several tables that are one data set: `configs/mine.py:a.parquet,b.parquet`. What is held out is drawn by seed
here; docs/splits.md has other ways, such as unseen_groups={"country": ("Kenya",)}.
"""

from survey_jax.common.errors import UserError
from survey_jax.config import BatchConfig, Config, DataConfig, LoraConfig, ModelConfig, OptimConfig, RunConfig
from survey_jax.survey.splits.config import SplitConfig


def get_config(tables: str = "") -> Config:
    """A fifth of the questions is held out for tests, and a tenth to choose the best checkpoint by."""
    if not tables:
        raise UserError("name your table behind the file: --config=configs/mine.py:survey.parquet")
    return Config(
        model=ModelConfig(weights="checkpoints/weights/gemma3-270m.gguf", remat="dots"),
        lora=LoraConfig(rank=16, alpha=32.0),
        data=DataConfig(
            tables=tuple(tables.split(",")),
            splits=SplitConfig(unseen_question_fraction=0.2, valid_question_fraction=0.1),
        ),
        batch=BatchConfig(batch_size=2, seq_len=512, groups_per_tree=4),
        optim=OptimConfig(steps=200, lr=5e-4),
        run=RunConfig(eval_every=50),
    )
