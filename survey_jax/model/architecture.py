"""What an architecture is: its sizes, the kinds of its layers, and in which order they come."""

import dataclasses
import functools
from collections.abc import Sequence

from survey_jax.model.rotary import Rotary

PROJECTIONS = ("q", "k", "v", "o", "gate", "up", "down")
REMEMBERING = ("delta_qkv", "delta_gate", "delta_out")  # those of a layer that remembers instead of attending
# What stands for the projections of attention in such a layer, and in one that unfolds keys and values (latent.py).
IN_PLACE = {
    **dict.fromkeys(("k", "v"), ("delta_qkv", "latent_kv")),
    "q": ("delta_qkv",),
    "o": ("delta_out",),
}
EXPERTS = ("expert_gate", "expert_up", "expert_down")  # the projections that each expert has
OWN, AS_VALUES, SHARED = "own", "as_values", "shared"


@dataclasses.dataclass(frozen=True)
class DeltaNet:
    """Sizes of a layer that remembers (delta_net.py) in place of attending.

    Attributes:
      key_heads, value_heads: the first divides the second; each head of values has a memory.
      key_width, value_width: of a head.
      kernel: over how many tokens the short convolution reaches.
    """

    key_heads: int
    value_heads: int
    key_width: int
    value_width: int
    kernel: int

    @property
    def channels(self) -> int:
        """How many queries, keys and values have together."""
        return 2 * self.key_heads * self.key_width + self.value_heads * self.value_width


@dataclasses.dataclass(frozen=True)
class Latent:
    """Sizes of the short vectors from which attention unfolds its heads (latent.py).

    Attributes:
      queries: width of the vector of the queries; None: they are projected at once.
      keys: width of the vector of keys and values.
      turned: channels of a key that are rotated; all heads have the same ones.
    """

    queries: int | None
    keys: int
    turned: int


@dataclasses.dataclass(frozen=True)
class LayerKind:
    """How a layer attends, and in which sizes it differs from the model's other layers.

    Attributes:
      rotary: its rotary position embedding; None for a layer without positions (NoPE).
      window: how many positions back a query sees, its own included; None: all.
      growth: (b, n, a): a query at position p is longer by the factor 1 + b log(1 + floor((p + a) / n)); None: it is
        not.
      head_width, kv_heads, ff_width: these sizes; None: the model's.
      keys: where its keys and values come from. OWN: it computes both. AS_VALUES: its keys, before they are normalised
        and rotated, are its values, too. SHARED: it has neither, and attends to those of the last layer before with the
        same rotary embedding and window.
      experts: whether it has those that the model has.
      delta: it remembers instead of attending; the fields of attention do not matter then.
      chunk: a query sees only keys of its own chunk, which begins at every so many positions; None: of all.
      normalised: queries and keys of each head are normalised after they are rotated, without a weight.
    """

    rotary: Rotary | None
    window: int | None = None
    growth: tuple[float, int, int] | None = None
    head_width: int | None = None
    kv_heads: int | None = None
    ff_width: int | None = None
    keys: str = OWN
    experts: bool = True
    delta: DeltaNet | None = None
    chunk: int | None = None
    normalised: bool = False

    @property
    def attends_like(self) -> str:
        """What layers that share keys and values have in common; the key of a dictionary in a jitted loop."""
        return f"{self.rotary} {self.window} {self.chunk}"


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Everything about an architecture that changes a logit. `families.py` makes one from a config.json."""

    vocab_size: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    ff_width: int  # of the feed-forward part that every token uses; 0: there are experts alone
    norm_eps: float
    query_scale: float
    tied_head: bool
    kinds: tuple[LayerKind, ...]  # the kinds of layer that the model has
    layer_kinds: tuple[int, ...]  # for each layer, an index into `kinds`
    activation: str = "silu"  # | "gelu_tanh" | "clamped_swiglu"
    biases: tuple[str, ...] = ()  # which of PROJECTIONS have one
    norm_offset: float = 0.0  # Gemma multiplies by (1 + weight)
    qk_norm: str | None = None  # normalise queries and keys: each "head", or the whole "projection" at once
    pre_norms: bool = True  # normalise the input of attention and feed-forward
    post_norms: bool = False  # normalise their output
    experts: int = 0  # feed-forward parts of which a token uses some, `experts_used`
    experts_used: int = 0
    expert_width: int = 0
    expert_shares_sum: bool = True  # the weights of those that a token uses sum to 1
    shared_gate: bool = False  # experts beside the other part, which a number from 0 to 1 multiplies (Qwen)
    expert_norms: bool = False  # experts beside the other part: both and the router have norms and scales (Gemma 4)
    centred_norms: bool = False  # norms take out the mean first (LayerNorm without a bias)
    parallel: bool = False  # attention and feed-forward have the same input, normalised once
    embed_scale: float = 1.0
    residual_scale: float = 1.0  # factor on what attention and feed-forward add
    logit_scale: float = 1.0
    attention_softcap: float | None = None
    logit_softcap: float | None = None
    gated_attention: bool = False  # what a head finds is multiplied by a sigmoid; `q` makes query and gate of each head
    sinks: bool = False  # each head attends to a stored score, too, that has no value
    expert_biases: bool = False  # router and experts have biases
    value_norm: bool = False  # normalise the values of each head, without a weight
    layer_scalars: bool = False  # a stored number multiplies each layer's result
    token_inputs: int = 0  # width of what each layer is told about each token (per-layer embeddings); 0: nothing
    token_inputs_vocab: int = 0  # how many tokens there is such an embedding for
    scaled_inputs: bool = False  # a sigmoid of its score multiplies a chosen expert's input, not its result (Llama 4)
    latent: Latent | None = None  # all heads are unfolded from short vectors (Mistral Small 4)

    def shape(self, kind: LayerKind) -> "LayerShape":
        """The sizes of a kind's layers."""
        heads = (kind.head_width or self.head_width, kind.kv_heads or self.kv_heads)
        ff_width = self.ff_width if kind.ff_width is None else kind.ff_width
        return LayerShape(*heads, ff_width, kind.keys, self.experts if kind.experts else 0, kind.delta)


