"""Writes adapters in PEFT's format."""

import dataclasses
import json
import re
from collections.abc import Collection
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from survey_jax.pretrained.export import Trained, check_names, stored_parameters, stored_tensors
from survey_jax.pretrained.gpt_oss import GptOssDirectory
from survey_jax.pretrained.open import Pretrained


def write_adapter(
    pretrained: Pretrained,
    trained: Trained,
    lora_scale: float,
    folder: Path,
    base: str,
    revision: str | None,
    dtype: str | None = None,
) -> None:
    """Writes adapters in PEFT's format: adapter_config.json and adapter_model.safetensors.

    Args:
      trained: adapters only.
      lora_scale: alpha / rank.
      base: the path or hub id by which PEFT finds the base model.
      revision: the revision of a hub id.
      dtype: the dtype of all tensors; None: float32, as trained.

    Raises:
      ValueError: `trained` has a parameter that the model lacks.
    """
    check_names(pretrained, trained)
    names, adapted, experts = set(trained), dict[tuple[str, ...], _Adapted](), dict[tuple[str, str], _Experts]()
    for parameter, stored, shape in stored_parameters(pretrained):
        if f"{parameter}_lora_a" not in names:
            continue
        a, b = trained[f"{parameter}_lora_a"], trained[f"{parameter}_lora_b"]
        stored_as = dict(stored_tensors(pretrained, stored, shape))
        if a.ndim == 4:
            stack, _, kind = parameter.rpartition(".expert_")
            fused = "down_proj" if kind == "down" else "gate_up_proj"
            modules_of = {layer: _experts_module(pretrained, name) for (layer, _), name in stored_as.items()}
            experts.setdefault((stack, fused), _Experts(fused, modules_of, stored.transposed, {})).parts[kind] = (a, b)
        else:
            adapted.setdefault(tuple(stored_as.values()), _Adapted(stored_as, [])).parts.append((a, b, stored.rows))
    modules = list(adapted.values())
    tensors: dict[str, np.ndarray] = {}
    for module in modules:
        for (layer,), name in module.tensors.items():
            a, b = module.adapter(layer, pretrained.source.shape(name)[0])
            path = _module(pretrained, name)
            tensors |= {f"{path}.lora_A.weight": a, f"{path}.lora_B.weight": b}
    # All experts have one rank, PEFT's `r`: it warns of exceptions for parameters, though it goes by them. Those for
    # modules are named by two words, "mlp.down_proj", since a parameter of experts may be called "down_proj", too.
    ranks = {".".join(_module(pretrained, module.name).split(".")[-2:]): module.rank for module in modules}
    rank = max([part.rank for part in experts.values()] or ranks.values())
    take_turns = isinstance(pretrained.source, GptOssDirectory)
    for (stack, fused), part in experts.items():
        # PEFT wraps the module once for each of its parameters; the first, `gate_up_proj`, is the innermost.
        inner = "base_layer." if fused == "gate_up_proj" and (stack, "down_proj") in experts else ""
        for layer, path in part.modules.items():
            a, b = part.adapter(layer, rank, take_turns)
            tensors |= {f"{path}.{inner}lora_A.weight": a, f"{path}.{inner}lora_B.weight": b}
    number = np.dtype(dtype or "float32")
    tensors = {f"base_model.model.{name}": np.ascontiguousarray(x, number) for name, x in tensors.items()}
    other = {name: r for name, r in ranks.items() if r != rank}
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "revision": revision,
        "r": rank,
        "lora_alpha": lora_scale * rank,
        "rank_pattern": other,
        "alpha_pattern": {name: lora_scale * r for name, r in other.items()},
        "target_modules": _target_modules(pretrained, {name for module in modules for name in module.tensors.values()}),
        "target_parameters": sorted({f"experts.{part.name}" for part in experts.values()}) or None,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "adapter_model.safetensors").write_bytes(save(tensors, metadata={"format": "pt"}))


