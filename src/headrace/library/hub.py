"""A model of safetensors from Hugging Face, into the cache that its own libraries have: they find it there, as we do.

Its GGUF files come as from any registry (see `pull`). A folder of safetensors is no manifest's: huggingface_hub
downloads it, goes on where it was cut, and gives it its place when it is whole; what it does not check is checked here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event, Lock
from typing import Any, Final

from headrace import __version__
from headrace.errors import FileInvalid, Forbidden, ModelNotFound, Offline, ServerFailed, Unreachable, Unsupported
from headrace.library import room
from headrace.library.files import disk_errors, sha256_of
from headrace.library.home import hub_folder
from headrace.library.names import HUGGING_FACE, TAG, Name
from headrace.library.progress import Progress, Report, unwatched
from headrace.library.registry.hosts import check_online
from headrace.library.registry.patience import Stopped

WEIGHTS: Final = ".safetensors"
# What a model needs; a repository may have the same weights for other programs, and pictures.
WANTED: Final = (
    *("config.json", "generation_config.json", "model*.safetensors", "model.safetensors.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"),
    *("chat_template.json", "LICENSE", "LICENSE.txt", "LICENSE.md"),
)
BELOW: Final = ("*/*",)  # no folder: a star stands for slashes too
POLL_S: Final = 0.1  # between two reports
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class File:
    """One of a repository's. `path` is where it lies, or will."""

    name: str
    path: Path
    size: int
    is_missing: bool


def may_have(name: Name) -> bool:
    """Whether a name can mean a folder of safetensors: they have no quantisations, so no tags."""
    return name.host == HUGGING_FACE and name.tag.lower() == TAG


def pull(name: Name, report: Report = unwatched, otherwise: str = "") -> Path:
    """Brings a folder of safetensors into Hugging Face's cache, or up to date there, and gives it.

    `otherwise` is what to say of a repository that has none. `report` is called in this thread; what it raises ends
    the pull, and the next one goes on from there. Raises Offline, Unreachable, Forbidden, ModelNotFound, Unsupported,
    FileInvalid, StoreRefused, ServerFailed.
    """
    check_online(HUGGING_FACE)
    with _in_our_words(name):
        files = _files(name)
        if not any(file.name == "config.json" for file in files) or not _weights(files):
            raise Unsupported(otherwise or f"{name} has neither safetensors with a config.json nor one GGUF file")
        missing = [file for file in files if file.is_missing]
        room.check(hub_folder().path, _size(missing), _size(_weights(missing)))
        folder = _downloaded(name, files, report)
    _check(name, missing, report)
    return folder


def _weights(files: Iterable[File]) -> list[File]:
    return [file for file in files if file.name.endswith(WEIGHTS)]


def _size(files: Iterable[File]) -> int:
    return sum(file.size for file in files)


def _snapshot(name: Name, **more: Any) -> Any:
    from huggingface_hub import snapshot_download

    return snapshot_download(
        name.repository,
        cache_dir=hub_folder().path,
        allow_patterns=list(WANTED),
        ignore_patterns=list(BELOW),
        library_name="headrace",
        library_version=__version__,
        **more,
    )


def _files(name: Name) -> list[File]:
    """What there is to fetch: asked of Hugging Face itself, never of what an earlier time left in the cache."""
    return [
        File(one.filename, Path(one.local_path), max(0, one.file_size or 0), one.will_download)
        for one in _snapshot(name, dry_run=True)
    ]


def _downloaded(name: Name, files: list[File], report: Report) -> Path:
    """In a thread of its own, since its bars belong to many; this one reports what they say."""
    meter = _Meter(_size(file for file in files if not file.is_missing), _size(files))
    pool = ThreadPoolExecutor(1)
    try:
        task: Future[str] = pool.submit(partial(_snapshot, name, tqdm_class=meter.bars()))
        while not wait([task], POLL_S).done:
            report(meter.step(name))
        folder = Path(task.result())
        report(Progress(f"pulling {name}", None, meter.total, meter.total))
        return folder
    finally:
        meter.stop.set()
        pool.shutdown(wait=False)


