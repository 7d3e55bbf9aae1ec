"""Builds the model of a run on its mesh, and the configuration of its steps."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from survey_jax.common.console import say
from survey_jax.common.errors import UserError, plural
from survey_jax.config import Config, MeshConfig
from survey_jax.inputs.prompts import Prompt
from survey_jax.inputs.task import batch_shape
from survey_jax.inputs.trees import BatchShape, group_questions, tree_shape
from survey_jax.model.abstract import abstract_model
from survey_jax.model.architecture import EXPERTS, DecoderConfig, widest_head
from survey_jax.model.attention_kernels import why_not_cudnn, why_not_splash
from survey_jax.model.block import Numerics
from survey_jax.model.lora import LoraParam, absent
from survey_jax.parallel.sharding import make_mesh, mesh_shape, row_devices
from survey_jax.pretrained.load import load_model, unwritable
from survey_jax.pretrained.open import Pretrained
from survey_jax.training.memory import check_memory
from survey_jax.training.step import StepConfig


@dataclasses.dataclass(frozen=True)
class Model:
    """A model on its mesh, split for functional steps."""

    mesh: jax.sharding.Mesh
    graphdef: Any
    params: nnx.State
    frozen: nnx.State
    step_config: StepConfig  # of a training step
    shape: BatchShape


def trainable(config: Config) -> type:
    """The kind of parameter that training updates."""
    return LoraParam if config.lora.rank else nnx.Param


def check_rows(rows: int, mesh: jax.sharding.Mesh) -> None:
    """UserError unless a microbatch's rows divide evenly over the devices."""
    if rows % (per_row := row_devices(mesh)):
        raise UserError(f"config.batch.batch_size = {rows}: must be a multiple of data x fsdp x expert = {per_row}")


def check_experts(config: Config, decoder: DecoderConfig, expert: int) -> None:
    """UserError for settings of experts that the model has not, or that the mesh's axis `expert` does not divide."""
    if config.optim.balance and (config.lora.rank or not decoder.experts):
        why = "this model has no experts" if not decoder.experts else "adapters leave the router as it is"
        raise UserError(f"config.optim.balance = {config.optim.balance!r}: {why}; set it to 0")
    if decoder.experts % expert or (expert > 1 and not decoder.experts):
        there = f"the {decoder.experts} experts of a layer" if decoder.experts else "a model without experts"
        raise UserError(f"config.mesh.expert = {expert}: cannot split {there}; choose a divisor, or 1 and more of fsdp")


def check_attention(config: Config, decoder: DecoderConfig, device: jax.Device) -> None:
    """UserError if the configured back end cannot compute this model's attention on this device."""
    name, tokens, why = config.model.attention, config.batch.seq_len, None
    if name == "cudnn":
        why = why_not_cudnn(widest_head(decoder), decoder.attention_softcap, config.model.dtype, tokens, device)
    elif name == "splash":
        why = why_not_splash(tokens, device)
    if name in ("cudnn", "splash") and decoder.sinks:
        why = "has no sinks, as this model's attention has"
    if why:
        raise UserError(f"config.model.attention = {name!r}: it {why}; choose two_part, which works everywhere")


def make_step_config(config: Config, decoder: DecoderConfig) -> StepConfig:
    """The configuration of a training step, with dense attention."""
    return StepConfig(
        decoder=decoder,
        numerics=Numerics(
            dtype=config.model.dtype,
            activations="float32" if jax.default_backend() == "cpu" else config.model.dtype,
            lora_scale=config.lora.alpha / config.lora.rank if config.lora.rank else 0.0,
        ),
        remat=config.model.remat,
        loss=config.optim.loss,
        dropout=config.lora.dropout,
        seed=config.run.seed,
        balance=config.optim.balance,
    )


def on_these_devices(config: Config) -> Config:
    """A run's settings, with a mesh of the devices present if its own does not fit; results do not depend on it."""
    devices, mesh = jax.device_count(), dataclasses.replace(config.mesh, devices=0)
    try:
        data, fsdp, _, expert = mesh_shape(mesh.sizes, devices)
    except UserError:
        say(f"the run's mesh does not cover the {plural(devices, 'device')} here: all of them on fsdp")
        mesh, data, fsdp, expert = MeshConfig(data=1, fsdp=devices, tensor=1), 1, devices, 1
    per_row = data * fsdp * expert
    rows = -(-config.batch.batch_size // per_row) * per_row
    return dataclasses.replace(config, mesh=mesh, batch=dataclasses.replace(config.batch, batch_size=rows))


def outline_model(config: Config, pretrained: Pretrained, options: int) -> tuple[jax.sharding.Mesh, Any]:
    """The mesh of the config, which becomes the current one, and the model without its arrays.

    Args:
      options: option letters (K).

    Raises:
      UserError: the devices, their attention or their memory cannot do what the config says.
    """
    mesh = make_mesh(*config.mesh.sizes)
    jax.set_mesh(mesh)
    check_rows(config.batch.batch_size, mesh)
    check_experts(config, pretrained.config, mesh.shape["expert"])
    check_attention(config, pretrained.config, mesh.devices.flat[0])
    lora, decoder, prior = config.lora, pretrained.config, bool(config.model.prior)
    abstract = abstract_model(decoder, lora.rank, lora.projections, config.model.quantize, prior)
    missing = absent(abstract, lora.projections) if lora.rank else []
    if missing and set(EXPERTS).isdisjoint(lora.projections):
        say(f"note: {', '.join(missing)} of this model are experts, which get adapters where config.lora.projections "
            "names expert_gate, expert_up, expert_down")  # fmt: skip
    kind = trainable(config)
    trained = sum(math.prod(x.shape) for x in jax.tree.leaves(nnx.state(abstract, kind)))
    check_memory(config, decoder, trained, options)
    if not lora.rank and (lost := unwritable(pretrained)):
        say(f"note: {lost[0]} and {len(lost) - 1} more are stored such that survey_jax.export cannot write them; train "
            "adapters if you need the model elsewhere (config.lora.rank)")  # fmt: skip
    return mesh, abstract


def build_model(config: Config, pretrained: Pretrained, prompts: Sequence[Prompt], options: int) -> Model:
    """Loads weights onto the mesh of the config, which becomes the current one; adapters are initialised.

    Args:
      prompts: the training prompts, on which the sizes of a batch depend.
      options: option letters (K).
    """
    (mesh, abstract), kind = outline_model(config, pretrained, options), trainable(config)
    model = load_model(
        pretrained, abstract, mesh, frozen_dtype=config.model.dtype, trainable=kind, seed=config.run.seed
    )
    graphdef, params, frozen = nnx.split(model, kind, ...)  # type: ignore[misc]  # the stubs take no `...`
    shape = batch_shape(config, prompts, options)
    step_config = make_step_config(config, pretrained.config)
    if config.model.attention != "dense":
        sizes = tree_shape(group_questions(prompts), shape, config.model.attention)
        step_config = dataclasses.replace(step_config, tree_shape=sizes)
    return Model(mesh, graphdef, params, frozen, step_config, shape)
