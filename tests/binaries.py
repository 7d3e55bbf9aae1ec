"""Calls of the binaries, each in one process that is asked again and again, and what a refusal must look like."""

import importlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

from places import ROOT

# One device, and this checkout's package, whichever is installed.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"PYTHONPATH": str(ROOT)}


def serve(module: str) -> None:
    """Runs command lines from stdin, a JSON list a line; answers each with [exit code, all of stderr]."""
    from absl.testing import flagsaver

    from survey_jax import cli

    main = importlib.import_module(module).main
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    own_stderr = os.dup(2)
    for line in sys.stdin:
        sys.argv = [module, *json.loads(line)]
        sys.modules.pop("config_config", None)  # the config file of the case before
        flags = flagsaver.save_flag_values()
        code = 0
        with tempfile.TemporaryFile() as stderr:
            os.dup2(stderr.fileno(), 2)
            try:
                cli.run(main)
            except SystemExit as stop:
                code = stop.code or 0
            except BaseException:
                traceback.print_exc()
                code = 1
            sys.stderr.flush()
            os.dup2(own_stderr, 2)
            stderr.seek(0)
            print(json.dumps([code, stderr.read().decode()]), file=answers, flush=True)
        flagsaver.restore_flag_values(flags)


class Binary:
    """A process of `serve`."""

    def __init__(self, module: str):
        command = [sys.executable, __file__, module]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, **pipes)

    def __call__(self, *arguments: str) -> tuple[int, str]:
        print(json.dumps(arguments), file=self.process.stdin, flush=True)
        code, stderr = json.loads(self.process.stdout.readline())
        return code, stderr


def contents(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def check_refusal(result: tuple[int, str], *named: str) -> None:
    code, stderr = result
    assert code == 2, stderr
    assert stderr.startswith("error: ")
    assert stderr.endswith("\n")
    assert stderr.count("\n") == 1, stderr
    assert "Traceback" not in stderr
    for name in named:
        assert name in stderr


if __name__ == "__main__":
    serve(sys.argv[1])


def run(folder: Path, module: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """One call of a binary in a folder, in a process of its own."""
    command = [sys.executable, "-m", f"survey_jax.{module}", *flags]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


def check_predicts(folder: Path, question: str, groups: int) -> None:
    """The run in `folder` answers a question with two options for all of its groups."""
    (folder / "questions.csv").write_text(f"question,options\n{question},Yes|No\n")
    done = run(folder, "predict", "--workdir=run", "--questions=questions.csv", "--groups=country", "--output=out.csv")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len((folder / "out.csv").read_text(encoding="utf-8").splitlines()) == 1 + 2 * groups
