"""Gemma 4 on the package's survey data, from the hub; on an accelerator.

    python -m survey_jax.train --config=configs/gemma.py
    python -m survey_jax.eval --workdir=checkpoints/gemma

Other sizes, other data, weights on disk:

    --config.model.weights=google/gemma-4-E4B
    --config.model.weights=google/gemma-3-270m (before: `hf auth login`, and accept the licence on the model's page)
    --config.model.weights=/path/to/a/hugging/face/directory (or a .gguf file)
    --config=configs/gemma.py:survey.parquet (your own table, or several with commas between; questions of it are held
    out by seed)
"""

from survey_jax.config import BatchConfig, Config, DataConfig, LoraConfig, ModelConfig, OptimConfig, RunConfig
from survey_jax.survey.splits.config import SplitConfig

# Names of the demo's table, which another table does not have.
HELD_OUT = {
    "unseen_groups": {"age": ("65 or older",)},
    "unseen_surveys": ("European Social Survey",),
    "valid_group_fraction": 0.05,
}


def get_config(tables: str = "demo") -> Config:
    """LoRA on attention and feed-forward, bfloat16, four times the demo's batch.

    Args:
      tables: with commas between; of other ones than the demo's, questions are held out, by seed.
    """
    return Config(
        model=ModelConfig(weights="google/gemma-4-E2B", dtype="bfloat16", remat="dots"),
        lora=LoraConfig(rank=16, alpha=32.0),
        data=DataConfig(
            tables=tuple(tables.split(",")),
            splits=SplitConfig(
                unseen_question_fraction=0.2,
                **HELD_OUT if tables == "demo" else {},
                valid_question_fraction=0.1,
            ),
        ),
        batch=BatchConfig(batch_size=8, seq_len=1024, answers_per_seq=48, groups_per_tree=4),
        optim=OptimConfig(steps=300, lr=1e-4, warmup=20),
        run=RunConfig(eval_every=50),
    )
