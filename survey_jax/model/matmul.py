"""Matrix products of activations with weights, and their gradients.

Operands may have a narrower dtype than activations. On CPUs whose matrix units multiply bfloat16 and sum in float32,
this makes products several times as fast, while everything between products stays in float32.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def product(x: Float[Array, "B T i"], w: Float[Array, "i o"], dtype: jnp.dtype) -> Float[Array, "B T o"]:
    """x w in x's dtype, with both operands cast to `dtype`."""
    return x @ w.astype(dtype) if x.dtype == dtype else _narrow(x, w, dtype)


def dot(x: Float[Array, "B T i"], w: Float[Array, "i o"], dtype: jnp.dtype) -> Float[Array, "B T o"]:
    """The value of `product`, for code that defines its own gradient."""
    contract = (((x.ndim - 1,), (0,)), ((), ()))
    return jax.lax.dot_general(x.astype(dtype), w.astype(dtype), contract, preferred_element_type=x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _narrow(x: Array, w: Array, dtype: jnp.dtype) -> Array:
    """`dot` with its gradient written by hand: autodiff would multiply a wide by a narrow operand, which is slow."""
    return dot(x, w, dtype)


def _narrow_backward(dtype: jnp.dtype, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, w = saved
    d_w = jnp.einsum("bti,bto->io", x, g.astype(dtype), preferred_element_type=jnp.float32)
    return dot(g, w.T, dtype), d_w.astype(w.dtype)


_narrow.defvjp(lambda x, w, dtype: (dot(x, w, dtype), (x.astype(dtype), w)), _narrow_backward)


@jax.custom_vjp
def low_rank(x: Float[Array, "B T i"], w: Float[Array, "i o"]) -> Float[Array, "B T o"]:
    """x w, where i or o is an adapter's rank.

    The gradient for w is written by hand: to contract over tokens, XLA would transpose the wide operand, and recompute
    in transposed form what it was made from. Here the narrow operand comes first, so that it is the one transposed.
    """
    return x @ w


def _low_rank_backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, w = saved
    narrow_first = jnp.einsum("bti,bto->io", x, g) if x.shape[-1] <= g.shape[-1] else jnp.einsum("bto,bti->oi", g, x).T
    return g @ w.T, narrow_first


low_rank.defvjp(lambda x, w: (x @ w, (x, w)), _low_rank_backward)
