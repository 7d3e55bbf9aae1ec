"""Where Hugging Face's checkpoints store our parameters."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping

import numpy as np

from survey_jax.model.architecture import Stack


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Where a checkpoint stores one of our parameters.

    Attributes:
      name: the stored tensor's name, with "{}" for the layer number if our parameter is stacked over layers, and with
        another for the expert's number if it is stacked over experts, too: "[{}]" where one tensor holds all experts.
      transposed: the tensor is stored as [out, in]; our parameter is [in, out].
      rows: (first, last + 1) of the stored tensor's rows, if several parameters are fused into one tensor; None: all.
      layers: the numbers of the layers over which our parameter is stacked; None: all of the model's.
      columns: (first, last + 1) of the stored tensor's columns, if parameters are fused along them; None: all.
    """

    name: str
    transposed: bool = False
    rows: tuple[int, int] | None = None
    layers: tuple[int, ...] | None = None
    columns: tuple[int, int] | None = None

    def split(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The leading axes over which our parameter is stacked, and the rest of its shape."""
        count = self.name.count("{}")
        return shape[:count], shape[count:]

    def places(self, shape: tuple[int, ...]) -> dict[tuple[int, ...], str]:
        """The stored tensor for each place of our parameter's leading axes, in their order."""
        return {place: self.name.format(*self._numbers(place)) for place in np.ndindex(self.split(shape)[0])}

    def _numbers(self, place: tuple[int, ...]) -> tuple[int, ...]:
        return place if self.layers is None else (self.layers[place[0]], *place[1:])


@dataclasses.dataclass(frozen=True)
class WeightMap:
    """Where a checkpoint stores all of our parameters.

    Attributes:
      entries: the stored tensor of each parameter, by our name. Parameters that only some models of a family have
        are listed too. "blocks.NAME" counts for all stacks of layers that have no entry of their own.
      stacks: for a model with several stacks of layers, the layers of each by its name: "blocks", "blocks_1", ...
      spellings: for a checkpoint that holds more than the text model: the possible replacements of a name's first word.
      otherwise: entries of files that store some parameters in another way.
      ignored: name prefixes of that checkpoint's other tensors, which the text model does not use.
      module: where transformers' model of text and images has the text decoder, if there is one.
    """

    entries: Mapping[str, Tensor]
    stacks: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    spellings: tuple[Mapping[str, str], ...] = ()
    otherwise: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    module: str = "model.language_model"

    def __getitem__(self, parameter: str) -> Tensor:
        stack, _, name = parameter.partition(".")
        if stack not in self.stacks:
            return self.entries[parameter]
        entry = self.entries.get(parameter) or self.entries[f"blocks.{name}"]
        return dataclasses.replace(entry, layers=self.stacks[stack])

    def with_entries(self, entries: Mapping[str, Tensor]) -> "WeightMap":
        """This map with some entries added or replaced."""
        return dataclasses.replace(self, entries={**self.entries, **entries})

    def found_in(self, stored: Collection[str]) -> "WeightMap":
        """This map in the spelling of a checkpoint whose tensors have the names `stored`."""
        if self.otherwise:
            other = dataclasses.replace(self.with_entries(self.otherwise), otherwise={}).found_in(stored)
            named = {name for ours in self.otherwise for name in other[ours].places((1, 1)).values()}
            return other if named <= set(stored) else dataclasses.replace(self, otherwise={}).found_in(stored)
        for words in self.spellings:
            entries = {}
            for parameter, tensor in self.entries.items():
                first, _, rest = tensor.name.partition(".")
                entries[parameter] = dataclasses.replace(tensor, name=f"{words[first]}.{rest}")
            if entries["embedding"].name in stored:
                return dataclasses.replace(self, entries=entries, spellings=())
        return self


def layer(path: str) -> Tensor:
    """A vector that each layer has, such as a norm's weight."""
    return Tensor(f"model.layers.{{}}.{path}.weight")


def projection(path: str, rows: tuple[int, int] | None = None) -> Tensor:
    """A matrix that each layer has."""
    return Tensor(f"model.layers.{{}}.{path}.weight", transposed=True, rows=rows)


_PROJECTIONS = {p: f"self_attn.{p}_proj" for p in "qkvo"} | {p: f"mlp.{p}_proj" for p in ("gate", "up", "down")}
LLAMA = WeightMap(
    {
        "embedding": Tensor("model.embed_tokens.weight"),
        "final_norm": Tensor("model.norm.weight"),
        "head": Tensor("lm_head.weight"),
        "blocks.attention_norm": layer("input_layernorm"),
        "blocks.ff_norm": layer("post_attention_layernorm"),
        "blocks.q_norm": layer("self_attn.q_norm"),
        "blocks.k_norm": layer("self_attn.k_norm"),
    }
    | {f"blocks.{ours}": projection(path) for ours, path in _PROJECTIONS.items()}
    | {f"blocks.{ours}_bias": Tensor(f"model.layers.{{}}.{path}.bias") for ours, path in _PROJECTIONS.items()}
)
POST_NORMS = LLAMA.with_entries(
    {
        "blocks.attention_post_norm": layer("post_attention_layernorm"),
        "blocks.ff_post_norm": layer("post_feedforward_layernorm"),
    }
)
GEMMA2 = POST_NORMS.with_entries({"blocks.ff_norm": layer("pre_feedforward_layernorm")})


def experts(router: str, gate: str, up: str, down: str) -> dict[str, Tensor]:
    """The router and the projections of each expert."""
    paths = {"router": router, "expert_gate": gate, "expert_up": up, "expert_down": down}
    return {f"blocks.{ours}": projection(path) for ours, path in paths.items()}


MIXTRAL = LLAMA.with_entries(
    experts("block_sparse_moe.gate", *(f"block_sparse_moe.experts.{{}}.{name}" for name in ("w1", "w3", "w2")))
)
QWEN_MOE = LLAMA.with_entries(
    experts("mlp.gate", *(f"mlp.experts.{{}}.{name}_proj" for name in ("gate", "up", "down")))
)


def stacked_experts(path: str, width: int) -> dict[str, Tensor]:
    """The projections of experts that are stored in two tensors a layer, `gate_up_proj` and `down_proj`.

    Args:
      path: of both within a layer.
      width: of an expert; gate has the first rows, up as many more.
    """
    fused, down = (f"model.layers.{{}}.{path}.{name}_proj[{{}}]" for name in ("gate_up", "down"))
    return {
        "blocks.expert_gate": Tensor(fused, transposed=True, rows=(0, width)),
        "blocks.expert_up": Tensor(fused, transposed=True, rows=(width, 2 * width)),
        "blocks.expert_down": Tensor(down, transposed=True),
    }


def beside_experts(layers: Iterable[Stack], shared: str, alone: str) -> dict[str, Tensor]:
    """The feed-forward part that every token uses; its path is `shared` in layers with experts, `alone` in others."""
    return {
        f"{stack.name}.{name}": projection(f"{shared if stack.shape.experts else alone}.{name}_proj")
        for stack in layers
        for name in ("gate", "up", "down")
    }
