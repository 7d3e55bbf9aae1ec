"""A training step on one GPU, of this project and of PyTorch, in a few minutes and without a network.

    python -m benchmarks.gpu [--models=Meta-Llama-3-8B,...] [--sides=two_part,cudnn,dense,torch] [--minutes=8]

Weights are random, in the shapes of published models, and so are the tokens: questions of the lengths that the World
Values Survey has under `question_first`, 46 groups each. LoRA of rank 8 on q and v, bfloat16. Ours shares what prompts
of a question share, by each attention back end; PyTorch is as someone tunes it who cares (recipe b of
benchmarks.speed: no padding, the letters' rows of the head only, the fused attention kernel).

Each is a process of its own. Says for each back end whether it gives the first one's loss, and whether a branch can
see another (it must not). Model FLOPs count each token once that is really there. Writes gpu.json under --results.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks.speed.speed_data import check_choice
from benchmarks.speed.speed_report import table, write_whole
from benchmarks.speed.step_worker import disagreeing
from survey_jax import cli
from survey_jax.common.errors import UserError
from survey_jax.planning.architectures import known_architectures

MODELS = flags.DEFINE_list(
    "models",
    ["SmolLM2-135M", "gemma-3-270m", "gemma-3-1b-pt", "gemma-3-4b-pt", "Qwen2.5-7B", "Meta-Llama-3-8B"],
    "Of survey_jax/data/architectures.json.",
)
SIDES = flags.DEFINE_list("sides", ["two_part", "cudnn", "dense", "torch"], "What to measure.")
ROWS = flags.DEFINE_integer("rows", 8, "Rows of a step; PyTorch gets as many tokens.")
TOKENS = flags.DEFINE_integer("row_tokens", 1024, "Tokens of a row.")
REMAT = flags.DEFINE_string("remat", "dots", "config.model.remat.")
STEPS = flags.DEFINE_integer("steps", 8, "Timed steps.", lower_bound=1)
MINUTES = flags.DEFINE_float("minutes", 8.0, "Whatever is not done by then is left out, and said to be.")
OUTPUT = flags.DEFINE_string("results", "benchmarks/results", "Folder for gpu.json.")
HEAD = ("model", "side", "device", "examples/s", "step, s", "model FLOP/s", "of peak", "GB", "compiled in, s", "loss")


def main() -> None:
    check_choice("models", MODELS.value, [i.split("/")[-1] for e in known_architectures() for i in e["ids"]])
    check_choice("sides", SIDES.value, ["two_part", "cudnn", "dense", "torch"])
    end = time.monotonic() + 60 * MINUTES.value
    results: list[dict[str, Any]] = []
    for model in MODELS.value:
        for side in SIDES.value:
            if time.monotonic() > end:
                results.append({"model": model, "side": side, "failed": "no time left"})
            else:
                results.append(measure(model, side, end))
            print(json.dumps(results[-1]), flush=True)
            write_whole(Path(OUTPUT.value) / "gpu.json", json.dumps(results, indent=2))
    print(f"\n{table(HEAD, [row(r) for r in results])}\n\nresults: {OUTPUT.value}/gpu.json")
    if wrong := disagreeing(results):
        raise UserError("; ".join(wrong))
    if any("failed" in r for r in results):
        raise UserError("not everything could be measured, see above")


def measure(model: str, side: str, end: float) -> dict[str, Any]:
    """What a worker says, or why it failed."""
    spec = {
        "model": model,
        "side": side,
        "dtype": "bfloat16",
        "rows": ROWS.value,
        "row_tokens": TOKENS.value,
        "groups": 46,
        "trunk": [60, 130],
        "remat": REMAT.value,
        "steps": STEPS.value,
    }
    command = [sys.executable, "-m", "benchmarks.speed.step_worker", json.dumps(spec)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=end - time.monotonic())
    except subprocess.TimeoutExpired:
        return {"model": model, "side": side, "failed": "took too long"}
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"ended with code {done.returncode}"]
        return {"model": model, "side": side, "failed": last[0][:300]}
    return {"model": model, "side": side} | json.loads(done.stdout.splitlines()[-1])


def row(result: dict[str, Any]) -> list[str]:
    """Of the table."""
    first = [result["model"], result["side"]]
    if "failed" in result:
        return [*first, result["failed"], *[""] * (len(HEAD) - 3)]
    speed = result["flops"] / result["seconds"]
    share = f"{speed / result['peak_flops']:.0%}" if result["peak_flops"] else ""
    return [
        *first,
        result["device"],
        f"{result['examples'] / result['seconds']:.4g}",
        f"{result['seconds']:.4g}",
        f"{speed / 1e12:.4g} T",
        share,
        f"{result['memory'] / 1e9:.2f}",
        f"{result['compiled_in']:.1f}",
        f"{result['loss']:.5f}",
    ]


if __name__ == "__main__":
    cli.run(main)
