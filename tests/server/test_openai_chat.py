"""`/v1/chat/completions`, as OpenAI's own client sees it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pydantic
import pytest

import headrace
from headrace.events import Choice, Done, Text, Thinking, Token, ToolCall
from headrace.server.serving import Running
from tests.server.live import Live, running
from tests.server.openai_clients import CALCULATE, HI, SUM, VAGUE, WEATHER, WHO, client_of, frames, masked, thinker


@pytest.fixture(scope="module")
def client(live: Live) -> Iterator[openai.OpenAI]:
    with client_of(live.url) as one:
        yield one


@pytest.fixture(scope="module")
def model() -> Iterator[headrace.Model]:
    with headrace.load("nano") as one:
        yield one


def asked(client: openai.OpenAI, messages: Any, **given: Any) -> Any:
    return client.chat.completions.create(model="nano", messages=messages, **given)


def text_of(events: Any) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


def test_an_answer_is_the_models(client: openai.OpenAI, model: headrace.Model) -> None:
    events = list(model.chat(HI))
    answer = asked(client, HI)
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", text_of(events))
    assert (choice.finish_reason, choice.logprobs, choice.message.tool_calls) == ("stop", None, None)
    done = events[-1]
    assert isinstance(done, Done)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (
        done.usage.prompt_tokens,
        done.usage.completion_tokens,
    )
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert (answer.object, answer.model) == ("chat.completion", "nano")
    assert answer.id.startswith("chatcmpl-")
    assert answer.system_fingerprint
    assert answer.system_fingerprint == asked(client, SUM).system_fingerprint
    assert answer.id != asked(client, HI).id


def test_it_tells_where_the_time_went_and_what_was_there_already(client: openai.OpenAI) -> None:
    long = [{"role": "user", "content": "Say this again. " * 40}]
    asked(client, long, max_tokens=2)
    answer = asked(client, long, max_tokens=2)
    cached = answer.usage.prompt_tokens_details.cached_tokens
    assert cached >= 64
    times = answer.timings
    assert (times["cache_n"], times["prompt_n"]) == (cached, answer.usage.prompt_tokens - cached)
    assert times["predicted_n"] == answer.usage.completion_tokens == 2
    assert all(times[name] >= 0 for name in ("load_ms", "queue_ms", "prompt_ms", "predicted_ms", "first_token_ms"))
    assert times["prompt_per_second"] > 0
    assert answer.headrace == {"reason": "length"}


TURNS: list[dict[str, Any]] = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "12"}, {"type": "text", "text": "34"}], "name": "Ann"},
    {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "calculate", "arguments": '{"expression": "1 + 1"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "2"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "It is 2."}], "reasoning_content": "hm"},
    {"role": "system", "content": "Go on."},
    {"role": "user", "content": "What is 37 * 12?"},
]
AS_THE_MODEL_TAKES_THEM: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "12\n34"},
    {"role": "assistant", "content": "", "tool_calls": [{"name": "calculate", "arguments": {"expression": "1 + 1"}}]},
    {"role": "tool", "content": "2"},
    {"role": "assistant", "content": "It is 2.", "reasoning_content": "hm"},
    {"role": "system", "content": "Go on."},
    {"role": "user", "content": "What is 37 * 12?"},
]  # fmt: skip


def test_turns_of_every_kind_make_the_prompt_that_they_should(client: openai.OpenAI, model: headrace.Model) -> None:
    theirs = list(model.chat(AS_THE_MODEL_TAKES_THEM, [CALCULATE]))
    answer = asked(client, TURNS, tools=[CALCULATE])
    assert isinstance(theirs[-1], Done)
    assert answer.usage.prompt_tokens == theirs[-1].usage.prompt_tokens
    assert (answer.choices[0].message.content or "") == text_of(theirs)


def test_an_image_is_refused_by_name(client: openai.OpenAI) -> None:
    parts = [{"type": "text", "text": "See:"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    with pytest.raises(openai.BadRequestError, match=r"messages\[0\].content\[1\] is of the type image_url") as error:
        asked(client, [{"role": "user", "content": parts}])
    assert (error.value.code, error.value.param) == ("unsupported_parameter", "messages[0].content[1]")


def test_a_tool_is_called_and_its_result_put_into_words(client: openai.OpenAI) -> None:
    first = asked(client, SUM, tools=[CALCULATE])
    (choice,) = first.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    (call,) = choice.message.tool_calls
    assert (call.type, call.function.name, call.function.arguments) == (
        "function",
        "calculate",
        '{"expression": "37 * 12"}',
    )
    result = {"role": "tool", "tool_call_id": call.id, "content": "444"}
    second = asked(client, [*SUM, choice.message, result], tools=[CALCULATE])
    assert second.choices[0].message.content == "37 * 12 = 444."
    assert asked(client, SUM, tools=[CALCULATE]).choices[0].message.tool_calls[0].id != call.id, "ids are unique"


def test_which_tool_may_be_called(client: openai.OpenAI) -> None:
    def called(messages: Any, choice: Any) -> list[str]:
        message = asked(client, messages, tools=[CALCULATE, WEATHER], tool_choice=choice).choices[0].message
        return [call.function.name for call in message.tool_calls or ()]

    named = {"type": "function", "function": {"name": "get_weather"}}
    allowed = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "get_weather"}}]},
    }
    assert called(SUM, "none") == []
    assert called(SUM, "auto") == ["calculate"]
    assert called(HI, "auto") == []
    assert called(HI, "required")
    assert set(called(SUM, named)) == set(called(SUM, allowed)) == {"get_weather"}


def test_calls_beside_each_other_may_be_forbidden(client: openai.OpenAI) -> None:
    both = [{"role": "user", "content": "What is 37 * 12? And what is 5 + 6?"}]
    given = {"tools": [CALCULATE], "tool_choice": "required", "parallel_tool_calls": False}
    assert len(asked(client, both, **given).choices[0].message.tool_calls) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_is_cut_off_is_told_as_text(stream: bool, live: Live) -> None:
    """What a stream has told of it stays; its end says what became of it."""
    given = {"messages": SUM, "tools": [CALCULATE], "max_tokens": 8}
    if stream:
        *_, last, _ = told = frames(live.url, "chat/completions", given)
        deltas = [chunk["choices"][0]["delta"] for chunk in told[:-1]]
        text = "".join(delta.get("content") or "" for delta in deltas)
        assert [call["function"].get("name") for delta in deltas for call in delta.get("tool_calls", ())][:1] == [
            "calculate"
        ]
    else:
        last = httpx.post(f"{live.url}/v1/chat/completions", json={"model": "nano", **given}).json()
        text = last["choices"][0]["message"]["content"]
        assert "tool_calls" not in last["choices"][0]["message"]
    assert text.startswith("[calculate(expression=")
    assert last["choices"][0]["finish_reason"] == "length"
    assert last["headrace"]["warnings"] == ["malformed_tool_call"]


class Person(pydantic.BaseModel):
    name: str
    company: str


def test_answers_have_the_form_that_is_asked_for(client: openai.OpenAI) -> None:
    parsed = client.chat.completions.parse(model="nano", messages=WHO, response_format=Person)  # type: ignore[arg-type]
    assert parsed.choices[0].message.parsed == Person(name="Jane Smith", company="Acme Corp")
    free = asked(client, HI, response_format={"type": "text"}).choices[0].message.content
    assert free == asked(client, HI).choices[0].message.content
    some = asked(client, WHO, response_format={"type": "json_object"}).choices[0].message.content
    assert isinstance(json.loads(some), dict)
    schema = {"enum": ["yes", {"ok": True}]}
    ours = {"type": "json_object", "schema": schema}
    assert json.loads(asked(client, HI, response_format=ours).choices[0].message.content) in schema["enum"]


def test_a_schema_that_was_cut_off_is_an_error_of_the_client(client: openai.OpenAI) -> None:
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(model="nano", messages=WHO, response_format=Person, max_tokens=4)  # type: ignore[arg-type]


def test_several_answers_have_a_seed_each(client: openai.OpenAI) -> None:
    given: dict[str, Any] = {"temperature": 2.0, "max_tokens": 8, "extra_body": {"min_p": 0}}
    three = [choice.message.content for choice in asked(client, VAGUE, n=3, seed=5, **given).choices]
    alone = [asked(client, VAGUE, seed=5 + number, **given).choices[0].message.content for number in range(3)]
    assert three == alone
    assert len(set(three)) > 1
    several = asked(client, VAGUE, n=3, seed=5, **given)
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    assert several.usage.prompt_tokens == asked(client, VAGUE, **given).usage.prompt_tokens, "a prompt counts once"
    assert several.usage.completion_tokens > 8
    assert several.headrace == {"choices": [{"reason": "length"}] * 3}


def test_where_an_answer_ends(client: openai.OpenAI) -> None:
    whole = asked(client, HI).choices[0].message.content
    stop = " " + whole.split()[2]
    (stopped,) = asked(client, HI, stop=stop, logprobs=True).choices
    assert stopped.message.content == whole.partition(stop)[0]
    assert stopped.finish_reason == "stop"
    assert "".join(one.token for one in stopped.logprobs.content) == stopped.message.content
    assert asked(client, HI, stop=["#", stop]).choices[0].message.content == stopped.message.content
    for given in ({"max_tokens": 1}, {"max_completion_tokens": 1}, {"max_tokens": 9, "max_completion_tokens": 1}):
        cut = asked(client, HI, **given)
        assert (cut.choices[0].finish_reason, cut.usage.completion_tokens) == ("length", 1)
    none = asked(client, HI, max_tokens=0)
    assert (none.choices[0].finish_reason, none.choices[0].message.content) == ("length", "")


def test_an_answer_that_runs_in_circles_is_not_whole(client: openai.OpenAI, model: headrace.Model) -> None:
    (comma,) = model.tokenize(",")
    answer = asked(client, HI, logit_bias={str(comma): 100})
    assert answer.choices[0].finish_reason == "length"
    assert answer.headrace["reason"] == "repetition"
    assert answer.usage.total_tokens < 4096


def test_biases_and_penalties_reach_the_sampler(client: openai.OpenAI, model: headrace.Model) -> None:
    (comma,) = model.tokenize(",")
    assert asked(client, HI, logit_bias={str(comma): 100}, max_tokens=3).choices[0].message.content == ",,,"
    given: dict[str, Any] = {"temperature": 2.0, "seed": 1, "max_tokens": 40, "extra_body": {"min_p": 0}}

    def with_commas(bias: int, **penalty: Any) -> str:
        return str(asked(client, HI, **given | {"logit_bias": {str(comma): bias}} | penalty).choices[0].message.content)

    bias, plain = next((b, text) for b in range(5, 50) if 2 < (text := with_commas(b)).count(",") < 38)
    for penalty in (
        {"presence_penalty": 2.0},
        {"frequency_penalty": 2.0},
        {"extra_body": {"min_p": 0, "repeat_penalty": 9.0}},
        {"extra_body": {"min_p": 0, "repetition_penalty": 9.0}},
    ):
        assert with_commas(bias, **penalty) != plain
    hot: dict[str, Any] = {"temperature": 2.0, "seed": 1, "max_tokens": 8}
    greedy = asked(client, HI, max_tokens=8).choices[0].message.content
    assert asked(client, HI, **hot, extra_body={"min_p": 0}).choices[0].message.content != greedy
    for few in ({"top_p": 1e-6}, {"extra_body": {"top_k": 1}}, {"extra_body": {"min_p": 1.0}}):
        assert asked(client, HI, **hot, **few).choices[0].message.content == greedy


def test_log_probabilities(client: openai.OpenAI, model: headrace.Model) -> None:
    tokens = [event for event in model.chat(HI, logprobs=3) if isinstance(event, Token)]
    told = asked(client, HI, logprobs=True, top_logprobs=3).choices[0].logprobs.content
    assert [(one.token, one.logprob) for one in told] == [(token.text, token.logprob) for token in tokens]
    for one, token in zip(told, tokens, strict=True):
        assert [(top.token, top.logprob) for top in one.top_logprobs] == [(text, lp) for _, text, lp in token.top]
        assert bytes(one.bytes).decode() == one.token
    bare = asked(client, HI, logprobs=True).choices[0].logprobs.content
    assert [one.top_logprobs for one in bare] == [[]] * len(told)


def test_a_window_that_is_too_small(client: openai.OpenAI) -> None:
    long = [{"role": "user", "content": f"Number {number}."} for number in range(40)]
    with pytest.raises(openai.BadRequestError) as error:
        asked(client, long, extra_body={"num_ctx": 100})
    assert error.value.code == "context_length_exceeded"
    for context in ("shift", "truncate"):
        answer = asked(client, long, max_tokens=5, extra_body={"num_ctx": 100, "context": context})
        assert answer.usage.prompt_tokens <= 100
        assert answer.headrace["dropped"]["messages"] > 0
        assert answer.headrace["dropped"]["tokens"] > 0


def test_which_experts_answered(client: openai.OpenAI, model: headrace.Model, live: Live) -> None:
    tokens = [event for event in model.chat(HI, experts=True) if isinstance(event, Token)]
    expected = json.loads(json.dumps([token.experts for token in tokens]))
    asking = {"headrace": {"experts": True}}
    assert asked(client, HI, extra_body=asking).headrace["experts"] == expected
    *_, last, _ = frames(live.url, "chat/completions", {"messages": HI, **asking})
    assert last["headrace"]["experts"] == expected
    two = asked(client, HI, n=2, extra_body=asking).headrace["choices"]
    assert [one["experts"] for one in two] == [expected, expected]


def test_a_model_can_be_kept_and_let_go(live: Live, client: openai.OpenAI) -> None:
    asked(client, HI, max_tokens=1, extra_body={"keep_alive": "1h30m"})
    (kept,) = [one for one in live.house.serving.models.list() if one.name == "nano"]
    assert kept.keep_alive_s == 5400
    asked(client, HI, max_tokens=1, extra_body={"keep_alive": -1})
    asked(client, HI, max_tokens=1, extra_body={"keep_alive": 300})
    with pytest.raises(openai.BadRequestError, match="keep_alive is 'soon'"):
        asked(client, HI, extra_body={"keep_alive": "soon"})


IGNORED: dict[str, Any] = {
    "user": "me", "metadata": {"a": "b"}, "store": True, "service_tier": "auto", "safety_identifier": "x",
    "prompt_cache_key": "y", "modalities": ["text"], "reasoning_effort": "none",
}  # fmt: skip


def test_what_changes_nothing_is_taken(client: openai.OpenAI) -> None:
    assert masked(asked(client, HI, **IGNORED).model_dump()) == masked(asked(client, HI).model_dump()) | {
        "usage": masked(asked(client, HI, **IGNORED).model_dump())["usage"]  # what the cache held may differ
    }


# Streams.

STREAMED: dict[str, dict[str, Any]] = {
    "text": {"messages": HI},
    "cut off": {"messages": HI, "max_tokens": 3},
    "stopped": {"messages": HI, "stop": ["nano"], "logprobs": True},
    "a call": {"messages": SUM, "tools": [CALCULATE]},
    "a call, with probabilities": {"messages": SUM, "tools": [CALCULATE], "logprobs": True, "top_logprobs": 2},
    "a schema": {"messages": WHO, "response_format": {"type": "json_object"}},
    "several": {"messages": HI, "n": 3, "seed": 2, "temperature": 2.0, "max_tokens": 10, "logprobs": True},
    "nothing": {"messages": HI, "max_tokens": 0},
}


@pytest.mark.parametrize("given", STREAMED.values(), ids=STREAMED)
def test_a_stream_is_the_answer_in_pieces(given: dict[str, Any], client: openai.OpenAI) -> None:
    """Put together by the client's own hands; what was cut off it gives away in an error."""
    streamed: Any
    with client.chat.completions.stream(model="nano", stream_options={"include_usage": True}, **given) as stream:
        try:
            streamed = stream.get_final_completion()
        except openai.LengthFinishReasonError as error:
            streamed = error.completion
    whole = client.chat.completions.create(model="nano", **given)
    for one, other in zip(streamed.choices, whole.choices, strict=True):
        assert (one.index, one.finish_reason) == (other.index, other.finish_reason)
        assert one.message.content == other.message.content
        ours = [(call.type, call.function.name, call.function.arguments) for call in one.message.tool_calls or ()]
        theirs = [(call.type, call.function.name, call.function.arguments) for call in other.message.tool_calls or ()]
        assert ours == theirs
        assert (one.logprobs and one.logprobs.content) == (other.logprobs and other.logprobs.content)
    assert streamed.usage is not None
    assert whole.usage is not None
    assert streamed.usage.completion_tokens == whole.usage.completion_tokens
    assert streamed.usage.prompt_tokens == whole.usage.prompt_tokens


