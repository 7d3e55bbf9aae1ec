"""The wheel: what it holds, and that its commands find it in a folder that has nothing of the project."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from places import ROOT


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as a wheel holds it, built from a copy: a build leaves files where it is made."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("survey_jax", "configs", "launch"):
        shutil.copytree(ROOT / name, folder / "project" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "project")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, f"--wheel-dir={folder}", str(folder / "project")], check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def test_it_holds_the_whole_package_with_configs_and_launch_files(installed: Path) -> None:
    def files(*parts: str) -> set[str]:
        names = {p.relative_to(ROOT).as_posix() for part in parts for p in (ROOT / part).rglob("*") if p.is_file()}
        return {name for name in names if "__pycache__" not in name and "egg-info" not in name}

    held = {p.relative_to(installed).as_posix() for p in installed.rglob("*") if p.is_file()}
    wanted = files("survey_jax") | {f"survey_jax/{name}" for name in files("configs", "launch")}
    assert wanted == {name for name in held if name.startswith("survey_jax/")}


def test_its_commands_find_configs_and_data_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(installed), "JAX_PLATFORMS": "cpu"}
    code = (
        "import survey_jax; from survey_jax import cli, demo; from survey_jax.survey.table import DEMO, read_table\n"
        "assert survey_jax.__file__.startswith(PLACE), survey_jax.__file__\n"
        "assert (demo.CONFIGS / 'demo_groups.csv').is_file() and str(demo.CONFIGS).startswith(PLACE)\n"
        "flag = cli.define_config(required=True)\n"
        "def main(): print(cli.read_config(flag).data.tables, cli.default_workdir(), len(read_table(DEMO)))\n"
        "cli.run(main)\n"
    ).replace("PLACE", repr(str(installed)))
    words = [sys.executable, "-c", code, "--config=configs/mine.py:own.parquet"]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "('own.parquet',) checkpoints/mine_own.parquet 11376\n", done.stderr


def test_the_demo_runs_its_commands_and_passes_on_a_failure(installed: Path, tmp_path: Path) -> None:
    """With commands in place of the real ones, which take minutes: `make demo` runs these."""
    code = (
        "import subprocess, sys\nfrom survey_jax import cli, demo\n"
        "def run(words, check):\n"
        "    print(*words[3:]); return subprocess.CompletedProcess(words, 75 if words[3] == 'eval' else 0)\n"
        "demo.subprocess.run = run\ncli.run(demo.main, arguments=True)"
    )
    words = [sys.executable, "-c", code, "--workdir=here", "--", "--config.optim.steps=4"]
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 75, done.stderr
    ran = [line.split() for line in done.stdout.splitlines() if not line.startswith("$")]
    config = f"--config={installed}/survey_jax/configs/demo.py"
    assert ran == [
        ["fetch", "gemma3-270m"], ["train", config, "--workdir=here", "--config.optim.steps=4"],
        ["eval", "--workdir=here"],
    ]  # fmt: skip
