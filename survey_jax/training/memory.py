"""Refuses sizes that no memory here can hold, before any of it is asked for."""

import os
from pathlib import Path

import jax

from survey_jax.common.errors import UserError
from survey_jax.config import Config
from survey_jax.model.architecture import DecoderConfig

_CGROUP = Path("/sys/fs/cgroup/memory.max")  # what a container may have, in bytes or "max"


def memory_here() -> float:
    """Bytes of memory of all devices together; where they do not tell, as CPUs, of all machines."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    if all("bytes_limit" in found for found in stats):
        here = float(sum(found["bytes_limit"] for found in stats))
    else:
        here = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        limit = _CGROUP.read_text().strip() if _CGROUP.exists() else "max"
        here = min(here, float(limit)) if limit.isdecimal() else here
    return here * jax.process_count()


def check_memory(config: Config, decoder: DecoderConfig, trained: int, options: int) -> None:
    """Compares the least that a run takes with the memory of all devices. More may turn out to be needed.

    Args:
      trained: how many parameters are trained.
      options: option letters (K).

    Raises:
      UserError: trained parameters, a step's batch or a layer's numbers do not fit; names the settings.
    """
    b, lora = config.batch, config.lora
    sequences = f"config.batch.batch_size = {b.batch_size} sequences of seq_len = {b.seq_len}"
    step = f"config.batch.microbatches = {b.microbatches} of batch_size = {b.batch_size}"
    widest = max(decoder.ff_width, decoder.expert_width)
    rows, layer = b.microbatches * b.batch_size, 2 * decoder.width + widest  # numbers a token
    bytes_each = 2 if config.model.dtype == "bfloat16" and jax.default_backend() != "cpu" else 4
    least = {
        f"config.lora.rank = {lora.rank}: the trained parameters": 4 * trained,
        f"{sequences}: one layer of the model": bytes_each * b.batch_size * b.seq_len * layer,
        f"{step}, seq_len = {b.seq_len}: the tokens of a step": 16 * rows * b.seq_len,  # four arrays of int32
        f"{step}, answers_per_seq = {b.answers_per_seq}: the answers of a step": 8 * rows * b.answers_per_seq * options,
    }
    here = memory_here()
    for what, size in least.items():
        if size > here:
            sizes = f"{size / 1e9:,.0f} GB, more than the {here / 1e9:,.0f} GB of memory here"
            raise UserError(f"{what} would take {sizes}; choose less")
