"""Through the whole engine, on nano: what it gives beside text, and that nothing beside it changes a bit of that."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headrace
from headrace import Choice, Model
from headrace.errors import ContextExceeded, FileInvalid, RequestInvalid
from headrace.events import Done, Event, Text, Token
from headrace.weights.quantisation import dequantise

QUESTION = [{"role": "user", "content": "What is 37 * 12?"}]
LIST = "apple, pear, plum, cherry, apple, pear, plum, cherry, apple, pear,"
SAMPLED: dict[str, Any] = {"temperature": 1.0, "seed": 5, "num_predict": 24}


@pytest.fixture(scope="module")
def nano() -> Iterator[Model]:
    with headrace.load("nano") as model:
        yield model


@pytest.fixture
def fresh(nano: Model) -> Model:
    """With nothing in its cache."""
    nano.clear_cache()
    return nano


def text_of(events: Iterator[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


def tokens_of(events: Iterator[Event]) -> list[Token]:
    return [event for event in events if isinstance(event, Token)]


def by_choice(events: Iterator[Choice]) -> list[list[Event]]:
    found: defaultdict[int, list[Event]] = defaultdict(list)
    for choice in events:
        found[choice.index].append(choice.event)
    return [found[index] for index in sorted(found)]


def log_softmax(logits: Any) -> Any:
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))


# --- log-probabilities


def test_log_probabilities_are_those_of_the_logits(nano: Model) -> None:
    """Of prompt and answer, whatever sampling does: the ids are the context, so the logits can be asked for again."""
    found = tokens_of(nano.generate(LIST, logprobs=3, echo=True, repeat_penalty=1.5, **SAMPLED))
    ids = [token.id for token in found]
    prompt = nano.tokenize(LIST, add_bos=True)
    assert ids[: len(prompt)] == prompt
    assert [token.of_prompt for token in found] == [place < len(prompt) for place in range(len(ids))]
    expected = log_softmax(nano.logits(ids))
    assert found[0].logprob is None
    for place, token in enumerate(found[1:]):
        row = expected[place]
        assert token.logprob == pytest.approx(row[token.id], abs=1e-4)
        assert [id_ for id_, _, _ in token.top] == np.argsort(-row, kind="stable")[:3].tolist()
        assert [logprob for _, _, logprob in token.top] == pytest.approx(np.sort(row)[::-1][:3], abs=1e-4)
        assert token.text == nano.detokenize([token.id])


def test_a_prompt_can_be_scored_without_an_answer(nano: Model) -> None:
    *tokens, done = nano.generate(LIST, logprobs=0, echo=True, num_predict=0)
    assert [token.id for token in tokens if isinstance(token, Token)] == nano.tokenize(LIST, add_bos=True)
    assert all(token.logprob is not None for token in tokens[1:] if isinstance(token, Token))
    assert isinstance(done, Done)
    assert (done.reason, done.usage.completion_tokens) == ("length", 0)


def test_a_prompt_of_one_token_is_told_too(nano: Model) -> None:
    (token, done) = nano.generate("", logprobs=0, echo=True, num_predict=0)
    assert isinstance(token, Token)
    assert (token.id, token.logprob, token.of_prompt) == (nano.checkpoint.tokenizer.bos_id, None, True)
    assert isinstance(done, Done)


def test_the_answer_is_the_same_with_log_probabilities(nano: Model) -> None:
    """Also where a grammar forces tokens, which then get a step of their own."""
    asked: dict[str, Any] = {"format": {"regex": "(the answer is )?[0-9]{3}"}}
    events = list(nano.chat(QUESTION, logprobs=0, **asked))
    assert text_of(iter(events)) == text_of(nano.chat(QUESTION, **asked))
    assert "".join(token.text for token in tokens_of(iter(events))) == text_of(iter(events))


def test_experts_are_those_of_the_reference(nano: Model) -> None:
    found = tokens_of(nano.generate(LIST, experts=True, temperature=0, num_predict=3))
    config: Any = nano.checkpoint.config
    layers = sum(step.op == "route" for step in nano.checkpoint.plan.steps)
    for token in found:
        assert len(token.experts) == layers
        for layer in token.experts:
            assert len({expert for expert, _ in layer}) == config.num_experts_per_tok
            assert all(0 <= expert < config.num_experts for expert, _ in layer)
            assert sum(weight for _, weight in layer) == pytest.approx(1, abs=1e-4)
    assert len({token.experts for token in found}) == len(found)


@pytest.mark.parametrize("logprobs", [-1, 21, 1.5, True])
def test_wrong_numbers_are_refused(nano: Model, logprobs: Any) -> None:
    with pytest.raises(RequestInvalid, match=f"logprobs is {logprobs} but should be a whole number from 0 to 20"):
        nano.generate("a", logprobs=logprobs)


# --- several answers


def test_answers_asked_for_together_are_those_of_each_alone(fresh: Model) -> None:
    """With seeds that count up; the prompt is computed once."""
    together = by_choice(fresh.generate(LIST, n=5, **SAMPLED))
    alone = [text_of(fresh.generate(LIST, **(SAMPLED | {"seed": 5 + number}))) for number in range(5)]
    assert [text_of(iter(events)) for events in together] == alone
    assert len(set(alone)) > 1
    prompt = len(fresh.tokenize(LIST, add_bos=True))
    ends = [events[-1] for events in together]
    assert [end.usage.cached_tokens for end in ends if isinstance(end, Done)] == [0] + [prompt - 1] * 4


def test_several_texts_at_once(nano: Model) -> None:
    texts = [LIST[:length] for length in (5, 20, 41, 60)] * 5  # more than decode together
    found = by_choice(nano.generate(texts, n=2, **SAMPLED))
    assert len(found) == 2 * len(texts)
    for text, first, second in zip(texts, found[::2], found[1::2], strict=True):
        assert text_of(iter(first)) == text_of(nano.generate(text, **SAMPLED))
        assert text_of(iter(second)) == text_of(nano.generate(text, **(SAMPLED | {"seed": 6})))


def test_several_chat_answers_with_tools(nano: Model) -> None:
    for events in by_choice(nano.chat(QUESTION, tools="builtin", n=3)):
        assert [type(event).__name__ for event in events] == ["ToolCall", "Done"]
    with pytest.raises(RequestInvalid, match="several answers cannot run tools"):
        nano.chat(QUESTION, tools="builtin", run_tools=True, n=2)


def test_leaving_early_frees_all_of_them(fresh: Model) -> None:
    for _ in fresh.generate(["a", "b"], n=4, temperature=1.0):
        break
    assert text_of(fresh.generate(LIST, **SAMPLED))
    cache = fresh._engine.call(lambda scheduler, _: None if scheduler.running else scheduler.cache)
    assert cache is not None
    assert cache.available == cache.count


# --- promises


def test_nothing_that_runs_beside_or_before_changes_a_bit(tmp_path: Path) -> None:
    """24 sampled tokens and their log-probabilities: after a prefix hit, drafted or not, beside others, one thread."""

    def bits(model: Model) -> list[tuple[int, float | None]]:
        return [(token.id, token.logprob) for token in tokens_of(model.generate(LIST * 8, logprobs=0, **SAMPLED))]

    with headrace.load("nano", draft=None) as model:
        expected = bits(model)
        assert bits(model) == expected  # from the cache
        assert model.cache().tokens
    with headrace.load("nano", threads=1) as model:
        assert bits(model) == expected
    with headrace.load("nano") as model:
        others = model.generate([LIST, "x " * 300, "What?"] * 3, temperature=1.0, num_predict=200, loop_guard=False)
        next(others)
        assert bits(model) == expected
        others.close()
        model.save_cache(tmp_path / "cache")
    with headrace.load("nano", cache_bytes=20 * 208_896) as model:
        assert model.load_cache(tmp_path / "cache") > 0
        assert bits(model) == expected
        beside = by_choice(model.generate([LIST * 8] * 4, n=3, logprobs=0, **SAMPLED))  # more than the memory holds
        for events in beside[::3]:
            assert [(token.id, token.logprob) for token in tokens_of(iter(events))] == expected


def test_drafts_save_steps_and_change_nothing() -> None:
    """A text that goes on as it began: told to copy it, the model is asked far fewer times than there are tokens."""
    words = " ".join(f"item{number}" for number in range(40))
    texts = {}
    for draft in ("lookup", None):
        with headrace.load("nano", draft=draft) as model:
            target = model.tokenize(words)
            bias = {}
            prompt = f"{words}\n{words}\n{words}\n"
            texts[draft] = text_of(model.generate(prompt, temperature=0, num_predict=len(target), logit_bias=bias))
            costs = model._engine.call(lambda scheduler, _: dict(scheduler.costs.seconds))
            assert (max(costs) > 1) == (draft == "lookup")
    assert texts["lookup"] == texts[None]


# --- the cache


def test_the_next_turn_of_a_chat_finds_the_last_one(fresh: Model) -> None:
    """But for its reply, whose text may be other tokens than those that were sampled."""
    messages = [{"role": "user", "content": f"{LIST} How many words are that?"}]
    before = 0
    for _ in range(4):
        *events, done = fresh.chat(messages, tools="builtin", num_predict=16)
        assert isinstance(done, Done)
        assert done.usage.cached_tokens > before - 64
        assert done.usage.prompt_tokens - done.usage.cached_tokens < 64 + 16 + 64 or not before
        before = done.usage.prompt_tokens
        answer = {"role": "assistant", "content": text_of(iter(events)) or "Fine."}
        messages += [answer, {"role": "user", "content": "And now?"}]


def test_a_saved_cache_is_found_by_the_next_process(fresh: Model, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "nano.cache"
    text = text_of(fresh.generate(LIST * 8, **SAMPLED))
    snapshot = fresh.save_cache(path)
    assert snapshot.tokens == fresh.cache().tokens > 0
    fresh.clear_cache()
    assert fresh.cache().tokens == 0
    assert fresh.load_cache(path) == snapshot.tokens
    *events, done = fresh.generate(LIST * 8, **SAMPLED)
    assert text_of(iter(events)) == text
    assert isinstance(done, Done)
    assert done.usage.cached_tokens >= 128


def test_saved_caches_that_are_damaged_or_of_others_are_refused(fresh: Model, tmp_path: Path) -> None:
    path = tmp_path / "nano.cache"
    text_of(fresh.generate(LIST * 4, num_predict=1))
    fresh.save_cache(path)
    fresh.clear_cache()
    whole = path.read_bytes()
    header, rest = whole.split(b"\n", 1)
    for broken, sentence in {
        whole[:-1]: "it was cut off",
        whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:]: "its checksum is wrong",
        b"hello\n" + whole: "it is no saved cache",
        b"x" * 5000: "it is no saved cache",
        b"[" * 4000 + b"\n": "it is no saved cache",
        header.replace(b'"block_tokens": 64', b'"block_tokens": 64.0') + b"\n" + rest: "it is no saved cache",
        header.replace(b'"blocks": ', b'"blocks": 1e999, "x": ') + b"\n" + rest: "it is no saved cache",
        header.replace(b'"headrace_cache": 1', b'"headrace_cache": 9') + b"\n" + rest: "another version",
    }.items():
        path.write_bytes(broken)
        with pytest.raises(FileInvalid, match=sentence):
            fresh.load_cache(path)
    for name, value in {"model": "ab", "kv": "int8", "isa": "mmx"}.items():
        path.write_bytes(json.dumps(json.loads(header) | {name: value}).encode() + b"\n" + rest)
        with pytest.raises(RequestInvalid, match=f"saved with another {name} \\({value}, here"):
            fresh.load_cache(path)
    assert fresh.cache().tokens == 0


def test_what_chats_begin_with_can_be_computed_beforehand(fresh: Model) -> None:
    """The system turn and the tools, up to the question; the last block that is not full is computed again."""
    messages = [{"role": "system", "content": LIST * 3}]
    prefix = fresh.prefix(messages, "builtin")
    assert fresh.cached(prefix) == 0
    fresh.prefill(prefix)
    assert fresh.cached(prefix) == fresh.cache().tokens == len(prefix) // 64 * 64 > 512
    for question in ("What is 37 * 12?", "a", "Z"):
        *_, done = fresh.chat([*messages, {"role": "user", "content": question}], "builtin", num_predict=1)
        assert isinstance(done, Done)
        assert done.usage.cached_tokens == fresh.cached(prefix)
        assert done.usage.prompt_tokens > len(prefix)
    assert fresh.cached(fresh.prefix(messages)) < fresh.cached(prefix)  # without tools it soon goes on otherwise
    with pytest.raises(ContextExceeded):
        fresh.prefill([5] * fresh.num_ctx)
    with pytest.raises(RequestInvalid, match="token id -1 is out of range"):
        fresh.prefill([-1])


# --- embeddings


def test_embeddings_are_the_pooled_hidden_states(nano: Model) -> None:
    texts = ["the red house", "a house that is red", LIST * 6]
    found = nano.embed(texts)
    assert found.shape == (3, nano.checkpoint.backbone.hidden_size)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)
    for text, vector in zip(texts, found, strict=True):
        assert np.array_equal(nano.embed(text)[0], vector)  # alone
    last = nano.embed(texts[0], pooling="last", normalise=False)[0]
    head = nano.checkpoint.weights["embed_tokens"][0]
    logits = nano.logits(nano.tokenize(texts[0], add_bos=True))[-1]
    assert dequantise(head) @ last == pytest.approx(logits, abs=0.02 * float(np.abs(logits).max()))


def test_what_is_put_back_goes_on_where_it_was(nano: Model) -> None:
    """Two texts fit, until they grow: each gets all of its rows, once."""
    texts = [f"word{number} " * 100 for number in range(4)]
    tokens = [nano.tokenize(text, add_bos=True) for text in texts]
    blocks = 2 * (1 + max(map(len, tokens)) // 64)
    asked: dict[str, Any] = {"logprobs": 0, "echo": True, "num_predict": 150, "loop_guard": False}
    with headrace.load("nano", cache_bytes=208_896 * (blocks + 2)) as model:
        assert np.array_equal(model.embed(texts), nano.embed(texts))
        found = by_choice(model.generate(texts, **asked))
        assert model.cache().preempted > 0
    for ids, text, events in zip(tokens, texts, found, strict=True):
        alone = tokens_of(nano.generate(text, **asked))
        assert [token.id for token in alone][: len(ids)] == ids
        assert tokens_of(iter(events)) == alone


def test_edges(nano: Model, tmp_path: Path) -> None:
    assert nano.embed([]).shape == (0, nano.checkpoint.backbone.hidden_size)
    assert list(nano.generate([])) == []
    with pytest.raises(headrace.ModelNotFound, match="there is no such saved cache"):
        nano.load_cache(tmp_path / "none")
    with pytest.raises(FileInvalid, match="it cannot be written"):
        nano.save_cache(Path("/proc/none/cache"))
    prompt = nano.tokenize("Say", add_bos=True)
    events = nano.generate("Say", format={"choices": ["hello there"]}, echo=True)
    assert [token.id for token in tokens_of(events) if token.of_prompt] == prompt
    for events_of_one in by_choice(nano.generate("One, two", n=3, echo=True, logprobs=0, num_predict=2)):
        assert sum(token.of_prompt for token in tokens_of(iter(events_of_one))) == len(
            nano.tokenize("One, two", add_bos=True)
        )
    before = threading.active_count()
    with pytest.raises(RequestInvalid, match="draft is 5 but should be"):
        headrace.load("nano", draft=5)  # type: ignore[arg-type]
    assert threading.active_count() == before


def test_what_cannot_be_embedded(nano: Model) -> None:
    with pytest.raises(RequestInvalid, match="pooling is 'max' but should be mean or last"):
        nano.embed("a", pooling="max")  # type: ignore[arg-type]
    with pytest.raises(ContextExceeded, match=str(nano.num_ctx)):
        nano.embed("word " * nano.num_ctx)
