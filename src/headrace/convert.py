"""A Hugging Face folder to one GGUF file, tensor by tensor: what is in memory is one tensor, never the model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace import checkpoint, models
from headrace.checkpoint import Checkpoint
from headrace.defaults import GGUF_NAMES as SAMPLING_NAMES
from headrace.errors import RequestInvalid
from headrace.models import lfm2_moe
from headrace.weights.gguf_writer import Entry, Progress, write
from headrace.weights.quantisation import FILE_TYPES, TYPES, dequantise
from headrace.weights.rounding import quantise
from headrace.weights.tensor import Tensor

OUTTYPES = ("f32", "f16", "bf16", "q8_0", "q4_0")


def convert(source: Path, destination: Path, outtype: str, progress: Progress = lambda *_: None) -> list[str]:
    """Writes `destination`, complete or not at all, and returns warnings, a sentence each.

    Raises Unsupported for what GGUF cannot say, RequestInvalid where there is no room, UserError for a bad source.
    """
    if outtype not in OUTTYPES:
        raise RequestInvalid(f"outtype is {outtype!r} but should be one of {', '.join(OUTTYPES)}")
    if not source.is_dir():
        raise RequestInvalid(f"{source} is not a folder: convert takes a Hugging Face model folder")
    model = checkpoint.read(source)
    metadata = _metadata(model, outtype)  # first: it refuses what GGUF cannot say
    write(destination, metadata, list(_entries(model, outtype)), progress)
    return _warnings(model)


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
        "general.quantization_version": 2,
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
    data = np.concatenate([t.data if t.type == kind else quantise(dequantise(t), kind) for t in tensors])
    return data if order is None else data.reshape(len(order), -1)[order].reshape(-1)


def _warnings(model: Checkpoint) -> list[str]:
    config = model.config
    if isinstance(config, lfm2_moe.Config) and config.routed_scaling_factor != 1:
        return [
            f"expert_weights_scale is {config.routed_scaling_factor:g}: Headrace reads it, "
            "but llama.cpp ignores it for this architecture"
        ]
    return []
