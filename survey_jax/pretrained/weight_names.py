"""Where Hugging Face's checkpoints keep our parameters."""

import dataclasses
from collections.abc import Collection


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Where Hugging Face keeps one of our parameters.

    Attributes:
      name: with "{}" for the layer where the parameter is stacked.
      transposed: stored as [out, in], the other way round than ours.
      rows: (first, last + 1) of the stored tensor's rows, where several parameters are fused into one; None: all.
    """

    name: str
    transposed: bool = False
    rows: tuple[int, int] | None = None

    def renamed(self, words: dict[str, str]) -> "Tensor":
        """The same under another name, whose first word is replaced."""
        first, _, rest = self.name.partition(".")
        return dataclasses.replace(self, name=f"{words[first]}.{rest}")


class Names(dict[str, Tensor]):
    """Where the parameters are stored, by our name; also those that a model of the family need not have.

    Attributes:
      spellings: of a checkpoint with more than text: what may stand for the first word of a name in it.
      not_text: prefixes of that checkpoint's other tensors, which the text decoder leaves alone.
    """

    spellings: tuple[dict[str, str], ...] = ()
    not_text: tuple[str, ...] = ()

    def found_in(self, stored: Collection[str]) -> "Names":
        """These names as the checkpoint that has tensors of the names `stored` spells them."""
        for words in self.spellings:
            names = Names({ours: at.renamed(words) for ours, at in self.items()})
            names.not_text = self.not_text
            if names["embedding"].name in stored:
                return names
        return self


def layer(path: str) -> Tensor:
    """A vector of each layer, a norm say."""
    return Tensor(f"model.layers.{{}}.{path}.weight")


def projection(path: str, rows: tuple[int, int] | None = None) -> Tensor:
    """A matrix of each layer."""
    return Tensor(f"model.layers.{{}}.{path}.weight", transposed=True, rows=rows)


_PROJECTIONS = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
NAMES = Names(
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
POST_NORM_NAMES = Names(
    NAMES
    | {
        "blocks.attention_post_norm": layer("post_attention_layernorm"),
        "blocks.ff_post_norm": layer("post_feedforward_layernorm"),
    }
)
GEMMA2_NAMES = Names(POST_NORM_NAMES | {"blocks.ff_norm": layer("pre_feedforward_layernorm")})
