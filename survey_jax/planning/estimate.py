"""What a training step needs on devices that are not at hand: the real step, compiled without data or weights."""

import dataclasses
import math
import os
import tempfile
import time
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from survey_jax.common.console import redirected
from survey_jax.config import Config
from survey_jax.inputs.trees import BatchShape, empty_batch
from survey_jax.model.abstract import abstract_arrays, abstract_model
from survey_jax.model.architecture import DecoderConfig
from survey_jax.model.flops import Flops, step_bytes, step_flops
from survey_jax.parallel.accelerators import Accelerator
from survey_jax.parallel.sharding import ROWS, row_devices
from survey_jax.parallel.sharding_table import bytes_per_device
from survey_jax.planning.hlo_traffic import Traffic, traffic
from survey_jax.training.build import check_experts, check_rows, make_step_config, trainable
from survey_jax.training.optimizer import abstract_optimizer
from survey_jax.training.step import TrainState, compiled_train_step

MARGIN = 0.1  # share of a device's memory kept free for the runtime, communication buffers and fragmentation
_REMATERIALIZED = "Involuntary full rematerialization"  # in XLA's own warnings


@dataclasses.dataclass(frozen=True)
class AbstractState:
    """The arrays of a training step as `jax.ShapeDtypeStruct`s with shardings."""

    graphdef: Any
    train: TrainState
    frozen: nnx.State
    batch: dict[str, jax.ShapeDtypeStruct]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a training step needs of each device.

    Attributes:
      memory: bytes on a device, by what they hold.
      capacity: bytes that a device has.
      flops: FLOPs of the step, summed over devices.
      sent: bytes that a device sends.
      seconds: the time of "compute", "memory" (reading and writing it) and "collectives", each at full speed.
      warnings: in how many places XLA copies a whole array to change its sharding.
      compiled_in: seconds that compiling took.
    """

    memory: dict[str, int]
    capacity: float
    flops: Flops
    sent: Traffic
    seconds: dict[str, float]
    warnings: int
    compiled_in: float

    @property
    def total(self) -> int:
        """Bytes needed on a device."""
        return sum(self.memory.values())

    @property
    def fits(self) -> bool:
        """Whether that leaves the share MARGIN of the device's memory free."""
        return self.total <= self.capacity * (1 - MARGIN)

    @property
    def fastest(self) -> float:
        """Seconds of a step if compute, memory and network are busy at the same time, each at full speed."""
        return max(self.seconds.values())

    @property
    def slowest(self) -> float:
        """Seconds of a step if a device never sends while it computes, each at full speed."""
        return max(self.seconds["compute"], self.seconds["memory"]) + self.seconds["collectives"]


def abstract_state(config: Config, decoder: DecoderConfig, mesh: Mesh, options: int) -> AbstractState:
    """The arrays of `train.py`, with the same shardings. UserError if the mesh does not divide them."""
    check_rows(config.batch.batch_size, mesh)
    check_experts(config, decoder, mesh.shape["expert"])
    b, kind = config.batch, trainable(config)
    lora, prior = config.lora, bool(config.model.prior)
    model = abstract_model(decoder, lora.rank, lora.projections, config.model.quantize, prior)
    graphdef, state = nnx.split(model)
    model = nnx.merge(graphdef, abstract_arrays(state, mesh, config.model.dtype, kind))
    graphdef, params, frozen = nnx.split(model, kind, ...)  # type: ignore[misc]  # the stubs take no `...`
    rows = NamedSharding(mesh, P(None, *ROWS))
    arrays = empty_batch(BatchShape(b.batch_size, b.seq_len, b.answers_per_seq, b.seq_len, options))
    arrays |= {"prior": arrays["target"]} if prior else {}
    batch = {
        name: jax.ShapeDtypeStruct((b.microbatches, *array.shape), array.dtype, sharding=rows)
        for name, array in arrays.items()
    }
    opt_state = abstract_optimizer(config.optim, params, mesh)
    return AbstractState(graphdef, TrainState(params, opt_state), frozen, batch)


