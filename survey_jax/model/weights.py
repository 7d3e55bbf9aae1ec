"""Weights in: a Hugging Face directory, a hub id or a GGUF file becomes a sharded model."""

import dataclasses
import hashlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import transformers
from flax import nnx

from survey_jax.errors import UserError
from survey_jax.model.decoder import Decoder, DecoderConfig
from survey_jax.model.families import Names, decoder_config
from survey_jax.model.gguf import GGUF
from survey_jax.model.gguf_tokenizer import gguf_tokenizer
from survey_jax.model.lora import LoraParam, add_lora, initial_adapter
from survey_jax.model.tensors import SafetensorsDirectory, TensorSource
from survey_jax.sharding import parameter_shardings

_HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model"]
_SAMPLE = 1 << 20  # bytes hashed at each end of a weight file


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """An opened model: what it is, and where its tensors are; nothing is read yet."""

    path: Path
    config: DecoderConfig
    names: Names
    source: TensorSource

    def tokenizer(self) -> transformers.PreTrainedTokenizerBase:
        """The model's own tokenizer."""
        if isinstance(self.source, GGUF):
            return gguf_tokenizer(self.source)
        try:
            return transformers.AutoTokenizer.from_pretrained(self.path)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self.path}: has no tokenizer that transformers can load ({_first_line(error)})"
            ) from error

    def fingerprint(self) -> str:
        """Hash of the architecture and each weight file's name, size, head and tail: tells models apart in a blink."""
        digest = hashlib.sha256(repr(self.config).encode())
        files = [self.path] if self.path.is_file() else sorted(self.path.glob("*.safetensors"))
        for file in files:
            size = file.stat().st_size
            digest.update(f"{file.name} {size}".encode())
            with file.open("rb") as stream:
                digest.update(stream.read(_SAMPLE))
                stream.seek(max(0, size - _SAMPLE))
                digest.update(stream.read(_SAMPLE))
        return digest.hexdigest()[:16]


def open_pretrained(weights: str, revision: str = "main") -> Pretrained:
    """Finds a model: a .gguf file, a Hugging Face directory, or a hub id (downloaded into the hub's own cache).

    Raises:
      UserError: nothing there (says how to get it), an unsupported architecture, a broken file.
    """
    path = locate(weights, revision)
    if path.suffix == ".gguf":
        gguf = GGUF(path)
        config, names = decoder_config(gguf.config(), str(path))
        return Pretrained(path, config, names, gguf)
    file = path / "config.json"
    if not file.is_file():
        raise UserError(f"{path}: has no config.json; expected a Hugging Face model directory")
    try:
        hf = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file}: not JSON ({error})") from error
    config, names = decoder_config(hf, str(file))
    source = SafetensorsDirectory(path)
    return Pretrained(path, config, names.found_in(source.names), source)


