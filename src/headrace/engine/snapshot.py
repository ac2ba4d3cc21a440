"""The blocks of a prefix cache in a file: written by one process, found by the next.

A file is a line of JSON (what it is of, and how many blocks follow), the parents of the blocks (int32, -1 is a root),
their tokens (int32), their bytes as the native core gives them, and a SHA-256 of all that. Parents stand before
children.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.engine.cache import Block, BlockCache
from headrace.errors import FileInvalid, RequestInvalid

VERSION = 1
LONGEST_HEADER = 4096
PIECE_BYTES = 1 << 20  # read at a time
DIGEST_BYTES = hashlib.sha256().digest_size


class Blocks(Protocol):
    """The part of `_core.Model` that holds the blocks."""

    @property
    def block_bytes(self) -> int: ...

    def read_block(self, block: int) -> NDArray[np.uint8]: ...

    def write_block(self, block: int, data: NDArray[np.uint8]) -> None: ...


@dataclass(frozen=True, slots=True)
class Identity:
    """What must be the same for a block's bytes to mean the same: whose they are, and how they are laid out."""

    model: str  # digest of the weights
    kv: str
    isa: str  # kernels round differently
    block_tokens: int
    block_bytes: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a file holds, by its first line."""

    identity: Identity
    name: str  # of the model, for people
    blocks: int

    @property
    def tokens(self) -> int:
        return self.blocks * self.identity.block_tokens

    @property
    def size_bytes(self) -> int:
        """Of the file without its first line."""
        return self.blocks * (4 + 4 * self.identity.block_tokens + self.identity.block_bytes) + DIGEST_BYTES


def save(path: Path, cache: BlockCache, core: Blocks, identity: Identity, name: str) -> Snapshot:
    """Writes all blocks of the tree, or leaves what was there: the file is moved into place when it is whole."""
    blocks = list(_parents_first(cache))
    places = {id(block): place for place, block in enumerate(blocks)}
    snapshot = Snapshot(identity, name, len(blocks))
    header = {"headrace_cache": VERSION, "name": name, "blocks": len(blocks), **asdict(identity)}
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            out = _Hashed(file)
            out.write(json.dumps(header).encode() + b"\n")
            out.write(np.array([places.get(id(block.parent), -1) for block in blocks], np.int32).tobytes())
            out.write(b"".join(block.tokens for block in blocks))
            for block in blocks:
                out.write(core.read_block(block.number).tobytes())
            file.write(out.digest.digest())
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return snapshot


def read_header(path: Path) -> Snapshot:
    """What a file says it is. Raises FileInvalid for what is none, or is not whole."""
    with path.open("rb") as file:
        return _header(path, file)[0]


def check(path: Path) -> Snapshot:
    """As `read_header`, but every byte is read: FileInvalid also for a file of the right size with a wrong checksum."""
    with path.open("rb") as file:
        snapshot, line = _header(path, file)
        digest, left = hashlib.sha256(line), snapshot.size_bytes - DIGEST_BYTES
        for start in range(0, left, PIECE_BYTES):
            _read(file, min(PIECE_BYTES, left - start), digest)
        if file.read(DIGEST_BYTES) != digest.digest():
            raise FileInvalid(path, "its checksum is wrong: it was damaged, save it again")
    return snapshot


def load(path: Path, cache: BlockCache, core: Blocks, identity: Identity) -> int:
    """Puts a file's blocks into the tree, as far as there is room, and returns how many tokens they are.

    Nothing is put there unless the whole file is as it was written. Raises FileInvalid, and RequestInvalid for a file
    of another model or another layout.
    """
    with path.open("rb") as file:
        snapshot, line = _header(path, file)
        for name, ours in asdict(identity).items():
            if (theirs := getattr(snapshot.identity, name)) != ours:
                raise RequestInvalid(
                    f"{path} was saved with another {name} ({theirs}, here {ours}): save it again here"
                )
        digest = hashlib.sha256(line)
        parents = np.frombuffer(_read(file, 4 * snapshot.blocks, digest), np.int32)
        tokens = np.frombuffer(_read(file, 4 * snapshot.tokens, digest), np.int32).reshape(-1, identity.block_tokens)
        start = file.tell()
        for _ in range(snapshot.blocks):
            _read(file, identity.block_bytes, digest)
        if file.read(DIGEST_BYTES) != digest.digest() or not (parents < np.arange(snapshot.blocks)).all():
            raise FileInvalid(path, "its checksum is wrong: it was damaged, save it again")
        file.seek(start)
        return _fill(file, parents, tokens, cache, core) * identity.block_tokens


def _fill(
    file: IO[bytes], parents: NDArray[np.int32], tokens: NDArray[np.int32], cache: BlockCache, core: Blocks
) -> int:
    """Blocks that are in the tree afterwards. They are held meanwhile: none is given up for one that follows."""
    kept: dict[int, Block] = {}
    for place, parent in enumerate(parents.tolist()):
        data = np.frombuffer(file.read(core.block_bytes), np.uint8)
        if (parent >= 0 and parent not in kept) or not cache.available:
            continue
        (number,) = cache.take(1)
        core.write_block(number, data)
        kept[place] = cache.keep(number, tokens[place], kept.get(parent))
    cache.release(list(kept.values()))
    return len(kept)


def _parents_first(cache: BlockCache) -> Iterator[Block]:
    left = [block for root in cache.roots.values() for block in root.children.values()]
    while left:
        block = left.pop()
        yield block
        left += block.children.values()


def _header(path: Path, file: IO[bytes]) -> tuple[Snapshot, bytes]:
    line = file.readline(LONGEST_HEADER)
    try:
        found: dict[str, Any] = json.loads(line)
        if found.pop("headrace_cache") != VERSION:
            raise FileInvalid(path, "it was written by another version of Headrace: save it again")
        name, blocks = str(found.pop("name")), int(found.pop("blocks"))
        snapshot = Snapshot(Identity(**found), name, blocks)
        whole = len(line) + snapshot.size_bytes
        if not all(type(getattr(snapshot.identity, name)) is int for name in ("block_tokens", "block_bytes")):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise FileInvalid(path, "it is no saved cache: `headrace cache save` writes one") from None
    size = os.fstat(file.fileno()).st_size
    if blocks < 0 or size != whole:
        raise FileInvalid(path, f"it has {size} bytes but should have {whole}: it was cut off, save it again")
    return snapshot, line


def _read(file: IO[bytes], count: int, digest: Any) -> bytes:
    data = file.read(count)
    digest.update(data)
    return data


class _Hashed:
    """Writes, and hashes what it writes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self.digest.update(data)
