"""From how many training questions on does a language model pay? Rules, model and stack, by the number of questions.

    python -m benchmarks.learning_curve --data=FOLDER [--sizes=50,150,500,1500,0] [--seeds=1] [--workdir=FOLDER]

FOLDER holds survey tables of the World Values Survey (`wvs7_country`), Pew Global Attitudes (`pew_global_rest`, and
`pew_global_sample` to hold out), the General Social Survey (`gss_us_by_year`) and the European Social Survey (`ess`),
each as .jsonl.gz. The last is the unseen survey; of the others, new questions are held out. Near-duplicates of any
training question are taken out of what is held out. Sizes are numbers of training questions (0: all), nested: each
training set holds the smaller ones. All are scored on the same rows. A training that is finished is not repeated.
Writes benchmarks/results/learning_curve.json, which benchmarks/learning_curve_plot.py draws.
"""

import json
import operator
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from survey_jax import cli
from survey_jax.common.console import say
from survey_jax.survey.splits.config import TRAIN, UNSEEN_QUESTION, UNSEEN_SURVEY, VALID
from survey_jax.survey.splits.near_duplicates import NearDuplicates
from survey_jax.survey.table import Answer, read_table, write_table

DATA = flags.DEFINE_string("data", None, "Folder of survey tables.", required=True)
SIZES = flags.DEFINE_list("sizes", ["50", "150", "500", "1500", "0"], "Numbers of training questions; 0: all.")
SEEDS = flags.DEFINE_integer("seeds", 1, "Trainings of each size.")
WORKDIR = flags.DEFINE_string("workdir", "checkpoints/learning_curve", "Where tables and trainings go.")
RESULT = flags.DEFINE_string("results", "benchmarks/results/learning_curve.json", "Where figures go.")

NEW_QUESTIONS = {"wvs7_country": 40, "gss_us_by_year": 200}  # to test on, drawn; of Pew it is the sample
VALID_QUESTIONS = {"wvs7_country": 30, "gss_us_by_year": 60, "pew_global_rest": 60}
MOST_ROWS = {VALID: 120, UNSEEN_QUESTION: 200, UNSEEN_SURVEY: 500}  # of a survey
QUESTIONS_A_STEP = 14  # about, of rows of 4 x 512 tokens
# Epochs by size: a small set is seen more often. The best checkpoint is chosen on valid. The largest set is seen by
# adapters that leave out a tenth of their ranks in every step, so that it can be seen more often than once or twice.
EPOCHS = {50: 8, 150: 6, 500: 3, 1500: 2, 0: 3}
DROPOUT = {0: 0.1}
Rows = list[Answer]


def main() -> None:
    folder = Path(WORKDIR.value)
    folder.mkdir(parents=True, exist_ok=True)
    parts = tables(Path(DATA.value))
    trained: dict[str, Any] = {}
    for seed in range(SEEDS.value):
        for size in map(int, SIZES.value):
            train = nested(parts[TRAIN], size)
            questions = len({a.question_key for a in train})
            run = folder / f"questions_{questions}_seed_{seed}"
            table = folder / f"questions_{questions}.parquet"
            if not table.exists():
                write_table([_marked(a, part) for part, rows in (parts | {TRAIN: train}).items() for a in rows], table)
            epoch = max(questions // QUESTIONS_A_STEP, 4)
            steps = EPOCHS.get(size, 3) * epoch
            evaluate = max(epoch // 2, 4)
            arguments = f"{table},{steps},{evaluate},{seed},{DROPOUT.get(size, 0.0)}"
            say(f"{questions} questions, {len(train)} rows, seed {seed}: {steps} steps")
            _run("survey_jax.train", f"--config=benchmarks/learning_curve_config.py:{arguments}", f"--workdir={run}")
            evaluations = folder / "eval"  # one for all, so that the base model predicts once
            _run("survey_jax.eval", f"--workdir={run}", f"--output={evaluations}", f"--name={run.name}", "--controls=")
            trained[run.name] = {
                "questions": questions, "rows": len(train), "seed": seed,
                "splits": json.loads((evaluations / run.name / "metrics.json").read_text())["splits"],
            }  # fmt: skip
            Path(RESULT.value).parent.mkdir(parents=True, exist_ok=True)
            Path(RESULT.value).write_text(json.dumps(trained, indent=1))
    say(f"results: {RESULT.value}")


def tables(folder: Path) -> dict[str, Rows]:
    """All rows by part; what is held out has no near-duplicate in train, and is cut to the most rows of a survey."""
    pew = {q: _read(folder, q) for q in ("pew_global_rest", "pew_global_sample")}
    parts: dict[str, Rows] = {TRAIN: [], VALID: [], UNSEEN_QUESTION: pew["pew_global_sample"], UNSEEN_SURVEY: []}
    parts[UNSEEN_SURVEY] = _read(folder, "ess")
    for name in ("wvs7_country", "gss_us_by_year", "pew_global_rest"):
        rows = pew[name] if name in pew else _read(folder, name)
        order = _shuffled({a.question_id for a in rows})
        new, valid = NEW_QUESTIONS.get(name, 0), VALID_QUESTIONS[name]
        place = dict.fromkeys(order[:new], UNSEEN_QUESTION) | dict.fromkeys(order[new : new + valid], VALID)
        for answer in rows:
            parts[place.get(answer.question_id, TRAIN)].append(answer)
    duplicates = NearDuplicates(parts)
    for part, most in MOST_ROWS.items():
        distinct = [a for a, leaks in zip(parts[part], duplicates.leaked_rows(part), strict=True) if not leaks]
        say(f"{part}: {len(parts[part]) - len(distinct)} of {len(parts[part])} rows ask what train nearly asks")
        parts[part] = _cut(distinct, most)
    return parts


def nested(train: Rows, size: int) -> Rows:
    """The rows of so many questions, drawn by seed: a larger size adds to a smaller one. 0: all."""
    order = _shuffled({a.question_key for a in train})
    chosen = set(order[: size or len(order)])
    return [a for a in train if a.question_key in chosen]


def _read(folder: Path, name: str) -> Rows:
    """A table's rows, less those whose question names one country's leaders for all countries."""
    return [a for a in read_table(folder / f"{name}.jsonl.gz") if not a.extra.get("country_specific_label")]


def _marked(answer: Answer, part: str) -> Answer:
    return replace(answer, extra={"part": part})


def _shuffled(names: set[Any]) -> list[Any]:
    order = sorted(names)
    return [order[i] for i in np.random.default_rng(0).permutation(len(order))]


def _cut(rows: Rows, most: int) -> Rows:
    """At most so many rows of each survey: from each question one in turn."""
    by_survey: dict[str, dict[Any, Rows]] = defaultdict(lambda: defaultdict(list))
    for row in np.random.default_rng(1).permutation(len(rows)).tolist():
        by_survey[rows[row].survey][rows[row].question_key].append(rows[row])
    kept = []
    for questions in by_survey.values():
        turns = [(turn, a) for own in questions.values() for turn, a in enumerate(own)]
        kept += [a for _, a in sorted(turns, key=operator.itemgetter(0))[:most]]
    return kept


def _run(*command: str) -> None:
    subprocess.run([sys.executable, "-m", *command], check=True)


if __name__ == "__main__":
    cli.run(main)
