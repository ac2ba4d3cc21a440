"""Model folders from Hugging Face, by its own library, from a site that is as much of Hugging Face as it asks for."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random
from threading import Event
from typing import Any

import pytest

from headrace.errors import (
    FileInvalid,
    Forbidden,
    HeadraceError,
    ModelNotFound,
    Offline,
    RequestInvalid,
    ServerFailed,
    StoreRefused,
    Unreachable,
    Unsupported,
)
from headrace.library import hub as our_hub
from headrace.library.files import SPARE_BYTES
from headrace.library.models import Library
from headrace.library.names import Name
from headrace.library.progress import Progress
from headrace.library.pull import pull
from headrace.library.registry.client import Registry
from headrace.library.store import Store
from tests.library.fake_hub import Hub, hub

NAME = Name.parse("hf.co/a/b")
WEIGHTS = Random(1).randbytes(200_000)
FILES = {
    "config.json": json.dumps({"model_type": "lfm2"}).encode(),
    "tokenizer.json": b"{}",
    "tokenizer_config.json": b"{ }",
    "chat_template.jinja": b"{{ messages }}",
    "model.safetensors": WEIGHTS,
    "LICENSE": b"be nice",
    "README.md": b"# a model",
    "pytorch_model.bin": b"no",
    "onnx/model.safetensors": b"no",
}
WANTED = {name for name in FILES if name not in ("README.md", "pytorch_model.bin", "onnx/model.safetensors")}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("HEADRACE_OFFLINE", "HF_HUB_OFFLINE", "HF_TOKEN", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "packed"))
    return tmp_path / "hub"


@pytest.fixture
def site() -> Iterator[Hub]:
    with hub(files=dict(FILES)) as found:
        yield found


class Left(Exception): ...


def leave(step: Progress) -> None:
    if step.total:
        raise Left


def fetch(site: Hub) -> tuple[Path, list[Progress]]:
    steps = list[Progress]()
    return our_hub.fetch(NAME, steps.append, endpoint=site.url), steps


def test_a_folder_comes_into_hugging_faces_own_cache(site: Hub, cache: Path) -> None:
    folder, steps = fetch(site)
    assert cache in folder.parents
    assert {path.name for path in folder.iterdir()} == WANTED
    assert all((folder / name).read_bytes() == FILES[name] for name in WANTED)
    assert [(step.status, step.total) for step in (steps[0], steps[-1])] == [("pulling a/b", None), ("success", None)]
    of_bytes = [step for step in steps if step.total and step.status == "pulling a/b"]
    total = sum(len(FILES[name]) for name in WANTED - {"config.json"})
    assert (of_bytes[-1].total, of_bytes[-1].completed) == (total, total)


def test_the_library_finds_it(site: Hub, cache: Path, tmp_path: Path) -> None:
    folder, _ = fetch(site)
    assert Library(Store(tmp_path / "store"), hub=cache).find("hf.co/a/b").path == folder


def test_a_second_time_nothing_comes(site: Hub) -> None:
    folder, _ = fetch(site)
    site.asked.clear()
    again, steps = fetch(site)
    assert again == folder
    assert [line for line in site.asked if "/resolve/" in line] == []
    assert steps[-1].status == "success"


def test_other_bytes_than_its_digest_says_are_dropped(site: Hub, cache: Path) -> None:
    site.sent["model.safetensors"] = bytes(len(WEIGHTS))
    with pytest.raises(FileInvalid, match=r"hf.co/a/b: model.safetensors was received with the digest sha256:"):
        fetch(site)
    assert list(cache.rglob("model.safe*")) == []
    site.sent.clear()
    folder, steps = fetch(site)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert [step.total for step in steps if step.status.startswith("verifying")] == [len(WEIGHTS)]


KILLED = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.library.test_hub import NAME, our_hub

def report(step):
    if step.status.startswith("verifying"):
        os.kill(os.getpid(), signal.SIGKILL)

our_hub.fetch(NAME, report, endpoint=sys.argv[1])
"""


def test_what_a_killed_pull_did_not_check_the_next_one_does(site: Hub, tmp_path: Path) -> None:
    site.sent["model.safetensors"] = bytes(len(WEIGHTS))
    ended = subprocess.run([sys.executable, "-c", KILLED, site.url], capture_output=True, text=True, timeout=100)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    site.sent.clear()
    with pytest.raises(FileInvalid, match=r"model\.safetensors was received with the digest sha256:"):
        fetch(site)
    folder, _ = fetch(site)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert not list((tmp_path / "packed" / "unchecked").iterdir()), "nothing is left to check"
    assert not any(step.status.startswith("verifying") for step in fetch(site)[1])


def test_one_damaged_file_does_not_hide_another(site: Hub) -> None:
    site.files["more.safetensors"] = WEIGHTS[::-1]
    site.sent |= {"model.safetensors": bytes(len(WEIGHTS)), "more.safetensors": bytes(len(WEIGHTS))}
    with pytest.raises(FileInvalid, match=r"model\.safetensors was received"):
        fetch(site)
    site.sent.clear()
    with pytest.raises(FileInvalid, match=r"more\.safetensors was received"):
        fetch(site)
    folder, _ = fetch(site)
    assert (folder / "more.safetensors").read_bytes() == WEIGHTS[::-1]


