"""Runs a hostile input through a command, and says what was wrong with how it ended.

A command must end with exit code 0 and a right result, or with exit code 2, one line that starts with "error: ", and
nothing written; in either case within SECONDS and MEMORY beyond what the input's size costs.
"""

import dataclasses
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import binaries

SECONDS = 20.0
COMPILING = 40.0  # seconds more of commands that compile and compute if the input is accepted
PATIENCE = 6  # times as long by the clock, until a command that waits for nothing counts as one that never ends
# A training that ends so has begun, and keeps the folder that it made.
BEGUN = ("predictions is a distribution", "the last checkpoint is intact")
MEMORY = 1 << 30  # bytes beyond what the process had before
SECONDS_A_MB, MEMORY_A_BYTE = 1.0, 20  # of the input


@dataclasses.dataclass
class Case:
    """One hostile input.

    Attributes:
      name: what is wrong with it.
      command: module of the command, such as "prepare".
      make: writes the input into a folder and returns the command's flags; "{output}" in a flag is where it may write.
      right: given the output's path after exit code 0: what is wrong with the result, or "".
    """

    name: str
    command: str
    make: Callable[[Path], list[str]]
    right: Callable[[Path], str]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """How a case ended: `wrong` is "" if it ended as it must."""

    name: str
    code: int | None
    said: str
    seconds: float
    memory: int
    wrong: str


class Court:
    """Keeps one process of each command, and starts it anew after a case that did not end."""

    def __init__(self) -> None:
        self._serving: dict[str, binaries.Binary] = {}

    def try_case(self, case: Case) -> Verdict:
        """Runs the case in a folder of its own."""
        with tempfile.TemporaryDirectory(prefix="hostile-") as name:
            folder, output = Path(name, "input"), Path(name, "output")
            folder.mkdir()
            flags = [flag.replace("{output}", str(output)) for flag in case.make(folder)]
            before = binaries.contents(folder)
            size = sum(len(content or b"") for content in before.values())
            code, stderr, seconds, memory = self._call(case.command, flags, _allowed(case.command, size))
            wrong = self._wrong(code, stderr, memory, size)
            if code == 2 and not wrong:
                if list(output.parent.glob("output*")) and not any(text in stderr for text in BEGUN):
                    wrong = "refused, but something was written"
                elif binaries.contents(folder) != before:
                    wrong = "refused, but the input was changed"
            elif code == 0 and not wrong:
                try:
                    wrong = case.right(output)
                except Exception as error:  # what was written cannot be read
                    wrong = f"{type(error).__name__}: {str(error)[:200]}"
            return Verdict(case.name, code, stderr.strip()[:300], seconds, memory, wrong)

    def close(self) -> None:
        """Ends the processes."""
        for binary in self._serving.values():
            binary.process.kill()
            binary.process.communicate()

    def _call(self, command: str, flags: list[str], limit: float) -> tuple[int | None, str, float, int]:
        """Exit code (None: it did not end, or died), standard error, seconds, and bytes of memory at the peak."""
        binary = self._serving.get(command)
        if binary is None:
            binary = self._serving[command] = binaries.Binary(f"survey_jax.{command}")
            binary("--help")  # imports are not the input's fault
        process = binary.process
        Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # the peak begins anew
        memory, began, worked = _peak(process.pid), time.perf_counter(), _processor_seconds(process.pid)
        print(json.dumps(flags), file=process.stdin, flush=True)
        line, seconds = "", 0.0
        while not line and process.poll() is None and seconds < limit:
            ready, _, _ = select.select([process.stdout], [], [], 1.0)
            line = process.stdout.readline() if ready else ""
            elapsed = time.perf_counter() - began
            seconds = max(min(elapsed, _processor_seconds(process.pid) - worked), elapsed / PATIENCE)
        used = _peak(process.pid) - memory
        if not line:
            died = process.poll() is not None
            process.kill()
            process.communicate()
            del self._serving[command]
            return None, "the process died" if died else f"no end after {seconds:.0f} s", seconds, used
        code, stderr = json.loads(line)
        return code, stderr, seconds, used

    @staticmethod
    def _wrong(code: int | None, stderr: str, memory: int, size: int) -> str:
        if code is None:
            return stderr
        if memory > MEMORY + MEMORY_A_BYTE * size:
            return f"took {memory / 1e9:.1f} GB"
        if code not in (0, 2):
            return f"exit code {code}"
        if "Traceback" in stderr:
            return "a traceback"
        if code == 2 and not (stderr.startswith("error: ") and stderr.count("\n") == 1):
            return "not one line"
        if any((ord(c) < 32 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0 for c in stderr):
            return "control characters on the terminal"
        return ""


def _allowed(command: str, size: int) -> float:
    """Seconds that a command may take for an input of so many bytes."""
    return SECONDS + SECONDS_A_MB * size / 1e6 + (0.0 if command == "prepare" else COMPILING)


def _peak(pid: int) -> int:
    """Bytes of memory that the process had at most."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)


def _processor_seconds(pid: int) -> float:
    """What all threads of the process have worked."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main_command(module: str, *flags: str) -> None:
    """Runs a command that must succeed, for what the cases start from."""
    done = subprocess.run(
        [sys.executable, "-m", f"survey_jax.{module}", *flags], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{module}: {done.stderr}")
