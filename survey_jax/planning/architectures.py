"""Architectures without weights: a known model's, or any config.json's."""

import difflib
import json
from collections.abc import Collection
from importlib import resources
from pathlib import Path
from typing import Any

from survey_jax.common.errors import UserError, some
from survey_jax.model.architecture import DecoderConfig
from survey_jax.pretrained.families import decoder_config
from survey_jax.pretrained.gguf_files import GGUF
from survey_jax.pretrained.json_files import read_json


def known_architectures() -> list[dict[str, Any]]:
    """Published models, each with its hub `ids`, its number of `parameters` and its `config`.

    `config` holds the fields of the model's config.json that decide the shapes of its parameters; others may be absent.
    """
    text = (resources.files("survey_jax") / "data" / "architectures.json").read_text(encoding="utf-8")
    return json.loads(text)


def read_architecture(model: str, ignore_fields: Collection[str] = ()) -> DecoderConfig:
    """An architecture by name or from a file.

    Args:
      model: a config.json, a folder with one, a GGUF file, or a known model's hub id (or the part after the slash).
      ignore_fields: fields of a file to accept that are not known.

    Raises:
      UserError: there is no such file or known model, or its architecture is not supported.
    """
    path = Path(model).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        return decoder_config(GGUF(path).config(), model, ignore_fields)[0]
    file = path / "config.json" if path.is_dir() else path
    if path.is_dir() or path.is_file():
        return decoder_config(read_json(file), str(file), ignore_fields)[0]
    for entry in known_architectures():
        if any(model.lower() in (name.lower(), name.split("/")[-1].lower()) for name in entry["ids"]):
            return decoder_config(entry["config"], model)[0]
    names = {name.split("/")[-1] for entry in known_architectures() for name in entry["ids"]}
    folded = {name.lower(): name for name in sorted(names)}
    near = difflib.get_close_matches(model.split("/")[-1].lower(), folded, 3, 0.7)
    meant = f"did you mean {' or '.join(folded[name] for name in near)}?" if near else f"known are {some(names, 99)}"
    raise UserError(f"{model}: neither a file nor a known model; {meant} Of any other, give the config.json as --model")
