"""What a quantised base saves, and what it changes, on real weights and the demo's prompts.

    python -m benchmarks.quantize [--prompts=50] [--weights=GGUF,...]

For each model (default: the two of survey_jax.fetch) and each way to store its projections: bytes of all parameters
with the rest in bfloat16, as training on an accelerator has it; then, with everything else in float32, the mean loss
(KL to the survey's answers, nats) of the untrained model, and how far its distributions over the letters are from
those of the float32 base: mean and largest total variation, and KL. Last, temporary bytes of a training step (LoRA on
everything, 512 tokens, gradients recomputed layer by layer), as XLA plans them for this machine's devices. Writes
benchmarks/results/quantize.json.
"""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import nnx

from survey_jax import cli
from survey_jax.config import Config, DataConfig, ModelConfig
from survey_jax.inference.predictor import Predictor
from survey_jax.inputs.batches import Batches, to_device
from survey_jax.inputs.prompts import Prompt, Prompter
from survey_jax.inputs.task import Task, build_task
from survey_jax.model.abstract import abstract_model
from survey_jax.model.lora import LoraParam
from survey_jax.model.quantize import KINDS
from survey_jax.pretrained.open import Pretrained, open_pretrained
from survey_jax.survey.evaluation import metrics
from survey_jax.survey.splits.split import TRAIN
from survey_jax.training.build import build_model
from survey_jax.training.step import gradients

WEIGHTS = flags.DEFINE_list(
    "weights", ["checkpoints/weights/smollm2.gguf", "checkpoints/weights/gemma3-270m.gguf"], "Models."
)
PROMPTS = flags.DEFINE_integer("prompts", 50, "Rows of the demo to predict, spread over its training rows.")
RESULT = Path("benchmarks/results/quantize.json")


def main() -> None:
    results: dict[str, Any] = {}
    columns = ["model", "base", "parameters, MB", "loss", "TV mean", "TV max", "KL", "step's temporary MB"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    for weights in WEIGHTS.value:
        pretrained = open_pretrained(weights)
        tokenizer = pretrained.tokenizer()
        plain = None
        for kind in ("", *KINDS):
            config = Config(model=ModelConfig(weights=weights, quantize=kind, remat="full"), data=DataConfig(("demo",)))
            task = build_task(config, Prompter(tokenizer, config.data.template))
            shares, temporary = predict(config, pretrained, task)
            plain = shares if plain is None else plain
            prompts = chosen(task)
            result = {
                "parameter_bytes": parameter_bytes(pretrained, kind),
                "loss": float(metrics.row_metrics([p.answer for p in prompts], shares)["kl"].mean()),
                **difference(plain, shares),
                "temporary_bytes": temporary,
            }
            results[f"{pretrained.path.stem} {kind or 'plain'}"] = result
            print(
                f"| {pretrained.path.stem} | {kind or 'plain'} | {result['parameter_bytes'] / 1e6:.0f} | "
                f"{result['loss']:.4f} | {result['tv_mean']:.4f} | {result['tv_max']:.4f} | {result['kl']:.5f} | "
                f"{temporary / 1e6:.0f} |",
                flush=True,
            )
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(results, indent=2) + "\n")


def chosen(task: Task) -> list[Prompt]:
    rows = task.prompts[TRAIN]
    return [rows[i] for i in np.linspace(0, len(rows) - 1, PROMPTS.value).round().astype(int)]


def predict(config: Config, pretrained: Pretrained, task: Task) -> tuple[np.ndarray, int]:
    """Distributions of the chosen prompts [n, K], and temporary bytes of a training step."""
    model = build_model(config, pretrained, task.prompts["train"], len(task.letters))
    shares = Predictor(model, task.letters)(model.params, chosen(task), "predicting")
    batch = to_device(
        Batches(task.prompts[TRAIN], model.shape, groups=8).batch(0), model.mesh, model.shape.batch_size, True
    )
    step = jax.jit(gradients, static_argnums=(0, 5))
    lowered = step.lower(model.graphdef, model.params, model.frozen, batch, task.letters, model.step_config)
    return shares, lowered.compile().memory_analysis().temp_size_in_bytes


def parameter_bytes(pretrained: Pretrained, kind: str) -> int:
    """Of the frozen model, what is not quantised in bfloat16."""
    frozen = nnx.state(abstract_model(pretrained.config, 0, (), kind), nnx.Not(LoraParam))
    quantised = {name for name, _ in _names(frozen) if kind and f"{name}_scale" in dict(_names(frozen))}
    kept = quantised | {f"{name}_scale" for name in quantised}
    return sum(v.size * (v.dtype if name in kept else jnp.dtype("bfloat16")).itemsize for name, v in _names(frozen))


def _names(state: nnx.State) -> list[tuple[str, Any]]:
    return [(".".join(map(str, path)), variable) for path, variable in nnx.to_flat_state(state)]


def difference(plain: np.ndarray, shares: np.ndarray) -> dict[str, float]:
    """Total variation and KL(plain || quantised) of distributions [n, K] that are 0 where there is no option."""
    distance = np.abs(plain - shares).sum(1) / 2
    exists = plain > 0
    kl = np.where(exists, plain * np.log(np.where(exists, plain, 1) / np.where(exists, shares, 1)), 0).sum(1)
    return {"tv_mean": float(distance.mean()), "tv_max": float(distance.max()), "kl": float(kl.mean())}


if __name__ == "__main__":
    cli.run(main)
