"""Rotary position embeddings (Su et al. 2021) and their scalings."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rotary:
    """A rotary embedding without scaling; the base class of those with scaling.

    Attributes:
      theta: base of the geometric sequence of wave lengths.
      share: the fraction of each head's channels, from the first on, that is rotated (partial rotary).
      interleaved: channels (2i, 2i + 1) form a pair, instead of (i, i + half).
      attention_factor: a factor on cos and sin (YaRN, LongRoPE).
    """

    theta: float
    share: float = 1.0
    interleaved: bool = False
    attention_factor: float = 1.0

    def frequencies(self, width: int, length: Int[Array, "B T"]) -> Float[Array, "*BT half"]:
        """Radians per position of each pair of channels, float32 [width / 2], or [B, T, width / 2] if `length` matters.

        Args:
          width: how many channels of a head are rotated.
          length: for each token, the number of tokens in the longest prompt of its tree.
        """
        return jnp.asarray(plain(self.theta, width), jnp.float32)

    def tables(
        self, positions: Int[Array, "B T"], length: Int[Array, "B T"], head_width: int
    ) -> tuple[Float[Array, "B T half"], ...]:
        """(cos, sin) of every token's angles, float32."""
        frequencies = self.frequencies(int(head_width * self.share), length)
        angles = positions[..., None].astype(jnp.float32) * frequencies
        return jnp.cos(angles) * self.attention_factor, jnp.sin(angles) * self.attention_factor


def plain(theta: float, width: int) -> Float[np.ndarray, " half"]:
    """Radians per position without scaling, float64 [width / 2]."""
    return theta ** -(np.arange(0, width, 2, dtype=np.float64) / width)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Linear(Rotary):
    """Positions divided by `factor` (Chen et al. 2023)."""

    factor: float

    def frequencies(self, width, length):
        return jnp.asarray(plain(self.theta, width) / self.factor, jnp.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Proportional(Rotary):
    """Pairs reach over the whole head, but only the first, fastest ones turn (Gemma 4, layers without a window).

    Attributes:
      turning: the fraction of pairs that turn.
    """

    factor: float = 1.0
    turning: float = 1.0

    def frequencies(self, width, length):
        turn = np.arange(width // 2) < int(self.turning * width // 2)
        return jnp.asarray(np.where(turn, plain(self.theta, width) / self.factor, 0), jnp.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Llama3(Rotary):
    """Low frequencies divided by `factor`, high ones kept, a ramp between (Llama 3.1's release notes).

    Attributes:
      low, high: how many waves of the ramp's lowest and highest frequency fit into `original_length`; where they are
        equal, there is no ramp but a step.
    """

    factor: float
    low: float
    high: float
    original_length: int

    def frequencies(self, width, length):
        frequencies = plain(self.theta, width)
        waves = self.original_length * frequencies / (2 * math.pi)
        if self.high > self.low:
            keep = np.clip((waves - self.low) / (self.high - self.low), 0.0, 1.0)
        else:
            keep = np.where(waves >= self.low, 1.0, 0.0)
        return jnp.asarray(keep * frequencies + (1 - keep) * frequencies / self.factor, jnp.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Yarn(Rotary):
    """YaRN (Peng et al. 2023, section 3.2): as Llama3, but the ramp is linear in the channel's number.

    Attributes:
      slow, fast: how often the longest and the shortest wave of the ramp fit into `original_length`.
      truncate: the ramp begins and ends at whole channels.
    """

    factor: float
    slow: float = 1.0
    fast: float = 32.0
    original_length: int
    truncate: bool = True

    def frequencies(self, width, length):
        def channel(waves: float) -> float:
            return width * math.log(self.original_length / (waves * 2 * math.pi)) / (2 * math.log(self.theta))

        first, last = channel(self.fast), channel(self.slow)
        if self.truncate:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, width - 1)
        ramp = (np.arange(width // 2) - first) / ((last - first) or 0.001)
        keep = 1 - np.clip(ramp, 0, 1)
        frequencies = plain(self.theta, width)
        return jnp.asarray(keep * frequencies + (1 - keep) * frequencies / self.factor, jnp.float32)


# The two scalings below depend on the length of the prompt. The prompts of an answer tree share their trunk, so there
# the length of its longest prompt counts. A tree with one branch always gives the same as its separate prompt. With
# several branches, Dynamic differs from separate prompts if they have different lengths beyond original_length, and
# LongRope only if some prompts are longer than original_length and others are not. `batch.groups_per_tree = 1` (each
# prompt is a tree of its own) avoids both.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dynamic(Rotary):
    """NTK-aware scaling of prompts beyond `original_length`; it grows with the prompt's length, by `factor`."""

    factor: float
    original_length: int

    def frequencies(self, width, length):
        growth = jnp.maximum(self.factor * length / self.original_length - (self.factor - 1), 1.0)
        exponents = jnp.arange(0, width, 2) / (width - 2)  # theta grows by growth ** (width / (width - 2))
        return jnp.asarray(plain(self.theta, width), jnp.float32) * growth[..., None] ** -exponents


@dataclasses.dataclass(frozen=True, kw_only=True)
class LongRope(Rotary):
    """LongRoPE (Ding et al. 2024): each frequency has a divisor, and another for prompts beyond `original_length`."""

    short: tuple[float, ...]
    long: tuple[float, ...]
    original_length: int

    def frequencies(self, width, length):
        short, long = (
            jnp.asarray(plain(self.theta, width) / np.array(f), jnp.float32) for f in (self.short, self.long)
        )
        return jnp.where(length[..., None] > self.original_length, long, short)


def apply_rotary(
    x: Float[Array, "B T N E"], cos: Float[Array, "B T half"], sin: Float[Array, "B T half"], interleaved: bool = False
) -> Float[Array, "B T N E"]:
    """Rotates pairs of channels as Hugging Face's weights expect; the result has x's shape and dtype.

    The pairs are (i, i + half) of the first 2 * half channels; other channels stay as they are. Interleaved pairs
    (2i, 2i + 1) are returned in the order (i, i + half), which changes no product of a query and a key.
    """
    width = 2 * cos.shape[-1]
    turned, rest = x[..., :width].astype(jnp.float32), x[..., width:]
    a, b = (turned[..., ::2], turned[..., 1::2]) if interleaved else jnp.split(turned, 2, axis=-1)
    cos, sin = cos[:, :, None, :], sin[:, :, None, :]
    turned = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)
    return jnp.concatenate([turned, rest], axis=-1)
