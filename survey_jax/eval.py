"""Evaluates a run, or a base model, on every split of its data.

    python -m survey_jax.eval [--workdir=DIR] [--step=best|last|N] [--data=TABLE,...] [--name=NAME]
    python -m survey_jax.eval --config=configs/demo.py --zero_shot
    python -m survey_jax.eval --embeddings=FILE.parquet     # of the questions, for three more baselines
    python -m survey_jax.eval --sealed=FILE.seal.json --data=TABLE      # predictions made before anybody had answered

Writes report.html, metrics.json, predictions.parquet and .csv, methods.txt and figures/ under WORKDIR/eval/NAME, and
prints a table a split.
"""

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags
from etils import epath

from survey_jax import cli
from survey_jax.checkpointing.manager import TOKENIZER, TRAINING_SET, Checkpoints, check_identity
from survey_jax.common.console import is_first, say
from survey_jax.common.errors import UserError
from survey_jax.common.files import check_folder, open_workdir, replaced_folder, write_json
from survey_jax.config import Config, MeshConfig, differences, settings, validate
from survey_jax.inference import controls, zero_shot
from survey_jax.inference.asking import stack_file, stack_key
from survey_jax.inference.predictor import PredictionCache, Predictor, predict_all
from survey_jax.inputs.task import EXTRA, Task, build_task, make_prompter, open_tokenizer, read_data
from survey_jax.parallel import distributed
from survey_jax.parallel.distributed import use_compilation_cache
from survey_jax.parallel.sharding import MESH_AXES, read_mesh
from survey_jax.pretrained.open import Pretrained, open_pretrained
from survey_jax.survey.embeddings import read_embeddings
from survey_jax.survey.report.disclosure import Sections, data_sections
from survey_jax.survey.splits.config import DISTINCT
from survey_jax.survey.splits.split import TRAIN, VALID, counts_table, fingerprint
from survey_jax.survey.table import Answer, read_table
from survey_jax.survey.table_files import LONG_SUFFIXES
from survey_jax.telemetry.manifest import (
    manifest,
    read_config,
    seed_folder,
    seed_folders,
    shared_settings,
    with_chat_date,
)
from survey_jax.training.build import build_model, on_these_devices

if TYPE_CHECKING:
    from survey_jax.survey.report.methods import Facts

CONFIG = cli.define_config(required=False)
WORKDIR = flags.DEFINE_string("workdir", None, "The run; default: the newest under checkpoints/.")
STEP = flags.DEFINE_string("step", "best", "Which checkpoint: best (on the validation split), last, or a step.")
DATA = flags.DEFINE_list("data", [], "Other survey tables to evaluate on, instead of the run's own splits.")
NAME = flags.DEFINE_string("name", None, "Folder of the results under WORKDIR/eval; default: from step and data.")
OUTPUT = flags.DEFINE_string("output", None, "Where results go in place of WORKDIR/eval, as for a read-only run.")
CONTROLS = flags.DEFINE_list(
    "controls", ["group_swapped"], f"Columns that show what the asking changes: {', '.join(controls.NAMES)}."
)
ZERO_SHOT = flags.DEFINE_bool("zero_shot", False, "Evaluate the base model of --config or --workdir untrained.")
EMBEDDINGS = flags.DEFINE_string("embeddings", None, "Questions' embeddings, for rules and near-duplicates; Parquet.")
SEALED = flags.DEFINE_string("sealed", None, "Predictions sealed by `predict --seal`, to score on --data; no run.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Sequences of a batch; default: the run's.", lower_bound=1)
SEQ_LEN = flags.DEFINE_integer("seq_len", None, "Tokens of the longest prompt; default: the run's.", lower_bound=1)
ANSWERS_PER_SEQ = flags.DEFINE_integer(
    "answers_per_seq", None, "Answers in a sequence; default: the run's.", lower_bound=1
)
MESH = flags.DEFINE_string("mesh", None, "Mesh sizes, such as data:1,fsdp:8; default: the run's, or all devices.")
DROP_BAD = flags.DEFINE_bool("drop_bad", None, "Leave out (and count) rows of tables that are not as they must be.")
DROP_LONG = flags.DEFINE_bool("drop_long", None, "Leave out (and count) rows whose prompt is too long.")
CACHE = flags.DEFINE_string("cache", None, 'Folder of compiled programs and tokens, "" for none; default: the run\'s.')

