"""Fine-tunes a language model on a survey table.

    python -m survey_jax.train --config=configs/demo.py [--config.optim.lr=1e-4 ...] [--workdir=DIR]

The same command again resumes where the last checkpoint left off. With --dry_run it says what it would do: splits, a
prompt of each with its tokens, steps an epoch, memory.
"""

import dataclasses
import itertools
import json
import math
import textwrap
import time
from collections.abc import Sequence
from typing import Any, NoReturn

import jax
import numpy as np
from absl import flags
from etils import epath

from survey_jax import cli
from survey_jax.checkpointing.lock import Lock, only_training
from survey_jax.checkpointing.manager import METRIC, TEMPERATURE, TOKENIZER, TRAINING_SET, Checkpoints
from survey_jax.common.console import say
from survey_jax.common.errors import Stopped, UserError, plural
from survey_jax.common.files import open_workdir, write_json
from survey_jax.config import Config
from survey_jax.inference.parity import report_parity
from survey_jax.inference.predictor import Predictor
from survey_jax.inputs.batches import Batches, local_rows, on_every_device, prefetch, to_device
from survey_jax.inputs.prompts import with_prior
from survey_jax.inputs.task import Task, build_task, make_batches, make_prompter, open_tokenizer, steps_of
from survey_jax.inputs.trees import Batch
from survey_jax.parallel import distributed, sharding_table
from survey_jax.parallel.distributed import use_compilation_cache
from survey_jax.pretrained.open import Pretrained, open_pretrained
from survey_jax.survey.evaluation import metrics
from survey_jax.survey.evaluation.calibration import BOUNDS, calibrate, fit_calibration
from survey_jax.survey.splits.kinds import kinds
from survey_jax.survey.splits.split import TRAIN, VALID, counts_table, fingerprint, held_out
from survey_jax.survey.table import Answer
from survey_jax.telemetry.clock import CHECKPOINT, COMPUTE, DATA, EVALUATION, Clock
from survey_jax.telemetry.manifest import (
    check_workdir,
    record_start,
    seed_folder,
    seed_folders,
    shared_settings,
    with_chat_date,
)
from survey_jax.telemetry.metric_writers import check_metric_writers
from survey_jax.telemetry.profiler import Profile
from survey_jax.telemetry.run_log import RunLog, check_log
from survey_jax.training.build import Model, build_model
from survey_jax.training.optimizer import init_optimizer
from survey_jax.training.rehearsal import rehearse
from survey_jax.training.speed import peak_flops, useful_flops
from survey_jax.training.step import TrainState, compiled_train_step

CONFIG = cli.define_config(required=True)
LETTER_MASS_WARNING = 0.01
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run; default checkpoints/<config name>[_<its arguments>]."
)
SEEDS = flags.DEFINE_integer(
    "seeds", 1, "Train so many runs in a row, of seeds run.seed, run.seed + 1, ..., in WORKDIR/seed_N.", 1, 100
)
DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Only print splits, prompts, batches and memory; reads no weights and writes nothing."
)
EXPLAIN = flags.DEFINE_bool("explain_sharding", False, "Print the sharding and the memory of every parameter.")


def main() -> None:
    # ------------------------------------------------------------------ config
    clock = Clock()
    clock.listen()
    distributed.start()
    config = cli.read_config(CONFIG)
    if not config.model.check_parity:
        cli.hide_torch()
    workdir = cli.default_workdir() if WORKDIR.value is None else open_workdir(WORKDIR.value)
    config = with_chat_date(config, workdir)
    distributed.check_same(shared_settings(config) | {"--workdir": str(workdir)})
    distributed.check_devices(config.mesh.devices)
    if DRY_RUN.value:
        config = dataclasses.replace(config, run=dataclasses.replace(config.run, cache=""))  # nothing is written
        pretrained, task = open_data(config)
        rehearse(config, pretrained, task, task.prompts[TRAIN], cli.config_as_given())
        say("dry run: no weights were read, and nothing was written")
        return
    use_compilation_cache(config)
    check_metric_writers(config)
    if SEEDS.value > 1:
        train_seeds(config, workdir, range(config.run.seed, config.run.seed + SEEDS.value), clock)
        return
    if seed_folders(workdir):
        raise UserError(f"{workdir}: holds runs of several seeds; give --seeds again, or another --workdir")
    with only_training(workdir) as lock:
        train(config, workdir, lock, clock)


