"""One training at a time in a run's folder, whoever is killed when."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from etils import epath

from object_store import ObjectStore, object_store  # noqa: F401  # a fixture
from survey_jax.checkpointing import presence
from survey_jax.checkpointing.lock import only_training, trains_here
from survey_jax.common.errors import UserError

HOLD = """
import sys, time
from etils import epath
from survey_jax.checkpointing.lock import only_training
with only_training(epath.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(100)
"""


@pytest.fixture(params=["disk", "store"])
def workdir(request, tmp_path: Path, monkeypatch) -> epath.Path:
    monkeypatch.setattr(presence, "BEAT", 0.05)
    monkeypatch.setattr(presence, "SILENT", 1.0)
    monkeypatch.setattr(presence, "_SETTLING", 0.0)
    if request.param == "store":
        request.getfixturevalue("object_store")
        return epath.Path("gs://bucket/run")
    return epath.Path(tmp_path / "run")


def left_behind(workdir: epath.Path, **changes: object) -> dict[str, object]:
    """A lock that nobody keeps; what it says."""
    workdir.mkdir(parents=True, exist_ok=True)
    values = vars(presence.this_process()) | {"beats": 0} | changes
    (workdir / "training.lock").write_text(json.dumps(values))
    return values


def test_a_second_training_is_told_of_the_first(workdir: epath.Path) -> None:
    first = presence.this_process()
    with only_training(workdir) as lock:
        with pytest.raises(UserError, match=f"another training runs here: process {first.pid} on {first.host}, since"):
            only_training(workdir).__enter__()
        lock.check()
    with only_training(workdir):
        assert (workdir / "training.lock").exists()
    assert not any(workdir.glob("training.lock*"))


def test_a_killed_training_needs_no_hand_work(tmp_path: Path, capsys) -> None:
    """Killed without warning, with half a file lying about."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"process {process.pid} on "):
        only_training(epath.Path(tmp_path)).__enter__()
    (tmp_path / ".partial-1a2b3c4d-manifest.json").write_text("{")
    process.send_signal(signal.SIGKILL)
    time.sleep(0.2)  # it has ended, and nobody has asked how: its number is not free yet
    with only_training(epath.Path(tmp_path)):
        assert f"taken over from a training that is gone: process {process.pid} on " in capsys.readouterr().out
        assert {path.name for path in tmp_path.iterdir()} == {"training.lock"}
    process.wait()
    assert not any(tmp_path.iterdir())


def test_a_process_that_got_the_number_of_a_dead_one_is_another(workdir: epath.Path) -> None:
    """As in a container that was started anew, where the same command has the same number."""
    left_behind(workdir, birth="1")
    with only_training(workdir):
        pass


def test_a_silent_machine_is_taken_over_and_one_that_shows_life_is_not(workdir: epath.Path, capsys) -> None:
    left_behind(workdir, host="far", machine="far away", pid=7)
    with only_training(workdir):
        assert "taken over from a training that is gone: process 7 on far" in capsys.readouterr().out
    values = left_behind(workdir, host="far", machine="far away", pid=7)
    ended = threading.Event()

    def live() -> None:
        while not ended.wait(0.2):
            values["beats"] += 1  # type: ignore[operator]
            (workdir / "training.lock").write_text(json.dumps(values))

    with ThreadPoolExecutor() as pool:
        pool.submit(live)
        try:
            with pytest.raises(UserError, match="another training runs here: process 7 on far"):
                only_training(workdir).__enter__()
        finally:
            ended.set()


def test_its_own_signs_of_life_are_seen_from_afar(workdir: epath.Path, monkeypatch) -> None:
    with only_training(workdir):
        monkeypatch.setattr(presence, "_machine", lambda: "another one")
        with pytest.raises(UserError, match="another training runs here"):
            only_training(workdir).__enter__()


def test_of_many_that_find_a_dead_one_s_lock_one_gets_it(tmp_path: Path) -> None:
    holding, most, refused = 0, 0, 0
    guard = threading.Lock()

    def contend(start: threading.Barrier) -> None:
        nonlocal holding, most, refused
        start.wait()
        try:
            with only_training(epath.Path(tmp_path)):
                with guard:
                    holding += 1
                    most = max(most, holding)
                time.sleep(0.2)
                with guard:
                    holding -= 1
        except UserError:
            refused += 1

    with ThreadPoolExecutor(6) as pool:
        for _ in range(15):
            left_behind(epath.Path(tmp_path), birth="1")
            start = threading.Barrier(6)
            list(pool.map(contend, [start] * 6))
    assert (most, refused) == (1, 15 * 5)


@pytest.mark.parametrize("loss", ["deleted", "taken over"])
def test_a_training_that_lost_its_lock_stops(workdir: epath.Path, loss: str) -> None:
    with only_training(workdir) as lock:
        if loss == "deleted":
            (workdir / "training.lock").unlink()
        else:
            left_behind(workdir, host="far", machine="far away", pid=7)
        time.sleep(0.5)
        with pytest.raises(UserError, match=f"was {loss}" + (" by process 7 on far" if "taken" in loss else "")):
            lock.check()
    assert (workdir / "training.lock").exists() == (loss == "taken over"), "another one's lock is not deleted"


def test_a_lock_that_says_nothing(workdir: epath.Path) -> None:
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "training.lock").write_text("{}")
    with pytest.raises(UserError, match=r"training\.lock: does not say whose it is; if nothing trains here, delete it"):
        only_training(workdir).__enter__()


def a_file(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file"


def a_dangling_link(folder: Path) -> Path:
    (folder / "link").symlink_to(folder / "nowhere" / "at all")
    return folder / "link"


UNUSABLE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a file": (a_file, "not a folder"),
    "in a file": (lambda folder: a_file(folder) / "run", "Not a directory"),
    "a dangling link": (a_dangling_link, "not a folder"),
    "a name too long": (lambda folder: folder / ("x" * 300), "File name too long"),
    "read-only": (lambda _: Path("/proc/run"), ""),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_folder_that_cannot_be_used(name: str, tmp_path: Path) -> None:
    make, reason = UNUSABLE[name]
    place = make(tmp_path)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=rf"--workdir={place}: cannot be used \(.*{reason}"):
        only_training(epath.Path(place)).__enter__()
    assert set(tmp_path.rglob("*")) == before


def test_no_folder_stays_where_nothing_was_saved(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="bad input"), only_training(epath.Path(tmp_path / "a" / "b")):
        raise UserError("bad input")
    assert not any(tmp_path.iterdir())
    with only_training(epath.Path(tmp_path / "a" / "b")):
        (tmp_path / "a" / "b" / "config.json").touch()
    assert (tmp_path / "a" / "b" / "config.json").exists()


def test_other_processes_of_a_training_make_no_lock(tmp_path: Path, monkeypatch) -> None:
    import jax

    monkeypatch.setattr(jax, "process_index", lambda: 1)
    with only_training(epath.Path(tmp_path / "run")) as lock:
        lock.check()
    assert not any(tmp_path.iterdir())
    assert trains_here(epath.Path(tmp_path / "run")) is None
