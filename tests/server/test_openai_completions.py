"""`/v1/completions`, as OpenAI's own client and evaluation harnesses see it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

import headrace
from headrace.events import Done, Text, Token
from tests.server.live import Live
from tests.server.openai_clients import client_of, frames, masked

PROMPT = "The capital of France is"
# Two characters that take several tokens each, and a special token.
ODD = "Ω≈ç 🦜 <|im_start|> ok"


@pytest.fixture(scope="module")
def client(live: Live) -> Iterator[openai.OpenAI]:
    with client_of(live.url) as one:
        yield one


@pytest.fixture(scope="module")
def model() -> Iterator[headrace.Model]:
    with headrace.load("nano") as one:
        yield one


def asked(client: openai.OpenAI, prompt: Any = PROMPT, **given: Any) -> Any:
    return client.completions.create(model="nano", prompt=prompt, **given)


def continued(model: headrace.Model, prompt: str, **given: Any) -> str:
    return "".join(event.text for event in model.generate(prompt, **given) if isinstance(event, Text))


def ids_of(live: Live, text: str) -> list[int]:
    return list(httpx.post(f"{live.url}/tokenize", json={"prompt": text}).json()["tokens"])


def test_a_text_is_continued(client: openai.OpenAI, model: headrace.Model) -> None:
    answer = asked(client, max_tokens=6)
    (choice,) = answer.choices
    assert choice.text == continued(model, PROMPT, num_predict=6)
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "length", None)
    assert (answer.object, answer.model, answer.id[:5]) == ("text_completion", "nano", "cmpl-")
    assert answer.usage.completion_tokens == 6
    assert answer.timings["predicted_n"] == 6
    assert answer.headrace == {"reason": "length"}
    assert asked(client).usage.completion_tokens <= 16, "the default of this route"


@pytest.mark.parametrize("kind", ["text", "texts", "ids", "lists of ids"])
def test_prompts_of_every_kind(kind: str, live: Live, client: openai.OpenAI) -> None:
    ids = ids_of(live, PROMPT)
    prompt = {"text": PROMPT, "texts": [PROMPT, "One, two,"], "ids": ids}.get(kind, [ids, ids_of(live, "One, two,")])
    answer = asked(client, prompt, max_tokens=5)
    alone = [asked(client, one, max_tokens=5) for one in (PROMPT, "One, two,")[: len(answer.choices)]]
    assert [choice.text for choice in answer.choices] == [one.choices[0].text for one in alone]
    assert [choice.index for choice in answer.choices] == list(range(len(alone)))
    assert answer.usage.prompt_tokens == sum(one.usage.prompt_tokens for one in alone)
    assert answer.usage.completion_tokens == sum(one.usage.completion_tokens for one in alone)


@pytest.mark.parametrize("prompt", [[], [[]], ["a", 3], [[1], "a"], [[1], 2], [1.5], {"a": 1}, [True]])
def test_prompts_of_no_kind(prompt: Any, live: Live) -> None:
    answer = httpx.post(f"{live.url}/v1/completions", json={"model": "nano", "prompt": prompt})
    if prompt == [[]]:  # the beginning of any text
        assert answer.status_code == 200
        return
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] in ("prompt", "prompt[0]")


def test_too_many_prompts(live: Live) -> None:
    answer = httpx.post(f"{live.url}/v1/completions", json={"model": "nano", "prompt": ["a"] * 1025, "n": 2})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "prompt")


def test_several_answers_to_several_prompts(client: openai.OpenAI) -> None:
    given: dict[str, Any] = {"temperature": 2.0, "seed": 3, "max_tokens": 6, "extra_body": {"min_p": 0}}
    answer = asked(client, [PROMPT, "One, two,"], n=2, best_of=2, **given)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    alone = [asked(client, prompt, n=2, **given) for prompt in (PROMPT, "One, two,")]
    assert [choice.text for choice in answer.choices] == [c.text for one in alone for c in one.choices]
    assert len({choice.text for choice in answer.choices}) > 2
    assert answer.usage.prompt_tokens == sum(one.usage.prompt_tokens for one in alone)
    once = [asked(client, prompt, max_tokens=1).usage.prompt_tokens for prompt in (PROMPT, "One, two,")]
    assert answer.usage.prompt_tokens == sum(once), "a prompt counts once, however many answers it has"
    assert len(answer.headrace["choices"]) == 4


@pytest.mark.parametrize("text", [PROMPT, ODD, "x"])
@pytest.mark.parametrize("as_ids", [False, True])
@pytest.mark.parametrize("max_tokens", [0, 1, 3])
def test_an_echo_is_the_tokens_of_the_prompt(
    text: str, as_ids: bool, max_tokens: int, live: Live, client: openai.OpenAI
) -> None:
    """Without the BOS that was put before it."""
    ids = ids_of(live, text)
    given = ids if as_ids else text
    answer = asked(client, given, echo=True, logprobs=1, max_tokens=max_tokens)
    (choice,) = answer.choices
    told = choice.logprobs
    assert told.token_ids[: len(ids)] == ids
    assert len(told.tokens) == len(ids) + answer.usage.completion_tokens
    assert len({len(column) for column in (told.tokens, told.token_logprobs, told.top_logprobs, told.text_offset)}) == 1
    assert None not in told.token_logprobs, "the first follows a BOS"
    assert choice.text.startswith(text)
    assert told.text_offset[0] == 0
    for start, token in zip(told.text_offset[: len(ids)], told.tokens, strict=False):
        if not token.startswith("bytes:"):
            assert choice.text[start:].startswith(token)
    silent = asked(client, given, echo=True, max_tokens=max_tokens).choices[0]
    assert (silent.text, silent.logprobs) == (choice.text, None)


def test_a_prompt_that_begins_with_its_bos(live: Live, client: openai.OpenAI) -> None:
    """Then it was not added, and is told as any token; nothing says how likely it was."""
    (bos,) = httpx.post(f"{live.url}/tokenize", json={"prompt": "", "add_special_tokens": True}).json()["tokens"]
    for prompt in ([bos, *ids_of(live, "Hi")], "<|startoftext|>Hi"):
        (choice,) = asked(client, prompt, echo=True, logprobs=0, max_tokens=0).choices
        assert choice.logprobs.token_ids == [bos, *ids_of(live, "Hi")]
        assert choice.logprobs.token_logprobs[0] is None
        assert choice.logprobs.top_logprobs[0] is None
        assert choice.text == "<|startoftext|>Hi"


def test_probabilities_are_the_models(client: openai.OpenAI, model: headrace.Model) -> None:
    events = model.generate(PROMPT, echo=True, logprobs=2, num_predict=4)
    tokens = [event for event in events if isinstance(event, Token)][1:]
    told = asked(client, echo=True, logprobs=2, max_tokens=4).choices[0].logprobs
    assert told.tokens == [token.text for token in tokens]
    assert told.token_logprobs == [token.logprob for token in tokens]
    for row, token in zip(told.top_logprobs, tokens, strict=True):
        assert row == {token.text: token.logprob} | {text: logprob for _, text, logprob in token.top}


def harness_reads(choice: Any, context_tokens: int) -> tuple[float, bool]:
    """What lm-evaluation-harness makes of an echo (`parse_logprobs` of its models/openai_completions.py)."""
    columns = choice["logprobs"]
    told = columns["token_logprobs"][context_tokens:-1]
    tops = columns["top_logprobs"][context_tokens:-1]
    return sum(told), all(one == max(top.values()) for one, top in zip(told, tops, strict=True))


@pytest.mark.parametrize("answer", [" 444", " 37 * 12 = 444.", " no"])
def test_the_evaluation_harness(answer: str, live: Live, model: headrace.Model) -> None:
    context = ids_of(live, "What is 37 * 12?\nAnswer:")
    ids = context + ids_of(live, answer)
    body = {
        "model": "nano",
        "prompt": [ids, ids],
        "temperature": 0,
        "max_tokens": 1,
        "logprobs": 1,
        "seed": 1234,
        "echo": True,
    }
    told = httpx.post(f"{live.url}/v1/completions", json=body).json()
    events = model.generate("What is 37 * 12?\nAnswer:" + answer, echo=True, logprobs=1, num_predict=0)
    tokens = [event for event in events if isinstance(event, Token)][1 + len(context) :]
    greedy = all(token.top[0][0] == token.id for token in tokens)
    for choice in told["choices"]:
        assert harness_reads(choice, len(context)) == (sum(token.logprob or 0 for token in tokens), greedy)


def test_an_answer_that_ends_at_once_still_has_its_token(live: Live) -> None:
    """The harness takes the last token for the answer's, so there must be one where it is the end."""
    end, context = 7, ids_of(live, "Yes")
    body = {"model": "nano", "prompt": context, "max_tokens": 1, "logprobs": 1, "echo": True, "logit_bias": {"7": 100}}
    answer = httpx.post(f"{live.url}/v1/completions", json=body).json()
    (choice,) = answer["choices"]
    assert (choice["text"], choice["finish_reason"], answer["usage"]["completion_tokens"]) == ("Yes", "stop", 1)
    assert choice["logprobs"]["token_ids"] == [*context, end]
    assert choice["logprobs"]["text_offset"][-1] == len("Yes")


