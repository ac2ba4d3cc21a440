"""`export`: a model of the library as others take it, a GGUF file or a folder of safetensors.

A GGUF file is given back byte for byte. Of the folder every number is exact, and the shapes and names are those of the
published ones: F32, F16 and BF16 stay what they are, and quantised weights become the float32 values that they stand
for, unless another type is asked for, which rounds them once.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from headrace import checkpoint, models
from headrace.checkpoint import Checkpoint
from headrace.defaults import GENERATION_CONFIG_NAMES
from headrace.errors import FileInvalid, RequestInvalid, Unsupported
from headrace.library.files import PIECE_BYTES, is_the_watchers, silent, watched
from headrace.library.manifest import is_digest
from headrace.library.models import Found
from headrace.models.llama import ROPE_FACTORS
from headrace.weights import safetensors_writer, split
from headrace.weights.gguf_writer import check_room
from headrace.weights.mapped import let_go
from headrace.weights.quantisation import QUANTISED, dequantise
from headrace.weights.rounding import quantise
from headrace.weights.safetensors_writer import Entry
from headrace.weights.tensor import Tensor

FORMATS: Final = ("gguf", "safetensors")
FLOATS: Final = ("f32", "bf16", "f16")  # for what is quantised
PIECE: Final = 1 << 22  # weights that are written at a time
_TEXTS: Final = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
    *("LICENSE", "model.safetensors.index.json"),
)
_WEIGHTS: Final = re.compile(r"model(-[0-9]{5}-of-[0-9]{5})?\.safetensors")
_DTYPES: Final = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}

Progress = Callable[[int, int], None]  # bytes written, bytes in all


def export(
    found: Found,
    destination: Path,
    form: str = "gguf",
    floats: str = "f32",
    progress: Progress = silent,
    *,
    force: bool = False,
) -> None:
    """Writes `destination`, complete or not at all. `form` is one of FORMATS, `floats` of FLOATS.

    It may not exist, but as an empty folder where one is wanted; with `force` it may be a file, or a folder of what an
    export writes, and is replaced.
    `progress` is called in this thread; what it raises ends the export. Raises RequestInvalid, Unsupported for what the
    form cannot hold, FileInvalid for a file that is damaged.
    """
    for name, value, known in (("format", form, FORMATS), ("floats", floats, FLOATS)):
        if value not in known:
            raise RequestInvalid(f"{name} is {value!r} but should be one of {', '.join(known)}")
    _check_free(destination, form, force)
    if form == "gguf":
        _export_gguf(found, destination, watched(progress))
    else:
        _export_folder(found, destination, floats.upper(), watched(progress))


def _check_free(destination: Path, form: str, force: bool) -> None:
    """Raises RequestInvalid for what is not to be written over: `force` is no leave to take anything else away."""
    is_folder = destination.is_dir()
    if not destination.exists() or (is_folder and form == "safetensors" and not any(destination.iterdir())):
        return
    if not force:
        raise RequestInvalid(f"{destination} exists: give a name that is free")
    if is_folder != (form == "safetensors"):
        kind = "a folder" if is_folder else "a file"
        raise RequestInvalid(f"{destination} is {kind}, which {form} is not: give another name")
    if is_folder and (others := [one.name for one in destination.iterdir() if not _is_ours(one)]):
        raise RequestInvalid(f"{destination} has more than a model in it ({min(others)}): give another name")


def _is_ours(file: Path) -> bool:
    """By the name of a file in a folder that an export wrote."""
    return file.is_file() and (file.name in _TEXTS or _WEIGHTS.fullmatch(file.name) is not None)


@contextmanager
def _whole(destination: Path) -> Iterator[Path]:
    """A place beside it to write to, which becomes it if all goes well."""
    try:
        with TemporaryDirectory(prefix=f"{destination.name}.", suffix=".part", dir=destination.parent) as folder:
            part = Path(folder) / destination.name
            yield part
            _put(part, destination, Path(folder) / f"{destination.name}.old")
    except OSError as error:
        if is_the_watchers(error):
            raise
        raise RequestInvalid(f"{destination} cannot be written ({error.strerror}): give another place") from None


def _put(part: Path, destination: Path, old: Path) -> None:
    """A folder that is there, which no rename writes over, is `old` for a moment."""
    if not destination.is_dir():
        part.replace(destination)
        return
    destination.replace(old)
    try:
        part.replace(destination)
    except OSError:
        old.replace(destination)
        raise


# --- GGUF


def _export_gguf(found: Found, destination: Path, progress: Progress) -> None:
    if found.path.is_dir():
        raise Unsupported(f"{found.name} is a folder of safetensors: `headrace convert` makes a GGUF file of it")
    if (parts := len(split.read(found.path))) > 1:
        raise Unsupported(f"{found.name} has {parts} files: copy them, or give the first to `headrace create`")
    total = found.path.stat().st_size
    check_room(destination, total)
    with _whole(destination) as part:
        digest = _copy(found.path, part, lambda done: progress(done, total))
        if (expected := _digest(found)) not in (None, digest):
            raise FileInvalid(found.path, f"its digest is {digest} and not {expected}: pull the model again")


def _digest(found: Found) -> str | None:
    """What the file's should be, where somebody has said it: a manifest does, and Hugging Face's cache by its names."""
    if found.manifest is not None:
        return found.manifest.of("model")[0].digest
    named = f"sha256:{found.path.resolve().name}"
    return named if is_digest(named) else None


def _copy(source: Path, destination: Path, say: Callable[[int], None]) -> str:
    digest, done = hashlib.sha256(), 0
    with source.open("rb") as reading, destination.open("wb") as writing:
        while piece := reading.read(16 * PIECE_BYTES):
            digest.update(piece)
            writing.write(piece)
            done += len(piece)
            say(done)
    return f"sha256:{digest.hexdigest()}"


# --- safetensors


def _export_folder(found: Found, destination: Path, floats: str, progress: Progress) -> None:
    model = checkpoint.read(found.path, found.preset)
    entries = list(_entries(model, floats))
    texts = _texts(model, entries, found)
    check_room(destination, sum(entry.size_bytes for entry in entries))
    with _whole(destination) as part:
        part.mkdir()
        for name, text in texts.items():
            (part / name).write_text(text, encoding="utf-8")
        safetensors_writer.write(part, entries, progress, shard_bytes=safetensors_writer.SHARD_BYTES)


def _entries(model: Checkpoint, floats: str) -> Iterator[Entry]:
    for name, tensors in model.weights.items():
        if name == ROPE_FACTORS:  # worked out from config.json
            continue
        for number, tensor in enumerate(tensors):
            kind = floats if tensor.type in QUANTISED else tensor.type
            yield Entry(_published(name, number), kind, _shape(name, tensor), partial(_pieces, tensor, kind))


def _published(name: str, expert: int) -> str:
    """The name in Hugging Face's folders of a weight of the plan."""
    stem, _, part = name.rpartition(".")
    if stem.endswith(".experts"):
        name = f"{stem}.{expert}.{part}"
    prefix = "" if name == "lm_head" else "model."
    return prefix + name + ("" if name.endswith("bias") else ".weight")


