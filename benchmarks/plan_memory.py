"""Planned against measured memory of a training step, on virtual CPU devices.

    python -m benchmarks.plan_memory --config=configs/smollm2.py --model=SmolLM2-135M --devices=8 \
        --config.batch.batch_size=8

The arrays of a step are made as the plan says (of no trained values), and the step runs three times. Measured are the
live arrays, and by how much the process grows while a step runs. Prints one line of JSON, in bytes of a device.
"""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags

from survey_jax import cli
from survey_jax.parallel.accelerators import by_name
from survey_jax.parallel.sharding import make_mesh
from survey_jax.parallel.sharding_table import bytes_per_device
from survey_jax.planning.architectures import read_architecture
from survey_jax.planning.estimate import abstract_state, plan_step
from survey_jax.training.build import make_step_config
from survey_jax.training.step import compiled_train_step

CONFIG = cli.define_config(required=True)
MODEL = flags.DEFINE_string("model", None, "As of survey_jax.plan.", required=True)
DEVICES = flags.DEFINE_integer("devices", 1, "How many.")
OPTIONS = 10
_STATUS, _REFERENCED = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def main() -> None:
    jax.config.update("jax_num_cpu_devices", DEVICES.value)
    config = cli.read_config(CONFIG)
    decoder = read_architecture(MODEL.value)
    mesh = make_mesh(*config.mesh.sizes)
    jax.set_mesh(mesh)
    planned = plan_step(config, decoder, mesh, by_name("h100"), OPTIONS)

    state = abstract_state(config, decoder, mesh, OPTIONS)
    step = compiled_train_step(state.graphdef, make_step_config(config, decoder), config.optim, state.train)
    letters = jnp.arange(OPTIONS)
    train, frozen, batch = make((state.train, state.frozen, state.batch))
    compiled = step.lower(state.train, state.frozen, state.batch, letters).compile()
    growth = []
    for _ in range(3):
        live = bytes_per_device(jax.live_arrays())
        before = memory("VmRSS")
        _REFERENCED.write_text("5")  # the peak starts anew
        train, measured = jax.block_until_ready(compiled(train, frozen, batch, letters))
        growth.append(max(0, memory("VmHWM") - before) / mesh.size)
    if not jnp.isfinite(measured["loss"]):
        raise ValueError("the step did not compute a loss")
    result = {"devices": mesh.size, "planned": planned.total, "live": live, "growth": growth, "plan": planned.memory}
    result["ratio"] = planned.total / (live + max(growth))
    print(json.dumps(result))


def make(tree: Any) -> Any:
    """Arrays of small numbers where a tree has their shapes."""

    def one(x: jax.ShapeDtypeStruct) -> jax.Array:
        value = True if x.dtype == bool else 1 if jnp.issubdtype(x.dtype, jnp.integer) else 0.01
        return jax.jit(lambda: jnp.full(x.shape, value, x.dtype), out_shardings=x.sharding)()

    return jax.block_until_ready(jax.tree.map(one, tree))


def memory(name: str) -> int:
    """Bytes of this process, a field of Linux's /proc/self/status."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    cli.run(main)
