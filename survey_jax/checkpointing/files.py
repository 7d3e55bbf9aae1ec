"""One checkpoint on disk, written by Orbax and verified when it is read.

A checkpoint is a folder of items: pytrees of arrays, and a `record`, JSON with facts about them, a checksum of every
array and a digest of itself.
"""

import contextlib
import json
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import absl.logging
import jax
import jax.numpy as jnp
from etils import epath
from jaxtyping import Array, UInt32
from orbax.checkpoint import v1 as ocp

from survey_jax.common.errors import UserError, other_version, some
from survey_jax.common.files import is_remote
from survey_jax.parallel.distributed import all_gather_text

_BITS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}  # bytes of an element -> the type that its bits are read as


def checksums(tree: Any) -> dict[str, int]:
    """Path of a leaf -> checksum. All processes must call it.

    The checksum is the sum, modulo 2^32, of every element's bits times an odd number that depends on its position. Odd
    factors are invertible modulo 2^32, so changing one element always changes the sum, and changing several does with
    a probability of about 1 - 2^-32. Integer sums do not depend on the order of terms, hence not on mesh or processes.
    It is computed on the devices in one pass (on CPU with scratch memory as large as the largest array).
    """
    return {name: int(total) for name, total in _named(jax.device_get(_sums(tree)))}


def kinds(tree: Any) -> dict[str, str]:
    """Path of a leaf -> dtype and shape."""
    return {name: f"{x.dtype}{list(x.shape)}" for name, x in _named(tree)}


def _named(tree: Any) -> list[tuple[str, Any]]:
    """E.g. ("optimizer/mu/blocks/q_lora_a", array)."""
    leaves = jax.tree.leaves_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), x) for path, x in leaves]


@jax.jit
def _sums(tree: Any) -> Any:
    return jax.tree.map(_sum, tree)


def _sum(x: Array) -> UInt32[Array, ""]:
    bits = x if x.dtype == bool else jax.lax.bitcast_convert_type(x, _BITS[x.dtype.itemsize])
    strides = [math.prod(x.shape[axis + 1 :]) % 2**32 for axis in range(x.ndim)]
    place = sum(
        (jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis) * jnp.uint32(s) for axis, s in enumerate(strides)),
        jnp.zeros(x.shape, jnp.uint32),
    )
    return jnp.sum(bits.astype(jnp.uint32) * (_scramble(place) | 1), dtype=jnp.uint32)


