"""Profiles chosen steps, to be viewed with xprof or TensorBoard; docs/monitoring.md says how."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
from etils import epath

from survey_jax.common.console import is_first, say
from survey_jax.common.files import write_bytes


class Profile:
    """Traces of process 0's devices and host threads, under WORKDIR/profile.

    Args:
      steps: the first and the last step to trace, counted from 1; empty: none.
    """

    def __init__(self, workdir: epath.Path, steps: Sequence[int]):
        self._output = epath.Path(workdir) / "profile"
        self._steps = range(steps[0], steps[1] + 1) if steps and is_first() else range(0)
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @contextlib.contextmanager
    def step(self, step: int) -> Iterator[bool]:
        """Surrounds the computation of a step. Yields whether it is traced; the body must then wait for the devices.

        A run that is resumed between first and last step traces the remaining ones.
        """
        if step not in self._steps:
            yield False
            return
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory()
            jax.profiler.start_trace(self._folder.name)
        with jax.profiler.StepTraceAnnotation("train", step_num=step):
            yield True
        if step == self._steps[-1]:
            self.close()

    def close(self) -> None:
        """Ends the trace, if there is one, and copies it to the workdir."""
        if self._folder is None:
            return
        jax.profiler.stop_trace()
        with self._folder as name:
            for file in sorted(Path(name).rglob("*")):
                if file.is_file():
                    target = self._output / file.relative_to(name).as_posix()
                    target.parent.mkdir(parents=True, exist_ok=True)
                    write_bytes(target, file.read_bytes())
        self._folder = None
        say(f"profile of steps {self._steps[0]} to {self._steps[-1]}: xprof --logdir={self._output}")
