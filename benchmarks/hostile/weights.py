"""Model folders and GGUF files: every field of config.json with every odd value, broken tokenizers and tensors."""

import json
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import gguf_files
from benchmarks.hostile import runs
from benchmarks.hostile.judge import Case
from benchmarks.hostile.values import ODD, damaged

NUMBERS = (-1, 0, 1, 3, 10**9, 2**31 - 1, 2**32 - 1, 10**12, 1e308, float("nan"), 0.5)
MORE_FIELDS: dict[str, Any] = {  # beside those that the tiny model's config has
    "rope_scaling": None, "attention_bias": False, "mlp_bias": False, "hidden_act": "silu", "sliding_window": None,
    "max_position_embeddings": 2048, "torch_dtype": "float32", "quantization_config": None, "architectures": None,
    "bos_token_id": 1, "no_such_field": 1, "num_experts": 0, "layer_types": None,
}  # fmt: skip
TEMPLATES = {
    "drops the question": "hello",
    "has no end": "{% for i in range(10**9) %}{{ i }}{% endfor %}",
    "raises": "{{ raise_exception('one\\ntwo') }}",
    "is no template": "{% if %}",
    "asks for what is not there": "{{ messages[5].content }}",
    "asks for a function that is not there": "{{ nothing(messages) }}",
    "divides by zero": "{{ 1 / 0 }}",
    "calls itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "reaches for Python": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "says it twice": "{{ messages[0].content }}{{ messages[0].content }}",
    "is a huge text": "{{ 'a' * 10**10 }}",
}


def cases(rng: random.Random) -> Iterator[Case]:
    """Trainings of one step with such weights."""
    config = json.loads((runs.base().model / "config.json").read_text()) | MORE_FIELDS
    for field in config:
        odd = [*rng.sample(sorted(ODD), 6)] if field in MORE_FIELDS else sorted(ODD)
        for what in odd:
            yield _folder(f"{field} is {what}", lambda model, f=field, w=what: _set(model / "config.json", f, ODD[w]))
        for number in NUMBERS if isinstance(config[field], (int, float)) else ():
            yield _folder(f"{field} is {number}", lambda model, f=field, n=number: _set(model / "config.json", f, n))
        yield _folder(f"{field} twice", lambda model, f=field: _twice(model / "config.json", f))
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"):
        content = (runs.base().model / name).read_bytes()
        head = min(len(content), 3000)  # of tensors, the header
        for what, changed in damaged(content[:head], rng, 6):
            yield _folder(f"{name}: {what}", lambda model, n=name, b=changed + content[head:]: _write(model / n, b))
        yield _folder(f"{name} is lost", lambda model, n=name: (model / n).unlink())
    for what, template in TEMPLATES.items():
        yield _folder(f"chat template {what}", lambda model, t=template: _template(model, t), "--config.data.chat=True")
    for what, change in _tensors().items():
        yield _folder(what, change)
    for name in ("../other/model.safetensors", "/etc/passwd", "model.safetensors/x", "", "nowhere.safetensors"):
        yield _folder(f"the weight map names {name!r}", lambda model, n=name: _index(model, n))
    for number in range(60):
        yield _gguf(number, rng.randrange(10**9))


def _folder(name: str, change: Callable[[Path], object], *more: str) -> Case:
    def flags(folder: Path) -> list[str]:
        model = Path(shutil.copytree(runs.base().model, folder / "model"))
        change(model)
        return _flags(model) + list(more)

    return Case(f"weights: {name}", "train", flags, runs.trained)


def _flags(weights: Path) -> list[str]:
    return [f"--config={runs.base().config}", "--config.optim.steps=1", f"--config.model.weights={weights}",
            "--workdir={output}"]  # fmt: skip


def _set(file: Path, field: str, value: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: value}))


def _twice(file: Path, field: str) -> None:
    text = file.read_text()
    file.write_text("{" + f'"{field}": null, "{field}": null, ' + text[1:])


def _write(file: Path, content: bytes) -> None:
    file.write_bytes(content)


def _template(model: Path, template: str) -> None:
    _set(model / "tokenizer_config.json", "chat_template", template)


def _index(model: Path, name: str) -> None:
    from safetensors.numpy import load_file

    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(tensors, name)}))
    (model / "model.safetensors").rename(model.parent / "moved.safetensors")


def _tensors() -> dict[str, Callable[[Path], object]]:
    """What happens to the tensors themselves, or to the header that says where they lie."""
    up, norm = "model.layers.1.mlp.up_proj.weight", "model.norm.weight"

    def replace(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], object]:
        return lambda model: _replace(model / "model.safetensors", name, change)

    def header(size: int) -> Callable[[Path], object]:
        return lambda model: _patch(model / "model.safetensors", struct.pack("<Q", size))

    return {
        "a weight is NaN": replace(up, lambda a: np.where(np.arange(a.size).reshape(a.shape) == 7, np.nan, a)),
        "a weight is infinite": replace(up, lambda a: np.where(np.arange(a.size).reshape(a.shape) == 7, np.inf, a)),
        "a tensor is transposed": replace(up, lambda a: a.T.copy()),
        "a tensor is of integers": replace(norm, lambda a: np.zeros(a.shape, np.int64)),
        "a tensor is empty": replace(norm, lambda a: a[:0]),
        "a header of 2^63 bytes": header(2**63),
        "a header of no byte": header(0),
        "a header beyond the file": header(10**7),
    }


def _replace(file: Path, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = load_file(file)
    changed = change(tensors[name])
    save_file(tensors | {name: changed if changed.dtype == np.int64 else changed.astype(np.float32)}, file)


def _patch(file: Path, start: bytes) -> None:
    file.write_bytes(start + file.read_bytes()[len(start) :])


def _gguf(number: int, seed: int) -> Case:
    """A GGUF of one layer of which some bytes of the header are others."""

    def flags(folder: Path) -> list[str]:
        file = gguf_files.write_gguf(folder / "model.gguf", "llama")
        content, draws = bytearray(file.read_bytes()), random.Random(seed)
        for _ in range(draws.randint(1, 4)):
            place = draws.randrange(0, 600)
            width = draws.choice((1, 4, 8))
            content[place : place + width] = draws.choice((b"\xff" * width, bytes(width), draws.randbytes(width)))
        file.write_bytes(bytes(content))
        return _flags(file)

    return Case(f"weights: GGUF header, damage {number}", "train", flags, runs.trained)
