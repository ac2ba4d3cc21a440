"""The models of a server: those that it was given, and those of the library, as they come and go."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from headrace import nano
from headrace.errors import ModelNotFound
from headrace.library.create import create
from headrace.library.home import own_store
from headrace.library.modelfile import Modelfile
from headrace.library.models import Library
from headrace.library.names import Name
from headrace.library.store import Store
from headrace.server.shelf import Shelf
from tests.library.stores import install
from tests.server import process


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))


def make(name: str, **parameters: int) -> None:
    create(Name.parse(name), own_store(), Modelfile(str(nano.FILE), parameters), folder=nano.FILE.parent)


def test_models_of_the_library_come_and_go() -> None:
    shelf = Shelf(library=Library.here())
    assert shelf.names() == shelf.fixed
    make("Mine:Small", top_k=7)
    assert [name for name in shelf.names() if name not in shelf.fixed] == ["mine:small"]
    assert shelf.find("mine:SMALL").read().defaults.parameters.top_k == 7
    own_store().remove(Name.parse("mine:small"))
    assert not shelf.has("mine:small")
    with pytest.raises(ModelNotFound, match="model 'mine:small' not found: this server has nano"):
        shelf.find("mine:small")


def test_what_is_known_of_a_model_is_that_of_the_model_now() -> None:
    shelf = Shelf(library=Library.here())
    make("mine", top_k=7)
    assert shelf.facts("mine").summary["defaults"]["top_k"]["value"] == 7
    make("mine", top_k=8)
    assert shelf.facts("mine").summary["defaults"]["top_k"]["value"] == 8


@pytest.mark.parametrize("name", ["../nano", str(nano.FILE), "nano/../nano", "a b", ""])
def test_paths_are_no_names(name: str) -> None:
    assert not Shelf(library=Library.here()).has(name)


def test_a_model_of_the_library_is_given_by_its_name() -> None:
    make("Mine:Small", top_k=7)
    library = Library.here()
    shelf = Shelf(["MINE:small", "other=mine:small", f"file={nano.FILE}", "again=nano"], library)
    assert shelf.first == "mine:small"
    assert [name for name in shelf.fixed if name != "smollm2"] == ["nano", "mine:small", "other", "file", "again"]
    for name in ("mine:small", "other"):
        assert shelf.find(name).name == name
        assert shelf.find(name).read().defaults.parameters.top_k == 7
    make("mine:small", top_k=8)
    assert shelf.find("other").read().defaults.parameters.top_k == 8, "it is that of the library now"
    own_store().remove(Name.parse("mine:small"))
    with pytest.raises(ModelNotFound, match="model 'other' not found"):
        shelf.find("other")


def test_those_of_other_stores_are_given_by_name_too(tmp_path: Path) -> None:
    theirs = Store(tmp_path / "theirs", can_write=True)
    install(theirs, "maternion/lfm2:8b", nano.FILE.read_bytes())
    snapshot = tmp_path / "hub" / "models--a--b" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (snapshot / "b-Q4_0.gguf").write_bytes(nano.FILE.read_bytes())
    library = Library(own_store(), [Store(tmp_path / "theirs", can_write=False)], tmp_path / "hub")
    shelf = Shelf(["maternion/lfm2:8b", "b=hf.co/a/b:Q4_0"], library)
    whole = theirs.manifest(Name.parse("maternion/lfm2:8b")).size_bytes  # as Ollama counts: with its config
    assert [shelf.find(name).size_bytes for name in ("maternion/lfm2:8b", "b")] == [whole, nano.FILE.stat().st_size]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("lfm2:8b", "lfm2:8b is not here yet: `headrace pull lfm2:8b` fetches it"),
        ("b=some/model", "there is no model 'some/model': `headrace pull some/model` may fetch it"),
        ("xyzzy", "there is no model 'xyzzy': `headrace pull xyzzy` may fetch it"),
        ("nanoo", "there is no model 'nanoo': did you mean nano?"),
        ("./nano", "there is no model './nano': give a file, a folder, a model's name, or NAME=MODEL"),
    ],
)
def test_what_is_not_here_is_said_at_the_start(given: str, sentence: str) -> None:
    with pytest.raises(ModelNotFound) as raised:
        Shelf([given], Library.here())
    assert str(raised.value).startswith(sentence)


def test_a_server_answers_for_them() -> None:
    with process.serving() as served, httpx.Client(base_url=served.url, timeout=60) as client:
        make("brief", num_predict=1)
        assert "brief:latest" in [one["name"] for one in client.get("/api/tags").json()["models"]]
        body = {"model": "brief", "messages": [{"role": "user", "content": "What can you do?"}], "stream": False}
        told = client.post("/api/chat", json=body).json()
        assert (told["eval_count"], told["done_reason"]) == (1, "length")
        told = client.post("/v1/chat/completions", json=body).json()
        assert told["usage"]["completion_tokens"] == 1