def locate(weights: str, revision: str) -> Path:
    """The local path of a model, downloading a hub id if need be. Raises UserError with a remedy."""
    path = Path(weights).expanduser()
    if path.exists():
        return path
    if path.suffix == ".gguf" or weights.count("/") != 1 or weights.startswith((".", "/", "~")):
        raise UserError(
            f"{weights}: no such weights; set --config.model.weights to a .gguf file, a Hugging Face directory or a "
            "hub id (`python -m survey_jax.fetch` gets two small models)"
        )
    import huggingface_hub

    try:
        return Path(huggingface_hub.snapshot_download(weights, revision=revision, allow_patterns=_HUB_FILES))
    except (huggingface_hub.errors.HfHubHTTPError, OSError, ValueError) as error:
        reason = _first_line(error)
        raise UserError(
            f"{weights}: cannot be fetched from the hub ({reason}); accept its licence there and run `hf auth login`, "
            f"or get it elsewhere (`hf download {weights} --local-dir DIR`) and set --config.model.weights=DIR"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def abstract_model(config: DecoderConfig, lora_rank: int, projections: tuple[str, ...]) -> Decoder:
    """The model's shapes and axes without memory; with adapters if lora_rank > 0."""

    def build() -> Decoder:
        model = Decoder(config)
        if lora_rank:
            add_lora(model, lora_rank, projections)
        return model

    return nnx.eval_shape(build)


def load_model(
    pretrained: Pretrained, abstract: Decoder, mesh: jax.sharding.Mesh, *, frozen_dtype: str, trainable: type, seed: int
) -> Decoder:
    """Fills an abstract model: each device's part is read from the file straight into its shard.

    Args:
      frozen_dtype: of parameters that are not trained.
      trainable: the Variable type that training updates; those are float32.
      seed: of adapters' initial values.

    Raises:
      UserError: a tensor missing, of another shape, or one that the architecture does not account for.
    """
    graphdef, state = nnx.split(abstract)
    shardings = dict(nnx.to_flat_state(parameter_shardings(state, mesh)))
    _check_names(pretrained, ["/".join(map(str, path)) for path, _ in nnx.to_flat_state(state)])
    filled = []
    for number, (path, variable) in enumerate(nnx.to_flat_state(state)):
        name, sharding = ".".join(map(str, path)), shardings[path].get_value()
        if isinstance(variable, LoraParam):
            key = jax.random.fold_in(jax.random.key(seed), number)
            init = jax.jit(initial_adapter, static_argnums=(0, 2), out_shardings=sharding)
            value = init(name, key, tuple(variable.shape))
        else:
            dtype = jnp.dtype("float32" if isinstance(variable, trainable) else frozen_dtype)
            value = _read(pretrained, name, tuple(variable.shape), dtype, sharding)
        filled.append((path, variable.replace(value)))
    return nnx.merge(graphdef, nnx.from_flat_state(filled))


def _check_names(pretrained: Pretrained, parameters: list[str]) -> None:
    """Every tensor of the file must be used: one that is not (a bias, say) would change the logits."""
    used = set()
    for parameter in parameters:
        if (entry := pretrained.names.get(parameter.replace("/", "."))) is not None:
            used |= {entry.name.format(i) for i in range(pretrained.config.layers)}
    used |= {pretrained.names["head"].name} if pretrained.config.tied_head else set()
    other = pretrained.names.not_text
    unknown = [n for n in pretrained.source.names if n not in used and not n.startswith(other)]
    unknown = [n for n in unknown if not n.endswith("rotary_emb.inv_freq")]  # older releases stored it in vain
    if unknown:
        raise UserError(f"{pretrained.path}: tensor {sorted(unknown)[0]} ({len(unknown)} in all) is not supported")


def _read(pretrained: Pretrained, name: str, shape: tuple[int, ...], dtype, sharding) -> jax.Array:
    """One parameter, read slice by slice in Hugging Face's layout."""
    stored = pretrained.names[name]
    stacked = "{}" in stored.name
    inner = shape[1:] if stacked else shape
    inner = inner[::-1] if stored.transposed else inner  # as Hugging Face has it
    first, last = stored.rows or (0, inner[0])
    for tensor in [stored.name.format(i) for i in range(shape[0])] if stacked else [stored.name]:
        if tensor not in pretrained.source.names:
            raise UserError(f"{pretrained.path}: tensor {tensor} is missing")
        found = pretrained.source.shape(tensor)
        if found[1:] != inner[1:] or (found[0] < last if stored.rows else found[0] != last):
            raise UserError(f"{pretrained.path}: tensor {tensor} has shape {found}; its config says {inner}")

    def one(tensor: str, index: tuple[slice, ...]) -> np.ndarray:
        rows, *columns = index[::-1] if stored.transposed else index
        start, stop, _ = rows.indices(inner[0])
        value = pretrained.source.read(tensor, (slice(first + start, first + stop), *columns))
        return np.asarray(value.T if stored.transposed else value, dtype)

    def part(index: tuple[slice, ...] | None) -> np.ndarray:
        assert index is not None
        if not stacked:
            return one(stored.name, index)
        return np.stack([one(stored.name.format(i), index[1:]) for i in range(shape[0])[index[0]]])

    return jax.make_array_from_callback(shape, sharding, part)
