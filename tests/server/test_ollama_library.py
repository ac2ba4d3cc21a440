"""What Ollama's API tells of the models that a server has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from headrace import nano
from headrace.summary import human_count
from tests.server import thinker
from tests.server.live import Live, running


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server with nano under a second name, with a tag, and a file that is no model."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "broken.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    with running(models=[f"small:q8={nano.FILE}", str(folder / "broken.gguf")], num_ctx=1024) as one:
        yield one


def listed(live: Live) -> dict[str, dict[str, Any]]:
    return {model["name"]: model for model in httpx.get(f"{live.url}/api/tags").json()["models"]}


def test_a_damaged_file_hides_no_other(two: Live) -> None:
    models = listed(two)
    assert {"nano:latest", "small:q8"} <= models.keys()
    assert "broken:latest" not in models
    assert models["small:q8"]["digest"] == models["nano:latest"]["digest"]
    shown = httpx.post(f"{two.url}/api/show", json={"model": "broken"})
    assert (shown.status_code, "broken.gguf" in shown.json()["error"]) == (422, True)


def test_a_row_of_the_list(two: Live) -> None:
    nano_ = listed(two)["nano:latest"]
    assert nano_ == {
        "name": "nano:latest",
        "model": "nano:latest",
        "size": nano.FILE.stat().st_size,
        "modified_at": nano_["modified_at"],
        "digest": nano_["digest"],
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": "lfm2moe",
            "families": ["lfm2moe"],
            "parameter_size": "13.76M",
            "quantization_level": "Q8_0",
            "context_length": 4096,
            "embedding_length": 256,
        },
        "capabilities": ["completion", "tools"],
    }
    assert len(nano_["digest"]) == 64


def test_names(two: Live) -> None:
    for name in ("small:q8", "SMALL:Q8"):
        said = httpx.post(f"{two.url}/api/chat", json={"model": name}).json()
        assert (said["model"], said["done_reason"]) == (name, "load")
    (running_,) = httpx.get(f"{two.url}/api/ps").json()["models"]
    assert (running_["name"], running_["context_length"]) == ("small:q8", 1024)
    assert httpx.post(f"{two.url}/api/chat", json={"model": "small"}).status_code == 404
    assert httpx.post(f"{two.url}/api/show", json={"name": "nano"}).status_code == 200


def test_a_model_that_knows_no_tools(tmp_path: Path) -> None:
    header = {"tokenizer__chat_template": "{{ messages[0].content }}", "general__file_type": 15}
    path = thinker.write(tmp_path / "plain.gguf", thinks=False, **header)
    with running(models=[str(path)]) as live:
        assert listed(live)["plain:latest"]["capabilities"] == ["completion"]
        assert listed(live)["plain:latest"]["details"]["quantization_level"] == "Q4_K_M"
        tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
        asked = {"model": "plain", "messages": [{"role": "user", "content": "Hi"}], "options": {"num_predict": 1}}
        refused = httpx.post(f"{live.url}/api/chat", json={**asked, "tools": [tool]})
        assert (refused.status_code, refused.json()["error"]) == (400, '"plain" does not support tools')
        assert httpx.post(f"{live.url}/api/chat", json={**asked, "tools": []}).status_code == 200


def test_show(live: Live) -> None:
    shown = httpx.post(f"{live.url}/api/show", json={"model": "nano", "system": "x", "options": {}}).json()
    info = shown["model_info"]
    assert info["general.parameter_count"] == 13_763_800
    assert info["general.basename"] == "nano"
    assert info["lfm2moe.embedding_length"] == 256
    assert info["lfm2moe.attention.head_count_kv"] == [0, 0, 4, 0, 4, 4, 0, 4, 0, 4, 0, 4]
    assert info["tokenizer.ggml.tokens"] is None
    assert "tokenizer.chat_template" not in info
    assert shown["modelfile"].startswith('FROM nano:latest\nTEMPLATE """')
    assert "PARAMETER min_p 0.15\n" in shown["modelfile"]
    assert shown["parameters"].splitlines()[1] == f"{'min_p':<30} 0.15"
    verbose = httpx.post(f"{live.url}/api/show", json={"model": "nano", "verbose": True}).json()
    assert verbose["model_info"]["tokenizer.ggml.tokens"][7] == "<|im_end|>"


def test_a_folder_is_shown_as_a_file_is(tmp_path: Path) -> None:
    from tests import random_models

    folder = random_models.save_tokenizer(random_models.save(random_models.moe(), tmp_path / "folder"))
    with running(models=[str(folder)]) as live:
        row = listed(live)["folder:latest"]
        assert (row["details"]["format"], row["details"]["family"]) == ("safetensors", "lfm2moe")
        assert row["details"]["quantization_level"] == "F32"
        assert row["size"] > 1000
        info = httpx.post(f"{live.url}/api/show", json={"model": "folder"}).json()["model_info"]
        assert info["general.architecture"] == "lfm2moe"
        assert info["lfm2moe.block_count"] > 0
        assert info["lfm2moe.expert_count"] > 1


@pytest.mark.parametrize(
    ("count", "text"),
    [(999, "999"), (12_345, "12K"), (13_763_800, "13.76M"), (8_300_000_000, "8.3B"), (24_000_000_000, "24B")],
)
def test_sizes_as_ollama_writes_them(count: int, text: str) -> None:
    assert human_count(count) == text
