"""Folders of safetensors: what huggingface_hub is asked for, what its errors become, what it leaves unchecked."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path
from random import Random
from threading import Event
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from headrace.errors import (
    FileInvalid,
    Forbidden,
    HeadraceError,
    ModelNotFound,
    Offline,
    ServerFailed,
    StoreRefused,
    Unreachable,
    Unsupported,
)
from headrace.library import hub
from headrace.library.cached import cached
from headrace.library.names import Name
from headrace.library.progress import Progress
from headrace.library.pull import pull
from headrace.library.registry.client import Options
from headrace.library.registry.hosts import Host
from headrace.library.store import Store
from tests.library.fault_server import HASTY, registry

NAME = Name.parse("hf.co/LiquidAI/LFM2-350M")
WEIGHTS = Random(1).randbytes(50_000)
COMMIT = "c0ffee"
TRANSPORT: Any = errors.HfHubHTTPError.__bases__[0]


@dataclass
class Hub:
    """What snapshot_download does, as far as it is documented, into the folder that it is told."""

    files: dict[str, bytes]
    sent: dict[str, bytes] = field(default_factory=dict)  # instead of what they are
    error: BaseException | None = None
    late: BaseException | None = None  # once the download has begun
    stands: Event | None = None  # set when the download stands still, until it is left
    asked: list[dict[str, Any]] = field(default_factory=list)

    def snapshot_download(self, repo_id: str, *, cache_dir: Path, dry_run: bool = False, **named: Any) -> Any:
        self.asked.append({"repo_id": repo_id, "dry_run": dry_run, **named})
        if self.error:
            raise errors.DryRunError("cannot be performed") from self.error
        root = Path(cache_dir) / f"models--{repo_id.replace('/', '--')}"
        snapshot = root / "snapshots" / COMMIT
        wanted = [name for name in self.files if _wanted(name, **named)]
        if dry_run:
            return [self.info(name, snapshot / name) for name in wanted]
        return str(self.download(wanted, root, snapshot, named["tqdm_class"]))

    def info(self, name: str, path: Path) -> SimpleNamespace:
        is_missing = not path.exists()
        return SimpleNamespace(
            filename=name, local_path=str(path), file_size=len(self.files[name]), will_download=is_missing
        )

    def download(self, wanted: list[str], root: Path, snapshot: Path, bar_class: Any) -> Path:
        (root / "blobs").mkdir(parents=True, exist_ok=True)
        snapshot.mkdir(parents=True, exist_ok=True)
        files = bar_class(total=len(wanted), desc="files")
        received, written = (bar_class(total=0, initial=0, unit="B", name=name) for name in ("transfer", "written"))
        for name in wanted:
            content = self.sent.get(name, self.files[name])
            received.update(len(content) // 2)
            if self.late:
                raise self.late
            while self.stands:
                self.stands.set()
                written.update(0)
            blob = root / "blobs" / sha256(self.files[name]).hexdigest()
            blob.write_bytes(content)
            (snapshot / name).unlink(missing_ok=True)
            (snapshot / name).symlink_to(os.path.relpath(blob, snapshot))
            written.update(len(content))
            files.update(1)
        return snapshot


def _wanted(name: str, allow_patterns: list[str], ignore_patterns: list[str], **_: Any) -> bool:
    given = [any(fnmatch(name, pattern) for pattern in patterns) for patterns in (allow_patterns, ignore_patterns)]
    return given == [True, False]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("HEADRACE_OFFLINE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Hub:
    files = {
        "config.json": b'{"model_type":"lfm2"}',
        "model-00001-of-00002.safetensors": WEIGHTS,
        "model-00002-of-00002.safetensors": b"more",
        "model.safetensors.index.json": b"{}",
        "tokenizer.json": b'{"version":"1.0"}',
        "LICENSE": b"be nice",
        "README.md": b"# LFM2",
        "pytorch_model.bin": b"pickled",
        "onnx/model.safetensors": b"for others",
        "figure.png": b"a picture",
    }
    found = Hub(files)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", found.snapshot_download)
    return found


def test_a_folder_of_safetensors(source: Hub, folder: Path) -> None:
    steps = list[Progress]()
    found = hub.pull(NAME, steps.append)
    wanted = {name for name in source.files if name[0] not in "pRof"}
    assert {path.name for path in found.iterdir()} == wanted
    assert all((found / name).read_bytes() == source.files[name] for name in wanted)
    [known] = cached(folder)
    assert (known.name, known.path, known.problem) == (NAME, found, None)
    total = sum(len(source.files[name]) for name in wanted)
    [*_, last] = [step for step in steps if step.status.startswith("pulling")]
    assert last.fields() == {"status": f"pulling {NAME}", "total": total, "completed": total}
    assert steps[-1].status == "verifying sha256 digest"


@pytest.mark.usefixtures("source")
def test_a_second_pull_checks_nothing_again() -> None:
    found, steps = hub.pull(NAME), list[Progress]()
    (found / "model-00002-of-00002.safetensors").unlink()
    hub.pull(NAME, steps.append)
    assert [step.total for step in steps if step.status.startswith("verifying")] == [4], "what was missing"
    steps.clear()
    hub.pull(NAME, steps.append)
    assert {step.status for step in steps} == {f"pulling {NAME}"}


def test_other_bytes_than_its_digest_says_are_dropped(source: Hub) -> None:
    source.sent["model-00001-of-00002.safetensors"] = bytes(50_000)
    with pytest.raises(FileInvalid, match=r"model-00001-of-00002.safetensors was received with the digest sha256:"):
        hub.pull(NAME)
    source.sent.clear()
    assert (hub.pull(NAME) / "model-00001-of-00002.safetensors").read_bytes() == WEIGHTS


def test_what_is_no_model_is_not_fetched(source: Hub) -> None:
    del source.files["config.json"]
    with pytest.raises(Unsupported, match=r"neither safetensors with a config.json nor one GGUF file"):
        hub.pull(NAME)
    with pytest.raises(Unsupported, match="as it said"):
        hub.pull(NAME, otherwise="as it said")
    assert [asked["dry_run"] for asked in source.asked] == [True, True]


def test_a_disk_without_room_is_noticed_before(source: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.library.files.SPARE_BYTES", 1 << 60)
    with pytest.raises(StoreRefused, match="are needed"):
        hub.pull(NAME)
    assert [asked["dry_run"] for asked in source.asked] == [True]


@pytest.mark.parametrize("variable", ["HEADRACE_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline(variable: str, source: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(Offline, match=variable):
        hub.pull(NAME)
    assert source.asked == []


def test_a_pull_that_is_left_ends(source: Hub) -> None:
    """As by Ctrl-C: whoever downloads notices at its next byte."""
    source.stands = Event()

    def leave(_: Progress) -> None:
        assert source.stands is not None
        if source.stands.wait(10):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hub.pull(NAME, leave)


def _http(kind: Callable[..., BaseException], status: int) -> BaseException:
    return kind("refused", response=SimpleNamespace(status_code=status, headers={}, request=None))


REFUSED = {
    "gated": (_http(errors.GatedRepoError, 403), Forbidden, "accept its terms: do that at https://huggingface.co/Liq"),
    "unknown": (_http(errors.RepositoryNotFoundError, 404), ModelNotFound, "hf.co has no hf.co/LiquidAI/LFM2-350M"),
    "no name": (errors.HFValidationError("--"), ModelNotFound, "cannot have a repository of such a name"),
    "a token": (_http(errors.HfHubHTTPError, 401), Forbidden, "look at HF_TOKEN"),
    "broken": (_http(errors.HfHubHTTPError, 502), ServerFailed, "answers with the status 502"),
    "offline": (errors.OfflineModeIsEnabled("no"), Offline, "HF_HUB_OFFLINE"),
    "nobody": (TRANSPORT("Connection refused"), Unreachable, r"does not answer \(Connection refused\)"),
    "cut": (errors.LocalEntryNotFoundError("cut off"), Unreachable, "cut off"),
    "nonsense": (errors.FileMetadataError("no size"), ServerFailed, "no size"),
    "the disk": (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), StoreRefused, "no room left on this disk"),
}


@pytest.mark.parametrize("moment", ["error", "late"])
@pytest.mark.parametrize(("error", "kind", "sentence"), REFUSED.values(), ids=REFUSED)
def test_it_ends_in_a_sentence(
    error: BaseException, kind: type[HeadraceError], sentence: str, moment: str, source: Hub
) -> None:
    setattr(source, moment, error)
    with pytest.raises(HeadraceError, match=sentence) as raised:
        hub.pull(NAME)
    assert type(raised.value) is kind


# --- by way of `pull`


def test_a_repository_without_gguf_is_pulled_so(source: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with registry() as server:
        server.refuses["manifests"] = 400
        monkeypatch.setattr("headrace.library.registry.client.host_of", lambda *_, **__: Host(server.host, plain=True))
        steps = list[Progress]()
        assert pull(NAME, Store(tmp_path / "store"), steps.append, Options(settings=HASTY)) is None
        assert (steps[0].status, steps[-1].status) == ("pulling manifest", "success")
        assert Store(tmp_path / "store").names() == []
        source.files.clear()
        with pytest.raises(Unsupported, match="it is 400"):  # what the registry said
            pull(NAME, Store(tmp_path / "store"), options=Options(settings=HASTY))
        asked = len(source.asked)
        for other, status in (("hf.co/LiquidAI/LFM2-350M:Q4_0", 400), (str(NAME), 403)):
            server.refuses["manifests"] = status
            with pytest.raises(HeadraceError, match=f"it is {status}"):
                pull(Name.parse(other), Store(tmp_path / "store"), options=Options(settings=HASTY))
        assert len(source.asked) == asked
