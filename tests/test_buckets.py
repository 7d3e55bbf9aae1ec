"""Trainings whose table and weights are in a bucket: the same, to the last bit, as with local files."""

import json
import time
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.chaos import final_state, same_bits, tiny_config
from google_storage import GoogleStorage, google_storage  # noqa: F401  # a fixture
from processes import printed, start


def train(config: Path, workdir: Path, *flags: str, processes: int = 1, until: str = "") -> list[int]:
    """Exit codes; with `until` the training is asked to stop when it has printed that."""
    log = workdir.with_suffix(".log")
    command = [f"--config={config}", f"--workdir={workdir}", *flags]
    started = start("survey_jax.train", command, log, processes=processes)
    try:
        while until and until not in printed(log):
            assert started[0].poll() is None, printed(log)
            time.sleep(0.05)
        if until:
            started[0].terminate()
        return [process.wait(timeout=300) for process in started]
    finally:
        for process in started:
            process.kill()


def losses(workdir: Path) -> list[float]:
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def identity(workdir: Path) -> dict[str, str]:
    """Fingerprints of base model, tokenizer, rows and batches."""
    return json.loads((workdir / "manifest.json").read_text())["identity"]


def test_trained_from_a_bucket(
    google_storage: GoogleStorage,  # noqa: F811  # the fixture
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By one process, which goes on with local files, and by two, which share one copy."""
    config = tiny_config(tmp_path, steps=8)
    weights = google_storage.upload(tmp_path / "model", "weights/tiny")
    table = google_storage.upload(tmp_path / "rows.jsonl", "rows.jsonl")
    elsewhere = [f"--config.model.weights={weights}", f"--config.data.tables=('{table}',)"]
    local, one, two = (tmp_path / name for name in ("local", "one", "two"))
    assert train(config, local) == [0]

    monkeypatch.setenv("HF_HOME", str(tmp_path / "first machine"))
    assert train(config, one, *elsewhere, until="step 2/") == [75], printed(one.with_suffix(".log"))
    assert json.loads((one / "config.json").read_text())["model"]["weights"] == weights
    assert train(config, one) == [0]
    assert "resumed at step" in printed(one.with_suffix(".log"))
    assert identity(one) == identity(local)
    assert same_bits(final_state(one), final_state(local))

    monkeypatch.setenv("HF_HOME", str(tmp_path / "second machine"))
    google_storage.sent.clear()
    assert train(config, two, *elsewhere, processes=2) == [0, 0], printed(two.with_suffix(".log"))
    assert google_storage.sent == Counter(google_storage.objects.keys())
    names = ("base model", "training set", "validation set")
    assert [identity(two)[name] for name in names] == [identity(local)[name] for name in names]
    assert losses(two) == pytest.approx(losses(local), rel=1e-4)
