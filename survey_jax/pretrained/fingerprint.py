"""What a model's files hold, in a hash: all of their bytes, read by all processes together."""

import concurrent.futures
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import jax

from survey_jax.parallel.distributed import all_gather_text

_BLOCK = 1 << 22  # bytes hashed at a time
_THREADS = 16  # at most; hashing lets go of Python's lock


def of_files(files: Sequence[Path]) -> str:
    """Hash of the files' sizes and contents, in their order. All processes must call it.

    Each process reads its share of the blocks, so that a large model on a shared disk is read once.
    """
    sizes = [file.stat().st_size for file in files]
    blocks = [(file, start) for file, size in zip(files, sizes, strict=True) for start in range(0, size, _BLOCK)]
    process, processes = jax.process_index(), jax.process_count()
    with concurrent.futures.ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        own = list(pool.map(_block_hash, blocks[process::processes]))
    parts = [own] if processes == 1 else [json.loads(text) for text in all_gather_text(json.dumps(own))]
    in_order = [parts[i % processes][i // processes] for i in range(len(blocks))]
    return hashlib.sha256(json.dumps([sizes, in_order]).encode()).hexdigest()


def of_ends(files: Sequence[Path]) -> str:
    """Hash of the files' names, sizes and first and last blocks: tells at once whether processes see other models."""
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        ends = [_block_hash((file, start)) for start in (0, max(0, size - _BLOCK))]
        digest.update(json.dumps([file.name, size, ends]).encode())
    return digest.hexdigest()


def _block_hash(block: tuple[Path, int]) -> str:
    file, start = block
    with file.open("rb") as stream:
        stream.seek(start)
        return hashlib.sha256(stream.read(_BLOCK)).hexdigest()
