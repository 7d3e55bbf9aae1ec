"""How many floating-point operations a step computes, from the architecture alone.

XLA's own count takes the body of a loop once, however often it runs, so it cannot serve (layers and microbatches are
loops). Counted are matrix products, two operations a multiply-add; everything else is small beside them.
"""

import dataclasses
import math

from survey_jax.model.decoder import PROJECTIONS, DecoderConfig
from survey_jax.model.visibility import TreeShape


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
      tree_shape: of two-part attention; None for dense.
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
    return Flops(
        forward, forward + trained + attention, _recomputed(c, per_product, attention, lora_rank, adapted, remat)
    )


def _recomputed(
    c: DecoderConfig, per_product: int, attention: int, lora_rank: int, adapted: tuple[str, ...], remat: str
) -> int:
    """Attention's gradient always computes its scores again; "full" computes each layer again but for its last product,
    whose result no gradient needs."""
    if remat != "full":
        return attention // 2
    width = projection_widths(c)
    last = 0 if c.post_norms else math.prod(width["down"])
    again = sum(math.prod(width[name]) for name in PROJECTIONS) - last
    for name in adapted:
        fan_in, fan_out = width[name]
        again += lora_rank * (fan_in if name == "down" and not c.post_norms else fan_in + fan_out)
    return per_product * again + attention


def projection_widths(c: DecoderConfig) -> dict[str, tuple[int, int]]:
    """Input and output width of each of PROJECTIONS."""
    d, f, q, kv = c.width, c.ff_width, c.heads * c.head_width, c.kv_heads * c.head_width
    return {"q": (d, q), "k": (d, kv), "v": (d, kv), "o": (q, d), "gate": (d, f), "up": (d, f), "down": (f, d)}


def attention_pairs(tokens: int, shape: TreeShape | None) -> int:
    """Query-key pairs of a row that an attention back end computes, masked ones included."""
    return tokens**2 if shape is None else tokens * (shape.trunks + 2 * shape.branch)


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
