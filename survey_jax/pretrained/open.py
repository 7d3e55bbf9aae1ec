"""Opens a pretrained model from the hub, a folder, a GGUF file or a bucket, without reading its weights yet."""

import dataclasses
import hashlib
import importlib.metadata
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from survey_jax import __version__
from survey_jax.common.buckets import local_file, local_folder
from survey_jax.common.console import say
from survey_jax.common.errors import UserError, short
from survey_jax.model.architecture import DecoderConfig
from survey_jax.pretrained import fingerprint
from survey_jax.pretrained.families import decoder_config
from survey_jax.pretrained.gguf_files import GGUF
from survey_jax.pretrained.gpt_oss import GptOssDirectory
from survey_jax.pretrained.json_files import read_json
from survey_jax.pretrained.safetensors_files import SafetensorsDirectory, TensorSource
from survey_jax.pretrained.weight_names import WeightMap

if TYPE_CHECKING:
    import transformers  # takes half a second: only where a tokenizer is built

_HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model"]
_HUB_DOUBLES = ["original/*", "consolidated*"]  # the same weights in their authors' own format
_ELSEWHERE = "or get it elsewhere (`hf download ID --local-dir DIR`) and set --config.model.weights=DIR"
# Beginnings of the names of a tokenizer's JSON files.
_TOKENIZER_NAMES = ("tokenizer", "special_tokens", "added_tokens", "vocab", "chat_template")
# Suffixes; .json: config.json, too, which names the kind of tokenizer.
_TOKENIZER_FILES = (".json", ".jinja", ".model", ".txt", ".tiktoken")
_BUCKET_FILES = [f"*{suffix}" for suffix in (".safetensors", *_TOKENIZER_FILES)]  # of a folder in a bucket
# The same weights; JSON beside them stays, as it is in the tokenizer's fingerprint.
_BUCKET_DOUBLES = ["original/*", "consolidated*.safetensors"]
_ROWS = 1 << 10  # of embedding and head compared at a time


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
        """The model's tokenizer. UserError if transformers cannot load it, or one of its files has a key twice."""
        if isinstance(self.source, GGUF):
            from survey_jax.pretrained.gguf_tokenizer import gguf_tokenizer

            return gguf_tokenizer(self.source)
        import transformers

        for file in self.path.glob("*.json"):
            if file.name.startswith(_TOKENIZER_NAMES):
                read_json(file)
        if not any((self.path / name).exists() for name in ("tokenizer.json", "tokenizer_config.json")):
            # transformers would guess how to read a tokenizer.model, and guess wrong.
            raise UserError(f"{self.path}: has no tokenizer: neither tokenizer.json nor tokenizer_config.json is there")
        try:
            # A repository's own code is never run.
            return transformers.AutoTokenizer.from_pretrained(self.path, trust_remote_code=False)
        except Exception as error:  # a file of another shape ends in any
            raise UserError(f"{self.path}: has no tokenizer that transformers can load ({short(error)})") from error

    def tokenizer_fingerprint(self) -> str:
        """Hash of everything that can change the tokenizer's result: its files, and the versions of packages."""
        versions = [__version__, *(importlib.metadata.version(name) for name in ("tokenizers", "transformers"))]
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

        It is a hash of config.json and of all bytes of the weight files that are read. All processes must call it.
        """
        return fingerprint.of_files(self._files)[:16] + (f" {quantize}" if quantize else "")

    def outline(self) -> str:
        """Hash of config.json and of parts of the weight files: another one means another model."""
        return fingerprint.of_ends(self._files)[:16]

    @property
    def _files(self) -> list[Path]:
        """Everything that decides what the model's parameters are."""
        return ([] if isinstance(self.source, GGUF) else [self.path / "config.json"]) + self.source.files


def open_pretrained(weights: str, revision: str = "main", ignore_fields: Collection[str] = ()) -> Pretrained:
    """Opens a model: a .gguf file or a Hugging Face directory, here or in a bucket, or a hub id.

    What is not here is copied into the hub's cache first.

    A head that is stored beside an embedding to which config.json ties it, and that differs from it, is used, as
    transformers 5 does; a line says so.

    Args:
      revision: the branch, tag or commit of a hub id.
      ignore_fields: fields of config.json to accept that are not known here.

    Raises:
      UserError: the model is not found, its architecture is not supported, or a file is broken.
    """
    path = locate(weights, revision)
    if path.suffix == ".gguf":
        gguf = GGUF(path)
        config, weight_map = decoder_config(gguf.config(), str(path), ignore_fields)
        return Pretrained(path, config, weight_map, gguf)
    file = path / "config.json"
    if not file.is_file():
        raise UserError(f"{path}: has no config.json; expected a Hugging Face model directory")
    hf = read_json(file)
    config, weight_map = decoder_config(hf, str(file), ignore_fields)
    source = GptOssDirectory(path) if hf["model_type"] == "gpt_oss" else SafetensorsDirectory(path)
    weight_map = weight_map.found_in(source.names)
    embedding, head = weight_map["embedding"].name, weight_map["head"].name
    if config.tied_head and {embedding, head} <= source.names and not _same(source, embedding, head):
        say(f"{path}: {head} differs from {embedding}, to which config.json ties it: it is used as the head")
        config = dataclasses.replace(config, tied_head=False)
    return Pretrained(path, config, weight_map, source)


def _same(source: TensorSource, one: str, other: str) -> bool:
    """Whether two matrices are equal, bit by bit."""
    if (source.shape(one), source.dtype(one)) != (source.shape(other), source.dtype(other)):
        return False

    def bits(name: str, rows: slice) -> np.ndarray:
        return source.read(name, (rows,)).view(np.uint8)

    blocks = [slice(first, first + _ROWS) for first in range(0, source.shape(one)[0], _ROWS)]
    return all(np.array_equal(bits(one, rows), bits(other, rows)) for rows in blocks)


def locate(weights: str, revision: str) -> Path:
    """The local path of a model, copied from a bucket or the hub first. UserError, with a remedy, if there is none."""
    if "://" in weights:
        if weights.endswith(".gguf"):
            return local_file(weights)
        return local_folder(weights, _BUCKET_FILES, _BUCKET_DOUBLES, "config.json")
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
            f"{weights}: is gated; accept its licence on its page at the hub, and set HF_TOKEN or run `hf auth login`, "
            f"{_ELSEWHERE}"
        ) from error
    except huggingface_hub.errors.RevisionNotFoundError as error:
        raise UserError(f"{weights}: has no revision {revision!r} at the hub; set --config.model.revision") from error
    except huggingface_hub.errors.RepositoryNotFoundError as error:
        raise UserError(
            f"{weights}: is not at the hub, or private; check the id, or set HF_TOKEN or run `hf auth login`"
        ) from error
    except (huggingface_hub.errors.HfHubHTTPError, OSError, ValueError) as error:
        raise UserError(
            f"{weights}: cannot be fetched from the hub ({short(error)}); check the network, {_ELSEWHERE}"
        ) from error
