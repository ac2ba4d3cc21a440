"""A Hugging Face folder to one GGUF file, tensor by tensor: what is in memory is one tensor, never the model."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headrace import checkpoint, models
from headrace.checkpoint import Checkpoint
from headrace.defaults import GGUF_NAMES as SAMPLING_NAMES
from headrace.errors import RequestInvalid
from headrace.models import lfm2_moe
from headrace.weights.quantisation import TYPES, dequantise, nbytes
from headrace.weights.rounding import quantise
from headrace.weights.tensor import Tensor

if TYPE_CHECKING:
    from gguf import GGUFWriter

OUTTYPES = ("f32", "f16", "bf16", "q8_0", "q4_0")
FILE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 7, "bf16": 32}  # llama.cpp's general.file_type
Progress = Callable[[int, int], None]  # bytes written, bytes in all


@dataclass(frozen=True, slots=True)
class Job:
    """One tensor of the file: its GGUF name, the type it gets, and the matrices it is made of."""

    name: str
    type: str
    tensors: tuple[Tensor, ...]
    stacked: bool

    @property
    def shape(self) -> tuple[int, ...]:
        shape = self.tensors[0].shape
        return (len(self.tensors), *shape) if self.stacked else shape

    @property
    def size_bytes(self) -> int:
        return nbytes(self.type, self.shape)


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
    jobs = list(_jobs(model, outtype))
    total = sum(job.size_bytes for job in jobs)
    _check_room(destination, total)
    part = destination.with_name(destination.name + ".part")
    try:
        _write(part, metadata, jobs, lambda done: progress(done, total))
        part.replace(destination)
    finally:
        part.unlink(missing_ok=True)
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


def _jobs(model: Checkpoint, outtype: str) -> Iterator[Job]:
    architecture = import_module(f"{models.__name__}.{model.architecture}")
    head = "embed_tokens" if model.backbone.tied else "lm_head"
    for name, tensors in model.weights.items():
        kind = tensor_type(name, tensors[0].shape, outtype, head=name == head)
        yield Job(architecture.gguf_name(name), kind, tensors, ".experts." in name)


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


def _write(path: Path, metadata: Mapping[str, Any], jobs: list[Job], progress: Callable[[int], None]) -> None:
    """Header first, which needs only names, shapes and types; then each tensor as it is quantised."""
    import gguf  # a third of a second: only who converts waits for it

    writer = gguf.GGUFWriter(path, metadata["general.architecture"])
    for key, value in metadata.items():
        if key != "general.architecture":
            _add(writer, key, value)
    for job in jobs:
        kind = gguf.GGMLQuantizationType[job.type]
        writer.add_tensor_info(job.name, job.shape, np.dtype(np.float32), job.size_bytes, raw_dtype=kind)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        done = 0
        for job in jobs:
            writer.write_tensor_data(_encode(job))
            done += job.size_bytes
            progress(done)
    finally:
        writer.close()


def _add(writer: GGUFWriter, key: str, value: Any) -> None:
    """Types as llama.cpp expects them: 32-bit whole numbers, unsigned but for the arrays; 32-bit floats."""
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value) if value >= 0 else writer.add_int32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case list():
            writer.add_array(key, value)
        case _:
            raise TypeError(f"{key} is a {type(value).__name__}")


def _encode(job: Job) -> NDArray[np.uint8]:
    encoded = np.empty(job.size_bytes, np.uint8)
    each = job.size_bytes // len(job.tensors)
    for i, tensor in enumerate(job.tensors):
        same = tensor.type == job.type
        encoded[i * each : (i + 1) * each] = tensor.data if same else quantise(dequantise(tensor), job.type)
    return encoded


def _check_room(destination: Path, size_bytes: int) -> None:
    folder = destination.absolute().parent
    if not folder.is_dir():
        raise RequestInvalid(f"{folder} is not a folder: make it first")
    free = shutil.disk_usage(folder).free
    if free < size_bytes * 1.01:
        raise RequestInvalid(f"{folder} has {free / 2**30:.1f} GiB free, but the file takes {size_bytes / 2**30:.1f}")


def _warnings(model: Checkpoint) -> list[str]:
    config = model.config
    if isinstance(config, lfm2_moe.Config) and config.routed_scaling_factor != 1:
        return [
            f"expert_weights_scale is {config.routed_scaling_factor:g}: Headrace reads it, "
            "but llama.cpp ignores it for this architecture"
        ]
    return []
