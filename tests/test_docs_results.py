"""What docs/results.md shows runs as written, on files that an evaluation writes."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import made_scores
from places import ROOT
from survey_jax.survey.evaluation import metrics, paired
from survey_jax.survey.evaluation.scoring import SplitScore, write_predictions
from survey_jax.survey.report.files import write_long_predictions
from survey_jax.survey.table import DEMO, read_table

PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


def blocks(language: str) -> str:
    found = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found
    return "\n".join(found)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With the files of an evaluation of 19 rows of the demo; in one row the model failed."""
    answers = read_table(DEMO)[::600]
    model = made_scores.noisy(answers, 0.3)
    model[3] = np.nan
    filled, failed = paired.without_failures(answers, model)[0], np.arange(len(answers)) == 3
    orders, rows = [range(len(a.options)) for a in answers], metrics.row_metrics(answers, filled)
    split = SplitScore("unseen_question", answers, filled, failed, rows, {}, [], orders)
    write_predictions([split], tmp_path / "predictions.parquet")
    for ending in ("csv", "sav", "dta", "long.parquet"):
        write_long_predictions([split], tmp_path / f"predictions.{ending}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_python(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found: dict = {}
    exec(blocks("python"), found)
    printed = capsys.readouterr().out
    assert "Share that the language model alone predicts" in printed
    assert len(found["lines"]) == len(pd.read_csv("predictions.csv"))
    assert {"Yes", "No"} & set(found["lines"]["options"])


@pytest.mark.skipif(shutil.which("Rscript") is None, reason="R is not installed (apt-get install r-base-core)")
def test_r(folder: Path) -> None:
    if subprocess.run(["Rscript", "-e", "library(haven)"], capture_output=True, check=False).returncode:
        pytest.skip("R has no haven (apt-get install r-cran-haven)")
    lines = pd.read_csv("predictions.csv")
    done = subprocess.run(["Rscript", "-"], input=blocks("r"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Share that the language model alone predicts" in done.stdout
    off = (lines["predicted"] - lines["human"]).abs().mean()
    assert done.stdout.count(f"{off:.7g}") == 2  # from SPSS's file and from CSV
    by_scale = lines["scale"].value_counts()
    shown = re.search(r"nominal +ordinal\s+(\d+) +(\d+)", done.stdout)
    assert shown is not None
    assert [int(shown[1]), int(shown[2])] == [by_scale.get("nominal", 0), by_scale.get("ordinal", 0)]
