"""Files that tell of a process while it lives: who trains in a run's folder, and who reads one of its checkpoints.

A process on this machine is looked up by its number and the moment of its birth. Of one on another machine only its
file is known, which shows a sign of life every BEAT seconds: a new time on a disk, a new content in an object store.
"""

import contextlib
import dataclasses
import json
import os
import platform
import secrets
import socket
import threading
import time
from pathlib import Path
from typing import Any

from etils import epath

from survey_jax.common.console import say
from survey_jax.common.errors import UserError
from survey_jax.common.files import is_remote

BEAT = 10.0  # seconds between two signs of life
SILENT = 60.0  # seconds without one after which a process on another machine counts as gone
_SETTLING = 2.0  # seconds after which the last of several writers of an object in a store is known


@dataclasses.dataclass(frozen=True)
class Process:
    """A process as its file tells of it.

    Attributes:
      token: another one for every file.
      machine: the same for processes that can see each other; changes when the machine starts anew.
      birth: when the process started, in a unit of its machine; "" where that cannot be found out.
      since: when the file was made, UTC.
    """

    token: str
    host: str
    pid: int
    machine: str
    birth: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"

    def is_here(self) -> bool:
        """Whether it runs, or ran, on this machine."""
        return self.machine == _machine()

    def is_alive(self) -> bool:
        """Whether a process of this machine runs still."""
        state, birth = _stat(self.pid)
        if state:
            return state not in "ZX" and birth == self.birth  # Z, X: has ended
        if Path("/proc/self/stat").exists():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # somebody else's
            return True
        return True


def this_process() -> Process:
    """This process, with a token that no other file has."""
    pid, since = os.getpid(), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return Process(secrets.token_hex(8), socket.gethostname(), pid, _machine(), _stat(pid)[1], since)


class Presence:
    """The file of this process.

    Args:
      file: does not exist yet; a local one is made as a whole or not at all, so that one of several makers has it.

    Attributes:
      lost: whether the file was deleted, or is somebody else's now.

    Raises:
      FileExistsError: somebody else was first.
    """

    def __init__(self, file: epath.Path):
        self.process, self.lost, self._file, self._beats = this_process(), False, file, 0
        if is_remote(file):
            if file.exists():
                raise FileExistsError(file)
            self._write()
            time.sleep(_SETTLING)
        else:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            with open(descriptor, "w", encoding="utf-8") as opened:
                opened.write(self._text())
        self._closing = threading.Event()

    def move(self, file: epath.Path) -> None:
        """Gives the file another place, in place of what is there; not after `keep`."""
        before, self._file = self._file, file
        if is_remote(file):
            self._write()
            before.unlink()
        else:
            os.replace(before, file)

    def keep(self) -> None:
        """From now on a thread keeps the file fresh."""
        threading.Thread(target=self._beat, daemon=True, name="presence").start()

    def close(self) -> None:
        """Deletes the file, if it is this process's still."""
        self._closing.set()
        with contextlib.suppress(FileNotFoundError):
            if self._is_mine():
                self._file.unlink()

    def _is_mine(self) -> bool:
        found = read(self._file)
        return found is not None and found[0].token == self.process.token

    def _text(self) -> str:
        return json.dumps(dataclasses.asdict(self.process) | {"beats": self._beats})

    def _write(self) -> None:
        self._file.write_text(self._text())

    def _beat(self) -> None:
        while not self._closing.wait(BEAT):
            self._beats += 1
            try:
                if not self._is_mine():
                    self.lost = True
                    return
                if is_remote(self._file):
                    self._write()
                else:
                    os.utime(self._file)
            except UserError:  # somebody wrote something else there
                self.lost = True
                return
            except OSError as error:  # the network may be back at the next beat
                say(f"warning: {self._file}: no sign of life could be given ({error})")


def read(file: epath.Path) -> tuple[Process, Any] | None:
    """Whose file it is, and something that changes at every beat; None if there is no such file.

    Raises:
      UserError: the file holds something else.
    """
    for attempt in range(10):
        try:
            with file.open("r") as opened:  # opened anew: what network file systems remember of a file may be old
                text = opened.read()
                time_of_file = None if is_remote(file) else os.fstat(opened.fileno()).st_mtime_ns
            values = json.loads(text)
            process = Process(**{field.name: values[field.name] for field in dataclasses.fields(Process)})
            return process, (values["beats"], time_of_file)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, LookupError) as error:  # it may be half-written
            if attempt == 9:
                raise UserError(f"{file}: does not say whose it is; if nothing trains here, delete it") from error
            time.sleep(0.1)
    return None


class Observer:
    """Tells which processes live, from their files, seen again and again."""

    def __init__(self) -> None:
        self._seen: dict[epath.Path, tuple[tuple[Process, Any], float]] = {}  # file -> what was seen, and when first

    def is_alive(self, file: epath.Path) -> bool | None:
        """Whether the process whose file it is lives; None: not known yet, ask again within SILENT seconds."""
        found, now = read(file), time.monotonic()
        if found is None:
            return False
        if found[0].is_here():
            return found[0].is_alive()
        before, since = self._seen.setdefault(file, (found, now))
        if before[0] != found[0]:
            self._seen[file] = found, now
        elif before != found:
            return True
        return False if now - since > SILENT else None


def _machine() -> str:
    """Host, its start, and the space of its process numbers: containers on one host do not see each other's."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):  # there is no /proc on some systems
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
    return " ".join(parts)


def _stat(pid: int) -> tuple[str, str]:
    """State and birth of a process of this machine; "" where there is none, or where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", ""
    return fields[0], fields[19]
