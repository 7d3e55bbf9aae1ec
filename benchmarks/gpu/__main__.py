"""The first hour on an accelerator, in calls of at most eight minutes, without a network.

    python -m benchmarks.gpu [--parts=smoke,parity,...] [--minutes=8] [--results=FOLDER]
    python -m benchmarks.gpu --sides=two_part,splash,dense --parts=smoke,parity,leak,speed,memory,training     # a TPU
    python -m benchmarks.gpu --rehearse                                    # the same with tiny shapes on a CPU

smoke     the commands on a tiny model: train, resume, evaluate
parity    each attention back end in bfloat16 against dense attention in float32: logits and gradient
leak      whether a branch of a tree sees another (it must not)
speed     a training step in the shapes of published models: LoRA on q and v by each back end, on int8 and nf4 bases,
          and on all projections
torch     the same by PyTorch, as someone tunes it who cares (recipe b of benchmarks.speed)
memory    a step's memory against what survey_jax.plan says beforehand
training  five epochs on real weights (checkpoints/weights), the demo's data and data drawn by chance, and the report

Weights, tokens and questions are drawn by chance but for the last part's. Each measurement is a process of its own.
What is found goes into gpu.json under --results at once; a second call skips it and goes on with what was left out or
failed. Last come the tables, as gpu.md.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks.gpu import report
from benchmarks.gpu.look import ROOT
from benchmarks.gpu.measurements import KNOWN_SIDES, MODELS, PARTS, SIDES, SMALL, TRAININGS, Hour, Measurement, planned
from benchmarks.gpu.runner import is_done, read_results, run, said
from benchmarks.speed.speed_data import check_choice
from benchmarks.speed.speed_report import write_whole
from survey_jax import cli
from survey_jax.common.errors import UserError
from survey_jax.planning.architectures import read_architecture

CHOSEN = flags.DEFINE_list("parts", list(PARTS), f"Of {', '.join(PARTS)}.")
MINUTES = flags.DEFINE_float("minutes", 8.0, "What is not done by then is left out, and said to be.", lower_bound=0.0)
AGAIN = flags.DEFINE_bool("again", False, "Measure anew what gpu.json has already.")
REHEARSE = flags.DEFINE_bool("rehearse", False, "Tiny shapes on a CPU: shows that it runs, not how fast.")
MODELS_FLAG = flags.DEFINE_list("models", list(MODELS), "Shapes for speed, torch and memory, as of survey_jax.plan.")
SIDES_FLAG = flags.DEFINE_list("sides", list(SIDES), f"Attention back ends, of {', '.join(KNOWN_SIDES)}.")
ROWS = flags.DEFINE_integer("rows", 8, "Rows of a step; PyTorch gets as many tokens.", lower_bound=1)
TOKENS = flags.DEFINE_integer("row_tokens", 1024, "Tokens of a row.", lower_bound=128)
REMAT = flags.DEFINE_enum("remat", "dots", ["none", "dots", "full"], "config.model.remat.")
STEPS = flags.DEFINE_integer("steps", 8, "Timed steps.", lower_bound=1)
OUTPUT = flags.DEFINE_string(
    "results", None, "Folder for gpu.json and gpu.md; default benchmarks/results, of rehearsals build/gpu_rehearsal."
)

LEAST = 10.0  # seconds in which it is worth starting a process
REAL_TRAINING = ("--config.optim.epochs=5", "--config.model.dtype=bfloat16", "--config.batch.batch_size=4",
                 "--config.batch.seq_len=1024", "--config.batch.answers_per_seq=64", "--config.batch.groups_per_tree=8",
                 "--config.data.drop_long=True", "--config.data.splits.max_rows=300", "--config.run.eval_every=40",
                 "--config.run.cache=")  # fmt: skip
TINY_TRAINING = ("--config.optim.epochs=1", "--config.batch.batch_size=1", "--config.batch.seq_len=512",
                 "--config.lora.projections=('q','v')", "--config.run.log_every=1",
                 "--config.data.chat=False")  # fmt: skip


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):  # so that a measurement does not outlive this process
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    check_choice("parts", CHOSEN.value, PARTS)
    check_choice("sides", SIDES_FLAG.value, KNOWN_SIDES)
    for model in MODELS_FLAG.value:
        read_architecture(model)
    end, file = time.monotonic() + 60 * MINUTES.value, output() / "gpu.json"
    about = look_around(end)
    results = read_results(file, about)
    if about["missing"]:
        print(f"not installed here, or in another version: {', '.join(about['missing'])}", flush=True)
    everything, left_out = planned(rehearsal() if REHEARSE.value else hour(), CHOSEN.value), 0
    for m in everything:
        if is_done(results.get(m.key), m) and not AGAIN.value:
            print(f"{m.key}: done before", flush=True)
            continue
        left = end - time.monotonic()
        result = run(m, left, environment()) if left > LEAST else {"left_out": "no time was left"}
        left_out += "left_out" in result
        if "left_out" not in result or not is_done(results.get(m.key), m):
            results[m.key] = {"spec": m.spec, **result}
        if left > LEAST:
            print(f"{m.key}: {said(result)}", flush=True)
        write_whole(file, json.dumps({"about": about, "results": results}, indent=2))
    lines = report.markdown(about, results)
    write_whole(output() / "gpu.md", lines)
    print(f"\n{lines}\n\nresults: {file}, gpu.md", flush=True)
    if left_out:
        print(f"{left_out} of {len(everything)} left out; the same command goes on with them", flush=True)
    if wrong := report.wrong(results):
        raise UserError("; ".join(wrong))


def hour() -> Hour:
    """What is measured on an accelerator."""
    sizes = {"dtype": "bfloat16", "rows": ROWS.value, "row_tokens": TOKENS.value, "groups": 46, "trunk": [60, 130]}
    return Hour(
        models=tuple(MODELS_FLAG.value),
        small=SMALL,
        sides=tuple(SIDES_FLAG.value),
        trainings=tuple((f"checkpoints/weights/{name}.gguf", *rest) for name, *rest in TRAININGS),
        flags=REAL_TRAINING,
        sizes=sizes | {"remat": REMAT.value},
        steps=STEPS.value,
        questions=150,
        countries=40,
    )


def rehearsal() -> Hour:
    """Each kind of measurement once, on a model that is written into the folder of results."""
    sys.path.insert(0, str(ROOT / "tests"))
    import tiny

    model = output() / "tiny"
    if not (model / "config.json").is_file():
        tiny.write_model(model)
    sizes = {"dtype": "bfloat16", "rows": 2, "row_tokens": 128, "groups": 4, "trunk": [20, 40], "remat": "dots"}
    return Hour(
        models=(str(model / "config.json"),),
        small=(str(model / "config.json"),),
        sides=tuple(SIDES_FLAG.value),
        trainings=((str(model), "configs/smollm2.py", "made"),),
        flags=(*TINY_TRAINING, f"--config.run.cache={output() / 'cache'}"),
        sizes=sizes,
        steps=1,
        questions=12,
        countries=6,
        brief=True,
    )


def environment() -> dict[str, str]:
    """Of all processes: no network; in a rehearsal CPUs only, and little time spent on compiling."""
    most = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.9"}  # jax would leave a quarter of a GPU's memory unused
    common = most | os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1"}
    if not REHEARSE.value:
        return common
    quick = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "JAX_COMPILATION_CACHE_DIR": str(output() / "cache" / "programs")}
    quick["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    return common | {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""} | quick


def output() -> Path:
    """The folder of results."""
    return Path(OUTPUT.value or ("build/gpu_rehearsal" if REHEARSE.value else "benchmarks/results")).resolve()


def look_around(end: float) -> dict[str, Any]:
    """The machine, see look.py. UserError where not even that works, or where there are several devices."""
    m = Measurement("look", "benchmarks.gpu.look", {}, 120)
    found = run(m, max(LEAST, end - time.monotonic()), environment())
    if "device" not in found:
        raise UserError(f"nothing can be measured here: {said(found)}")
    if found["devices"] > 1:
        raise UserError(f"here are {found['devices']} devices; show one alone (CUDA_VISIBLE_DEVICES=0, say)")
    return found | {"rehearsal": REHEARSE.value}


if __name__ == "__main__":
    cli.run(main)
