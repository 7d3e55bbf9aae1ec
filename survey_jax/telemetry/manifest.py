"""config.json and manifest.json: the settings of a run, and what each of its starts ran with."""

import contextlib
import dataclasses
import datetime
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import secrets
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from etils import epath

import survey_jax
from survey_jax.common.console import is_first, say
from survey_jax.common.errors import UserError, plural
from survey_jax.common.files import checked, read_json, write_json
from survey_jax.config import Config, differences, from_dict, get, settings, to_dict

_MANIFEST = "manifest.json"
_SEED = "seed_"
_LATER = ("metrics.jsonl", "time.json", "checkpoints")  # what a run writes after it
# Of a run's files. Runs of format 1 have no such number, and other names of settings; those of format 2 have another
# fingerprint of the base model.
_FORMAT = 3
_PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "tokenizers"),
    *("safetensors", "gguf", "datasets", "numpy", "scipy"),
)
_DRIVERS = (  # of accelerators; recorded where they are installed
    *("libtpu", "jax-cuda12-plugin", "jax-cuda12-pjrt", "jax-cuda13-plugin", "jax-cuda13-pjrt"),
    *("nvidia-cudnn-cu12", "nvidia-cudnn-cu13", "nvidia-nccl-cu12", "nvidia-nccl-cu13"),
)
_FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "JAX_PLATFORMS", "JAX_DEFAULT_MATMUL_PRECISION")


@dataclasses.dataclass
class _Start:
    step: int


@dataclasses.dataclass
class _Manifest:
    """What is read of manifest.json; there is more in it."""

    id: str
    identity: dict[str, str]
    starts: list[_Start]


def seed_folder(workdir: epath.Path, seed: int) -> epath.Path:
    """Where the run of a seed lies, of several that `train --seeds` makes."""
    return workdir / f"{_SEED}{seed}"


def seed_folders(workdir: epath.Path) -> dict[int, epath.Path]:
    """Seed -> folder of the runs that `train --seeds` has made there; empty where it is the folder of one run."""
    if (workdir / "config.json").exists():
        return {}
    names = {f.name.removeprefix(_SEED): f for f in workdir.glob(f"{_SEED}*") if (f / "config.json").exists()}
    return {int(seed): names[seed] for seed in sorted(filter(str.isdecimal, names), key=int)}


def read_config(workdir: epath.Path) -> Config:
    """The config of a run. Raises UserError where there is no run, or one that this version cannot read."""
    file = workdir / "config.json"
    if not file.exists():
        if runs := seed_folders(workdir):
            one = next(iter(runs.values()))
            raise UserError(f"{workdir}: holds runs of {plural(len(runs), 'seed')}; name one of them, such as {one}")
        raise UserError(f"{workdir}: no run here (config.json is missing)")
    _read_manifest(workdir)
    return from_dict(read_json(file), where=str(file))


def _read_manifest(workdir: epath.Path) -> dict[str, Any]:
    """manifest.json. Raises UserError where there is none, or another version has written it."""
    file = workdir / _MANIFEST
    if not file.exists():
        raise UserError(
            f"{file} is missing, which tells what run this is; put it back, or train again with another --workdir"
        )
    record = read_json(file)
    if record.get("format") != _FORMAT:
        raise UserError(
            f"{workdir}: a run of another version of survey_jax, whose settings and fingerprints are others: it can be "
            "resumed, evaluated and exported by that version only; to use this one, train again with another --workdir"
        )
    found: dict[str, Any] = checked(record, _Manifest, file)
    return found


def with_chat_date(config: Config, workdir: epath.Path) -> Config:
    """The config with a `data.chat_date`, if prompts are chats: as set, as the run in the folder has it, or today's.

    Prompts must stay the same when a run is resumed, evaluated or asked on another day.
    """
    if not config.data.chat or config.data.chat_date:
        return config
    recorded = read_config(workdir).data.chat_date if (workdir / "config.json").exists() else ""
    day = recorded or datetime.datetime.now(datetime.UTC).date().isoformat()
    return dataclasses.replace(config, data=dataclasses.replace(config.data, chat_date=day))


def check_workdir(workdir: epath.Path, config: Config, identity: dict[str, str]) -> None:
    """Checks that a folder is empty or holds this run.

    Raises UserError if its run has another base model, other data, or a setting that would change what is trained.
    """
    if not any((workdir / name).exists() for name in (_MANIFEST, *_LATER)):
        return
    remedy = "choose another --workdir, or delete this one to start over"
    before = _read_manifest(workdir)["identity"]
    old_config = read_config(workdir)
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


def record_start(
    workdir: epath.Path,
    config: Config,
    identity: dict[str, str],
    commit: str | None,
    step: int,
    bad_rows: Mapping[str, int] | None = None,
) -> str:
    """Writes config.json, and manifest.json with this start added to those before; on process 0.

    Args:
      commit: the revision of a base model from the Hugging Face hub.
      step: where this start continues; 0 at the first.
      bad_rows: what `data.drop_bad` left out: reason -> rows.

    Returns:
      the id of the run, the same at every start; "" on processes other than 0.

    Raises:
      UserError: an earlier start went on from a checkpoint, and this one from none.
    """
    if not is_first():
        return ""
    workdir.mkdir(parents=True, exist_ok=True)
    file = workdir / _MANIFEST
    record: dict[str, Any] = {"format": _FORMAT, "id": secrets.token_hex(4), "identity": identity, "starts": []}
    record |= _read_manifest(workdir) if file.exists() else {}
    if not step and (resumed := max((start["step"] for start in record["starts"]), default=0)):
        raise UserError(
            f"{workdir}: its checkpoints are gone, and this run was resumed at step {resumed} before; put them back, "
            "or, to start over, choose another --workdir or delete this one"
        )
    facts = {name: value for name, value in manifest(config, identity, commit, bad_rows).items() if name != "identity"}
    record["starts"] = [*record["starts"], {"step": step, **facts}]
    write_json(workdir / "config.json", to_dict(config))
    write_json(file, record)
    return str(record["id"])


def manifest(
    config: Config, identity: dict[str, str], commit: str | None, bad_rows: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Everything that results depend on: base model, data, settings, versions, source, devices and flags."""
    device = jax.devices()[0]
    return {
        "identity": identity,
        "base_model": {"weights": config.model.weights, "commit": commit},
        "bad_rows": dict(bad_rows or {}),
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
    values = {f"version of {name}": importlib.metadata.version(name) for name in ("jax", "jaxlib")}
    values["version of survey_jax"] = survey_jax.__version__
    for setting in settings():
        if setting.name not in _LOCAL:
            values[setting.name] = repr(get(config, setting.name))
    return values


def config_hash(config: Config) -> str:
    """Hash of the full config; equal hashes mean identical settings."""
    return hashlib.sha256(json.dumps(to_dict(config), sort_keys=True).encode()).hexdigest()[:16]


def _versions() -> dict[str, str]:
    found = {"survey_jax": survey_jax.__version__}  # which may be a checkout that is not installed
    found |= {package: importlib.metadata.version(package) for package in _PACKAGES}
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
