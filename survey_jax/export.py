"""Writes a run's model for transformers, PEFT and vLLM.

    python -m survey_jax.export --workdir=DIR --format=merged|peft --output=DIR [--step=best|last|N] [--dtype=bfloat16]

merged is a whole model, as a Hugging Face directory; peft is the adapters alone. Either folder has a survey_jax.json,
which says how to ask the model for distributions. docs/export.md shows how to load both.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from etils import epath
from flax import nnx

from survey_jax import __version__, cli
from survey_jax.checkpointing.manager import TOKENIZER, Checkpoints, check_identity
from survey_jax.common.console import say
from survey_jax.common.errors import UserError
from survey_jax.common.files import new_folder, open_workdir, write_json
from survey_jax.config import Config
from survey_jax.inputs.prompts import LETTERS, TEMPLATES, Prompter, Template
from survey_jax.inputs.task import make_prompter, open_tokenizer
from survey_jax.model.abstract import abstract_model, parameter_name
from survey_jax.pretrained.export import write_merged, write_metadata_files
from survey_jax.pretrained.open import Pretrained, open_pretrained
from survey_jax.pretrained.peft_format import write_adapter
from survey_jax.survey.table import Answer
from survey_jax.telemetry.manifest import read_config
from survey_jax.training.build import trainable

WORKDIR = flags.DEFINE_string("workdir", None, "The run.", required=True)
FORMAT = flags.DEFINE_enum("format", None, ["merged", "peft"], "A whole model, or its adapters alone.", required=True)
OUTPUT = flags.DEFINE_string("output", None, "The folder to create; an existing one must be empty.", required=True)
STEP = flags.DEFINE_string("step", "best", "Which checkpoint: best (on the validation split), last, or a step.")
DTYPE = flags.DEFINE_enum(
    "dtype",
    None,
    ["bfloat16", "float32"],
    "Dtype of the tensors; default: that of the base model's files; float32 for adapters and GGUF.",
)

EXAMPLE = Answer(
    survey="",
    question_id="",
    question="How often do you read a newspaper?",
    options=("Daily", "Weekly", "Less often", "Never"),
    group=(("age", "30-44"), ("country", "Kenya")),
    probs=(0.25,) * 4,
)


def main() -> None:
    cli.hide_torch()
    jax.config.update("jax_platforms", "cpu")  # nothing is computed here that an accelerator would speed up
    workdir = open_workdir(WORKDIR.value)
    config = read_config(workdir)
    if FORMAT.value == "peft" and not config.lora.rank:
        raise UserError(
            f"{workdir}: --format=peft needs adapters, and this run trained all weights; use --format=merged"
        )
    if config.model.prior:
        raise UserError(f"{workdir}: its predictions start from rules (config.model.prior), which no export can hold")
    if config.data.known_answers:
        raise UserError(
            f"{workdir}: its prompts tell what groups have answered (config.data.known_answers), which is in the run's "
            "tables and in no export"
        )
    checkpoints = Checkpoints(workdir)
    if not OUTPUT.value or "://" in OUTPUT.value:
        raise UserError(f"--output={OUTPUT.value}: name a local folder to create")
    output = Path(OUTPUT.value)
    with new_folder(output, "--output") as folder, checkpoints.reading(STEP.value) as step:
        write_model(config, workdir, checkpoints, step, folder)
    size = sum(file.stat().st_size for file in output.expanduser().iterdir())
    say(f"results: {OUTPUT.value} ({size / 1e6:,.1f} MB)")


def write_model(config: Config, workdir: epath.Path, checkpoints: Checkpoints, step: int, folder: Path) -> None:
    """Writes a checkpoint's model, or its adapters, to a folder."""
    pretrained = open_pretrained(config.model.weights, config.model.revision, config.model.ignore_fields)
    found = {
        "base model": pretrained.fingerprint(config.model.quantize),
        TOKENIZER: make_prompter(config, *open_tokenizer(config, pretrained)).fingerprint(),
    }
    check_identity(checkpoints.identity(step), found, workdir)
    trained = TrainedParameters(checkpoints, step, config, pretrained)
    say(f"checkpoint of step {step}: {len(trained)} trained arrays; base model {config.model.weights}")
    scale = config.lora.alpha / config.lora.rank if config.lora.rank else 0.0
    write_json(folder / "survey_jax.json", instructions(config, pretrained, step, checkpoints.temperatures(step)))
    if FORMAT.value == "peft":
        weights = config.model.weights
        revision = None if "://" in weights or Path(weights).expanduser().exists() else config.model.revision
        say("writing adapters")
        write_adapter(pretrained, trained, scale, folder, weights, revision, DTYPE.value)
    else:
        say(f"merging {len(pretrained.source.names)} tensors")
        write_metadata_files(pretrained, folder, DTYPE.value)
        write_merged(pretrained, trained, scale, folder, DTYPE.value)


