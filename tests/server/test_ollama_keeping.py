"""The verbs of Ollama's API that change the library: pull, push, copy, delete."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import httpx
import ollama
import pytest

from headrace import nano
from headrace.keys import Key
from headrace.library.manifest import digest_of, parse
from headrace.library.names import Name
from headrace.library.store import Store
from headrace.server.guard import Doors
from tests.library.fault_server import HASTY, Registry, registry
from tests.library.stores import install
from tests.server import process, raw
from tests.server.library import WAIT_S, ask, ended, keeping, lines, loaded, refused, store, tags
from tests.server.live import Live
from tests.server.test_ollama_client import Asynchronous, Blocking
from tests.server.tiny import until

CONTENT = Random(1).randbytes(100_000)
MODEL = nano.FILE.read_bytes()
PARAMETERS = b'{"num_predict":2,"temperature":0}'
HELLO = [{"role": "user", "content": "Hello!"}]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def live() -> Iterator[Live]:
    with keeping() as one:
        yield one


@pytest.fixture
def hasty() -> Iterator[Live]:
    """One that asks for small parts."""
    with keeping(HASTY) as one:
        yield one


@pytest.fixture
def source() -> Iterator[Registry]:
    with registry() as found:
        found.keep(content=CONTENT)
        found.keep("library/small:latest", MODEL, params=PARAMETERS, license=b"be nice")
        yield found


# --- pull


@pytest.mark.parametrize("kind", [Blocking, Asynchronous])
def test_pull_by_ollamas_client(kind: type[Blocking], live: Live, source: Registry) -> None:
    client, name = kind(live.url), source.name("library/small")
    parts = client.pull(name, stream=True)
    manifest = parse(source.manifests["library/small:latest"], "")
    assert [parts[0].status, parts[-2].status, parts[-1].status] == ["pulling manifest", "writing manifest", "success"]
    assert "verifying sha256 digest" in [part.status for part in parts]
    weights = [part for part in parts if part.digest == manifest.of("model")[0].digest]
    assert (weights[-1].completed, weights[-1].total) == (len(MODEL), len(MODEL))
    assert weights[-1].status == f"pulling {weights[-1].digest[7:19]}"

    (row,) = [model for model in client.list().models if model.model == f"{name}:latest"]
    assert (row.digest, row.size) == (manifest.digest.removeprefix("sha256:"), manifest.size_bytes)
    shown = client.show(name)
    assert shown.license == "be nice"
    assert f"{'num_predict':<30} 2" in shown.parameters.splitlines()
    assert client.chat(name, HELLO).message.content == "Hello!"
    assert [model.model for model in client.ps().models] == [f"{name}:latest"]
    assert client.pull(name).status == "success", "again"


def test_frames_of_a_pull(live: Live, source: Registry) -> None:
    whole = lines(ask(live, "pull", name=source.name()))
    digest = digest_of(CONTENT)
    assert whole[0] == {"status": "pulling manifest"}
    assert [whole[-3], whole[-1]] == [{"status": "writing manifest"}, {"status": "success"}]
    assert whole[-2]["status"].startswith(f"it cannot run here: {source.name()}: "), "its content is none"
    told = {"status": f"pulling {digest[7:19]}", "digest": digest, "total": len(CONTENT), "completed": len(CONTENT)}
    assert told in whole
    response = ask(live, "pull", model=source.name(), stream=False)
    assert (response.headers["content-type"], response.json()) == ("application/json", {"status": "success"})


def test_what_is_not_there(live: Live, source: Registry) -> None:
    name = source.name("a/other")
    whole = lines(ask(live, "pull", model=name))
    assert whole[0] == {"status": "pulling manifest"}
    assert whole[1].keys() == {"error"}
    assert f"{source.host} has no {name}" in whole[1]["error"]
    assert f"{source.host} has no {name}" in refused(live, 404, "pull", model=name, stream=False)
    with pytest.raises(ollama.ResponseError, match=f"has no {name}"):
        Blocking(live.url).pull(name, stream=True)


def test_what_is_wrong_before_the_first_line_has_its_status(
    live: Live, source: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stream in (True, False):
        assert "HEADRACE_REGISTRIES" in refused(live, 403, "pull", model="evil.example/a/b", stream=stream)
        assert "is no model's name" in refused(live, 400, "pull", model="a/b/c/d/e", stream=stream)
    plain = f"http://{source.name()}"
    assert "unencrypted" in refused(live, 400, "pull", model=plain)
    assert ask(live, "pull", model=plain, insecure=True, stream=False).status_code == 200
    insecure = {"model": "http://evil.example/a/b", "insecure": True}
    assert "HEADRACE_REGISTRIES" in refused(live, 403, "pull", **insecure)
    monkeypatch.setenv("HEADRACE_OFFLINE", "1")
    assert "HEADRACE_OFFLINE" in refused(live, 424, "pull", model=source.name())


def test_a_registry_that_fails(hasty: Live) -> None:
    with registry(refuses={"manifests": 500}) as source:
        assert "status 500" in refused(hasty, 502, "pull", model=source.name(), stream=False)
        name = source.name()
    assert "nothing answers" in refused(hasty, 424, "pull", model=name, stream=False)


def test_a_pull_that_is_cut_on_the_way_goes_on(hasty: Live) -> None:
    with registry(faults=20, kinds=("drop", "hang up", "503")) as source:
        source.keep(content=CONTENT)
        assert lines(ask(hasty, "pull", model=source.name()))[-1] == {"status": "success"}
        assert source.faults < 20, "some were had"
        assert store().blob(digest_of(CONTENT)).read_bytes() == CONTENT


def test_another_digest_is_an_error_and_no_model(live: Live, source: Registry) -> None:
    source.blobs[digest_of(CONTENT)] = bytes(len(CONTENT))
    *_, last = lines(ask(live, "pull", model=source.name()))
    assert "has the digest" in last["error"]
    assert "has the digest" in refused(live, 422, "pull", model=source.name(), stream=False)
    assert store().names() == []
    assert not store().has_blob(digest_of(CONTENT))


def test_a_client_that_goes_away_ends_the_pull_and_what_came_stays(hasty: Live, source: Registry) -> None:
    source.stops_at = 40_000
    body = {"model": source.name()}
    with httpx.stream("POST", f"{hasty.url}/api/pull", json=body, timeout=WAIT_S) as response:
        next(line for line in response.iter_lines() if json.loads(line).get("completed", 0) > 20_000)
    ended(hasty)
    assert httpx.get(f"{hasty.url}/health").status_code == 200
    assert [path.suffix for path in sorted((store().root / "partial").iterdir())].count(".journal") >= 1
    source.stops_at, before = 0, source.served
    assert lines(ask(hasty, "pull", model=source.name()))[-1] == {"status": "success"}
    assert source.served - before < 90_000, "it went on from there"
    assert store().blob(digest_of(CONTENT)).read_bytes() == CONTENT


def test_so_does_one_that_waits_for_the_end_alone(hasty: Live, source: Registry) -> None:
    source.stops_at = 40_000
    with raw.connected(hasty.url) as one:
        one.sendall(raw.request("/api/pull", {"model": source.name(), "stream": False}))
        until(lambda: source.served >= 40_000)
    ended(hasty)
    assert store().names() == []


def test_two_pulls_of_one_model_move_it_once(live: Live, source: Registry) -> None:
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, live, "pull", model=source.name("library/small")) for _ in range(4)]
        assert all(lines(one.result())[-1] == {"status": "success"} for one in asked)
    blobs = parse(source.manifests["library/small:latest"], "").blobs
    assert source.served == sum(layer.size for layer in blobs)


def test_who_waits_for_another_pull_can_leave(hasty: Live, source: Registry) -> None:
    source.stops_at = 40_000
    one = {"json": {"model": source.name()}, "timeout": WAIT_S}
    with httpx.stream("POST", f"{hasty.url}/api/pull", **one) as first:  # type: ignore[arg-type]
        first_lines = first.iter_lines()
        next(line for line in first_lines if "completed" in line)
        with httpx.stream("POST", f"{hasty.url}/api/pull", **one) as second:  # type: ignore[arg-type]
            next(line for line in second.iter_lines() if "waiting for another pull" in line)
            assert Blocking(hasty.url).chat("nano", HELLO, options={"num_predict": 1}).eval_count == 1, "others go on"
        alive = lambda: [thread for thread in hasty.house.works._running.values() if thread.is_alive()]  # noqa: E731
        until(lambda: len(alive()) == 1)
    ended(hasty)


def test_the_servers_end_ends_a_pull(source: Registry) -> None:
    source.stops_at = 40_000
    with (
        keeping(HASTY, grace_s=0) as live,
        httpx.stream("POST", f"{live.url}/api/pull", json={"model": source.name()}, timeout=WAIT_S) as response,
    ):
        told = response.iter_lines()
        next(line for line in told if "completed" in line)
        live.server.should_exit = True
        *_, last = told
    assert json.loads(last) == {"error": "the server is shutting down: try again later"}
    assert live.house.close()
    assert (store().root / "partial").exists()


def test_a_signal_ends_one_in_order_and_what_came_stays(source: Registry, tmp_path: Path) -> None:
    source.stops_at = 40_000
    with (
        process.serving("--grace", "100ms", HEADRACE_CACHE=str(tmp_path / "cache")) as served,
        httpx.stream("POST", f"{served.url}/api/pull", json={"model": source.name()}, timeout=WAIT_S) as response,
    ):
        told = response.iter_lines()
        next(line for line in told if json.loads(line).get("completed", 0) > 20_000)
        served.process.send_signal(signal.SIGTERM)
        *_, last = told
        assert json.loads(last) == {"error": "the server is shutting down: try again later"}
        assert served.ended() == 0
        until(lambda: served.lines and served.lines[-1].endswith("info ended\n"))
    (layer,) = parse(source.manifests["a/b:latest"], "").of("model")
    assert store().received(layer) > 20_000


def test_a_loaded_model_makes_room_for_what_has_its_name_now(live: Live, source: Registry) -> None:
    name, client = source.name("library/small"), Blocking(live.url)
    client.pull(name)
    assert client.chat(name, HELLO).eval_count == 2
    client.pull(name)
    assert loaded(live) == [f"{name}:latest"], "it is the same"
    source.keep("library/small:latest", MODEL, params=b'{"num_predict":1,"temperature":0}')
    client.pull(name)
    assert loaded(live) == []
    assert client.chat(name, HELLO).eval_count == 1


def test_what_the_server_was_started_with_comes_from_nowhere(live: Live) -> None:
    assert lines(ask(live, "pull", model="Nano"))[-1] == {"status": "success"}
    assert store().names() == []


# --- push


@pytest.mark.parametrize("kind", [Blocking, Asynchronous])
def test_push_by_ollamas_client(kind: type[Blocking], live: Live, source: Registry) -> None:
    client, name = kind(live.url), f"{source.host}/me/mine"
    install(store(), name, CONTENT)
    parts = client.push(name, stream=True)
    assert [part.status for part in (parts[0], *parts[-2:])] == ["retrieving manifest", "pushing manifest", "success"]
    assert source.manifests["me/mine:latest"] == store().manifest(Name.parse(name)).raw
    assert client.push(name).status == "success"


def test_what_cannot_be_pushed(live: Live, source: Registry) -> None:
    install(store(), "mine")
    assert "copy it to YOUR-NAME/mine" in refused(live, 400, "push", model="mine")
    assert "create a model from it, and push that" in refused(live, 400, "push", model="nano")
    assert refused(live, 404, "push", model="other").startswith("model 'other' not found")
    install(store(), f"{source.host}/me/mine")
    source.refuses = {"uploads": 403}
    *_, last = lines(ask(live, "push", model=f"{source.host}/me/mine"))
    assert "does not let us at" in last["error"]


# --- copy


def test_copy(live: Live) -> None:
    manifest = install(store(), "Mine:Small", MODEL, license=b"be nice")
    response = ask(live, "copy", source="mine:small", destination="Copies/Other")
    assert (response.status_code, response.content) == (200, b"")
    assert store().manifest(Name.parse("copies/other")) == manifest
    assert tags(live)["Copies/Other:latest"]["digest"] == tags(live)["Mine:Small"]["digest"]
    assert Blocking(live.url).copy("mine:small", "third").status == "success"


def test_nano_can_be_copied(live: Live) -> None:
    assert ask(live, "copy", source="nano", destination="mine").status_code == 200
    assert tags(live)["mine:latest"]["details"] == tags(live)["nano:latest"]["details"]


def test_what_cannot_be_copied(live: Live) -> None:
    assert refused(live, 404, "copy", source="other", destination="x").startswith("model 'other' not found")
    assert "take another name" in refused(live, 400, "copy", source="nano", destination="library/NANO:latest")
    assert "is no model's name" in refused(live, 400, "copy", source="nano", destination="/etc/passwd")
    assert refused(live, 400, "copy", source="nano", destination=" ") == 'destination " " is invalid'
    with keeping(models=[f"given={nano.FILE}"]) as other:
        assert "create a model from it" in refused(other, 400, "copy", source="given", destination="x")
    assert store().names() == []


# --- delete


def test_delete(live: Live) -> None:
    install(store(), "mine", MODEL)
    client = Blocking(live.url)
    client.chat("mine", HELLO, options={"num_predict": 1})
    assert loaded(live) == ["mine:latest"]
    response = ask(live, "delete", model="MINE:latest")
    assert (response.status_code, response.content) == (200, b"")
    assert (loaded(live), store().names(), list(store().blobs.iterdir())) == ([], [], [])
    assert refused(live, 404, "delete", name="mine").startswith("model 'mine' not found")
    install(store(), "mine")
    assert client.delete("mine").status == "success"


def test_a_damaged_model_can_be_deleted(live: Live) -> None:
    manifest = install(store(), "mine")
    store().blob(manifest.layers[0].digest).unlink()
    assert ask(live, "delete", model="mine").status_code == 200
    store().place_of(Name.parse("other")).parent.mkdir(parents=True)
    store().place_of(Name.parse("other")).write_bytes(b"no manifest")
    assert ask(live, "delete", model="other").status_code == 200
    assert store().names() == []


def test_what_is_not_ours_is_not_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    theirs = Store(tmp_path / "ollama")
    manifest = install(theirs, "theirs", MODEL)
    with keeping(models=[f"given={nano.FILE}"]) as live:
        for name in ("given", "nano", "library/nano"):
            assert "the server was started with it" in refused(live, 400, "delete", model=name)
        assert "is kept by another program" in refused(live, 422, "delete", model="theirs")
        assert "theirs:latest" in tags(live)
        assert ask(live, "copy", source="theirs", destination="ours").status_code == 200
    assert theirs.manifest(Name.parse("theirs")) == manifest
    assert store().manifest(Name.parse("ours")).layers == manifest.layers


def test_a_model_is_deleted_by_its_own_name(live: Live) -> None:
    install(store(), "hf.co/LiquidAI/LFM2-350M-GGUF:Q4_0", MODEL)
    assert "hf.co/LiquidAI/LFM2-350M-GGUF:Q4_0 here" in refused(live, 400, "delete", model="lfm2:350m")
    assert "hf.co/LiquidAI/LFM2-350M-GGUF:Q4_0" in tags(live)


# --- for whom

FAR = {"X-Forwarded-For": "192.168.1.9"}  # which is believed of a proxy on this machine
VERBS: dict[str, dict[str, Any]] = {
    "pull": {"model": "a/b"},
    "push": {"model": "mine"},
    "create": {"model": "x", "from": "nano"},
    "copy": {"source": "mine", "destination": "x"},
    "delete": {"model": "mine"},
    f"blobs/{digest_of(b'')}": {},
}


@pytest.mark.parametrize("verb", VERBS)
def test_others_may_ask_a_server_without_a_key_and_change_nothing(verb: str, live: Live) -> None:
    install(store(), "mine")
    method = "DELETE" if verb == "delete" else "POST"
    answer = httpx.request(method, f"{live.url}/api/{verb}", json=VERBS[verb], headers=FAR)
    assert (answer.status_code, "start it with --api-key" in answer.text) == (403, True)
    page = httpx.request(method, f"{live.url}/api/{verb}", json=VERBS[verb], headers={"Origin": "https://evil.example"})
    assert (page.status_code, "--allow-origin" in page.text) == (403, True)
    assert httpx.get(f"{live.url}/api/tags", headers=FAR).status_code == 200
    assert store().names() == [Name.parse("mine")]


def test_who_has_a_key_may_from_anywhere_but_not_look_around_here(
    source: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with keeping(doors=Doors([Key("secret")])) as live, httpx.Client(timeout=WAIT_S) as client:
        client.headers["authorization"] = "Bearer secret"
        body = {"model": source.name(), "stream": False}
        far = client.post(f"{live.url}/api/pull", json=body, headers=FAR)
        assert (far.status_code, "HEADRACE_REGISTRIES" in far.text, source.asked) == (403, True, [])
        monkeypatch.setenv("HEADRACE_REGISTRIES", source.host)
        assert client.post(f"{live.url}/api/pull", json=body, headers=FAR).status_code == 200
