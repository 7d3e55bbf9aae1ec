"""How many floating-point operations a step computes, from the architecture alone.

XLA's own count cannot be used: it counts the body of a loop once, however often it runs, and layers and microbatches
are loops. Only matrix products are counted, as two operations for each multiply-add; all the rest is small beside them.
"""

import dataclasses
import math

from survey_jax.model.attention_mask import TreeShape
from survey_jax.model.decoder import PROJECTIONS, DecoderConfig


@dataclasses.dataclass(frozen=True)
class Flops:
    """Floating-point operations of a step, summed over devices.

    Attributes:
      forward: the forward pass, which evaluation computes, too.
      backward: gradients with respect to activations and trained parameters.
      recomputed: parts of the forward pass that attention's gradient and `remat` compute a second time.
    """

    forward: float
    backward: float
    recomputed: float

    @property
    def useful(self) -> float:
        """What model FLOPs utilisation counts (Chowdhery et al. 2022, appendix B): recomputation is left out."""
        return self.forward + self.backward

    @property
    def total(self) -> float:
        """What the devices really compute, recomputation included."""
        return self.forward + self.backward + self.recomputed


def step_flops(
    c: DecoderConfig,
    *,
    batch_size: int,
    seq_len: int,
    answers_per_seq: int,
    options: int,
    lora_rank: int,
    projections: tuple[str, ...],
    remat: str,
    tree_shape: TreeShape | None = None,
) -> Flops:
    """FLOPs of a training step.

    Args:
      batch_size: sequences of all microbatches together.
      seq_len, answers_per_seq: tokens and answers of a sequence, padding included.
      options: letters K whose logits are computed.
      lora_rank: 0 for full fine-tuning.
      projections: those with adapters.
      remat: a key of decoder.REMAT.
      tree_shape: the layout that attention relies on; None for dense attention.
    """
    width = projection_widths(c)
    adapted = projections if lora_rank else ()
    weights = sum(math.prod(width[name]) for name in PROJECTIONS)
    adapters = sum(lora_rank * sum(width[name]) for name in adapted)
    per_product = 2 * batch_size * seq_len * c.layers  # for one weight in each layer
    pairs = batch_size * attention_pairs(seq_len, tree_shape)
    attention = 4 * pairs * c.heads * c.head_width * c.layers  # q k', then the weighted sum of v
    head = 2 * batch_size * answers_per_seq * options * c.width

    forward = per_product * (weights + adapters) + attention + head
    # Each product has two gradients of its own size; a frozen weight's gradient is not computed.
    trained = per_product * (adapters if lora_rank else weights) + (0 if lora_rank else head)
    recomputed = _attention_recomputed(attention, remat, tree_shape.back_end if tree_shape else "dense")
    if remat == "full":  # all products but a layer's last, whose result no gradient needs
        last = 0 if c.post_norms else math.prod(width["down"]) + (lora_rank * width["down"][1]) * ("down" in adapted)
        recomputed += per_product * (weights + adapters - last)
    return Flops(forward, forward + trained + attention, recomputed)


def _attention_recomputed(attention: int, remat: str, back_end: str) -> int:
    """FLOPs of attention's forward pass (`attention`) that its backward pass repeats.

    The backward pass computes the scores again; splash does so in each of two kernels, and repeats one more product.
    With "full", the layer's whole forward pass is repeated: XLA shares its scores with those of the backward pass,
    but cannot do so inside kernels.
    """
    again = attention // 2 * (3 if back_end == "splash" else 1)
    if remat != "full":
        return again
    return attention + (again if back_end in ("cudnn", "splash") else 0)


def projection_widths(c: DecoderConfig) -> dict[str, tuple[int, int]]:
    """(input, output) channels of each of PROJECTIONS, those of all experts that a token uses together."""
    d, f, q, kv = c.width, c.ff_width * max(c.experts_used, 1), c.heads * c.head_width, c.kv_heads * c.head_width
    return {"q": (d, q), "k": (d, kv), "v": (d, kv), "o": (q, d), "gate": (d, f), "up": (d, f), "down": (f, d)}


def attention_pairs(seq_len: int, shape: TreeShape | None) -> int:
    """Query-key pairs of a sequence that attention computes, masked ones included; an upper bound for splash."""
    if shape is None:
        return seq_len**2
    if shape.back_end == "splash":
        return seq_len * (seq_len + shape.branch) // 2  # all blocks but those above the diagonal
    return seq_len * (shape.trunks + 2 * shape.branch)


def step_bytes(
    c: DecoderConfig, *, batch_size: int, microbatches: int, seq_len: int, itemsize: int, lora_rank: int, remat: str
) -> float:
    """Bytes that the layers' matrix products read and write if every operand and result passes through memory once.

    This is a rough measure: attention is dense, norms are left out, and nothing is fused.

    Args:
      batch_size: sequences of one microbatch.
      itemsize: bytes of a number.
    """
    width = projection_widths(c)
    passes = 2 + (not lora_rank) + (remat == "full")  # forward, input's gradient, weight's gradient, forward again
    stored = projection_widths(dataclasses.replace(c, experts_used=c.experts))  # all experts are read
    weights = microbatches * sum(math.prod(stored[name]) for name in PROJECTIONS) * itemsize
    activations = microbatches * batch_size * seq_len * sum(sum(width[name]) for name in PROJECTIONS) * itemsize
    pairs = microbatches * batch_size * seq_len**2 * c.heads
    scores = pairs * (4 + itemsize) * 2  # float32 before the softmax, `itemsize` after it; written and read
    return c.layers * (passes * (weights + activations) + (3 + (remat != "none")) * scores)