def test_special_tokens_of_an_answer_are_told_and_not_shown(client: openai.OpenAI) -> None:
    (choice,) = asked(client, max_tokens=3, logprobs=0, logit_bias={"3": 100}).choices
    assert (choice.text, choice.logprobs.tokens) == ("", ["<|fim_pre|>"] * 3)
    assert choice.logprobs.text_offset == [0, 0, 0]


def test_experts_are_those_of_the_answer(client: openai.OpenAI) -> None:
    answer = asked(client, echo=True, logprobs=0, max_tokens=3, extra_body={"headrace": {"experts": True}})
    layers = [len(layers) for layers in answer.headrace["experts"]]
    assert len(layers) == 3
    assert min(layers) == max(layers) > 0


def test_where_it_stops(client: openai.OpenAI) -> None:
    whole = asked(client, "One, two, three,", max_tokens=12).choices[0].text
    stop = whole[4:7]
    (choice,) = asked(client, "One, two, three,", max_tokens=12, stop=[stop, "#"], logprobs=0).choices
    assert (choice.text, choice.finish_reason) == (whole.partition(stop)[0], "stop")
    assert len(choice.logprobs.tokens) == len(choice.logprobs.text_offset)
    assert all(offset <= len(choice.text) for offset in choice.logprobs.text_offset)


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("suffix", "the end", "unsupported_parameter"),
        ("best_of", 3, "unsupported_parameter"),
        ("messages", [], "unsupported_parameter"),
        ("grammar", "root ::= x", "unknown_parameter"),
        ("logprobs", 21, None),
        ("max_tokens", -2, None),
    ],
)
def test_what_is_refused(field: str, value: Any, code: str | None, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=field) as error:
        asked(client, extra_body={field: value})
    assert (error.value.param, error.value.code) == (field, code)


