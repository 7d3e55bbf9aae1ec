"""One process or many: joining them, stopping them together, and ending them all when one fails.

Processes find each other by what the scheduler tells jax (SLURM, Open MPI, Cloud TPU, Kubernetes with the
`kubernetes` package) or by the three flags below. A process that finds neither is alone.
"""

import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from absl import flags

# jax offers no public way to leave a word with the other processes: this is the one private name that we use.
from jax._src.distributed import global_state as _jax_state
from jax.experimental import multihost_utils

from survey_jax.console import say
from survey_jax.errors import RESUMABLE, Stopped, UserError, full_disk_explained

COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where no scheduler tells.")
PROCESSES = flags.DEFINE_integer("processes", None, "How many processes there are, where no scheduler tells.")
PROCESS = flags.DEFINE_integer("process", None, "Which of them this is, from 0, where no scheduler tells.")

SILENT = 30  # seconds after which a process that gives no sign of life counts as dead, and all others end
_DAY = 24 * 3600  # the last one to finish may take its time: process 0 writes the report while the others wait
_POLL = 1.0  # seconds between looks for another process's failure
_FAILURE = "survey_jax/failure"  # the key under which a process leaves it

_asked = threading.Event()  # to stop, as far as this process knows


def start() -> None:
    """Joins the processes; call before anything else of jax, also when there is but one.

    From here on SIGTERM and a first Ctrl-C, to any one process, do not end it but ask all to stop: `stop_requested`.

    Raises:
      UserError: flags that do not fit together, or no contact.
    """
    if jax.distributed.is_initialized():  # a program may call several binaries' mains
        return
    given = (COORDINATOR.value, PROCESSES.value, PROCESS.value)
    if None in given and given != (None, None, None):
        raise UserError("--coordinator, --processes and --process: give all three or none of them")
    limits: dict[str, Any] = {"heartbeat_timeout_seconds": SILENT, "shutdown_timeout_seconds": _DAY}
    try:
        if COORDINATOR.value is None:
            jax.distributed.initialize(**limits)
        else:
            jax.distributed.initialize(*given, cluster_detection_method="deactivate", **limits)
    except ValueError as error:
        if COORDINATOR.value is not None or "coordinator_address" not in str(error):
            raise UserError(f"cannot join the processes: {error}") from error
        alone = f"127.0.0.1:{_free_port()}"
        jax.distributed.initialize(alone, 1, 0, coordinator_bind_address=alone, **limits)
    except RuntimeError as error:
        raise UserError(f"cannot join the processes: {error}") from error
    # These replace jax's own handler: it agrees on a step by numbers that Orbax, too, hands in, from a thread of its
    # own, and then the step agreed on may never come.
    signal.signal(signal.SIGTERM, _ask)
    signal.signal(signal.SIGINT, _ask)
    if jax.process_count() > 1:
        threading.Thread(target=_watch, daemon=True).start()
        say(f"{jax.process_count()} processes with {jax.device_count()} devices in all")


def check_devices(devices: int) -> None:
    """There must be so many in all, 0: any number. UserError if not: a scheduler may hand out less than was meant."""
    if devices and jax.device_count() != devices:
        each = f"{jax.local_device_count()} {jax.local_devices()[0].device_kind} each"
        raise UserError(
            f"config.mesh.devices = {devices}, and there are {jax.device_count()}: processes 0 to "
            f"{jax.process_count() - 1} see {each}; check how they were started"
        )


def guarded(main: Callable[[], None]) -> Callable[[], None]:
    """`main`, with its failure told to all processes, which end with it; one process alone fails as usual."""

    def run() -> None:
        try:
            with full_disk_explained():
                main()
        except Stopped:  # all processes do, at the same step
            if jax.process_index() == 0:
                raise
            sys.exit(RESUMABLE)
        except BaseException as error:
            if not jax.distributed.is_initialized() or jax.process_count() == 1:
                raise
            code = 2 if isinstance(error, UserError) else 1
            if code == 1:
                traceback.print_exc()
            _leave(code, f"{error}" if code == 2 else f"{type(error).__name__}: {error}")

    return run


def is_first() -> bool:
    """Whether this is process 0, which alone writes logs and reports."""
    return jax.process_index() == 0


def stop_requested() -> bool:
    """Whether all processes should save and end now: one of them was asked to.

    All must call it equally often; they get the same answers.
    """
    if jax.process_count() == 1:
        return _asked.is_set()
    return bool(multihost_utils.process_allgather(np.array(_asked.is_set())).any())


def check_stop(what: str) -> None:
    """Raises Stopped, saying what was under way, when `stop_requested`."""
    if stop_requested():
        raise Stopped(f"stopped as asked, {what}; the same command goes on from there")


def from_first(value: bool) -> bool:
    """Process 0's value, for all."""
    return bool(multihost_utils.broadcast_one_to_all(np.array(value)))


def check_same(parts: Mapping[str, str]) -> None:
    """Processes must work on the same things.

    Args:
      parts: name -> fingerprint.

    Raises:
      UserError: naming what differs between processes.
    """
    mine = np.array([list(value.encode().ljust(64)[:64]) for value in parts.values()], np.int32)
    everyone = multihost_utils.process_allgather(mine)
    for name, column in zip(parts, everyone.swapaxes(0, 1), strict=True):
        if odd := [i for i, value in enumerate(column) if (value != column[0]).any()]:
            raise UserError(f"processes 0 and {odd[0]} have another {name}; give all of them the same files and flags")


def barrier(name: str) -> None:
    """Waits for all processes."""
    multihost_utils.sync_global_devices(name)


def _ask(number: int, frame: object) -> None:
    del frame
    if number == signal.SIGINT:
        if _asked.is_set():
            raise KeyboardInterrupt
        print("will save and stop soon; Ctrl-C once more ends at once", file=sys.stderr, flush=True)
    _asked.set()


def _leave(code: int, message: str) -> None:
    """Ends this process and, through their `_watch`, all others."""
    failure = {"process": jax.process_index(), "code": code, "message": message}
    assert _jax_state.client is not None
    try:
        _jax_state.client.key_value_set(_FAILURE, json.dumps(failure))
    except jax.errors.JaxRuntimeError:  # another one failed first, or process 0 is gone
        _end(_failure() or failure)
    _print(failure)
    time.sleep(5 * _POLL)  # process 0 keeps the message, and has to be there while the others look for it
    os._exit(code)  # the usual way out waits for the others


def _watch() -> None:
    while True:
        time.sleep(_POLL)
        if (failure := _failure()) and failure["process"] != jax.process_index():
            _end(failure)


def _failure() -> dict[str, Any] | None:
    """What another process has left; None as long as all is well."""
    client = _jax_state.client
    try:
        found = client.key_value_dir_get(_FAILURE.split("/")[0] + "/") if client else []
    except jax.errors.JaxRuntimeError:  # process 0 is gone: jax's own heartbeat ends this one
        return None
    return json.loads(found[0][1]) if found else None


def _end(failure: dict[str, Any]) -> None:
    if jax.process_index() == 0:
        _print(failure)
        time.sleep(5 * _POLL)
    os._exit(failure["code"])


def _print(failure: dict[str, Any]) -> None:
    line = " ".join(failure["message"].splitlines())
    print(f"error: process {failure['process']}: {line}", file=sys.stderr, flush=True)


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
