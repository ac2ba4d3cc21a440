"""Model folders (safetensors) from Hugging Face, by its own library, into its own cache: others find them there too."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any, Final

from headrace import __version__
from headrace.errors import FileInvalid, Forbidden, HeadraceError, ModelNotFound, ServerFailed, Unreachable, Unsupported
from headrace.library import home, room
from headrace.library.files import disk_errors, read_object, read_small, sha256_of, write_whole
from headrace.library.names import Name
from headrace.library.progress import Progress, Report, unwatched
from headrace.library.registry.hosts import host_of
from headrace.machine import cache_folder
from headrace.models import architectures

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CONFIG: Final = "config.json"
WANTED: Final = (
    *(CONFIG, "generation_config.json", "special_tokens_map.json", "tokenizer*", "chat_template*", "LICENSE*"),
    *("*.safetensors", "*.safetensors.index.json"),
)
LARGEST_CONFIG: Final = 4 << 20  # bytes
LARGEST_LIST: Final = 1 << 20
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
REPORT_S: Final = 0.2  # between two reports


def fetch(name: Name, report: Report = unwatched, endpoint: str | None = None, otherwise: str = "") -> Path:
    """The folder of a model, with what is missing of it fetched and checked. `endpoint` is Hugging Face's own, or a
    mirror; `otherwise` is what to say of a repository that is no such folder.

    `report` is called in this thread; what it raises ends the download, which the next one goes on with. Raises
    Offline, Unreachable, Forbidden, ModelNotFound, Unsupported, FileInvalid, StoreRefused, ServerFailed.
    """
    from huggingface_hub import HfApi

    host_of(name.host)
    cache, repository = home.hub_folder().path, f"{name.namespace}/{name.model}"
    api = HfApi(endpoint=endpoint, library_name="headrace", library_version=__version__)
    report(Progress(f"pulling {repository}"))
    files = _snapshot(api, repository, cache, dry_run=True)
    if CONFIG not in {file.filename for file in files} or not _weights(files):
        raise Unsupported(otherwise or f"hf.co/{repository} has neither GGUF files nor safetensors and a {CONFIG}")
    _check_architecture(repository, Path(_snapshot(api, repository, cache, allow_patterns=[CONFIG])))
    plan = [file for file in files if file.will_download and file.filename != CONFIG]
    total = _size(plan)
    if plan:
        room.check(cache, total, _size(_weights(plan)))
    unchecked = _Unchecked(cache, repository)
    unchecked.add(file.filename for file in plan)
    folder = _watched(lambda bar: _snapshot(api, repository, cache, tqdm_class=bar), repository, total, report)
    _verify(repository, [folder / name for name in unchecked.names if (folder / name).is_file()], report)
    unchecked.forget()
    report(Progress("success"))
    return folder


def _snapshot(api: HfApi, repository: str, cache: Path, **options: Any) -> Any:
    named = {"allow_patterns": [*WANTED], "ignore_patterns": ["*/*"], "tqdm_class": _bar([0], Event()), **options}
    with _in_our_words(repository, cache):
        return api.snapshot_download(repository, cache_dir=cache, **named)


def _weights(files: Iterable[Any]) -> list[Any]:
    return [file for file in files if file.filename.endswith(".safetensors")]


def _size(files: Iterable[Any]) -> int:
    return sum(max(0, file.file_size or 0) for file in files)


def _check_architecture(repository: str, folder: Path) -> None:
    """Before gigabytes come. Raises Unsupported."""
    with disk_errors(folder):
        found, known = read_object(folder / CONFIG, LARGEST_CONFIG).get("model_type"), architectures()
    if found not in known:
        raise Unsupported(f"hf.co/{repository}: model_type {found!r} is not supported, only {', '.join(sorted(known))}")


def _watched(download: Callable[[type], str], repository: str, total: int, report: Report) -> Path:
    """Runs the download in a thread, which is left when this one is."""
    left, done, results, failures = Event(), [0], list[str](), list[BaseException]()

    def run() -> None:
        try:
            results.append(download(_bar(done, left)))
        except BaseException as failure:
            failures.append(failure)

    thread, shown = Thread(target=run, daemon=True), -1
    thread.start()
    try:
        while thread.is_alive() or shown != done[0]:
            thread.join(REPORT_S)
            shown = done[0]
            report(Progress(f"pulling {repository}", None, total, min(shown, total)))
    finally:
        left.set()
    if failures:
        raise failures[0]
    return Path(results[0])


class _Unchecked:
    """The files of a folder that were asked for and are not checked yet: whoever is killed in between leaves it so."""

    def __init__(self, cache: Path, repository: str) -> None:
        place = hashlib.sha256(f"{cache.absolute()}\n{repository.lower()}".encode()).hexdigest()[:16]
        self._path = cache_folder() / "unchecked" / place
        self.names = self._read()

    def add(self, names: Iterable[str]) -> None:
        self.names = sorted({*self.names, *names})
        if self.names:
            with suppress(OSError):  # a cache that cannot be written to is no reason not to pull
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(self._path, json.dumps(self.names).encode(), self._path.with_suffix(".part"))

    def forget(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _read(self) -> list[str]:
        try:
            found = json.loads(read_small(self._path, LARGEST_LIST))
        except (OSError, FileInvalid, ValueError, RecursionError):
            return []
        return [one for one in found if _is_wanted(one)] if isinstance(found, list) else []


def _is_wanted(name: object) -> bool:
    """As what a repository has at its top: no path that leads elsewhere."""
    return isinstance(name, str) and "/" not in name and any(fnmatch(name, wanted) for wanted in WANTED)


def _verify(repository: str, paths: Iterable[Path], report: Report) -> None:
    """The library compares sizes. Of what is large, the cache's own name for it is its SHA-256."""
    blobs = {path: path.resolve() for path in paths if _SHA256.fullmatch(path.resolve().name)}
    total, done = sum(blob.stat().st_size for blob in blobs.values()), 0
    for path, blob in blobs.items():
        report(Progress("verifying sha256 digest", None, total, done))
        done += blob.stat().st_size
        with disk_errors(blob):
            if (found := sha256_of(blob)) == f"sha256:{blob.name}":
                continue
            blob.unlink()
            path.unlink()
            problem = f"{path.name} was received with the digest {found}, and was dropped: pull it again"
            raise FileInvalid(f"hf.co/{repository}", problem)


