"""The examples in the docstrings of the survey half run, and give what they show."""

import ast
import doctest
import importlib
from pathlib import Path

import pytest

import survey_jax.survey

FOLDER = Path(survey_jax.survey.__file__).parent
PUBLIC = {  # what a newcomer calls first: each has an example
    "table": {"read_table", "parse_rows", "write_table", "group_name"},
    "text": {"fold", "plain", "same_group"},
    "countries": {"code", "find"},
    "splits.split": {"split"},
    "baselines.registry": {""},  # of the module itself
    "baselines.seen_groups": {"uniform", "seen_group_mean", "swap_groups"},
    "evaluation.metrics": {"row_metrics", "summarise"},
    "evaluation.bootstrap": {"Bootstrap", "factorize"},
    "evaluation.calibration": {"with_temperature", "fit_temperature", "fit_calibration", "calibrate"},
    "evaluation.paired": {"difference", "skill"},
    "evaluation.worth": {"worth"},
    "evaluation.choice": {"best_rules"},
    "evaluation.comparison": {"compare"},
    "evaluation.scoring": {"score_split"},
}


def examples() -> list[tuple[str, str]]:
    """The module and name ("": the module itself) of every docstring with an example."""
    found = []
    for file in sorted(FOLDER.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        documented = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
        module = ".".join(file.relative_to(FOLDER).with_suffix("").parts)
        found += [
            (module, getattr(n, "name", "")) for n in (tree, *documented) if ">>>" in (ast.get_docstring(n) or "")
        ]
    return found


@pytest.mark.parametrize(("module", "name"), examples())
def test_an_example_gives_what_it_shows(
    module: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    home = importlib.import_module(f"survey_jax.survey.{module}")
    finder = doctest.DocTestFinder(recurse=False)
    runner = doctest.DocTestRunner()
    for test in finder.find(
        getattr(home, name) if name else home, name or module, module=False, globs=dict(vars(home))
    ):
        runner.run(test)
    assert runner.summarize(verbose=False) == (0, runner.tries)
    assert runner.tries


def test_public_functions_have_an_example() -> None:
    assert {(module, name) for module, names in PUBLIC.items() for name in names} <= set(examples())
