"""What the commands share: flags, help, and bad input as one line and exit code 2."""

import dataclasses
import difflib
import io
import itertools
import os
import re
import signal
import sys
import traceback
import typing
from ast import literal_eval
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags, logging
from etils import epath
from ml_collections import config_flags

from survey_jax.common.console import say
from survey_jax.common.errors import INTERRUPTED, RESUMABLE, BadSetting, Stopped, UserError, explained, fail
from survey_jax.common.imports import without
from survey_jax.config import Config, settings, validate


class _DictionaryParser(flags.ArgumentParser):
    """Reads a Python dictionary; lists in it become tuples, as settings have them."""

    def parse(self, argument: Any) -> dict[str, Any]:
        try:
            found = argument if isinstance(argument, dict) else literal_eval(argument)
            return {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}
        except (ValueError, SyntaxError, AttributeError, TypeError, RecursionError, MemoryError) as error:
            raise ValueError("write a dictionary in quotes, such as \"{'country': ['Kenya']}\" or \"{}\"") from error


_PARSERS: dict[Any, type[flags.ArgumentParser]] = {
    int: flags.IntegerParser,
    float: flags.FloatParser,
    dict: _DictionaryParser,
    typing.Literal: flags.ArgumentParser,
}


def define_config(required: bool) -> Any:
    """The --config=FILE flag with its --config.section.name=value overrides."""
    for kind in {setting.type for setting in settings()}:  # ml_collections does not know types that limit values
        base = typing.get_args(kind)[0] if typing.get_origin(kind) is typing.Annotated else typing.get_origin(kind)
        if base in _PARSERS:
            config_flags.register_flag_parser_for_type(kind, _PARSERS[base]())
    flag = config_flags.DEFINE_config_file("config", None, "Python file whose get_config() returns a Config.")
    if required:
        flags.register_validator(
            "config", lambda value: value is not None, "give a Python file whose get_config() returns a Config"
        )
    return flag


def read_config(flag: Any) -> Config:
    """The config of the flag, validated."""
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
    """checkpoints/<config name>, for the file given by --config; its arguments are part of the name."""
    file, _, arguments = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
    return epath.Path("checkpoints") / "_".join([Path(file).stem, *re.findall(r"[\w.-]+", arguments)])


def config_as_given() -> list[str]:
    """The --config flag and its overrides, as another command takes them."""
    flag = flags.FLAGS["config"]
    changed = config_flags.get_override_values(flag)
    file = config_flags.get_config_filename(flag)
    return [f"--config={file}", *(f"--config.{name}={value}" for name, value in changed.items())]


def hide_torch() -> None:
    """Lets transformers do without torch in this process, which nothing here needs but `model.check_parity`.

    Where torch is installed, transformers imports it for a mere tokenizer, which takes seconds of every start.
    """
    with without("torch"):
        from transformers.utils.import_utils import is_torch_available

        is_torch_available()  # it remembers what it found


def run(main: Callable[..., None], *, refuse: Callable[[str], NoReturn] = fail, arguments: bool = False) -> None:
    """Parses flags and calls main. UserError and flag mistakes become one line on stderr and exit code 2.

    A run stopped on request ends with exit code RESUMABLE. `--help` prints usage, flags and settings, and exits with 0.

    Args:
      refuse: what to do about flag mistakes.
      arguments: whether main takes arguments that belong to no flag.
    """
    # Without it transformers prints at import that there is no PyTorch, which nobody needs here.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may have no such letter

    def parse(argv: list[str]) -> list[str]:
        argv = [_packaged(argument) for argument in argv]
        logging.set_verbosity(logging.ERROR)
        if {"--help", "-h", "-help"} & set(argv[1:]):
            print(_help())
            sys.exit(0)
        try:
            _check_config_flags(argv)
            rest = flags.FLAGS(argv)
        except (Exception, SystemExit) as error:  # a config file may raise anything
            refuse(_explain(error))
        if len(rest) > 1 and not arguments:
            refuse(f"unexpected argument {rest[1]!r}; flags start with --")
        return rest

    def guarded(argv: list[str]) -> None:
        logging.set_verbosity(logging.WARNING)  # orbax and jax narrate at INFO
        try:
            with explained():
                main(*argv[1:])
        except BadSetting as error:
            fail(f"{error}{_origin(error.setting)}")
        except UserError as error:
            fail(str(error))
        except Stopped as stop:
            say(str(stop))
            sys.exit(RESUMABLE)
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # one more would end in a traceback of whatever is tidied up
            print("interrupted; what was saved is intact", file=sys.stderr, flush=True)
            sys.exit(INTERRUPTED)

    app.run(guarded, flags_parser=parse)


