"""Tables and weights in a bucket: copied to this machine once, checked, and read there as local ones are."""

import base64
import concurrent.futures
import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from survey_jax.common.console import say, track
from survey_jax.common.errors import UserError, plural, short
from survey_jax.common.files import writing

_STORES = {"gs": ("gcsfs", "gcs"), "s3": ("s3fs", "s3")}  # the package that reads it, the extra that brings the package
_THREADS = 4  # files under way at a time; gcsfs and s3fs fetch parts of a large one at a time, too
_BLOCK = 1 << 22  # bytes hashed at a time


@dataclasses.dataclass(frozen=True)
class _Object:
    """An object of a bucket.

    Attributes:
      name: of its copy within the folder of copies.
      path: as the store has it.
      size: in bytes.
      crc32c: Google's checksum of the content, in base64; "" elsewhere.
      etag: Amazon's, which is another one for other content; "" elsewhere.
    """

    name: str
    path: str
    size: int
    crc32c: str
    etag: str


def local_file(address: str) -> Path:
    """The copy of a bucket's file on this machine, which is made unless it is there already.

    Raises:
      UserError: as `local_folder` does.
    """
    with _explained(address):
        store, path = _open(address)
        found = store.info(path)
        if found["type"] != "file":
            raise UserError(f"{address}: is a folder; give a file")
        name = PurePosixPath(path).name
        return _copy(address, store, [_object(name, path, found)]) / name


def local_folder(address: str, wanted: Sequence[str], unwanted: Sequence[str], needed: str) -> Path:
    """The copy of a bucket's folder on this machine, which is made unless it is there already.

    A copy belongs to the address, and to the sizes and checksums of all its files: if one of them changes, another copy
    is made. Processes that share the cache make one copy; one that was cut off is taken up again, file by file.

    Args:
      wanted, unwanted: patterns of the files to copy, such as "*.json", and of exceptions.
      needed: a file without which there is nothing to copy.

    Raises:
      UserError: no such folder, no permission, a package that is not installed, or a file that does not come whole.
    """
    from huggingface_hub.utils import filter_repo_objects

    with _explained(address):
        store, path = _open(address)
        start = path.rstrip("/") + "/"
        found = {name.removeprefix(start): info for name, info in store.find(path, detail=True).items()}
        if not found:
            raise FileNotFoundError
        if needed not in found:
            raise UserError(f"{address}: has no {needed} in it, of {plural(len(found), 'file')}; check the address")
        names = sorted(filter_repo_objects(found, allow_patterns=list(wanted), ignore_patterns=list(unwanted)))
        return _copy(address, store, [_object(name, start + name, found[name]) for name in names])


def _open(address: str) -> tuple[Any, str]:
    """The store of an address, as fsspec has it, and the path there."""
    import fsspec

    scheme, _, rest = address.partition("://")
    if scheme not in _STORES or not rest.strip("/"):
        raise UserError(f"{address}: must be gs://BUCKET/NAME, s3://BUCKET/NAME or a local path")
    package, extra = _STORES[scheme]
    try:
        # A new one: it remembers no listing, which may have changed since.
        store, path = fsspec.url_to_fs(address, skip_instance_cache=True)
    except ImportError as error:
        raise UserError(f"{address}: needs {package}: pip install survey_jax[{extra}]") from error
    return store, path


def _object(name: str, path: str, info: Mapping[str, Any]) -> _Object:
    if ".." in PurePosixPath(name).parts or name.startswith("/"):
        raise UserError(f"{path}: its name leads out of its folder; rename it")
    return _Object(name, path, info["size"], info.get("crc32c", ""), info.get("ETag", "").strip('"'))


def _copy(address: str, store: Any, objects: Sequence[_Object]) -> Path:
    """The folder with copies of all objects, which has its name only when they are whole."""
    from huggingface_hub.constants import HF_HOME
    from huggingface_hub.utils import WeakFileLock

    key = hashlib.sha256(json.dumps([address, *map(dataclasses.astuple, objects)]).encode()).hexdigest()[:16]
    name = f"{re.sub(r'[^0-9A-Za-z._-]+', '--', address)[-100:]}--{key}"
    root = Path(HF_HOME) / "survey_jax"
    folder, partial = root / name, root / f".partial-{name}"
    if folder.is_dir():
        return folder
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
    size = sum(one.size for one in objects)
    say(f"copying {address} to {folder}: {plural(len(objects), 'file')}, {size / 1e9:.2f} GB")
    with WeakFileLock(root / f".{name}.lock"):
        if folder.is_dir():  # made by another process while this one waited
            return folder
        with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
            copied = pool.map(lambda one: _copy_one(address, store, one, partial / one.name), objects)
            for _ in track(copied, len(objects), f"copying {address}"):
                pass
        with writing(folder):
            partial.rename(folder)
    return folder


def _copy_one(address: str, store: Any, one: _Object, target: Path) -> None:
    """Copies an object to a file, which has its name only when it is whole; one that is there already is."""
    if target.exists():
        return
    part = target.with_name(f".part-{target.name}")
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with _explained(f"{address}: {one.name}"):
        store.get_file(one.path, str(part))
        if (size := part.stat().st_size) != one.size:
            raise UserError(f"{address}: {one.name}: {size:,} of {one.size:,} bytes came; run it again")
        if not _is_right(store, one, part):
            raise UserError(f"{address}: {one.name}: what came is damaged (its checksum is another); run it again")
    with writing(target):
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.rename(target)


def _is_right(store: Any, one: _Object, file: Path) -> bool:
    """Whether a file has the checksum of an object, where the store gives one of the whole object.

    An ETag of Amazon's is the MD5 hash, but not of what came in parts (then it has a dash), nor of what is encrypted
    with a key of its owner's, nor in directory buckets.
    """
    if one.crc32c:
        return _crc32c(file) == base64.b64decode(one.crc32c)
    if not re.fullmatch("[0-9a-f]{32}", one.etag):
        return True
    with file.open("rb") as stream:
        if hashlib.file_digest(stream, "md5").hexdigest() == one.etag:
            return True
    bucket, key, _ = store.split_path(one.path)
    if bucket.endswith("--x-s3"):
        return True
    found = store.call_s3("head_object", Bucket=bucket, Key=key)
    return "kms" in found.get("ServerSideEncryption", "") or "SSECustomerAlgorithm" in found


def _crc32c(file: Path) -> bytes:
    import google_crc32c  # comes with gcsfs

    checksum = google_crc32c.Checksum()
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            checksum.update(block)
    return bytes(checksum.digest())


@contextlib.contextmanager
def _explained(where: str) -> Iterator[None]:
    """Whatever goes wrong between here and a bucket is a UserError; a full disk stays what it is."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{where}: there is no such file or folder in the bucket, or no such bucket") from error
    except Exception as error:  # of several packages for networks and credentials, each with its own
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(f"{where}: cannot be fetched ({short(error)}); check credentials and network") from error
