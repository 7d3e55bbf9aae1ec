"""An object store in memory behind gs:// paths: files are written whole, and cannot grow."""

from typing import Any, ClassVar

import pytest
from etils.epath import backend, gpath
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry


class ObjectStore(MemoryFileSystem):
    """What `etils.epath` meets in place of a real one."""

    protocol = ("gs", "gcs")
    cachable = False
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        assert "a" not in mode, f"{path}: an object cannot grow"
        return super()._open(path, mode, **options)

    def mv(self, *_: Any, **__: Any) -> None:
        raise AssertionError("an object cannot be renamed in one piece")


@pytest.fixture
def object_store(monkeypatch: pytest.MonkeyPatch) -> type[ObjectStore]:
    """All buckets lead to it, for the length of a test."""
    monkeypatch.setattr(ObjectStore, "store", {})
    monkeypatch.setattr(ObjectStore, "pseudo_dirs", [""])
    own = backend._FileSystemSpecBackend()
    for scheme in ("gs", "gcs"):
        monkeypatch.setitem(_registry, scheme, ObjectStore)
        monkeypatch.setitem(gpath._PREFIX_TO_BACKEND, scheme, own)
    return ObjectStore
