"""The rooms of the package: which room may import which, and how large a file and the ground floor may get."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import survey_jax

PACKAGE = Path(survey_jax.__file__).parent

# A room (a folder of the package, or a module beside the folders) -> the rooms that it may import, from the ground up.
# An entry with a dot allows only that module of a room.
MAY_IMPORT = {
    "common": [],
    "survey": ["common"],  # no jax, no models: a table, its splits, baselines, scores and report
    "sources": ["common", "survey"],
    "config": ["common", "survey.splits.config"],
    "cli": ["common", "config"],
    "parallel": ["common", "config"],
    "checkpointing": ["common", "parallel"],
    "telemetry": ["common", "config"],
    "model": ["common", "parallel"],
    "pretrained": ["common", "model", "parallel"],
    "inputs": ["common", "config", "survey", "parallel.sharding", "pretrained.open", "model.attention_mask"],
    "training": ["common", "config", "parallel", "model", "pretrained", "inputs"],
    "inference": [
        *("common", "config", "survey", "parallel", "pretrained", "inputs", "training"),
        *("checkpointing", "telemetry.manifest"),
    ],
    "planning": ["common", "config", "parallel", "model", "pretrained", "inputs", "training"],
}
ONLY_FOR = {"sources": "prepare", "planning": "plan"}  # a room -> the one command that imports it
LINES, FILES = 400, 12


def modules() -> dict[str, Path]:
    """Module without "survey_jax." -> its file; a folder's __init__.py is the folder."""
    files = (file for file in PACKAGE.rglob("*.py") if file != PACKAGE / "__init__.py")
    return {".".join(f.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): f for f in files}


def imports() -> dict[str, set[str]]:
    """Module -> the modules of the package that it imports, wherever in it the import stands."""
    files = modules()
    found: dict[str, set[str]] = {}
    for module, file in files.items():
        names = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module}: a relative import"
                submodules = {f"{node.module}.{alias.name}" for alias in node.names}
                inside = {name for name in submodules if name.removeprefix("survey_jax.") in files}
                names |= inside or {str(node.module)}
        found[module] = {name.removeprefix("survey_jax.") for name in names} & set(files)
    return found


def room(module: str) -> str:
    return module.split(".")[0]


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_a_room_imports_what_it_may(name: str) -> None:
    allowed = (name, *MAY_IMPORT[name])
    strangers = {
        (module, used)
        for module, all_used in imports().items()
        for used in all_used
        if room(module) == name and not any(used == a or used.startswith(f"{a}.") for a in allowed)
    }
    assert not strangers


def test_every_room_is_in_the_table_and_every_entry_is_used() -> None:
    graph = imports()
    assert {m.name for m in PACKAGE.iterdir() if (m / "__init__.py").is_file()} <= set(MAY_IMPORT)
    for name, allowed in MAY_IMPORT.items():
        used = {target for module, targets in graph.items() if room(module) == name for target in targets}
        unused = [a for a in allowed if not any(u == a or u.startswith(f"{a}.") for u in used)]
        assert not unused, f"{name} imports nothing of {unused}"


def test_nothing_imports_a_command() -> None:
    graph = imports()
    commands = {module for module in graph if room(module) not in MAY_IMPORT}
    assert commands >= {"train", "eval", "predict", "prepare", "export", "plan", "fetch"}
    assert not [(module, used & commands) for module, used in graph.items() if used & commands]


@pytest.mark.parametrize("name", ONLY_FOR)
def test_only_one_command_enters_this_room(name: str) -> None:
    users = {room(module) for module, used in imports().items() if any(room(u) == name for u in used)}
    assert users <= {name, ONLY_FOR[name]}


def test_no_module_imports_itself_in_a_circle() -> None:
    graphlib.TopologicalSorter(imports()).prepare()  # raises CycleError, which names the circle


def test_files_and_the_ground_floor_are_small() -> None:
    lengths = {module: len(file.read_text(encoding="utf-8").splitlines()) for module, file in modules().items()}
    assert not {module: length for module, length in lengths.items() if length > LINES}
    beside_rooms = [file for file in PACKAGE.glob("*.py") if not file.name.startswith("__")]
    assert len(beside_rooms) <= FILES, beside_rooms


def test_the_version_is_that_of_the_distribution() -> None:
    """Runs record the package's own, since a checkout need not be installed."""
    assert f'version="{survey_jax.__version__}"' in (PACKAGE.parent / "setup.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["train", "eval"])
def test_predicting_need_not_wait_for_what_only_results_need(command: str) -> None:
    slow = ("sklearn", "scipy.stats", "matplotlib", "datasets", "torch")
    code = f"import sys, survey_jax.{command}; print([name for name in {slow} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
