"""A checkpoint is restored as it was saved, or not at all."""

import gc
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from places import ROOT
from survey_jax.checkpointing import presence
from survey_jax.checkpointing.files import checksums, digest
from survey_jax.checkpointing.lock import only_training
from survey_jax.checkpointing.manager import METRIC, TEMPERATURE, Checkpoints
from survey_jax.common.errors import UserError, full_disk_explained
from survey_jax.common.files import open_workdir

# Orbax leaves reads unfinished when another one has failed.
pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

IDENTITY = {"base model": "abc"}


@pytest.fixture(autouse=True)
def _what_is_left_goes_now() -> Iterator[None]:
    """Otherwise it is collected, and complains, in some other test."""
    yield
    gc.collect()


def state(step: int) -> tuple[Any, Any]:
    """Parameters and optimizer, with a scalar, and three types."""
    rng = np.random.default_rng(step)
    parameters = {"x": rng.normal(size=1000).astype(np.float32), "y": {"z": rng.normal(size=(3, 4)).astype("float32")}}
    optimizer = {"mu": jnp.asarray(rng.normal(size=(50, 3)), jnp.bfloat16), "count": step}
    return jax.tree.map(jnp.asarray, (parameters, optimizer))


def save(checkpoints: Checkpoints, step: int, kl: float | None = 1.0) -> None:
    scores = None if kl is None else {METRIC: kl, f"{TEMPERATURE}new_question": step}
    checkpoints.save(step, *state(step), IDENTITY, scores, log=[{"step": step, "loss": 0.1}])
    checkpoints.wait()


