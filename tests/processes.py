"""A binary run by several processes of this machine, each with a few virtual CPU devices."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

QUICK = "--xla_backend_optimization_level=0"  # most of a tiny model's training is compiling


def start(
    program: str | Path, flags: Sequence[str], log: Path, processes: int = 1, devices: int = 1, only: Sequence[str] = ()
) -> list[subprocess.Popen[bytes]]:
    """Starts a module or script with FLAGS; what process I prints is added to LOG-I.

    Args:
      devices: of each process.
      only: more flags for the last process.
    """
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} {QUICK}",
    }
    coordinator = f"127.0.0.1:{_free_port()}"
    named = [str(program)] if isinstance(program, Path) else ["-m", program]
    started = []
    for number in range(processes):
        joined = [f"--coordinator={coordinator}", f"--processes={processes}", f"--process={number}"]
        command = [sys.executable, *named, *flags, *(joined if processes > 1 else [])]
        with Path(f"{log}-{number}").open("ab") as output:
            more = only if number == processes - 1 else []
            started.append(subprocess.Popen([*command, *more], env=environment, stdout=output, stderr=output))
    return started


def printed(log: Path, number: int = 0) -> str:
    """What a process has printed so far, in all its starts."""
    file = Path(f"{log}-{number}")
    return file.read_text(errors="replace") if file.exists() else ""


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