@dataclasses.dataclass(frozen=True)
class LayerShape:
    """What the shapes of a layer's parameters depend on, where they differ between the layers of a model."""

    head_width: int
    kv_heads: int
    ff_width: int
    keys: str
    experts: int
    delta: DeltaNet | None


@dataclasses.dataclass(frozen=True)
class Stack:
    """Layers whose parameters have the same shapes and are kept in one array each, over which the decoder scans.

    Attributes:
      name: the decoder's attribute: "blocks", "blocks_1", ...
      layers: the layers' numbers in the model.
      kinds: those of the model's kinds that they have.
      layer_kinds: for each layer, an index into `kinds`.
      remembered: later layers share the keys and values of the last of these.
    """

    name: str
    shape: LayerShape
    layers: tuple[int, ...]
    kinds: tuple[LayerKind, ...]
    layer_kinds: tuple[int, ...]
    remembered: bool


@functools.cache
def stacks(c: DecoderConfig) -> tuple[Stack, ...]:
    """The stacks of a model, in the order of their first layers. Most models have one.

    Where layers share keys and values, each kind has a stack of its own.
    """
    shared = {kind.attends_like for kind in c.kinds if kind.keys == SHARED}
    members: dict[tuple[LayerShape, LayerKind | None], list[int]] = {}
    for number, index in enumerate(c.layer_kinds):
        kind = c.kinds[index]
        members.setdefault((c.shape(kind), kind if shared else None), []).append(number)
    result = []
    for place, ((shape, _), layers) in enumerate(members.items()):
        kinds = tuple(dict.fromkeys(c.kinds[c.layer_kinds[number]] for number in layers))
        indices = tuple(kinds.index(c.kinds[c.layer_kinds[number]]) for number in layers)
        remembered = shape.keys != SHARED and kinds[0].attends_like in shared
        name = f"blocks_{place}" if place else "blocks"
        result.append(Stack(name, shape, tuple(layers), kinds, indices, remembered))
    return tuple(result)


def widest_head(c: DecoderConfig) -> int:
    """The width of the widest heads of any layer that attends."""
    return max([stack.shape.head_width for stack in stacks(c) if not stack.shape.delta], default=0)


@dataclasses.dataclass(frozen=True)
class Segment:
    """Successive layers in a repeating pattern.

    Attributes:
      runs: the pattern: from which stack, and how many layers in succession.
      repeats: how many times it comes.
    """

    runs: tuple[tuple[Stack, int], ...]
    repeats: int


@functools.cache
def segments(c: DecoderConfig) -> tuple[Segment, ...]:
    """All layers in order, as patterns that repeat as long as they can: (five with a window, one without) x 8, say."""
    of_layer = {number: stack for stack in stacks(c) for number in stack.layers}
    runs: list[tuple[Stack, int]] = []
    for number in range(c.layers):
        stack = of_layer[number]
        if runs and runs[-1][0] == stack:
            runs[-1] = (stack, runs[-1][1] + 1)
        else:
            runs.append((stack, 1))
    result, at = [], 0
    while at < len(runs):
        rest = runs[at:]
        repeating = [n for n in range(1, len(rest) // 2 + 1) if _repeats(rest, n) > 1]
        length = max(repeating, key=lambda n: _repeats(rest, n) * n, default=1)
        times = _repeats(rest, length)
        result.append(Segment(tuple(rest[:length]), times))
        at += length * times
    return tuple(result)


def _repeats(runs: Sequence[tuple[Stack, int]], length: int) -> int:
    """How many times the first `length` runs come in succession."""
    pattern, times = runs[:length], 1
    while runs[times * length : (times + 1) * length] == pattern:
        times += 1
    return times
