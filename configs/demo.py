"""The demo: Gemma 3 270M on survey answers of many countries and groups; minutes on two CPU cores.

make demo, or
python -m survey_jax.fetch gemma3-270m
python -m survey_jax.train --config=configs/demo.py
python -m survey_jax.eval --workdir=checkpoints/demo
"""

from survey_jax.config import BatchConfig, Config, DataConfig, LoraConfig, ModelConfig, OptimConfig, RunConfig
from survey_jax.survey.splits import SplitConfig

# Some of every topic and scale, from all surveys but the unseen one.
UNSEEN = (
    "gss_natenvir gss_natroad gss_natchld gss_natsci gss_abrape gss_abnomore anes_ab_incest anes_interests "
    "cces_whiteadv cces_church cces_pid7 wvs_leftright wvs_authority ess_imwbcnt"
)
VALID = "gss_natcrime gss_natpark gss_abpoor anes_ab_defect anes_crooked cces_ideology wvs_finances ess_imueclt"


def get_config() -> Config:
    """Unseen: fourteen questions, everybody of 65 or older, and the one survey from Canada."""
    return Config(
        model=ModelConfig(weights="checkpoints/weights/gemma3-270m.gguf"),
        lora=LoraConfig(projections=("q", "v")),
        data=DataConfig(
            tables=("demo",),
            splits=SplitConfig(
                unseen_questions=tuple(UNSEEN.split()),
                unseen_groups={"age": ("65 or older",)},
                unseen_surveys=("Canadian Election Study",),
                valid_questions=tuple(VALID.split()),
                max_rows=300,
            ),
        ),
        batch=BatchConfig(rows=2, row_tokens=512, groups=3),
        optim=OptimConfig(steps=150, lr=2e-4, warmup=10),
        run=RunConfig(eval_every=30),
    )
