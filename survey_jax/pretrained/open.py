"""Opens a pretrained model from the hub, a folder or a GGUF file, without reading its weights yet."""

import dataclasses
import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import TYPE_CHECKING

from survey_jax.common.errors import UserError
from survey_jax.model.decoder import DecoderConfig
from survey_jax.pretrained.families import decoder_config
from survey_jax.pretrained.gguf_files import GGUF
from survey_jax.pretrained.safetensors_files import SafetensorsDirectory, TensorSource
from survey_jax.pretrained.weight_names import WeightMap

if TYPE_CHECKING:
    import transformers  # takes half a second: only where a tokenizer is built

_HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model"]
_HUB_DOUBLES = ["original/*", "consolidated*"]  # the same weights in their authors' own format
_ELSEWHERE = "or get it elsewhere (`hf download ID --local-dir DIR`) and set --config.model.weights=DIR"
# Suffixes; .json: config.json, too, which names the kind of tokenizer.
_TOKENIZER_FILES = (".json", ".jinja", ".model", ".txt", ".tiktoken")
_SAMPLE = 1 << 20  # bytes hashed at each end of a weight file


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A pretrained model whose weights are not read yet.

    Attributes:
      path: its folder or GGUF file.
      config: its architecture.
      weight_map: where `source` stores the parameters of our decoder.
      source: its tensors.
    """

    path: Path
    config: DecoderConfig
    weight_map: WeightMap
    source: TensorSource

    def tokenizer(self) -> "transformers.PreTrainedTokenizerBase":
        """The model's tokenizer. UserError if transformers cannot load it."""
        if isinstance(self.source, GGUF):
            from survey_jax.pretrained.gguf_tokenizer import gguf_tokenizer

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
        """Hash of everything that can change the tokenizer's result: its files, and the versions of packages."""
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
        """The commit of a model from the hub; None for others."""
        return self.path.name if self.path.parent.name == "snapshots" else None

    def fingerprint(self, quantize: str = "") -> str:
        """Identifies a base model, with the way it is quantised: adapters trained on one base fit no other.

        It is a hash of the config and of each weight file's name, size, first and last MiB; whole files take too long.
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
    """Opens a model: a .gguf file, a Hugging Face directory, or a hub id (downloaded into the hub's cache).

    Args:
      revision: the branch, tag or commit of a hub id.

    Raises:
      UserError: the model is not found, its architecture is not supported, or a file is broken.
    """
    path = locate(weights, revision)
    if path.suffix == ".gguf":
        gguf = GGUF(path)
        config, weight_map = decoder_config(gguf.config(), str(path))
        return Pretrained(path, config, weight_map, gguf)
    file = path / "config.json"
    if not file.is_file():
        raise UserError(f"{path}: has no config.json; expected a Hugging Face model directory")
    try:
        hf = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file}: not JSON ({error})") from error
    config, weight_map = decoder_config(hf, str(file))
    source = SafetensorsDirectory(path)
    return Pretrained(path, config, weight_map.found_in(source.names), source)


def locate(weights: str, revision: str) -> Path:
    """The local path of a model; a hub id is downloaded first. UserError, with a remedy, if it is not found."""
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
