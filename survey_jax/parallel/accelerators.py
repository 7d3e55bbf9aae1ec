"""Memory, speed and bandwidth of accelerators, for plans and for MFU. The table is `data/accelerators.yaml`."""

import dataclasses
from importlib import resources
from typing import Any

import yaml

from survey_jax.common.errors import UserError

_GIB, _GB = 1 << 30, 1e9  # bytes


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """One device as jax counts devices.

    Attributes:
      name: what --chip calls it.
      kinds: the values of `jax.Device.device_kind` that mean it.
      memory: bytes.
      flops: peak FLOP/s of dense bfloat16 matrix products with float32 accumulation.
      memory_bandwidth: bytes/s.
      fast_bandwidth: bytes/s that a device sends within its host (GPU) or slice (TPU), one direction, all links
        together.
      slow_bandwidth: bytes/s that a device sends beyond its host or slice: its share of the host's network cards.
      domain: the most devices that the fast links connect.
      source: where the numbers are published.
    """

    name: str
    kinds: tuple[str, ...]
    memory: float
    flops: float
    memory_bandwidth: float
    fast_bandwidth: float
    slow_bandwidth: float
    domain: int
    source: str


def _read(name: str, entry: dict[str, Any]) -> Accelerator:
    return Accelerator(
        name=name,
        kinds=tuple(entry["kinds"]),
        memory=entry["memory_gib"] * _GIB if "memory_gib" in entry else entry["memory_gb"] * _GB,
        flops=entry["tflops"] * 1e12,
        domain=entry["domain"],
        source=entry["source"],
        **{f"{kind}_bandwidth": entry[f"{kind}_bandwidth"] * _GB for kind in ("memory", "fast", "slow")},
    )


_TABLE = yaml.safe_load((resources.files("survey_jax") / "data" / "accelerators.yaml").read_text(encoding="utf-8"))
ACCELERATORS = tuple(_read(name, entry) for name, entry in _TABLE.items())


def by_name(name: str) -> Accelerator:
    """The accelerator of --chip. Raises UserError where there is none."""
    if name not in _TABLE:
        raise UserError(f"--chip={name}: unknown; choose one of {', '.join(_TABLE)}")
    return next(a for a in ACCELERATORS if a.name == name)


def by_kind(device_kind: str) -> Accelerator | None:
    """The accelerator that jax reports as this; None where the table lacks it (a CPU, say)."""
    return next((a for a in ACCELERATORS if device_kind in a.kinds), None)