def _scramble(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """The last steps of MurmurHash3 (Appleby): consecutive inputs give unrelated outputs."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


COMMIT = "commit_success.txt"  # the file that Orbax writes last
_RECORD = "record/data.json"
TEMPORARY = ".orbax-checkpoint-tmp"  # in the name of an unfinished checkpoint's folder

# Errors of reading that do not mean damage; tensorstore raises them as a ValueError with one of these words.
_TROUBLE = (MemoryError, OSError, jax.errors.JaxRuntimeError)
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)  # the kinds of OSError that do mean damage
_WORDS = (
    *("PERMISSION_DENIED", "UNAUTHENTICATED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED"),
    *("EMFILE", "Input/output error", "Stale file handle", "Connection timed out"),
)

T = TypeVar("T")


class Damaged(UserError):
    """A checkpoint differs from what was saved."""


class Gone(UserError):
    """There is no such checkpoint (any more)."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Around reads and saves: an error is raised once, and explained in one line.

    Orbax's threads print it as it passes them, and asyncio prints the errors of the other arrays that failed with it.
    """
    orbax, asyncio = absl.logging.get_absl_logger(), logging.getLogger("asyncio")
    level = asyncio.level
    orbax.addFilter(_no_trace)
    asyncio.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        orbax.removeFilter(_no_trace)
        asyncio.setLevel(level)


def _no_trace(record: logging.LogRecord) -> bool:
    return not (record.exc_info and "orbax" in record.pathname)


def write(folder: epath.Path, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> Any:
    """Starts writing; returns Orbax's handle once the arrays are copied. All processes must call it.

    Args:
      arrays: item -> pytree of arrays.
      facts: go into the record; must be valid JSON.
    """
    record = {**facts, "kinds": kinds(arrays), "checksums": checksums(arrays)}
    items = {**arrays, "record": record | {"digest": digest(record)}}
    with _orbax(folder):
        return ocp.save_checkpointables_async(folder, items)


def read_record(folder: epath.Path, facts: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any]:
    """The facts that `write` was given, and the arrays' kinds and checksums.

    One process alone may call this. It does without Orbax, which counts its operations and hangs if processes differ.

    Args:
      facts: name -> type of those that must be there.

    Raises:
      Damaged: the record is not what was written.
      Gone: there is no such folder; all processes must see the same one.
      UserError: another version has written the record, or it cannot be read for now.
    """
    file = folder / _RECORD
    if not folder.exists():
        raise Gone(f"{folder}: process {jax.process_index()} sees no such folder")
    if not is_remote(folder) and (pipes := [p for p in Path(folder).rglob("*") if p.exists() and not _is_ordinary(p)]):
        raise Damaged(f"{pipes[0]}: damaged: it is a pipe or a device, which may be waited for without end")
    try:
        record = json.loads(file.read_text())
        whole = record.pop("digest") == digest(record)
    except (ValueError, TypeError, LookupError, AttributeError, *_ABSENT) as error:
        raise Damaged(f"{file}: damaged: {one_line(error)}") from error
    except OSError as error:
        raise UserError(f"{file}: cannot be read now: {one_line(error)}") from error
    if not whole:
        raise Damaged(f"{file}: damaged: it is not what was written")
    for name, kind in {**facts, "kinds": dict, "checksums": dict}.items():
        if name not in record or not isinstance(record[name], kind):
            raise other_version(file, f"{name!r} is {'another kind of value' if name in record else 'missing'}")
    return record


def _is_ordinary(path: Path) -> bool:
    return path.is_file() or path.is_dir()


def read_arrays(folder: epath.Path, like: Mapping[str, Any], partial: bool = False) -> dict[str, Any]:
    """Items of a checkpoint with the shardings of `like`, on any mesh. All processes must call it.

    Args:
      like: item -> pytree of `jax.ShapeDtypeStruct` with sharding.
      partial: `like` has only some of the arrays; the others are not read.

    Raises:
      Damaged: on all processes, if the checkpoint is damaged for one of them.
      UserError: the checkpoint holds other arrays.
    """
    record = together(read_record, folder, {})
    there = {name: kind for name, kind in record["kinds"].items() if name.split("/")[0] in like}
    wanted = kinds(like)
    differing = {n for n in wanted.keys() | ({} if partial else there) if wanted.get(n) != there.get(n)}
    if differing:
        name = min(differing)
        raise UserError(
            f"{folder}: {name} is {there.get(name, 'absent')} there and {wanted.get(name, 'absent')} in this run; "
            "it was saved with another configuration or by another version of this program"
        )
    arrays = together(_load, folder, like, partial)
    found = checksums(arrays)
    if changed := [name for name in found if found[name] != record["checksums"][name]]:
        raise Damaged(f"{folder}: damaged: the checksum is another than when it was saved: {some(changed, 3)}")
    return arrays


def together(read: Callable[..., T], *args: Any) -> T:
    """`read(*args)`; raises Damaged on all processes if one of them does."""
    if jax.process_count() == 1:
        return read(*args)
    result, problem = None, ""
    try:
        result = read(*args)
    except Damaged as damage:
        problem = str(damage)
    if problems := [p for p in all_gather_text(problem) if p]:
        raise Damaged(problems[0])
    return result  # type: ignore[return-value]  # None only if `read` returns it


def _load(folder: epath.Path, like: Mapping[str, Any], partial: bool) -> dict[str, Any]:
    try:
        with quiet(), _orbax(folder, alone=True, partial=partial):
            return ocp.load_checkpointables(folder, dict(like))
    except Exception as error:  # a flipped bit can end in any
        cause = root_cause(error)
        text = one_line(cause)
        passing = isinstance(cause, _TROUBLE) and not isinstance(cause, _ABSENT)
        if passing or any(word in text for word in _WORDS):
            raise UserError(f"{folder}: cannot be read now: {text}") from error
        raise Damaged(f"{_culprit(folder, list(like), f'{error} {text}')}: damaged: {text}") from error


def digest(record: Mapping[str, Any]) -> str:
    return sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def _orbax(folder: epath.Path, alone: bool = False, partial: bool = False) -> Iterator[None]:
    """Settings of Orbax for a folder.

    Args:
      alone: this process does not wait for the others, which would wait in vain if it failed.
      partial: only a part of a pytree may be read.
    """
    context = ocp.Context()
    context.checkpointables.registry = ocp.handlers.local_registry().add(
        ocp.handlers.JsonHandler, checkpointable_name="record"
    )
    context.pytree.loading.partial_load = partial
    if is_remote(folder):
        context.atomicity.mode = ocp.options.AtomicityMode.COMMIT_FILE
    if alone:
        context.multiprocessing.primary_host = jax.process_index()
        context.multiprocessing.active_processes = {jax.process_index()}
    with context:
        yield


def root_cause(error: BaseException) -> BaseException:
    """The first exception of a chain: Orbax wraps errors several times."""
    while (cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__)) is not None:
        error = cause
    return error


def _culprit(folder: epath.Path, items: list[str], text: str) -> epath.Path:
    """The damaged file: the last one that the message names, or one that should be JSON and is not; else a folder."""
    quoted = re.findall(r'"([^"]*)"', text)
    if named := [path for path in quoted if path.startswith(f"{folder}/") and not path.endswith("/")]:
        return epath.Path(named[-1])
    small = [f"{item}/{name}" for item in items for name in ("_METADATA", "array_metadatas/process_0")]
    for file in ("_CHECKPOINT_METADATA", *small):
        try:
            json.loads((folder / file).read_text())
        except (ValueError, FileNotFoundError):
            return folder / file
    item = re.search("Failed to load checkpointable: ([a-z]+)", text)
    return folder / item[1] if item else folder


def one_line(error: BaseException) -> str:
    """Type and message of an error, without tensorstore's appendix."""
    text = " ".join(f"{error}".partition("[tensorstore_spec")[0].split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
