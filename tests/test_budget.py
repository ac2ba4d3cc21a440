"""Memory: what is refused, what is promised, and that no more is ever taken."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import headrace
from headrace import CacheExceeded, Done, RequestInvalid, Text, checkpoint, fitting, loading, model, packaged
from headrace.budget import CACHED_WINDOWS, SMALL_WINDOW, Claim, Need
from headrace.engine.core import BLOCK_TOKENS
from headrace.expectation import shapes_of
from headrace.loading import candidate, claim, residents
from headrace.machine import format_bytes
from headrace.server import start
from headrace.shapes import FAMILY, weights_bytes
from headrace.summary import block_bytes
from tests import random_models

LONG = 131_072  # tokens of a window
GREEDY: dict[str, Any] = {"temperature": 0, "repeat_penalty": 1.0, "loop_guard": False}


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gguf")
    return random_models.save_gguf(random_models.moe(max_position_embeddings=LONG), folder / "model.gguf")


@pytest.fixture
def need(gguf: Path) -> Need:
    return Need.of(checkpoint.read(gguf), None)


def give(monkeypatch: pytest.MonkeyPatch, size_bytes: int | None) -> None:
    """A machine with so much memory."""
    for module in (model, loading):
        monkeypatch.setattr(module, "memory_bytes", lambda: size_bytes)


def said(events: Any) -> tuple[str, Done]:
    *pieces, done = events
    assert isinstance(done, Done)
    return "".join(piece.text for piece in pieces if isinstance(piece, Text)), done


# --- what fits


def test_a_window_that_does_not_fit_costs_nothing_until_it_is_used(
    gguf: Path, need: Need, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = SMALL_WINDOW // BLOCK_TOKENS * need.block
    give(monkeypatch, need.weights + small)
    with headrace.load(gguf, num_ctx=LONG) as loaded:
        assert loaded.num_ctx == LONG
        assert loaded.cache().capacity_bytes == small
        assert said(loaded.generate("Hello", num_predict=3))[1].usage.completion_tokens == 3
        with pytest.raises(CacheExceeded, match="the prompt has 5001 tokens but the cache has memory for 4096"):
            said(loaded.generate("x" * 5000))
    give(monkeypatch, need.weights + small - 1)
    with pytest.raises(RequestInvalid, match="for a window of 4096 tokens, but this machine has"):
        headrace.load(gguf, num_ctx=LONG)
    with headrace.load(gguf, num_ctx=SMALL_WINDOW - BLOCK_TOKENS):
        pass


def test_the_cache_takes_half_of_what_the_weights_leave(need: Need) -> None:
    window = LONG // BLOCK_TOKENS
    assert need.blocks(LONG, None, None) == CACHED_WINDOWS * window
    assert need.blocks(LONG, None, need.weights + 2 * 1000 * need.block) == 1000
    assert need.blocks(LONG, None, 1 << 50) == CACHED_WINDOWS * window
    assert need.blocks(65, None, need.weights + 100 * need.block) == 2 * CACHED_WINDOWS
    assert need.blocks(LONG, 1000 * need.block, need.weights + 1000 * need.block) == 1000


def test_a_cache_larger_than_memory_is_refused(gguf: Path, need: Need, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory would be taken some day."""
    give(monkeypatch, need.weights + 10 * need.block)
    with headrace.load(gguf, cache_bytes=10 * need.block) as loaded:
        assert loaded.cache().capacity_bytes == 10 * need.block
    with pytest.raises(RequestInvalid, match=r"may take .* for its cache, but .*: give the cache less with --cache-by"):
        headrace.load(gguf, cache_bytes=10 * need.block + 1)
    give(monkeypatch, need.weights - 1)
    with pytest.raises(RequestInvalid, match="take a smaller model"):
        headrace.load(gguf, cache_bytes=need.block)


@pytest.mark.parametrize("cache_bytes", [0, -1, 1.5, True, "2GB"])
def test_a_cache_holds_a_block_at_least(cache_bytes: Any, gguf: Path, need: Need) -> None:
    for find in (headrace.load, candidate):
        with pytest.raises(
            RequestInvalid, match=f"should be a whole number from {need.block} on: a block of 64 tokens"
        ):
            find(gguf, cache_bytes=cache_bytes)  # type: ignore[operator]


