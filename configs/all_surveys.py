"""Every survey that you have in one run: what a model learns of new questions grows with the questions it has seen.

    python -m survey_jax.train --config=configs/all_surveys.py:wvs.parquet,gss.parquet,goqa.parquet

docs/data.md says how the tables come about ("Many surveys in one run").
"""

from survey_jax.common.errors import UserError
from survey_jax.config import BatchConfig, Config, DataConfig, LoraConfig, ModelConfig, OptimConfig, RunConfig
from survey_jax.survey.splits.config import SplitConfig


def get_config(tables: str = "") -> Config:
    """A tenth of all questions is held out for tests, across surveys, without what train asks in other words.

    An epoch has four answers to each question, in one tree, so that a step is mostly different questions; and of no
    survey more than two fifths of its answers.
    """
    if not tables:
        raise UserError("name your tables behind the file: --config=configs/all_surveys.py:wvs.parquet,gss.parquet")
    return Config(
        model=ModelConfig(weights="checkpoints/weights/gemma3-270m.gguf", remat="dots"),
        lora=LoraConfig(rank=16, alpha=32.0),
        data=DataConfig(
            tables=tuple(tables.split(",")),
            drop_long=True,
            splits=SplitConfig(
                unseen_question_fraction=0.1,
                valid_question_fraction=0.05,
                valid_group_fraction=0.02,
                remove_near_duplicates=0.87,
                max_rows=600,
            ),
        ),
        batch=BatchConfig(
            batch_size=4,
            seq_len=512,
            answers_per_seq=32,
            groups_per_tree=4,
            answers_per_question=4,
            survey_share=0.4,
        ),
        optim=OptimConfig(steps=1000, lr=5e-4, weight_decay=0.1),
        run=RunConfig(eval_every=100),
    )
