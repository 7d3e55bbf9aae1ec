"""One process or many: joining them, stopping them together, and ending them all when one fails.

Processes find each other by what the scheduler tells jax (SLURM, Open MPI, Cloud TPU, Kubernetes with the
`kubernetes` package) or by the three flags below. A process that finds neither is alone.
"""

import contextlib
import json
import os
import re
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
from absl import flags

# jax offers no public way to leave a word with the other processes: this is the one private name that we use.
from jax._src.distributed import global_state as _jax_state
from jax.experimental import multihost_utils

from survey_jax.common.console import is_first, say
from survey_jax.common.errors import RESUMABLE, Stopped, UserError, fail, full_disk_explained
from survey_jax.config import Config

COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where no scheduler tells.")
PROCESSES = flags.DEFINE_integer("processes", None, "How many processes there are, where no scheduler tells.")
PROCESS = flags.DEFINE_integer("process", None, "Which of them this is, from 0, where no scheduler tells.")

JOINING = 300  # seconds that processes wait for each other at the start: some machines boot later than others
SILENT = 30  # seconds after which a process that gives no sign of life counts as dead, and all others end
_DAY = 24 * 3600  # the last one to finish may take its time: process 0 writes the report while the others wait
_POLL = 1.0  # seconds between looks for another process's failure
_ending = threading.Lock()
_FAILURE = "survey_jax/failure"  # the key under which a process leaves it


def start() -> None:
    """Joins the processes; call before anything else of jax, also when there is but one.

    From here on SIGTERM and a first Ctrl-C, to any one process, do not end it but ask all to stop: see `Poll`.

    Raises:
      UserError: flags that do not fit together, or a scheduler whose words jax does not understand.
    """
    if not jax.distributed.is_initialized():  # a program may call several binaries' mains
        _join(COORDINATOR.value, PROCESSES.value, PROCESS.value)


def _join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    given = (coordinator, processes, process)
    if None in given and given != (None, None, None):
        raise UserError("--coordinator, --processes and --process: give all three or none of them")
    if coordinator is not None and not re.fullmatch(r".+:\d+", coordinator):
        raise UserError(f"--coordinator={coordinator}: must be HOST:PORT")
    limits: dict[str, Any] = {
        "initialization_timeout": JOINING,
        "heartbeat_timeout_seconds": SILENT,
        "shutdown_timeout_seconds": _DAY,
    }
    try:
        if coordinator is None:
            jax.distributed.initialize(**limits)
        else:
            jax.distributed.initialize(*given, cluster_detection_method="deactivate", **limits)
    except ValueError as error:
        if coordinator is not None or "coordinator_address" not in str(error):
            raise UserError(f"cannot join the processes: {error}") from error
        alone = f"127.0.0.1:{_free_port()}"
        jax.distributed.initialize(alone, 1, 0, coordinator_bind_address=alone, **limits)
    except RuntimeError as error:
        raise UserError(f"cannot join the processes: {error}") from error
    # These replace jax's own handler: it agrees on a step by numbers that Orbax, too, hands in, from a thread of its
    # own, and then the step agreed on may never come.
    signal.signal(signal.SIGTERM, _asked.hear)
    signal.signal(signal.SIGINT, _asked.hear)
    if jax.process_count() > 1:
        threading.Thread(target=_watch, daemon=True).start()
        with _silent_stdout():
            multihost_utils.process_allgather(np.zeros(1))
        say(f"{jax.process_count()} processes with {jax.device_count()} devices in all")


@contextlib.contextmanager
def _silent_stdout() -> Iterator[None]:
    """Drops what C++ prints: at the first exchange of data on CPUs, Gloo announces that the processes are connected."""
    sys.stdout.flush()
    stdout, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
        os.close(nowhere)


def refuse(message: str) -> NoReturn:
    """Bad flags of this process end all of them: joins the others, which would wait for it, to tell them."""
    words = dict(re.findall(r"--?(coordinator|processes|process)=(\S+)", "\n".join(sys.argv[1:])))
    numbers = [int(words[name]) if words.get(name, "").isdecimal() else None for name in ("processes", "process")]
    try:
        _join(words.get("coordinator"), *numbers)
    except UserError:  # it is flags like these that are bad
        fail(message)
    if jax.process_count() == 1:
        fail(message)
    _leave(2, message)


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
            _part()
        except Stopped:  # all processes do, at the same step
            _part()
            if is_first():
                raise
            sys.exit(RESUMABLE)
        except BaseException as error:
            if not jax.distributed.is_initialized() or jax.process_count() == 1:
                raise
            if isinstance(error, UserError):
                _leave(2, str(error))
            _leave(1, f"{type(error).__name__}: {error}", traceback.format_exc())

    return run


