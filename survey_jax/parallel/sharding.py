"""The device mesh, and the one table from logical axis names to mesh axes."""

import math
import re
from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from survey_jax.common.errors import UserError

MESH_AXES = ("data", "fsdp", "tensor", "expert")
Sizes = tuple[int, int, int, int]  # of these axes

# A parameter's logical axis -> the mesh axis that shards it. Axes not named here, and dimensions that the mesh axis
# does not divide, are replicated.
RULES = {
    "embed": "fsdp", "vocab": "tensor", "heads": "tensor", "kv_heads": "tensor", "ff": "tensor", "experts": "expert"
}  # fmt: skip

_ROW_AXES = ("data", "fsdp", "expert")
ROWS = P(_ROW_AXES)  # of a batch
LOOKUP_TOKENS = P("data")  # while the embedding is looked up
LOOKUP = P("data", None, "fsdp")  # and what is found, [B, T, D]: columns where the table has them


def make_mesh(data: int, fsdp: int, tensor: int, expert: int = 1) -> Mesh:
    """A mesh of these sizes over all devices; one size may be -1, "the rest". UserError if it cannot fit.

    `constrain` and `gathered` go by the current mesh, which `jax.set_mesh` sets.
    """
    return arrange(mesh_shape((data, fsdp, tensor, expert), jax.device_count()), jax.devices())


def mesh_shape(asked: Sizes, devices: int) -> Sizes:
    """Mesh sizes with -1 replaced by what is left of the devices. UserError if they do not cover the devices."""
    sizes = list(asked)
    if sizes.count(-1) == 1:
        known = math.prod(s for s in sizes if s != -1)
        sizes[sizes.index(-1)] = devices // known if known > 0 else 0
    if min(sizes) < 1 or math.prod(sizes) != devices:
        named = " x ".join(f"{name}={size}" for name, size in zip(MESH_AXES, asked, strict=True))
        raise UserError(f"mesh: {named} does not cover the {devices} devices here; set config.mesh to sizes that do")
    return sizes[0], sizes[1], sizes[2], sizes[3]


def read_mesh(text: str) -> Sizes:
    """The sizes of the axes from `data:1,fsdp:8,tensor:1`; a missing axis is 1. UserError for other text."""
    sizes = dict.fromkeys(MESH_AXES, 1)
    for part in text.split(","):
        name, _, size = part.partition(":")
        if name not in sizes or not re.fullmatch(r"-?\d{1,9}", size, re.ASCII):
            raise UserError(f"--mesh={text}: {part!r} is not one of {', '.join(MESH_AXES)} and a number, as in fsdp:8")
        sizes[name] = int(size)
    return sizes["data"], sizes["fsdp"], sizes["tensor"], sizes["expert"]


def row_devices(mesh: Mesh | AbstractMesh) -> int:
    """How many devices, or groups of them along `tensor`, split the rows of a batch."""
    return math.prod(mesh.shape[axis] for axis in _ROW_AXES)


def arrange(sizes: Sizes, devices: Sequence[jax.Device]) -> Mesh:
    """Arranges devices in a mesh, with neighbouring devices side by side.

    If they form several slices (of TPUs, or machines with GPUs) joined by a slower network, the outer axes cross it:
    data as far as possible, then fsdp, and the others only if they must.
    """
    types = (AxisType.Auto,) * len(MESH_AXES)
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if slices == 1:
        return jax.make_mesh(sizes, MESH_AXES, axis_types=types, devices=devices)
    across, rest = [], slices
    for size in sizes:
        across.append(math.gcd(size, rest))
        rest //= across[-1]
    if rest > 1:
        raise UserError(f"mesh: {' x '.join(map(str, sizes))} cannot be split over {slices} slices of devices evenly")
    within = [size // outer for size, outer in zip(sizes, across, strict=True)]
    return Mesh(mesh_utils.create_hybrid_device_mesh(within, across, devices), MESH_AXES, axis_types=types)


def partition(shape: tuple[int, ...], axes: tuple[str | None, ...], mesh: Mesh | AbstractMesh) -> NamedSharding:
    """The sharding of one parameter by RULES."""
    names = [RULES.get(axis) if axis else None for axis in axes]
    fits = [n if n and size % mesh.shape[n] == 0 else None for n, size in zip(names, shape, strict=True)]
    return NamedSharding(mesh, P(*fits))


def parameter_shardings(state: nnx.State, mesh: Mesh | AbstractMesh) -> nnx.State:
    """The shardings of a state, leaf by leaf, from the axes that `decoder.param` recorded."""

    def one(variable: Any) -> Any:
        return variable.replace(partition(variable.shape, variable.get_metadata()["axes"], mesh))

    return jax.tree.map(one, state, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))


def constrain(x: jax.Array, spec: P) -> jax.Array:
    """Constrains an activation's sharding inside jit; does nothing where no mesh is set."""
    return x if jax.sharding.get_abstract_mesh().empty else jax.lax.with_sharding_constraint(x, spec)


def gathered(x: jax.Array, axes: tuple[str | None, ...]) -> jax.Array:
    """A parameter with these logical axes, gathered along `fsdp` for a matrix product, inside jit."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or not axes:
        return x
    return jax.lax.with_sharding_constraint(x, gathered_spec(x.shape, axes, mesh))


def gathered_spec(shape: tuple[int, ...], axes: tuple[str | None, ...], mesh: Mesh | AbstractMesh) -> P:
    """How a parameter lies on the mesh once it is gathered along `fsdp`."""
    return P(*(None if name == "fsdp" else name for name in partition(shape, axes, mesh).spec))
