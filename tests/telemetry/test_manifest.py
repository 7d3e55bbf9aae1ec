"""config.json and manifest.json: what a run is, where and with what it was started; on a disk and in object stores."""

import dataclasses
import datetime
import importlib.metadata
import json
import os
import socket
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from etils import epath

import survey_jax
from object_store import ObjectStore, object_store  # noqa: F401  # a fixture
from survey_jax.common.errors import UserError
from survey_jax.config import Config, DataConfig, ModelConfig, OptimConfig, RunConfig
from survey_jax.telemetry import manifest as manifest_module
from survey_jax.telemetry.manifest import check_workdir, read_config, record_start, with_chat_date
from survey_jax.telemetry.profiler import Profile
from survey_jax.telemetry.run_log import Lines

CONFIG = Config(model=ModelConfig(weights="some/model"), run=RunConfig(seed=3))
IDENTITY = {"base model": "abc", "training set": "def"}


def test_every_start_is_recorded(tmp_path: Path, monkeypatch) -> None:
    workdir = tmp_path / "run"
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_exclude_nondeterministic_ops=true")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    first = record_start(workdir, CONFIG, IDENTITY, "c0ffee", 0)
    longer = dataclasses.replace(CONFIG, optim=OptimConfig(steps=300))
    assert record_start(workdir, longer, IDENTITY, "c0ffee", 50, {"has 36 options": 4}) == first

    text = (workdir / "manifest.json").read_text()
    manifest = json.loads(text)
    assert manifest["id"] == first
    assert manifest["identity"] == IDENTITY
    one, two = manifest["starts"]
    assert (one["step"], two["step"]) == (0, 50)
    assert one["config_hash"] != two["config_hash"]
    assert one["base_model"] == {"weights": "some/model", "commit": "c0ffee"}
    assert one["seed"] == 3
    assert (one["bad_rows"], two["bad_rows"]) == ({}, {"has 36 options": 4})
    for package in ("jax", "jaxlib", "flax", "orbax-checkpoint", "numpy"):
        assert one["versions"][package] == importlib.metadata.version(package)
    assert one["device"] == {
        "kind": jax.devices()[0].device_kind, "platform": "cpu", "runtime": "cpu", "count": jax.device_count()
    }  # fmt: skip
    assert one["flags"]["XLA_FLAGS"] == "--xla_gpu_exclude_nondeterministic_ops=true"
    assert "hf_secret" not in text
    assert read_config(workdir) == longer


def test_chats_tell_the_day_on_which_the_run_began(tmp_path: Path, monkeypatch) -> None:
    """Resumed and evaluated after midnight, prompts are the same; a day that is set stays; others have none."""
    chat = dataclasses.replace(CONFIG, data=DataConfig(chat=True))
    first = with_chat_date(chat, tmp_path)
    today = datetime.datetime.now(datetime.UTC).date()
    assert abs(datetime.date.fromisoformat(first.data.chat_date) - today) <= datetime.timedelta(days=1)
    begun = dataclasses.replace(chat, data=DataConfig(chat=True, chat_date="2024-02-29"))
    assert with_chat_date(begun, tmp_path) == begun
    record_start(tmp_path, begun, IDENTITY, None, 0)
    assert with_chat_date(chat, tmp_path) == read_config(tmp_path) == begun
    check_workdir(tmp_path, with_chat_date(chat, tmp_path), IDENTITY)
    with pytest.raises(UserError, match=r"config\.data\.chat_date = '2024-02-29', now '2024-03-01'"):
        check_workdir(tmp_path, dataclasses.replace(chat, data=DataConfig(chat=True, chat_date="2024-03-01")), IDENTITY)
    assert with_chat_date(CONFIG, tmp_path) == CONFIG


def test_a_run_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    """Its settings had other names: neither training nor evaluation may take it for damaged."""
    record_start(tmp_path, CONFIG, IDENTITY, None, 0)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    del manifest["format"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="a run of another version of survey_jax"):
        read_config(tmp_path)
    with pytest.raises(UserError, match="a run of another version of survey_jax"):
        check_workdir(tmp_path, CONFIG, IDENTITY)


@pytest.mark.parametrize("later", ["metrics.jsonl", "checkpoints", "time.json"])
def test_a_run_whose_manifest_is_gone_is_not_begun_anew(tmp_path: Path, later: str) -> None:
    record_start(tmp_path, CONFIG, IDENTITY, None, 0)
    (tmp_path / "manifest.json").unlink()
    check_workdir(tmp_path, CONFIG, IDENTITY)  # killed before it was written: nothing else is there
    (tmp_path / later).touch()
    with pytest.raises(UserError, match=r"manifest\.json is missing, which tells what run this is; put it back"):
        check_workdir(tmp_path, CONFIG, IDENTITY)
    with pytest.raises(UserError, match=r"manifest\.json is missing"):
        read_config(tmp_path)


@pytest.mark.parametrize("change", [{"id": None}, {"id": 3}, {"starts": {}}, {"starts": [{}]}, {"identity": "abc"}])
def test_a_manifest_of_another_shape(tmp_path: Path, change: dict[str, object]) -> None:
    record_start(tmp_path, CONFIG, IDENTITY, None, 0)
    manifest = json.loads((tmp_path / "manifest.json").read_text()) | change
    (tmp_path / "manifest.json").write_text(json.dumps({k: v for k, v in manifest.items() if v is not None}))
    for act in (lambda: check_workdir(tmp_path, CONFIG, IDENTITY), lambda: read_config(tmp_path)):
        with pytest.raises(
            UserError, match=r"manifest\.json: .*: written by another version of survey_jax, or changed"
        ):
            act()


