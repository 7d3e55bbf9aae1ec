"""SmolLM2 135M Instruct on the demo's data, asked as a user's turn in its own chat format.

python -m survey_jax.fetch smollm2
python -m survey_jax.train --config=configs/smollm2.py
python -m survey_jax.eval --workdir=checkpoints/smollm2

Your own table: --config=configs/smollm2.py:survey.parquet
"""

from survey_jax.config import BatchConfig, Config, DataConfig, LoraConfig, ModelConfig, OptimConfig, RunConfig
from survey_jax.survey.splits.config import SplitConfig

# Names of the demo's table, which another table does not have.
HELD_OUT = {
    "unseen_groups": {"age": ("65 or older",)},
    "unseen_surveys": ("American National Election Studies",),
    "valid_group_fraction": 0.05,
}


def get_config(tables: str = "demo") -> Config:
    """Another model family than the demo's, a chat template, and held-out questions drawn by seed.

    Args:
      tables: with commas between; of other ones than the demo's, questions alone are held out.
    """
    return Config(
        model=ModelConfig(weights="checkpoints/weights/smollm2.gguf"),
        lora=LoraConfig(projections=("q", "v")),
        data=DataConfig(
            tables=tuple(tables.split(",")),
            chat=True,
            splits=SplitConfig(
                unseen_question_fraction=0.2,
                **HELD_OUT if tables == "demo" else {},
                valid_question_fraction=0.1,
                max_rows=300,
            ),
        ),
        batch=BatchConfig(batch_size=2, seq_len=512, groups_per_tree=3),
        optim=OptimConfig(steps=200, lr=2e-4, warmup=10),
        run=RunConfig(eval_every=50),
    )
