"""config.json and manifest.json: the settings of a run, and what each of its starts ran with."""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import secrets
import subprocess
import time
from pathlib import Path
from typing import Any

import jax
from etils import epath

import survey_jax
from survey_jax.common.console import is_first, say
from survey_jax.common.errors import UserError
from survey_jax.common.files import read_json, write_json
from survey_jax.config import Config, differences, from_dict, get, settings, to_dict

_MANIFEST = "manifest.json"
_FORMAT = 2  # of a run's files; runs of format 1 have no such number, and other names of settings
_PACKAGES = (
    *("survey_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "tokenizers"),
    *("safetensors", "gguf", "datasets", "numpy", "scipy"),
)
_DRIVERS = (  # of accelerators; recorded where they are installed
    *("libtpu", "jax-cuda12-plugin", "jax-cuda12-pjrt", "jax-cuda13-plugin", "jax-cuda13-pjrt"),
    *("nvidia-cudnn-cu12", "nvidia-cudnn-cu13", "nvidia-nccl-cu12", "nvidia-nccl-cu13"),
)
_FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "JAX_PLATFORMS", "JAX_DEFAULT_MATMUL_PRECISION")


def read_config(workdir: epath.Path) -> Config:
    """The config of a run. Raises UserError where there is no run, or one that this version cannot read."""
    file = workdir / "config.json"
    if not file.exists():
        raise UserError(f"{workdir}: no run here (config.json is missing)")
    record = workdir / _MANIFEST
    if record.exists() and read_json(record).get("format") != _FORMAT:
        raise UserError(
            f"{workdir}: a run of another version of survey_jax, whose settings have other names: it can be resumed, "
            "evaluated and exported by that version only; to use this one, train again with another --workdir"
        )
    return from_dict(read_json(file), where=str(file))


def check_workdir(workdir: epath.Path, config: Config, identity: dict[str, str]) -> None:
    """Checks that a folder is empty or holds this run.

    Raises UserError if its run has another base model, other data, or a setting that would change what is trained.
    """
    if not (workdir / _MANIFEST).exists():
        return
    remedy = "choose another --workdir, or delete this one to start over"
    old_config = read_config(workdir)
    before = read_json(workdir / _MANIFEST).get("identity")
    if not isinstance(before, dict):
        raise UserError(f"{workdir / _MANIFEST}: does not say what run it is of; {remedy}")
    for name, value in identity.items():
        if before.get(name) != value:
            raise UserError(
                f"{workdir}: holds a run with another {name} (fingerprint {before.get(name)}, now {value}); {remedy}"
            )
    free = {setting.name for setting in settings() if setting.may_change}
    for setting, (old, new) in differences(old_config, config).items():
        if setting not in free:
            raise UserError(f"{workdir}: holds a run with {setting} = {old!r}, now {new!r}; {remedy}")
        say(f"{setting} was {old!r} in this run so far, now {new!r}")


def record_start(workdir: epath.Path, config: Config, identity: dict[str, str], commit: str | None, step: int) -> str:
    """Writes config.json, and manifest.json with this start added to those before; on process 0.

    Args:
      commit: the revision of a base model from the Hugging Face hub.
      step: where this start continues; 0 at the first.

    Returns:
      the id of the run, the same at every start; "" on processes other than 0.
    """
    if not is_first():
        return ""
    workdir.mkdir(parents=True, exist_ok=True)
    file = workdir / _MANIFEST
    record: dict[str, Any] = {"format": _FORMAT, "id": secrets.token_hex(4), "identity": identity, "starts": []} | (
        read_json(file) if file.exists() else {}
    )
    facts = {name: value for name, value in manifest(config, identity, commit).items() if name != "identity"}
    record["starts"] = [*record["starts"], {"step": step, **facts}]
    write_json(workdir / "config.json", to_dict(config))
    write_json(file, record)
    return record["id"]


def manifest(config: Config, identity: dict[str, str], commit: str | None) -> dict[str, Any]:
    """Everything that results depend on: base model, data, settings, versions, source, devices and flags."""
    device = jax.devices()[0]
    return {
        "identity": identity,
        "base_model": {"weights": config.model.weights, "commit": commit},
        "seed": config.run.seed,
        "config_hash": config_hash(config),
        "versions": _versions(),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_changes": (_git("diff", "--name-only", "HEAD", "--", ".") or "").splitlines(),
        "device": {
            "kind": device.device_kind,
            "platform": device.platform,
            "runtime": device.client.platform_version,
            "count": jax.device_count(),
        },
        "processes": jax.process_count(),
        "host": platform.node(),
        "flags": {name: os.environ[name] for name in _FLAGS if name in os.environ},
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


_LOCAL = ("config.model.weights", "config.data.tables", "config.run.cache")


def shared_settings(config: Config) -> dict[str, str]:
    """What must be the same on all processes of a run: versions, and all settings except paths of files."""
    values = {f"version of {name}": importlib.metadata.version(name) for name in ("survey_jax", "jax", "jaxlib")}
    for setting in settings():
        if setting.name not in _LOCAL:
            values[setting.name] = repr(get(config, setting.name))
    return values


def config_hash(config: Config) -> str:
    """Hash of the full config; equal hashes mean identical settings."""
    return hashlib.sha256(json.dumps(to_dict(config), sort_keys=True).encode()).hexdigest()[:16]


def _versions() -> dict[str, str]:
    found = {package: importlib.metadata.version(package) for package in _PACKAGES}
    for package in _DRIVERS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found | {"python": platform.python_version()}


def _git(*command: str) -> str | None:
    """Output of git in the source tree that this package runs from; None if it is installed without one."""
    here = Path(survey_jax.__file__)

    def run(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(here.parent), *arguments], capture_output=True, text=True)
        except FileNotFoundError:  # no git on this machine
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # A package may be installed inside another project's repository (.venv in a project).
    return run(*command) if run("ls-files", "--error-unmatch", here.name) else None
