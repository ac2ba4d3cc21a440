"""What is loaded, as /api/ps tells it: at any time, whatever the models and their engines are busy with."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

import headrace.loading
import headrace.model
from headrace import Model, nano
from headrace.engine.core import BLOCK_TOKENS
from tests.server.live import Live, running
from tests.server.tiny import gated, until

WAIT_S = 60


@pytest.fixture
def own() -> Iterator[Live]:
    with running() as one:
        yield one


def listed(live: Live) -> list[dict[str, Any]]:
    return list(httpx.get(f"{live.url}/api/ps").json()["models"])


def generate(live: Live, prompt: str, **more: Any) -> httpx.Response:
    body = {"model": "nano", "prompt": prompt, "raw": True, "stream": False, "options": {"num_predict": 2}, **more}
    return httpx.post(f"{live.url}/api/generate", json=body, timeout=WAIT_S)


def test_what_a_model_does_and_holds(own: Live) -> None:
    assert listed(own) == []
    assert generate(own, "one two three " * 100).json()["done"]
    until(lambda: listed(own)[0]["headrace"]["in_flight"] == 0)
    with own.house.serving.models.lease("nano") as model:
        state = model.cache()
        assert state.tokens >= 4 * BLOCK_TOKENS
        (nano_,) = listed(own)
        assert nano_["headrace"] == {
            "state": "loaded",
            "in_flight": 1,
            "running": 0,
            "waiting": 0,
            "cache": {
                "tokens": state.tokens,
                "size_bytes": state.size_bytes,
                "capacity_bytes": state.capacity_bytes,
                "evicted_blocks": 0,
                "preempted": 0,
            },
        }
        model.clear_cache()
        until(lambda: listed(own)[0]["headrace"]["cache"]["tokens"] == 0)
    assert nano_["size"] > nano_["headrace"]["cache"]["capacity_bytes"]


def test_an_engine_in_the_midst_of_a_step_is_not_waited_for(own: Live) -> None:
    with ThreadPoolExecutor(20) as pool, gated(own.house) as gate:
        asked = [pool.submit(generate, own, f"{number} potatoes") for number in range(20)]
        until(lambda: listed(own)[0]["headrace"]["in_flight"] == 20)
        assert gate.waiting.wait(WAIT_S)
        until(lambda: sum(listed(own)[0]["headrace"][which] for which in ("running", "waiting")) == 20)
        (nano_,) = listed(own)
        assert nano_["headrace"]["state"] == "loaded"
        assert nano_["headrace"]["running"] >= 1
        assert nano_["headrace"]["waiting"] >= 20 - headrace.model.MAX_SEQUENCES
        assert gate.steps == 0
    assert all(one.result().json()["done"] for one in asked)


def test_one_on_its_way_in_and_out(own: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    load, close = threading.Event(), threading.Event()

    class Slow(Model):
        def __init__(self, *given: Any, **options: Any) -> None:
            assert load.wait(WAIT_S)
            super().__init__(*given, **options)

        def close(self) -> None:
            assert close.wait(WAIT_S)
            super().close()

    monkeypatch.setattr(headrace.loading, "Model", Slow)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(generate, own, "Hello", keep_alive=0)
        until(lambda: listed(own))
        (loading,) = listed(own)
        assert (loading["name"], loading["context_length"]) == ("nano:latest", 4096)
        assert loading["headrace"] == {"state": "loading", "in_flight": 1}
        load.set()
        assert answer.result().json()["done"]
        until(lambda: listed(own)[0]["headrace"] == {"state": "unloading", "in_flight": 0})
        assert datetime.fromisoformat(listed(own)[0]["expires_at"]) <= datetime.now(UTC)
        close.set()
    until(lambda: not listed(own))


def test_one_whose_file_is_gone_is_listed_and_hides_no_other(tmp_path: Path) -> None:
    twin = shutil.copy(nano.FILE, tmp_path / "twin.gguf")
    with running(models=[str(twin)]) as own:
        for name in ("twin", "nano"):
            assert generate(own, "Hello", model=name).json()["done"]
        Path(twin).unlink()
        rows = {row["name"]: row for row in listed(own)}
        assert rows["nano:latest"]["digest"]
        gone = rows["twin:latest"]
        assert (gone["digest"], gone["details"], gone["headrace"]["state"]) == ("", {}, "loaded")
        assert gone["size"] > 10**7
