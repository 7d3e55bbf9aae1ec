"""Odd values and odd bytes, as accidents and enemies make them."""

import random
from collections.abc import Iterator
from typing import Any

# What may stand where another value belongs. A nested list of this depth is beyond what a reader's stack holds.
ODD: dict[str, Any] = {
    "null": None,
    "true": True,
    "zero": 0,
    "minus one": -1,
    "huge integer": 10**30,
    "huge number": 1e308,
    "not a number": float("nan"),
    "infinity": float("inf"),
    "fraction": 0.1,
    "empty text": "",
    "blank": "  ",
    "number as text": "3",
    "text": "x",
    "line break": "a\nb: c",
    "control characters": "a\x1b[31m\x00b",
    "half a character": "a\ud800",
    "long text": "long" * 20_000,
    "other script": "Ελλάδα \u202e",
    "empty list": [],
    "list": ["a", "b"],
    "numbers": [1, 2],
    "list of null": [None, None],
    "empty map": {},
    "map": {"a": "b"},
    "nested map": {"a": {"b": {"c": 1}}},
}


def damaged(content: bytes, rng: random.Random, number: int) -> Iterator[tuple[str, bytes]]:
    """Files as broken disks, editors and downloads leave them: (what happened, bytes)."""
    yield "empty", b""
    yield "one byte", content[:1]
    yield "zeros", bytes(len(content))
    yield "twice", content + content
    yield "a line of a web page before", b"<!DOCTYPE html><html>Not found</html>\n" + content
    yield "byte order mark", b"\xef\xbb\xbf" + content
    yield "Windows line breaks", content.replace(b"\n", b"\r\n")
    for _ in range(number):
        cut = rng.randrange(1, max(len(content), 2))
        yield f"cut at {cut}", content[:cut]
        place = rng.randrange(max(len(content), 1))
        changed = bytearray(content)
        changed[place : place + 1] = bytes([rng.randrange(256)])
        yield f"byte {place} changed to {changed[place]}", bytes(changed)
        width = rng.randrange(1, 64)
        yield f"{width} bytes at {place} missing", content[:place] + content[place + width :]
        yield f"noise at {place}", content[:place] + rng.randbytes(width) + content[place:]
