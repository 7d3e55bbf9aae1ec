"""Where metrics go besides metrics.jsonl: TensorBoard's event files, and Weights & Biases if it is asked for."""

import importlib.util
from typing import TYPE_CHECKING, Any, Protocol

from etils import epath

from survey_jax.common.console import say
from survey_jax.common.errors import UserError
from survey_jax.common.files import is_remote
from survey_jax.config import Config, to_dict

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter


class MetricWriter(Protocol):
    """Something that shows metrics."""

    def write(self, step: int, values: dict[str, float]) -> None:
        """Adds the values of a step."""

    def close(self) -> None:
        """Ends what is under way."""


def check_metric_writers(config: Config) -> None:
    """Raises UserError where config.run.wandb asks for a package that is not installed."""
    if config.run.wandb and importlib.util.find_spec("wandb") is None:
        raise UserError(f"config.run.wandb = {config.run.wandb!r}: needs Weights & Biases (pip install wandb)")


def open_metric_writers(workdir: epath.Path, config: Config, run_id: str, start: int) -> list[MetricWriter]:
    """All that this run has.

    Args:
      run_id: stays the same over all starts of the run.
      start: the step where this start goes on.
    """
    writers: list[MetricWriter] = []
    if is_remote(workdir):
        say("TensorBoard's files grow, which those of an object store cannot: left out; metrics.jsonl has all values")
    else:
        writers.append(TensorBoardWriter(workdir, start))
    if config.run.wandb:
        writers.append(WandbWriter(workdir, config, run_id))
    return writers


class TensorBoardWriter:
    """Event files under WORKDIR/tensorboard; what an interrupted run wrote after `start` is hidden."""

    def __init__(self, workdir: epath.Path, start: int):
        self._folder, self._start = str(workdir / "tensorboard"), start
        self._opened: SummaryWriter | None = None

    @property
    def _writer(self) -> "SummaryWriter":
        if self._opened is None:
            from tensorboardX import SummaryWriter  # here: it imports torch, where that is installed

            self._opened = SummaryWriter(self._folder, purge_step=self._start + 1)
        return self._opened

    def write(self, step: int, values: dict[str, float]) -> None:
        """Adds the values of a step."""
        for name, value in values.items():
            self._writer.add_scalar(name if "/" in name else f"train/{name}", value, step)

    def close(self) -> None:
        """Writes what is still in memory."""
        if self._opened is not None:
            self._opened.close()


class WandbWriter:
    """A run of Weights & Biases, named like the workdir; later starts of the run go on in it.

    Steps that a resumed run computes again stand there twice, with the same values.

    Raises:
      UserError: in its own words, where it refuses, for want of a login or of the network.
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
                # What is printed shows a survey question, and a folder under git may hold tables: they stay here.
                settings={"console": "off", "disable_git": True},
                **folder,
            )
        except wandb.Error as error:
            raise UserError(f"config.run.wandb = {config.run.wandb!r}: {error}") from error
        self._run.define_metric("*", step_metric="step")  # its own count of steps cannot go back, as a resumed run does

    def write(self, step: int, values: dict[str, float]) -> None:
        """Adds the values of a step."""
        self._run.log({"step": step, **values})

    def close(self) -> None:
        """Waits for the upload."""
        self._run.finish()
