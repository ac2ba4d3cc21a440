"""What runs beside Headrace in `benchmarks`: an engine in a process of its own, a row of JSON for each measurement."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import peers, versus
from headrace import nano

STAND_IN = """#!/bin/sh
# As llama-bench does with -o json: a list with one entry for each test; here the speed says what was asked.
while [ $# -gt 0 ]; do
    case $1 in -p) prompt=$2 ;; -n) count=$2 ;; -d) depth=$2 ;; -t) threads=$2 ;; esac
    shift
done
echo "loading" >&2
echo "[{\\"n_prompt\\": $prompt, \\"avg_ts\\": 1$prompt$count.$depth$threads}]"
"""


def row(kind: str, tokens: int = 24, depth: int = 0, sequences: int = 1) -> dict[str, Any]:
    return {"kind": kind, "tokens": tokens, "depth": depth, "sequences": sequences}


@pytest.fixture
def llama_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "llama-bench"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return program


def test_llama_bench_on_path_is_asked_for_each_row(llama_bench: Path) -> None:
    measure = peers.llama_bench(str(llama_bench), "a.gguf", 2)
    assert measure(row("prefill", 512, 8192)) == 15120.81922
    assert measure(row("decode", 24, 100)) == float(f"10{peers.STEPS}.1002")
    with pytest.raises(peers.NotMeasured, match="one sequence"):
        measure(row("decode", 24, 0, 16))


@pytest.mark.usefixtures("llama_bench")
def test_a_row_without_a_figure_does_not_end_the_turn() -> None:
    """Three rows, one of which llama-bench cannot measure; this Python must not have llama-cpp-python."""
    if peers.importlib.util.find_spec("llama_cpp"):
        pytest.skip("llama-cpp-python is installed here and comes first")
    rows = [row("decode", sequences=16), row("prefill", 64), row("decode")]
    found = versus.turn(sys.executable, "llama.cpp", Path("a.gguf"), rows, 1)
    assert [(each["kind"], each["tokens_per_s"]) for each in found] == [("prefill", 1640.01), ("decode", 1024.01)]


def test_an_engine_that_is_not_there_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    if peers.importlib.util.find_spec("llama_cpp"):
        pytest.skip("llama-cpp-python is installed here")
    assert versus.turn(sys.executable, "llama.cpp", Path("a.gguf"), [row("decode")], 1) == []
    assert "llama.cpp is left out: neither the package" in capsys.readouterr().err


def test_our_own_turn_measures_the_rows_and_the_machine() -> None:
    found = versus.turn(sys.executable, "headrace", nano.FILE, [row("prefill", 64), row("decode", depth=128)], 1)
    assert [each["kind"] for each in found] == ["prefill", "decode"]
    assert all(each["tokens_per_s"] > 0 and each["share_of_limit"] > 0 for each in found)


def test_the_table_shows_medians_and_the_best_peer() -> None:
    found = [
        {"engine": engine, **row("decode"), "tokens_per_s": speed, "share_of_limit": 0.5}
        for engine, speeds in {"headrace": (9.0, 30.0, 31.0), "llama.cpp": (10.0, 20.0, 21.0)}.items()
        for speed in speeds
    ]
    assert versus.table(json.loads(json.dumps(found)))[-1] == "| decode | 30.0 | 20.0 | 50% | 1.5 x |"
