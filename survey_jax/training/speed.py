"""How much there is to compute in a step, and how much the devices could."""

import jax

from survey_jax.config import Config
from survey_jax.model.flops import step_flops
from survey_jax.parallel.accelerators import by_kind
from survey_jax.training.build import Model


def useful_flops(config: Config, model: Model) -> float:
    """FLOPs of a step over all devices, without the recomputation that saves memory."""
    return step_flops(
        model.step_config.decoder,
        batch_size=model.shape.batch_size * config.batch.microbatches,
        seq_len=model.shape.seq_len,
        answers_per_seq=model.shape.answers_per_seq,
        options=model.shape.options,
        lora_rank=config.lora.rank,
        projections=config.lora.projections,
        remat=config.model.remat,
        tree_shape=model.step_config.tree_shape,
    ).useful


def peak_flops() -> float | None:
    """Peak FLOP/s of all devices together by their data sheet; None for devices that are not in the table (CPUs)."""
    accelerator = by_kind(jax.devices()[0].device_kind)
    return accelerator.flops * jax.device_count() if accelerator else None
