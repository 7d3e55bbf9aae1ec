"""Rotary position embeddings (Su et al. 2021) and their scalings."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


@dataclasses.dataclass(frozen=True)
class Rotary:
    """A rotary embedding of one kind of layer.

    Attributes:
      theta: base of the geometric sequence of wave lengths.
      scaling: "none"; "linear" (positions divided by `factor`); or "llama3" (long waves divided by `factor`, short ones
        kept, a ramp between; Llama 3.1 release notes).
      low, high: llama3's low_freq_factor and high_freq_factor.
      original_length: llama3's original_max_position_embeddings.
    """

    theta: float
    scaling: str = "none"
    factor: float = 1.0
    low: float = 1.0
    high: float = 4.0
    original_length: int = 8192

    def frequencies(self, head_width: int) -> Float[np.ndarray, " half"]:
        """Radians per position of each pair of channels, float32 [head_width / 2]."""
        freq = self.theta ** -(np.arange(0, head_width, 2, dtype=np.float64) / head_width)
        if self.scaling == "linear":
            freq = freq / self.factor
        elif self.scaling == "llama3":
            waves = self.original_length * freq / (2 * math.pi)  # how often each wave fits the original context
            keep = np.clip((waves - self.low) / (self.high - self.low), 0.0, 1.0)
            freq = keep * freq + (1 - keep) * freq / self.factor
        return freq.astype(np.float32)

    def tables(self, positions: Int[Array, "B T"], head_width: int) -> tuple[Float[Array, "B T half"], ...]:
        """(cos, sin) of every position, float32."""
        angles = positions[..., None].astype(jnp.float32) * self.frequencies(head_width)
        return jnp.cos(angles), jnp.sin(angles)


def apply_rotary(x: Float[Array, "B T N E"], cos: Float[Array, "B T half"], sin: Float[Array, "B T half"]):
    """Rotates each (i, i + E/2) pair of channels, as Hugging Face's weights expect; same shape and dtype as x."""
    x1, x2 = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos[:, :, None, :], sin[:, :, None, :]
    return jnp.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], axis=-1).astype(x.dtype)
