"""Five training steps of a tiny model on a mesh; run by test_sharding.py, each time with its own number of devices.

    python tests/sharded_steps.py --config=CONFIG OUTPUT DATA FSDP TENSOR EXPERT [DATA ...] [--processes=...]

Each mesh leaves OUTPUT/DATA_FSDP_TENSOR_EXPERT.npz; several processes join as those of the binaries do.
"""

import sys
from pathlib import Path

import jax
import numpy as np
from absl import flags
from jax.experimental import multihost_utils

from survey_jax import cli
from survey_jax.common.console import is_first
from survey_jax.config import MeshConfig
from survey_jax.inference.predictor import Predictor
from survey_jax.inputs.batches import Batches, local_rows, to_device
from survey_jax.inputs.task import build_task, make_prompter
from survey_jax.parallel import distributed
from survey_jax.parallel.sharding import MESH_AXES
from survey_jax.pretrained.open import open_pretrained
from survey_jax.train import CONFIG, evaluate
from survey_jax.training.build import build_model
from survey_jax.training.optimizer import init_optimizer
from survey_jax.training.step import TrainState, compiled_train_step, gradients

STEPS = 5


def run(config, pretrained, task) -> dict[str, np.ndarray]:
    """Everything that must not depend on the mesh, and how the mesh was used."""
    model = build_model(config, pretrained, task.prompts["train"], len(task.letters))
    b = config.batch
    here = local_rows(model.mesh, model.shape.batch_size)
    batches = Batches(
        task.prompts["train"], model.shape, groups=b.groups_per_tree, microbatches=b.microbatches, here=here
    )
    shardings = jax.tree.map(lambda x: x.sharding, model.params)
    # B starts at zero, and then A has no gradient.
    params = jax.jit(lambda t: jax.tree.map(lambda x: x + 0.05, t), out_shardings=shardings)(model.params)
    state = TrainState(params, init_optimizer(config.optim, params, model.mesh))
    batch = to_device(batches.batch(0), model.mesh, model.shape.batch_size, True)
    compiled = (
        jax.jit(gradients, static_argnums=(0, 5))
        .lower(model.graphdef, params, model.frozen, batch, task.letters, model.step_config)
        .compile()
    )
    loss, grads, _ = compiled(params, model.frozen, batch, task.letters)
    result = {"loss": loss, "temporary": compiled.memory_analysis().temp_size_in_bytes}
    result |= {f"gradient{jax.tree_util.keystr(path)}": g for path, g in jax.tree.leaves_with_path(grads)}
    step = compiled_train_step(model.graphdef, model.step_config, config.optim, state)
    losses = []
    for number in range(STEPS):
        batch = to_device(batches.batch(number), model.mesh, model.shape.batch_size, True)
        state, measured = step(state, model.frozen, batch, task.letters)
        losses.append(measured["loss"])
    result |= {"losses": np.array(losses), "compilations": step._cache_size()}
    scores = evaluate(Predictor(model, task.letters), state.params, task, "valid", calibrated=True)
    result["scores"] = np.array([scores[name] for name in sorted(scores)])
    result |= {f"parameter{jax.tree_util.keystr(p)}": x for p, x in jax.tree.leaves_with_path(state.params)}
    leaves = jax.tree.leaves((state, model.frozen))
    result["held"] = sum(x.addressable_shards[0].data.size for x in leaves) / sum(x.size for x in leaves)
    return {name: whole(value) for name, value in result.items()}


def whole(value) -> np.ndarray:
    """On this process, whoever has its parts."""
    parted = isinstance(value, jax.Array) and not value.is_fully_replicated
    return np.asarray(multihost_utils.process_allgather(value, tiled=True) if parted else value)


def main() -> None:
    output, *sizes = flags.FLAGS(sys.argv)[1:]
    distributed.start()
    config = cli.read_config(CONFIG)
    pretrained = open_pretrained(config.model.weights)
    task = build_task(config, make_prompter(config, pretrained.tokenizer()))
    for mesh in zip(*[iter(sizes)] * 4, strict=True):
        config.mesh = MeshConfig(**dict(zip(MESH_AXES, map(int, mesh), strict=True)))
        found = run(config, pretrained, task)
        if is_first():
            np.savez(Path(output) / f"{'_'.join(mesh)}{'_processes' if jax.process_count() > 1 else ''}", **found)


if __name__ == "__main__":
    main()
