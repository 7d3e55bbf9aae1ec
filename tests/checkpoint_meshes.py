"""Run by test_checkpoint.py: python checkpoint_meshes.py WORKDIR PROCESSES PROCESS PORT.

One process with eight devices: saves on one of them (step 1), restores on eight, saves (2), restores on two, saves (3).
Two processes with four devices each: restore that on all eight, save (4, 5), and then restore again where the second
process alone cannot read step 5.
"""

import sys
from pathlib import Path

import jax
import numpy as np
from etils import epath
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from survey_jax.checkpointing import files
from survey_jax.checkpointing.manager import METRIC, TEMPERATURE, Checkpoints

IDENTITY = {"base model": "abc"}
SPECS = {"parameters": {"a": P("x", "y"), "b": P(None, "x")}, "optimizer": {"mu": P("y", "x"), "count": P()}}


def values() -> dict:
    rng = np.random.default_rng(0)
    parameters = {"a": rng.normal(size=(8, 16)).astype(np.float32), "b": rng.normal(size=(3, 8)).astype(np.float32)}
    return {
        "parameters": parameters,
        "optimizer": {"mu": rng.normal(size=(16, 8)).astype(np.float32), "count": np.int32(7)},
    }


def placed(tree: dict, count: int) -> dict:
    """Spread over the first `count` devices."""
    shape = {1: (1, 1), 2: (1, 2), 8: (2, 4)}[count]
    mesh = Mesh(np.array(jax.devices()[:count]).reshape(shape), ("x", "y"), axis_types=(AxisType.Auto,) * 2)

    def place(x: np.ndarray, spec: P) -> jax.Array:
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, NamedSharding(mesh, spec), lambda index: x[index])

    return jax.tree.map(place, tree, SPECS)


def save(checkpoints: Checkpoints, step: int, tree: dict) -> None:
    checkpoints.save(step, tree["parameters"], tree["optimizer"], IDENTITY, {METRIC: 1.0, TEMPERATURE: 1.0})
    checkpoints.wait()


def restore(checkpoints: Checkpoints, count: int) -> tuple[int, dict]:
    """On `count` devices, and equal to what was saved bit by bit."""
    like = placed(jax.tree.map(np.zeros_like, values()), count)
    found = checkpoints.restore_latest(like["parameters"], like["optimizer"], IDENTITY)
    assert found
    tree = {"parameters": found[1], "optimizer": found[2]}
    for x, y, expected in zip(
        jax.tree.leaves(tree), jax.tree.leaves(placed(values(), count)), jax.tree.leaves(values()), strict=True
    ):
        assert x.sharding == y.sharding
        for shard in x.addressable_shards:
            np.testing.assert_array_equal(shard.data, expected[shard.index] if expected.ndim else expected)
    return found[0], tree


def one_process(workdir: Path) -> None:
    checkpoints = Checkpoints(workdir, keep=9)
    save(checkpoints, 1, placed(values(), 1))
    step, tree = restore(checkpoints, 8)
    assert step == 1
    compiled = files._sums._cache_size()
    save(checkpoints, 2, tree)
    assert files._sums._cache_size() == compiled == 2  # one for each mesh, saving and restoring alike
    step, tree = restore(checkpoints, 2)
    assert step == 2
    save(checkpoints, 3, tree)


def two_processes(workdir: Path) -> None:
    checkpoints = Checkpoints(workdir, keep=9)
    step, tree = restore(checkpoints, 8)
    assert step == 3
    save(checkpoints, 4, tree)
    save(checkpoints, 5, tree)
    load = files.ocp.load_checkpointables

    def failing(folder: epath.Path, items: dict) -> dict:
        if jax.process_index() == 1 and folder.name == "5" and "optimizer" in items:
            raise ValueError("a bad sector")
        return load(folder, items)

    files.ocp.load_checkpointables = failing
    assert restore(checkpoints, 8)[0] == 4


if __name__ == "__main__":
    folder, processes, process, port = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    jax.config.update("jax_num_cpu_devices", 8 // processes)
    if processes > 1:
        jax.distributed.initialize(f"127.0.0.1:{port}", processes, process)
    one_process(folder) if processes == 1 else two_processes(folder)