def test_a_prompt_that_is_too_long(client: openai.OpenAI) -> None:
    long = "one two three " * 60
    with pytest.raises(openai.BadRequestError) as error:
        asked(client, long, extra_body={"num_ctx": 64})
    assert (error.value.code, error.value.param) == ("context_length_exceeded", "prompt")
    answer = asked(client, long, max_tokens=4, echo=True, logprobs=0, extra_body={"num_ctx": 64, "context": "truncate"})
    (choice,) = answer.choices
    assert answer.headrace["dropped"]["tokens"] > 0
    assert answer.usage.prompt_tokens <= 60
    assert len(choice.logprobs.tokens) == answer.usage.prompt_tokens - 1 + answer.usage.completion_tokens
    assert "".join(choice.logprobs.tokens) == choice.text


STREAMED: dict[str, dict[str, Any]] = {
    "text": {"max_tokens": 8},
    "echo": {"echo": True, "logprobs": 2, "max_tokens": 5},
    "echo alone": {"echo": True, "max_tokens": 0},
    "several": {"n": 2, "seed": 1, "temperature": 2.0, "logprobs": 0},
    "stopped": {"stop": [" of", "."], "logprobs": 1, "max_tokens": 40},
    "odd": {"prompt": [ODD, PROMPT], "echo": True, "logprobs": 0, "max_tokens": 4},
}


