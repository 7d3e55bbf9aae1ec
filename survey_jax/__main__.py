"""The commands of survey_jax. `survey-jax COMMAND ...` is `python -m survey_jax.COMMAND ...`."""

import ast
import difflib
import importlib.util
import runpy
import sys
from pathlib import Path

from survey_jax.common.errors import fail

COMMANDS = ("demo", "prepare", "train", "eval", "predict", "compare", "export", "plan", "fetch")


def main() -> None:
    """Runs the command that the first argument names; without one, lists them."""
    command = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if command in ("--help", "-h", "help"):
        print(__doc__ + "\n")
        for name in COMMANDS:
            print(f"  survey-jax {name:8}  {_summary(name)}")
        print("\nsurvey-jax COMMAND --help shows a command's flags and settings.")
        return
    if command not in COMMANDS:
        close = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        fail(f"survey-jax {command}: no such command{hint}; there are {', '.join(COMMANDS)}")
    del sys.argv[1]
    runpy.run_module(f"survey_jax.{command}", run_name="__main__", alter_sys=True)


def _summary(command: str) -> str:
    """The first line of a command's documentation, read without importing it."""
    spec = importlib.util.find_spec(f"survey_jax.{command}")
    assert spec is not None
    assert spec.origin is not None
    return (ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or "").splitlines()[0]


if __name__ == "__main__":
    main()
