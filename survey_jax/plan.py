"""Predicts whether a run fits into memory, how long a step takes at best, and how many bytes devices send.

    python -m survey_jax.plan --config=configs/published.py:llama3_8b --mesh=data:1,fsdp:8,tensor:1 --chip=h100
    python -m survey_jax.plan --config=configs/gemma.py --topology=v5e:2x4        # needs: pip install survey_jax[plan]

The training step is compiled for devices that need not be at hand; no weights and no data are read. docs/scaling.md
explains the numbers.
"""

import dataclasses
import math
import os
import typing
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags
from jax.sharding import Mesh
from rich.console import Console
from rich.table import Table

from survey_jax import cli
from survey_jax.common.console import say
from survey_jax.common.errors import UserError
from survey_jax.common.files import write_json
from survey_jax.config import Config, Remat
from survey_jax.model.architecture import DecoderConfig
from survey_jax.parallel import sharding_table
from survey_jax.parallel.accelerators import ACCELERATORS, Accelerator, by_kind, by_name
from survey_jax.parallel.sharding import arrange, mesh_shape, read_mesh, row_devices
from survey_jax.planning.architectures import read_architecture
from survey_jax.planning.estimate import Plan, abstract_state, plan_step, run_hours, run_time, verdict
from survey_jax.survey.table import DEMO, MAX_OPTIONS, read_table

os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # libtpu asks no cloud about this machine

MOST_DEVICES = 2**14  # that one process can stand in for
CONFIG = cli.define_config(required=True)
MODEL = flags.DEFINE_string("model", None, "A known model, a config.json or a folder; default: config.model.weights.")
MESH = flags.DEFINE_string("mesh", None, "Mesh sizes, such as data:1,fsdp:8,tensor:1; default: config.mesh.")
DEVICES = flags.DEFINE_integer(
    "devices", 0, "Number of devices; default: that of the mesh or the topology.", 0, MOST_DEVICES
)
CHIP = flags.DEFINE_string("chip", None, f"One of {', '.join(a.name for a in ACCELERATORS)}; default: h100.")
TOPOLOGY = flags.DEFINE_string("topology", None, "A TPU slice, such as v5e:2x4; the TPU compiler is used.")
SLICES = flags.DEFINE_integer("slices", 1, "Number of such slices.", lower_bound=1)
DATA = flags.DEFINE_list(
    "data",
    None,
    "Tables to train on, with commas between, or demo: how many steps optim.epochs are at least.",
)
OPTIONS = flags.DEFINE_integer(
    "options", 10, "The largest number of options of a question in your data.", 2, MAX_OPTIONS
)
SEARCH = flags.DEFINE_bool(
    "search", False, "Try all values of remat, and all ways to divide the batch into microbatches."
)
PRICE = flags.DEFINE_float("price", None, "What a device costs an hour, in any currency.", lower_bound=0.0)
EXPLAIN = flags.DEFINE_bool("explain_sharding", False, "Print how every parameter is sharded.")
JSON = flags.DEFINE_string("json", None, "Write the same numbers to this file.")


def main() -> None:
    config = cli.read_config(CONFIG)
    model = MODEL.value or config.model.weights
    if not math.isfinite(PRICE.value or 0):
        raise UserError(f"--price={PRICE.value}: must be a number")
    decoder = read_architecture(model, config.model.ignore_fields)
    mesh, chip, domain = make_devices(config)
    answers = answers_an_epoch(config, DATA.value) if DATA.value else None  # after the devices are made: it may print
    candidates = list(variants(config, mesh)) if SEARCH.value else [config]
    if not candidates:
        rows, needed = config.batch.batch_size * config.batch.microbatches, row_devices(mesh)
        raise UserError(
            f"config.batch.batch_size x microbatches = {rows}: must be a multiple of data x fsdp x expert = {needed}"
        )
    if EXPLAIN.value:
        state = abstract_state(config, decoder, mesh, OPTIONS.value)
        print(sharding_table.text(sharding_table.layouts(*state.train, state.frozen, mesh)), flush=True)
    plans = []
    for candidate in candidates:
        made = plan_step(candidate, decoder, mesh, chip, OPTIONS.value, domain)
        plans.append((candidate, made))
        if SEARCH.value:
            print(f"{settings(candidate)}: {_gb(made.total)} GB, {made.slowest:.3f} s", flush=True)
    fitting = [pair for pair in plans if pair[1].fits]
    config, best = min(fitting or plans, key=lambda pair: pair[1].slowest if fitting else pair[1].total)
    if SEARCH.value:
        print_search(plans, best)
    print_plan(model, config, decoder, mesh, chip, best, answers)
    if JSON.value:
        record = [{"settings": settings(c), **to_dict(p), **hours(c, p, answers)} for c, p in plans]
        about = {"model": model, "mesh": dict(mesh.shape), "chip": dataclasses.asdict(chip), "best": settings(config)}
        write_json(Path(JSON.value), about | {"plans": record})


