"""One training of benchmarks/learning_curve.py: "TABLE,STEPS,EVAL_EVERY,SEED,DROPOUT"; with ",rules" from rules on."""

from survey_jax.config import BatchConfig, Config, DataConfig, LoraConfig, ModelConfig, OptimConfig, RunConfig
from survey_jax.survey.splits.config import SplitConfig


def get_config(arguments: str) -> Config:
    """Four answers to a question an epoch, in one tree, so that most of a step is different questions."""
    table, steps, eval_every, seed, dropout, *prior = arguments.split(",")
    return Config(
        model=ModelConfig(
            weights="checkpoints/weights/gemma3-270m.gguf", remat="dots", prior="rules" if "rules" in prior else ""
        ),
        lora=LoraConfig(rank=16, alpha=32.0, dropout=float(dropout)),
        data=DataConfig(tables=(table,), drop_long=True, splits=SplitConfig(column="part")),
        batch=BatchConfig(batch_size=4, seq_len=512, answers_per_seq=32, groups_per_tree=4, answers_per_question=4),
        optim=OptimConfig(steps=int(steps), lr=5e-4, warmup=min(10, int(steps) // 5), weight_decay=0.1),
        run=RunConfig(seed=int(seed), eval_every=int(eval_every)),
    )
