"""Dropout of adapters' ranks: a step trains with some of the ranks of each adapter, so that they do not rely on others.

After Srivastava et al. (2014, JMLR 15), on the ranks of adapters rather than on their inputs: all rows of a step share
the mask, so trees and separate prompts still have the same loss, and nothing is added to the forward pass.
"""

import zlib
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Int

from survey_jax.model.abstract import parameter_name


def with_dropout(params: nnx.State, rate: float, seed: int, step: Int[Array, ""] | int) -> nnx.State:
    """Adapters without a share of their ranks, drawn for each layer and projection; what is kept is scaled up.

    Args:
      params: adapters, of which B [L, R, o], or of experts [L, X, R, o], is masked.
      rate: the share of ranks that is left out, on average; 0: `params` as they are.
      seed, step: of the draw.
    """
    if not rate:
        return params
    key = jax.random.fold_in(jax.random.key(seed), step)

    def masked(path: tuple[Any, ...], variable: Any) -> Any:
        name = parameter_name(path)
        if not name.endswith("_lora_b"):
            return variable
        own = jax.random.fold_in(key, zlib.crc32(name.encode()))
        kept = jax.random.bernoulli(own, 1 - rate, (*variable.shape[:-1], 1))
        return variable.replace(variable.get_value() * kept / (1 - rate))

    return nnx.from_flat_state([(path, masked(path, variable)) for path, variable in nnx.to_flat_state(params)])