EXPORTS = [suffix.removeprefix(".") for suffix in LONG_SUFFIXES if suffix != ".csv"]  # predictions.csv is always there
EXPORT = flags.DEFINE_list("export", [], f"Write predictions in long form in these formats, too: {', '.join(EXPORTS)}.")

PREDICTIONS = ".predictions"  # folder of finished and unfinished predictions, beside the evaluations


def main() -> None:
    cli.hide_torch()
    if SEALED.value:
        score_seal(SEALED.value)
        return
    # ---------------------------------------------------------- config and data
    if unknown := set(EXPORT.value) - set(EXPORTS):
        raise UserError(f"--export={min(unknown)}: choose from {', '.join(EXPORTS)}")
    distributed.start()
    workdir = open_workdir(distributed.all_gather_text(str(find_workdir()) if is_first() else "")[0])
    runs = seed_folders(workdir)
    if not runs:
        evaluate_run(workdir, workdir / "eval" if OUTPUT.value is None else open_workdir(OUTPUT.value, "--output"))
        return
    output = workdir if OUTPUT.value is None else open_workdir(OUTPUT.value, "--output")
    folders = {}
    for seed, folder in runs.items():
        folders[seed] = evaluate_run(folder, seed_folder(output, seed) / "eval")
    if len(runs) > 1 and is_first():
        from survey_jax.survey.report.seeds import compare_seeds  # here: as for the results

        compare_seeds(folders, output / "eval" / (NAME.value or "seeds"))


def evaluate_run(workdir: epath.Path, results: epath.Path) -> epath.Path:
    """Evaluates the run in a folder; returns the folder under `results` where what it finds lies."""
    say(f"run {workdir}")
    config = find_config(workdir)
    distributed.check_devices(config.mesh.devices)
    given = {f"--{flag.name}": repr(flag.value) for flag in (ZERO_SHOT, STEP, DATA, NAME, OUTPUT, CONTROLS, EMBEDDINGS)}
    distributed.check_same(shared_settings(config) | given)
    check_name(NAME.value)
    check_folder(results / (NAME.value or "results"), "--workdir" if OUTPUT.value is None else "--output")
    use_compilation_cache(config)
    pretrained = open_pretrained(config.model.weights, config.model.revision, config.model.ignore_fields)
    distributed.check_same({"base model": pretrained.outline()})
    with find_checkpoint(workdir, pretrained.fingerprint(config.model.quantize)) as (checkpoints, step):
        folder = results / (NAME.value or default_name(step))
        evaluate(config, workdir, folder, pretrained, checkpoints, step)
    return folder


