"""Models of the family's true shapes with random weights, for measuring: what they say is noise, what they cost is not.

Quantised blocks are random bits under one scale a tensor, chosen so that a product keeps the size of its input:
activations stay finite through all layers, and the router spreads its tokens over all experts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice, product
from math import prod, sqrt
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace import text
from headrace.errors import RequestInvalid
from headrace.shapes import FAMILY, VOCABULARY, Member, config_of, plain_type, shape_of, stays_float
from headrace.weights.gguf_writer import Entry, Progress, write
from headrace.weights.mixtures import MIXTURES, type_of
from headrace.weights.quantisation import FILE_TYPES, TYPES, nbytes
from headrace.weights.tensor import Tensor

Bytes = NDArray[np.uint8]


QUANTS = ("q4_0", "q8_0", "f16", *MIXTURES)
HEADS = ("q4_0", "q6_k")
PADDING = 1136  # rows at the end of the embedding that have no token

_SPECIAL = (
    "<|pad|>", "<|startoftext|>", "<|endoftext|>", "<|fim_pre|>", "<|fim_mid|>", "<|fim_suf|>", "<|im_start|>",
    "<|im_end|>", "<|tool_list_start|>", "<|tool_list_end|>", "<|tool_call_start|>", "<|tool_call_end|>",
    "<|tool_response_start|>", "<|tool_response_end|>",
)  # fmt: skip
# Of random bits, before the scale of their block.
_DEVIATION = {"Q4_0": 4.61, "Q5_0": 9.23, "Q5_1": 9.23, "Q8_0": 73.9}
_DEVIATION |= {"Q3_K": 2.35 * 18.5, "Q4_K": 4.61 * 36.5, "Q5_K": 9.23 * 36.5, "Q6_K": 18.47 * 66.1}
_MIDDLE = {"Q5_1": -15.5, "Q4_K": 7.5, "Q5_K": 15.5}  # the minimum under which weights are centred
_SCALE_AT = {"Q3_K": 108, "Q6_K": 208}


def synthesise(
    name: str, path: Path, quant: str = "q4_0", head: str = "q4_0", progress: Progress = lambda *_: None, seed: int = 1
) -> None:
    """Writes a member of FAMILY to `path`, matrices in `quant`; `head` is the tied embedding of a q4_0 file. A mixture
    has the types of published files.

    Raises RequestInvalid for a name or a type that is not known, and where there is no room.
    """
    member = FAMILY.get(name.lower())
    if member is None:
        raise RequestInvalid(f"there are no shapes of {name!r}: expected one of {', '.join(FAMILY)}")
    if quant not in QUANTS or head not in HEADS:
        raise RequestInvalid(
            f"{quant} with a head of {head} is not made: expected {', '.join(QUANTS)} with {', '.join(HEADS)}"
        )
    architecture, config = config_of(name, member)
    shapes = {weight: shape_of(weight, member) for weight in architecture.plan(config).weights()}
    metadata = _metadata(name, architecture, config, quant, shapes)
    types = {
        weight: _type_of(architecture.gguf_name(weight), shape, member, quant, head) for weight, shape in shapes.items()
    }
    write(path, metadata, list(_entries(architecture, shapes, types, seed)), progress)


def _type_of(name: str, shape: tuple[int, ...], member: Member, quant: str, head: str) -> str:
    if quant in MIXTURES and not stays_float(name, shape):
        return type_of(name, shape, quant, member.layers, member.attention)
    return plain_type(name, shape, quant, head)


def _entries(
    architecture: ModuleType, shapes: Mapping[str, tuple[int, ...]], types: Mapping[str, str], seed: int
) -> Iterator[Entry]:
    for number, (weight, shape) in enumerate(shapes.items()):
        kind, rng = types[weight], np.random.default_rng((seed, number))
        make = partial(_small, rng, weight, shape) if kind == "F32" else partial(_matrix, rng, kind, shape)
        yield Entry(architecture.gguf_name(weight), kind, shape, make)


def _small(rng: np.random.Generator, weight: str, shape: tuple[int, ...]) -> Bytes:
    """Norms about 1, taps and the selection's bias small, a router whose scores spread."""
    mean, deviation = 0.0, 0.5
    if "norm" in weight:
        mean, deviation = 1.0, 0.1
    elif weight.endswith(".gate"):
        deviation = 1 / sqrt(shape[-1])
    elif weight.endswith("bias"):
        deviation = 0.02
    return rng.normal(mean, deviation, shape).astype(np.float32).reshape(-1).view(np.uint8)


def _matrix(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> Bytes:
    """Random bits, scaled so that a product has the size of its input."""
    deviation = 1 / sqrt(shape[-1])
    if kind == "F16":
        return (
            (rng.standard_normal(shape, np.float32) * np.float32(deviation))
            .astype(np.float16)
            .reshape(-1)
            .view(np.uint8)
        )
    layout = TYPES[kind]
    blocks = np.frombuffer(bytearray(rng.bytes(nbytes(kind, shape))), np.uint8).reshape(-1, layout.block_bytes)
    d, at = deviation / _DEVIATION[kind], _SCALE_AT.get(kind, 0)
    blocks[:, at : at + 2] = np.array([d], np.float16).view(np.uint8)
    if kind in _MIDDLE:
        blocks[:, 2:4] = np.array([d * _MIDDLE[kind]], np.float16).view(np.uint8)
    if kind in ("Q4_K", "Q5_K"):  # minima like their scales
        blocks[:, 8:12] = blocks[:, 4:8]
        blocks[:, 12:16] = blocks[:, 12:16] % 16 * 17
    elif kind == "Q6_K":
        blocks[:, 192:208] = blocks[:, 192:208] % 64 + 32  # positive scales of one size
    return blocks.reshape(-1)


def _metadata(
    name: str, architecture: ModuleType, config: Any, quant: str, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Any]:
    empty = np.empty(0, np.uint8)
    weights = {
        weight: (Tensor(weight, "F32", shape[-2:], empty),) * prod(shape[:-2]) for weight, shape in shapes.items()
    }
    template = Path(text.__file__).parent / "templates" / "lfm2.jinja"
    return {
        "general.architecture": architecture.GGUF_ARCHITECTURE,
        "general.type": "model",
        "general.name": f"{name}, random weights",
        "general.file_type": FILE_TYPES[quant],
        "general.quantization_version": 2,
        **architecture.gguf_metadata(config, weights),
        **_tokenizer(),
        "tokenizer.chat_template": template.read_text(encoding="utf-8"),
    }


def _tokenizer() -> dict[str, Any]:
    """As many tokens as the family's: bytes, then strings of small letters, each merged from two known ones."""
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = sorted(ByteLevel.alphabet())
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pairs = [a + b for a, b in product(letters, repeat=2)]
    splits = [*((a, b) for a, b in product(letters, repeat=2)), *product(pairs, letters), *product(pairs, pairs)]
    merges = list(islice(splits, VOCABULARY - PADDING - len(_SPECIAL) - len(alphabet)))
    tokens = [*_SPECIAL, *alphabet, *(a + b for a, b in merges), *(f"[PAD{i}]" for i in range(PADDING))]
    kinds = [3] * len(_SPECIAL) + [1] * (VOCABULARY - len(_SPECIAL) - PADDING) + [5] * PADDING
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "lfm2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": [f"{a} {b}" for a, b in merges],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 7,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
    }
