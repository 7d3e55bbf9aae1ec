"""Joins several processes, stops them together, and ends them all when one fails.

Processes find each other through the scheduler (SLURM, Open MPI, Cloud TPU, Kubernetes with the `kubernetes` package),
by `jax.distributed`, or by the three flags below. With neither, a process runs alone.
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

# jax has no public access to its key-value store, by which a failing process informs the others.
from jax._src.distributed import global_state as _jax_state
from jax.experimental import multihost_utils

from survey_jax.common.console import is_first, one_line, printable, redirected, say
from survey_jax.common.errors import INTERRUPTED, RESUMABLE, Stopped, UserError, explained, fail
from survey_jax.config import Config
from survey_jax.parallel.roll_call import roll_call

COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0; only needed without a scheduler.")
PROCESSES = flags.DEFINE_integer("processes", None, "The number of processes; only needed without a scheduler.")
PROCESS = flags.DEFINE_integer("process", None, "The index of this process, from 0; only needed without a scheduler.")

JOINING = 300  # seconds that processes wait for each other at the start: machines boot at different times
SILENT = 30  # seconds without a heartbeat after which a process counts as dead, and all others end
_DAY = 24 * 3600  # the others wait at shutdown while process 0 writes a report
_POLL = 1.0  # seconds between checks for the failure of another process
_ending = threading.Lock()
_last_acts: list[Callable[[], None]] = []  # see `at_end`
_FAILURE = "survey_jax/failure"  # its key in the store
_BEATS = "survey_jax_beats/"  # with a process's number: the key of what it counts up as long as it lives
_STATUSES = (  # of an error that may mean that another process is gone
    *("ABORTED", "CANCELLED", "DATA_LOSS", "DEADLINE_EXCEEDED", "FAILED_PRECONDITION", "INTERNAL", "UNAVAILABLE"),
    "UNKNOWN",
)
_AGAIN = (
    "is gone: it was killed, or its machine is lost. What was saved is intact; run the same command again, and it goes "
    "on from there"
)


def start() -> None:
    """Joins the processes; call it before anything else of jax, also in a single process.

    From then on, SIGTERM or a first Ctrl-C to any process does not end it but requests a stop of all: see `Poll`.

    Raises:
      UserError: the flags do not fit together, or jax cannot interpret what the scheduler says.
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
            if processes and process is not None and 0 <= process < processes > 1:  # jax refuses others in its words
                roll_call(coordinator, processes, process, JOINING)
            jax.distributed.initialize(*given, cluster_detection_method="deactivate", **limits)
    except ValueError as error:
        if coordinator is not None or "coordinator_address" not in str(error):
            raise UserError(f"cannot join the processes: {error}") from error
        with socket.create_server(("127.0.0.1", 0)) as free:
            alone = f"127.0.0.1:{free.getsockname()[1]}"
        jax.distributed.initialize(alone, 1, 0, coordinator_bind_address=alone, **limits)
    except RuntimeError as error:
        raise UserError(f"cannot join the processes: {error}") from error
    single = _jax_state.num_processes == 1
    if single:  # Gloo fails where the machine cannot resolve its own name
        jax.config.update("jax_cpu_collectives_implementation", None)
    try:
        jax.devices()
    except RuntimeError as error:
        hint = "; each machine must be able to resolve its own host name" if "gloo" in str(error) else ""
        raise UserError(f"jax cannot use the devices of {socket.gethostname()}: {error}{hint}") from error
    # These replace jax's own handler, which agrees on a step by numbers that Orbax, too, reports from a thread of its
    # own, so that the step agreed on may never come.
    _stop_request.listen()
    if jax.process_count() > 1:
        threading.Thread(target=_watch, daemon=True).start()
        sys.stdout.flush()
        # At the first exchange of data on CPUs, Gloo announces that the processes are connected.
        with open(os.devnull, "w") as nowhere, redirected(1, nowhere.fileno()):
            multihost_utils.process_allgather(np.zeros(1))
        say(f"{jax.process_count()} processes with {jax.device_count()} devices in all")


def refuse(message: str) -> NoReturn:
    """Ends all processes because of bad flags of this one; it joins them first, since they would wait for it."""
    words = dict(re.findall(r"--?(coordinator|processes|process)=(\S+)", "\n".join(sys.argv[1:])))
    numbers = [int(words[name]) if words.get(name, "").isdecimal() else None for name in ("processes", "process")]
    try:
        _join(words.get("coordinator"), *numbers)
    except UserError:
        if not jax.distributed.is_initialized():  # it is flags like these that are bad
            fail(message)
    if _jax_state.num_processes == 1:
        fail(message)
    _leave(2, message)