class _Meter:
    """Counts the bytes of a download. What is told to `stop` ends at its next byte."""

    def __init__(self, before: int, total: int) -> None:
        self.total, self.stop = total, Event()
        self._before, self._guard = before, Lock()
        self._counted = list[Any]()

    def step(self, name: Name) -> Progress:
        """Of what is received and what is written, what is further counts."""
        with self._guard:
            done = self._before + max((bar.n for bar in self._counted), default=0)
        return Progress(f"pulling {name}", None, self.total, min(done, self.total))

    def bars(self) -> type:
        """What huggingface_hub takes for progress bars: they show nothing."""
        from huggingface_hub.utils.tqdm import tqdm

        meter = self

        class Bar(tqdm):
            def __init__(self, *given: Any, **named: Any) -> None:
                super().__init__(*given, **{**named, "disable": True})  # type: ignore[no-untyped-call]
                if named.get("unit") == "B":
                    meter.count(self)

            def update(self, n: float | None = 1) -> None:
                meter.add(self, int(n or 0))

        return Bar

    def count(self, bar: Any) -> None:
        with self._guard:
            self._counted.append(bar)

    def add(self, bar: Any, size: int) -> None:
        if self.stop.is_set():
            raise Stopped
        with self._guard:
            bar.n += size


def _check(name: Name, files: Iterable[File], report: Report) -> None:
    """The cache calls what is large by its sha256, and nobody has looked yet."""
    weights = [file for file in files if _SHA256.fullmatch(file.path.resolve().name)]
    total, done = _size(weights), 0
    for file in weights:
        report(Progress("verifying sha256 digest", None, total, done))
        blob = file.path.resolve()
        with disk_errors(blob):
            if (found := sha256_of(blob)) != f"sha256:{blob.name}":
                blob.unlink()
                file.path.unlink()
                raise FileInvalid(
                    name, f"{file.name} was received with the digest {found}, and was dropped: pull it again"
                )
        done += file.size


# --- what huggingface_hub raises


@contextmanager
def _in_our_words(name: Name) -> Iterator[None]:
    from huggingface_hub import errors

    transport: Any = errors.HfHubHTTPError.__bases__[0]  # the root of the HTTP library that it has
    known: tuple[type[Exception], ...] = (OSError, transport, errors.HFValidationError, errors.XetDownloadError)
    try:
        yield
    except known as error:
        cause = error.__cause__ if isinstance(error, errors.DryRunError) and error.__cause__ else error
        with disk_errors(hub_folder().path):
            raise _meaning(name, cause) from error


def _meaning(name: Name, error: BaseException) -> BaseException:
    from huggingface_hub import errors

    page = f"https://huggingface.co/{name.repository}"
    match error:
        case errors.OfflineModeIsEnabled():
            return Offline(f"{name} is not asked for, since HF_HUB_OFFLINE is set: unset it to fetch what is not here")
        case errors.GatedRepoError():
            return Forbidden(f"{name} is for those who accept its terms: do that at {page}, then set HF_TOKEN")
        case errors.RepositoryNotFoundError():
            return ModelNotFound(f"hf.co has no {name}: look at its spelling; a private one needs HF_TOKEN")
        case errors.HFValidationError():
            return ModelNotFound(f"hf.co has no {name}: it cannot have a repository of such a name")
        case errors.HfHubHTTPError() if error.response.status_code in (401, 403):
            return Forbidden(f"hf.co does not let us at {name}: look at HF_TOKEN")
        case errors.HfHubHTTPError():
            return ServerFailed(f"hf.co answers with the status {error.response.status_code} to {name}: try later")
        case errors.FileMetadataError() | errors.XetDownloadError():
            return ServerFailed(f"hf.co does not say what it should of {name} ({error}): try again later")
        case OSError(errno=int()):
            return error  # the disk's
    return Unreachable(f"hf.co does not answer ({error}): look at the network, or at the proxy in HTTPS_PROXY")