@pytest.mark.parametrize("given", STREAMED.values(), ids=STREAMED)
def test_a_stream_is_the_answer_in_pieces(given: dict[str, Any], live: Live) -> None:
    body = {"model": "nano", "prompt": PROMPT, **given}
    whole = httpx.post(f"{live.url}/v1/completions", json=body).json()
    *chunks, last, done = frames(live.url, "completions", {**body, "stream_options": {"include_usage": True}})
    assert done == "[DONE]"
    assert last["choices"] == []
    for name in ("prompt_tokens", "completion_tokens"):
        assert last["usage"][name] == whole["usage"][name]
    assert all(chunk["usage"] is None for chunk in chunks)
    for choice in whole["choices"]:
        mine = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == choice["index"]]
        assert "".join(piece["text"] for piece in mine) == choice["text"]
        assert [piece["finish_reason"] for piece in mine] == [None] * (len(mine) - 1) + [choice["finish_reason"]]
        told = [piece["logprobs"] for piece in mine if piece["logprobs"]]
        joined = {name: [one for columns in told for one in columns[name]] for name in choice["logprobs"] or ()}
        assert joined == (choice["logprobs"] or {})


def test_frames(live: Live) -> None:
    body = {"prompt": "One, two,", "max_tokens": 1, "echo": True}
    head = {"id": "ID", "object": "text_completion", "created": 0, "model": "nano", "system_fingerprint": "FP"}

    def choice(text: str, reason: str | None = None) -> dict[str, Any]:
        return {"text": text, "index": 0, "logprobs": None, "finish_reason": reason}

    assert [masked(one) for one in frames(live.url, "completions", body)] == [
        {**head, "choices": [choice("One, two,")]},
        {**head, "choices": [choice(" two")]},
        {**head, "choices": [choice("", "length")], "timings": "MS", "headrace": {"reason": "length"}},
        "[DONE]",
    ]


def test_the_official_client_streams(live: Live, client: openai.OpenAI) -> None:
    whole = asked(client, max_tokens=6).choices[0].text
    with asked(client, max_tokens=6, stream=True) as stream:
        assert "".join(chunk.choices[0].text for chunk in stream) == whole

    async def unhurried() -> None:
        async with openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key="any", max_retries=0) as other:
            one = await other.completions.create(model="nano", prompt=PROMPT, max_tokens=6)
            assert one.choices[0].text == whole
            stream = await other.completions.create(model="nano", prompt=PROMPT, max_tokens=6, stream=True)
            assert "".join([chunk.choices[0].text async for chunk in stream]) == whole

    asyncio.run(unhurried())


def test_the_end_of_an_answer_counts_as_the_model_says(client: openai.OpenAI, model: headrace.Model) -> None:
    *_, done = model.generate("Hello there.", num_predict=40)
    assert isinstance(done, Done)
    answer = asked(client, "Hello there.", max_tokens=40, logprobs=0)
    assert answer.usage.completion_tokens == done.usage.completion_tokens == len(answer.choices[0].logprobs.tokens)