def _origin(setting: str) -> str:
    """Where the value of a setting comes from, and how to change it."""
    if any(argument.lstrip("-").partition("=")[0].startswith(setting) for argument in sys.argv):
        return f". It is given on the command line, by --{setting}"
    if "config" in flags.FLAGS and (file := config_flags.get_config_filename(flags.FLAGS["config"])):
        return f". It comes from {file.partition(':')[0]}; change it there, or by --{setting}=..."
    return ""


def _help() -> str:
    """The command's own documentation, its flags, and every setting with its default and its comment."""
    lines = [sys.modules["__main__"].__doc__ or "", "Flags:"]
    modules = flags.FLAGS.flags_by_module_dict().items()
    own = [flag for module, found in modules if module.startswith(("survey_jax", sys.argv[0])) for flag in found]
    for flag in (flag for flag in own if flag.name != "config"):
        lines += [f"  --{flag.name}{'' if flag.boolean else '=...'}", f"      {flag.help} Default: {flag.default!r}."]
    if "config" in flags.FLAGS:
        lines += ["  --config=FILE[:ARGUMENTS]", "      A Python file whose get_config() returns all settings:"]
        for section, group in itertools.groupby(settings(), key=lambda setting: setting.name.rpartition(".")[0]):
            lines += ["", f"  {section}"]
            for s in group:
                comment = s.comment[:1].upper() + s.comment[1:]
                lines += [f"    --{s.name}={s.default!r}", f"        {comment}"]
                if s.choices:
                    kind = "One" if typing.get_origin(s.type) is typing.Literal else "A tuple"
                    lines += [f"        {kind} of {', '.join(choice or repr(choice) for choice in s.choices)}."]
    return "\n".join(lines)


def _packaged(argument: str) -> str:
    """--config=configs/FILE as the package or its checkout has it, if there is no such file here."""
    name, _, value = argument.lstrip("-").partition("=")
    file, colon, arguments = value.partition(":")
    if name != "config" or not file.startswith("configs/") or Path(file).is_file():
        return argument
    package = Path(__file__).parent
    found = next((p for p in (package / file, package.parent / file) if p.is_file()), file)
    return f"--config={found}{colon}{arguments}"


def _check_config_flags(argv: Sequence[str]) -> None:
    """Tells of a config file or a setting that does not exist in plainer words than ml_collections."""
    for argument in argv:
        name, equals, value = argument.lstrip("-").partition("=")
        if name == "config" and equals and not (file := Path(value.partition(":")[0])).is_file():
            raise UserError(f"--config: {file}: no such file")
        if name.startswith("config."):
            known = [setting.name for setting in settings()]
            if not any(name == setting or name.startswith(f"{setting}.") for setting in known):
                close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                hint = f"; did you mean --{close[0]}?" if close else ""
                raise UserError(f"--{name}: no such setting{hint}")


def _explain(error: BaseException) -> str:
    """One line about bad flags or a config file that does not load; says where in the file, if it is Python's."""
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    head, _, trace = text.partition("Traceback (most recent call last):")  # ml_collections puts one into its message
    message = " ".join([*head.split(), *(trace.splitlines() or [""])[-1].split()]) or type(error).__name__
    if missing := _MISSING.match(message):
        return f"--{missing[1]} must be given: {flags.FLAGS[missing[1]].help}"
    message += _did_you_mean(message)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.name in ("<module>", "get_config")]
    return f"{frames[-1].filename} line {frames[-1].lineno}: {message}" if frames else message


_MISSING = re.compile(r"flag --(\w+)=None: Flag --\w+ must have a value other than None")  # absl's
_MISTAKES = (  # Python's messages: a section of the settings, and what is not in it; or a module, and what is not in it
    re.compile(r"(?P<section>\w+)\.__init__\(\) got an unexpected keyword argument '(?P<name>\w+)'"),
    re.compile(r"'(?P<section>\w+)' object has no attribute '(?P<name>\w+)'"),
    re.compile(r"cannot import name '(?P<section>\w+)' from 'survey_jax\b"),
)


def _did_you_mean(message: str) -> str:
    """What a message about a config file might help to write instead; "" where it is about something else."""
    found = next(filter(None, (mistake.search(message) for mistake in _MISTAKES)), None)
    section = {kind.__name__: kind for kind in _sections(Config)}.get(found["section"]) if found else None
    if found is None or section is None:
        return ""
    if "name" not in found.groupdict():
        return f"; did you mean `from {section.__module__} import {section.__name__}`?"
    known = [field.name for field in dataclasses.fields(section)]
    close = difflib.get_close_matches(found["name"], known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; the settings there are {', '.join(known)}"


def _sections(kind: type) -> Iterator[type]:
    yield kind
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(field.type):
            yield from _sections(typing.cast(type, field.type))
