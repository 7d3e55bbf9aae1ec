"""Does sharing cost accuracy? Trainings on the World Values Survey that differ in template and packing alone.

    python -m benchmarks.quality --table=wvs.jsonl.gz [--examples=1600] [--seeds=3]

The split is that of Cao et al. (NAACL 2025), Table 10: 46 countries, 150 questions to train on, 33 to validate on.
Every variant sees as many answers. Each learning rate is tried with the first seed; the others use a variant's best.
Writes benchmarks/results/quality.json: the validation KL of every training, and a variant's mean over seeds.
"""

import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from absl import flags

from survey_jax import cli

TABLE = flags.DEFINE_string("table", None, "World Values Survey wave 7 as a survey table.", required=True)
WEIGHTS = flags.DEFINE_string("weights", "checkpoints/weights/smollm2.gguf", "The base model.")
EXAMPLES = flags.DEFINE_integer("examples", 1600, "Answers to train on.")
SEEDS = flags.DEFINE_integer("seeds", 3, "Trainings of each variant.")
RATES = flags.DEFINE_list("rates", ["1e-4", "3e-4", "1e-3"], "Peak learning rates.")
ONLY = flags.DEFINE_list("only", [], "Some of the variants.")
RESULT = flags.DEFINE_string("results", "benchmarks/results/quality.json", "Where results go.")


@dataclasses.dataclass(frozen=True)
class Variant:
    """How questions are asked and packed; `answers` a step, about, decide how many steps there are."""

    template: str
    rows: int
    row_tokens: int
    groups: int
    answers: float


VARIANTS = {
    "short trees of 46": Variant("group_last", 1, 512, 46, 98),
    "short trees of 16": Variant("group_last", 1, 256, 16, 23),
    "short trees of 8": Variant("group_last", 1, 256, 8, 15),
    "trees of 46": Variant("question_first", 1, 1024, 46, 60),
    "trees of 16": Variant("question_first", 1, 512, 16, 25),
    "trees of 8": Variant("question_first", 1, 256, 8, 10),
    "paper": Variant("paper", 4, 256, 1, 8.2),
}


def main() -> None:
    chosen = ONLY.value or list(VARIANTS)
    found: dict[str, dict[str, list[float]]] = {name: {} for name in chosen}
    for seed in range(SEEDS.value):
        for name in chosen:
            for rate in RATES.value if not seed else [best(found[name])]:
                kl = train(VARIANTS[name], rate, seed)
                found[name].setdefault(rate, []).append(kl)
                print(f"{name}, lr {rate}, seed {seed}: validation KL {kl:.4f}", flush=True)
                write(found)
    print(f"results: {RESULT.value}")


def best(rates: dict[str, list[float]]) -> str:
    """The rate of least KL with the first seed."""
    return min(rates, key=lambda rate: rates[rate][0])


def write(found: dict[str, dict[str, list[float]]]) -> None:
    """All trainings so far, and the mean of a variant's best rate."""
    means = {name: statistics.mean(rates[best(rates)]) for name, rates in found.items() if rates}
    path = Path(RESULT.value)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps({"weights": WEIGHTS.value, "examples": EXAMPLES.value, "kl": found, "best": means}, indent=2)
    )


def train(variant: Variant, rate: str, seed: int) -> float:
    """KL on the validation split, in nats, after the last step."""
    steps = round(EXAMPLES.value / variant.answers)
    settings = {
        "model.weights": WEIGHTS.value,
        "model.remat": "dots",
        "model.attention": "dense" if variant.template == "paper" else "two_part",
        "lora.projections": "('q', 'v')",
        "data.tables": f"({str(Path(TABLE.value).resolve())!r},)",
        "data.question_columns": "('question_paper', 'question')",
        "data.drop_long": True,
        "data.template": variant.template,
        "batch.batch_size": variant.rows,
        "batch.seq_len": variant.row_tokens,
        "batch.answers_per_seq": 128,
        "batch.groups_per_tree": variant.groups,
        "optim.lr": rate,
        "optim.steps": steps,
        "run.eval_every": steps,
        "run.seed": seed,
        "run.calibrate": False,
    }
    with tempfile.TemporaryDirectory() as workdir:
        command = [sys.executable, "-m", "survey_jax.train", "--config=benchmarks/quality_config.py"]
        command += [f"--workdir={workdir}", *(f"--config.{key}={value}" for key, value in settings.items())]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        lines = [json.loads(line) for line in (Path(workdir) / "metrics.jsonl").read_text().splitlines()]
    return float(next(line["eval/valid/kl"] for line in reversed(lines) if "eval/valid/kl" in line))


if __name__ == "__main__":
    cli.run(main)
