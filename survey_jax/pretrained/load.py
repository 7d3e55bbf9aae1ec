"""Loads pretrained weights into a sharded model; each process reads only the parts that its devices hold."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax
import numpy as np
from flax import nnx

from survey_jax.common.errors import UserError
from survey_jax.model.abstract import abstract_arrays, abstract_model, parameter_name, variables_by_name
from survey_jax.model.architecture import SHARED, stacks
from survey_jax.model.decoder import Decoder
from survey_jax.model.lora import LoraParam, initial_adapter
from survey_jax.model.quantize import kind_of
from survey_jax.pretrained.open import Pretrained
from survey_jax.pretrained.safetensors_files import TensorSource, split_name

CHUNK = 1 << 20  # numbers read and converted at a time, which is the memory that loading needs besides the arrays
_ALIGNMENT = 64  # bytes

Range = tuple[int, int]  # first, last + 1
Box = tuple[Range, ...]  # part of an array: a range for each axis
Target = jax.ShapeDtypeStruct  # of an array that is to be loaded, with a sharding
Encode = Callable[[np.ndarray], tuple[np.ndarray, ...]]


@dataclasses.dataclass(frozen=True)
class Origin:
    """The stored tensors from which an array is loaded.

    Attributes:
      tensors: their names, one for each place of the leading axes, in their order.
      rows: the rows of each tensor that belong to the array.
      columns: the columns that do.
      stacked: the array's leading axes: (), (layers,) or (layers, experts).
      transposed: whether a tensor's rows are the array's last axis, instead of the first after the layers.
    """

    tensors: Sequence[str]
    rows: Range
    columns: Range
    stacked: tuple[int, ...]
    transposed: bool


def load(
    source: TensorSource, origin: Origin, targets: Sequence[Target], encode: Encode, block: int = 1
) -> list[jax.Array]:
    """Loads arrays from the same tensors; only the parts that this process's devices hold are read.

    Args:
      targets: one array, or the codes and scales of a quantised parameter.
      encode: rows of a tensor [r, ...] -> the corresponding part of each target, with the rows as its first axis.
      block: how many columns of a tensor become one column of a target; 0: `encode` needs whole rows.

    Raises:
      UserError: a number is NaN or infinite; names the tensor.
    """
    parts = [
        {box: _empty([last - first for first, last in box], target.dtype) for box in _places(target)}
        for target in targets
    ]
    rows, columns = _extent(origin, [box for buffers in parts for box in buffers])
    if not block:
        block, columns = 1, (0, origin.columns[1] - origin.columns[0])
    there = slice(*(origin.columns[0] + column * block for column in columns))
    index = [there] if len(source.shape(origin.tensors[0])) > 1 else []
    step = max(1, CHUNK // ((columns[1] - columns[0]) * block))
    for place, tensor in zip(np.ndindex(origin.stacked), origin.tensors, strict=True):
        for first in range(rows[0], rows[1], step):
            last = min(first + step, rows[1])
            read = source.read(tensor, (slice(origin.rows[0] + first, origin.rows[0] + last), *index))
            if not _finite(read):
                raise UserError(
                    f"{source.path}: tensor {tensor} holds NaN or infinity, which would be every prediction; fetch "
                    "the model again, or convert it again"
                )
            for made, buffers in zip(encode(read), parts, strict=True):
                value, where = _placed(origin, made, place, first, columns[0])
                for box, buffer in buffers.items():
                    _paste(value, where, buffer, box)
    return [_on_devices(target, buffers) for target, buffers in zip(targets, parts, strict=True)]


def _finite(x: np.ndarray) -> bool:
    """Whether none is NaN or infinite."""
    if x.dtype.itemsize > 2:
        return bool(np.isfinite(x).all())
    # By bits: numpy's own test takes ten times as long for 16-bit numbers. NaN and infinity have the largest exponent.
    infinity = np.array(np.inf, x.dtype).view(np.uint16)
    return not ((x.view(np.uint16) & infinity) == infinity).any()


def _empty(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """An array that begins at a multiple of 64 bytes, which jax's CPU devices use without a copy."""
    size = math.prod(shape) * dtype.itemsize
    room = np.empty(size + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    return room[start : start + size].view(dtype).reshape(shape)


def _places(target: Target) -> dict[Box, list[jax.Device]]:
    """The parts of an array that this process's devices hold, and the devices that hold each."""
    places: dict[Box, list[jax.Device]] = {}
    for device, index in target.sharding.addressable_devices_indices_map(target.shape).items():
        assert index is not None
        ends = [part.indices(size) for part, size in zip(index, target.shape, strict=True)]
        places.setdefault(tuple((first, last) for first, last, _ in ends), []).append(device)
    return places


def _extent(origin: Origin, boxes: Sequence[Box]) -> tuple[Range, Range]:
    """The smallest ranges of a tensor's rows and columns that contain some parts (`boxes`) of the targets."""
    inner = [box[len(origin.stacked) :] for box in boxes]
    inner = [box[-1:] + box[:-1] if origin.transposed else box for box in inner]  # as stored: rows first
    columns = [box[1] for box in inner if len(box) > 1] or [(0, 1)]
    rows = [box[0] for box in inner]
    return (min(a for a, _ in rows), max(b for _, b in rows)), (min(a for a, _ in columns), max(b for _, b in columns))


def _placed(origin: Origin, made: np.ndarray, place: tuple[int, ...], row: int, column: int) -> tuple[np.ndarray, Box]:
    """A part of a target (`made` from a tensor's values at `row` and `column`) in its layout, and its place there."""
    start = (row, column, 0)
    where = tuple((a, a + n) for a, n in zip(start, made.shape, strict=False))
    if origin.transposed:
        made, where = np.moveaxis(made, 0, -1), where[1:] + where[:1]
    leading = tuple((number, number + 1) for number in place)
    return made.reshape(*(1 for _ in place), *made.shape), (*leading, *where)


def _paste(value: np.ndarray, where: Box, buffer: np.ndarray, box: Box) -> None:
    """Copies the overlap of two parts of an array, from `value` at `where` to `buffer` at `box`."""
    shared = [(max(a, c), min(b, d)) for (a, b), (c, d) in zip(where, box, strict=True)]
    if all(a < b for a, b in shared):
        target = tuple(slice(a - start, b - start) for (a, b), (start, _) in zip(shared, box, strict=True))
        origin = tuple(slice(a - start, b - start) for (a, b), (start, _) in zip(shared, where, strict=True))
        buffer[target] = value[origin]


def _on_devices(target: Target, buffers: dict[Box, np.ndarray]) -> jax.Array:
    """Puts the parts onto their devices one by one, so that the host's memory of each is freed before the next."""
    singles = []
    for box, devices in _places(target).items():
        part = buffers.pop(box)
        singles += jax.block_until_ready([jax.device_put(part, device) for device in devices])
        del part
    return jax.make_array_from_single_device_arrays(target.shape, target.sharding, singles)


def load_model(
    pretrained: Pretrained, abstract: Decoder, mesh: jax.sharding.Mesh, *, frozen_dtype: str, trainable: type, seed: int
) -> Decoder:
    """Fills an abstract model with a checkpoint's weights; each device's part is read straight into its shard.

    Args:
      frozen_dtype: the dtype of parameters that are neither trained nor quantised.
      trainable: the Variable type that training updates; such parameters are float32.
      seed: seed of the adapters' initial values.

    Raises:
      UserError: a tensor is missing, has another shape, or is not used by the architecture.
    """
    graphdef, state = nnx.split(abstract)
    variables, arrays = variables_by_name(state), abstract_arrays(state, mesh, frozen_dtype, trainable)
    targets = {name: variable.get_value() for name, variable in variables_by_name(arrays).items()}
    base = variables_by_name(nnx.state(abstract_model(pretrained.config, 0, ())))
    _check_names(pretrained, {name: tuple(variable.shape) for name, variable in base.items()})
    origins = {name: _origin(pretrained, name, tuple(variable.shape)) for name, variable in base.items()}
    values: dict[str, jax.Array] = {}
    adapters = {name for name, variable in variables.items() if isinstance(variable, LoraParam)}
    for number, name in enumerate(name for name in variables if name in adapters or name in base):
        scale = f"{name}_scale"
        if name in adapters:
            key, where = jax.random.fold_in(jax.random.key(seed), number), targets[name]
            init = jax.jit(initial_adapter, static_argnums=(0, 2), out_shardings=where.sharding)
            values[name] = init(name, key, where.shape)
        elif scale in variables:
            kind = kind_of(variables[name])
            pair = [targets[name], targets[scale]]
            values[name], values[scale] = load(pretrained.source, origins[name], pair, kind.encode, kind.columns)
        else:
            [values[name]] = load(pretrained.source, origins[name], [targets[name]], lambda x: (x,))
    filled = [(path, v.replace(values[parameter_name(path)])) for path, v in nnx.to_flat_state(state)]
    return nnx.merge(graphdef, nnx.from_flat_state(filled))


def unwritable(pretrained: Pretrained) -> list[str]:
    """Parameters that are computed from what is stored, so that an export cannot write them if they are trained."""
    source, result = pretrained.source, []
    for name, variable in variables_by_name(nnx.state(abstract_model(pretrained.config, 0, ()))).items():
        stored = pretrained.weight_map[name].places(tuple(variable.shape)).values()
        if any(source.stored(tensor) != [split_name(tensor)[0]] for tensor in stored):
            result.append(name)
    return result


def _check_names(pretrained: Pretrained, shapes: dict[str, tuple[int, ...]]) -> None:
    """UserError if the file has a tensor that is not used: a bias, say, would change the logits."""
    at = pretrained.weight_map
    named = {name for parameter, shape in shapes.items() for name in at[parameter].places(shape).values()}
    used = {tensor for name in named for tensor in pretrained.source.stored(name)}
    used |= {at["head"].name} if pretrained.config.tied_head else set()
    for stack in stacks(pretrained.config):
        if stack.shape.keys == SHARED:  # Gemma 4's own files have keys and values of these layers, too, which none uses
            unused = [at.entries[f"blocks.{name}"].name for name in ("k", "v", "k_norm", "k_bias", "v_bias")]
            used |= {name.format(layer) for name in unused for layer in stack.layers}
    unknown = [n for n in pretrained.source.names if n not in used and not n.startswith(at.ignored)]
    unknown = [n for n in unknown if not n.endswith("rotary_emb.inv_freq")]  # older releases store it, unused
    if unknown:
        raise UserError(f"{pretrained.path}: tensor {sorted(unknown)[0]} ({len(unknown)} in all) is not supported")


def _origin(pretrained: Pretrained, name: str, shape: tuple[int, ...]) -> Origin:
    """Where a parameter of this shape is stored. UserError if a tensor is missing or has another shape or dtype."""
    entry = pretrained.weight_map[name]
    stacked, inner = entry.split(shape)
    inner = inner[::-1] if entry.transposed else inner  # as Hugging Face has it
    parts = (entry.rows, entry.columns, None)
    rows, columns = (part or (0, size) for part, size in zip(parts[:2], (*inner, 1)[:2], strict=True))
    tensors = list(entry.places(shape).values())
    for tensor in tensors:
        if absent := [name for name in pretrained.source.stored(tensor) if name not in pretrained.source.names]:
            raise UserError(f"{pretrained.path}: tensor {absent[0]} is missing")
        whole = pretrained.source.stored(tensor)[0]
        if split_name(tensor)[1] is not None and (count := (*pretrained.source.shape(whole), 0)[0]) != stacked[-1]:
            raise UserError(f"{pretrained.path}: tensor {whole} holds {count} experts; its config says {stacked[-1]}")
        found = pretrained.source.shape(tensor)
        sizes = zip(found, inner, parts, strict=False)
        if len(found) != len(inner) or any(n < part[1] if part else n != size for n, size, part in sizes):
            raise UserError(f"{pretrained.path}: tensor {tensor} has shape {found}; its config says {inner}")
        pretrained.source.dtype(tensor)  # raises UserError for an unsupported one
    return Origin(tensors, rows, columns, stacked, entry.transposed)
