"""Errors of jax's runtime: which may mean that another process is gone; and machines that it cannot work on."""

import os
import socket
import subprocess
import sys

import jax
import pytest

from survey_jax.parallel.distributed import _is_status

BROKEN = "UNKNOWN: Gloo all-reduce failed: [external/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer"


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (jax.errors.JaxRuntimeError(BROKEN), True),
        (ValueError(BROKEN), True),  # what a compiled function raises when it is called
        (ValueError("DEADLINE_EXCEEDED: Barrier timed out"), True),
        (ValueError("rows.jsonl: no such file"), False),
        (ValueError("TODO: the question"), False),
        (ValueError("UNKNOWN: Failed to open \"x\" [os_error_code='24']"), False),  # tensorstore, of a file
        (KeyError("UNKNOWN: x"), False),
    ],
)
def test_an_error_of_the_runtime(error: Exception, found: bool) -> None:
    assert _is_status(error) is found


# A machine that cannot resolve its own host name, as some laptops and containers.
NAMELESS = ["unshare", "--uts", "sh", "-c", 'hostname nowhere.invalid; exec "$0" "$@"', sys.executable, "-c"]
START = """
from absl import app
from survey_jax.parallel import distributed
app.run(lambda _: distributed.guarded(lambda: (distributed.start(), print("started")))())
"""


def on_nameless_machines(processes: int) -> list[subprocess.Popen[str]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        coordinator = f"--coordinator=127.0.0.1:{free.getsockname()[1]}"
    joined = [[coordinator, f"--processes={processes}", f"--process={number}"] for number in range(processes)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    return [
        subprocess.Popen([*NAMELESS, START, *(flags if processes > 1 else [])], env=environment, **pipes)
        for flags in joined
    ]


@pytest.fixture(scope="module")
def may_rename() -> None:
    try:
        subprocess.run([*NAMELESS, "pass"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a process may not have a host name of its own here")


@pytest.mark.usefixtures("may_rename")
def test_one_process_needs_no_name_of_its_machine() -> None:
    (process,) = on_nameless_machines(1)
    printed, errors = process.communicate(timeout=100)
    assert (process.returncode, printed) == (0, "started\n"), errors


@pytest.mark.usefixtures("may_rename")
def test_several_processes_say_that_they_need_it() -> None:
    first, second = on_nameless_machines(2)
    _, errors = first.communicate(timeout=100)
    second.communicate(timeout=100)
    assert (first.returncode, second.returncode) == (2, 2)
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert ": jax cannot use the devices of nowhere.invalid: " in lines[0]
    assert lines[0].endswith("; each machine must be able to resolve its own host name")
