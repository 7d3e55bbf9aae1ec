"""How fast this machine multiplies matrices of a model's own shapes, by torch and by jax.

A worker of benchmarks.speed; `python -m benchmarks.matmul_peak SPECIFICATION` is not for people.
"""

import time
from collections.abc import Callable
from typing import Any

from benchmarks.speed.speed_worker import CORES, serve

SECONDS = 0.3  # spent on each product
DTYPES = ("float32", "bfloat16")


class Peak:
    """A worker's recipe that multiplies.

    Args:
      spec: "recipe" ("peak_torch" or "peak_jax"), "shapes" (of products: [m, k, n]).
    """

    def __init__(self, spec: dict[str, Any]):
        self.spec = spec

    def load(self) -> dict[str, Any]:
        make = torch_product if self.spec["recipe"] == "peak_torch" else jax_product
        self.products = {
            (dtype, tuple(shape)): make(dtype, *shape) for dtype in DTYPES for shape in self.spec["shapes"]
        }
        return {}

    def first(self) -> dict[str, Any]:
        for product in self.products.values():
            product()
        return {"losses": {}, "asked": {}, "compile_s": None}

    def prepare(self) -> None:
        pass

    def round(self, number: int, steps: int) -> dict[str, Any]:
        """FLOP/s by dtype and shape: of the fastest product."""
        found: dict[str, dict[str, float]] = {dtype: {} for dtype in DTYPES}
        for (dtype, shape), product in self.products.items():
            m, k, n = shape
            found[dtype][f"{m}x{k}x{n}"] = 2 * m * k * n / fastest(product)
        return {"flops": found}

    def rest(self) -> None:
        pass


def fastest(product: Callable[[], Any]) -> float:
    """Seconds."""
    times, end = [], time.perf_counter() + SECONDS
    while not times or time.perf_counter() < end:
        begin = time.perf_counter()
        product()
        times.append(time.perf_counter() - begin)
    return min(times)


def torch_product(dtype: str, m: int, k: int, n: int) -> Callable[[], Any]:
    import torch

    torch.set_num_threads(CORES)
    a, b = (torch.randn(shape).to(getattr(torch, dtype)) for shape in ((m, k), (n, k)))

    def product() -> Any:
        with torch.inference_mode():
            return torch.nn.functional.linear(a, b)

    return product


def jax_product(dtype: str, m: int, k: int, n: int) -> Callable[[], Any]:
    import jax

    a, b = (jax.random.normal(jax.random.key(0), shape).astype(dtype) for shape in ((m, k), (k, n)))
    multiply = jax.jit(lambda a, b: a @ b)
    return lambda: multiply(a, b).block_until_ready()


if __name__ == "__main__":
    serve(Peak)