def train_seeds(config: Config, workdir: epath.Path, seeds: range, clock: Clock) -> None:
    """Trains a run of each seed in a folder of its own; those that are complete already stay as they are."""
    if (workdir / "config.json").exists():
        raise UserError(f"{workdir}: holds a run of one seed; give another --workdir for several")
    for seed in seeds:
        say(f"seed {seed} of {seeds[0]} to {seeds[-1]}")
        own, folder = dataclasses.replace(config.run, seed=seed), seed_folder(workdir, seed)
        with only_training(folder) as lock:
            train(dataclasses.replace(config, run=own), folder, lock, clock)
        clock = Clock(time.monotonic())
        clock.listen()
    say(f"done: {plural(len(seeds), 'run')} (evaluate with: python -m survey_jax.eval --workdir={workdir})")


def open_data(config: Config) -> tuple[Pretrained, Task]:
    """The base model, opened, and tables, splits and prompts; prints what each split has."""
    say(f"reading {', '.join(config.data.tables)}")
    pretrained = open_pretrained(config.model.weights, config.model.revision, config.model.ignore_fields)
    distributed.check_same({"base model": pretrained.outline()})
    task = build_task(config, make_prompter(config, *open_tokenizer(config, pretrained)))
    say(counts_table(task.splits))
    if VALID not in task.prompts:
        raise UserError("config.data.splits: no validation rows to choose the best checkpoint by; set a valid_* field")
    return pretrained, task


