"""How long predictions take, and what takes the time: 100 questions put to 100 countries.

    python -m benchmarks.predict_cells [--workdir=RUN] [--questions=100] [--groups=country]

RUN: any run; by default one of two steps on the demo's table, which is trained first and knows nothing. The questions
are those of the demo's table, reworded so that nobody has answered them. The stack's weights are fitted before the
clock starts, and the language model then gets half of them, so that it is asked whatever it learned. Prints cells,
seconds, cells a second and parts, and writes benchmarks/results/predict_cells.json. "cpu" is user and system time of
the process, all threads together, which on a shared machine tells more than the wall clock.
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags

from survey_jax import cli
from survey_jax.inference.loaded_run import LoadedRun
from survey_jax.inference.predictor import Predictor
from survey_jax.inputs.prompts import Prompter
from survey_jax.parallel.distributed import use_compilation_cache
from survey_jax.survey.prediction import forecaster
from survey_jax.survey.prediction.groups import ask, read_groups
from survey_jax.survey.prediction.output import write_forecasts
from survey_jax.survey.prediction.pool import equal
from survey_jax.survey.prediction.questions import Question
from survey_jax.survey.prediction.similar import Similarity
from survey_jax.survey.prediction.stack import MODEL, RULES, Stack
from survey_jax.survey.report.forecast_page import ForecastFacts, render
from survey_jax.survey.splits.config import TRAIN
from survey_jax.survey.table import DEMO, read_table

WORKDIR = flags.DEFINE_string("workdir", None, "The run; by default two steps are trained.")
QUESTIONS = flags.DEFINE_integer("questions", 100, "How many questions, of up to 161.", lower_bound=1)
GROUPS = flags.DEFINE_string("groups", "country", "Attributes, or a file of groups.")
RESULT = Path("benchmarks/results/predict_cells.json")
STEPS = ("--config.optim.steps=2", "--config.optim.warmup=1", "--config.run.eval_every=2")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        workdir = WORKDIR.value or trained(folder)
        fitted(workdir)
        result = measured(workdir, Path(folder))
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    seconds = f"{result['wall']:.0f} s (cpu {result['cpu']:.0f} s)"
    print(f"{result['cells']:,} cells in {seconds}: {result['cells_per_second']:.0f} a second")
    for part, times in result["parts"].items():
        print(f"  {part}: {times['wall']:.1f} s (cpu {times['cpu']:.1f} s)")


def trained(folder: str) -> str:
    workdir = f"{folder}/run"
    command = [sys.executable, "-m", "survey_jax.train", "--config=configs/demo.py", f"--workdir={workdir}", *STEPS]
    subprocess.run(command, check=True)
    return workdir


def asked(run: LoadedRun, count: int) -> list[Any]:
    known = {a.question_key: a for a in read_table(DEMO)}
    questions = [
        Question(f"new {number}", f"{a.question} And in ten years?", a.options, a.scale)  # type: ignore[arg-type]
        for number, a in enumerate(list(known.values())[:count])
    ]
    return ask(questions, read_groups(GROUPS.value, [a.group for a in run.splits.rows[TRAIN]])[0])


def fitted(workdir: str) -> None:
    """Fits the stack's weights, once for a run."""
    run = LoadedRun(workdir, "best")
    use_compilation_cache(run.config)
    run.predict(asked(run, 1)[:1])


def clocks() -> dict[str, float]:
    """Seconds on the wall, and of all the process's threads."""
    return {"wall": time.monotonic(), "cpu": time.process_time()}


def measured(workdir: str, folder: Path) -> dict[str, Any]:
    """What `survey_jax.predict` does, but for imports, in parts."""
    parts: dict[str, dict[str, float]] = {}

    def timed(part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*arguments: Any, **more: Any) -> Any:
            began = clocks()
            try:
                return call(*arguments, **more)
            finally:
                own = parts.setdefault(part, dict.fromkeys(began, 0.0))
                for clock, now in clocks().items():
                    own[clock] += now - began[clock]

        return inner

    Prompter.tokenise = timed("tokens", Prompter.tokenise)  # type: ignore[method-assign]
    Predictor.__call__ = timed("language model, without loading", Predictor.__call__)  # type: ignore[method-assign]
    Stack.predict = timed("pooling", Stack.predict)  # type: ignore[method-assign]
    for method in ("features", "questions", "cautions"):
        setattr(Similarity, method, timed("similar questions", getattr(Similarity, method)))
    forecaster.MEMBERS = {rule: timed(f"rule {rule}", call) for rule, call in forecaster.MEMBERS.items()}
    began = clocks()
    run = timed("opening the run", LoadedRun)(workdir, "best")
    timed("tables and splits", lambda: run.splits)()
    answers = asked(run, QUESTIONS.value)
    run.forecaster.stacks = {
        kind: dataclasses.replace(stack, members=equal((RULES, MODEL))) for kind, stack in run.forecaster.stacks.items()
    }
    forecasts = timed("predicting, in all", run.predict)(answers)
    timed("table", write_forecasts)(forecasts, folder / "out.csv")
    weights = {kind: run.forecaster.weights(kind) for kind in {f.kind for f in forecasts}}
    facts = ForecastFacts(run.config.model.weights, "", 0, 0, [], "", (), weights, dict.fromkeys(weights, ""))
    timed("page", render)(forecasts, facts, False)
    whole = {clock: now - began[clock] for clock, now in clocks().items()}
    return {
        "cells": len(answers),
        "cells_per_second": len(answers) / whole["wall"],
        **whole,
        "parts": parts,
        "load_average": os.getloadavg(),
    }


if __name__ == "__main__":
    cli.run(main)