def test_the_clients_events(client: openai.OpenAI) -> None:
    tools = [openai.pydantic_function_tool(Person)]
    with client.chat.completions.stream(
        model="nano",
        messages=WHO,
        tools=tools,
        tool_choice="required",  # type: ignore[arg-type]
    ) as stream:
        kinds = [event.type for event in stream]
    assert "tool_calls.function.arguments.delta" in kinds
    assert "tool_calls.function.arguments.done" in kinds
    (call,) = stream.get_final_completion().choices[0].message.tool_calls or ()
    assert isinstance(call.function.parsed_arguments, Person)


def test_without_waiting(live: Live) -> None:
    async def several() -> None:
        async with openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key="any", max_retries=0) as client:
            whole = await client.chat.completions.create(model="nano", messages=HI)  # type: ignore[arg-type]
            stream = await client.chat.completions.create(model="nano", messages=HI, stream=True)  # type: ignore[arg-type]
            pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
            assert "".join(pieces) == whole.choices[0].message.content
            assert len(pieces) > 3
            parsed = await client.chat.completions.parse(model="nano", messages=WHO, response_format=Person)  # type: ignore[arg-type]
            assert parsed.choices[0].message.parsed == Person(name="Jane Smith", company="Acme Corp")
            async with client.chat.completions.stream(model="nano", messages=HI) as helper:  # type: ignore[arg-type]
                final = await helper.get_final_completion()
            assert final.choices[0].message.content == whole.choices[0].message.content
            many = await asyncio.gather(
                *(client.chat.completions.create(model="nano", messages=HI) for _ in range(8))  # type: ignore[arg-type]
            )
            assert {one.choices[0].message.content for one in many} == {whole.choices[0].message.content}

    asyncio.run(several())


