"""A checksum of every array of a pytree: of its bits alone, however it is spread over devices and processes."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt32

_WORDS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}  # bytes of an element -> what its bits are read as


def checksums(tree: Any) -> dict[str, int]:
    """Path of a leaf -> checksum.

    That is the sum, modulo 2^32, of every element's bits times an odd number that depends on the element's place. An
    odd factor is invertible modulo 2^32, so a change of one element changes the sum for certain, and a change of
    several does with a probability of about 1 - 2^-32. Integers add up to the same in any order, so that neither mesh
    nor number of processes matters. It is computed where the arrays lie, in one pass (the CPU compiler takes scratch
    memory for it, as much as the largest array); all processes call it.
    """
    return {name: int(total) for name, total in _named(jax.device_get(_sums(tree)))}


def kinds(tree: Any) -> dict[str, str]:
    """Path of a leaf -> its type and shape."""
    return {name: f"{x.dtype}{list(x.shape)}" for name, x in _named(tree)}


def _named(tree: Any) -> list[tuple[str, Any]]:
    """E.g. ("optimizer/mu/blocks/q_lora_a", array)."""
    leaves = jax.tree.leaves_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), x) for path, x in leaves]


@jax.jit
def _sums(tree: Any) -> Any:
    return jax.tree.map(_sum, tree)


def _sum(x: Array) -> UInt32[Array, ""]:
    bits = x if x.dtype == bool else jax.lax.bitcast_convert_type(x, _WORDS[x.dtype.itemsize])
    strides = [math.prod(x.shape[axis + 1 :]) % 2**32 for axis in range(x.ndim)]
    place = sum(
        (jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis) * jnp.uint32(s) for axis, s in enumerate(strides)),
        jnp.zeros(x.shape, jnp.uint32),
    )
    return jnp.sum(bits.astype(jnp.uint32) * (_scramble(place) | 1), dtype=jnp.uint32)


def _scramble(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """The last steps of MurmurHash3 (Appleby): neighbours get unrelated numbers."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
