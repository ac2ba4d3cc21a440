"""`/api/create`: models from other models, and from files that were sent; and what `/api/show` says of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ollama
import pytest

from headrace import nano
from headrace.library import modelfile
from headrace.library.manifest import digest_of, parse
from headrace.library.names import Name
from headrace.library.store import Store
from tests import random_models
from tests.library.fault_server import registry
from tests.library.stores import install
from tests.server.library import ask, keeping, lines, loaded, refused, store, tags
from tests.server.live import Live
from tests.server.test_ollama_client import Asynchronous, Blocking

MODEL = nano.FILE.read_bytes()
HELLO = [{"role": "user", "content": "Hello!"}]
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Good day"}]
GO = "{{ if .System }}{{ .System }}{{ end }}{{ .Prompt }}"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def live() -> Iterator[Live]:
    with keeping() as one:
        yield one


def show(live: Live, model: str) -> dict[str, Any]:
    shown: dict[str, Any] = ask(live, "show", model=model).json()
    return shown


@pytest.mark.parametrize("kind", [Blocking, Asynchronous])
def test_create_by_ollamas_client(kind: type[Blocking], live: Live) -> None:
    client = kind(live.url)
    parts = client.create(
        "Brief",
        from_="nano",
        system="Be brief.",
        parameters={"num_predict": 1, "stop": ["x", "y"], "temperature": 0.5},
        license=["be nice", "be good"],
        messages=TURNS,
        template="{{ messages[0].content }}",
        stream=True,
    )
    assert parts[-1].status == "success"
    assert "reading model metadata" in [part.status for part in parts]
    (row,) = [model for model in client.list().models if model.model == "Brief:latest"]
    assert row.digest == store().manifest(Name.parse("brief")).digest.removeprefix("sha256:")
    assert client.chat("brief", HELLO).eval_count == 1
    assert client.create("brief", from_="brief", system="Be long.").status == "success"

    shown = show(live, "brief")
    assert (shown["system"], shown["messages"]) == ("Be long.", TURNS)
    assert (shown["license"], shown["template"]) == ("be nice\nbe good", "{{ messages[0].content }}")
    assert {f'{"stop":<30} "x"', f'{"stop":<30} "y"', f"{'num_predict':<30} 1", f"{'temperature':<30} 0.5"} <= set(
        shown["parameters"].splitlines()
    )
    made = modelfile.read(shown["modelfile"].encode())
    assert (made.source, made.system, made.licenses) == ("Brief:latest", "Be long.", ("be nice", "be good"))
    assert made.parameters["stop"] == ["x", "y"]
    assert [vars_of(message) for message in made.messages] == TURNS


def vars_of(message: modelfile.Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content}


def test_from_files_that_were_sent(live: Live, tmp_path: Path) -> None:
    client = Blocking(live.url)
    digest = client.create_blob(nano.FILE)
    for name, spelled in (("one", digest), ("two", digest.replace(":", "-"))):
        assert client.create(name, files={"nano.gguf": spelled}).status == "success"
    assert client.chat("one", HELLO, options={"num_predict": 1}).eval_count == 1
    folder = random_models.save_tokenizer(random_models.save(random_models.moe(), tmp_path / "folder"))
    files = {path.name: client.create_blob(path) for path in folder.iterdir()}
    whole = lines(ask(live, "create", model="three", files=files, quantize="q8_0"))
    assert whole[-1] == {"status": "success"}
    assert any("total" in line for line in whole)
    assert tags(live)["three:latest"]["details"]["quantization_level"] == "Q8_0"
    assert ask(live, "create", model="four", files=files, quantization="F16", stream=False).status_code == 200
    assert tags(live)["four:latest"]["details"]["quantization_level"] == "F16"


def test_as_it_was_asked_for_once(live: Live) -> None:
    body = {"name": "old", "modelfile": "FROM nano\nSYSTEM Be brief.\nPARAMETER top_k 7"}
    assert lines(ask(live, "create", **body))[-1] == {"status": "success"}
    assert (show(live, "old")["system"], "top_k" in show(live, "old")["parameters"]) == ("Be brief.", True)
    digest = Blocking(live.url).create_blob(nano.FILE)
    assert ask(live, "create", name="sent", modelfile=f"FROM @{digest}", stream=False).status_code == 200
    assert store().manifest(Name.parse("sent")).of("model")[0].digest == digest
    assert "line 2" in refused(live, 400, "create", name="x", modelfile="FROM nano\nNONSENSE 1")
    assert "leave one of the two out" in refused(live, 400, "create", name="x", modelfile="FROM nano", system="x")
    assert "invalid digest" in refused(live, 400, "create", name="x", modelfile="FROM @sha256:12")
    assert "no file of the server" in refused(live, 400, "create", name="x", modelfile="FROM /etc/passwd")


def test_from_what_the_server_was_started_with(tmp_path: Path) -> None:
    folder = random_models.save_tokenizer(random_models.save(random_models.moe(), tmp_path / "folder"))
    with keeping(models=[f"small:q8={nano.FILE}", str(folder)]) as live:
        assert ask(live, "create", model="mine", **{"from": "Small:Q8"}, stream=False).status_code == 200
        assert store().manifest(Name.parse("mine")).of("model")[0].digest == digest_of(MODEL)
        assert ask(live, "create", model="other", **{"from": "folder"}, stream=False).status_code == 200
        assert tags(live)["other:latest"]["details"]["format"] == "gguf"
        sentence = refused(live, 400, "create", model="small:q8", **{"from": "nano"})
        assert sentence.endswith("take another name")


def test_what_it_is_made_from_is_pulled_where_it_is_not_here(live: Live) -> None:
    with registry() as source:
        raw = source.keep("library/base:latest", MODEL)
        whole = lines(ask(live, "create", model="mine", **{"from": source.name("library/base")}, system="Be brief."))
        assert "pulling manifest" in [line["status"] for line in whole]
        assert [line["status"] for line in whole].count("success") == 1
        assert store().manifest(Name.parse("mine")).of("model") == parse(raw, "").of("model")
        source.asked.clear()
        assert ask(live, "create", model="mine", **{"from": source.name("library/base")}).status_code == 200
        assert source.asked == []
        *_, last = lines(ask(live, "create", model="mine", **{"from": source.name("library/none")}))
        assert "has no" in last["error"]


def test_of_a_model_of_ollamas_the_template_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    install(Store(tmp_path / "ollama"), "theirs", MODEL, template=GO.encode(), system=b"Be theirs.")
    with keeping() as live:
        assert ask(live, "create", model="ours", **{"from": "theirs"}, stream=False).status_code == 200
        shown = show(live, "ours")
    assert shown["system"] == "Be theirs."
    assert ".Prompt" not in shown["template"]


def test_a_loaded_model_makes_room_for_what_has_its_name_now(live: Live) -> None:
    client = Blocking(live.url)
    client.create("brief", from_="nano", parameters={"num_predict": 1})
    assert client.chat("brief", HELLO).eval_count == 1
    client.create("brief", from_="nano", parameters={"num_predict": 2})
    assert loaded(live) == []
    assert client.chat("brief", HELLO).eval_count == 2


WRONG: dict[str, tuple[int, dict[str, Any], str]] = {
    "from nothing": (400, {}, "give `from`, or `files`"),
    "from two": (400, {"from": "nano", "files": {"a.gguf": "sha256:" + "0" * 64}}, "give `from`, or `files`"),
    "a path": (400, {"from": "/etc/passwd"}, "no file of the server's is read for others"),
    "a path from here": (400, {"from": "./nano.gguf"}, "no file of the server's is read for others"),
    "a path of somebody": (400, {"from": "~/nano.gguf"}, "no file of the server's is read for others"),
    "adapters": (422, {"from": "nano", "adapters": {"a": "sha256:" + "0" * 64}}, "merge the adapter into its model"),
    "a renderer": (422, {"from": "nano", "renderer": "x"}, "TEMPLATE says how messages are written"),
    "a parser": (422, {"from": "nano", "parser": "x"}, "answers are read by what the model's vocabulary has"),
    "a host elsewhere": (400, {"from": "nano", "remote_host": "x"}, "remote_host: models are here"),
    "a digest": (400, {"files": {"a.gguf": "12"}}, "invalid digest format"),
    "a blob that was not sent": (400, {"files": {"a.gguf": "sha256:" + "0" * 64}}, "send it first"),
    "the name of a file": (400, {"files": {"../a.gguf": "sha256:" + "0" * 64}}, "without folders"),
    "Go": (422, {"from": "nano", "template": GO}, "Go template"),
    "a parameter": (400, {"from": "nano", "parameters": {"nonsense": 1}}, "nonsense"),
    "a value": (400, {"from": "nano", "parameters": {"top_p": 2}}, "top_p"),
    "a role": (400, {"from": "nano", "messages": [{"role": "tool", "content": "x"}]}, "role"),
    "images": (400, {"from": "nano", "messages": [{"role": "user", "images": ["x"]}]}, "messages[0].images"),
    "calls": (
        400,
        {"from": "nano", "messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]},
        "messages[0].tool_calls",
    ),
    "quantising": (400, {"from": "nano", "quantize": "q2_k"}, "q4_0, q8_0, f16, bf16"),
}


@pytest.mark.parametrize(("status", "body", "sentence"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("stream", [True, False])
def test_what_is_wrong_is_said_before_anything_is_made(
    status: int, body: dict[str, Any], sentence: str, stream: bool, live: Live
) -> None:
    assert sentence in refused(live, status, "create", model="mine", stream=stream, **body)
    assert store().names() == []


def test_what_turns_out_wrong_is_the_last_line(live: Live, tmp_path: Path) -> None:
    first, *_, last = lines(ask(live, "create", model="mine", **{"from": "nano"}, quantize="q4_0"))
    assert (first, last.keys()) == ({"status": "reading model metadata"}, {"error"})
    assert refused(live, 422, "create", model="mine", **{"from": "nano"}, quantize="q4_0", stream=False)
    (tmp_path / "no.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    digest = Blocking(live.url).create_blob(tmp_path / "no.gguf")
    for stream in (True, False):
        with pytest.raises(ollama.ResponseError, match=re.escape("no.gguf")) as raised:
            Blocking(live.url).create("mine", files={"no.gguf": digest}, stream=stream)
        assert str(tmp_path) not in str(raised.value)
    assert store().names() == []


def test_names(live: Live) -> None:
    assert refused(live, 400, "create", **{"from": "nano"}) == "model is required"
    for name in ("mi ne", "../x", "/etc/x", "a/b/c/d"):
        assert refused(live, 400, "create", model=name, **{"from": "nano"})
    for name in ("nano", "NANO:latest", "library/nano", "registry.ollama.ai/library/nano"):
        assert "take another name" in refused(live, 400, "create", model=name, **{"from": "nano"})
    assert store().names() == []