@pytest.mark.parametrize("noise", [b"[" * 100_000, b"\xff", b"{}", b'["../../config.json", 3, null, "x.safetensors"]'])
def test_what_is_left_to_check_is_read_with_care(noise: bytes, site: Hub, tmp_path: Path) -> None:
    with pytest.raises(Left):
        our_hub.fetch(NAME, leave, endpoint=site.url)
    (mark,) = (tmp_path / "packed" / "unchecked").iterdir()
    mark.write_bytes(noise)
    folder, _ = fetch(site)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_what_is_left_to_check_lies_in_the_folder(site: Hub, tmp_path: Path) -> None:
    """A file of the user's, of which nobody knows what it should be, would be dropped."""
    with pytest.raises(Left):
        our_hub.fetch(NAME, leave, endpoint=site.url)
    (mark,) = (tmp_path / "packed" / "unchecked").iterdir()
    dear, link = tmp_path / ("0" * 64), tmp_path / "dear.safetensors"
    dear.write_bytes(b"Dear")
    link.symlink_to(dear)
    mark.write_text(json.dumps([str(link), "../" * 20 + str(link)[1:]]))
    fetch(site)
    assert dear.read_bytes() == b"Dear"


def test_a_cache_that_cannot_be_written_to_keeps_no_model_away(site: Hub, tmp_path: Path) -> None:
    (tmp_path / "packed").write_bytes(b"in the way")
    folder, _ = fetch(site)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_token_of_the_environment(site: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch(site)
    assert set(site.keys) == {"Bearer hf_secret"}


def test_whoever_leaves_ends_the_download(site: Hub) -> None:
    with pytest.raises(Left):  # as it is
        our_hub.fetch(NAME, leave, endpoint=site.url)
    folder, _ = fetch(site)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_download_that_was_left_ends_at_its_next_bytes() -> None:
    done, left = [0], Event()
    bar = our_hub._bar(done, left)(unit="B", total=10, name="snapshot")
    bar.update(3)
    our_hub._bar(done, left)(unit="B", total=10, name="snapshot.transfer").update(3)
    our_hub._bar(done, left)(unit="it", total=10).update(1)
    assert done == [3]
    left.set()
    with pytest.raises(our_hub._Left):
        bar.update(1)


@pytest.mark.parametrize(
    ("status", "code", "kind", "sentence"),
    [
        (
            404,
            "RepoNotFound",
            ModelNotFound,
            "hf.co has no a/b, or it is private: look at its spelling, or put a token",
        ),
        (401, "RepoNotFound", ModelNotFound, "hf.co has no a/b, or it is private"),
        (403, "GatedRepo", Forbidden, "hf.co/a/b is gated: ask for access there, and put a token into HF_TOKEN"),
        (418, "", ServerFailed, "hf.co answers with the status 418: try again later"),
    ],
)
def test_what_the_site_refuses(status: int, code: str, kind: type[HeadraceError], sentence: str, site: Hub) -> None:
    site.refuses = (status, code)
    with pytest.raises(kind, match=sentence):
        fetch(site)


def test_a_site_that_is_not_there() -> None:
    with hub() as gone:
        pass
    with pytest.raises(Unreachable, match=r"nothing answers at hf\.co"):
        fetch(gone)


def test_offline(site: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_OFFLINE", "1")
    with pytest.raises(Offline, match=r"hf\.co is not asked, since HEADRACE_OFFLINE is set"):
        fetch(site)
    assert site.asked == []


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"config.json": b'{"model_type": "mamba"}', "model.safetensors": b"x"}, "model_type 'mamba' is not supported"),
        ({"README.md": b"x"}, "has neither GGUF files nor safetensors and a config.json"),
        ({"model.safetensors": b"x"}, "has neither GGUF files nor safetensors and a config.json"),
        ({"config.json": FILES["config.json"], "model-00001-of-00002.gguf": b"x"}, "has neither GGUF files nor"),
    ],
)
def test_what_cannot_run_is_not_downloaded(files: dict[str, bytes], sentence: str) -> None:
    with hub(files=files) as site, pytest.raises(Unsupported, match=sentence):
        fetch(site)
    assert not any("GET" in line and "safetensors" in line for line in site.asked)


def test_a_disk_without_room(site: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(StoreRefused, match="MB free, but"):
        fetch(site)
    wanted = sum(len(FILES[name]) for name in WANTED - {"config.json"})
    free = SPARE_BYTES + wanted + len(WEIGHTS)  # the packed copy needs room too
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free - 1))
    with pytest.raises(StoreRefused, match="MB free, but"):
        fetch(site)
    assert not any("GET" in line and "safetensors" in line for line in site.asked)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))
    fetch(site)


@pytest.mark.parametrize("error", [RequestInvalid("hf.co refuses hf.co/a/b"), ModelNotFound("hf.co has no hf.co/a/b")])
def test_a_pull_without_gguf_is_one_of_safetensors(
    error: HeadraceError, site: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any) -> bytes:
        raise error

    monkeypatch.setattr(Registry, "manifest", none)
    monkeypatch.setattr(our_hub, "fetch", partial(our_hub.fetch, endpoint=site.url))
    store = Store(tmp_path / "store")
    steps = list[Progress]()
    assert pull(NAME, store, steps.append) is None
    assert [steps[0].status, steps[-1].status] == ["pulling manifest", "success"]
    site.files = {"config.json": b"{}"}
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "another"))
    with pytest.raises(Unsupported, match=re.escape(str(error))):  # in the registry's words
        pull(NAME, store)
    for name in ("hf.co/a/b:Q4_0", "someone/b"):  # one that names a file; one of another registry
        with pytest.raises(type(error)):
            pull(Name.parse(name), store)


def test_who_is_not_let_in_is_not_let_in_elsewhere(site: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> bytes:
        raise Forbidden("hf.co refuses the token of HF_TOKEN")

    monkeypatch.setattr(Registry, "manifest", refuse)
    monkeypatch.setattr(our_hub, "fetch", partial(our_hub.fetch, endpoint=site.url))
    with pytest.raises(Forbidden, match="refuses the token"):
        pull(NAME, Store(tmp_path / "store"))
    assert site.asked == []
