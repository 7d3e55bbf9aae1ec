"""Runs survey_jax.prepare in this process, as its command line would."""

import sys

import pytest
from absl.testing import flagsaver

from survey_jax import cli, prepare


class Prepare:
    """Call it with flags: name=value pairs. Gives the exit code, and what was printed."""

    def __init__(self, capfd: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch):
        self._capfd, self._patch = capfd, patch

    def __call__(self, *switches: str, **values: object) -> tuple[int, str, str]:
        arguments = [f"--{name}={value}" for name, value in values.items()] + [f"--{name}" for name in switches]
        self._patch.setattr(sys, "argv", ["prepare", *arguments])
        saved = flagsaver.save_flag_values()
        self._capfd.readouterr()
        try:
            cli.run(prepare.main)
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            flagsaver.restore_flag_values(saved)
        printed = self._capfd.readouterr()
        return code, printed.out, printed.err