def _part() -> None:
    """Takes leave of the other processes, once all are here.

    Process 0 answers them, so it goes last: left to jax, it may be gone before the others have heard that all are here,
    and they abort.
    """
    if jax.distributed.is_initialized() and jax.process_count() > 1:
        if is_first() and _jax_state.client is not None:
            if _jax_state.preemption_sync_manager is not None:  # it needs the client
                _jax_state.preemption_sync_manager.shutdown()
                _jax_state.preemption_sync_manager = None
            _jax_state.client.shutdown()
            _jax_state.client = None
            time.sleep(3 * _POLL)
        jax.distributed.shutdown()


class Poll:
    """Lets all processes agree, about once a second, on whether to stop and whether to save.

    All processes must call it equally often, and get the same answers. Agreeing takes communication for which the
    devices would wait, so that most calls answer "no" without it. Process 0 sets how many, by the pace of calls.
    """

    def __init__(self) -> None:
        self._calls, self._every, self._since = 0, 1, time.monotonic()

    def __call__(self, wish: bool = False) -> tuple[bool, bool]:
        """Whether any process was asked to stop, and whether process 0 wishes to save."""
        if jax.process_count() == 1:
            return _asked.to_stop, wish
        self._calls += 1
        if self._calls < self._every:
            return False, False
        now = time.monotonic()
        every = min(2 * self._calls, self._calls / (now - self._since))  # grows slowly: a few calls may be hasty
        everyone = multihost_utils.process_allgather(np.array([_asked.to_stop, wish, max(1, every)], np.float32))
        self._calls, self._every, self._since = 0, int(everyone[0, 2]), now
        return bool(everyone[:, 0].any()), bool(everyone[0, 1])


def check_stop(what: str, alone: bool = False, poll: Poll | None = None) -> None:
    """Raises Stopped, saying what was under way, when all processes should end.

    Args:
      alone: this process is the only one that still works; the others are not consulted.
      poll: for checks that are made again and again; without it all processes agree now.
    """
    if _asked.to_stop if alone else (poll or Poll())()[0]:
        raise Stopped(f"stopped as asked, {what}; the same command goes on from there")


def all_gather_text(text: str) -> list[str]:
    """Every process's text, in order of processes."""
    if jax.process_count() == 1:
        return [text]
    size = int(multihost_utils.process_allgather(np.array(len(text.encode()))).max())
    padded = np.frombuffer(text.encode().ljust(size, b"\0"), np.uint8)
    return [row.tobytes().rstrip(b"\0").decode() for row in multihost_utils.process_allgather(padded)]


def check_same(parts: Mapping[str, str]) -> None:
    """Processes must work on the same things, or they would wait for each other in vain, or compute nonsense.

    Args:
      parts: name -> value or fingerprint.

    Raises:
      UserError: naming what differs between processes.
    """
    everyone = [json.loads(text) for text in all_gather_text(json.dumps(parts))]
    for number, theirs in enumerate(everyone):
        if differing := [name for name in everyone[0] if theirs.get(name) != everyone[0][name]]:
            name = differing[0]
            raise UserError(
                f"processes 0 and {number} have another {name} ({everyone[0][name]}, {theirs.get(name)}); give all of "
                "them the same flags, files and versions"
            )


class _Asked:
    """What this process has been told by signals."""

    def __init__(self) -> None:
        self.to_stop = self._interrupted = False

    def hear(self, number: int, frame: object) -> None:
        del frame
        self.to_stop = True
        if number == signal.SIGINT:
            if self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True
            print("will save and stop soon; Ctrl-C once more ends at once", file=sys.stderr, flush=True)


_asked = _Asked()


def _leave(code: int, message: str, trace: str = "") -> NoReturn:
    """Ends this process and, through their `_watch`, all others."""
    failure = {"process": jax.process_index(), "code": code, "message": message}
    assert _jax_state.client is not None
    try:
        _jax_state.client.key_value_set(_FAILURE, json.dumps(failure))
    except jax.errors.JaxRuntimeError:  # another one failed first, or process 0 is gone
        failure = _failure() or failure
    _end(failure, trace)


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


def _end(failure: dict[str, Any], trace: str = "") -> NoReturn:
    """The failure is told by the process it is of, and by process 0."""
    with _ending:  # both threads may come here; the second waits for the end
        try:
            if jax.process_index() in (0, failure["process"]):
                line = " ".join(failure["message"].splitlines())
                print(f"{trace}error: process {failure['process']}: {line}", file=sys.stderr, flush=True)
                time.sleep(5 * _POLL)  # process 0 keeps the message, and must be there while the others look for it
        finally:  # whatever stderr is
            os._exit(failure["code"])  # the usual way out waits for the others


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def use_compilation_cache(config: Config) -> None:
    """Process-wide jax settings; call before the first computation."""
    if cache := config.run.cache:
        folder = cache if "://" in cache else str(Path(cache).resolve())
        jax.config.update("jax_compilation_cache_dir", f"{folder}/programs")
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # a start has dozens of small ones
