"""Weights in: a Hugging Face directory, a hub id or a GGUF file becomes a sharded model."""

import dataclasses
import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
from flax import nnx

from survey_jax.errors import UserError
from survey_jax.model.decoder import PROJECTIONS, Decoder, DecoderConfig
from survey_jax.model.families import Names, decoder_config
from survey_jax.model.gguf import GGUF
from survey_jax.model.loading import Origin, Target, load
from survey_jax.model.lora import LoraParam, add_lora, initial_adapter
from survey_jax.model.quantize import kind_of, quantize_shapes
from survey_jax.model.tensors import SafetensorsDirectory, TensorSource
from survey_jax.sharding import parameter_shardings

if TYPE_CHECKING:
    import transformers  # takes half a second: only where a tokenizer is built

_HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model"]
_HUB_DOUBLES = ["original/*", "consolidated*"]  # the same weights in their authors' own form
_ELSEWHERE = "or get it elsewhere (`hf download ID --local-dir DIR`) and set --config.model.weights=DIR"
_TOKENIZER_FILES = (".json", ".jinja", ".model", ".txt", ".tiktoken")  # the config, too: it names the tokenizer's kind
_SAMPLE = 1 << 20  # bytes hashed at each end of a weight file


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """An opened model: what it is, and where its tensors are; nothing is read yet."""

    path: Path
    config: DecoderConfig
    names: Names
    source: TensorSource

    def tokenizer(self) -> "transformers.PreTrainedTokenizerBase":
        """The model's own tokenizer."""
        if isinstance(self.source, GGUF):
            from survey_jax.model.gguf_tokenizer import gguf_tokenizer

            return gguf_tokenizer(self.source)
        import transformers

        try:
            # A repository's own code is never run.
            return transformers.AutoTokenizer.from_pretrained(self.path, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self.path}: has no tokenizer that transformers can load ({_first_line(error)})"
            ) from error

    def tokenizer_fingerprint(self) -> str:
        """Hash of all that decides what the tokenizer makes of a text: what it is built from, and by which versions."""
        versions = [importlib.metadata.version(name) for name in ("survey_jax", "tokenizers", "transformers")]
        digest = hashlib.sha256(repr(versions).encode())
        if isinstance(self.source, GGUF):
            digest.update(self.source.header() + Path(__file__).with_name("gguf_tokenizer.py").read_bytes())
            return digest.hexdigest()
        for file in sorted([*self.path.glob("*"), *self.path.glob("additional_chat_templates/*")]):
            if file.suffix in _TOKENIZER_FILES and file.is_file():
                content = file.read_bytes()
                digest.update(f"{file.relative_to(self.path)} {len(content)} ".encode() + content)
        return digest.hexdigest()

    @property
    def commit(self) -> str | None:
        """Of a model from the hub: the commit that its revision stands for."""
        return self.path.name if self.path.parent.name == "snapshots" else None

    def fingerprint(self, quantize: str = "") -> str:
        """Hash of the config and each weight file's name, size, head and tail: tells models apart in a blink.

        With it, how the model is quantised: adapters trained on one base belong to no other.
        """
        digest = hashlib.sha256()
        files = [self.path]
        if self.path.is_dir():
            digest.update((self.path / "config.json").read_bytes())
            files = sorted(self.path.glob("*.safetensors"))
        for file in files:
            size = file.stat().st_size
            digest.update(f"{file.name} {size}".encode())
            with file.open("rb") as stream:
                digest.update(stream.read(_SAMPLE))
                stream.seek(max(0, size - _SAMPLE))
                digest.update(stream.read(_SAMPLE))
        return digest.hexdigest()[:16] + (f" {quantize}" if quantize else "")


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
        return Path(
            huggingface_hub.snapshot_download(
                weights, revision=revision, allow_patterns=_HUB_FILES, ignore_patterns=_HUB_DOUBLES
            )
        )
    except huggingface_hub.errors.GatedRepoError as error:
        raise UserError(
            f"{weights}: is gated; accept its licence on its page at the hub and run `hf auth login`, {_ELSEWHERE}"
        ) from error
    except huggingface_hub.errors.RevisionNotFoundError as error:
        raise UserError(f"{weights}: has no revision {revision!r} at the hub; set --config.model.revision") from error
    except huggingface_hub.errors.RepositoryNotFoundError as error:
        raise UserError(f"{weights}: is not at the hub, or private; check the id, or run `hf auth login`") from error
    except (huggingface_hub.errors.HfHubHTTPError, OSError, ValueError) as error:
        raise UserError(
            f"{weights}: cannot be fetched from the hub ({_first_line(error)}); check the network, {_ELSEWHERE}"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def abstract_model(config: DecoderConfig, lora_rank: int, projections: tuple[str, ...], quantize: str = "") -> Decoder:
    """The model's shapes and axes without memory; with adapters if lora_rank > 0, quantised if `quantize` says how."""

    def build() -> Decoder:
        model = Decoder(config)
        if lora_rank:
            add_lora(model, lora_rank, projections)
        if quantize:
            quantize_shapes(model.blocks, PROJECTIONS, quantize)
        return model

    return nnx.eval_shape(build)


def laid_out(state: nnx.State, mesh: jax.sharding.Mesh, frozen_dtype: str, trainable: type) -> nnx.State:
    """An abstract state as it will be in memory: `jax.ShapeDtypeStruct`s with their layouts; see `load_model`."""
    variables, shardings = _by_name(state), parameter_shardings(state, mesh)

    def one(path: tuple[Any, ...], variable: Any) -> Any:
        name, sharding = _name(path), variable.get_value()
        quantised = f"{name}_scale" in variables or name.endswith("_scale")
        kept = variables[name].dtype if quantised else frozen_dtype
        dtype = "float32" if isinstance(variable, trainable) and not quantised else kept
        return variable.replace(jax.ShapeDtypeStruct(variables[name].shape, dtype, sharding=sharding))

    return nnx.from_flat_state([(path, one(path, variable)) for path, variable in nnx.to_flat_state(shardings)])


def load_model(
    pretrained: Pretrained, abstract: Decoder, mesh: jax.sharding.Mesh, *, frozen_dtype: str, trainable: type, seed: int
) -> Decoder:
    """Fills an abstract model: each device's part is read from the file straight into its shard.

    Args:
      frozen_dtype: of parameters that are neither trained nor quantised.
      trainable: the Variable type that training updates; those are float32.
      seed: of adapters' initial values.

    Raises:
      UserError: a tensor missing, of another shape, or one that the architecture does not account for.
    """
    graphdef, state = nnx.split(abstract)
    variables, arrays = _by_name(state), _by_name(laid_out(state, mesh, frozen_dtype, trainable))
    base = _by_name(nnx.state(abstract_model(pretrained.config, 0, ())))
    _check_names(pretrained, list(base))
    origins = {name: _origin(pretrained, name, tuple(variable.shape)) for name, variable in base.items()}

    def target(name: str) -> Target:
        array = arrays[name].get_value()
        return Target(array.shape, array.dtype, array.sharding)

    values: dict[str, jax.Array] = {}
    adapters = {name for name, variable in variables.items() if isinstance(variable, LoraParam)}
    for number, name in enumerate(name for name in variables if name in adapters or name in base):
        scale = f"{name}_scale"
        if name in adapters:
            key, where = jax.random.fold_in(jax.random.key(seed), number), target(name)
            init = jax.jit(initial_adapter, static_argnums=(0, 2), out_shardings=where.sharding)
            values[name] = init(name, key, where.shape)
        elif scale in variables:
            kind = kind_of(variables[name])
            pair = [target(name), target(scale)]
            values[name], values[scale] = load(pretrained.source, origins[name], pair, kind.encode, kind.columns)
        else:
            [values[name]] = load(pretrained.source, origins[name], [target(name)], lambda x: (x,))
    filled = [(path, v.replace(values[_name(path)])) for path, v in nnx.to_flat_state(state)]
    return nnx.merge(graphdef, nnx.from_flat_state(filled))


def _by_name(state: nnx.State) -> dict[str, Any]:
    return {_name(path): variable for path, variable in nnx.to_flat_state(state)}


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))


