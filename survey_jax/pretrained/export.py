"""Writes a trained model as a Hugging Face directory."""

import json
import math
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  # so that numpy knows bfloat16 by name
import numpy as np
from flax import nnx
from rich.progress import track

from survey_jax.common.errors import UserError
from survey_jax.model.abstract import abstract_model, variables_by_name
from survey_jax.pretrained.families import Tensor
from survey_jax.pretrained.gguf_files import GGUF
from survey_jax.pretrained.load import unwritable
from survey_jax.pretrained.open import Pretrained
from survey_jax.pretrained.safetensors_files import SHARD_BYTES, ShardWriter, split_name

# Trained parameters by our names ("blocks.q", "blocks.q_lora_a", ...), stacked over layers, in our layouts. It is a
# mapping, and no dict, so that it may read each parameter when it is used.
Trained = Mapping[str, np.ndarray]

# Files of a Hugging Face directory besides weights: configs, tokenizers, chat templates and licences.
_FILES = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", "LICENSE*", "NOTICE*", "USE_POLICY*")

_BLOCK = 1 << 24  # numbers read at a time


def write_merged(
    pretrained: Pretrained,
    trained: Trained,
    lora_scale: float,
    folder: Path,
    dtype: str | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> list[str]:
    """Writes a whole model: the base's tensors, with trained parameters in their place or adapters added to them.

    A projection W with an adapter becomes W + lora_scale * A B, computed in float32. Besides one trained parameter,
    only some rows of one tensor are in memory at a time.

    Args:
      trained: adapters, or the parameters themselves after full fine-tuning.
      lora_scale: alpha / rank.
      dtype: the dtype of all tensors; None: that of the base's tensors (float32 for a GGUF file).
      shard_bytes: the largest size of a file.

    Returns:
      The names of the weight files.

    Raises:
      UserError: the disk has too little free space; or a trained parameter is stored such that it cannot be written.
      ValueError: `trained` has a parameter that the model lacks.
    """
    check_names(pretrained, trained)
    source = pretrained.source
    if lost := [name for name in unwritable(pretrained) if not {name, f"{name}_lora_a"}.isdisjoint(trained)]:
        raise UserError(f"{lost[0]} was trained, and is stored in parts of a tensor that cannot be written back")
    tensors = {}
    for name in source.names:
        own = source.dtype(name)
        tensors[name] = (source.shape(name), np.dtype(dtype) if dtype and own.kind not in "iu" else own)
    rest = set(tensors)
    with ShardWriter(folder, tensors, shard_bytes) as writer:
        parameters, quiet = stored_parameters(pretrained), not sys.stdout.isatty()
        changed = {
            tensor
            for parameter, stored, own_shape in parameters
            if parameter in trained or f"{parameter}_lora_a" in trained
            for _, name in stored_tensors(pretrained, stored, own_shape)
            for tensor in source.stored(name)
        }
        for parameter, stored, own_shape in track(parameters, "merging", transient=True, disable=quiet):
            change = _Change(trained, parameter, stored.transposed, lora_scale)
            for place, name in stored_tensors(pretrained, stored, own_shape):
                if changed.isdisjoint(source.stored(name)):
                    continue
                shape = source.shape(name)
                first, last = stored.rows or (0, shape[0])
                columns = (slice(*stored.columns),) if stored.columns else ()
                for rows in _blocks((last - first, *shape[1:])):
                    there = slice(first + rows.start, first + rows.stop)
                    base = source.read(name, (there, *columns))
                    writer.write(name, change(base, place, rows), there.start, (stored.columns or (0,))[0])
                rest.discard(split_name(name)[0])
        for name in rest:
            for rows in _blocks(shape := source.shape(name)):
                writer.write(name, source.read(name, (rows,)[: len(shape)]), rows.start)
    return writer.files


class _Change:
    """The effect of training on a parameter, in the base's layout.

    (The base's rows, the place of their tensor on the parameter's leading axes, which rows) -> new rows.
    """

    def __init__(self, trained: Trained, parameter: str, transposed: bool, lora_scale: float):
        self._whole = trained.get(parameter)
        self._a, self._b = trained.get(f"{parameter}_lora_a"), trained.get(f"{parameter}_lora_b")
        self._transposed, self._scale = transposed, np.float32(lora_scale)

    def __call__(self, base: np.ndarray, place: tuple[int, ...], rows: slice) -> np.ndarray:
        at = place or ...
        if self._whole is not None:
            whole = self._whole[at]
            return (whole.T if self._transposed else whole)[rows]
        if self._a is None or self._b is None:
            return base
        a, b = self._a[at], self._b[at]
        update = (a @ b[:, rows]).T if self._transposed else a[rows] @ b
        return base.astype(np.float32) + self._scale * update


def write_metadata_files(pretrained: Pretrained, folder: Path, dtype: str | None = None) -> None:
    """Writes config, tokenizer, chat template and licence beside merged weights.

    The files of a Hugging Face directory are copied byte for byte, except that `dtype` is entered in config.json, and
    that the head is its own if the model has one. For a GGUF file, config and tokenizer are written as read from its
    metadata.
    """
    config_file = folder / "config.json"
    if isinstance(pretrained.source, GGUF):
        config = pretrained.source.config() | {"dtype": dtype or "float32"}
        config_file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        pretrained.tokenizer().save_pretrained(folder)
        return
    for file in sorted({file for pattern in _FILES for file in pretrained.path.glob(pattern)}):
        if file.is_file() and not file.name.endswith(".index.json"):
            shutil.copyfile(file, folder / file.name)
    before = json.loads(config_file.read_text(encoding="utf-8"))
    config = _with_dtype(before, dtype) if dtype else before
    if not pretrained.config.tied_head:
        config = _untied(config)
    if config != before:
        config_file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _with_dtype(config: dict[str, Any], dtype: str) -> dict[str, Any]:
    """A config.json, or a section of it, with `dtype` entered; transformers 4 calls the field "torch_dtype"."""
    names = [name for name in ("dtype", "torch_dtype") if name in config] or ["dtype"]
    inner = {name: _with_dtype(part, dtype) for name, part in config.items() if name == "text_config"}
    return config | inner | dict.fromkeys(names, dtype)


def _untied(config: dict[str, Any]) -> dict[str, Any]:
    """A config.json, or a section of it, that nowhere ties the head to the embedding."""
    inner = {name: _untied(part) for name, part in config.items() if name == "text_config"}
    return config | inner | {name: False for name, value in config.items() if name == "tie_word_embeddings" and value}


def stored_parameters(pretrained: Pretrained) -> list[tuple[str, Tensor, tuple[int, ...]]]:
    """The model's parameters, where they are stored, and their shapes.

    A file may store a tied head, too; it equals the embedding.
    """
    variables = variables_by_name(nnx.state(abstract_model(pretrained.config, 0, ())))
    found = [(name, pretrained.weight_map[name], tuple(v.shape)) for name, v in variables.items()]
    if pretrained.config.tied_head:
        found.append(("embedding", pretrained.weight_map["head"], tuple(variables["embedding"].shape)))
    return found


def check_names(pretrained: Pretrained, trained: Trained) -> None:
    """ValueError if `trained` has a parameter that the model lacks, which would be left out."""
    bases = {name.removesuffix("_lora_a").removesuffix("_lora_b") for name in trained}
    if unknown := bases - {name for name, _, _ in stored_parameters(pretrained)}:
        raise ValueError(f"{sorted(unknown)}: trained, but not of this model")


def _blocks(shape: tuple[int, ...]) -> list[slice]:
    """Slices of a tensor's rows, of about _BLOCK numbers each: a copy of a whole embedding may take gigabytes."""
    count, *inner = shape or (1,)
    step = max(1, _BLOCK // max(1, math.prod(inner)))
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def stored_tensors(pretrained: Pretrained, stored: Tensor, shape: tuple[int, ...]) -> list[tuple[tuple[int, ...], str]]:
    """The tensors of a parameter that the source has: place, (), (layer,) or (layer, expert), and name."""
    source = pretrained.source
    return [(place, name) for place, name in stored.places(shape).items() if source.names >= {*source.stored(name)}]
