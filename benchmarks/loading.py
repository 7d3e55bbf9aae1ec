"""Memory that loading a sharded checkpoint needs, and the bytes that each of several processes reads of it.

    python -m benchmarks.loading [--shape=1b|tiny]

Writes a llama-shaped checkpoint of random bfloat16 values in shards to a temporary folder (not timed), loads it in
processes of their own, and writes benchmarks/results/loading.json. "peak" is the process's memory beyond what it had
before it opened the model, at its highest; as the devices are virtual ones on the CPU, it includes what they hold.
"""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import psutil
from absl import app, flags
from flax import nnx
from safetensors.numpy import save_file

from survey_jax.config import Config
from survey_jax.model.abstract import abstract_model
from survey_jax.parallel import distributed
from survey_jax.parallel.sharding import make_mesh
from survey_jax.pretrained.load import load_model
from survey_jax.pretrained.open import open_pretrained
from survey_jax.pretrained.safetensors_files import TensorSource
from survey_jax.training.build import trainable

RESULT = Path("benchmarks/results/loading.json")
SHARDS = 5
RUNS = (((1, 8, 1), 1), ((1, 2, 1), 2), ((2, 2, 2), 1), ((1, 1, 2), 2))  # mesh, processes

SHAPE = flags.DEFINE_enum("shape", "1b", ["1b", "tiny"], "Size of the checkpoint: 2.5 GB or 100 MB.")
COUNT = flags.DEFINE_integer("runs", len(RUNS), "Stop after so many loads.")
MODEL = flags.DEFINE_string("model", None, "(A loading process:) the checkpoint.")
MESH = flags.DEFINE_list("mesh", None, "(A loading process:) sizes of data, fsdp and tensor.")
COMMON = {"model_type": "llama", "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": True}
SHAPES = {
    "1b": COMMON  # that of Llama 3.2 1B
    | {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "vocab_size": 128256}
    | {"num_attention_heads": 32, "num_key_value_heads": 8},
    "tiny": COMMON
    | {"hidden_size": 640, "intermediate_size": 2560, "num_hidden_layers": 6, "vocab_size": 20480}
    | {"num_attention_heads": 10, "num_key_value_heads": 5},
}


class Counted:
    """A source that counts the bytes asked of it."""

    def __init__(self, source: TensorSource):
        self._source, self.bytes = source, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def read(self, name: str, index: tuple[slice, ...] = ()) -> np.ndarray:
        value = self._source.read(name, index)
        self.bytes += value.nbytes
        return value


def main(argv: list[str]) -> None:
    del argv
    if MODEL.value:
        print(json.dumps(load()))
        return
    with tempfile.TemporaryDirectory() as folder:
        size = write_checkpoint(Path(folder))
        print(f"wrote {size / 1e9:.2f} GB in {SHARDS} shards", flush=True)
        results = []
        for mesh, processes in RUNS[: COUNT.value]:
            result = run(folder, mesh, processes) | {"checkpoint_bytes": size}
            print(json.dumps(result), flush=True)
            results.append(result)
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(results, indent=2) + "\n")


def write_checkpoint(folder: Path) -> int:
    """Returns the bytes of its tensors."""
    hf = SHAPES[SHAPE.value]
    (folder / "config.json").write_text(json.dumps(hf))
    rng, shapes = np.random.default_rng(0), list(tensor_shapes(hf))
    weight_map, total = {}, 0
    for shard, group in enumerate(np.array_split(np.arange(len(shapes)), SHARDS), start=1):
        file = f"model-{shard:05}-of-{SHARDS:05}.safetensors"
        tensors = {shapes[i][0]: rng.random(shapes[i][1], np.float32).astype(ml_dtypes.bfloat16) for i in group}
        save_file(tensors, folder / file)
        weight_map |= dict.fromkeys(tensors, file)
        total += sum(t.nbytes for t in tensors.values())
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return total


def tensor_shapes(hf: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes as transformers stores them."""
    d, f = hf["hidden_size"], hf["intermediate_size"]
    kv = d // hf["num_attention_heads"] * hf["num_key_value_heads"]
    yield "model.embed_tokens.weight", (hf["vocab_size"], d)
    for i in range(hf["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        for name, rows in {"q": d, "k": kv, "v": kv, "o": d}.items():
            yield f"{layer}.self_attn.{name}_proj.weight", (rows, d)
        for name, shape in {"gate": (f, d), "up": (f, d), "down": (d, f)}.items():
            yield f"{layer}.mlp.{name}_proj.weight", shape
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield f"{layer}.{name}.weight", (d,)
    yield "model.norm.weight", (d,)


def run(folder: str, mesh: tuple[int, int, int], processes: int) -> dict[str, Any]:
    """Loads in so many processes; the devices are shared out among them."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    devices = int(np.prod(mesh)) // processes
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    command = [sys.executable, "-m", "benchmarks.loading", f"--model={folder}", f"--mesh={','.join(map(str, mesh))}"]
    started = [
        subprocess.Popen(
            [*command, f"--coordinator={coordinator}", f"--processes={processes}", f"--process={i}"],
            env=environment,
            stdout=subprocess.PIPE,
        )
        for i in range(processes)
    ]
    measured = [json.loads(process.communicate()[0].splitlines()[-1]) for process in started]
    return {"mesh": mesh, "processes": measured}


def load() -> dict[str, Any]:
    """One process's part: loads the model as training with adapters does, and measures."""
    distributed.start()
    mesh = make_mesh(*map(int, MESH.value))
    before = reset_peak()
    pretrained = open_pretrained(MODEL.value)
    source = Counted(pretrained.source)
    pretrained = dataclasses.replace(pretrained, source=source)
    begin = time.perf_counter()
    abstract = abstract_model(pretrained.config, 0, ())
    kind = trainable(Config())
    model = load_model(pretrained, abstract, mesh, frozen_dtype="bfloat16", trainable=kind, seed=0)
    seconds = time.perf_counter() - begin
    leaves = jax.tree.leaves(nnx.state(model))
    assert all(leaf.dtype == ml_dtypes.bfloat16 for leaf in leaves)
    held = sum(shard.data.nbytes for leaf in leaves for shard in leaf.addressable_shards)
    return {
        "device_bytes": held,
        "peak_over_device_bytes": round((peak() - before) / held, 3),
        "bytes_read": source.bytes,
        "seconds": round(seconds, 1),
    }


def reset_peak() -> int:
    """Makes the process's highest memory its present one (Linux); returns that."""
    Path("/proc/self/clear_refs").write_text("5")
    return psutil.Process().memory_info().rss


def peak() -> int:
    """The highest memory since then. Not getrusage's, which begins with that of the parent process."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


if __name__ == "__main__":
    app.run(main)
