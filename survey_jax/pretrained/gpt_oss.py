"""gpt-oss: its config.json, and its experts, which are stored fused, interleaved and in 4 bits (MXFP4)."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from survey_jax.common.errors import UserError
from survey_jax.model.architecture import LayerKind
from survey_jax.pretrained.common_fields import (
    MOST_EXPERTS,
    Family,
    build_decoder,
    rope_section,
    windowed_kinds,
)
from survey_jax.pretrained.config_json import Fields, rotary
from survey_jax.pretrained.safetensors_files import DTYPES, SafetensorsDirectory
from survey_jax.pretrained.weight_names import LLAMA, Tensor, projection

_EXPERTS = "model.layers.{}.mlp.experts."
_WEIGHTS = LLAMA.with_entries(
    {
        "blocks.sinks": Tensor("model.layers.{}.self_attn.sinks"),
        "blocks.router": projection("mlp.router"),
        "blocks.router_bias": Tensor("model.layers.{}.mlp.router.bias"),
    }
    | {f"blocks.expert_{name}": Tensor(f"{_EXPERTS}{name}[{{}}]", transposed=True) for name in ("gate", "up", "down")}
    | {f"blocks.expert_{name}_bias": Tensor(f"{_EXPERTS}{name}_bias[{{}}]") for name in ("gate", "up", "down")}
)
_YARN = {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096, "truncate": False}
_GROUP = 32  # numbers of MXFP4 that share a scale
# The values of a 4-bit code (OCP Microscaling Formats 1.0, section 5.3.3: E2M1).
_FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def gpt_oss(f: Fields) -> Family:
    """Every second layer has a window; attention has sinks, and experts have biases and an activation of their own."""
    f.ignore("quantization_config")  # MXFP4; others are refused before
    f.ignore("initial_context_length", "output_router_logits", "router_aux_loss_coef")
    f.only("hidden_act", "silu")  # of the sigmoid in the experts' activation
    f.only("swiglu_alpha", 1.702)
    f.only("swiglu_limit", 7.0)
    turned = rotary(f, rope_section(f) or Fields(_YARN, f.where), 150_000.0)
    kinds: list[LayerKind] = windowed_kinds(f, lambda layer: layer % 2 == 0, turned, f.window(absent=128))
    count = f.count("num_local_experts", least=2, most=MOST_EXPERTS)
    used = f.count("num_experts_per_tok", f.count("experts_per_token", 4, most=count), most=count)
    f.only("experts_per_token", used)
    config = build_decoder(
        f,
        kinds,
        head_width=f.count("head_dim", 64),
        ff_width=0,
        biases=("q", "k", "v", "o") if f.flag("attention_bias", True) else (),
        activation="clamped_swiglu",
        sinks=True,
        experts=count,
        experts_used=used,
        expert_width=f.count("intermediate_size"),
        expert_biases=True,
    )
    return config, _WEIGHTS


def is_mxfp4(stored: Any) -> bool:
    """Whether a `quantization_config` is that of gpt-oss."""
    return isinstance(stored, Mapping) and stored.get("quant_method") == "mxfp4"


class _Part(NamedTuple):
    """What a name such as "model.layers.0.mlp.experts.up[3]" means.

    Attributes:
      tensor: the stored tensor's name, without "_blocks" and "_scales".
      expert: the expert's number.
      first, step: which of the stored rows: gate and up take turns.
      vector: whether it is a bias.
    """

    tensor: str
    expert: int
    first: int
    step: int
    vector: bool


def _part(name: str) -> _Part | None:
    found = re.fullmatch(r"(.*\.mlp\.experts\.)(gate|up|down)(_bias)?\[(\d+)\]", name)
    if not found:
        return None
    prefix, kind, bias, expert = found.groups()
    fused, step = ("down", 1) if kind == "down" else ("gate_up", 2)
    return _Part(f"{prefix}{fused}_proj{bias or ''}", int(expert), int(kind == "up"), step, bool(bias))


class GptOssDirectory(SafetensorsDirectory):
    """A directory whose experts can be read one by one: "...experts.gate[3]" [out, in], "...experts.gate_bias[3]"."""

    dtypes = DTYPES  # U8, too: codes of 4 bits

    def stored(self, name: str) -> list[str]:
        if (part := _part(name)) is None:
            return super().stored(name)
        blocks = f"{part.tensor}_blocks"
        return [blocks, f"{part.tensor}_scales"] if blocks in self.names else [part.tensor]

    def shape(self, name: str) -> tuple[int, ...]:
        if (part := _part(name)) is None:
            return super().shape(name)
        first, *scales = self.stored(name)
        inner = super().shape(f"{first}[0]")
        if part.vector:
            return (inner[0] // part.step,)
        if not scales:
            return inner[-1] // part.step, inner[0]
        if inner[2:] != (_GROUP // 2,) or super().shape(f"{scales[0]}[0]") != inner[:2]:
            found = f"{super().shape(first)} and {super().shape(scales[0])}"
            raise UserError(
                f"{self.path}: tensors {first} and {scales[0]} have shapes {found}, which is no MXFP4; fetch it again"
            )
        return inner[0] // part.step, inner[1] * _GROUP

    def dtype(self, name: str) -> np.dtype:
        first, *scales = self.stored(name)
        return np.dtype(ml_dtypes.bfloat16) if scales else super().dtype(first)

    def read(self, name: str, index: tuple[slice, ...] = ()) -> np.ndarray:
        if (part := _part(name)) is None:
            return super().read(name, index)
        (rows, columns), (first, *scales) = _filled(index, self.shape(name)), self.stored(name)
        there = slice(part.first + part.step * rows.start, part.first + part.step * (rows.stop - 1) + 1)
        if part.vector:
            return super().read(f"{first}[{part.expert}]", (there,))[:: part.step]
        if not scales:
            return super().read(f"{first}[{part.expert}]", (columns, there))[:, :: part.step].T
        groups = slice(columns.start // _GROUP, -(-columns.stop // _GROUP))
        codes = super().read(f"{first}[{part.expert}]", (there, groups))
        exponents = super().read(f"{scales[0]}[{part.expert}]", (there, groups))
        values = from_mxfp4(codes[:: part.step], exponents[:: part.step])
        skipped = groups.start * _GROUP
        return values[:, columns.start - skipped : columns.stop - skipped]


def _filled(index: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The slices of rows and columns, with their ends."""
    sizes = (*shape, 1)[:2]
    both = (*index, slice(None), slice(None))[:2]
    ends = [part.indices(size)[:2] for part, size in zip(both, sizes, strict=True)]
    return slice(*ends[0]), slice(*ends[1])


def from_mxfp4(blocks: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Codes uint8 [r, g, 16], two in a byte, the low four bits first, and exponents uint8 [r, g] -> bfloat16 [r, 32 g].

    Every value is a bfloat16, unless it overflows.
    """
    codes = np.stack([blocks & 15, blocks >> 4], axis=-1).reshape(*blocks.shape[:-1], _GROUP)
    with np.errstate(over="ignore"):  # infinity, which loading refuses
        values = np.ldexp(_FP4[codes], scales[..., None].astype(np.int32) - 127)
    return values.reshape(len(blocks), -1).astype(ml_dtypes.bfloat16)
