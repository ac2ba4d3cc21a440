"""What a model is created from: a GGUF file, a folder of safetensors, another model, or blobs that were sent."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from headrace import checkpoint, models, summary
from headrace.convert import convert, merge
from headrace.errors import FileInvalid, ModelNotFound, RequestInvalid, Unsupported
from headrace.library.files import PIECE_BYTES, disk_errors, is_plain_file, sha256_of
from headrace.library.manifest import OLLAMA, Layer, Manifest, digest_of
from headrace.library.models import Found
from headrace.library.names import Name
from headrace.library.progress import Progress, Report
from headrace.library.store import Store
from headrace.library.writing import Writing
from headrace.weights import split

MODEL: Final = OLLAMA + "model"
MOST_FILES: Final = 1024  # of one model
LONGEST_NAME: Final = 255  # bytes
LARGEST_TEXT: Final = 64 << 20  # of a file that is read whole, such as tokenizer.json
_FILE_NAME = re.compile(r"\w[\w. +()-]*")


@dataclass(frozen=True, slots=True)
class Work:
    """Where a model is made, and who is told about it."""

    store: Store
    session: Writing
    report: Report

    def add(self, data: bytes, media_type: str) -> Layer:
        """A small layer."""
        known = self.store.has(Layer(media_type, digest_of(data), len(data)))
        layer = self.session.add(data, media_type)
        self.tell(layer, known)
        return layer

    def tell(self, layer: Layer, known: bool) -> None:
        self.report(Progress(f"{'using existing' if known else 'creating new'} layer {layer.digest}"))

    def watch(self, status: str) -> Callable[[int, int], None]:
        return lambda done, total: self.report(Progress(status, None, total, done))


def find(source: str, folder: Path | None) -> Path | Name:
    """What FROM means. A path begins at `folder`, where the Modelfile lies, and comes before a model's name.

    Without a folder it can be no path: who asks from elsewhere has no files here. Raises ModelNotFound, RequestInvalid.
    """
    if (built_in := checkpoint.always_there(source)) is not None:
        return built_in
    is_path = source.startswith(("/", "./", "../", "~", "\\")) or source in (".", "..")
    if folder is None:
        if is_path:
            raise RequestInvalid(f"from is {source!r}: no file of the server's is read for others, send it as a blob")
        return Name.parse(source)
    path = _path(source, folder)
    if path is not None and (path.is_file() or (path.is_dir() and (is_path or (path / "config.json").exists()))):
        return path
    if is_path or source.lower().endswith((".gguf", ".safetensors")):
        raise ModelNotFound(f"FROM is {source!r}, and there is no such file or folder in {folder}")
    return Name.parse(source)


def _path(source: str, folder: Path) -> Path | None:
    """None for what is no path, as a text that is too long or has a zero byte in it."""
    try:
        path = folder / Path(source).expanduser()
        path.stat()
    except (OSError, ValueError, RuntimeError):
        return None
    return path


# --- from files


def bring(work: Work, path: Path, quantize: str | None) -> tuple[Layer, dict[str, Any]]:
    """The model at `path` as a blob, and what its config says. Raises what `convert` and `checkpoint.read` do."""
    work.report(Progress("reading model metadata"))
    if path.is_dir():
        return _made(work, "converting model", lambda at, say: _convert_folder(path, at, quantize, say))
    if quantize is not None:
        return requantise(work, path, quantize)
    if len(split.read(path)) > 1:
        return _made(work, "merging the parts of the model", lambda at, say: merge(path, at, say))
    facts = facts_of(path)
    return _copied(work, path), facts


def requantise(work: Work, path: Path, quantize: str) -> tuple[Layer, dict[str, Any]]:
    """A GGUF file of floats, with its matrices in another type."""
    status = f"quantizing model to {quantize.upper()}"
    return _made(work, status, lambda at, say: convert(path, at, quantize, say))


def _convert_folder(path: Path, destination: Path, quantize: str | None, say: Callable[[int, int], None]) -> Any:
    return convert(path, destination, quantize or _float_type(path), say)


def _float_type(folder: Path) -> str:
    """The type in which no matrix of the folder loses anything."""
    weights = checkpoint.read(folder).weights.values()
    types = {tensor.type for tensors in weights for tensor in tensors if len(tensor.shape) > 1}
    return types.pop().lower() if len(types) == 1 else "f32"


def _made(work: Work, status: str, make: Callable[[Path, Callable[[int, int], None]], object]) -> tuple[Layer, Any]:
    with work.session.scratch() as path:
        with disk_errors(path):
            make(path, work.watch(status))
        facts = facts_of(path)
        layer = work.session.adopt(path, MODEL, progress=work.watch("computing sha256 digest"))
    work.tell(layer, known=False)
    return layer, facts


def _copied(work: Work, path: Path, media_type: str = MODEL) -> Layer:
    """A blob of its own: another name of the same file would change with it."""
    layer = Layer(media_type, sha256_of(path, work.watch("computing sha256 digest")), path.stat().st_size)
    work.session.keep([layer.digest])
    known = work.store.has(layer)
    if not known:
        work.store.room_for(layer.size)
        with work.session.scratch() as scratch:
            with disk_errors(scratch):
                _copy(path, scratch, work.watch("copying file"))
            work.session.adopt(scratch, media_type, layer.digest)
    work.tell(layer, known)
    return layer


def bring_found(work: Work, found: Found, manifest: Manifest) -> Manifest:
    """All blobs of a model of another store, such as Ollama's. Raises FileInvalid for one that is damaged."""
    for layer in manifest.blobs:
        with disk_errors(found.path.parent):
            taken = _copied(work, found.path.parent / layer.digest.replace(":", "-"), layer.media_type)
        if taken != layer:
            raise FileInvalid(found.name, f"{layer.digest} is damaged where it was found: pull the model again")
    return manifest


