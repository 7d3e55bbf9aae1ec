"""How many floating-point operations a step computes, from the architecture alone.

XLA's own count cannot be used: it counts the body of a loop once, however often it runs, and layers and microbatches
are loops. Only matrix products are counted, as two operations for each multiply-add; all the rest is small beside them.
"""

import dataclasses
import math
from collections.abc import Sequence

from survey_jax.model.architecture import AS_VALUES, EXPERTS, IN_PLACE, SHARED, DecoderConfig, stacks
from survey_jax.model.attention_mask import TreeShape


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
    widths = projection_widths(c)
    adapted = projections if lora_rank else ()
    adapters = lora_rank * adapted_channels(c, adapted)
    weights = weights_used(widths)
    per_product = 2 * batch_size * seq_len  # for one weight
    pairs = batch_size * attention_pairs(seq_len, tree_shape)
    attention = 4 * pairs * head_channels(c)  # q k', then the weighted sum of v
    head = 2 * batch_size * answers_per_seq * options * c.width

    forward = per_product * (weights + adapters) + attention + head
    # Each product has two gradients of its own size; a frozen weight's gradient is not computed.
    trained = per_product * (adapters if lora_rank else weights) + (0 if lora_rank else head)
    recomputed = _attention_recomputed(attention, remat, tree_shape.back_end if tree_shape else "dense")
    if remat == "full":  # all products but a layer's last, whose result no gradient needs
        last = 0
        for n, w in widths if not c.post_norms else []:
            ff, d = w.get("down", (0, 0))
            last += n * (ff * d + (lora_rank * d) * ("down" in adapted))
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


Widths = list[tuple[int, dict[str, tuple[int, int]]]]


def projection_widths(c: DecoderConfig, experts: int | None = None) -> Widths:
    """For each stack of layers how many there are, and the (input, output) channels of a layer's projections.

    Args:
      experts: how many of a layer's experts to count, as if they were one; None: those that a token uses.
    """
    d, result = c.width, []
    for stack in stacks(c):
        shape = stack.shape
        q, kv, f = c.heads * shape.head_width, shape.kv_heads * shape.head_width, shape.ff_width
        if delta := shape.delta:
            values = delta.value_heads * delta.value_width
            widths = {"delta_qkv": (d, delta.channels), "delta_gate": (d, values), "delta_out": (values, d)}
            widths |= {"delta_beta": (d, delta.value_heads), "delta_decay": (d, delta.value_heads)}
        else:
            widths = {"q": (d, q * (1 + c.gated_attention)), "o": (q, d)}
        if latent := c.latent:
            widths |= {
                "k_down": (d, latent.keys + latent.turned),
                "latent_kv": (latent.keys, 2 * q - c.heads * latent.turned),
            }
            widths |= {"q_down": (d, latent.queries), "q": (latent.queries, q)} if latent.queries else {}
        elif not delta and shape.keys != SHARED:
            widths |= {"k": (d, kv)} if shape.keys == AS_VALUES else {"k": (d, kv), "v": (d, kv)}
        if f:
            widths |= {"gate": (d, f), "up": (d, f), "down": (f, d)}
        if shape.experts:
            f = c.expert_width * (c.experts_used if experts is None else experts)
            widths |= {"expert_gate": (d, f), "expert_up": (d, f), "expert_down": (f, d)}
        if c.token_inputs:
            told = c.token_inputs  # of `token_projection` each layer has so many columns
            widths |= {"token_projection": (d, told), "token_gate": (d, told), "token_out": (told, d)}
        result.append((len(stack.layers), widths))
    return result


def adapted_channels(c: DecoderConfig, projections: Sequence[str]) -> int:
    """Input and output channels of all projections with adapters that a token uses, together."""
    result = 0
    for n, w in projection_widths(c):
        names = {next((x for x in (name, *IN_PLACE.get(name, ())) if x in w), name) for name in projections}
        result += n * sum(sum(w[name]) for name in names if name in w)
        # A token's experts count as one, whose width is all of theirs; each has an adapter as wide as the model, too.
        result += n * c.width * (c.experts_used - 1) * sum(name in w for name in names if name in EXPERTS)
    return result


def weights_used(widths: Widths) -> int:
    """Weights of all layers' projections by which a token is multiplied."""
    return sum(n * sum(math.prod(pair) for pair in w.values()) for n, w in widths)


def head_channels(c: DecoderConfig) -> int:
    """Channels of all heads of all layers.

    A memory (delta_net.py) counts as so many as cost the same: for each pair of tokens it has two products of keys, a
    row of the triangular system and a weighted sum of values.
    """
    result = 0
    for stack in stacks(c):
        delta = stack.shape.delta
        each = c.heads * stack.shape.head_width
        if delta:
            each = delta.value_heads * (delta.key_width + delta.value_width)
        result += len(stack.layers) * each
    return result


def attention_pairs(seq_len: int, shape: TreeShape | None) -> int:
    """Query-key pairs of a sequence that attention computes, masked ones included; an upper bound for splash."""
    if shape is None:
        return seq_len**2
    if shape.back_end == "splash":
        return seq_len * (seq_len + shape.branch) // 2  # all blocks but those above the diagonal
    return seq_len * (shape.trunks + 2 * shape.branch)


def step_bytes(
    c: DecoderConfig,
    *,
    batch_size: int,
    microbatches: int,
    seq_len: int,
    itemsize: int,
    lora_rank: int,
    remat: str,
    expert: int = 1,
) -> float:
    """Bytes that the layers' matrix products read and write if every operand and result passes through memory once.

    This is a rough measure: attention is dense, norms are left out, and nothing is fused.

    Args:
      batch_size: sequences of one microbatch.
      itemsize: bytes of a number.
      expert: devices over which experts are split: each reads its own.
    """
    widths = projection_widths(c)
    passes = 2 + (not lora_rank) + (remat == "full")  # forward, input's gradient, weight's gradient, forward again
    weights = microbatches * weights_used(projection_widths(c, c.experts // expert)) * itemsize
    channels = sum(n * sum(map(sum, w.values())) for n, w in widths)
    activations = microbatches * batch_size * seq_len * channels * itemsize
    attending = sum(len(stack.layers) for stack in stacks(c) if not stack.shape.delta)
    pairs = microbatches * batch_size * seq_len**2 * c.heads * attending
    scores = pairs * (4 + itemsize) * 2  # float32 before the softmax, `itemsize` after it; written and read
    return passes * (weights + activations) + (3 + (remat != "none")) * scores