@dataclasses.dataclass
class _Adapted:
    """A module with the adapters of its projection, or of several fused projections (Phi-3's qkv_proj).

    Attributes:
      tensors: its weight in each layer, by the place of the layer in the parameters.
      parts: for each projection A [L, i, R], B [L, R, o] and the rows of the module's output that they change; None:
        all rows.
    """

    tensors: dict[tuple[int, ...], str]
    parts: list[tuple[np.ndarray, np.ndarray, tuple[int, int] | None]]

    @property
    def name(self) -> str:
        """The name of its first layer's weight."""
        return next(iter(self.tensors.values()))

    @property
    def rank(self) -> int:
        return sum(a.shape[-1] for a, _, _ in self.parts)

    def adapter(self, layer: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """One adapter for all parts, A [rank, i] and B [rows, rank]: their As stacked, their Bs block-diagonal."""
        together, at = np.zeros((rows, self.rank), np.float32), 0
        for _, b, span in self.parts:
            columns = slice(at, at := at + b.shape[1])
            together[slice(*(span or (0, rows))), columns] = b[layer].T
        return np.concatenate([a[layer].T for a, _, _ in self.parts]), together


@dataclasses.dataclass
class _Experts:
    """A parameter of transformers that holds a projection of all experts of a layer, or two fused.

    Attributes:
      name: `gate_up_proj` or `down_proj`.
      modules: the path of the module that has it, by the place of the layer in our parameters.
      transposed: transformers has it as [out, in]; else PEFT takes its input for its output.
      parts: for "gate", "up" or "down" A [L, X, i, R] and B [L, X, R, o].
    """

    name: str
    modules: dict[int, str]
    transposed: bool
    parts: dict[str, tuple[np.ndarray, np.ndarray]]

    @property
    def rank(self) -> int:
        return sum(a.shape[-1] for a, _ in self.parts.values())

    def adapter(self, layer: int, rank: int, take_turns: bool) -> tuple[np.ndarray, np.ndarray]:
        """One adapter for all experts, as PEFT lays it out: A [X rank, i], expert by expert, and B [out, rank X].

        Args:
          rank: at least that of the parts; the rest is zeros.
          take_turns: outputs of gate and up take turns, as those of gpt-oss do; else gate has the first half.
        """
        together = []
        for kind, (_, b) in self.parts.items():
            count, own, width = b[layer].shape
            if kind == "down":
                out, rows = width, slice(None)
            else:
                out, up = 2 * width, int(kind == "up")
                rows = slice(up, None, 2) if take_turns else slice(up * width, (up + 1) * width)
            placed = np.zeros((count, own, out), np.float32)
            placed[..., rows] = b[layer]
            together.append(placed)
        more = [(0, 0), (0, rank - self.rank), (0, 0)]
        b = np.pad(np.concatenate(together, axis=1), more)  # [X, rank, out]
        a = np.pad(np.concatenate([a[layer].transpose(0, 2, 1) for a, _ in self.parts.values()], axis=1), more)
        a, b = (a, b) if self.transposed else (b, a)
        return a.reshape(-1, a.shape[-1]), b.transpose(2, 1, 0).reshape(b.shape[-1], -1)


def _experts_module(pretrained: Pretrained, tensor: str) -> str:
    """The path of the module with all experts of a layer in transformers' model, from the name of a tensor of one."""
    return _module(pretrained, re.sub(r"(?<=\.experts)\b.*", "", tensor).replace(".block_sparse_moe.", ".mlp."))


def _target_modules(pretrained: Pretrained, ours: Collection[str]) -> list[str]:
    """The modules that PEFT adapts: their last names, or full names if another module (of a vision part) shares one."""
    last = {_last_name(name) for name in ours}
    others = {part for name in pretrained.source.names if name not in ours for part in name.split(".")}
    return sorted(_module(pretrained, name) for name in ours) if last & others else sorted(last)


def _module(pretrained: Pretrained, tensor: str) -> str:
    """The path of a weight's module in transformers' model, in which a text part beside a vision part is nested."""
    prefix = f"{pretrained.weight_map.module}."
    return re.sub(r"^(model\.)?language_model\.(model\.)?", prefix, tensor.removesuffix(".weight"))


def _last_name(tensor: str) -> str:
    """ "q_proj" for "model.layers.0.self_attn.q_proj.weight"."""
    return tensor.removesuffix(".weight").rpartition(".")[2]
