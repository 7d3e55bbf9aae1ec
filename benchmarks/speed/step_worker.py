"""A training step of this project on random weights and tokens, for benchmarks.gpu and benchmarks.growth.

`python -m benchmarks.speed.step_worker SPECIFICATION` is not for people. A specification is that of made_model.py, and
"steps" to time. Prints a line of JSON: "device", "peak_flops" (0 if unknown), "seconds" (median step); "examples",
"tokens" (padding included) and "flops" (of tokens really there, each once) of a step; "memory" (bytes, as compiled),
"device_peak" (bytes, null where the platform does not tell), "compiled_in", "loss" of the first step, "parameters" (in
products with weights) and "computed" (all FLOPs of a step).
"""

import time
from typing import Any

from benchmarks.speed import made_model, speed_data
from benchmarks.speed.speed_flops import unique_flops
from survey_jax.model.architecture import DecoderConfig
from survey_jax.model.flops import projection_widths, step_flops, weights_used


def measure(spec: dict[str, Any], decoder: DecoderConfig | None = None) -> dict[str, Any]:
    """What the process prints.

    Args:
      decoder: in place of the specification's model.
    """
    import jax

    from survey_jax.training.optimizer import init_optimizer
    from survey_jax.training.step import TrainState, compiled_train_step

    made, device = made_model.make(spec, decoder), jax.devices()[0]
    job, config = speed_data.JOBS[spec["job"]], made.config
    state = TrainState(made.train, init_optimizer(config.optim, made.train, made.mesh))
    letters = jax.numpy.arange(made_model.OPTIONS)
    batch = jax.device_put({k: v[None] for k, v in made.batch.items()})
    step = compiled_train_step(made.graphdef, made.step_config, config.optim, state)
    begin = time.perf_counter()
    compiled = step.lower(state, made.frozen, batch, letters).compile()
    compiled_in, sizes = time.perf_counter() - begin, compiled.memory_analysis()
    losses = []

    def once() -> None:
        nonlocal state
        state, measured = compiled(state, made.frozen, batch, letters)
        losses.append(float(measured["loss"]))

    seconds = made_model.timed(once, spec["steps"])
    computed = step_flops(
        made.decoder,
        batch_size=spec["rows"],
        seq_len=spec["row_tokens"],
        answers_per_seq=made.answers_per_seq,
        options=made_model.OPTIONS,
        lora_rank=job.rank,
        projections=job.projections,
        remat=spec["remat"],
        tree_shape=made.step_config.tree_shape,
    )
    return {
        "device": device.device_kind,
        "peak_flops": made_model.peak_flops(device.device_kind),
        "seconds": seconds,
        "examples": int((made.batch["weight"] > 0).sum()),
        "tokens": spec["rows"] * spec["row_tokens"],
        "flops": unique_flops(made.decoder, made.trees, job, made_model.OPTIONS),
        "memory": sizes.argument_size_in_bytes
        + sizes.temp_size_in_bytes
        + max(0, sizes.output_size_in_bytes - sizes.alias_size_in_bytes),
        "device_peak": made_model.device_peak(device),
        "compiled_in": compiled_in,
        "loss": losses[0],
        "parameters": weights_used(projection_widths(made.decoder)),
        "computed": computed.total,
    }


if __name__ == "__main__":
    made_model.tell(measure)
