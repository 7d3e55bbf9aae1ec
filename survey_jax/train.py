"""Fine-tunes a language model on a survey table.

    python -m survey_jax.train --config=configs/demo.py [--config.optim.lr=1e-4 ...] [--workdir=DIR]

The same command again resumes where the last checkpoint left off.
"""

import math
import textwrap
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from survey_jax import cli, explain
from survey_jax.assemble import Predictor, Task, build_model, build_task, make_prompter
from survey_jax.checkpoint import TEMPERATURE, TRAINING_SET, Checkpoints, check_identity
from survey_jax.errors import UserError
from survey_jax.input import Batches, prefetch, to_device
from survey_jax.model.weights import open_pretrained
from survey_jax.objective import compiled_train_step
from survey_jax.optim import init_optimizer, make_optimizer, make_schedule
from survey_jax.parity import report_parity
from survey_jax.runlog import RunLog, check_workdir, record_start, say, start_jax, write_json
from survey_jax.survey import metrics
from survey_jax.survey.calibration import BOUNDS, fit_temperature, with_temperature
from survey_jax.survey.splits import TRAIN, VALID, counts_table, fingerprint, held_out

CONFIG = cli.define_config(required=True)
LETTER_MASS_WARNING = 0.01
WORKDIR = flags.DEFINE_string("workdir", None, "Where the run is kept; default checkpoints/<config name>.")
EXPLAIN = flags.DEFINE_bool("explain_sharding", False, "Print where every parameter lies and what it takes.")


def main() -> None:
    # ------------------------------------------------------------------ config
    config = cli.read_config(CONFIG)
    if config.optim.loss == "wasserstein" and config.data.option_order == "shuffled":
        raise UserError(
            "config.optim.loss = 'wasserstein' goes by the order of the letters, and config.data.option_order = "
            "'shuffled' gives letters no order; change one of them"
        )
    workdir = Path(WORKDIR.value) if WORKDIR.value else cli.default_workdir()
    start_jax(config)

    # -------------------------------------------------------------------- data
    say("data")
    pretrained = open_pretrained(config.model.weights, config.model.revision)
    task = build_task(config, make_prompter(config, pretrained.tokenizer()))
    say(counts_table(task.splits))
    if VALID not in task.prompts:
        raise UserError("config.data.splits: no validation rows to choose the best checkpoint by; set a valid_* field")
    first = task.prompter.text(task.prompts[TRAIN][0].answer)
    say("a prompt; its answer is the next letter:\n" + textwrap.indent(first, "    | ", lambda line: True))

    # ------------------------------------------------------------------- model
    say(f"model {config.model.weights}")
    model = build_model(config, pretrained, task)
    b = config.batch
    batches = Batches(
        task.prompts[TRAIN],
        model.shape,
        groups=b.groups,
        question_answers=b.question_answers,
        microbatches=b.microbatches,
        seed=config.run.seed,
    )
    say(batches.report())
    optimizer = make_optimizer(config.optim)
    train = model.train
    opt_state = init_optimizer(optimizer, train, model.mesh)
    if EXPLAIN.value:
        say(explain.text(explain.layouts(train, opt_state, model.frozen, model.mesh)))
    frozen = sum(x.nbytes for x in jax.tree.leaves(model.frozen)) / 1e9
    say(f"{_count(train):,} trained parameters beside {frozen:.2f} GB of frozen ones on {dict(model.mesh.shape)}")
    if config.model.check_parity:
        report_parity(pretrained, model, task, exact=not config.model.quantize)

    # -------------------------------------------------------- resume or begin
    identity = {
        "base model": pretrained.fingerprint(config.model.quantize),
        TRAINING_SET: fingerprint(task.splits.rows[TRAIN]),
        "validation set": fingerprint(task.splits.rows[VALID]),
        "set of prompts or batches": batches.fingerprint(),
        "set of trained weights": f"rank {config.lora.rank}: {', '.join(config.lora.projections)}",
    }
    check_workdir(workdir, config, identity)
    checkpoints = Checkpoints(workdir, config.run.keep)
    start = checkpoints.latest() or 0
    if start >= config.optim.steps:
        checkpoints.close()
        say(f"nothing to train: {workdir} is at step {start} of {config.optim.steps}")
        return
    if start:
        check_identity(checkpoints.identity(start), identity, workdir)
        train, opt_state = checkpoints.restore_parameters(start, train), checkpoints.restore_optimizer(start, opt_state)
        say(f"resumed at step {start}")
    record_start(workdir, config, identity, pretrained.commit)
    write_json(workdir / "splits.json", held_out(task.splits))
    log = RunLog(workdir, start, config.optim.steps)

    # ----------------------------------------------------------------- compile
    predictor = Predictor(model, task.letters)
    step_fn = compiled_train_step(model.forward, optimizer, train, opt_state)
    if not start:
        say_letter_mass(predictor.letter_mass(train, task.prompts[TRAIN]))

    # -------------------------------------------------------------------- loop
    # Order matters: step, log, evaluate, save. A checkpoint at step n is the state after n steps, so resuming at n
    # continues with batch n.
    schedule = make_schedule(config.optim)
    for step, batch in prefetch(batches, start, config.optim.steps):
        train, opt_state, measured = step_fn(
            model.graphdef, train, opt_state, model.frozen, to_device(batch, model.mesh, True), task.letters
        )
        loss, norm = float(measured["loss"]), float(measured["grad_norm"])
        stop_if_broken(loss, norm, step, batch, task)
        done = step + 1
        saves = done % config.run.eval_every == 0 or done == config.optim.steps
        log.step(done, loss, norm, float(schedule(step)), int((batch["weight"] > 0).sum()))
        if saves or done % config.run.log_every == 0:
            log.flush()
        if saves:
            scores = evaluate(predictor, train, task, VALID, config.run.calibrate)
            log.evaluation(done, VALID, scores)
            checkpoints.save(done, train, opt_state, identity, scores)

    # ------------------------------------------------------------------ finish
    checkpoints.close()
    log.close()
    say(f"done: {workdir} (evaluate with: python -m survey_jax.eval --workdir={workdir})")


