"""Models of 8 and of 70 billion parameters with little memory: bases in 4 bits, activations computed again.

    python -m survey_jax.train --config=configs/large.py:8b,survey.parquet     # one GPU of 24 GB
    python -m survey_jax.train --config=configs/large.py:70b,survey.parquet    # eight GPUs of 80 GB

Both take the licence of Meta's Llama 3: `hf auth login`, and accept it on the model's page. What fits elsewhere:

    python -m survey_jax.plan --config=configs/large.py:8b,survey.parquet --chip=l4 --mesh=fsdp:1 --search
"""

from survey_jax.common.errors import UserError
from survey_jax.config import (
    BatchConfig,
    Config,
    DataConfig,
    LoraConfig,
    MeshConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
)
from survey_jax.survey.splits.config import SplitConfig

SIZES = {
    "8b": ("meta-llama/Meta-Llama-3-8B", 1, 2),
    "70b": ("meta-llama/Meta-Llama-3-70B", 8, 8),
}  # weights, devices, rows of a microbatch


def get_config(arguments: str = "") -> Config:
    """LoRA of rank 16 on all projections of a base in nf4, 16 rows of 1,024 tokens a step.

    Args:
      arguments: the size, and your tables, with commas between.
    """
    size, *tables = arguments.split(",")
    if size not in SIZES or not tables:
        raise UserError(
            f"configs/large.py:{arguments}: name one of {', '.join(SIZES)} and your tables, as in "
            "--config=configs/large.py:8b,survey.parquet"
        )
    weights, devices, rows = SIZES[size]
    return Config(
        model=ModelConfig(weights=weights, dtype="bfloat16", quantize="nf4", remat="full"),
        lora=LoraConfig(rank=16, alpha=32.0),
        data=DataConfig(
            tables=tuple(tables),
            splits=SplitConfig(unseen_question_fraction=0.2, valid_question_fraction=0.1),
        ),
        batch=BatchConfig(
            batch_size=rows, microbatches=16 // rows, seq_len=1024, answers_per_seq=48, groups_per_tree=4
        ),
        optim=OptimConfig(steps=300, lr=1e-4, warmup=20),
        mesh=MeshConfig(fsdp=devices, devices=devices),
        run=RunConfig(eval_every=50),
    )
