"""Small model files taken apart, so that a test can put them together wrongly: GGUF pairs and tensors, safetensors."""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import headrace
from headrace.weights import gguf

TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 8, "Q6_K": 14, "BF16": 30}
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 8: (32, 34), 14: (256, 210), 30: (1, 2)}

HANG_S, MEMORY_BYTES = 240, 1 << 30
SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")  # its shadow memory is terabytes of addresses

# Stand-ins for a value of any key: wrong types, edges of ranges, and what no JSON or GGUF writer would put there.
WRONG: tuple[Any, ...] = (
    *(0, 1, -1, 3, 7, 2**31 - 1, 2**31, 2**63, 2**64 - 1),
    *(1.5, -0.0, 1e30, float("nan"), float("inf"), float("-inf")),
    *(True, False, "", "x" * 3000, "a\nb", "\0", [], [0], [1, 2], [0.5, float("inf")], ["a"], ["", ""]),
)


@contextmanager
def bounds() -> Iterator[None]:
    """A hang ends the process with its stack; an allocation of what a file claims is a MemoryError."""
    faulthandler.dump_traceback_later(HANG_S, exit=True, file=sys.__stderr__)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    statm = Path("/proc/self/statm")
    if not SANITIZED and statm.exists():
        now = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        faulthandler.cancel_dump_traceback_later()


@dataclass
class Entry:
    """A tensor as a GGUF header claims it: `sizes` are fastest axis first; `offset` None is where it really lies."""

    name: str
    sizes: list[int]
    kind: int
    data: bytes
    offset: int | None = None

    def resized(self, sizes: list[int], kind: int | None = None) -> Entry:
        """Of another shape or type, with as many bytes as that takes: only the model can know better."""
        kind = self.kind if kind is None else kind
        block, block_bytes = BLOCKS[kind]
        return Entry(self.name, sizes, kind, bytes(int(np.prod(sizes, dtype=object)) // block * block_bytes))


@dataclass
class Gguf:
    pairs: dict[str, Any]  # Python values, or bytes: the type and the value as they stand in the file
    tensors: list[Entry]
    counts: tuple[int, int] | None = None  # claimed tensors and pairs
    more: list[tuple[str, Any]] = field(default_factory=list)  # further pairs, whose keys may be taken

    @classmethod
    def of(cls, path: Path) -> Gguf:
        file = gguf.read(path)
        pairs = {key: v.tolist() if isinstance(v, np.ndarray) else v for key, v in file.metadata.items()}
        return cls(
            pairs,
            [Entry(t.name, [*reversed(t.shape)], TYPES[t.type], t.data.tobytes()) for t in file.tensors.values()],
        )

    def edited(self, edit: Callable[[Gguf], object]) -> Gguf:
        copy = deepcopy(self)
        edit(copy)
        return copy

    def content(self) -> bytes:
        pairs = [*self.pairs.items(), *self.more]
        tensors, keys = self.counts or (len(self.tensors), len(pairs))
        header = b"GGUF" + struct.pack("<IQQ", 3, tensors, keys)
        header += b"".join(_text(key) + (value if isinstance(value, bytes) else _typed(value)) for key, value in pairs)
        data = b""
        for entry in self.tensors:
            offset = len(data) if entry.offset is None else entry.offset
            header += _text(entry.name) + struct.pack("<I", len(entry.sizes))
            header += b"".join(struct.pack("<Q", size) for size in entry.sizes)
            header += struct.pack("<IQ", entry.kind, offset)
            data += entry.data + bytes(-len(entry.data) % 32)
        return header + bytes(-len(header) % 32) + data


def array(item: int, count: int, payload: bytes = b"") -> bytes:
    """A pair's type and value: an array that claims `count` items of GGUF type `item`."""
    return struct.pack("<IIQ", 9, item, count) + payload


def safetensors(header: dict[str, Any] | bytes, data: bytes, claimed: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if claimed is None else claimed) + text + data


def split_safetensors(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def places(value: Any, here: tuple[Any, ...] = ()) -> Iterable[tuple[Any, ...]]:
    """The way to every value in a JSON document; of a long list, to its first three and its last."""
    if here:
        yield here
    if isinstance(value, dict):
        for key in [*value][:3] + [*value][-1:] if len(value) > 40 else value:
            yield from places(value[key], (*here, key))
    elif isinstance(value, list):
        for i in {*range(len(value))[:3], *range(len(value))[-1:]}:
            yield from places(value[i], (*here, i))


def replaced(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    copy = deepcopy(document)
    at = copy
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = value
    return copy


def removed(document: Any, place: tuple[Any, ...]) -> Any:
    copy = deepcopy(document)
    at = copy
    for step in place[:-1]:
        at = at[step]
    del at[place[-1]]
    return copy


def outcome(path: Path) -> str:
    """Loads a model and uses it a little; the sentence of the UserError, or "works". All other ends are errors."""
    try:
        with headrace.load(path, threads=1) as model:
            vocabulary = model.checkpoint.backbone.vocab_size
            assert model.logits([0, vocabulary - 1][:vocabulary]).shape[1] == vocabulary
            text = model.detokenize([min(vocabulary, model.checkpoint.tokenizer.vocab_size) - 1])
            events = list(model.chat([{"role": "user", "content": f"a b<|im_end|> {text}"}], num_predict=2))
            assert isinstance(events[-1], headrace.Done)
    except headrace.UserError as error:
        sentence = str(error)
        assert sentence.isprintable(), sentence[:400]
        assert 10 < len(sentence) < 700, sentence[:400]
        return sentence
    return "works"


def _typed(value: Any) -> bytes:
    match value:
        case bool():
            return struct.pack("<I?", 7, value)
        case int() if 0 <= value < 2**32:
            return struct.pack("<II", 4, value)
        case int() if value < 0:
            return struct.pack("<Iq", 11, value)
        case int():
            return struct.pack("<IQ", 10, value)
        case float():
            return struct.pack("<Id", 12, value)
        case str():
            return struct.pack("<I", 8) + _text(value)
        case [str(), *_]:
            return array(8, len(value), b"".join(map(_text, value)))
        case [float(), *_]:
            return array(6, len(value), struct.pack(f"<{len(value)}f", *value))
        case _:
            return array(5, len(value), struct.pack(f"<{len(value)}i", *value))


def _text(value: str) -> bytes:
    raw = value.encode(errors="surrogatepass")
    return struct.pack("<Q", len(raw)) + raw
