"""`headrace show`: figures that can be checked against the weights themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headrace import checkpoint, summary
from headrace.cli import main
from headrace.engine.core import BLOCK_TOKENS
from tests import random_models


@pytest.fixture(scope="module")
def model() -> Any:
    return random_models.moe()


@pytest.fixture(scope="module")
def path(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def types(name: str) -> str:
        return "F16" if "attn" in name else "F32"

    return random_models.save_gguf(model, tmp_path_factory.mktemp("gguf") / "small.gguf", types)


@pytest.fixture(scope="module")
def facts(path: Path) -> dict[str, Any]:
    return summary.summarise(checkpoint.read(path))


def test_parameters_are_counted(model: Any, facts: dict[str, Any]) -> None:
    """Tied embeddings once; a token meets 3 of 8 experts in each of the 3 layers that have them."""
    total = sum(tensor.numel() for name, tensor in model.state_dict().items() if name != "lm_head.weight")
    expert = 3 * 40 * 48
    assert facts["parameters"] == {"total": total, "active": total - 3 * (8 - 3) * expert}


def test_quantisation_by_kind_adds_up_to_the_file(path: Path, facts: dict[str, Any]) -> None:
    kinds = facts["quantisation"]
    assert set(kinds["attention"]) == {"F16"}
    assert set(kinds["experts"]) == {"F32"}
    tensors = checkpoint.read(path).weights.values()
    assert sum(sum(kind.values()) for kind in kinds.values()) == sum(t.data.size for ts in tensors for t in ts)


def test_memory_is_weights_and_a_full_cache(facts: dict[str, Any]) -> None:
    """Two attention layers of 2 heads of 8, which take 16, and two convolutions that keep 2 inputs of 48 floats for
    every block."""
    blocks = 4096 // BLOCK_TOKENS
    keys_and_values = 4096 * 2 * (2 * 2 * 16) * 2  # fp16
    inputs = blocks * 2 * (2 * 48) * 4
    assert facts["memory"]["4096"]["cache"] == keys_and_values + inputs
    assert facts["memory"]["32768"]["total"] > facts["memory"]["4096"]["total"]


def test_defaults_say_where_they_come_from(facts: dict[str, Any]) -> None:
    assert facts["defaults"]["min_p"] == {"value": 0.15, "origin": "model card"}
    assert facts["defaults"]["top_k"]["origin"] == "Headrace"


def test_the_page_and_its_json(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["show", str(path)])
    page = capsys.readouterr().out
    for text in ("lfm2_moe", "8, 3 a token; 1 dense layers", "2 convolution, 2 attention", "at 32,768 tokens", "F16"):
        assert text in page
    main(["show", str(path), "--json"])
    assert json.loads(capsys.readouterr().out)["experts"]["per_token"] == 3


def test_the_plan(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["show", str(path), "--plan"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(checkpoint.read(path).plan.steps)
    assert "top_k=3" in next(line for line in lines if " route " in line)
    assert "[8 of 40x48 F32]" in next(line for line in lines if " experts " in line)
