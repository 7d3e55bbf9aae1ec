"""How many floating-point operations a step computes, from the architecture alone.

XLA's own count takes the body of a loop once, however often it runs, so it cannot serve (layers and microbatches are
loops). Counted are matrix products, two operations a multiply-add; everything else is small beside them.
"""

import dataclasses
import math

from survey_jax.model.attention_mask import TreeShape
from survey_jax.model.decoder import PROJECTIONS, DecoderConfig


@dataclasses.dataclass(frozen=True)
class Flops:
    """Of some rows, over all devices.

    Attributes:
      forward: what evaluation computes too.
      backward: gradients of activations and of what is trained.
      recomputed: parts of the forward pass that attention's gradient and `remat` compute once more.
    """

    forward: float
    backward: float
    recomputed: float

    @property
    def useful(self) -> float:
        """What model FLOPs utilisation counts (Chowdhery et al. 2022, appendix B): nothing twice."""
        return self.forward + self.backward

    @property
    def total(self) -> float:
        """What the devices compute."""
        return self.forward + self.backward + self.recomputed


def step_flops(
    c: DecoderConfig,
    *,
    rows: int,
    tokens: int,
    answers: int,
    options: int,
    lora_rank: int,
    projections: tuple[str, ...],
    remat: str,
    tree_shape: TreeShape | None = None,
) -> Flops:
    """A training step.

    Args:
      rows: of all microbatches; tokens, answers: of a row, padding included; options: letters K.
      lora_rank: 0 for full fine-tuning; projections: those with adapters.
      remat: a key of decoder.REMAT.
      tree_shape: of all back ends but dense attention; None for that.
    """
    width = projection_widths(c)
    adapted = projections if lora_rank else ()
    weights = sum(math.prod(width[name]) for name in PROJECTIONS)
    adapters = sum(lora_rank * sum(width[name]) for name in adapted)
    per_product = 2 * rows * tokens * c.layers  # of one weight, over all tokens of all layers
    attention = 4 * rows * attention_pairs(tokens, tree_shape) * c.heads * c.head_width * c.layers  # q k', then times v
    head = 2 * rows * answers * options * c.width

    forward = per_product * (weights + adapters) + attention + head
    # Each product has two gradients of its own size; the one of a frozen weight is left out.
    trained = per_product * (adapters if lora_rank else weights) + (0 if lora_rank else head)
    recomputed = _attention_recomputed(attention, remat, tree_shape.back_end if tree_shape else "dense")
    if remat == "full":
        recomputed += per_product * _weights_recomputed(c, lora_rank, adapted)
    return Flops(forward, forward + trained + attention, recomputed)


def _attention_recomputed(attention: int, remat: str, back_end: str) -> int:
    """Its gradient computes the scores again: splash in each of two kernels, and another product twice; with "full",
    XLA computes them once for the layer and its gradient, but cannot look into kernels."""
    again = attention // 2 * (3 if back_end == "splash" else 1)
    if remat != "full":
        return again
    return attention + (again if back_end in ("cudnn", "splash") else 0)


def _weights_recomputed(c: DecoderConfig, lora_rank: int, adapted: tuple[str, ...]) -> int:
    """Of a layer: "full" computes it again but for its last product, whose result no gradient needs."""
    width = projection_widths(c)
    last = 0 if c.post_norms else math.prod(width["down"])
    again = sum(math.prod(width[name]) for name in PROJECTIONS) - last
    for name in adapted:
        fan_in, fan_out = width[name]
        again += lora_rank * (fan_in if name == "down" and not c.post_norms else fan_in + fan_out)
    return again


def projection_widths(c: DecoderConfig) -> dict[str, tuple[int, int]]:
    """Input and output width of each of PROJECTIONS."""
    d, f, q, kv = c.width, c.ff_width, c.heads * c.head_width, c.kv_heads * c.head_width
    return {"q": (d, q), "k": (d, kv), "v": (d, kv), "o": (q, d), "gate": (d, f), "up": (d, f), "down": (f, d)}


def attention_pairs(tokens: int, shape: TreeShape | None) -> int:
    """Query-key pairs of a row that an attention back end computes, masked ones included; by splash, at most."""
    if shape is None:
        return tokens**2
    if shape.back_end == "splash":
        return tokens * (tokens + shape.branch) // 2  # all blocks but those above the diagonal
    return tokens * (shape.trunks + 2 * shape.branch)


def step_bytes(
    c: DecoderConfig, *, rows: int, microbatches: int, tokens: int, itemsize: int, lora_rank: int, remat: str
) -> float:
    """What the layers' matrix products read and write: every operand and every result passes through memory once.

    A rough measure, of dense attention and without what compilers fuse or norms add.

    Args:
      rows, tokens: of a microbatch, of a row; itemsize: bytes of a number.
      lora_rank, remat: as in `step_flops`.
    """
    width = projection_widths(c)
    passes = 2 + (not lora_rank) + (remat == "full")  # forward, gradient of the input, of the weight; once more
    weights = microbatches * sum(math.prod(width[name]) for name in PROJECTIONS) * itemsize
    activations = microbatches * rows * tokens * sum(sum(width[name]) for name in PROJECTIONS) * itemsize
    scores = microbatches * rows * tokens**2 * c.heads * (4 + itemsize) * 2  # float32 before the softmax; out and back
    return c.layers * (passes * (weights + activations) + (3 + (remat != "none")) * scores)