def test_whoever_leaves_a_stream_ends_its_answer(live: Live, client: openai.OpenAI) -> None:
    endless = {"logit_bias": {"300": 100, "301": 99.5}, "temperature": 2.0, "max_tokens": 4000}
    with client.chat.completions.create(model="nano", messages=HI, stream=True, **endless) as stream:  # type: ignore[call-overload]
        next(iter(stream))
    for _ in range(200):
        if not live.house.serving.in_flight:
            break
        httpx.get(f"{live.url}/health")
    assert live.house.serving.in_flight == 0


# Models that think.


@pytest.fixture(scope="module")
def thinking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with running(models=[f"thinker={thinker(tmp_path_factory.mktemp('thinker'))}"]) as one:
        yield one


THOUGHT_END = 4  # the id of </think>


def test_thinking_is_told_apart(thinking: Live) -> None:
    def ask(**given: Any) -> Any:
        body = {"model": "thinker", "messages": HI, **given}
        return httpx.post(f"{thinking.url}/v1/chat/completions", json=body).json()

    on = {"chat_template_kwargs": {"enable_thinking": True}}
    answer = ask(**on, max_tokens=5)
    message = answer["choices"][0]["message"]
    assert message["content"] is None
    assert message["reasoning_content"]
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 5
    assert ask(reasoning_effort="high", max_tokens=5)["choices"] == answer["choices"]
    for off in ({"reasoning_effort": "none"}, {"chat_template_kwargs": {"enable_thinking": False}}):
        told = ask(**off, max_tokens=5)
        assert "reasoning_content" not in told["choices"][0]["message"]
        assert told["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0
    both = ask(reasoning_effort="none", **on)
    assert both["error"]["param"] == "reasoning_effort"

    streamed = frames(thinking.url, "chat/completions", {"model": "thinker", "messages": HI, **on, "max_tokens": 5})
    deltas = [chunk["choices"][0]["delta"] for chunk in streamed[:-1]]
    assert deltas[0] == {"role": "assistant", "content": None, "refusal": None}
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == message["reasoning_content"]


@pytest.mark.parametrize("field", ["reasoning_effort", "chat_template_kwargs"])
def test_a_model_that_cannot_think_says_so(field: str, client: openai.OpenAI) -> None:
    given = {"reasoning_effort": "low"} if field == "reasoning_effort" else {field: {"enable_thinking": True}}
    with pytest.raises(openai.BadRequestError, match="cannot think aloud") as error:
        asked(client, HI, extra_body=given)
    assert error.value.param == field


def test_a_thought_and_what_comes_after_it(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model's tokens are what they are; its events are ours to choose."""
    events = [Thinking("Let me "), Thinking("see."), Text("It is 4."), ToolCall("call_0", "f", {"a": "ä"})]

    async def script(running: Any) -> Any:
        async for choice in original(running):
            if isinstance(choice.event, Done):
                for event in events:
                    yield Choice(choice.index, event)
                yield choice

    original = Running.__aiter__
    monkeypatch.setattr(Running, "__aiter__", script)
    whole = httpx.post(f"{live.url}/v1/chat/completions", json={"model": "nano", "messages": HI}).json()
    message = whole["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("Let me see.", "It is 4.")
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a": "ä"}'}
    streamed = frames(live.url, "chat/completions", {"messages": HI})
    deltas = [chunk["choices"][0]["delta"] for chunk in streamed[1:-2]]
    for delta in deltas:
        for call in delta.get("tool_calls", ()):
            call.pop("id", None)
    assert deltas == [
        {"reasoning_content": "Let me "},
        {"reasoning_content": "see."},
        {"content": "It is 4."},
        {"tool_calls": [{"index": 0, "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a": "ä"}'}}]},
    ]
