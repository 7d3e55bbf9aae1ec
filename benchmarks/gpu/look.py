"""What there is on this machine, for benchmarks.gpu: device, versions, what is missing, the speed of a large product.

`python -m benchmarks.gpu.look {}` is not for people. Prints a line of JSON: "device", "platform", "devices", "memory"
(bytes of a device, null where it does not tell), "product_flops" (FLOP/s of a bfloat16 product), "peak_flops" (of the
data sheet; 0 if unknown), "python", "versions" and "missing" (what setup.py asks for that is not installed, or is in
another version).
"""

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from benchmarks.gpu.wheels import needs

ROOT = Path(__file__).parents[2]
TOLD = ("jax", "jaxlib", "jax-cuda13-plugin", "jax-cuda12-plugin", "libtpu", "flax", "optax", "orbax-checkpoint",
        "transformers", "torch", "peft", "numpy")  # fmt: skip


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """What the process prints, by an empty specification."""
    import jax

    from benchmarks.speed.made_model import peak_flops, timed

    device = jax.devices()[0]
    n = 256 if device.platform == "cpu" else 8192
    a, b = (jax.random.normal(jax.random.key(i), (n, n), "bfloat16") for i in (0, 1))
    multiply = jax.jit(lambda a, b: a @ b)
    seconds = timed(lambda: multiply(a, b).block_until_ready(), 10)
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "devices": jax.device_count(),
        "memory": (device.memory_stats() or {}).get("bytes_limit"),
        "product_flops": 2 * n**3 / seconds,
        "peak_flops": peak_flops(device.device_kind),
        "python": platform.python_version(),
        "versions": {name: found for name in TOLD if (found := installed(name))},
        "missing": [str(need) for need in requirements() if not need.specifier.contains(installed(need.name) or "0")],
    }


def requirements() -> list[Requirement]:
    """What setup.py says that the package needs."""
    return [Requirement(text) for text in needs((ROOT / "setup.py").read_text(encoding="utf-8"))]


def installed(name: str) -> str | None:
    """The version of a package; None where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    from benchmarks.speed.made_model import tell

    tell(measure)
