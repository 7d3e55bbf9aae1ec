"""What inputs and machines do to the program is one line; mistakes of the program keep their traceback."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path

import jax
import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml
from safetensors import safe_open

from survey_jax.common.errors import Stopped, UserError, explained
from survey_jax.common.files import read_json


def raises(error: BaseException) -> None:
    raise error


def of_the_package(function: Callable[[Path], object], path: Path) -> None:
    """Calls a function from one of the package that has the path in hand."""
    names = {"__name__": "survey_jax.somewhere", "function": function}
    exec("def caller(path):\n    function(path)", names)
    names["caller"](path)  # type: ignore[operator]


def nested(path: Path) -> None:
    path.write_text('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}")
    read_json(path)  # type: ignore[arg-type]  # any path will do


def garbage(path: Path) -> Path:
    path.write_bytes(b"{ [\xff" * 100)
    return path


INPUTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda p: p.read_text(), "input: No such file or directory"),
    "a folder": (lambda p: p.parent.read_text(), ": Is a directory"),
    "no permission": (lambda p: raises(PermissionError(13, "Permission denied", str(p))), "input: Permission denied"),
    "too long": (lambda p: p.with_name("x" * 300).read_text(), "x: File name too long"),
    "too deep": (nested, "input: is nested too deeply to be read"),
    "not UTF-8": (
        lambda p: garbage(p).read_text(encoding="utf-8"),
        "input: cannot be read or written as text (",
    ),
    "memory": (
        lambda _: raises(MemoryError("Unable to allocate 8 TiB")),
        "there is not enough memory (Unable to",
    ),
    "device memory": (
        lambda _: raises(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")),
        "there is not enough memory (RESOURCE_EXHAUSTED: Out of memory allocating 9",
    ),
    "the memory of an accelerator, at the call of a compiled function": (
        lambda _: raises(ValueError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")),
        "there is not enough memory (RESOURCE_EXHAUSTED: Out of memory allocating 9",
    ),
}


@pytest.mark.parametrize("name", INPUTS)
def test_an_input_or_the_machine(name: str, tmp_path: Path) -> None:
    act, said = INPUTS[name]
    with pytest.raises(UserError) as raised, explained():
        of_the_package(act, tmp_path / "input")
    assert said in str(raised.value)


READERS: dict[str, Callable[[Path], object]] = {
    "parquet": pa.parquet.read_table,
    "yaml": lambda path: yaml.safe_load(path.read_bytes().replace(b"\xff", b"]}")),
    "json": lambda path: json.loads("{"),
    "safetensors": lambda path: safe_open(path, "np").__enter__(),
    "zlib": lambda path: zlib.decompress(path.read_bytes()),
}


@pytest.mark.parametrize("name", READERS)
def test_a_reader_of_a_library(name: str, tmp_path: Path) -> None:
    file = garbage(tmp_path / "input")
    with pytest.raises(UserError, match=rf"^{file}: cannot be read: ."), explained():
        of_the_package(READERS[name], file)


@pytest.mark.parametrize(
    "error",
    [
        *(ValueError("a"), TypeError("b"), KeyError("c"), AssertionError(), ZeroDivisionError(), AttributeError("d")),
        *(IndexError("e"), NotImplementedError(), OSError("no file in it"), Stopped("asked"), UserError("known")),
        jax.errors.JaxRuntimeError("INTERNAL: a bug"),
    ],
    ids=repr,
)
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, explained():
        raise error
    assert raised.value is error


def test_a_table_that_cannot_be_made_is_a_mistake_of_the_program(tmp_path: Path) -> None:
    with pytest.raises(pa.ArrowException), explained():
        of_the_package(lambda _: pa.Table.from_pylist([{"a": 1}, {"a": "x"}]), tmp_path)
