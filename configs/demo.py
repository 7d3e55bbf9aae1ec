"""The demo: Gemma 3 270M on survey answers of many countries and groups; minutes on two CPU cores.

make demo, or
python -m survey_jax.fetch gemma3-270m
python -m survey_jax.train --config=configs/demo.py
python -m survey_jax.eval --workdir=checkpoints/demo
"""

from survey_jax.config import BatchConfig, Config, DataConfig, LoraConfig, ModelConfig, OptimConfig, RunConfig
from survey_jax.survey.splits.config import SplitConfig


def get_config() -> Config:
    """Unseen: questions drawn by seed, everybody of 65 or older, and one whole survey."""
    return Config(
        model=ModelConfig(weights="checkpoints/weights/gemma3-270m.gguf", remat="dots"),
        lora=LoraConfig(rank=16, alpha=32.0),
        data=DataConfig(
            tables=("demo",),
            splits=SplitConfig(
                unseen_question_fraction=0.15,
                unseen_groups={"age": ("65 or older",)},
                unseen_surveys=("American National Election Studies",),
                valid_question_fraction=0.15,
                valid_group_fraction=0.05,
                max_rows=300,
            ),
        ),
        batch=BatchConfig(batch_size=4, seq_len=256, answers_per_seq=16, groups_per_tree=1, answers_per_question=30),
        optim=OptimConfig(steps=140, lr=5e-4, warmup=10),
        run=RunConfig(eval_every=70),
    )