def evaluate(
    config: Config,
    workdir: epath.Path,
    folder: epath.Path,
    pretrained: Pretrained,
    checkpoints: Checkpoints | None,
    step: int | None,
) -> None:
    """Evaluates a checkpoint of the run, or the base model if there is none; writes what it finds into `folder`."""
    base_model = pretrained.fingerprint(config.model.quantize)
    tokenizer = open_tokenizer(config, pretrained)
    wanted = controls.make_controls(CONTROLS.value, config, *tokenizer)
    prompter = make_prompter(config, *tokenizer)
    bad_rows: Counter[str] = Counter()
    extra = [a for table in DATA.value for a in read_data(table, config, bad_rows)]
    task = build_task(config, prompter, extra)
    if checkpoints is not None and step is not None:
        found = {TOKENIZER: prompter.fingerprint(), TRAINING_SET: fingerprint(task.splits.rows[TRAIN])}
        check_identity(checkpoints.identity(step), found, workdir)
    distributed.check_same({"base model": base_model} | {name: fingerprint(r) for name, r in task.splits.rows.items()})
    say(counts_table(task.splits))
    for line in (overlap := overlaps(task, extra)):
        say(f"warning: {line}")
    names = [EXTRA] if extra else [name for name in task.prompts if name != TRAIN]
    predicted = list(dict.fromkeys([*names, *([VALID] if VALID in task.prompts else [])]))  # valid calibrates
    rows = {TRAIN: task.splits.rows[TRAIN]} | {name: [p.answer for p in task.prompts[name]] for name in predicted}
    limit, options = config.batch.seq_len, len(task.letters)
    control_prompts = {
        c.name: {name: controls.make_prompts(c, rows[name], limit, options, task.prior, task.known) for name in names}
        for c in wanted
    }
    everybody = [a for part in rows.values() for a in part]
    embeddings = read_embeddings(EMBEDDINGS.value or config.data.splits.embeddings, everybody)

    # --------------------------------------- the base model, then the trained one
    model = build_model(config, pretrained, task.prompts[TRAIN], len(task.letters))
    predictor = Predictor(
        model, task.letters, PredictionCache(folder.parent / PREDICTIONS, f"{model.step_config} {model.shape}")
    )
    params, weights = model.params, base_model
    raw: dict[str, dict[str, np.ndarray]] = {}
    template: str = config.data.template
    if checkpoints is None or step is None:
        raw["zero_shot"] = predict_all(predictor, params, task, predicted, "base model", weights)
    else:
        template, asked = zero_shot.prompts(config, tokenizer, rows, predicted, predictor, params, weights)
        raw["zero_shot"] = {
            name: controls.predict(a, predictor, params, f"base model on {name}", weights) for name, a in asked.items()
        }
        params, weights = checkpoints.restore_parameters(step, params), f"{base_model} {checkpoints.digest(step)}"
        say(f"checkpoint of step {step}")
        raw["model"] = predict_all(predictor, params, task, predicted, "model", weights)
    for control, prompts in control_prompts.items():
        raw[control] = {
            name: controls.predict(a, predictor, params, f"{control} on {name}", weights) for name, a in prompts.items()
        }

    # -------------------------------------------------------------------- results
    if not is_first():
        return
    # Here: scikit-learn and matplotlib take seconds to import, for which predictions need not wait.
    from survey_jax.survey.baselines.registry import BASELINES, with_embeddings
    from survey_jax.survey.evaluation import scoring
    from survey_jax.survey.evaluation.systems import Systems
    from survey_jax.survey.prediction.forecaster import write_stacks
    from survey_jax.survey.report import tables
    from survey_jax.survey.report.files import write_long_predictions, write_report
    from survey_jax.survey.splits.near_duplicates import NearDuplicates

    duplicates = NearDuplicates({name: rows[name] for name in (TRAIN, *names)}, embeddings=embeddings)
    leaks = "\n".join([*overlap, duplicates.table()])
    say(leaks)
    systems = Systems(rows, raw, with_embeddings(embeddings) if embeddings else BASELINES, config.run.calibrate)
    say(systems.text())
    if systems.stack and checkpoints is not None and step is not None and OUTPUT.value is None:
        key = stack_key(base_model, checkpoints.digest(step), rows[TRAIN], rows[VALID])
        write_stacks(stack_file(workdir, step), key, systems.stack.kinds)  # for `predict`
    splits: dict[str, scoring.SplitScore] = {}
    for name in names:
        distributed.check_stop("with all predictions kept", alone=True)
        distinct = ~duplicates.leaked_rows(name)
        parts = {name: np.ones_like(distinct)}
        if distinct.any() and not distinct.all():
            parts[name + DISTINCT] = distinct
        for part, chosen in parts.items():
            splits[part] = systems.score(name, part, chosen, task.prompter.option_order, config.run.seed)
            splits[part].summary["zero_shot_template"] = template
            say(f"{part} scored")
    known = list({a.key: a for part in (TRAIN, *names) for a in rows[part]}.values())  # splits may overlap
    identity = {"base model": base_model, TRAINING_SET: fingerprint(task.splits.rows[TRAIN])}
    facts = manifest(config, identity, pretrained.commit, bad_rows + Counter(task.bad_rows))
    disclosed = data_sections(known, counts_table(task.splits), leaks)
    disclosed |= model_sections(config, task, facts, workdir, step, systems.text())
    subsets = [name for name in splits if name not in names]
    with replaced_folder(folder) as made:
        scoring.write_predictions([splits[name] for name in names], made / "predictions.parquet")
        write_report(made, splits, subsets, rows[TRAIN], disclosed, report_facts(config, facts, step))
        for ending in EXPORT.value:
            write_long_predictions([splits[name] for name in names], made / f"predictions.{ending}")
        write_json(epath.Path(made) / "metrics.json", {"splits": {name: s.summary for name, s in splits.items()}})
    for ending in set(EXPORTS) - set(EXPORT.value):  # of an earlier evaluation of this name
        (folder / f"predictions.{ending}").unlink(missing_ok=True)
    tables.print_table(splits.values())
    exported = "".join(f", predictions.{ending}" for ending in EXPORT.value)
    say(f"results: {folder}/report.html, metrics.json, predictions.csv, .parquet{exported}, methods.txt, figures/")


