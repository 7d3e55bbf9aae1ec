"""What the binaries share: flags, and bad input as one line and exit code 2."""

import sys
from collections.abc import Callable
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from survey_jax.config import Config, validate
from survey_jax.errors import UserError


def define_config(required: bool) -> Any:
    """The --config=FILE flag with its --config.section.name=value overrides."""
    flag = config_flags.DEFINE_config_file("config", None, "Python file whose get_config() returns a Config.")
    if required:
        flags.mark_flag_as_required("config")
    return flag


def read_config(flag: Any) -> Config:
    """The config of the flag, validated."""
    if not isinstance(flag.value, Config):
        raise UserError(
            f"--config: get_config() must return a survey_jax.config.Config, got {type(flag.value).__name__}"
        )
    return validate(flag.value)


def run(main: Callable[[], None]) -> None:
    """Parses flags and calls main. UserError and flag mistakes become one line on stderr and exit code 2."""

    def parse(argv: list[str]) -> list[str]:
        try:
            rest = flags.FLAGS(argv)
        except (
            flags.Error,
            KeyError,
            AttributeError,
            TypeError,
            ValueError,
            OSError,
            SyntaxError,
            ImportError,
        ) as error:
            fail(_first_line(error))
        if len(rest) > 1:
            fail(f"unexpected argument {rest[1]!r}; flags start with --")
        return rest

    def guarded(argv: list[str]) -> None:
        del argv
        logging.set_verbosity(logging.WARNING)  # orbax and jax narrate at INFO
        try:
            main()
        except UserError as error:
            fail(str(error))

    app.run(guarded, flags_parser=parse)


def fail(message: str) -> None:
    """Prints one line and exits with code 2."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(2)


def _first_line(error: BaseException) -> str:
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error).strip()
    return (text.splitlines() or [type(error).__name__])[0]
