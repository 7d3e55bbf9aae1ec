"""A frozen base in 8 or 4 bits (QLoRA, Dettmers et al. 2023), dequantised inside each matrix product.

int8: one code for each weight and a float32 scale for each output channel, whose largest weight has the code 127.
nf4: two codes in a byte and a float32 scale for each block of 64 weights along the input axis. The 16 codes are
quantiles of the normal distribution, as fractions of the block's largest weight.
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
from survey_jax.model.experts import ROUTER
from survey_jax.model.matmul import dot, product
from survey_jax.parallel.sharding import gathered

Axes = tuple[str | None, ...]
BLOCK = 64  # weights that share a scale (nf4)
HALF = BLOCK // 2  # bytes of a block; the low four bits are a weight of its first half, the high four one of its second
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
    """Weights [o, i] -> codes int8 [o, i] and scales float32 [o]. The rounding error is at most half a scale."""
    w = weight.astype(np.float32)
    scale = np.abs(w).max(axis=1) / np.float32(127)
    codes = np.rint(w / np.where(scale > 0, scale, 1)[:, None])
    return codes.astype(np.int8), scale


def encode_nf4(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights [o, i] -> pairs of codes uint8 [o, i/64, 32] and scales float32 [o, i/64], by the nearest code."""
    blocks = weight.astype(np.float32).reshape(len(weight), -1, BLOCK)
    scale = np.abs(blocks).max(axis=2)
    blocks /= np.where(scale > 0, scale, 1)[..., None]
    codes = np.zeros(blocks.shape, np.uint8)
    for edge in _BETWEEN:
        codes += blocks > edge
    return codes[..., :HALF] | codes[..., HALF:] << 4, scale


@dataclasses.dataclass(frozen=True)
class Kind:
    """A way to store a projection.

    Attributes:
      dtype: of its codes.
      encode: rows of a weight matrix [r, i] -> their codes and scales.
      columns: how many columns of weights become one column of codes; 0: `encode` needs whole rows.
    """

    dtype: np.dtype
    encode: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    columns: int


KINDS = {"int8": Kind(np.dtype(np.int8), encode_int8, 0), "nf4": Kind(np.dtype(np.uint8), encode_nf4, BLOCK)}


def kind_of(codes: nnx.Variable) -> Kind:
    """The kind of quantisation that has codes of this dtype."""
    return next(kind for kind in KINDS.values() if kind.dtype == codes.dtype)


def quantize_shapes(block: nnx.Module, names: Sequence[str], kind: str) -> None:
    """Replaces projections [L, i, o] of an abstract block by codes, and adds their scales as `<name>_scale`.

    int8: codes [L, i, o], scales [L, o]. nf4: codes [L, i/64, 32, o], scales [L, i/64, o]; a mesh axis splits nf4's
    input axis between blocks of 64, and not at all if it does not divide their number.

    Raises:
      UserError: `kind` is nf4, and an input axis is not a whole number of blocks; or there are experts.
    """
    if hasattr(block, ROUTER):
        raise UserError(f"config.model.quantize = {kind!r}: a mixture of experts cannot be quantised; leave it empty")
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
    """x W for the projection `name` of one layer, plain or quantised, with operands cast to `dtype`."""
    variable = getattr(layer, name)
    weight = variable[...]
    if (scale := getattr(layer, f"{name}_scale", None)) is None:
        return product(x, weight, dtype)
    axes = tuple(v.get_metadata()["axes"][1:] for v in (variable, scale))  # without the layer axis
    return frozen_product(x, weight, scale[...], dtype, axes)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def frozen_product(
    x: Float[Array, "B T i"], codes: Array, scale: Array, dtype: jnp.dtype, axes: tuple[Axes, Axes] = ((), ())
) -> Float[Array, "B T o"]:
    """x W for a quantised W that is not trained.

    The gradient for x is written by hand: autodiff would store the dequantised W of every layer for the backward pass.
    Here the backward pass dequantises it again.

    Args:
      dtype: of the product's operands.
      axes: the logical axes of codes and of scales; () if no mesh splits them.
    """
    return dot(x, _whole(codes, scale, axes, dtype), dtype)


def _whole(codes: Array, scale: Array, axes: tuple[Axes, Axes], dtype: jnp.dtype) -> Float[Array, "i o"]:
    """W. If it is split over devices, they exchange its codes, which are smaller than W."""
    return dequantize(gathered(codes, axes[0]), gathered(scale, axes[1]), dtype)


def _forward(x: Array, codes: Array, scale: Array, dtype: jnp.dtype, axes: tuple[Axes, Axes]):
    return frozen_product(x, codes, scale, dtype, axes), (codes, scale)


def _backward(dtype: jnp.dtype, axes: tuple[Axes, Axes], saved: tuple[Array, Array], g: Float[Array, "B T o"]):
    return dot(g, _whole(*saved, axes, dtype).T, dtype), None, None


frozen_product.defvjp(_forward, _backward)


def dequantize(codes: Array, scale: Array, dtype: jnp.dtype) -> Float[Array, "i o"]:
    """The weights of one layer's codes and scales, with the rounding of quantisation."""
    if codes.dtype == jnp.int8:
        return (codes * scale).astype(dtype)
    pairs = jnp.stack([codes & 15, codes >> 4], axis=1)  # [i/64, 2, 32, o]
    values = jnp.asarray(NF4).at[pairs].get(mode="promise_in_bounds") * scale[:, None, None]
    return values.reshape(-1, codes.shape[-1]).astype(dtype)