def answers_an_epoch(config: Config, tables: Sequence[str]) -> int:
    """How many answers of tables an epoch trains on if none is held out: with `batch.answers_per_question` not all."""
    most, of_question = config.batch.answers_per_question, Counter[Any]()
    for table in tables:
        of_question.update(answer.question_key for answer in read_table(DEMO if table == "demo" else table))
    return sum(min(count, most or count) for count in of_question.values())


def make_devices(config: Config) -> tuple[Mesh, Accelerator, int]:
    """The mesh of the flags, the kind of its devices, and how many of them fast links connect (0: as the kind allows).

    Raises:
      UserError: the flags ask for an impossible mesh or an unknown kind.
    """
    sizes = read_mesh(MESH.value) if MESH.value else config.mesh.sizes
    if TOPOLOGY.value:
        devices = topology_devices(TOPOLOGY.value, SLICES.value)
        chip = by_name(CHIP.value) if CHIP.value else by_kind(devices[0].device_kind)
        if chip is None:
            raise UserError(f"--topology={TOPOLOGY.value}: {devices[0].device_kind} is not in the table; set --chip")
        domain = len(devices) // SLICES.value
    else:
        count = DEVICES.value or (math.prod(sizes) if min(sizes) > 0 else 0)
        if not count:
            raise UserError("--devices: say how many, or give --mesh sizes without -1")
        chip, domain = by_name(CHIP.value or "h100"), 0
        if count > MOST_DEVICES:
            raise UserError(f"mesh: {count:,} devices; a plan is made for at most {MOST_DEVICES:,}")
        mesh_shape(sizes, count)  # refuses sizes that do not fit before devices are made
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", count)
        devices = jax.devices()
    mesh = arrange(mesh_shape(sizes, len(devices)), devices)
    jax.set_mesh(mesh)
    return mesh, chip, domain


def topology_devices(name: str, slices: int) -> list[jax.Device]:
    """Devices of TPU slices that need not be at hand. UserError if libtpu is missing or does not know the topology."""
    from jax.experimental import topologies

    jax.config.update("jax_platforms", "cpu")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    try:
        import libtpu  # noqa: F401

        more = {"num_slices": slices} if slices > 1 else {}
        return list(topologies.get_topology_desc(platform="tpu", topology_name=name, **more).devices)
    except ImportError as error:
        raise UserError("--topology: needs libtpu: pip install survey_jax[plan]") from error
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise UserError(f"--topology={name}: {str(error).splitlines()[0]}") from error