def train(config: Config, workdir: epath.Path, lock: Lock, clock: Clock) -> None:
    """Trains, from the last checkpoint on if there is one, in a folder where no other training runs."""
    # -------------------------------------------------------------------- data
    checkpoints = Checkpoints(workdir, config.run.keep)
    pretrained, task = open_data(config)
    if task.prior is not None:
        say("asking the rules, which predictions start from, about all training rows")
        task.prompts[TRAIN] = with_prior(task.prompts[TRAIN], task.prior.training)
    first = task.prompter.text(task.prompts[TRAIN][0].answer)
    say("a prompt; its answer is the next letter:\n" + textwrap.indent(first, "    | ", lambda line: True))

    identity = {
        "base model": pretrained.fingerprint(config.model.quantize),
        TOKENIZER: task.prompter.fingerprint(),
        TRAINING_SET: fingerprint(task.splits.rows[TRAIN]),
        "validation set": fingerprint(task.splits.rows[VALID]),
    }
    distributed.check_same(identity)
    distributed.check_stop("before the first step")

    # ------------------------------------------------------------------- model
    say(f"model {config.model.weights}")
    model = build_model(config, pretrained, task.prompts[TRAIN], len(task.letters))
    here = local_rows(model.mesh, model.shape.batch_size)
    batches = make_batches(config, task.prompts[TRAIN], model.shape, here)
    say(batches.report())
    if config.optim.epochs:
        config = dataclasses.replace(config, optim=dataclasses.replace(config.optim, steps=steps_of(config, batches)))
        say(f"{config.optim.epochs:g} epochs are {config.optim.steps} steps")
    state = TrainState(model.params, init_optimizer(config.optim, model.params, model.mesh))
    if EXPLAIN.value:
        say(sharding_table.text(sharding_table.layouts(*state, model.frozen, model.mesh)))
    count, frozen = _count(state.params), sum(x.nbytes for x in jax.tree.leaves(model.frozen)) / 1e9
    say(f"{count:,} trained parameters beside {frozen:.2f} GB of frozen ones on {dict(model.mesh.shape)}")
    if config.model.check_parity:
        report_parity(pretrained, model, task, exact=not config.model.quantize)

    # -------------------------------------------------------- resume or begin
    identity |= {
        "set of prompts or batches": batches.fingerprint(),
        "set of trained weights": f"rank {config.lora.rank}: {', '.join(config.lora.projections)}",
    }
    distributed.check_same(identity)
    distributed.check_stop("before the first step")
    check_workdir(workdir, config, identity)
    check_log(workdir)
    found = checkpoints.restore_latest(*state, identity)
    start, collected = (found.step, found.log) if found else (0, [])
    state = TrainState(found.parameters, found.optimizer) if found else state
    scored = checkpoints.scored(start)
    if start > config.optim.steps or (start == config.optim.steps and scored):
        say(f"nothing to train: {workdir} is at step {start} of {config.optim.steps}")
        return
    if scored and (reason := gives_up(config, start, checkpoints.best())):
        say(f"nothing to train: {reason}; a higher config.optim.patience goes on")
        return
    if start:
        say(f"resumed at step {start}")
    run_id = record_start(workdir, config, identity, pretrained.commit, start, task.bad_rows)
    write_json(workdir / "splits.json", held_out(task.splits))

    # ---------------------------------------------------------- compile and run
    predictor = Predictor(model, task.letters)
    step_fn = compiled_train_step(model.graphdef, model.step_config, config.optim, state)
    if not start:
        say_letter_mass(predictor.letter_mass(state.params, task.prompts[TRAIN]))
    flops = useful_flops(config, model)
    log = RunLog(
        workdir, config, run_id, start, clock, evaluated=scored, collected=collected, flops=flops, peak=peak_flops()
    )
    profile = Profile(workdir, config.run.profile)
    run = Run(config, task, model, batches, identity, checkpoints, lock, log, profile, clock)
    try:
        fit(run, step_fn, predictor, start, state)
    except Stopped:
        run.close()
        raise
    except UserError:  # it may be the running save that failed, which `close` would wait for
        run.close_logs()
        raise
    run.close()
    say(f"done: {workdir} (evaluate with: python -m survey_jax.eval --workdir={workdir})")


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that `fit` needs besides the train state."""

    config: Config
    task: Task
    model: Model
    batches: Batches
    identity: dict[str, str]
    checkpoints: Checkpoints
    lock: Lock
    log: RunLog
    profile: Profile
    clock: Clock

    def close(self) -> None:
        """Waits for the last save and closes the logs."""
        with self.clock.of(CHECKPOINT):
            self.checkpoints.wait()
        self.close_logs()

    def close_logs(self) -> None:
        """Closes profile and logs."""
        self.profile.close()
        self.log.close()


def fit(run: Run, step_fn: Any, predictor: Predictor, start: int, state: TrainState) -> None:
    """Trains to the last step.

    Order matters: step, log, evaluate, save. A checkpoint at step n is the state after n steps, so resuming at n
    continues with batch n. What a step measured is fetched after the next step is dispatched, so that the devices do
    not wait for the host; evaluating, saving and stopping fetch it first.

    Raises:
      Stopped: a stop was requested; all steps are saved.
    """
    settings, steps, poll, best = run.config.run, run.config.optim.steps, distributed.Poll(), run.checkpoints.best()
    saved, saved_at = start, time.monotonic()  # a resumed state is saved already, and a fresh one need not be
    pending: tuple[int, Batch, dict[str, jax.Array]] | None = None  # newest step, its batch and measurements
    letters = on_every_device(run.model.mesh, run.task.letters)

    def settle() -> None:
        """Fetches, checks and logs what the newest step measured."""
        nonlocal pending
        if pending is None:
            return
        (done, batch, measured), pending = pending, None
        with run.clock.of(COMPUTE):
            values = {name: float(value) for name, value in jax.device_get(measured).items()}
        stop_if_broken(values["loss"], values["grad_norm"], done, batch, run.task)
        run.log.step(done, values)
        if done % settings.log_every == 0:
            run.log.flush()

    def save(step: int, scores: dict[str, float] | None = None) -> None:
        nonlocal saved, saved_at
        settle()
        run.log.sync()
        with run.clock.of(CHECKPOINT):
            run.checkpoints.save(step, *state, run.identity, scores, run.log.collected)
        saved, saved_at = step, time.monotonic()

    def stop(step: int) -> NoReturn:
        if saved != step:
            save(step)
        raise Stopped(f"stopped as asked, after step {step}; the same command goes on from there")

    def evaluate_and_save(step: int) -> None:
        nonlocal best
        settle()
        run.log.flush()
        try:
            with run.clock.of(EVALUATION):
                scores = evaluate(predictor, state.params, run.task, VALID, settings.calibrate)
        except Stopped:  # it is evaluated when the run resumes
            stop(step)
        run.log.evaluation(step, VALID, scores)
        save(step, scores)
        best = min(best, (scores[METRIC], step))

    def is_due(step: int) -> bool:
        return step % settings.eval_every == 0 or step == steps

    def ends_early(step: int) -> bool:
        if reason := gives_up(run.config, step, best):
            say(f"ends early: {reason}")
        return bool(reason)

    if start and is_due(start) and not run.checkpoints.scored(start):
        evaluate_and_save(start)
        if ends_early(start):
            return
    for step, batch in run.clock.each(DATA, prefetch(run.batches, start, steps)):
        done, model = step + 1, run.model
        with run.profile.step(done) as traced, run.clock.of(COMPUTE):
            on_mesh = to_device(batch, model.mesh, model.shape.batch_size, True)
            with jax.transfer_guard("disallow"):  # nothing else goes to the devices, or comes from them
                state, measured = step_fn(state, model.frozen, on_mesh, letters)
            if traced:
                jax.block_until_ready(measured)
        settle()
        pending = done, batch, measured
        run.lock.check()
        run.checkpoints.check()
        if is_due(done):
            evaluate_and_save(done)
            if ends_early(done):
                return
        with run.clock.of(COMPUTE):  # with several processes it waits for the step under way
            stops, saves = poll(time.monotonic() - saved_at > 60 * settings.save_minutes)
        if stops:
            stop(done)
        if saves:
            save(done)


def gives_up(config: Config, step: int, best: tuple[float, int]) -> str:
    """Why training ends at a step before the last: for `optim.patience`. "" where it goes on.

    Args:
      best: METRIC and step of the best evaluation up to here.
    """
    since = step - best[1]
    if not config.optim.patience or since < config.optim.patience * config.run.eval_every:
        return ""
    return f"the best evaluation is that of step {best[1]}, {since} steps ago (config.optim.patience)"


def evaluate(predictor: Predictor, params: Any, task: Task, name: str, calibrated: bool) -> dict[str, float]:
    """Mean of every metric on a split, over rows and by question, the METRIC, and the temperature of each kind of row.

    Predictions are scaled by the temperatures that fit the split if `calibrated`, otherwise they stay as they are.
    """
    prompts = task.prompts[name]
    answers = [p.answer for p in prompts]
    predictions = predictor(params, prompts, f"evaluating {name}")
    row_kinds = kinds(task.splits.rows[TRAIN], answers)
    calibration = fit_calibration(answers, predictions, row_kinds) if calibrated else {}
    for kind, temperature in calibration.items():
        if temperature.value > 0.9 * BOUNDS[1]:
            say(
                f"warning: temperature {temperature.value:.2f}: {name} asks for nearly uniform predictions of a "
                f"{kind}; if what you want to predict is not like its rows, set config.run.calibrate to False"
            )
    rows = metrics.row_metrics(answers, calibrate(predictions, row_kinds, calibration))
    means = {metric: entry["value"] for metric, entry in metrics.summarise(answers, rows, samples=0).items()}
    by_kind = [by_question(answers, rows, [own == kind for own in row_kinds]) for kind in dict.fromkeys(row_kinds)]
    means[METRIC] = float(np.mean(by_kind))
    return means | {f"{TEMPERATURE}{kind.replace(' ', '_')}": t.value for kind, t in calibration.items()}


def by_question(answers: Sequence[Answer], rows: metrics.RowMetrics, chosen: Sequence[bool]) -> float:
    """KL of the chosen rows, every question counting the same."""
    part = list(itertools.compress(answers, chosen))
    kl = {"kl": rows["kl"][np.array(chosen)]}
    return metrics.summarise(part, kl, samples=0)["kl" + metrics.BY_QUESTION]["value"]


def say_letter_mass(mass: float) -> None:
    """Prints the probability of the option letters as next token; a small one means a misunderstood prompt."""
    say(f"letters hold {mass:.2%} of the base model's next-token probability")
    if mass < LETTER_MASS_WARNING:
        say("warning: under 1 %, the model does not see that a letter is asked for; try another data.template or chat")


def stop_if_broken(loss: float, norm: float, step: int, batch: Batch, task: Task) -> None:
    """UserError if the loss or the gradient is not finite."""
    if math.isfinite(loss) and math.isfinite(norm):
        return
    here = {"/".join(task.prompts[TRAIN][i].answer.question_key) for i in np.unique(batch["prompt"]) if i >= 0}
    ids = sorted(
        {name for names in distributed.all_gather_text(json.dumps(sorted(here))) for name in json.loads(names)}
    )
    raise UserError(
        f"step {step}: loss {loss}, gradient norm {norm}; the last checkpoint is intact. Lower config.optim.lr or "
        f"check these questions: {', '.join(ids)}"
    )


def _count(state: Any) -> int:
    return sum(x.size for x in jax.tree.leaves(state))


if __name__ == "__main__":
    cli.run(distributed.guarded(main), refuse=distributed.refuse)