def check_devices(devices: int) -> None:
    """UserError unless there are so many devices in all (0: any number); a scheduler may grant fewer than intended."""
    if devices and jax.device_count() != devices:
        each = f"{jax.local_device_count()} {jax.local_devices()[0].device_kind} each"
        raise UserError(
            f"config.mesh.devices = {devices}, and there are {jax.device_count()}: processes 0 to "
            f"{jax.process_count() - 1} see {each}; check how they were started"
        )


def guarded(main: Callable[[], None]) -> Callable[[], None]:
    """`main`, made to end all processes if it fails in one of them."""

    def run() -> None:
        try:
            with explained():
                main()
            _shut_down()
        except Stopped:  # raised on all processes, at the same step
            _shut_down()
            if is_first():
                raise
            sys.exit(RESUMABLE)
        except BaseException as error:
            if not jax.distributed.is_initialized() or _jax_state.num_processes == 1:  # jax may have no devices
                raise
            if isinstance(error, UserError):
                _leave(2, str(error))
            if _is_status(error) and (gone := _gone()):
                message = f"process {gone[0]} {_AGAIN}"
                if 0 in gone:  # there is nobody to tell
                    _end({"process": _jax_state.process_id, "code": 1, "message": message}, stays=False)
                _leave(1, message)
            _leave(1, f"{type(error).__name__}: {error}", traceback.format_exc())

    return run


@contextlib.contextmanager
def at_end(act: Callable[[], None]) -> Iterator[None]:
    """Does something after the body, however it ends, also where this process is ended without unwinding."""
    _last_acts.append(act)
    try:
        yield
    finally:
        _last_acts.remove(act)
        act()


def _exit(code: int) -> NoReturn:
    """Ends this process at once: the usual exit waits for the others, and for threads."""
    try:
        for act in reversed(_last_acts):
            act()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:  # even if the disk is full or stderr is closed
        os._exit(code)