def score_seal(file: str) -> None:
    """Scores sealed predictions on the tables of --data; results go beside them."""
    from survey_jax.survey.evaluation.sealed import in_words, score_sealed  # here: as for the results

    if not DATA.value:
        raise UserError("--sealed needs --data: a table of what people have answered since")
    found = score_sealed(file, [a for table in DATA.value for a in read_table(table)])
    say(in_words(found))
    name = Path(file).name.removesuffix(".json").removesuffix(".seal")
    output = epath.Path(Path(file).with_name(f"{name}.scores.json"))
    write_json(output, found)
    say(f"results: {output}")


def overlaps(task: Task, extra: Sequence[Answer]) -> list[str]:
    """A line for each split of the run that rows of --data are in as well."""
    found = []
    for name in (TRAIN, VALID):
        keys = {answer.key for answer in task.splits.rows.get(name, ())}
        if both := sum(answer.key in keys for answer in extra):
            found.append(f"{both:,} of {len(extra):,} rows of --data are in the run's {name}, too: scores flatter")
    return found


def find_workdir() -> str:
    """--workdir; the base model's own folder for --config --zero_shot; or the newest run under checkpoints/."""
    if WORKDIR.value is not None:
        return WORKDIR.value
    if CONFIG.value is not None:
        return str(cli.default_workdir())
    files = [f for pattern in ("*/config.json", "*/seed_*/config.json") for f in Path("checkpoints").glob(pattern)]
    runs = sorted(files, key=lambda f: f.stat().st_mtime)
    if not runs:
        raise UserError("checkpoints/: no run here; train first, or give --workdir (or --config with --zero_shot)")
    newest = runs[-1].relative_to("checkpoints")
    return str(Path("checkpoints", newest.parts[0]))  # the folder of all seeds, if it is one of several


def find_config(workdir: epath.Path) -> Config:
    """The settings to evaluate under: the run's, with what the flags change of how to compute.

    Raises:
      UserError: --config has another value of a setting that predictions depend on.
    """
    config = with_chat_date(cli.read_config(CONFIG), workdir) if CONFIG.value is not None else read_config(workdir)
    if not ZERO_SHOT.value:
        check_settings(read_config(workdir), config, workdir)
    sizes = {"batch_size": BATCH_SIZE.value, "seq_len": SEQ_LEN.value, "answers_per_seq": ANSWERS_PER_SEQ.value}
    changed = {name: size for name, size in sizes.items() if size is not None}
    config = dataclasses.replace(config, batch=dataclasses.replace(config.batch, **changed))
    if MESH.value:
        config.mesh = MeshConfig(**dict(zip(MESH_AXES, read_mesh(MESH.value), strict=True)))
    if DROP_BAD.value is not None:
        config.data.drop_bad = DROP_BAD.value
    if DROP_LONG.value is not None:
        config.data.drop_long = DROP_LONG.value
    if CACHE.value is not None:
        config.run.cache = CACHE.value
    if ZERO_SHOT.value:
        config.model.prior, config.data.known_answers = "", 0  # the base model alone
    return on_these_devices(validate(config)) if CONFIG.value is None and not MESH.value else validate(config)


def check_settings(trained: Config, config: Config, workdir: epath.Path) -> None:
    """Refuses settings under which the checkpoint would not be the model that was trained. UserError names them."""
    free = {setting.name for setting in settings() if setting.may_change}
    free |= {"config.data.drop_bad", "config.data.drop_long"}
    for name, (old, new) in differences(trained, config).items():
        if name not in free and not name.startswith("config.batch."):
            raise UserError(
                f"--config: {name} = {new!r}, but {workdir} was trained with {old!r}: its checkpoint would be scored "
                "as another model. Leave --config out: --seq_len, --batch_size, --answers_per_seq, --mesh, "
                "--drop_bad, --drop_long and --cache change what may be changed"
            )


