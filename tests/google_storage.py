"""A bucket of Google Cloud Storage on this machine: as much of its JSON API as reading takes, and its ways to fail."""

import base64
import dataclasses
import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

BUCKET = "bucket"


@dataclasses.dataclass
class GoogleStorage:
    """What is in the bucket, and what was asked of it.

    Attributes:
      objects: name -> content; may be changed at any time.
      forbidden: names that nobody may read.
      cut: name -> how many bytes of it come, in place of all.
      damaged: names of which another last byte comes.
      sent: how often each object's content was sent.
      address: of the server, for STORAGE_EMULATOR_HOST.
    """

    objects: dict[str, bytes] = dataclasses.field(default_factory=dict)
    forbidden: set[str] = dataclasses.field(default_factory=set)
    cut: dict[str, int] = dataclasses.field(default_factory=dict)
    damaged: set[str] = dataclasses.field(default_factory=set)
    sent: Counter[str] = dataclasses.field(default_factory=Counter)
    address: str = ""

    def upload(self, path: Path, name: str) -> str:
        """A local file, or all files of a folder, under a name in the bucket; gives the address."""
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        for file in files:
            self.objects["/".join([name, *file.relative_to(path).parts])] = file.read_bytes()
        return f"gs://{BUCKET}/{name}"

    def answer(self, url: str) -> tuple[int, bytes]:
        """Status and body of a GET."""
        parts = urlsplit(url)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        bucket, _, name = parts.path.partition("/b/")[2].partition("/o")
        if bucket != BUCKET:
            return 404, b'{"error": {"code": 404, "message": "The specified bucket does not exist."}}'
        if not name:
            start = query.get("prefix", "")
            return 200, json.dumps({"items": [self._about(n) for n in self.objects if n.startswith(start)]}).encode()
        name = unquote(name.removeprefix("/"))
        if name in self.forbidden:
            return 403, b'{"error": {"code": 403, "message": "me@x.org does not have storage.objects.get access"}}'
        if name not in self.objects:
            return 404, b'{"error": {"code": 404, "message": "No such object"}}'
        if query.get("alt") != "media":
            return 200, json.dumps(self._about(name)).encode()
        self.sent[name] += 1
        content = self.objects[name][: self.cut.get(name)]
        return 200, content[:-1] + bytes([content[-1] ^ 1]) if name in self.damaged else content

    def _about(self, name: str) -> dict[str, str]:
        import google_crc32c

        content = self.objects[name]
        checksum = google_crc32c.Checksum(content).digest()
        about = {"kind": "storage#object", "bucket": BUCKET, "name": name, "size": str(len(content))}
        return about | {"crc32c": base64.b64encode(checksum).decode(), "generation": "1", "etag": "CJ"}


@pytest.fixture
def google_storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleStorage]:
    """For this process and those that it starts."""
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # it would look for a real Google
    pytest.importorskip("gcsfs")
    bucket = GoogleStorage()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = bucket.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    bucket.address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", bucket.address)
    yield bucket
    server.shutdown()
    server.server_close()