def _shut_down() -> None:
    """Shuts down jax.distributed after a barrier, process 0 last.

    Process 0 serves the barrier: left to jax, it may be gone before the others have passed it, and they abort.
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
            return _stop_request.received, wish
        self._calls += 1
        if self._calls < self._every:
            return False, False
        now = time.monotonic()
        every = min(2 * self._calls, self._calls / (now - self._since))  # grows slowly: a few calls may be hasty
        local = np.array([_stop_request.received, wish, max(1, every)], np.float32)
        everyone = multihost_utils.process_allgather(local)
        self._calls, self._every, self._since = 0, int(everyone[0, 2]), now
        return bool(everyone[:, 0].any()), bool(everyone[0, 1])


def check_stop(what: str, alone: bool = False, poll: Poll | None = None) -> None:
    """Raises Stopped, saying what was under way, when all processes should end.

    Args:
      alone: this process is the only one that still works; the others are not consulted.
      poll: for checks that are made again and again; without it all processes agree now.
    """
    if _stop_request.received if alone else (poll or Poll())()[0]:
        raise Stopped(f"stopped as asked, {what}; the same command goes on from there")


def all_gather_text(text: str) -> list[str]:
    """Gathers one string from every process, ordered by process index."""
    if jax.process_count() == 1:
        return [text]
    size = int(multihost_utils.process_allgather(np.array(len(text.encode()))).max())
    padded = np.frombuffer(text.encode().ljust(size, b"\0"), np.uint8)
    return [row.tobytes().rstrip(b"\0").decode() for row in multihost_utils.process_allgather(padded)]


def check_same(parts: Mapping[str, str]) -> None:
    """Raises UserError, which names what differs, unless all processes have the same values or fingerprints by name.

    They would wait for each other in vain, or compute nonsense.
    """
    everyone = [json.loads(text) for text in all_gather_text(json.dumps(parts))]
    for number, other in enumerate(everyone):
        if differing := [name for name in everyone[0] if other.get(name) != everyone[0][name]]:
            name = differing[0]
            raise UserError(
                f"processes 0 and {number} have another {name} ({everyone[0][name]}, {other.get(name)}); give all of "
                "them the same flags, files and versions"
            )


class _StopRequest:
    """Whether a signal has asked this process to stop."""

    def __init__(self) -> None:
        self.received = False

    def listen(self) -> None:
        """From now on SIGTERM and a first Ctrl-C are requests; a second Ctrl-C ends the process, whatever it is at.

        A thread hears of signals at once; Python's handlers wait for the end of, say, a compilation.
        """
        heard, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told)
        threading.Thread(target=self._hear, args=(heard,), daemon=True, name="signals").start()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)

    def _hear(self, heard: int) -> None:
        interrupted = False
        while numbers := os.read(heard, 1):
            self.received = self.received or numbers[0] in (signal.SIGTERM, signal.SIGINT)
            if numbers[0] == signal.SIGINT and interrupted:
                print("interrupted; what was saved is intact", file=sys.stderr, flush=True)
                _exit(INTERRUPTED)
            if numbers[0] == signal.SIGINT:
                interrupted = True
                print("will save and stop soon; Ctrl-C once more ends at once", file=sys.stderr, flush=True)


_stop_request = _StopRequest()


def _leave(code: int, message: str, trace: str = "") -> NoReturn:
    """Ends this process, and all others through their `_watch`."""
    failure = {"process": _jax_state.process_id, "code": code, "message": message}
    assert _jax_state.client is not None
    try:
        _jax_state.client.key_value_set(_FAILURE, json.dumps(failure))
    except jax.errors.JaxRuntimeError:  # another one failed first, or process 0 is gone
        failure = _failure() or failure
    _end(failure, trace)


def _watch() -> None:
    """Shows the others that this process lives, and ends it when one of them has failed."""
    beats = 0
    while True:
        time.sleep(_POLL)
        if (failure := _failure()) and failure["process"] != _jax_state.process_id:
            _end(failure)
        beats += 1
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # process 0 is gone
            if client := _jax_state.client:
                client.key_value_set(f"{_BEATS}{_jax_state.process_id}", str(beats), allow_overwrite=True)


def _is_status(error: BaseException) -> bool:
    """Whether an error comes from jax's runtime.

    That is a JaxRuntimeError or, from the call of a compiled function, a ValueError that begins with a status.
    tensorstore's errors of files begin so, too, and have a code of the operating system.
    """
    if isinstance(error, ValueError) and "os_error_code" not in str(error):
        return str(error).partition(":")[0] in _STATUSES
    return isinstance(error, jax.errors.JaxRuntimeError)


def _gone() -> list[int]:
    """The processes that show no life for a while, after the connection to one of them has broken."""
    seen = []
    try:
        if _jax_state.process_id != 0 and not _reachable(_jax_state.coordinator_address or ""):
            return [0]  # found out at once: soon jax ends this process without a word of it
        for _ in range(2):
            assert _jax_state.client is not None
            seen.append(dict(_jax_state.client.key_value_dir_get(_BEATS)))
            time.sleep(6 * _POLL)
    except jax.errors.JaxRuntimeError:  # it serves the store
        return [0]
    keys = [f"{_BEATS}{number}" for number in range(_jax_state.num_processes or 1)]
    return [number for number, key in enumerate(keys) if seen[0].get(key) == seen[1].get(key)]


def _reachable(address: str) -> bool:
    """Whether somebody listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2 * _POLL).close()
    except OSError:
        return False
    return True


def _failure() -> dict[str, Any] | None:
    """The failure that a process has reported, if any."""
    client = _jax_state.client
    try:
        found = client.key_value_dir_get(_FAILURE.split("/")[0] + "/") if client else []
    except jax.errors.JaxRuntimeError:  # process 0 is gone: jax's own heartbeat ends this one
        return None
    return json.loads(found[0][1]) if found else None


def _end(failure: dict[str, Any], trace: str = "", stays: bool = True) -> NoReturn:
    """Ends this process. The one that failed and process 0 print the failure, and stay for the others to read it."""
    with _ending:  # both threads may get here; the second waits for the end
        try:
            if _jax_state.process_id in (0, failure["process"]):
                line = one_line(f"error: process {failure['process']}: {failure['message']}")
                print(f"{printable(trace)}{line}", file=sys.stderr, flush=True)
                if stays:  # process 0 serves the store, where the others look for the message
                    time.sleep(5 * _POLL)
        finally:  # even if stderr is closed
            _exit(failure["code"])


def use_compilation_cache(config: Config) -> None:
    """Turns on jax's compilation cache under `run.cache`; call it before the first computation."""
    if cache := config.run.cache:
        folder = cache if "://" in cache else str(Path(cache).resolve())
        jax.config.update("jax_compilation_cache_dir", f"{folder}/programs")
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # there are dozens of small programs