def test_a_resident_takes_a_window_or_what_the_budget_leaves(gguf: Path, need: Need) -> None:
    window, small = (tokens // BLOCK_TOKENS * need.block for tokens in (LONG, SMALL_WINDOW))
    half = need.weights + window // 2
    assert candidate(gguf, num_ctx=LONG).size_bytes == need.weights + window
    assert candidate(gguf, num_ctx=LONG, budget_bytes=half).size_bytes == half
    assert candidate(gguf, num_ctx=LONG, budget_bytes=0).size_bytes == need.weights + small
    with residents(need.weights + small, num_ctx=LONG) as models, models.lease(str(gguf)) as loaded:
        assert loaded.num_ctx == LONG
    with (
        residents(need.weights + small - 1, num_ctx=LONG) as models,
        pytest.raises(RequestInvalid, match="but all models together may take"),
        models.lease(str(gguf)),
    ):
        pass


# --- what would fit instead


def test_a_window_that_fits_is_named(need: Need) -> None:
    assert "a window of at most 128 tokens with --num-ctx" in refused(need, need.weights + 3 * need.block - 1)


def test_a_quantisation_that_fits_is_named() -> None:
    need = Need.of(checkpoint.read("nano"), None)
    size = fitting.quantised_bytes(need.sources[0], "Q4_0")
    assert size < fitting.quantised_bytes(need.sources[0], "Q8_0") == need.weights
    told = f"as Q4_0 it would need {format_bytes(size)} for its weights, and fit"
    assert refused(need, size + need.block, num_ctx=BLOCK_TOKENS).endswith(told)
    assert told not in refused(need, size + need.block - 1, num_ctx=BLOCK_TOKENS)


@pytest.mark.parametrize("member", ["lfm2:350m", "lfm2:8b"])
def test_the_sizes_are_those_of_published_files(member: str) -> None:
    """But for the head of a Q4_0 file, which is of another type."""
    shape = FAMILY[member]
    weights = shapes_of(shape).weights
    for quant in ("q8_0", "q6_k", "q4_0"):
        source = SimpleNamespace(weights=weights)
        expected = weights_bytes(shape, quant, head=quant)
        assert fitting.quantised_bytes(source, quant.upper()) == expected  # type: ignore[arg-type]


def test_else_another_model_is_named(need: Need) -> None:
    large = dataclasses.replace(need, weights=1 << 40, block=1 << 30)
    assert refused(large, 3 << 30).endswith("no quantisation of it would fit, but lfm2.5:2.6b would")
    assert refused(large, 1 << 20).endswith("take a smaller model")


def refused(need: Need, available: int, num_ctx: int = LONG) -> str:
    with pytest.raises(RequestInvalid) as error:
        need.blocks(num_ctx, None, available)
    return str(error.value)


# --- one budget, several models


def test_what_is_left_goes_to_those_who_can_use_it() -> None:
    large, small = Claim(50, 100), Claim(5, 10)
    assert large.beside([], 1000) == 150, "alone it has what load() gives"
    assert large.beside([], 120) == 120
    assert large.beside([small], 155) == 50 + 100 - 10
    assert small.beside([large], 155) == 5 + 10
    assert [one.beside([large], 130) for one in (large, Claim(50, 20))] == [50 + 15, 50 + 15]
    assert Claim(50, 10).beside([large], 130) == 60
    assert large.beside([Claim(50, 10)], 130) == 50 + 20
    for budget in (0, 50, 100):
        assert large.beside([large], budget) == 50, "they have to make room for one another anyway"


def test_room_is_left_for_as_many_as_may_be_loaded_at_a_time() -> None:
    own, others = Claim(10, 90), [Claim(10, 90), Claim(40, 5), Claim(20, 0)]
    assert own.beside(others, 100, max_models=1) == 100
    assert own.beside(others, 100, max_models=2) == 10 + (100 - 10 - 40) // 2
    assert own.beside(others, 100, max_models=99) == own.beside(others, 100) == 10 + (100 - 80 - 5) // 2


CLAIMS = st.builds(Claim, st.integers(0, 100), st.integers(0, 100))


@given(st.lists(CLAIMS, min_size=1, max_size=5), st.integers(0, 600), st.none() | st.integers(1, 6))
def test_whichever_are_loaded_together_fit(claims: list[Claim], budget: int, max_models: int | None) -> None:
    given_ = [
        one.beside([*claims[:place], *claims[place + 1 :]], budget, max_models) for place, one in enumerate(claims)
    ]
    for one, bytes_ in zip(claims, given_, strict=True):
        assert one.least <= bytes_ <= one.least + one.more
    together = min(max_models or len(claims), len(claims))
    for some in combinations(range(len(claims)), together):
        if sum(sorted((one.least for one in claims), reverse=True)[:together]) <= budget:
            assert sum(given_[place] for place in some) <= budget
    if max_models in (None, len(claims)) and sum(one.least + one.more for one in claims) <= budget:
        assert given_ == [one.least + one.more for one in claims]


def capacity(models: Any, name: str) -> int:
    with models.lease(name) as loaded:
        return int(loaded.cache().capacity_bytes)


def test_one_resident_at_a_time_has_the_cache_that_load_gives(
    gguf: Path, need: Need, monkeypatch: pytest.MonkeyPatch
) -> None:
    for memory in (1 << 40, need.weights + 5000 * need.block):
        give(monkeypatch, memory)
        with headrace.load(gguf, num_ctx=LONG) as loaded:
            alone = loaded.cache().capacity_bytes
        with residents(memory, max_models=1, num_ctx=LONG) as models:
            assert capacity(models, str(gguf)) == alone
    window = LONG // BLOCK_TOKENS
    assert alone == 2500 * need.block > window * need.block, "or the figures say nothing"
    give(monkeypatch, 1 << 40)
    budget = need.weights + 3 * window * need.block
    for most, windows in ((1, 3), (99, 1), (None, 1)):
        with residents(budget, max_models=most, num_ctx=LONG) as models:
            assert capacity(models, str(gguf)) == windows * window * need.block
    with residents(2 * budget, max_models=2, num_ctx=LONG) as models:
        assert capacity(models, str(gguf)) == 3 * window * need.block


def test_a_server_leaves_room_for_its_other_models(
    gguf: Path, need: Need, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, 1 << 40)
    monkeypatch.setattr(packaged, "MODELS", {})
    twin, broken = (tmp_path / name for name in ("twin.gguf", "broken.gguf"))
    shutil.copy(gguf, twin)
    broken.write_bytes(b"GGUF\x03\x00\x00\x00")
    own, nano_ = claim(gguf), claim("nano")
    budget = nano_.least + nano_.more + own.least + own.more // 2
    monkeypatch.setattr(start, "default_budget", lambda: budget)

    def held(*models: Path, **settings: Any) -> int:
        house = start.house_of(start.Settings(models=[*map(str, models)], **settings))
        try:
            return capacity(house.serving.models, "model")
        finally:
            house.close()

    def cache(size_bytes: int) -> int:
        return (size_bytes - need.weights) // need.block * need.block

    alone, with_nano = (own.beside(others, budget) for others in ([], [nano_]))
    assert own.least < own.beside([own, nano_], budget) < with_nano < alone, "or the figures say nothing"
    assert held(gguf, broken) == cache(with_nano)
    assert held(gguf, twin) == cache(own.beside([own, nano_], budget))
    assert held(gguf, twin, max_models=2) == cache(own.beside([own, nano_], budget, max_models=2))
    assert held(gguf, twin, max_models=1) == cache(alone) == cache(own.least + own.more)
    assert held(gguf, twin, cache_bytes=1 << 20) == (1 << 20) // need.block * need.block


@pytest.mark.parametrize("kv", ["fp16", "int8", "fp32"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"conv_L_cache": 4, "num_attention_heads": 3, "num_key_value_heads": 1},
        {"hidden_size": 68, "num_attention_heads": 2},
        {"layer_types": ["full_attention"] * 4},
    ],
)
def test_a_block_takes_what_the_core_says(changes: dict[str, Any], kv: str, tmp_path: Path) -> None:
    path = random_models.save_gguf(random_models.moe(**changes), tmp_path / "model.gguf")
    with headrace.load(path, kv=kv, cache_bytes=1 << 20) as loaded:
        assert block_bytes(loaded.checkpoint, kv) == loaded._block_bytes


