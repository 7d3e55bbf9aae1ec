"""One training at a time in a run's folder."""

import contextlib
import time
from collections.abc import Iterator

from etils import epath

from survey_jax.checkpointing import presence
from survey_jax.checkpointing.presence import Observer, Presence, Process
from survey_jax.common.console import is_first, say
from survey_jax.common.errors import UserError
from survey_jax.common.files import make_folder, remove_empty, writing
from survey_jax.parallel import distributed

_FILE = "training.lock"


class Lock:
    """That this training alone writes to the run's folder; see `only_training`."""

    def __init__(self, workdir: epath.Path, file: Presence | None):
        self._workdir, self._file = workdir, file

    def check(self) -> None:
        """Raises UserError if another training has taken the folder, as it may from one that was suspended."""
        if self._file is not None and self._file.lost:
            other = trains_here(self._workdir)
            taken = f"was taken over by {other}" if other else "was deleted"
            raise UserError(
                f"{self._workdir}: the lock of this training ({_FILE}) {taken}: it stops, and has saved what it could. "
                "Run the same command again when no other training runs here"
            )


@contextlib.contextmanager
def only_training(workdir: epath.Path) -> Iterator[Lock]:
    """Holds the lock of a run's folder, which is made if there is none; process 0 does so for all processes.

    The lock of a training that is gone is taken over. A folder that was made here is removed again if nothing is in it
    at the end.

    Raises:
      UserError: another training runs there, or nothing can be written there.
    """
    if not is_first():
        yield Lock(workdir, None)
        return
    made = make_folder(workdir, "--workdir")
    with writing(workdir):
        file = _acquire(workdir)

    def release() -> None:
        file.close()
        remove_empty(made)

    with distributed.at_end(release):
        yield Lock(workdir, file)


def trains_here(workdir: epath.Path) -> Process | None:
    """The training that holds a folder's lock; None if there is no lock, or its process is known to be gone."""
    chain = _chain(workdir)
    return chain[-1][1] if chain and Observer().is_alive(chain[-1][0]) is not False else None


def _acquire(workdir: epath.Path) -> Presence:
    """Makes the lock, or takes it over from a process that is gone.

    To take over from the process with token T is to be the one that makes the file training.lock.T, and to find that
    the chain training.lock, training.lock.T, ... ends there: by then somebody faster may have moved the end to
    training.lock. So there is one holder at any time, whoever is killed when.
    """
    while True:
        chain = _chain(workdir)
        if chain:
            if _is_alive(*chain[-1]):
                raise UserError(
                    f"{workdir}: another training runs here: {chain[-1][1]}; wait until it is done, stop it, or choose "
                    "another --workdir"
                )
            if _chain(workdir) != chain:
                continue
        place = workdir / f"{_FILE}.{chain[-1][1].token}" if chain else workdir / _FILE
        try:
            mine = Presence(place)
        except FileExistsError:
            continue
        now = _chain(workdir)
        if not now or now[-1][1] != mine.process:
            mine.close()
            continue
        if chain:
            say(f"{workdir}: taken over from a training that is gone: {chain[-1][1]}")
            mine.move(workdir / _FILE)
        mine.keep()
        for stray in (*workdir.glob(f"{_FILE}.*"), *workdir.glob(".partial-*")):  # of those that were killed
            stray.unlink(missing_ok=True)
        return mine


def _is_alive(file: epath.Path, holder: Process) -> bool:
    """Waits for a sign of life where the process is on another machine."""
    observer = Observer()
    if (alive := observer.is_alive(file)) is None:
        say(f"{file}: made by {holder}; waiting up to {presence.SILENT:.0f} s for a sign of life")
    while alive is None:
        time.sleep(min(1.0, presence.SILENT / 10))
        alive = observer.is_alive(file)
    return alive


def _chain(workdir: epath.Path) -> list[tuple[epath.Path, Process]]:
    """The lock, who has taken it over, and so on; the last one holds it. Empty if there is no lock."""
    chain: list[tuple[epath.Path, Process]] = []
    file = workdir / _FILE
    while found := presence.read(file):
        chain.append((file, found[0]))
        file = workdir / f"{_FILE}.{found[0].token}"
    return chain