class TrainedParameters(Mapping[str, np.ndarray]):
    """The trained parameters of a checkpoint, by name; each is read when it is asked for."""

    def __init__(self, checkpoints: Checkpoints, step: int, config: Config, pretrained: Pretrained):
        model = abstract_model(pretrained.config, config.lora.rank, config.lora.projections)
        _, params, _ = nnx.split(model, trainable(config), ...)  # type: ignore[misc]  # the stubs take no `...`
        self._paths = {parameter_name(path): (path, variable) for path, variable in nnx.to_flat_state(params)}
        self._checkpoints, self._step = checkpoints, step

    def __getitem__(self, name: str) -> np.ndarray:
        path, variable = self._paths[name]
        host = jax.sharding.SingleDeviceSharding(jax.devices("cpu")[0])
        like = jax.ShapeDtypeStruct(variable.shape, variable.dtype, sharding=host)
        state = self._checkpoints.restore_parameters(
            self._step, nnx.from_flat_state([(path, variable.replace(like))]), partial=True
        )
        return np.asarray(jax.tree.leaves(state)[0])

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


def instructions(config: Config, pretrained: Pretrained, step: int, temperatures: dict[str, float]) -> dict[str, Any]:
    """How to prompt the model as in training, and how to compute a distribution from its logits.

    The wording of groups is not included; it is in `survey_jax.inputs.personas`.
    """
    prompter = make_prompter(config, *open_tokenizer(config, pretrained))
    text = prompter.text(EXAMPLE)
    return {
        "survey_jax": __version__,
        "base_model": config.model.weights,
        "step": step,
        "temperatures": temperatures,
        "template": prompter.name,
        "wording": {language: wording(t) for language, t in TEMPLATES[prompter.name].items()},
        "language": config.data.language,
        "option_order": config.data.option_order,
        "seed": config.run.seed,
        "chat": config.data.chat,
        "chat_date": config.data.chat_date,
        "chat_arguments": config.data.chat_arguments,
        "add_special_tokens": not config.data.chat,  # a chat template writes its own
        "letters": letter_ids(prompter, text),
        "example": {
            "question": EXAMPLE.question,
            "options": EXAMPLE.options,
            "group": dict(EXAMPLE.group),
            "prompt": text,
        },
    }


def wording(template: Template) -> dict[str, str]:
    """A template's texts, but for the line before a group's answers, which no exported model was trained with."""
    texts = {f.name: text for f in dataclasses.fields(template) if isinstance(text := getattr(template, f.name), str)}
    del texts["told"]
    return texts


def letter_ids(prompter: Prompter, text: str) -> dict[str, int]:
    """Token ids of the letters A, B, ... up to the first that does not keep the letter-token contract."""
    ids: dict[str, int] = {}
    for count, letter in enumerate(LETTERS, start=1):
        try:
            ids[letter] = int(prompter.letters([text], count)[-1])
        except UserError:
            break
    return ids


if __name__ == "__main__":
    cli.run(main)