# --- what happens at the end of it


def test_a_reply_ends_where_the_memory_does(gguf: Path, need: Need) -> None:
    with headrace.load(gguf) as loaded:
        whole, _ = said(loaded.generate("Hello", **GREEDY, num_predict=300, logit_bias={2: -100, 7: -100}))
    with headrace.load(gguf, cache_bytes=3 * need.block) as loaded:
        text, done = said(loaded.generate("Hello", **GREEDY, logit_bias={2: -100, 7: -100}))
        assert done.reason == "length"
        assert done.usage.prompt_tokens + done.usage.completion_tokens == 3 * BLOCK_TOKENS
        assert whole.startswith(text.rstrip("\ufffd"))
        assert loaded.cache().size_bytes <= 3 * need.block


def test_a_conversation_is_shifted_within_the_memory(gguf: Path, need: Need) -> None:
    turns = [{"role": role, "content": "x" * 30} for role in ("user", "assistant") * 5]
    with headrace.load(gguf, cache_bytes=3 * need.block) as loaded:
        chat = [*turns, {"role": "user", "content": "Hi"}]
        with pytest.raises(CacheExceeded):
            said(loaded.chat(chat))
        _, done = said(loaded.chat(chat, context="shift", num_predict=4))
        assert done.dropped
        assert done.usage.prompt_tokens <= 3 * BLOCK_TOKENS


