"""A Hugging Face folder or a float GGUF to one GGUF file: in memory is one tensor at a time, never the model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace import checkpoint, models
from headrace.checkpoint import Checkpoint
from headrace.defaults import GGUF_NAMES as SAMPLING_NAMES
from headrace.errors import RequestInvalid, Unsupported
from headrace.models import lfm2_moe
from headrace.weights import split
from headrace.weights.fields import Fields
from headrace.weights.gguf_writer import Entry, Progress, rewrite, write
from headrace.weights.mapped import let_go
from headrace.weights.quantisation import FILE_TYPES, QUANTISED, TYPES, dequantise, nbytes
from headrace.weights.rounding import quantise
from headrace.weights.tensor import Tensor

OUTTYPES = ("f32", "f16", "bf16", "q8_0", "q4_0")
QUANTISATION_VERSION = 2  # llama.cpp's, of the blocks' layouts
PIECE = 1 << 22  # weights that are rounded at a time


def convert(source: Path, destination: Path, outtype: str, progress: Progress = lambda *_: None) -> list[str]:
    """Writes `destination`, complete or not at all, and returns warnings, a sentence each.

    Raises Unsupported for what GGUF cannot say, RequestInvalid where there is no room, UserError for a bad source.
    """
    if outtype not in OUTTYPES:
        raise RequestInvalid(f"outtype is {outtype!r} but should be one of {', '.join(OUTTYPES)}")
    if not source.is_dir():
        _convert_gguf(source, destination, outtype, progress)
        return []
    model = checkpoint.read(source)
    metadata = _metadata(model, outtype)  # first: it refuses what GGUF cannot say
    write(destination, metadata, list(_entries(model, outtype)), progress)
    return _warnings(model)


def merge(source: Path, destination: Path, progress: Progress = lambda *_: None) -> None:
    """Writes the GGUF files of a model, of which `source` is any, as one file: no tensor is changed."""
    parts = split.read(source)
    entries = [_entry(tensor, tensor.type) for tensor in split.tensors(parts).values()]
    rewrite(destination, parts[0], {}, entries, progress)


def tensor_type(name: str, shape: tuple[int, ...], outtype: str, *, head: bool) -> str:
    """The type of a weight of the plan, as in the files that Liquid AI publishes.

    Vectors, routers and taps are F32. In q4_0 files the matrix that gives the logits is Q6_K, or Q8_0 where its rows do
    not divide by 256. Rows that do not divide by 32 are F16 in quantised files.
    """
    if len(shape) == 1 or name.endswith((".gate", "conv.conv")):
        return "F32"
    kind = outtype.upper()
    if kind == "Q4_0" and head:
        kind = "Q6_K" if shape[-1] % TYPES["Q6_K"].block == 0 else "Q8_0"
    return kind if shape[-1] % TYPES[kind].block == 0 else "F16"


def head_of(model: Checkpoint) -> str:
    """The name of the matrix that gives the logits."""
    return "embed_tokens" if model.backbone.tied else "lm_head"


def _entries(model: Checkpoint, outtype: str) -> Iterator[Entry]:
    architecture = import_module(f"{models.__name__}.{model.architecture}")
    head = head_of(model)
    for name, tensors in model.weights.items():
        kind = tensor_type(name, tensors[0].shape, outtype, head=name == head)
        stacked = (len(tensors),) if ".experts." in name else ()
        encode = partial(_encode, tensors, kind, architecture.gguf_rows(name, model.config))
        yield Entry(architecture.gguf_name(name), kind, stacked + tensors[0].shape, encode)


def _convert_gguf(source: Path, destination: Path, outtype: str, progress: Progress) -> None:
    """The header is the source's, but for what it says of the types."""
    parts = split.read(source)
    tensors = split.tensors(parts)
    check_floats(source, tensors)
    names = _plan_names(Fields(str(source), parts[0].metadata), tensors)
    entries = [_entry(tensor, _type_in(names, tensor, outtype)) for tensor in tensors.values()]
    types = {"general.file_type": FILE_TYPES[outtype], "general.quantization_version": QUANTISATION_VERSION}
    rewrite(destination, parts[0], types, entries, progress)


def check_floats(source: object, tensors: Mapping[str, Tensor]) -> None:
    """Raises Unsupported for weights that are quantised; `source` is what they are called."""
    for tensor in tensors.values():
        if tensor.type in QUANTISED:
            raise Unsupported(
                f"{source} is quantised already ({tensor.name} is {tensor.type}), and what is rounded twice loses "
                "twice: convert the float file or folder that it was made from"
            )


def _plan_names(fields: Fields, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The plan's names for a file's tensors."""
    architecture = checkpoint.by_gguf_architecture(fields)
    plan = architecture.plan(architecture.config_from_gguf(fields, tensors))
    return {architecture.gguf_name(name): name for name in plan.weights()}


def _type_in(names: Mapping[str, str], tensor: Tensor, outtype: str) -> str:
    """Of a tensor in a file; one that no plan knows stays as it is."""
    name = names.get(tensor.name)
    if name is None:
        return tensor.type
    head = name == "lm_head" or (name == "embed_tokens" and "lm_head" not in names.values())
    return tensor_type(name, tensor.shape, outtype, head=head)


def _entry(tensor: Tensor, kind: str) -> Entry:
    return Entry(tensor.name, kind, tensor.shape, partial(_encode, (tensor,), kind))


def _metadata(model: Checkpoint, outtype: str) -> dict[str, Any]:
    architecture = import_module(f"{models.__name__}.{model.architecture}")
    parameters = model.defaults.parameters
    sampling = {
        key: getattr(parameters, name) for key, name in SAMPLING_NAMES.items() if name in model.defaults.origins
    }
    return {
        "general.architecture": architecture.GGUF_ARCHITECTURE,
        "general.type": "model",
        "general.name": model.name,
        **_licence(model.path),
        "general.file_type": FILE_TYPES[outtype],
        "general.quantization_version": QUANTISATION_VERSION,
        **sampling,
        **architecture.gguf_metadata(model.config, model.weights),
        **model.tokenizer.gguf_metadata(model.backbone.vocab_size),
        **({"tokenizer.chat_template": model.template.source} if model.has_template else {}),
    }


def _licence(folder: Path) -> dict[str, str]:
    """`general.license` from the front matter of the folder's model card, where it has one."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace")[:20_000] if card.is_file() else ""
    front = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    stated = re.search(r"^license:[ ]*([\w.+-]+)[ ]*$", front[1], re.MULTILINE) if front else None
    return {"general.license": stated[1]} if stated else {}


def _encode(tensors: tuple[Tensor, ...], kind: str, order: NDArray[np.intp] | None = None) -> NDArray[np.uint8]:
    """The matrices one after another, those of another type rounded to `kind`, rows in `order`."""
    data = np.empty(sum(nbytes(kind, tensor.shape) for tensor in tensors), np.uint8)
    position = 0
    for tensor in tensors:
        for piece in tensor.pieces(PIECE):
            encoded = piece.data if piece.type == kind else quantise(dequantise(piece), kind)
            data[position : position + encoded.size] = encoded
            position += encoded.size
        let_go([tensor.data])  # what was read of the source is no memory of ours
    return data if order is None else data.reshape(len(order), -1)[order].reshape(-1)


def _warnings(model: Checkpoint) -> list[str]:
    config = model.config
    if isinstance(config, lfm2_moe.Config) and config.routed_scaling_factor != 1:
        return [
            f"expert_weights_scale is {config.routed_scaling_factor:g}: Headrace reads it, "
            "but llama.cpp ignores it for this architecture"
        ]
    return []
