"""What a training would do, said before any weight is read."""

import shlex
import textwrap
from collections.abc import Sequence

import jax
from flax import nnx

from survey_jax.common.console import say
from survey_jax.common.errors import plural
from survey_jax.config import Config
from survey_jax.inputs.prompts import Prompt
from survey_jax.inputs.task import Task, batch_shape, make_batches, steps_of
from survey_jax.model.abstract import abstract_arrays
from survey_jax.parallel.sharding_table import bytes_per_device
from survey_jax.pretrained.open import Pretrained
from survey_jax.training.build import on_these_devices, outline_model, trainable
from survey_jax.training.memory import memory_here
from survey_jax.training.optimizer import abstract_optimizer


def rehearse(
    config: Config, pretrained: Pretrained, task: Task, training: Sequence[Prompt], flags: Sequence[str]
) -> None:
    """Prints a prompt of each split with its tokens, the steps of an epoch, and what parameters take of memory.

    Args:
      training: the training prompts of the task.
      flags: those that gave the config, for the command that plans the rest of the memory.

    Raises:
      UserError: the batch, the attention or the memory here would stop the training.
    """
    config = on_these_devices(config)
    for name, prompts in task.prompts.items():
        tokens = [len(prompt.tokens) for prompt in prompts]
        mean = sum(tokens) / len(tokens)
        say(
            f"{name}: {plural(len(tokens), 'prompt')}, {mean:.0f} tokens in the mean, {max(tokens)} at most; the first:"
        )
        text = task.prompter.text(prompts[0].answer)
        say(textwrap.indent(text, "    | ", lambda line: True))

    mesh, abstract = outline_model(config, pretrained, len(task.letters))
    batches = make_batches(config, training, batch_shape(config, training, len(task.letters)))
    say(batches.report())
    b, steps, epoch = config.batch, steps_of(config, batches), batches.first_step(1)
    say(
        f"a step: {b.microbatches} x {plural(b.batch_size, 'sequence')} of {b.seq_len:,} tokens; an epoch: "
        f"{plural(epoch, 'step')}; in all {plural(steps, 'step')}, {steps / epoch:.1f} epochs"
    )

    kind = trainable(config)
    state = abstract_arrays(nnx.state(abstract), mesh, config.model.dtype, kind)
    _, params, frozen = nnx.split(nnx.merge(nnx.graphdef(abstract), state), kind, ...)  # type: ignore[misc]
    sizes = bytes_per_device(params), bytes_per_device(abstract_optimizer(config.optim, params, mesh))
    trained, fixed = (2 * sizes[0] + sizes[1]) / 1e9, bytes_per_device(frozen) / 1e9  # gradients: as the parameters
    here = memory_here() / jax.device_count() / 1e9
    say(
        f"memory of each of {plural(mesh.size, 'device')}, of {here:.1f} GB: {fixed:.2f} GB of frozen parameters and "
        f"{trained:.2f} GB for trained ones, their gradients and the optimizer"
    )
    sizes_text = ",".join(f"{name}:{size}" for name, size in mesh.shape.items())
    command = shlex.join(["python", "-m", "survey_jax.plan", *flags, f"--mesh={sizes_text}"])
    say(f"activations come on top of that; how much and how fast on an accelerator (--chip) says: {command}")