def variants(config: Config, mesh: Mesh) -> Any:
    """Configs of the same training that differ in remat and in the number of microbatches."""
    per_row = row_devices(mesh)
    rows = config.batch.batch_size * config.batch.microbatches
    for remat in typing.get_args(Remat):
        for microbatches in (2**n for n in range(rows.bit_length())):
            if rows % (microbatches * per_row) == 0:
                batch = dataclasses.replace(config.batch, batch_size=rows // microbatches, microbatches=microbatches)
                model = dataclasses.replace(config.model, remat=remat)
                yield dataclasses.replace(config, model=model, batch=batch)


def settings(config: Config) -> str:
    """The settings that `variants` changes, as flags."""
    b = config.batch
    return (
        f"--config.model.remat={config.model.remat} --config.batch.batch_size={b.batch_size} "
        f"--config.batch.microbatches={b.microbatches}"
    )


def print_search(plans: list[tuple[Config, Plan]], best: Plan) -> None:
    """Prints all plans that were tried, in order."""
    table = Table(title="What was tried; * is the fastest that fits")
    for column in ("", "remat", "rows", "microbatches", "GB a device", "fits", "s a step, at best"):
        table.add_column(column, justify="left" if column in ("", "remat", "fits") else "right", no_wrap=True)
    for config, made in plans:
        mark = "*" if made is best and made.fits else ""
        b = config.batch
        numbers = (_gb(made.total), "yes" if made.fits else "no", f"{made.fastest:.3f} to {made.slowest:.3f}")
        table.add_row(mark, config.model.remat, str(b.batch_size), str(b.microbatches), *numbers)
    Console(width=160).print(table)


def print_plan(
    model: str, config: Config, c: DecoderConfig, mesh: Mesh, chip: Accelerator, made: Plan, answers: int | None
) -> None:
    """Prints a plan as a table, and its consequences in a sentence each; `answers`: see `answers_an_epoch`."""
    b, devices = config.batch, mesh.size
    how = f"LoRA of rank {config.lora.rank}" if config.lora.rank else "full fine-tuning"
    say(f"{model}, {how}, on {devices} x {chip.name} ({', '.join(f'{k} {v}' for k, v in mesh.shape.items())})")
    table = Table()
    table.add_column("each device", no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    for name, size in made.memory.items():
        table.add_row(name, f"{_gb(size)} GB")
    share = made.total / made.capacity
    table.add_row("memory in all", f"{_gb(made.total)} GB of {_gb(made.capacity)} ({share:.0%})")
    table.add_section()
    for kind, sent in made.sent.total.items():
        leaving = made.sent.leaving[kind]
        between = f", {_gb(leaving)} GB of it between hosts or slices" if leaving else ""
        table.add_row(f"sends: {kind}", f"{_gb(sent)} GB{between}")
    table.add_section()
    table.add_row("computes", f"{made.flops.total / devices / 1e12:,.2f} TFLOP")
    for name, seconds in made.seconds.items():
        table.add_row(f"time of {name} at full speed", f"{seconds:.4f} s")
    Console(width=160).print(table)

    tokens = b.batch_size * b.microbatches * b.seq_len
    rows = f"{b.microbatches} x {b.batch_size} rows of {b.seq_len} tokens"
    print(f"batch: {rows}, {tokens:,} tokens in all; remat {config.model.remat}")
    print(
        f"a step: at best {made.fastest:.3f} s if sending hides behind computing, {made.slowest:.3f} s if not: "
        f"{tokens / made.slowest:,.0f} to {tokens / made.fastest:,.0f} tokens/s, at most "
        f"{b.batch_size * b.microbatches * b.answers_per_seq / made.fastest:,.0f} answers/s; "
        f"{made.flops.useful / 1e12:,.1f} useful TFLOP of {made.flops.total / 1e12:,.1f}"
    )
    if made.warnings:
        print(f"warning: XLA copies whole arrays between layouts in {made.warnings} places; choose another mesh")
    for size, what in ((c.heads, "heads"), (c.kv_heads, "key/value heads")):
        if size % mesh.shape["tensor"]:
            tensor = mesh.shape["tensor"]
            print(f"note: tensor {tensor} does not divide the {size} {what}: devices exchange parts of heads")
    print(run_time(config, made, devices, PRICE.value, answers))
    print(verdict(made, devices, SEARCH.value))


def hours(config: Config, made: Plan, answers: int | None) -> dict[str, Any]:
    """How long the run takes at best, for JSON; the price times device-hours is its cost."""
    steps, span = run_hours(config, made, answers)
    return {"steps": steps, "hours": span, "price": PRICE.value}


def to_dict(made: Plan) -> dict[str, Any]:
    """All numbers of a plan, for JSON."""
    derived = {"total": made.total, "fits": made.fits, "seconds_at_best": [made.fastest, made.slowest]}
    return dataclasses.asdict(made) | derived


def _gb(size: float) -> str:
    return f"{size / 1e9:,.2f}"


if __name__ == "__main__":
    cli.run(main)
