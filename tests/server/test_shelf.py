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
from headrace.server.shelf import Shelf
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


def test_a_server_answers_for_them() -> None:
    with process.serving() as served, httpx.Client(base_url=served.url, timeout=60) as client:
        make("brief", num_predict=1)
        assert "brief:latest" in [one["name"] for one in client.get("/api/tags").json()["models"]]
        body = {"model": "brief", "messages": [{"role": "user", "content": "What can you do?"}], "stream": False}
        told = client.post("/api/chat", json=body).json()
        assert (told["eval_count"], told["done_reason"]) == (1, "length")
        told = client.post("/v1/chat/completions", json=body).json()
        assert told["usage"]["completion_tokens"] == 1
