"""A frozen base in 8 or 4 bits (QLoRA, Dettmers et al. 2023): stored so, and turned back inside the matrix product.

int8: a code a weight, a float32 scale an output channel; the largest weight of a channel is 127.
nf4: two codes a byte, a float32 scale for each 64 weights along the input axis. The 16 codes stand for quantiles of
the normal distribution, in shares of the block's largest weight.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from survey_jax.common.errors import UserError
from survey_jax.model.matmul import dot, product
from survey_jax.parallel.sharding import gathered

Axes = tuple[str | None, ...]
BLOCK = 64  # weights to a scale (nf4)
HALF = BLOCK // 2  # bytes to a block; a byte's low bits are a weight of its first half, the high bits of its second
# The NF4 data type: appendix E of the paper.
NF4 = np.array(
    [
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
        -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
        0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
        0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ],
    np.float32,
)  # fmt: skip
_BETWEEN = (NF4[1:] + NF4[:-1]) / 2


def encode_int8(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[o, i] -> codes int8 [o, i], scales float32 [o]; a weight is off by half a scale at most."""
    w = weight.astype(np.float32)
    scale = np.abs(w).max(axis=1) / np.float32(127)
    codes = np.rint(w / np.where(scale > 0, scale, 1)[:, None])
    return codes.astype(np.int8), scale


def encode_nf4(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[o, i] -> pairs of codes uint8 [o, i/64, 32], scales float32 [o, i/64]; each weight gets the nearest code."""
    blocks = weight.astype(np.float32).reshape(len(weight), -1, BLOCK)
    scale = np.abs(blocks).max(axis=2)
    blocks /= np.where(scale > 0, scale, 1)[..., None]
    codes = np.zeros(blocks.shape, np.uint8)
    for edge in _BETWEEN:
        codes += blocks > edge
    return codes[..., :HALF] | codes[..., HALF:] << 4, scale


@dataclasses.dataclass(frozen=True)
class Kind:
    """A way to store a projection; `encode` and `columns` are as `loading.load` takes them."""

    dtype: np.dtype
    encode: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    columns: int


KINDS = {"int8": Kind(np.dtype(np.int8), encode_int8, 0), "nf4": Kind(np.dtype(np.uint8), encode_nf4, BLOCK)}
QUANTIZE = ("", *KINDS)


def kind_of(codes: nnx.Variable) -> Kind:
    """How these codes are stored; their type tells."""
    return next(kind for kind in KINDS.values() if kind.dtype == codes.dtype)


def quantize_shapes(block: nnx.Module, names: Sequence[str], kind: str) -> None:
    """Makes projections [L, i, o] of an abstract block into codes, and puts scales `<name>_scale` beside them.

    int8: codes [L, i, o], scales [L, o]. nf4: codes [L, i/64, 32, o], scales [L, i/64, o]; so a mesh axis splits the
    input axis between blocks of 64, or, if it does not divide their number, not at all.

    Raises:
      UserError: nf4, and an input axis that is not a whole number of blocks.
    """
    for name in names:
        weight = getattr(block, name)
        layers, fan_in, fan_out = weight.shape
        layer, in_axis, out_axis = weight.get_metadata()["axes"]
        if kind == "int8":
            _put(block, name, (layers, fan_in, fan_out), (layer, in_axis, out_axis), np.int8)
            _put(block, f"{name}_scale", (layers, fan_out), (layer, out_axis), np.float32)
        elif fan_in % BLOCK == 0:
            blocks = fan_in // BLOCK
            _put(block, name, (layers, blocks, HALF, fan_out), (layer, in_axis, None, out_axis), np.uint8)
            _put(block, f"{name}_scale", (layers, blocks, fan_out), (layer, in_axis, out_axis), np.float32)
        else:
            raise UserError(
                f"config.model.quantize = {kind!r}: the input of {name} has {fan_in} channels, not a multiple of "
                f"{BLOCK}; use 'int8'"
            )


def _put(block: nnx.Module, name: str, shape: tuple[int, ...], axes: tuple[str | None, ...], dtype: type) -> None:
    setattr(block, name, nnx.Param(jnp.zeros(shape, dtype), axes=axes))


def project(x: Float[Array, "B T i"], layer: nnx.Module, name: str, dtype: jnp.dtype) -> Float[Array, "B T o"]:
    """x W for the projection `name` of one layer, however it is stored; operands are of type `dtype`."""
    variable = getattr(layer, name)
    weight = variable[...]
    if (scale := getattr(layer, f"{name}_scale", None)) is None:
        return product(x, weight, dtype)
    axes = tuple(v.get_metadata()["axes"][1:] for v in (variable, scale))  # of one layer
    return frozen_product(x, weight, scale[...], dtype, axes)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def frozen_product(
    x: Float[Array, "B T i"], codes: Array, scale: Array, dtype: jnp.dtype, axes: tuple[Axes, Axes] = ((), ())
) -> Float[Array, "B T o"]:
    """x W for a quantised W that is not trained.

    Its own gradient for x: left to itself, autodiff keeps the W of every layer, turned back to full size, for the
    backward pass. Here the backward pass turns it back once more.

    Args:
      dtype: of the product's operands.
      axes: logical names of the dimensions of codes and of scales; () where no mesh splits them.
    """
    return dot(x, _whole(codes, scale, axes, dtype), dtype)


def _whole(codes: Array, scale: Array, axes: tuple[Axes, Axes], dtype: jnp.dtype) -> Float[Array, "i o"]:
    """W; where devices share it, codes travel between them, which are smaller."""
    return dequantize(gathered(codes, axes[0]), gathered(scale, axes[1]), dtype)


def _forward(x: Array, codes: Array, scale: Array, dtype: jnp.dtype, axes: tuple[Axes, Axes]):
    return frozen_product(x, codes, scale, dtype, axes), (codes, scale)


def _backward(dtype: jnp.dtype, axes: tuple[Axes, Axes], saved: tuple[Array, Array], g: Float[Array, "B T o"]):
    return dot(g, _whole(*saved, axes, dtype).T, dtype), None, None


frozen_product.defvjp(_forward, _backward)


def dequantize(codes: Array, scale: Array, dtype: jnp.dtype) -> Float[Array, "i o"]:
    """The weight that codes and scales of one layer stand for."""
    if codes.dtype == jnp.int8:
        return (codes * scale).astype(dtype)
    pairs = jnp.stack([codes & 15, codes >> 4], axis=1)  # [i/64, 2, 32, o]
    values = jnp.asarray(NF4).at[pairs].get(mode="promise_in_bounds") * scale[:, None, None]
    return values.reshape(-1, codes.shape[-1]).astype(dtype)
