"""Checkpoints of a run, with Orbax: asynchronous, the latest few and the best."""

from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from survey_jax.errors import UserError

# Scores on the validation split that are saved with a checkpoint.
METRIC = "kl_by_question"  # decides which is best, lower is better; by question, or the one with most rows would decide
TRAINING_SET = "training set"  # in the identity: which rows were trained on
TEMPERATURE = "temperature"  # of predictions, see survey/calibration.py


class Checkpoints:
    """The checkpoints under WORKDIR/checkpoints.

    A checkpoint holds two pytrees of arrays, the trained `parameters` and the `optimizer` state, and in its metadata
    the identity of what they belong to: fingerprints of the base model and of the data.

    Args:
      workdir: of the run.
      keep: how many of the latest stay; the best one by METRIC stays as well. None: for reading only, beside a training
        that may be writing.
    """

    def __init__(self, workdir: Path, keep: int | None = None):
        policies = ocp.training.preservation_policies
        best = policies.BestN(get_metric_fn=lambda metrics: metrics[METRIC], reverse=True, n=1)
        self._orbax = ocp.training.Checkpointer(
            workdir.resolve() / "checkpoints",
            preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best]),
            cleanup_tmp_directories=keep is not None,  # what a killed save left behind
        )

    def latest(self) -> int | None:
        """The newest complete checkpoint's step."""
        return None if self._orbax.latest is None else self._orbax.latest.step

    def scored(self, step: int) -> bool:
        """Whether the checkpoint of a step was evaluated."""
        return any(c.step == step and c.metrics for c in self._orbax.checkpoints)

    def step(self, which: str) -> int:
        """ "best", "last" or a number -> step. Raises UserError where there is no such checkpoint."""
        found = {c.step: c.metrics for c in self._orbax.checkpoints}
        where = self._orbax.directory
        if not found:
            raise UserError(f"{where}: holds no checkpoint; train first, or evaluate the base model with --zero_shot")
        if which == "last":
            return max(found)
        if which == "best":
            scored = {step: m[METRIC] for step, m in found.items() if m and METRIC in m}
            return min(scored, key=lambda s: scored[s]) if scored else max(found)
        if which.isdecimal() and int(which) in found:
            return int(which)
        raise UserError(f"--step={which}: {where} has best, last and {', '.join(map(str, sorted(found)))}")

    def save(
        self, step: int, parameters: Any, optimizer: Any, identity: dict[str, str], metrics: dict[str, float] | None
    ):
        """Starts writing; returns once the arrays are copied, so that the caller may overwrite them."""
        items = {"parameters": parameters, "optimizer": optimizer}
        # force: wait for a save that is still under way; by default Orbax would leave this one out without a word.
        self._orbax.save_checkpointables_async(step, items, force=True, metrics=metrics, custom_metadata=dict(identity))

    def identity(self, step: int) -> dict[str, str]:
        """What a checkpoint belongs to, by name of the part: its fingerprint."""
        return dict(self._orbax.checkpointables_metadata(step).custom_metadata or {})

    def temperature(self, step: int) -> float:
        """What the logits of a step are divided by."""
        return float(next(c.metrics[TEMPERATURE] for c in self._orbax.checkpoints if c.step == step))

    def restore_parameters(self, step: int, like: Any) -> Any:
        """The trained parameters of a step, on whatever mesh `like` lies on."""
        return self._restore(step, "parameters", like)

    def restore_some(self, step: int, like: Any) -> Any:
        """Those of the trained parameters that `like` has; the others are not read."""
        context = ocp.Context()
        context.pytree.loading.partial_load = True
        with context:
            return self.restore_parameters(step, like)

    def restore_optimizer(self, step: int, like: Any) -> Any:
        """The optimizer state of a step, on whatever mesh `like` lies on."""
        return self._restore(step, "optimizer", like)

    def _restore(self, step: int, item: str, like: Any) -> Any:
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
        return self._orbax.load_checkpointables(step, {item: abstract})[item]

    def close(self) -> None:
        """Waits for the last save."""
        self._orbax.close()


def check_identity(found: dict[str, str], expected: dict[str, str], workdir: Path) -> None:
    """A checkpoint must belong to this model and this data.

    Raises:
      UserError: naming what differs.
    """
    for name, value in expected.items():
        if found.get(name) != value:
            raise UserError(
                f"{workdir}: its checkpoint was made with another {name} (fingerprint {found.get(name)}, now {value}); "
                f"use the {name} of that run, or another --workdir"
            )
