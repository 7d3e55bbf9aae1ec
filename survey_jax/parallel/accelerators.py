"""Memory, speed and bandwidth of accelerators, with the source of each number."""

import dataclasses

from survey_jax.common.errors import UserError

GIB = 1 << 30


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
      source: the documents that the numbers are from.
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


ACCELERATORS = (
    Accelerator(
        "a100-40gb", ("NVIDIA A100-SXM4-40GB", "NVIDIA A100-PCIE-40GB"),
        40e9, 312e12, 1555e9, 300e9, 25e9, 8,
        "NVIDIA A100 datasheet (SXM; NVLink 600 GB/s both ways); DGX A100: 8 x 200 Gb/s for 8 GPUs",
    ),
    Accelerator(
        "a100-80gb", ("NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB PCIe"),
        80e9, 312e12, 2039e9, 300e9, 25e9, 8,
        "NVIDIA A100 datasheet (SXM; NVLink 600 GB/s both ways); DGX A100: 8 x 200 Gb/s for 8 GPUs",
    ),
    Accelerator(
        "h100", ("NVIDIA H100 80GB HBM3",),
        80e9, 989e12, 3350e9, 450e9, 50e9, 8,
        "NVIDIA H100 datasheet (SXM; BF16 1,979 TFLOP/s with sparsity, half without; NVLink 900 GB/s both ways); "
        "DGX H100: 8 x 400 Gb/s for 8 GPUs",
    ),
    Accelerator(
        "h200", ("NVIDIA H200",),
        141e9, 989e12, 4800e9, 450e9, 50e9, 8,
        "NVIDIA H200 datasheet (SXM; BF16 and NVLink as H100); DGX H200: 8 x 400 Gb/s for 8 GPUs",
    ),
    Accelerator(
        "b200", ("NVIDIA B200",),
        180e9, 2250e12, 7700e9, 900e9, 50e9, 8,
        "NVIDIA HGX/DGX B200 datasheet (8 GPUs: 1,440 GB, BF16 18 PFLOP/s without sparsity, some 62 TB/s; NVLink 1.8 "
        "TB/s both ways a GPU); 8 x 400 Gb/s for 8 GPUs",
    ),
    Accelerator(
        "l4", ("NVIDIA L4",),
        24e9, 121e12, 300e9, 32e9, 1.56e9, 8,
        "NVIDIA L4 datasheet (BF16 242 TFLOP/s with sparsity, half without; PCIe 4.0 x16, 64 GB/s both ways); Google "
        "Cloud g2-standard-96: 8 GPUs, 100 Gb/s",
    ),
    Accelerator(
        "rtx4090", ("NVIDIA GeForce RTX 4090",),
        24e9, 165e12, 1008e9, 32e9, 1.56e9, 8,
        "NVIDIA Ada architecture whitepaper, appendix A (BF16 with float32 sums 165.2 TFLOP/s); PCIe 4.0 x16; assumed: "
        "one 100 Gb/s card for 8 GPUs",
    ),
    Accelerator(
        "v4", ("TPU v4",),
        32 * GIB, 275e12, 1200e9, 300e9, 6.25e9, 4096,
        "Google Cloud documentation, TPU v4 (ICI 2,400 Gb/s a chip); network: 'How to scale your model', part 2",
    ),
    Accelerator(
        "v5e", ("TPU v5 lite", "TPU v5e"),
        16 * GIB, 197e12, 819e9, 200e9, 3.1e9, 256,
        "Google Cloud documentation, TPU v5e (ICI 1,600 Gb/s a chip; 2 x 100 Gb/s for 8 chips)",
    ),
    Accelerator(
        "v5p", ("TPU v5", "TPU v5p"),
        95 * GIB, 459e12, 2765e9, 600e9, 6.25e9, 6144,
        "Google Cloud documentation, TPU v5p (ICI 4,800 Gb/s a chip; largest slice 6,144 chips; 200 Gb/s for 4 chips)",
    ),
    Accelerator(
        "v6e", ("TPU v6 lite", "TPU v6e"),
        32 * GIB, 918e12, 1600e9, 400e9, 12.5e9, 256,
        "Google Cloud documentation, TPU v6e (ICI 800 GB/s both ways a chip; 4 x 200 Gb/s for 8 chips)",
    ),
    Accelerator(
        "v7x", ("TPU7x",),
        96 * GIB, 1153e12, 3690e9, 300e9, 6.25e9, 18432,
        "Google Cloud documentation, TPU7x; jax sees two devices a chip, each with half of 192 GiB, 2,307 TFLOP/s, "
        "7,380 GB/s, 1,200 GB/s of ICI both ways and 100 Gb/s of network",
    ),
)  # fmt: skip


def by_name(name: str) -> Accelerator:
    """The accelerator of --chip. Raises UserError where there is none."""
    for accelerator in ACCELERATORS:
        if accelerator.name == name:
            return accelerator
    raise UserError(f"--chip={name}: unknown; choose one of {', '.join(a.name for a in ACCELERATORS)}")


def by_kind(device_kind: str) -> Accelerator | None:
    """The accelerator that jax reports as this; None where the table lacks it (a CPU, say)."""
    return next((a for a in ACCELERATORS if device_kind in a.kinds), None)
