"""The settings of published systems: what the files under configs/paper/ and configs/subpop/ are made of.

docs/reproduction.md says where each number comes from, how to get the tables, and what differs from what was published.
"""

from survey_jax.config import BatchConfig, Config, DataConfig, LoraConfig, ModelConfig, OptimConfig, RunConfig
from survey_jax.survey.splits.split import SplitConfig

_NO_CLIPPING = 1e9


def paper(weights: str, *, revision: str = "main", chat: bool = False, loss: str = "kl") -> Config:
    """Cao et al., NAACL 2025 (arXiv 2502.07068): countries of the World Values Survey, LoRA on a base in 8 bits.

    Five epochs of eight prompts a step; the learning rate falls from 1e-4 to .44 of that, as .85 after each epoch does.

    Args:
      weights: a hub id; `revision` of it.
      chat: ask in the model's chat format.
      loss: a key of losses.LOSSES; the published one is "paper_kl".
    """
    epoch = 856  # steps: 6,841 rows of train, 8 a step; training prints what your table has
    return Config(
        model=ModelConfig(weights=weights, revision=revision, dtype="bfloat16", quantize="int8", remat="full"),
        lora=LoraConfig(rank=8, alpha=32.0, projections=("q", "v")),
        data=DataConfig(
            tables=("paper_train.parquet", "paper_valid.parquet", "paper_test.parquet"),
            template="paper",
            chat=chat,
            splits=SplitConfig(preset="paper"),
        ),
        batch=BatchConfig(batch_size=8, seq_len=256, answers_per_seq=1, groups_per_tree=1),
        optim=OptimConfig(
            loss=loss, steps=5 * epoch, lr=1e-4, warmup=0, schedule="linear", lr_end=0.44, clip_norm=_NO_CLIPPING
        ),
        run=RunConfig(seed=42, eval_every=epoch, calibrate=False),
    )


def subpop(weights: str, *, loss: str = "kl") -> Config:
    """Suh et al., ACL 2025 (arXiv 2502.16761): groups of the United States, LoRA, tested on surveys never seen.

    Fifty epochs of 256 prompts a step, a tenth of them warm-up, then a cosine to 0.

    Args:
      weights: a hub id.
      loss: a key of losses.LOSSES; "wasserstein" is the appendix's other one.
    """
    epoch = 240  # steps: some 61,000 rows of train, 256 a step; training prints what your table has
    return Config(
        model=ModelConfig(weights=weights, dtype="bfloat16", remat="full"),
        lora=LoraConfig(rank=8, alpha=32.0, projections=("q", "v")),
        data=DataConfig(
            tables=("subpop_train.parquet", "subpop_eval.parquet", "opinionqa.parquet"),
            template="subpop_qa",
            splits=SplitConfig(preset="subpop"),
        ),
        batch=BatchConfig(batch_size=16, seq_len=1024, answers_per_seq=4, groups_per_tree=1, microbatches=4),
        optim=OptimConfig(loss=loss, steps=50 * epoch, lr=2e-4, warmup=5 * epoch, clip_norm=_NO_CLIPPING),
        run=RunConfig(seed=42, eval_every=epoch, calibrate=False),
    )
