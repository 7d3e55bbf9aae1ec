"""Writers of metrics besides metrics.jsonl: TensorBoard's event files, and Weights & Biases if configured."""

import importlib.util
from typing import Any, Protocol

from etils import epath

from survey_jax.common.console import say
from survey_jax.common.errors import UserError
from survey_jax.common.files import is_remote
from survey_jax.common.imports import without
from survey_jax.config import Config, to_dict


class MetricWriter(Protocol):
    """Sends metrics to a dashboard."""

    def write(self, step: int, values: dict[str, float]) -> None:
        """Adds the values of a step."""

    def close(self) -> None:
        """Closes, when all is written or uploaded."""


def check_metric_writers(config: Config) -> None:
    """Raises UserError where config.run.wandb asks for a package that is not installed."""
    if config.run.wandb and importlib.util.find_spec("wandb") is None:
        raise UserError(f"config.run.wandb = {config.run.wandb!r}: needs Weights & Biases (pip install wandb)")


def open_metric_writers(workdir: epath.Path, config: Config, run_id: str, start: int) -> list[MetricWriter]:
    """The writers of a run.

    Args:
      run_id: the same at all starts of the run.
      start: the step where this start continues.
    """
    writers: list[MetricWriter] = []
    if is_remote(workdir):
        say("no TensorBoard files in an object store, where files cannot grow; metrics.jsonl has all values")
    else:
        writers.append(TensorBoardWriter(workdir, start))
    if config.run.wandb:
        writers.append(WandbWriter(workdir, config, run_id))
    return writers


class TensorBoardWriter:
    """Event files under WORKDIR/tensorboard; TensorBoard hides what an interrupted run wrote after `start`."""

    def __init__(self, workdir: epath.Path, start: int):
        with without("torch"):  # which takes seconds to import, and is not needed
            from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(workdir / "tensorboard"), purge_step=start + 1)

    def write(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name if "/" in name else f"train/{name}", value, step)

    def close(self) -> None:
        self._writer.close()


class WandbWriter:
    """A run of Weights & Biases, named like the workdir; later starts of the run continue it.

    Steps that a resumed run computes again appear twice, with the same values. Raises UserError where it cannot be
    opened, as without a login or the network.
    """

    def __init__(self, workdir: epath.Path, config: Config, run_id: str):
        import wandb  # here: an optional package

        folder = {} if is_remote(workdir) else {"dir": str(workdir)}
        try:
            self._run: Any = wandb.init(
                project=config.run.wandb,
                id=run_id,
                name=workdir.name,
                resume="allow",
                config=to_dict(config),
                # Output shows a survey question, and a git repository may hold tables: neither is uploaded.
                settings={"console": "off", "disable_git": True},
                **folder,
            )
        except wandb.Error as error:
            raise UserError(f"config.run.wandb = {config.run.wandb!r}: {error}") from error
        self._run.define_metric("*", step_metric="step")  # its own step counter cannot go back, as a resumed run does

    def write(self, step: int, values: dict[str, float]) -> None:
        self._run.log({"step": step, **values})

    def close(self) -> None:
        self._run.finish()
