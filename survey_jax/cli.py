"""What the binaries share: flags, and bad input as one line and exit code 2."""

import difflib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from absl import app, flags, logging
from etils import epath
from ml_collections import config_flags

from survey_jax.common.errors import RESUMABLE, Stopped, UserError, full_disk_explained

if TYPE_CHECKING:
    from survey_jax.config import Config
from survey_jax.common.errors import fail


def define_config(required: bool) -> Any:
    """The --config=FILE flag with its --config.section.name=value overrides."""
    flag = config_flags.DEFINE_config_file("config", None, "Python file whose get_config() returns a Config.")
    if required:
        flags.register_validator(
            "config", lambda value: value is not None, "give a Python file whose get_config() returns a Config"
        )
    return flag


def read_config(flag: Any) -> "Config":
    """The config of the flag, validated."""
    from survey_jax.config import Config, validate  # here: it needs transformers, for which prepare would wait seconds

    try:
        getattr(flag.value, "model", None)  # here ml_collections tells of a file that it could not open
    except OSError as error:
        raise UserError(f"--config: {_explain(error)}") from error
    if not isinstance(flag.value, Config):
        raise UserError(
            f"--config: get_config() must return a survey_jax.config.Config, got {type(flag.value).__name__}"
        )
    return validate(flag.value)


def default_workdir() -> epath.Path:
    """checkpoints/<config name>, for the file given by --config."""
    return epath.Path("checkpoints") / Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem


def run(main: Callable[[], None], list_flag: str = "", refuse: Callable[[str], NoReturn] = fail) -> None:
    """Parses flags and calls main. UserError and flag mistakes become one line on stderr and exit code 2.

    A run stopped on request ends with exit code RESUMABLE.

    Args:
      list_flag: a list flag whose values may also follow it one by one: `--compare A B` is `--compare=A,B`.
      refuse: what to do about flag mistakes.
    """

    def parse(argv: list[str]) -> list[str]:
        logging.set_verbosity(logging.ERROR)
        try:
            argv = _join_list(argv, f"--{list_flag}") if list_flag else argv
            _check_config_flags(argv)
            return _parse(argv)
        except UserError as error:
            refuse(str(error))

    def guarded(argv: list[str]) -> None:
        del argv
        logging.set_verbosity(logging.WARNING)  # orbax and jax narrate at INFO
        try:
            with full_disk_explained():
                main()
        except UserError as error:
            fail(str(error))
        except Stopped as stop:
            print(stop, flush=True)
            sys.exit(RESUMABLE)
        except KeyboardInterrupt:
            print("interrupted; what was saved is intact", file=sys.stderr, flush=True)
            sys.exit(130)  # as shells have it

    app.run(guarded, flags_parser=parse)


def _parse(argv: list[str]) -> list[str]:
    try:
        rest = flags.FLAGS(argv)
    except Exception as error:  # a config file may raise anything
        raise UserError(_explain(error)) from error
    if len(rest) > 1:
        raise UserError(f"unexpected argument {rest[1]!r}; flags start with --")
    return rest


def _join_list(argv: list[str], flag: str) -> list[str]:
    if flag not in argv:
        return argv
    start = end = argv.index(flag) + 1
    while end < len(argv) and not argv[end].startswith("-"):
        end += 1
    if start == end:
        raise UserError(f"{flag}: nothing follows it")
    return [*argv[: start - 1], f"{flag}={','.join(argv[start:end])}", *argv[end:]]


def _check_config_flags(argv: list[str]) -> None:
    """Tells of a config file or a setting that does not exist in plainer words than ml_collections."""
    for argument in argv:
        name, equals, value = argument.lstrip("-").partition("=")
        if name == "config" and equals and not (file := Path(value.partition(":")[0])).is_file():
            raise UserError(f"--config: {file}: no such file")
        if name.startswith("config."):
            from survey_jax.config import setting_names  # here: see read_config

            known = setting_names()
            if not any(name == setting or name.startswith(f"{setting}.") for setting in known):
                close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                hint = f"; did you mean --{close[0]}?" if close else ""
                raise UserError(f"--{name}: no such setting{hint}")


def _explain(error: Exception) -> str:
    """One line about bad flags or a config file that does not load; says where in the file, if it is Python's."""
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    head, _, trace = text.partition("Traceback (most recent call last):")  # ml_collections puts one into its message
    message = " ".join([*head.split(), *(trace.splitlines() or [""])[-1].split()]) or type(error).__name__
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.name in ("<module>", "get_config")]
    return f"{frames[-1].filename} line {frames[-1].lineno}: {message}" if frames else message