def _check_names(pretrained: Pretrained, parameters: list[str]) -> None:
    """Every tensor of the file must be used: one that is not (a bias, say) would change the logits."""
    used = set()
    for parameter in parameters:
        if (entry := pretrained.names.get(parameter)) is not None:
            used |= {entry.name.format(i) for i in range(pretrained.config.layers)}
    used |= {pretrained.names["head"].name} if pretrained.config.tied_head else set()
    other = pretrained.names.not_text
    unknown = [n for n in pretrained.source.names if n not in used and not n.startswith(other)]
    unknown = [n for n in unknown if not n.endswith("rotary_emb.inv_freq")]  # older releases stored it in vain
    if unknown:
        raise UserError(f"{pretrained.path}: tensor {sorted(unknown)[0]} ({len(unknown)} in all) is not supported")


def _origin(pretrained: Pretrained, name: str, shape: tuple[int, ...]) -> Origin:
    """Where a parameter of this shape is stored, after a check that it is there as it should be."""
    entry = pretrained.names[name]
    stacked = "{}" in entry.name
    inner = shape[1:] if stacked else shape
    inner = inner[::-1] if entry.transposed else inner  # as Hugging Face has it
    first, last = entry.rows or (0, inner[0])
    tensors = [entry.name.format(i) for i in range(shape[0])] if stacked else [entry.name]
    for tensor in tensors:
        if tensor not in pretrained.source.names:
            raise UserError(f"{pretrained.path}: tensor {tensor} is missing")
        found = pretrained.source.shape(tensor)
        if found[1:] != inner[1:] or (found[0] < last if entry.rows else found[0] != last):
            raise UserError(f"{pretrained.path}: tensor {tensor} has shape {found}; its config says {inner}")
        pretrained.source.dtype(tensor)  # refuses what is no plain number
    return Origin(tensors, (first, last), stacked, entry.transposed)
