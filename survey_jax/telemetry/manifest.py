"""The files that say what a run is: config.json and manifest.json."""

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
_DRIVERS = (  # recorded where they are installed: what drives an accelerator
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
    """A folder that holds a run must hold this one.

    Raises:
      UserError: its run has another base model, other data, or a setting that would change what is trained.
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
      commit: of a base model from the hub.
      step: at which this start goes on; 0 at the first.

    Returns:
      a name for the run, the same at every start; "" on processes other than 0.
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
    """What produces results here and now: base model, data, settings, versions, source, devices and flags."""
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
    """What processes of one run must have alike: versions, and all settings but where files lie."""
    values = {f"version of {name}": importlib.metadata.version(name) for name in ("survey_jax", "jax", "jaxlib")}
    for setting in settings():
        if setting.name not in _LOCAL:
            values[setting.name] = repr(get(config, setting.name))
    return values


def config_hash(config: Config) -> str:
    """Of all settings: two starts with the same one were asked for the same."""
    return hashlib.sha256(json.dumps(to_dict(config), sort_keys=True).encode()).hexdigest()[:16]


def _versions() -> dict[str, str]:
    found = {package: importlib.metadata.version(package) for package in _PACKAGES}
    for package in _DRIVERS:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found | {"python": platform.python_version()}


def _git(*command: str) -> str | None:
    """What git says of the source tree this package runs from; None where it is installed without one."""
    here = Path(__file__)

    def run(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(here.parent), *arguments], capture_output=True, text=True)
        except FileNotFoundError:  # no git on this machine
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # Installed packages may lie inside somebody's repository (.venv in a project): that is not ours.
    return run(*command) if run("ls-files", "--error-unmatch", here.name) else None
