"""Are a run's distributions the same outside? On real prompts, against transformers and PEFT.

    python -m benchmarks.export --workdir=DIR [--step=best|last|N] [--prompts=200]

The run must have adapters. Compares the base model with transformers' reading of it, then exports the run both ways
and compares the checkpoint's distributions (uncalibrated) with those of what was exported. Prints a Markdown table.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from absl import flags
from scipy.special import softmax

from survey_jax import cli
from survey_jax.checkpointing.manager import Checkpoints
from survey_jax.common.console import say
from survey_jax.common.errors import UserError
from survey_jax.inference.parity import load_reference, spread, their_logits
from survey_jax.inference.predictor import Predictor
from survey_jax.inputs.prompts import Prompt
from survey_jax.inputs.task import build_task, make_prompter
from survey_jax.pretrained.open import open_pretrained
from survey_jax.telemetry.manifest import read_config
from survey_jax.training.build import build_model

WORKDIR = flags.DEFINE_string("workdir", None, "The run.", required=True)
STEP = flags.DEFINE_string("step", "best", "Which checkpoint: best (on the validation split), last, or a step.")
PROMPTS = flags.DEFINE_integer("prompts", 200, "How many prompts, from the shortest to the longest of the run's.")


def main() -> None:
    import peft  # of the extra "test"

    workdir = Path(WORKDIR.value)
    config = read_config(workdir)
    if not config.lora.rank:
        raise UserError(f"{workdir}: this run has no adapters")
    pretrained = open_pretrained(config.model.weights, config.model.revision)
    task = build_task(config, make_prompter(config, pretrained.tokenizer()))
    prompts = spread([p for part in task.prompts.values() for p in part], PROMPTS.value)
    model = build_model(config, pretrained, task.prompts["train"], len(task.letters))
    predictor = Predictor(model, task.letters)
    checkpoints = Checkpoints(workdir)
    trained = checkpoints.restore_parameters(checkpoints.step(STEP.value), model.params)
    base, ours = predictor(model.params, prompts, "base"), predictor(trained, prompts, "trained")
    lengths = [len(p.tokens) for p in prompts]
    say(f"{config.model.weights}: {len(prompts)} prompts of {min(lengths)} to {max(lengths)} tokens")
    say(f"training moved a probability by {np.abs(ours - base).max():.3f} at most\n")
    say("| | max abs difference of a probability |\n|---|---|")
    reference = load_reference(pretrained)
    compare("base model, transformers", base, reference, prompts, task.letters)
    with tempfile.TemporaryDirectory(dir=workdir) as folder:
        adapted = peft.PeftModel.from_pretrained(reference, export(folder, "peft")).eval()
        compare("adapters, PEFT", ours, adapted, prompts, task.letters)
        merged = transformers.AutoModelForCausalLM.from_pretrained(export(folder, "merged"), dtype="float32").eval()
        compare("merged, transformers", ours, merged, prompts, task.letters)


def export(folder: str, form: str) -> str:
    """Runs the binary, as a user would."""
    output = f"{folder}/{form}"
    flags = [f"--workdir={WORKDIR.value}", f"--step={STEP.value}", f"--format={form}", f"--output={output}"]
    subprocess.run([sys.executable, "-m", "survey_jax.export", *flags], check=True, stdout=subprocess.DEVNULL)
    return output


def compare(label: str, ours: np.ndarray, there: Any, prompts: list[Prompt], letters: np.ndarray) -> None:
    """Prints the largest difference between our probabilities and those of another model's letter logits."""
    logits = their_logits(there, prompts, letters)
    exists = np.arange(len(letters)) < np.array([len(p.answer.options) for p in prompts])[:, None]
    theirs = softmax(np.where(exists, logits, -np.inf), axis=1)
    say(f"| {label} | {np.abs(ours - theirs).max():.1e} |")


if __name__ == "__main__":
    cli.run(main)
