"""What is wrong with the numbers of processes is said at once, by all of them, before jax joins them."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from survey_jax.common.errors import UserError
from survey_jax.parallel import roll_call as module
from survey_jax.parallel.roll_call import roll_call


@pytest.fixture
def port(monkeypatch) -> int:
    monkeypatch.setattr(module, "PATIENCE", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def call(port: int, *numbers: int, processes: int = 3, seconds: float = 20.0) -> list[str]:
    """What each process is told; "" where it may go on."""

    def one(number: int) -> str:
        try:
            roll_call(f"127.0.0.1:{port}", processes, number, seconds)
        except UserError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(len(numbers)) as pool:
        return list(pool.map(one, numbers))


@pytest.mark.parametrize("numbers", [(0, 1, 2), (2, 1, 0)])
def test_all_are_there(port: int, numbers: tuple[int, ...]) -> None:
    """And the port is free for jax afterwards."""
    assert call(port, *numbers) == ["", "", ""]
    socket.create_server(("127.0.0.1", port)).close()
    assert call(port, *numbers) == ["", "", ""]


def test_a_number_given_twice(port: int) -> None:
    begun = time.monotonic()
    told = call(port, 0, 1, 1)
    assert time.monotonic() - begun < 10
    assert len(set(told)) == 1
    assert told[0].startswith("--process=1 is given twice: by ")


def test_process_0_given_twice(port: int) -> None:
    begun = time.monotonic()
    told = call(port, 0, 0, seconds=5)
    assert time.monotonic() - begun < 10
    said = f"port {port} cannot be used here (Address already in use); if another process 0 runs on this machine, stop"
    assert any(said in text for text in told)


def test_another_number_of_processes(port: int) -> None:
    with ThreadPoolExecutor() as pool:
        first = pool.submit(call, port, 0)
        told = call(port, 1, processes=2)
        assert told == first.result()
        assert told[0].startswith("--processes is 3 for process 0, and 2 for 1 (")


def test_one_that_does_not_come_is_named(port: int) -> None:
    told = call(port, 0, 1, seconds=1.5)
    assert told == ["of 3 processes, 2 did not come in time; start them together, once each"] * 2


def test_one_that_ended_and_was_started_again_is_not_there_twice(port: int) -> None:
    with ThreadPoolExecutor() as pool:
        first = pool.submit(call, port, 0)
        time.sleep(0.3)
        gone = socket.create_connection(("127.0.0.1", port))
        module._receive(gone)
        module._send(gone, {"process": 1, "processes": 3, "who": "an earlier one"})
        gone.close()
        assert call(port, 1, 2) == ["", ""]
        assert first.result() == [""]


def test_somebody_else_at_the_port(port: int) -> None:
    """As jax is, for a process that is started once more beside those that have joined."""
    ended = threading.Event()

    def serve(server: socket.socket) -> None:
        server.settimeout(0.1)
        while not ended.is_set():
            try:
                way, _ = server.accept()
            except TimeoutError:
                continue
            way.sendall(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\n")

    begun = time.monotonic()
    with socket.create_server(("127.0.0.1", port)) as server, ThreadPoolExecutor() as pool:
        pool.submit(serve, server)
        try:
            (told,) = call(port, 1)
            assert "something answers there that is no process 0 which waits for others; if these processes run" in told
            (told,) = call(port, 0)
            assert f"port {port} cannot be used here" in told
        finally:
            ended.set()
    assert time.monotonic() - begun < 10


def test_strangers_are_passed_over(port: int) -> None:
    with ThreadPoolExecutor() as pool:
        first = pool.submit(call, port, 0)
        time.sleep(0.3)
        for text in (b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b"\xff\n", b'{"process": "x"}\n'):
            with socket.create_connection(("127.0.0.1", port)) as stranger:
                stranger.sendall(text)
        assert call(port, 1, 2) == ["", ""]
        assert first.result() == [""]
