"""Published systems: Cao et al. 2025 and SubPOP (Suh et al. 2025), by the name of the base model.

    python -m survey_jax.train --config=configs/published.py:llama3_8b_instruct
    python -m survey_jax.train --config=configs/published.py:llama3_8b_instruct,paper_kl    # another loss

The names are the keys of SYSTEMS. docs/reproduction.md says where each number comes from, how to get the tables, and
what differs from what was published.
"""

import functools

from survey_jax.common.errors import UserError
from survey_jax.config import BatchConfig, Config, DataConfig, LoraConfig, LossName, ModelConfig, OptimConfig, RunConfig
from survey_jax.survey.splits.config import SplitConfig

_NO_CLIPPING = 1e9


def paper(weights: str, *, revision: str = "main", chat: bool = False, loss: LossName = "kl") -> Config:
    """Cao et al., NAACL 2025 (arXiv 2502.07068): countries of the World Values Survey, LoRA on a base in 8 bits.

    Five epochs of eight prompts a step; the learning rate falls from 1e-4 to .44 of that, as .85 after each epoch does.

    Args:
      weights: a hub id; `revision` of it.
      chat: ask in the model's chat format.
      loss: one of config.LossName; the published one is "paper_kl".
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


def subpop(weights: str, *, loss: LossName = "kl") -> Config:
    """Suh et al., ACL 2025 (arXiv 2502.16761): groups of the United States, LoRA, tested on surveys never seen.

    Fifty epochs of 256 prompts a step, a tenth of them warm-up, then a cosine to 0.

    Args:
      weights: a hub id.
      loss: one of config.LossName; "wasserstein" is the appendix's other one.
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


SYSTEMS = {
    "llama3_8b": functools.partial(paper, "meta-llama/Meta-Llama-3-8B"),
    "llama3_8b_instruct": functools.partial(paper, "meta-llama/Meta-Llama-3-8B-Instruct", chat=True),
    "qwen_distill_7b": functools.partial(paper, "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", chat=True),
    "qwen_distill_14b": functools.partial(paper, "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B", chat=True),
    "qwen_distill_32b": functools.partial(paper, "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", chat=True),
    # Only these pull requests of the hub have the weights as safetensors.
    "vicuna_7b": functools.partial(paper, "lmsys/vicuna-7b-v1.5", revision="refs/pr/13"),
    "vicuna_13b": functools.partial(paper, "lmsys/vicuna-13b-v1.5", revision="refs/pr/5"),
    "llama2_7b": functools.partial(subpop, "meta-llama/Llama-2-7b-hf"),
    "llama2_13b": functools.partial(subpop, "meta-llama/Llama-2-13b-hf"),
    "llama3_70b": functools.partial(subpop, "meta-llama/Meta-Llama-3-70B"),
    "mistral_7b": functools.partial(subpop, "mistralai/Mistral-7B-v0.1"),
}


def get_config(system: str = "") -> Config:
    """The settings of "NAME" or "NAME,LOSS"; without a loss, KL."""
    name, _, loss = system.partition(",")
    if name not in SYSTEMS:
        raise UserError(f"configs/published.py:{system}: choose from {', '.join(SYSTEMS)}")
    return SYSTEMS[name](**({"loss": loss} if loss else {}))