def plan_step(
    config: Config, decoder: DecoderConfig, mesh: Mesh, chip: Accelerator, options: int = 10, domain: int = 0
) -> Plan:
    """Compiles the training step for a mesh and reads its needs off the compiled program.

    Attention is planned as dense, because the sizes of the other back ends come from data.

    Args:
      mesh: a mesh of devices that XLA can compile for: virtual CPU devices, or a topology of TPUs.
      chip: the device whose memory and speeds count.
      domain: how many devices fast links connect; 0: as many as the chip allows.

    Raises UserError if the mesh does not divide the batch.
    """
    virtual = mesh.devices.flat[0].platform == "cpu"
    if virtual and config.model.dtype == "bfloat16":
        # XLA for CPUs keeps float32 copies of bfloat16 weights, but not of float16 ones, which have the same size.
        half = dataclasses.replace(config.model, dtype="float16")  # type: ignore[arg-type]  # no setting of a run
        config = dataclasses.replace(config, model=half)
    state = abstract_state(config, decoder, mesh, options)
    step = compiled_train_step(state.graphdef, make_step_config(config, decoder), config.optim, state.train)
    letters = jax.ShapeDtypeStruct((options,), np.int32)
    begin = time.perf_counter()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        try:
            with redirected(2, log.fileno()):
                compiled = step.lower(state.train, state.frozen, state.batch, letters).compile()
        finally:  # what XLA says is passed on, except the warnings that are counted here
            log.seek(0)
            lines = log.read().splitlines()
            os.write(2, "".join(f"{line}\n" for line in lines if _REMATERIALIZED not in line).encode())
    seconds = time.perf_counter() - begin
    sent = traffic(compiled.as_text(), domain or chip.domain)
    b = config.batch
    flops = step_flops(
        decoder,
        batch_size=b.batch_size * b.microbatches,
        seq_len=b.seq_len,
        answers_per_seq=b.answers_per_seq,
        options=options,
        lora_rank=config.lora.rank,
        projections=config.lora.projections,
        remat=config.model.remat,
    )
    devices, reads = mesh.size, _step_bytes(config, decoder, mesh, state)
    return Plan(
        memory=_memory(compiled.memory_analysis(), state),
        capacity=chip.memory,
        flops=flops,
        sent=sent,
        seconds={
            "compute": flops.total / devices / chip.flops,
            "memory": reads / chip.memory_bandwidth,
            "collectives": max(
                sum(sent.total.values()) / chip.fast_bandwidth, sum(sent.leaving.values()) / chip.slow_bandwidth
            ),
        },
        warnings="\n".join(lines).count(_REMATERIALIZED),
        compiled_in=seconds,
    )


def _memory(analysis: Any, state: AbstractState) -> dict[str, int]:
    """Bytes on a device, by what they hold. Gradients are a part of XLA's temporaries, as large as the parameters."""
    known = {
        "frozen parameters": bytes_per_device(state.frozen),
        "trained parameters": bytes_per_device(state.train.params),
        "optimizer state": bytes_per_device(state.train.opt_state),
        "batch": bytes_per_device(state.batch),
    }
    # Results that do not reuse an argument's memory.
    fresh = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    gradients = min(known["trained parameters"], analysis.temp_size_in_bytes)
    rest = analysis.temp_size_in_bytes + max(0, fresh) - gradients
    return known | {"gradients": gradients, "activations and other temporaries": rest}


def _step_bytes(config: Config, decoder: DecoderConfig, mesh: Mesh, state: AbstractState) -> float:
    """Bytes that a device reads and writes for its matrix products and for the optimizer's update."""
    b = config.batch
    products = step_bytes(
        decoder,
        batch_size=b.batch_size // row_devices(mesh),
        microbatches=b.microbatches,
        seq_len=b.seq_len,
        itemsize=np.dtype(config.model.dtype if config.model.dtype != "bfloat16" else "float16").itemsize,
        lora_rank=config.lora.rank,
        remat=config.model.remat,
        expert=mesh.shape["expert"],
    )
    update = 2 * bytes_per_device(state.train) + bytes_per_device(state.train.params)
    return products / mesh.shape["tensor"] + update


def run_hours(config: Config, made: Plan, answers: int | None = None) -> tuple[int, tuple[float, float]]:
    """The run's steps, and how many hours they take at best, from to.

    A run that is as long as so many epochs has at least the steps that its answers fill if every slot of every row is
    used; without `answers`, those of an epoch, 1,000 stand for them.
    """
    steps = config.optim.steps
    if config.optim.epochs:
        b = config.batch
        slots = b.microbatches * b.batch_size * b.answers_per_seq
        steps = 1000 if answers is None else math.ceil(config.optim.epochs * math.ceil(answers / slots))
    return steps, (steps * made.fastest / 3600, steps * made.slowest / 3600)


def run_time(config: Config, made: Plan, devices: int, price: float | None, answers: int | None = None) -> str:
    """How long the run takes and what it costs; its start, evaluations and checkpoints are not counted.

    Args:
      price: of a device and hour; None: unknown.
      answers: of the training data, to one epoch; None: unknown.
    """
    steps, (least, most) = run_hours(config, made, answers)
    bound = f"{answers:,} answers an epoch, at least " if config.optim.epochs and answers is not None else ""
    text = f"{bound}{steps:,} steps: at best {least:,.2f} to {most:,.2f} hours"
    if devices > 1 or price is None:
        text += f", {devices * least:,.2f} to {devices * most:,.2f} device-hours"
    if price is not None:
        text += f", {price * devices * least:,.2f} to {price * devices * most:,.2f} at {price:g} a device-hour"
    return text + ("; `train --dry_run` says how many steps an epoch has" if config.optim.epochs else "")


def verdict(made: Plan, devices: int, searched: bool) -> str:
    """Whether the plan fits, and what to do if it does not, or if it would fit on less."""
    share, least = made.total / made.capacity, made.total * devices
    text = f"{share:.0%} of the memory, and {MARGIN:.0%} are kept free; compiled in {made.compiled_in:.0f} s"
    if not made.fits:
        return f"does not fit: {text}" + ("" if searched else "; --search tries other values of remat and microbatches")
    enough = devices > 1 and least <= made.capacity * (1 - MARGIN)
    few = f"; one device may be enough, as all hold {least / 1e9:,.2f} GB together: plan it with --mesh=data:1"
    return f"fits: {text}" + (few if enough else "")