def _copy(source: Path, destination: Path, say: Callable[[int, int], None]) -> None:
    done, total = 0, source.stat().st_size
    with source.open("rb") as reading, destination.open("xb") as writing:
        while piece := reading.read(16 * PIECE_BYTES):
            writing.write(piece)
            done += len(piece)
            say(done, total)


def facts_of(path: Path) -> dict[str, Any]:
    """What a config says of a GGUF file. Raises what `checkpoint.read` does: a model that cannot run is not made."""
    model = checkpoint.read(path)
    family = import_module(f"{models.__name__}.{model.architecture}").GGUF_ARCHITECTURE
    stated = split.read(path)[0].metadata.get("general.file_type")
    return {
        "model_format": "gguf",
        "model_family": family,
        "model_families": [family],
        "model_type": summary.human_count(summary.parameters(model)[0]),
        "file_type": summary.level(stated, summary.quantisation(model)),
    }


# --- from blobs that were sent


def bring_blobs(work: Work, files: Mapping[str, str], name: str, quantize: str | None) -> tuple[Layer, dict[str, Any]]:
    """The model `name` whose files, by their names, are blobs. Raises RequestInvalid for one that is not here."""
    if not 0 < len(files) <= MOST_FILES:
        raise RequestInvalid(f"files should have from 1 to {MOST_FILES} files, and has {len(files)}")
    work.session.keep(files.values())
    blobs = {file: _blob(work.store, file, digest) for file, digest in files.items()}
    parts = sorted(file for file in blobs if file.lower().endswith(".gguf") or len(blobs) == 1)
    if parts and len(parts) < len(blobs):
        raise RequestInvalid("files has GGUF files and others: send either the ones or the others")
    for file, blob in blobs.items():
        if not parts and not file.endswith(".safetensors") and blob.stat().st_size > LARGEST_TEXT:
            raise RequestInvalid(f"files: {file!r} has more than {LARGEST_TEXT >> 20} MiB, and no such file has")
    with _laid_out(work, blobs, name) as folder:
        if not parts:
            return bring(work, folder, quantize)
        if len(split.read(folder / parts[0])) != len(parts):
            raise RequestInvalid(f"files has {len(parts)} GGUF files that are not the parts of one model: send one")
        if len(parts) > 1 or quantize is not None:
            return bring(work, folder / parts[0], quantize)
        work.report(Progress("reading model metadata"))
        facts = facts_of(folder / parts[0])
    layer = Layer(MODEL, files[parts[0]], blobs[parts[0]].stat().st_size)
    work.tell(layer, known=True)
    return layer, facts


def _blob(store: Store, file: str, digest: str) -> Path:
    if not _FILE_NAME.fullmatch(file) or len(file.encode()) > LONGEST_NAME:
        raise RequestInvalid(f"files has {file[:80]!r}, and should have the names of files, without folders")
    path = store.blob(digest)
    if not is_plain_file(path):
        raise RequestInvalid(f"files: there is no blob {digest} for {file!r}: send it first")
    return path


@contextmanager
def _laid_out(work: Work, blobs: Mapping[str, Path], name: str) -> Iterator[Path]:
    """A folder in which blobs have the names of files. An error says those, and not where the folder is."""
    with work.session.folder() as place:
        folder = place / name
        with disk_errors(folder):
            folder.mkdir()
            for file, blob in blobs.items():
                (folder / file).symlink_to(blob.absolute())
        try:
            yield folder
        except FileInvalid as error:
            file = error.path.removeprefix(f"{place}/")
            raise FileInvalid(file, str(error).removeprefix(f"{error.path}: ").replace(f"{place}/", "")) from None
        except (ModelNotFound, RequestInvalid, Unsupported) as error:
            raise type(error)(str(error).replace(f"{place}/", "")) from None


def float_blob(store: Store, name: Name, layers: list[Layer]) -> tuple[int, Path]:
    """Which layer of a model is its one GGUF file, and where that is. Raises Unsupported where it is not one."""
    places = [place for place, layer in enumerate(layers) if layer.kind == "model"]
    if len(places) != 1:
        raise Unsupported(f"{name} has {len(places)} model files, and one of one file can be quantised")
    return places[0], store.blob(layers[places[0]].digest)