class _Left(Exception):
    """Nobody waits for the download any more."""


def _bar(done: list[int], left: Event) -> type:
    """What the library takes for a progress bar: counts the bytes that came, and ends the download where it is left."""
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined, unused-ignore]

    guard = Lock()  # one bar is told by several threads

    class Bar(tqdm):  # type: ignore[type-arg, misc, unused-ignore]
        def __init__(self, *given: Any, **named: Any) -> None:
            # Bytes as they are written, not as they come over the network: those may be fewer.
            self._counts = named.get("unit") == "B" and not str(named.get("name")).endswith(".transfer")
            super().__init__(*given, **{**named, "disable": True})  # type: ignore[no-untyped-call, unused-ignore]

        def update(self, n: float | None = 1) -> None:
            if left.is_set():
                raise _Left
            if self._counts:
                with guard:
                    done[0] += int(n or 0)

    return Bar


@contextmanager
def _in_our_words(repository: str, cache: Path) -> Iterator[None]:
    """What goes wrong there comes from several libraries below, of which none promises what."""
    with disk_errors(cache):
        try:
            yield
        except HeadraceError:
            raise
        except Exception as error:
            raise _meaning(repository, error) from error


def _meaning(repository: str, error: Exception) -> Exception:
    from huggingface_hub import errors

    while isinstance(error, errors.DryRunError | errors.LocalEntryNotFoundError) and isinstance(
        error.__cause__, Exception
    ):
        error = error.__cause__
    match error:
        case errors.GatedRepoError():
            return Forbidden(f"hf.co/{repository} is gated: ask for access there, and put a token into HF_TOKEN")
        case errors.RepositoryNotFoundError():
            return ModelNotFound(
                f"hf.co has no {repository}, or it is private: look at its spelling, or put a token that may read it "
                "into HF_TOKEN"
            )
        case errors.HfHubHTTPError():
            return ServerFailed(f"hf.co answers with the status {error.response.status_code}: try again later")
        case OSError(errno=int()) if not isinstance(error, ConnectionError):
            return error
    if isinstance(error, ConnectionError) or type(error).__name__.startswith(("Connect", "Proxy", "LocalEntry")):
        return Unreachable(
            f"nothing answers at hf.co ({error}): look at the network, or at the proxy in HTTPS_PROXY if there is one"
        )
    return ServerFailed(f"the download of {repository} from hf.co ended: {error or type(error).__name__}")
