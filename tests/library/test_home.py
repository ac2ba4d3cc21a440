"""Where things are, by what the environment says; and what is wrong with it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from headrace.library import home

VARIABLES = (*home.SHOWN, "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "XDG_DATA_HOME")


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (*VARIABLES, *home.PROXIES, *(variable.lower() for variable in home.PROXIES)):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_the_usual_places(tmp_path: Path) -> None:
    models, packed, own, service, hub = home.places()
    assert (models.purpose, models.origin, models.path.name) == ("models", "default", "models")
    assert packed.path.name == "packed"
    assert own.path == tmp_path / ".ollama/models"
    assert service.path == Path("/usr/share/ollama/.ollama/models")
    assert hub.path == tmp_path / ".cache/huggingface/hub"
    assert all(tmp_path in place.path.parents for place in (models, packed))
    assert [place.problem for place in (models, packed, own, hub)] == [None] * 4
    assert home.own_store().root == models.path


@pytest.mark.parametrize(
    ("variable", "purpose", "below"),
    [
        ("HEADRACE_HOME", "models", "models"),
        ("HEADRACE_CACHE", "packed weights", "packed"),
        ("OLLAMA_MODELS", "Ollama's models", ""),
        ("HF_HUB_CACHE", "Hugging Face's models", ""),
        ("HUGGINGFACE_HUB_CACHE", "Hugging Face's models", ""),
        ("HF_HOME", "Hugging Face's models", "hub"),
        ("XDG_CACHE_HOME", "Hugging Face's models", "huggingface/hub"),
    ],
)
def test_the_environment_moves_them(
    variable: str, purpose: str, below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    [place] = [place for place in home.places() if place.purpose == purpose]
    assert (place.path, place.origin) == (tmp_path / "elsewhere" / below, variable)


def test_hugging_faces_variables_have_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", "~/a")
    assert home.hub_folder().path == tmp_path / "a/hub"
    monkeypatch.setenv("HF_HUB_CACHE", "$HF_HOME/b")
    assert home.hub_folder().path == tmp_path / "a/b"


def test_what_is_in_the_way_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "file"))
    models = home.models_folder()
    assert models.problem == f"{tmp_path}/file is in the way of {tmp_path}/file/models: it is no folder"
    assert not models.exists
    assert (models.free_bytes or 0) > 0


def test_what_may_not_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    monkeypatch.setattr("os.access", lambda _, mode: not mode & 2)
    [problem] = filter(None, (place.problem for place in home.places()[:1]))
    assert problem == f"{tmp_path} cannot be written to: mend its rights, or set HEADRACE_HOME to another folder"
    assert home.hub_folder().problem is None, "that is only read"


def test_settings_are_shown_without_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dict(home.settings()) == {}
    (tmp_path / ".cache/huggingface").mkdir(parents=True)
    (tmp_path / ".cache/huggingface/token").write_text("hf_secret")
    assert dict(home.settings()) == {"HF_TOKEN": f"from {tmp_path}/.cache/huggingface/token"}
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HEADRACE_OFFLINE", "1")
    monkeypatch.setenv("https_proxy", "http://me:p@ss@proxy:8080")
    said = dict(home.settings())
    assert said == {"HEADRACE_OFFLINE": "1", "HF_TOKEN": "set", "https_proxy": "http://...@proxy:8080"}


def test_a_folder_into_which_we_may_not_look_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.stat

    def closed(path: Any, **more: Any) -> os.stat_result:
        if Path(path) != tmp_path and tmp_path in Path(path).parents:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **more)

    monkeypatch.setattr(os, "stat", closed)
    assert [place.exists for place in home.places()] == [False] * 5
    assert [place.problem for place in home.places() if not place.is_ours] == [None] * 3
    assert list(home.settings()) == []
