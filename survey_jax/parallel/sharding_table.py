"""A table of how every array of a training step is sharded: `--explain_sharding`."""

import dataclasses
import math
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh

from survey_jax.parallel.sharding import RULES


@dataclasses.dataclass(frozen=True)
class Layout:
    """One array of a training step.

    Attributes:
      part: "frozen", "trained" or "optimizer".
      axes: the logical names of the dimensions; None for a dimension that is never sharded.
      spec: the mesh axis that shards each dimension; None where it is replicated.
      bytes: per device.
      undivided: dimensions that are replicated only because their mesh axis does not divide them.
    """

    part: str
    name: str
    axes: tuple[str | None, ...]
    shape: tuple[int, ...]
    dtype: str
    spec: tuple[str | None, ...]
    bytes: int
    undivided: tuple[str, ...]


def layouts(params: Any, opt_state: Any, frozen: Any, mesh: Mesh) -> list[Layout]:
    """The layout of every array of a training step; `jax.ShapeDtypeStruct`s with a sharding will do."""
    result = []
    for part, tree in (("frozen", frozen), ("trained", params), ("optimizer", opt_state)):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: isinstance(x, nnx.Variable)):
            array = leaf.get_value() if isinstance(leaf, nnx.Variable) else leaf
            axes = leaf.get_metadata()["axes"] if isinstance(leaf, nnx.Variable) else (None,) * len(array.shape)
            name = jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")
            spec = tuple(array.sharding.spec) + (None,) * (len(array.shape) - len(array.sharding.spec))
            undivided = []
            for axis, size, by in zip(axes, array.shape, spec, strict=True):
                wanted = RULES.get(axis) if axis else None
                if wanted and by is None and mesh.shape[wanted] > 1:
                    undivided.append(f"{wanted} {mesh.shape[wanted]} does not divide {axis} {size}")
            facts = (axes, tuple(array.shape), str(array.dtype), spec, bytes_per_device(array))
            result.append(Layout(part, name, *facts, tuple(undivided)))
    return result


def bytes_per_device(tree: Any) -> int:
    """Bytes per device held by the arrays of a tree."""
    leaves = jax.tree.leaves(tree)
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in leaves)


def text(rows: list[Layout]) -> str:
    """The rows as an aligned text table, with the total of each part below."""
    cells = [
        (r.part, r.name, _list(r.axes), "x".join(map(str, r.shape)), r.dtype, _list(r.spec), f"{r.bytes / 1e6:,.3f}")
        for r in rows
    ]
    head = ("part", "parameter", "axes", "shape", "dtype", "split by", "MB a device")
    widths = [max(len(row[i]) for row in [head, *cells]) for i in range(len(head))]
    lines = []
    for row, layout in zip([head, *cells], [None, *rows], strict=True):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False))
        note = f"  whole: {'; '.join(layout.undivided)}" if layout and layout.undivided else ""
        lines.append(f"{line}  {row[-1]:>{widths[-1]}}{note}")
    for part in dict.fromkeys(r.part for r in rows):
        total = sum(r.bytes for r in rows if r.part == part)
        lines.append(f"{part}: {total / 1e9:,.3f} GB a device")
    return "\n".join(lines)


def _list(names: tuple[str | None, ...]) -> str:
    return ", ".join(name or "-" for name in names) or "-"
