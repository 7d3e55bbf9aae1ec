"""Predicts what groups would answer to questions that nobody has asked them, and how far that may be from the truth.

    python -m survey_jax.predict --workdir=RUN --questions=FILE --groups=FILE --output=FILE

Questions: a .csv, .jsonl, .json or .yaml file with texts and options. Groups: a .csv, .jsonl or .json file, "train" for
all of the training data, an attribute such as "country" for each of its values, or "country x age" for each pair.
Writes FILE (.csv, .parquet or .sav; a line an option) and a page beside it, FILE with the ending .html; both are
explained in docs/prediction.md.
"""

import datetime
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from survey_jax import cli
from survey_jax.common.console import say
from survey_jax.common.errors import plural
from survey_jax.common.files import atomic_write
from survey_jax.inference.loaded_run import LoadedRun
from survey_jax.parallel.distributed import use_compilation_cache
from survey_jax.survey.prediction.forecast import Forecast
from survey_jax.survey.prediction.groups import ask, read_groups
from survey_jax.survey.prediction.output import check_output, write_forecasts
from survey_jax.survey.prediction.questions import read_questions
from survey_jax.survey.report.forecast_page import MODEL, ForecastFacts, render
from survey_jax.survey.splits.config import TRAIN

WORKDIR = flags.DEFINE_string("workdir", None, "The run to predict with.", required=True)
STEP = flags.DEFINE_string("step", "best", "Which checkpoint: best (on the validation split), last, or a step.")
QUESTIONS = flags.DEFINE_string("questions", None, "File of questions.", required=True)
GROUPS = flags.DEFINE_string("groups", TRAIN, 'File of groups, "train", or attributes such as "country x age".')
OUTPUT = flags.DEFINE_string("output", None, "Where predictions go: .csv, .parquet or .sav.", required=True)
EXPLORE = flags.DEFINE_bool("explore", False, "Let the page compare groups that its reader chooses.")


def main() -> None:
    # ------------------------------------------------- what is asked, and of whom
    output = Path(OUTPUT.value)
    check_output(output)
    questions = read_questions(QUESTIONS.value)
    run = LoadedRun(WORKDIR.value, STEP.value)
    use_compilation_cache(run.config)
    train = run.splits.rows[TRAIN]
    groups, remarks = read_groups(GROUPS.value, [a.group for a in train])
    for remark in remarks:
        say(f"note: {remark}")
    answers = ask(questions, groups)
    asked, whom, cells = plural(len(questions), "question"), plural(len(groups), "group"), len(answers)
    say(f"{asked} put to {whom}: {plural(cells, 'prediction')}")
    run.check(answers)

    # ------------------------------------------------------------------ predict
    forecasts = run.predict(answers)
    say(run.forecaster.text())
    for caution, count in Counter(c for f in forecasts for c in f.cautions).most_common(5):
        say(f"caution: {caution} ({count} of {plural(cells, 'prediction')})")
    misplaced, worth = (np.median([getattr(f, name) for f in forecasts]) for name in ("misplaced", "concentration"))
    say(f"of 100 answers, {misplaced:.0f} are likely misplaced; a prediction is worth {worth:.0f} interviews (medians)")

    # -------------------------------------------------------------------- write
    write_forecasts(forecasts, output)
    page = output.with_suffix(".html")
    with atomic_write(page) as partial:
        partial.write_text(render(forecasts, facts(run, forecasts, remarks), EXPLORE.value), encoding="utf-8")
    say(f"results: {output}, {page}")


def facts(run: LoadedRun, forecasts: Sequence[Forecast], remarks: Sequence[str]) -> ForecastFacts:
    """What the page says of the run."""
    train = run.splits.rows[TRAIN]
    stacks = {kind: run.forecaster.stacks[kind] for kind in dict.fromkeys(f.kind for f in forecasts)}
    nothing = "here the language model adds nothing to the rules"
    return ForecastFacts(
        model=run.config.model.weights,
        checkpoint=f"{WORKDIR.value} step {run.step} ({STEP.value})",
        trained_questions=len({a.question_key for a in train}),
        trained_groups=len({a.group for a in train}),
        surveys=sorted({a.survey for a in train}),
        date=datetime.date.today().isoformat(),
        remarks=tuple(remarks),
        weights={kind: run.forecaster.weights(kind) for kind in stacks},
        model_adds={kind: "" if stack.members.weights[MODEL] else nothing for kind, stack in stacks.items()},
    )


if __name__ == "__main__":
    cli.run(main)
