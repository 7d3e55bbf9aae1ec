"""Predicts what groups would answer to questions that nobody has asked them, and how far that may be from the truth.

    python -m survey_jax.predict --workdir=RUN --questions=FILE --groups=FILE --output=FILE

Questions: a .csv, .jsonl, .json or .yaml file with texts and options. Groups: a .csv, .jsonl or .json file, "train" for
all of the training data, an attribute such as "country" for each of its values, or "country x age" for each pair.
Writes FILE (.csv, .parquet, .sav or .dta; a line an option) and a page beside it, FILE with the ending .html; both are
explained in docs/prediction.md. What --answers, --rectify, --design and --seal do: docs/human_answers.md.
"""

import datetime
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from etils import epath

from survey_jax import cli
from survey_jax.common.console import say
from survey_jax.common.errors import UserError, plural
from survey_jax.common.files import check_file, write_text
from survey_jax.inference.asking import MAX_ORDERS, Asking
from survey_jax.inference.loaded_run import LoadedRun
from survey_jax.parallel.distributed import use_compilation_cache
from survey_jax.survey.long_form import check_output
from survey_jax.survey.prediction.cells import Cells
from survey_jax.survey.prediction.design import design_text
from survey_jax.survey.prediction.forecast import Forecast
from survey_jax.survey.prediction.groups import ask, read_groups, read_people
from survey_jax.survey.prediction.output import write_forecasts
from survey_jax.survey.prediction.population import Sample, check_unseen, estimates_text, write_estimates
from survey_jax.survey.prediction.questions import read_questions
from survey_jax.survey.prediction.seal import registration, seal, write_seal
from survey_jax.survey.prediction.update import update
from survey_jax.survey.report.forecast_page import ForecastFacts, render
from survey_jax.survey.splits.config import TRAIN, VALID
from survey_jax.survey.table import read_table

WORKDIR = flags.DEFINE_string("workdir", None, "The run to predict with.", required=True)
STEP = flags.DEFINE_string("step", "best", "Which checkpoint: best (on the validation split), last, or a step.")
QUESTIONS = flags.DEFINE_string("questions", None, "File of questions.", required=True)
GROUPS = flags.DEFINE_string("groups", TRAIN, 'File of groups, "train", or attributes such as "country x age".')
OUTPUT = flags.DEFINE_string("output", None, "Where predictions go: .csv, .parquet, .sav or .dta.", required=True)
ORDERS = flags.DEFINE_integer(
    "orders", 1, "In how many orders of the options to ask the language model; averaged.", 1, MAX_ORDERS
)
TEMPLATES = flags.DEFINE_list("templates", [], "Templates to ask it in beside the run's own; averaged.")
ANSWERS = flags.DEFINE_string("answers", None, "A survey table: what some of the groups have answered already.")
RECTIFY = flags.DEFINE_string(
    "rectify", None, "A survey table of a sample of the whole population: writes what the population answers."
)
DESIGN = flags.DEFINE_integer(
    "design", None, "Say of whom to ask so many interviews, and what is needed.", lower_bound=1
)
SEAL = flags.DEFINE_bool("seal", False, "Write a digest of the predictions, to publish before anybody is asked.")
EXPLORE = flags.DEFINE_bool("explore", False, "Let the page compare groups that its reader chooses.")


def main() -> None:
    cli.hide_torch()
    # ------------------------------------------------- what is asked, and of whom
    output = Path(OUTPUT.value)
    check_output(output, "forecasts")
    page, sealed, form = (
        epath.Path(output.with_suffix(ending)) for ending in (".html", ".seal.json", ".registration.txt")
    )
    for file in (output, page, *([sealed, form] if SEAL.value else [])):
        check_file(str(file), "--output")
    if SEAL.value and sealed.exists():
        raise UserError(f"{sealed}: is there already, and a seal is not replaced; give another --output")
    human, interviews = (read_table(file.value) if file.value else [] for file in (ANSWERS, RECTIFY))
    people = read_people(GROUPS.value) if interviews else []
    questions = read_questions(QUESTIONS.value)
    run = LoadedRun(WORKDIR.value, STEP.value, Asking(ORDERS.value, tuple(TEMPLATES.value)))
    use_compilation_cache(run.config)
    train = run.splits.rows[TRAIN]
    groups, remarks = read_groups(GROUPS.value, [a.group for a in train])
    for remark in remarks:
        say(f"note: {remark}")
    answers = ask(questions, groups)
    asked, whom, cells = plural(len(questions), "question"), plural(len(groups), "group"), len(answers)
    say(f"{asked} put to {whom}: {plural(cells, 'prediction')}")
    run.check(answers)
    Cells(answers).places(human)  # refuses answers that belong to nothing asked, before long work
    sample = Sample(interviews, answers, people * len(questions)) if interviews else None
    if sample is not None:
        check_unseen(interviews, human, "--answers")
        check_unseen(interviews, [*train, *run.splits.rows.get(VALID, [])], "the run's tables")

    # ------------------------------------------------------------------ predict
    if asked_in := run.asking.text():
        remarks = [*remarks, f"The language model's part is the mean over {asked_in}."]
    forecasts = run.predict(answers)
    say(run.forecaster.text())
    if human:
        forecasts = update(forecasts, human)
        remarks = [*remarks, f"Answers of {plural(len(human), 'row')} of {ANSWERS.value} are part of the predictions."]
    for caution, count in Counter(c for f in forecasts for c in f.cautions).most_common(5):
        say(f"caution: {caution} ({count} of {plural(cells, 'prediction')})")
    misplaced, worth = (np.median([getattr(f, name) for f in forecasts]) for name in ("misplaced", "concentration"))
    say(f"of 100 answers, {misplaced:.0f} are likely misplaced; a prediction is worth {worth:.0f} interviews (medians)")

    # -------------------------------------------------------------------- write
    write_forecasts(forecasts, output)
    write_text(page, render(forecasts, facts(run, forecasts, remarks), EXPLORE.value))
    written = [output, page]
    if sample is not None:
        written.append(population(sample, forecasts, output.with_suffix(".population.csv")))
    if DESIGN.value:
        say(design_text(forecasts, DESIGN.value))
    if SEAL.value:
        content = seal(forecasts, recorded(run))
        write_seal(content, Path(sealed))
        write_text(form, registration(content["facts"] | {key: content[key] for key in ("sealed", "sha256")}))
        written += [sealed, form]
        say(f"sealed: SHA-256 {content['sha256']}")
    say(f"results: {', '.join(map(str, written))}")


def population(sample: Sample, forecasts: Sequence[Forecast], file: Path) -> Path:
    """Writes and says what the population answers to the questions of a sample."""
    estimates = sample.estimates(forecasts)
    for caution in sample.cautions():
        say(f"caution: {caution}")
    say(estimates_text(estimates))
    write_estimates(estimates, file)
    return file


def recorded(run: LoadedRun) -> dict[str, Any]:
    """What a seal says of the run: its manifest, and how it was asked."""
    data = ", ".join(sorted({a.survey for a in run.splits.rows[TRAIN]}))
    asked = {"checkpoint": f"step {run.step}", "stack": run.forecaster.text(), "prompts": run.config.data.template}
    asked["prompts"] += f", mean over {run.asking.text()}" if run.asking.text() else ""
    return run.manifest | asked | {"data": data, "human_answers": ANSWERS.value or "none", "sampling": "none"}


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
        model_adds={kind: "" if stack.model_adds else nothing for kind, stack in stacks.items()},
    )


if __name__ == "__main__":
    cli.run(main)
