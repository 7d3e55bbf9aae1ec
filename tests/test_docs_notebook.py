"""docs/example.ipynb from its first cell to its last, with a tiny model in place of the demo's."""

import re
import subprocess
import sys

import pytest

import tiny
from places import ROOT
from survey_jax.survey.table import DEMO, read_table, write_table

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("notebook")
    by_age = ({"country", "year"}, {"age", "country", "year"})
    rows = [row for row in read_table(DEMO) if row.question_id.startswith("gss_nat") and set(dict(row.group)) in by_age]
    write_table(rows, folder / "spending.parquet")
    model = tiny.write_model(folder / "model")
    held_out = "SplitConfig(unseen_question_fraction=0.2, valid_question_fraction=0.2)"
    config = tiny.write_config(
        folder, model, folder / "spending.parquet", data__splits=held_out, optim__steps="2", run__eval_every="2"
    )
    command = [sys.executable, "-m", "survey_jax.train", f"--config={config}", "--workdir=checkpoints/demo"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    opened = nbformat.read(ROOT / "docs" / "example.ipynb", as_version=4)
    nbclient.NotebookClient(opened, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return opened


def results(notebook) -> list[str]:
    """What each cell of code shows."""
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    return ["".join(o.get("text", "") + o.get("data", {}).get("text/plain", "") for o in shown) for shown in outputs]


def test_it_predicts_with_intervals(notebook) -> None:
    shown = results(notebook)
    ages = ("18-29", "30-44", "45-64", "65 or older")
    (forecasts,) = [text for text in shown if "worth interviews" in text]
    assert all(age in forecasts for age in ages)
    (apart,) = [text for text in shown if "in points:" in text]
    points = [[float(n) for n in re.findall(r"[+-]\d+\.\d", line)] for line in apart.splitlines()[1:]]
    assert len(points) == 3
    assert sum(middle for middle, _, _ in points) == pytest.approx(0, abs=0.2)
    assert all(low < middle < high for middle, low, high in points)


def test_its_pictures_are_drawn(notebook) -> None:
    pictures = [
        o for c in notebook.cells if c.cell_type == "code" for o in c.outputs if "image/png" in o.get("data", {})
    ]
    assert len(pictures) == 2