def evaluate(predictor: Predictor, train: Any, task: Task, name: str, calibrate: bool) -> dict[str, float]:
    """Mean of every metric on a split, over rows and by question, at the temperature that suits it best, or at 1."""
    prompts = task.prompts[name]
    answers = [p.answer for p in prompts]
    predictions = predictor(train, prompts, f"evaluating {name}")
    temperature = fit_temperature(answers, predictions) if calibrate else 1.0
    if temperature > 0.9 * BOUNDS[1]:
        say(
            f"warning: temperature {temperature:.2f}, {name} asks for nearly uniform predictions: if what you want to "
            "predict is not like it, set config.run.calibrate to False"
        )
    rows = metrics.row_metrics(answers, with_temperature(predictions, temperature))
    means = {metric: entry["value"] for metric, entry in metrics.summarise(answers, rows, samples=0).items()}
    return means | {TEMPERATURE: temperature}


def say_letter_mass(mass: float) -> None:
    """How much of the next token's probability the option letters hold; little of it means a misunderstood prompt."""
    say(f"letters hold {mass:.2%} of the base model's next-token probability")
    if mass < LETTER_MASS_WARNING:
        say("warning: under 1 %, the model does not see that a letter is asked for; try another data.template or chat")


def stop_if_broken(loss: float, norm: float, step: int, batch: dict[str, np.ndarray], task: Task) -> None:
    """A loss or gradient that is not finite ends the run before it reaches a checkpoint."""
    if math.isfinite(loss) and math.isfinite(norm):
        return
    indices = np.unique(batch["prompt"][batch["prompt"] >= 0])
    ids = sorted({"/".join(task.prompts[TRAIN][i].answer.question_key) for i in indices})
    raise UserError(
        f"step {step + 1}: loss {loss}, gradient norm {norm}; the last checkpoint is intact. Lower config.optim.lr or "
        f"check these questions: {', '.join(ids)}"
    )


def _count(state: Any) -> int:
    return sum(x.size for x in jax.tree.leaves(state))


if __name__ == "__main__":
    cli.run(main)
