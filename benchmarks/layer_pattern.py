"""How long a training step compiles: 48 layers of one shape, and the same where every sixth has wider heads.

    python -m benchmarks.layer_pattern [--layers=48] [--runs=3]

The first is one loop over all layers, the second a loop over eight turns of (five layers, one layer). Prints the median
seconds of both, of tracing and of compiling, and the memory that XLA plans for activations.
"""

import dataclasses
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
from absl import app, flags
from flax import nnx

from survey_jax.inputs.trees import BatchShape, empty_batch
from survey_jax.model.abstract import abstract_model
from survey_jax.model.architecture import PROJECTIONS, DecoderConfig
from survey_jax.model.block import Numerics
from survey_jax.model.lora import LoraParam
from survey_jax.pretrained.families import decoder_config
from survey_jax.training.step import StepConfig, gradients

LAYERS = flags.DEFINE_integer("layers", 48, "Layers of both models.", lower_bound=6)
RUNS = flags.DEFINE_integer("runs", 3, "Compilations of each, of which the median counts.", lower_bound=1)
SHAPE = BatchShape(batch_size=2, seq_len=256, answers_per_seq=8, trunk_len=64, options=5)


def main(_: list[str]) -> None:
    one = model()
    wide = tuple(dataclasses.replace(k, head_width=None if k.window else 2 * one.head_width) for k in one.kinds)
    jax.config.update("jax_enable_compilation_cache", False)
    for remat in ("none", "dots"):
        seconds: dict[str, list[tuple[float, float]]] = {"one shape": [], "two shapes": []}
        memory = {}
        for _run in range(RUNS.value):
            for name, config in (("one shape", one), ("two shapes", dataclasses.replace(one, kinds=wide))):
                *times, memory[name] = compiled(config, remat)
                seconds[name].append((times[0], times[1]))
        medians = {name: [statistics.median(x) for x in zip(*runs, strict=True)] for name, runs in seconds.items()}
        for name, (tracing, compiling) in medians.items():
            print(f"remat {remat}, {name}: traced in {tracing:.2f} s, compiled in {compiling:.2f} s, "
                  f"{memory[name] / 1e6:.0f} MB of temporaries")  # fmt: skip
        totals = [sum(medians[name]) for name in seconds]
        print(f"remat {remat}: two shapes take {totals[1] / totals[0]:.2f} times as long")


def model() -> DecoderConfig:
    """Five layers of six have a window."""
    hf = {
        "model_type": "gemma3_text", "vocab_size": 1024, "hidden_size": 256, "intermediate_size": 1024,
        "num_hidden_layers": LAYERS.value, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 64,
        "rms_norm_eps": 1e-6, "sliding_window": 64,
    }  # fmt: skip
    return decoder_config(hf, "model")[0]


def compiled(config: DecoderConfig, remat: str) -> tuple[float, float, int]:
    """Seconds of tracing and of compiling a step of LoRA, and bytes of its temporary memory."""
    jax.clear_caches()
    graphdef, params, frozen = nnx.split(abstract_model(config, 8, PROJECTIONS), LoraParam, ...)
    batch = {k: jnp.asarray(v)[None] for k, v in empty_batch(SHAPE).items() if k != "prompt"}
    step_config = StepConfig(config, Numerics(lora_scale=1.0), remat=remat)

    def step(params: Any, frozen: Any, batch: Any) -> Any:
        return gradients(graphdef, params, frozen, batch, jnp.arange(SHAPE.options), step_config)

    start = time.perf_counter()
    lowered = jax.jit(step).lower(params, frozen, batch)
    traced = time.perf_counter()
    made = lowered.compile()
    return traced - start, time.perf_counter() - traced, made.memory_analysis().temp_size_in_bytes


if __name__ == "__main__":
    app.run(main)