# --- sixteen at once

REQUESTS = 16
ASKED: dict[str, Any] = {"temperature": 1.0, "seed": 1, "num_predict": 64, "loop_guard": False}
TEXTS = [f"{number}: " + "one two three, " * 170 for number in range(REQUESTS)]
SLACK_BYTES = 48 << 20  # libraries that a model brings, tokenizer, scratch of a step, draft slots, what Python makes
STACKS_BYTES = 16 << 20  # of threads: they are never filled, but they count as data
LIMITED = f"""
import json, resource, sys
import headrace, headrace.loading
from headrace.machine import peak_memory_bytes

cache_bytes, limit_bytes = map(int, sys.argv[1:])
before = peak_memory_bytes()
if limit_bytes:
    kept = next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (kept + limit_bytes, kept + limit_bytes))
with headrace.load("nano", threads=2, cache_bytes=cache_bytes) as model:
    answers = [""] * {REQUESTS}
    for choice in model.generate({TEXTS}, **{ASKED}):
        answers[choice.index] += choice.event.text if isinstance(choice.event, headrace.Text) else ""
    state = model.cache()
print(json.dumps([answers, state.preempted, state.size_bytes, peak_memory_bytes() - before]))
"""


def ask_all(cache_bytes: int, limit_bytes: int = 0) -> Any:
    """In a process of its own: the answers, how often one waited for memory, the cache's size, and what all of it took.

    `limit_bytes` is what the system gives for data beside what the process has when it begins: mapped files, as the
    weights are, do not count.
    """
    command = [sys.executable, "-c", LIMITED, str(cache_bytes), str(limit_bytes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_sixteen_long_requests_take_no_more_memory_than_was_said() -> None:
    """In an eighth of what they need, and where the system gives no more: each answer is what it is alone.

    Each takes 11 blocks for its prompt and a twelfth while it answers, so that two begin and one has to wait later.
    """
    with headrace.load("nano") as alone:
        expected = [said(alone.generate(text, **ASKED))[0] for text in TEXTS]
        need = Need.of(alone.checkpoint, None)
    cache_bytes = 23 * need.block
    most = need.weights + cache_bytes + SLACK_BYTES
    limit = cache_bytes + SLACK_BYTES + STACKS_BYTES if sys.platform.startswith("linux") else 0
    answers, preempted, size, taken = ask_all(cache_bytes, limit)
    assert answers == expected
    assert preempted
    assert size <= cache_bytes
    assert taken < most
    answers, preempted, size, taken = ask_all(1 << 30)
    assert answers == expected
    assert not preempted
    assert size > 7 * cache_bytes
    assert taken > most, "or the figures say nothing"