def restore(workdir: Path, identity: dict[str, str] = IDENTITY) -> int | None:
    """The step, once what was restored is what was saved, to the bit."""
    like = jax.tree.map(jnp.zeros_like, state(0))
    found = Checkpoints(workdir, 2).restore_latest(*like, identity)
    if found is None:
        return None
    step, *trees, log = found
    assert log == [{"step": step, "loss": 0.1}]
    for x, y in zip(jax.tree.leaves(tuple(trees)), jax.tree.leaves(state(step)), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()
    return step


def folders(workdir: Path) -> set[str]:
    return {path.name for path in (workdir / "checkpoints").iterdir()}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("run")
    for step, kl in ((1, 1.0), (2, 2.0)):
        save(Checkpoints(workdir, 2), step, kl)
    return workdir


# ------------------------------------------------------------------- checksums


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e4m3fn", "int32", "int8", "uint8", "bool"])
def test_one_flipped_bit_is_seen(dtype: str) -> None:
    stored = jnp.asarray(np.random.default_rng(0).integers(0, 2, (4, 5)), dtype)
    before = checksums(stored)
    raw = np.asarray(stored).copy()
    for place in range(raw.size):
        for bit in range(1 if dtype == "bool" else 8 * raw.itemsize):
            changed = raw.copy()
            changed.reshape(-1).view(np.uint8)[place * raw.itemsize + bit // 8] ^= 1 << (bit % 8)
            assert checksums(jnp.asarray(changed)) != before


def test_order_counts() -> None:
    assert checksums({"none": jnp.zeros((0, 3)), "scalar": jnp.int32(7)}) == {"none": 0, "scalar": 7}
    x = jnp.arange(24.0).reshape(4, 6)
    assert (
        len({str(checksums(y)) for y in (x, x[::-1], x[:, ::-1], jnp.roll(x, 1, 0), x[jnp.array([1, 0, 2, 3])])}) == 5
    )


# ------------------------------------------------------------------ corruption


def flip(where: Callable[[int], int]) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        data = bytearray(file.read_bytes() or b"\0")
        bit = where(8 * len(data))
        data[bit // 8] ^= 1 << (bit % 8)
        file.write_bytes(data)

    return change


CHANGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "emptied": lambda file: file.write_bytes(b""),
    "deleted": lambda file: file.unlink(),
    "flipped near the start": flip(lambda bits: min(17, bits - 1)),
    "flipped in the middle": flip(lambda bits: bits // 2),
    "flipped near the end": flip(lambda bits: max(0, bits - 20)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_file_damaged_in_turn(change: str, run: Path, tmp_path: Path, capsys) -> None:
    """Either the damage does not matter (step 2, whole), or it is named and step 1 is taken."""
    files = [path.relative_to(run) for path in (run / "checkpoints/2").rglob("*") if path.is_file()]
    fell_back: Counter[str] = Counter()
    for number, file in enumerate(files):
        workdir = shutil.copytree(run, tmp_path / f"{number}")
        CHANGES[change](workdir / file)
        step = restore(workdir)
        output = capsys.readouterr().out
        part = file.parts[2]
        if step == 2:
            assert not output, file
        else:
            assert step == 1, file
            assert f"{workdir}/checkpoints/2" in output
            assert "damaged" in output
            assert part in output, "the item or file is named"
            aside = [name for name in folders(workdir) if name.startswith("damaged_2_")]
            assert folders(workdir) == {"1", *aside}
            assert aside[0] in output
            fell_back[part] += 1
        shutil.rmtree(workdir)
    print(f"{change}: of {len(files)} files {sum(fell_back.values())} matter")
    assert fell_back["parameters"] >= 3
    assert fell_back["optimizer"] >= 2
    assert fell_back["record"] == 1


@pytest.mark.parametrize("file", ["record/data.json", "parameters/manifest.ocdbt", "_CHECKPOINT_METADATA"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(file: str, run: Path, tmp_path: Path, capsys) -> None:
    workdir = shutil.copytree(run, tmp_path / "run")
    (workdir / "checkpoints/2" / file).unlink()
    os.mkfifo(workdir / "checkpoints/2" / file)
    assert restore(workdir) == 1
    assert f"checkpoints/2/{file}: damaged: it is a pipe or a device" in capsys.readouterr().out


def test_a_step_that_was_set_aside_is_saved_again(run: Path, tmp_path: Path) -> None:
    workdir = shutil.copytree(run, tmp_path / "run")
    (workdir / "checkpoints/2/record/data.json").write_text("{}")
    assert restore(workdir) == 1
    save(Checkpoints(workdir, 2), 2)
    assert restore(workdir) == 2


def test_another_step_s_checkpoint_is_no_checkpoint_of_this_step(run: Path, tmp_path: Path, capsys) -> None:
    workdir = shutil.copytree(run, tmp_path / "run")
    shutil.copytree(workdir / "checkpoints/1", workdir / "checkpoints/3")
    assert restore(workdir) == 2
    assert "checkpoints/3: damaged: holds the checkpoint of step 1" in capsys.readouterr().out


def test_no_fresh_start_where_all_are_damaged(run: Path, tmp_path: Path) -> None:
    workdir = shutil.copytree(run, tmp_path / "run")
    for step in (1, 2):
        (workdir / f"checkpoints/{step}/parameters/manifest.ocdbt").write_bytes(b"")
    for _ in range(2):  # the second time they are set aside already
        with pytest.raises(UserError, match=r"none of its checkpoints is whole \(damaged_1_.*, damaged_2_"):
            restore(workdir)


def test_what_is_no_damage(run: Path, tmp_path: Path) -> None:
    """A checkpoint of something else, or one that cannot be read just now, stays where it is."""
    assert restore(tmp_path / "new") is None
    with pytest.raises(UserError, match="made with another base model"):
        restore(run, {"base model": "xyz"})
    with pytest.raises(UserError, match=r"parameters/x is float32\[1000\] there and float32\[999\] in this run"):
        Checkpoints(run).restore_parameters(2, {"x": jnp.zeros(999), "y": {"z": jnp.zeros((3, 4))}})
    with pytest.raises(UserError, match=r"parameters/y/z is .* there and absent in this run"):
        Checkpoints(run).restore_parameters(2, {"x": jnp.zeros(1000)})
    assert folders(run) == {"1", "2"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_line_whatever_is_written() -> None:
    """Checkpoints: test_resume.py, on a real disk."""
    with (
        pytest.raises(UserError, match="no space is left; the last checkpoint is intact"),
        full_disk_explained(),
        Path("/dev/full").open("w") as file,
    ):
        file.write("x")
    with pytest.raises(IsADirectoryError), full_disk_explained():
        Path("/").write_text("x")


# ---------------------------------------------------------------------- reading


def test_some_parameters(run: Path) -> None:
    found = Checkpoints(run).restore_parameters(2, {"y": {"z": jnp.zeros((3, 4))}}, partial=True)
    np.testing.assert_array_equal(found["y"]["z"], state(2)[0]["y"]["z"])


def test_evaluation_uses_what_was_asked_for_or_nothing(run: Path, tmp_path: Path) -> None:
    workdir = shutil.copytree(run, tmp_path / "run")
    (data,) = (workdir / "checkpoints/2/parameters/ocdbt.process_0/d").iterdir()
    flip(lambda bits: bits // 2)(data)
    reading = Checkpoints(workdir)
    assert (reading.step("best"), reading.step("last"), reading.temperatures(2)) == (1, 2, {"new question": 2.0})
    with pytest.raises(UserError, match=r"checkpoints/2.*damaged.*; others that are there: --step=1"):
        reading.restore_parameters(2, state(0)[0])
    assert reading.restore_parameters(1, state(0)[0])["x"].tolist() == state(1)[0]["x"].tolist()
    (workdir / "checkpoints/1/record/data.json").write_bytes(b"")
    with pytest.raises(UserError, match=r"checkpoints/1/record/data.json: damaged.*--step=2"):
        reading.step("best")
    assert folders(workdir) == {"1", "2"}, "reading sets nothing aside"


def test_interim_checkpoints_serve_to_resume_only(tmp_path: Path) -> None:
    """Step 1 is best; the latest with scores stay however many interim ones there are in between."""
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step, kl in ((1, 1.0), (2, None), (3, 3.0), (4, None), (5, None)):
        save(checkpoints, step, kl)
    assert folders(tmp_path) == {"1", "3", "5-interim"}
    assert restore(tmp_path) == 5
    assert {which: checkpoints.step(which) for which in ("best", "last")} == {"best": 1, "last": 3}
    with pytest.raises(UserError, match=r"--step=5: .* has best, last and 1, 3"):
        checkpoints.step("5")
    save(checkpoints, 5, 5.0)  # evaluated after all: the same state, with scores
    assert folders(tmp_path) == {"1", "3", "5"}
    save(checkpoints, 6, 6.0)
    assert folders(tmp_path) == {"1", "5", "6"}


# -------------------------------------------------------------- beside a training


def test_what_is_read_is_not_deleted_by_a_training(tmp_path: Path) -> None:
    training = Checkpoints(tmp_path, keep=1)
    save(training, 1, 5.0)
    with Checkpoints(tmp_path).reading("last") as step:
        assert step == 1
        for later in (2, 3):
            save(training, later, 1.0)
        assert {"1", "3"} <= folders(tmp_path)
        assert Checkpoints(tmp_path).restore_parameters(1, state(0)[0])["x"].tolist() == state(1)[0]["x"].tolist()
    save(training, 4, 0.5)
    assert folders(tmp_path) == {"4"}


def test_a_killed_reader_keeps_nothing(tmp_path: Path) -> None:
    training = Checkpoints(tmp_path, keep=1)
    save(training, 1, 5.0)
    dead = vars(presence.this_process()) | {"birth": "1", "beats": 0}
    (tmp_path / "checkpoints/reading_1_1a2b3c4d").write_text(json.dumps(dead))
    save(training, 2, 1.0)
    assert folders(tmp_path) == {"2"}


def test_a_silent_reader_on_another_machine_keeps_nothing_after_a_while(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(presence, "SILENT", 0.5)
    training = Checkpoints(tmp_path, keep=1)
    save(training, 1, 5.0)
    far = vars(presence.this_process()) | {"machine": "far away", "beats": 0}
    (tmp_path / "checkpoints/reading_1_1a2b3c4d").write_text(json.dumps(far))
    save(training, 2, 1.0)
    assert {"1", "2"} < folders(tmp_path)
    time.sleep(0.6)
    save(training, 3, 0.5)
    assert folders(tmp_path) == {"3"}


def test_it_is_said_who_deleted_a_checkpoint(tmp_path: Path) -> None:
    workdir = epath.Path(tmp_path)
    save(Checkpoints(workdir, 2), 2, 1.0)
    reading = Checkpoints(workdir)
    with only_training(workdir), pytest.raises(UserError, match=r"1: deleted by the training that runs here \(process"):
        reading.identity(1)
    with pytest.raises(UserError, match=r"checkpoints/1: deleted since; others that are there: --step=2"):
        reading.restore_parameters(1, state(0)[0])


# -------------------------------------------------- what was there and is no longer


@pytest.mark.parametrize("removed", ["checkpoints", "checkpoints/2", "all but the folder"])
def test_no_fresh_start_where_checkpoints_were_removed(removed: str, tmp_path: Path) -> None:
    save(Checkpoints(tmp_path, 2), 2)
    shutil.rmtree(tmp_path / ("checkpoints" if "all" in removed else removed))
    if "all" in removed:
        (tmp_path / "checkpoints").mkdir()
    with pytest.raises(
        UserError, match=r"its checkpoints are gone, and this run had saved step 2; put them back, or, to"
    ):
        restore(tmp_path)


def rewritten(workdir: Path, step: int, change: Callable[[dict[str, Any]], object]) -> None:
    """The record of a checkpoint as another version might have written it, with its digest."""
    file = workdir / f"checkpoints/{step}/record/data.json"
    record = json.loads(file.read_text())
    del record["digest"]
    change(record)
    file.write_text(json.dumps(record | {"digest": digest(record)}))


@pytest.mark.parametrize("name", ["identity", "metrics", "log", "kinds", "checksums", "step"])
def test_a_record_of_another_version_is_not_taken_for_damaged(name: str, run: Path, tmp_path: Path) -> None:
    workdir = shutil.copytree(run, tmp_path / "run")
    rewritten(workdir, 2, lambda record: record.pop(name))
    with pytest.raises(UserError, match=rf"record/data\.json: '{name}' is missing: written by another version of "):
        restore(workdir)
    rewritten(workdir, 2, lambda record: record.update({name: "text"}))
    with pytest.raises(UserError, match=rf"'{name}' is another kind of value: written by another version of "):
        restore(workdir)
    assert folders(workdir) == {"1", "2"}


@pytest.mark.parametrize("value", [float("nan"), 0, -1.0, float("inf"), None, "1"])
def test_a_temperature_that_is_no_positive_number_is_refused(value: Any, run: Path, tmp_path: Path) -> None:
    workdir = shutil.copytree(run, tmp_path / "run")
    rewritten(workdir, 2, lambda record: record["metrics"].update({f"{TEMPERATURE}new_question": value}))
    with pytest.raises(
        UserError, match=r"checkpoints/2: its temperature for a new question is .*, which must be a pos"
    ):
        Checkpoints(workdir).temperatures(2)


@pytest.mark.parametrize("value", [float("nan"), None])
def test_a_score_that_is_no_number_is_not_the_best(value: Any, run: Path, tmp_path: Path) -> None:
    for step in (1, 2):
        workdir = shutil.copytree(run, tmp_path / f"{step}")
        rewritten(workdir, step, lambda record: record["metrics"].update({METRIC: value}))
        assert Checkpoints(workdir).step("best") == 3 - step


# ------------------------------------------------------- meshes, processes, stores


def test_other_meshes_and_numbers_of_processes(tmp_path: Path) -> None:
    """One device -> eight -> two -> two processes with four each -> one. See checkpoint_meshes.py for what is checked.

    There, also: where one process alone cannot read a checkpoint, both take the one before.
    """
    script = ROOT / "tests" / "checkpoint_meshes.py"
    port = free_port()
    for processes in (1, 2):
        started = [
            subprocess.Popen(
                [sys.executable, str(script), str(tmp_path), f"{processes}", f"{process}", f"{port}"],
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            for process in range(processes)
        ]
        for process in started:
            output, _ = process.communicate(timeout=120)
            assert process.returncode == 0, output
    assert any(name.startswith("damaged_5_") for name in folders(tmp_path))
    import checkpoint_meshes

    assert checkpoint_meshes.restore(Checkpoints(tmp_path, 9), 1)[0] == 4


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("az://bucket/run", "must be a folder or gs://BUCKET/RUN"),
        ("gs://bucket/run", r"needs gcsfs: pip install survey_jax\[gcs\]"),
        ("s3://bucket/run", "must be a folder or gs://BUCKET/RUN"),
    ],
)
def test_stores_that_cannot_be_used(place: str, said: str, monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=said):
        open_workdir(place)


@pytest.fixture
def google(monkeypatch) -> Iterator[str]:
    """An emulated bucket."""
    pytest.importorskip("gcsfs")
    server = pytest.importorskip("gcp_storage_emulator.server")
    port = free_port()
    for name in ("STORAGE_EMULATOR_HOST", "TENSORSTORE_GCS_HTTP_URL"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    monkeypatch.setenv("TENSORSTORE_GCE_METADATA_ROOT", "127.0.0.1:1")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "test")
    store = server.create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket")
    store.start()
    yield "gs://bucket/run"
    store.stop()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_object_stores(google: str) -> None:
    """On an emulated bucket: saved, restored, damaged, cut off."""
    workdir = google
    for step in (1, 2, 3, 4):
        save(Checkpoints(workdir, 3), step)
    folder = Checkpoints(workdir).folder
    assert {path.name for path in folder.iterdir()} == {"1", "2", "3", "4"}
    assert restore(workdir) == 4
    (folder / "4/commit_success.txt").unlink()
    assert restore(workdir) == 3
    (folder / "3/parameters/manifest.ocdbt").write_bytes(b"")
    assert restore(workdir) == 2
    assert [path.name[:9] for path in folder.iterdir()] == ["1", "2", "damaged_3"]