@contextlib.contextmanager
def find_checkpoint(workdir: epath.Path, base_model: str) -> Iterator[tuple[Checkpoints, int] | tuple[None, None]]:
    """The run's checkpoints and the step that --step names, which a training beside does not delete during the body.

    Nothing for --zero_shot. Raises UserError if there is no checkpoint for this base model.
    """
    if ZERO_SHOT.value:
        yield None, None
        return
    checkpoints = Checkpoints(workdir)
    with checkpoints.reading(STEP.value) as step:
        check_identity(checkpoints.identity(step), {"base model": base_model}, workdir)
        yield checkpoints, step


def check_name(name: str | None) -> None:
    """Raises UserError for a --name that is no name of a folder under the results."""
    if name is not None and (not name or name.startswith(".") or set(name) & set("/\\") or not name.isprintable()):
        raise UserError(f"--name={name}: must be the name of a folder under WORKDIR/eval, not a path")


def default_name(step: int | None) -> str:
    """E.g. "step_200", "zero_shot", "step_200_ess" for --data=ess.jsonl.gz."""
    parts = ["zero_shot" if step is None else f"step_{step}"]
    return "_".join(parts + [Path(table).name.split(".")[0] for table in DATA.value])


def model_sections(
    config: Config, task: Task, facts: Mapping[str, Any], workdir: epath.Path, step: int | None, calibration: str
) -> Sections:
    """What the report discloses of the model; `facts` as `telemetry.manifest.manifest` has them."""
    trained = {
        "adapters": f"LoRA of rank {config.lora.rank}" if config.lora.rank else "none: full fine-tuning",
        "checkpoint": f"{workdir} step {step} (--step={STEP.value})",
    }
    device = facts["device"]
    return {
        "Prompt": {
            "template": f"{config.data.template}{', as a chat' if config.data.chat else ''}",
            "language of its own words": config.data.language or "that of each row, else English",
            "order of options": config.data.option_order,
            "an example; its answer is the next letter": task.prompter.text(task.prompts[TRAIN][0].answer) + "\n",
        },
        "Model": {
            "base model": config.model.weights,
            "commit": facts["base_model"]["commit"] or "none: a local file or folder",
            "stored as": config.model.quantize or config.model.dtype,
            **(trained if step is not None else {"checkpoint": "none: the base model, untrained (zero-shot)"}),
            "temperatures": calibration,
        },
        "Fingerprints, seeds and versions": {
            **{f"fingerprint of the {name}": text for name, text in facts["identity"].items()},
            "seed of the run; of the splits": f"{config.run.seed}; {config.data.splits.seed}",
            "versions": ", ".join(f"{package} {version}" for package, version in facts["versions"].items()),
            "commit of survey_jax": facts["git_commit"] or "unknown: installed without its repository",
            "device": f"{device['count']} x {device['kind']} ({device['platform']})",
        },
    }


def report_facts(config: Config, facts: Mapping[str, Any], step: int | None) -> "Facts":
    """What the report's first screen and its Methods paragraph say of the model; `facts` as for `model_sections`."""
    from survey_jax.survey.report.methods import Facts  # here: as for the results

    optim, lora = config.optim, config.lora
    adapters = f"LoRA of rank {lora.rank} on {', '.join(lora.projections)}" if lora.rank else "training all weights"
    return Facts(
        model=config.model.weights,
        revision=facts["base_model"]["commit"],
        stored_as=config.model.quantize or config.model.dtype,
        checkpoint=None if step is None else f"step {step} ({STEP.value})",
        training=f"{adapters} ({optim.loss} loss, {optim.steps} steps of AdamW, peak learning rate {optim.lr:g})",
        template=f"{config.data.template}{', as a chat' if config.data.chat else ''}",
        date=facts["started"][:10],
        preset=config.data.splits.preset,
        seed=f"{config.run.seed} (run), {config.data.splits.seed} (splits)",
        versions=facts["versions"],
    )


if __name__ == "__main__":
    cli.run(distributed.guarded(main), refuse=distributed.refuse)