def _shape(name: str, tensor: Tensor) -> tuple[int, ...]:
    """The taps of a depthwise Conv1d are [H, 1, K]."""
    return (tensor.shape[0], 1, tensor.shape[1]) if name.endswith("conv.conv") else tensor.shape


def _pieces(tensor: Tensor, kind: str) -> Iterator[NDArray[np.uint8]]:
    for piece in tensor.pieces(PIECE):
        yield piece.data if piece.type == kind else quantise(dequantise(piece), kind)
    let_go([tensor.data])


# --- what is beside the weights


def _texts(model: Checkpoint, entries: list[Entry], found: Found) -> dict[str, str]:
    """The other files of the folder. Raises Unsupported for what they cannot say."""
    architecture = import_module(f"{models.__name__}.{model.architecture}")
    config = _shortest(architecture.hf_config(model.config, model.weights)) | _ids(model) | {"dtype": _dtype(entries)}
    texts = {
        "config.json": _json(config),
        "generation_config.json": _json(_generation(model)),
        "tokenizer.json": model.tokenizer.to_json(),
        "tokenizer_config.json": _json(_tokenizer_config(model)),
    }
    if model.has_template:
        texts["chat_template.jinja"] = model.template.source
    if found.licenses:
        texts["LICENSE"] = "\n\n".join(found.licenses)
    return texts


def _ids(model: Checkpoint) -> dict[str, int]:
    tokenizer = model.tokenizer
    ids = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "pad": tokenizer.pad_id}
    return {f"{name}_token_id": token for name, token in ids.items() if token is not None}


def _dtype(entries: list[Entry]) -> str:
    """The type of most weights."""
    sizes = dict.fromkeys(_DTYPES, 0)
    for entry in entries:
        sizes[entry.type] += entry.size_bytes
    return _DTYPES[max(sizes, key=sizes.__getitem__)]


def _generation(model: Checkpoint) -> dict[str, Any]:
    """transformers knows no temperature 0: it says that nothing is drawn."""
    defaults = model.defaults
    stated = {
        name: getattr(defaults.parameters, ours)
        for name, ours in GENERATION_CONFIG_NAMES.items()
        if ours in defaults.origins
    }
    greedy = stated.get("temperature") == 0
    if greedy:
        stated = {name: value for name, value in stated.items() if name == "repetition_penalty"}
    return {**_ids(model), "eos_token_id": sorted(model.end_ids), "do_sample": not greedy, **_shortest(stated)}


def _tokenizer_config(model: Checkpoint) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": model.backbone.max_position_embeddings,
        "clean_up_tokenization_spaces": False,
        **model.tokenizer.special_names,
    }


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _shortest(value: Any) -> Any:
    """GGUF keeps numbers in 32 bits: the shortest text that means each, 1e-05 and not 9.999999747378752e-06."""
    match value:
        case float():
            return float(str(np.float32(value)))
        case dict():
            return {key: _shortest(item) for key, item in value.items()}
    return value
