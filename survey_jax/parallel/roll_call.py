"""Finds out whether each of several processes is there, and there once, before jax joins them.

jax ends processes without a word that tells why if two have the same number, shares a port with whoever listens there,
and waits for a process that never comes without saying which. So process 0 first listens at the coordinator's address
itself; the others tell it who they are, and are told to go on, or what is wrong.
"""

import contextlib
import json
import os
import socket
import time
from typing import Any, NoReturn

from survey_jax.common.errors import UserError

PATIENCE = 8.0  # seconds in which an earlier start may free the port
_HELLO = "survey_jax: process 0 waits"
_LONGEST = 4096  # bytes of a message


def roll_call(coordinator: str, processes: int, process: int, seconds: float) -> None:
    """Returns on every process when all are there.

    Args:
      coordinator: HOST:PORT of process 0.
      process: the number of this one.
      seconds: to wait for the others, who may start later.

    Raises:
      UserError: on every process, if two have the same number or differ in how many there are, or if one does not come;
        on one alone, if the port is in use, or if somebody else answers there.
    """
    host, _, port = coordinator.rpartition(":")
    deadline = time.monotonic() + seconds
    if process == 0:
        with _listen(int(port), coordinator) as server:
            _call(server, processes, deadline)
    else:
        _answer(host.strip("[]"), int(port), processes, process, deadline)


def _listen(port: int, coordinator: str) -> socket.socket:
    begun = time.monotonic()
    while True:
        try:
            if socket.has_dualstack_ipv6():
                return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
            return socket.create_server(("", port))
        except OSError as error:
            if time.monotonic() - begun > PATIENCE:
                reason = os.strerror(error.errno) if error.errno else error
                raise UserError(
                    f"--coordinator={coordinator}: port {port} cannot be used here ({reason}); if another process 0 "
                    "runs on this machine, stop it, or give all processes another port"
                ) from error
            time.sleep(0.5)


def _call(server: socket.socket, processes: int, deadline: float) -> None:
    """Process 0's part."""
    present: dict[int, tuple[str, socket.socket]] = {}  # number -> who, and the way to tell it
    with contextlib.ExitStack() as open_ways:

        def refuse(problem: str) -> NoReturn:
            for _, way in present.values():
                _send(way, {"error": problem})
            raise UserError(problem)

        while len(present) < processes - 1:
            server.settimeout(max(0.0, deadline - time.monotonic()) or 0.001)
            try:
                way, _ = server.accept()
            except TimeoutError:
                missing = ", ".join(str(number) for number in range(1, processes) if number not in present)
                refuse(f"of {processes} processes, {missing} did not come in time; start them together, once each")
            open_ways.enter_context(way)
            way.settimeout(2)
            _send(way, {"hello": _HELLO})
            said = _receive(way)
            if said is None or not isinstance(number := said.get("process"), int):
                continue  # a stranger
            who = str(said.get("who"))
            if said.get("processes") != processes:
                present[number] = who, way
                refuse(f"--processes is {processes} for process 0, and {said.get('processes')} for {number} ({who})")
            if number in present and _is_open(present[number][1]):
                present[-1] = who, way
                refuse(f"--process={number} is given twice: by {present[number][0]} and by {who}")
            present[number] = who, way
        for _, way in present.values():
            _send(way, {"go": True})


def _answer(host: str, port: int, processes: int, process: int, deadline: float) -> None:
    """The part of any other process."""
    where, met = f"--coordinator={host}:{port}", 0.0
    while time.monotonic() < deadline:
        try:
            way = socket.create_connection((host, port), timeout=PATIENCE)
        except OSError:  # process 0 may start later
            time.sleep(0.2)
            continue
        with way:
            said = _receive(way)
            if said is not None and said.get("hello") == _HELLO:
                _send(
                    way, {"process": process, "processes": processes, "who": f"{os.getpid()} on {socket.gethostname()}"}
                )
                way.settimeout(max(0.0, deadline - time.monotonic()) + PATIENCE)  # process 0 says who is missing
                told = _receive(way)
                if told is not None and told.get("go"):
                    return
                raise UserError(told["error"] if told and "error" in told else f"{where}: process 0 ended in waiting")
        met = met or time.monotonic()
        if time.monotonic() - met > PATIENCE:
            raise UserError(
                f"{where}: something answers there that is no process 0 which waits for others; if these processes run "
                f"already, --process={process} is given twice; otherwise give all of them another port"
            )
        time.sleep(0.5)
    raise UserError(f"{where}: process 0 could not be reached in time; start it, and check the address")


def _send(way: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # it has ended: whoever waits for it will see
        way.sendall(json.dumps(message).encode() + b"\n")


def _receive(way: socket.socket) -> dict[str, Any] | None:
    """The next message, a line of JSON; None if something else comes, or nothing."""
    text = b""
    try:
        while not text.endswith(b"\n") and len(text) < _LONGEST:
            if not (part := way.recv(1)):
                return None
            text += part
        found = json.loads(text)
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _is_open(way: socket.socket) -> bool:
    """Whether the other end waits still."""
    way.setblocking(False)
    try:
        return way.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        way.settimeout(2)
