"""Pushes to a registry that does what it should, and to registries that forget, hang up, or want to know who we are."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from headrace.errors import FileInvalid, Forbidden, HeadraceError, ModelNotFound, RequestInvalid, ServerFailed
from headrace.library.manifest import digest_of
from headrace.library.names import Name
from headrace.library.progress import Progress
from headrace.library.pull import pull
from headrace.library.push import push
from headrace.library.registry.client import Options
from headrace.library.store import Store
from tests.library.fault_server import HASTY, WHILE_SENT, NoTime, Registry, registry
from tests.library.stores import install

CONTENT = Random(1).randbytes(100_000)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def target() -> Iterator[Registry]:
    with registry() as found:
        yield found


def send(target: Registry, store: Store, model: str = "a/b", **settings: Any) -> list[Progress]:
    steps = list[Progress]()
    options = Options(**{"settings": HASTY, "clock": NoTime(), **settings})
    push(Name.parse(target.name(model)), store, steps.append, options)
    return steps


def check(target: Registry, store: Store, model: str = "a/b:latest") -> None:
    """What is there is what is here, byte for byte."""
    manifest = store.manifest(Name.parse(f"{target.host}/{model}"))
    assert target.manifests[model] == manifest.raw
    for layer in manifest.blobs:
        assert target.blobs[layer.digest] == store.blob(layer.digest).read_bytes()


def test_a_push_in_ollamas_words(target: Registry, store: Store) -> None:
    install(store, target.name(), CONTENT, system=b"", license=b"be nice")
    steps = send(target, store)
    check(target, store)
    assert [step.status for step in steps if not step.digest] == ["retrieving manifest", "pushing manifest", "success"]
    of_model = [step for step in steps if step.digest == digest_of(CONTENT)]
    assert of_model[0].fields() == {
        "status": f"pushing {digest_of(CONTENT)[7:19]}",
        "digest": digest_of(CONTENT),
        "total": 100_000,
        "completed": 0,
    }
    completed = [step.completed or 0 for step in of_model]
    assert completed == sorted(completed)
    assert completed[-1] == 100_000
    assert len(target.asks("PATCH")) == 7 + 1 + 1, "in chunks of 16 KiB; nothing is a chunk of what is empty"


def test_what_is_pushed_can_be_pulled(target: Registry, store: Store, tmp_path: Path) -> None:
    install(store, target.name(), CONTENT)
    send(target, store)
    other = Store(tmp_path / "other")
    manifest = pull(Name.parse(target.name()), other, options=Options(settings=HASTY))
    assert manifest == store.manifest(Name.parse(target.name()))
    assert other.blob(digest_of(CONTENT)).read_bytes() == CONTENT


def test_a_second_push_sends_the_manifest_alone(target: Registry, store: Store) -> None:
    install(store, target.name(), CONTENT, license=b"be nice")
    send(target, store)
    target.asked.clear()
    send(target, store)
    assert [line.split()[0] for line in target.asked] == ["HEAD", "HEAD", "HEAD", "PUT"]


def test_a_copy_is_not_sent_again(target: Registry, store: Store) -> None:
    install(store, target.name(), CONTENT)
    send(target, store)
    store.copy(Name.parse(target.name()), Name.parse(target.name("c/d")))
    target.asked.clear()
    send(target, store, "c/d")
    check(target, store, "c/d:latest")
    assert [line.partition("from=")[2] for line in target.asks("POST")] == ["a%2Fb", "a%2Fb"]
    assert target.asks("PATCH") == []


def test_a_copy_whose_source_may_not_be_seen_is_sent(target: Registry, store: Store) -> None:
    install(store, target.name("c/d"), CONTENT)
    install(store, target.name(), CONTENT)
    target.refuses["mount="] = 401
    send(target, store)
    check(target, store)


def test_a_copy_whose_source_has_nothing_is_sent_where_the_registry_says(target: Registry, store: Store) -> None:
    install(store, target.name("c/d"), CONTENT)
    install(store, target.name(), CONTENT)
    send(target, store)
    check(target, store)
    assert len(target.asks("POST")) == 2, "one for each blob"


@pytest.mark.parametrize("kind", WHILE_SENT)
def test_it_goes_on(target: Registry, store: Store, kind: str) -> None:
    target.faults, target.kinds_sent = 5, (kind,)
    install(store, target.name(), CONTENT, license=b"b")
    send(target, store)
    check(target, store)
    assert target.faults < 5, "it has gone wrong"
    if kind == "drop":
        assert target.begun <= 4, "an upload that was cut goes on"


def test_tries_that_bring_something_do_not_count(target: Registry, store: Store) -> None:
    target.faults, target.luck, target.kinds_sent = 20, 0, ("drop",)
    install(store, target.name(), CONTENT)
    send(target, store, settings=replace(HASTY, tries=4))
    check(target, store)
    assert target.faults == 0


def test_an_end_whose_answer_was_lost_is_one(target: Registry, store: Store) -> None:
    target.faults, target.luck, target.kinds_sent = 10**6, 0, ("lost commit",)
    install(store, target.name(), CONTENT)
    send(target, store, settings=replace(HASTY, tries=2))
    check(target, store)
    assert len(target.asks("PATCH")) == 7 + 1


def test_what_is_removed_while_it_is_sent_is_sent(target: Registry, store: Store) -> None:
    manifest = install(store, target.name(), CONTENT, license=b"be nice")

    def remove(step: Progress) -> None:
        if step.digest and store.names():
            store.remove(Name.parse(target.name()))

    push(Name.parse(target.name()), store, remove, Options(settings=HASTY))
    assert store.names() == []
    assert target.manifests["a/b:latest"] == manifest.raw


@pytest.mark.parametrize("seed", range(10))
def test_whatever_goes_wrong_for_a_while(target: Registry, store: Store, seed: int) -> None:
    target.random, target.faults = Random(seed), 25
    install(store, target.name(), CONTENT, license=b"be nice")
    send(target, store)
    check(target, store)


def test_it_is_pushed_in_the_name_of_a_key(tmp_path: Path, store: Store) -> None:
    with registry(wants="key", token_uses=4) as target:
        install(store, target.name(), CONTENT)
        send(target, store)
        check(target, store)
        assert len(target.keys) >= 3, "tokens expire"
    key = tmp_path / "home" / "id_ed25519"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert set(target.keys) == {key.with_suffix(".pub").read_text().split()[1]}


def test_a_key_may_lie_elsewhere(tmp_path: Path, store: Store) -> None:
    with registry(wants="key") as target:
        install(store, target.name())
        send(target, store, key=tmp_path / "mine")
    assert (tmp_path / "mine").exists()
    assert not (tmp_path / "home").exists()


def test_a_registry_that_lets_nobody_push(store: Store) -> None:
    with registry(wants="nothing") as target:
        install(store, target.name())
        with pytest.raises(Forbidden, match="does not let in the owner of this key"):
            send(target, store)
        assert target.manifests == {}


@pytest.mark.parametrize(
    ("part", "status", "kind", "sentence"),
    [
        ("PATCH", 500, ServerFailed, "the status 500: it is 500"),
        ("PATCH", 400, RequestInvalid, "refuses 127.0.0.1:[0-9]+/a/b: it is 400"),
        ("POST", 403, Forbidden, "does not let us at"),
        ("PUT /v2/a/b/manifests", 413, ServerFailed, "the status 413"),
        ("HEAD", 503, ServerFailed, "the status 503"),
    ],
)
def test_it_ends_in_a_sentence(
    part: str, status: int, kind: type[HeadraceError], sentence: str, target: Registry, store: Store
) -> None:
    install(store, target.name(), CONTENT)
    target.refuses[part] = status
    with pytest.raises(HeadraceError, match=sentence) as raised:
        send(target, store, settings=replace(HASTY, tries=3, first_tries=3))
    assert type(raised.value) is kind
    assert target.manifests == {}


def test_a_model_that_is_not_here(target: Registry, store: Store) -> None:
    with pytest.raises(ModelNotFound):
        send(target, store)
    assert target.asked == []


def test_a_model_that_is_not_whole(target: Registry, store: Store) -> None:
    install(store, target.name(), CONTENT)
    store.blob(digest_of(CONTENT)).unlink()
    with pytest.raises(FileInvalid, match=f"{digest_of(CONTENT)} is missing or not whole: pull it again"):
        send(target, store)
    assert target.asked == []


def test_a_blob_that_became_another(target: Registry, store: Store) -> None:
    install(store, target.name(), CONTENT)
    store.blob(digest_of(CONTENT)).write_bytes(bytes(len(CONTENT)))
    with pytest.raises(RequestInvalid, match="refuses"):
        send(target, store)
    assert target.manifests == {}


def test_a_name_of_nobodys(store: Store) -> None:
    install(store, "lfm2:mine")
    with pytest.raises(RequestInvalid, match="lfm2:mine names nobody whose it would be: copy it to YOUR-NAME/lfm2 and"):
        push(Name.parse("lfm2:mine"), store)


def test_what_belongs_to_ollama_is_pushed_and_not_written_to(target: Registry, store: Store) -> None:
    install(store, target.name())
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*")}
    send(target, Store(store.root, can_write=False))
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*")} == before
    check(target, store)
