"""What answer trees save: training answers per second with and without them, interleaved in one run.

    make bench        # or: python -m benchmarks.trees [--repeats=5]

Gemma 3 270M, LoRA as in configs/demo.py, the demo's training rows. "separate" pads each prompt to the longest one, one
prompt a row, with this project's own decoder; the others pack trees. Writes benchmarks/results/trees.json.
"""

import dataclasses
import functools
import json
import statistics
import time
from pathlib import Path
from typing import Any

import jax
from absl import flags

from configs.demo import get_config
from survey_jax import cli
from survey_jax.config import Config
from survey_jax.inputs.batches import Batches, to_device
from survey_jax.inputs.prompts import Prompter
from survey_jax.inputs.task import build_task
from survey_jax.pretrained.open import open_pretrained
from survey_jax.survey.splits.split import TRAIN
from survey_jax.training.build import Model, build_model
from survey_jax.training.step import gradients

REPEATS = flags.DEFINE_integer("repeats", 5, "Timed rounds.")
RESULT = Path("benchmarks/results/trees.json")

VARIANTS: dict[str, dict[str, Any]] = {
    "separate prompts, paper template": {"template": "paper", "separate": True},
    "trees, paper template": {"template": "paper"},
    "trees, question first": {"template": "question_first"},
    "trees, question first, 8 groups": {"template": "question_first", "groups": 8},
    "trees, question first, 8 groups, two-part": {"template": "question_first", "groups": 8, "attention": "two_part"},
}


def main() -> None:
    pretrained = open_pretrained(get_config().model.weights)
    tokenizer = pretrained.tokenizer()
    runs = {name: prepare(pretrained, tokenizer, **variant) for name, variant in VARIANTS.items()}
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(REPEATS.value + 1):
        for name, (step, batches, model) in runs.items():
            batch = batches.batch(number)
            on_device = to_device(batch, model.mesh, model.shape.batch_size, True)
            begin = time.perf_counter()
            jax.block_until_ready(step(on_device))
            if number:  # the first round compiles
                speeds[name].append(int((batch["weight"] > 0).sum()) / (time.perf_counter() - begin))
    base = statistics.median(next(iter(speeds.values())))
    print(f"{'forward and backward':44} {'answers/s':>10} {'min':>7} {'max':>7} {'ratio':>6}")
    for name, values in speeds.items():
        median = statistics.median(values)
        print(f"{name:44} {median:10.2f} {min(values):7.2f} {max(values):7.2f} {median / base:6.2f}")
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps({"device": jax.devices()[0].device_kind, "answers_per_second": speeds}, indent=2))
    print(f"results: {RESULT}")


def prepare(
    pretrained: Any, tokenizer: Any, template: str, separate: bool = False, groups: int = 3, attention: str = "dense"
) -> tuple[Any, Batches, Model]:
    """A compiled-on-first-use gradient function of a batch, its batches, and the model."""
    config: Config = get_config()
    config.data.template, config.model.attention, config.batch.groups_per_tree = template, attention, groups
    task = build_task(config, Prompter(tokenizer, template))
    model = build_model(config, pretrained, task.prompts["train"], len(task.letters))
    prompts = task.prompts[TRAIN]
    if separate:
        longest = max(len(p.tokens) for p in prompts)
        shape = dataclasses.replace(model.shape, batch_size=8, seq_len=longest, answers_per_seq=1, trunk_len=longest)
        model, groups = dataclasses.replace(model, shape=shape), 1
    batches = Batches(prompts, model.shape, groups=groups)
    run = jax.jit(functools.partial(gradients, step_config=model.step_config), static_argnums=0)
    letters = task.letters
    return lambda batch: run(model.graphdef, model.params, model.frozen, batch, letters), batches, model


if __name__ == "__main__":
    cli.run(main)
