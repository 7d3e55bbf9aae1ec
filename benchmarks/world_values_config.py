"""The World Values Survey, wave 7, of the countries and questions of Cao et al.: is the stack better than its members?

    python -m survey_jax.train --config=benchmarks/world_values_config.py:TABLE[,rules|,told] --workdir=RUN
    python -m survey_jax.eval --workdir=RUN --controls=

Questions are held out as in their Table 10. Four countries are held out, and some more are for validation, which the
published design has none of. With ",rules" the language model starts from the rules. With ",told" ten answers of
each of the four countries are known, and prompts tell what a group has answered to the two most similar questions.
"""

from survey_jax.config import BatchConfig, Config, DataConfig, LoraConfig, ModelConfig, OptimConfig, RunConfig
from survey_jax.survey.splits.config import SplitConfig
from survey_jax.survey.splits.presets import PRESETS

NEW_COUNTRIES = ("India", "Mexico", "New Zealand", "Thailand")


def get_config(arguments: str) -> Config:
    """About three epochs with 24 answers to each of 163 questions; at most 600 rows of each test split."""
    table, _, variant = arguments.partition(",")
    questions = PRESETS["paper"]["question_sets"]
    return Config(
        model=ModelConfig(
            weights="checkpoints/weights/gemma3-270m.gguf", remat="dots", prior="rules" if variant == "rules" else ""
        ),
        lora=LoraConfig(rank=16, alpha=32.0),
        data=DataConfig(
            tables=(table,),
            drop_long=True,
            known_answers=2 if variant == "told" else 0,
            splits=SplitConfig(
                unseen_questions=questions["Q3"],
                valid_questions=questions["Q2"],
                unseen_groups={"country": NEW_COUNTRIES},
                valid_group_fraction=0.1,
                max_rows=600,
                known_answers=10 if variant == "told" else 0,
            ),
        ),
        batch=BatchConfig(batch_size=4, seq_len=512, answers_per_seq=32, groups_per_tree=8, answers_per_question=24),
        optim=OptimConfig(steps=140, lr=5e-4, weight_decay=0.1),
        run=RunConfig(eval_every=35),
    )