def test_a_run_that_was_resumed_does_not_begin_anew(tmp_path: Path) -> None:
    """Its checkpoints have been removed since."""
    record_start(tmp_path, CONFIG, IDENTITY, None, 0)
    record_start(tmp_path, CONFIG, IDENTITY, None, 20)
    before = (tmp_path / "manifest.json").read_bytes()
    with pytest.raises(
        UserError, match="its checkpoints are gone, and this run was resumed at step 20 before; put them"
    ):
        record_start(tmp_path, CONFIG, IDENTITY, None, 0)
    assert (tmp_path / "manifest.json").read_bytes() == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
@pytest.mark.parametrize("name", ["manifest.json", "config.json"])
def test_a_fifo_in_place_of_a_file_is_not_waited_for(tmp_path: Path, name: str) -> None:
    record_start(tmp_path, CONFIG, IDENTITY, None, 0)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match=rf"{name}: not a file"):
        read_config(tmp_path)


def test_runs_have_names_of_their_own(tmp_path: Path) -> None:
    assert record_start(tmp_path / "a", CONFIG, IDENTITY, None, 0) != record_start(
        tmp_path / "b", CONFIG, IDENTITY, None, 0
    )


def test_other_processes_leave_the_files_alone(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    record_start(tmp_path / "run", CONFIG, IDENTITY, None, 0)
    assert list(tmp_path.iterdir()) == []


def git(folder: Path, *command: str) -> str:
    names = ("-c", "user.name=n", "-c", "user.email=e@x")
    return subprocess.run(["git", *names, *command], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_the_source_that_ran_is_named(tmp_path: Path, monkeypatch) -> None:
    """Its commit, and the files that differ from it; not those of a repository that it is merely installed in."""
    source = tmp_path / "package" / "room" / "part.py"
    source.parent.mkdir(parents=True)
    source.write_text("x = 1\n")
    (tmp_path / "package" / "__init__.py").write_text("")
    monkeypatch.setattr(survey_jax, "__file__", str(tmp_path / "package" / "__init__.py"))

    def found() -> dict[str, object]:
        said = manifest_module.manifest(CONFIG, IDENTITY, None)
        return {name: said[name] for name in ("git_commit", "git_changes")}

    assert found() == {"git_commit": None, "git_changes": []}
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "--message=somebody's")
    assert found() == {"git_commit": None, "git_changes": []}
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--message=ours")
    commit = git(tmp_path, "rev-parse", "HEAD").strip()
    assert found() == {"git_commit": commit, "git_changes": []}
    source.write_text("x = 2\n")
    (tmp_path / "package" / "untracked.py").write_text("")
    assert found() == {"git_commit": commit, "git_changes": ["package/room/part.py"]}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_told_and_harms_nothing(tmp_path: Path, monkeypatch) -> None:
    record_start(tmp_path, CONFIG, IDENTITY, None, 0)
    before = (tmp_path / "manifest.json").read_bytes()
    monkeypatch.setattr("survey_jax.common.files.secrets.token_hex", lambda _: "0")
    (tmp_path / ".partial-0-manifest.json").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"manifest\.json: cannot be written \(No space left on device\)"):
        record_start(tmp_path, CONFIG, IDENTITY, None, 2)
    assert (tmp_path / "manifest.json").read_bytes() == before

    lines = Lines(tmp_path / "metrics.jsonl", 0)
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"metrics\.jsonl: cannot be written \(No space left on device\)"):
        lines.write({"step": 1})


def keep_a_run(workdir: epath.Path) -> None:
    """Everything but checkpoints that a run keeps, at two starts."""
    record_start(workdir, CONFIG, IDENTITY, None, 0)
    lines = Lines(workdir / "metrics.jsonl", 0)
    for step in (1, 2, 3):
        lines.write({"step": step, "loss": 1 / step})
    lines.sync()
    check_workdir(workdir, CONFIG, IDENTITY)
    record_start(workdir, CONFIG, IDENTITY, None, 2)
    assert Lines(workdir / "metrics.jsonl", 2).removed == [{"step": 3, "loss": 1 / 3}]
    assert [json.loads(x)["step"] for x in (workdir / "metrics.jsonl").read_text().splitlines()] == [1, 2]
    assert [s["step"] for s in json.loads((workdir / "manifest.json").read_text())["starts"]] == [0, 2]
    assert read_config(workdir) == CONFIG
    with pytest.raises(UserError, match=r"run: holds a run with another base model \(fingerprint abc, now xyz\)"):
        check_workdir(workdir, CONFIG, IDENTITY | {"base model": "xyz"})
    with pytest.raises(UserError, match=r"elsewhere: no run here"):
        read_config(workdir.parent / "elsewhere")

    profile = Profile(workdir, (2, 3))
    for step in (1, 2, 3, 4):
        with profile.step(step):
            (jnp.ones(100) * step).block_until_ready()
    profile.close()
    assert len(list((workdir / "profile" / "plugins" / "profile").glob("*/*.xplane.pb"))) == 1


def test_on_a_disk(tmp_path: Path) -> None:
    keep_a_run(epath.Path(tmp_path) / "run")
    assert not list(tmp_path.rglob(".partial*"))


def test_in_an_object_store(object_store: type[ObjectStore]) -> None:  # noqa: F811
    keep_a_run(epath.Path("gs://bucket/run"))


def test_in_google_cloud_storage(monkeypatch) -> None:
    """An emulated bucket, by way of gcsfs."""
    pytest.importorskip("gcsfs")
    server = pytest.importorskip("gcp_storage_emulator.server")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    store = server.create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket")
    store.start()
    try:
        keep_a_run(epath.Path("gs://bucket/run"))
    finally:
        store.stop()
