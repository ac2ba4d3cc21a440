"""What goes wrong, as OpenAI's own client raises it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from headrace.errors import (
    OUTCOMES,
    CacheExceeded,
    ContextExceeded,
    FieldRefused,
    FileInvalid,
    HeadraceError,
    ModelClosed,
)
from headrace.keys import Key
from headrace.server.guard import Doors
from headrace.server.openai.errors import Dialect
from headrace.server.serving import Running
from tests.server.live import Live, running
from tests.server.openai_clients import CALCULATE, HI, client_of


@pytest.fixture(scope="module")
def client(live: Live) -> Iterator[openai.OpenAI]:
    with client_of(live.url) as one:
        yield one


def made(kind: type[HeadraceError]) -> HeadraceError:
    if kind in (ContextExceeded, CacheExceeded):
        return kind(5, 4)  # type: ignore[call-arg,arg-type]
    if kind is FileInvalid:
        return FileInvalid("a", "b")
    return FieldRefused("a: b", "a", known=True) if kind is FieldRefused else kind("what is wrong")


@pytest.mark.parametrize("kind", OUTCOMES)
def test_every_error_has_an_object(kind: type[HeadraceError]) -> None:
    reply = Dialect(prompt="messages").refuse(made(kind))
    assert reply.status == OUTCOMES[kind].http_status
    (name,) = said = json.loads(reply.body)
    assert name == "error"
    assert said["error"].keys() == {"message", "type", "param", "code"}
    assert said["error"]["message"]
    assert said["error"]["type"].endswith("_error")
    assert (said["error"]["type"] in ("api_error", "overloaded_error")) == (reply.status >= 500)


BAD: dict[str, tuple[dict[str, Any], str | None, str | None, str]] = {
    "an unknown field": ({"tokens": 3}, "tokens", "unknown_parameter", "tokens: it is not supported here"),
    "a gone field": ({"functions": []}, "functions", "unsupported_parameter", "give tools"),
    "a gone choice": ({"function_call": "auto"}, "function_call", "unsupported_parameter", "give tool_choice"),
    "audio": ({"audio": {"voice": "x"}}, "audio", "unsupported_parameter", "text alone"),
    "a voice": ({"modalities": ["audio"]}, "modalities[0]", None, "'audio'"),
    "a number for a text": ({"model": 3}, "model", None, "expected `str`"),
    "too hot": ({"temperature": 2.5}, "temperature", None, "temperature: expected `float` <= 2"),
    "too many": ({"n": 129}, "n", None, "n: expected `int` <= 128"),
    "none": ({"n": 0}, "n", None, ">= 1"),
    "a bias": ({"logit_bias": {"7": 101}}, "logit_bias[]", None, "<= 100"),
    "a bias of a word": ({"logit_bias": {"a": 1}}, "logit_bias", None, "token ids"),
    "a bias beyond": ({"logit_bias": {"999999": 1}}, None, None, "999999 is out of range"),
    "likely ones of nothing": ({"top_logprobs": 2}, "top_logprobs", None, "logprobs"),
    "too many likely ones": ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", None, "<= 20"),
    "no stop": ({"stop": ""}, "stop", None, "empty text"),
    "stops": ({"stop": ["a"] * 257}, "stop", None, "256"),
    "a seed": ({"seed": 2**64}, "seed", None, "64 bits"),
    "twice the same": ({"repeat_penalty": 1.1, "repetition_penalty": 1.2}, "repetition_penalty", None, "give one"),
    "no stream": ({"stream_options": {"include_usage": True}}, "stream_options", None, "for streams"),
    "a stream's option": (
        {"stream": True, "stream_options": {"pings": True}}, "stream_options.pings", "unknown_parameter", "pings: it is"
    ),
    "a format": ({"response_format": {"type": "yaml"}}, "response_format.type", None, "'yaml'"),
    "no schema": (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
        "response_format.json_schema.schema", None, "missing field `schema`",
    ),
    "a schema's word": (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}}, None, None, "'not'"
    ),
    "a role": ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].role", None, "'function'"),
    "no role": ({"messages": [{"content": "x"}]}, "messages[0].role", None, "missing field `role`"),
    "no messages": ({"messages": []}, None, None, "at least one message"),
    "a message's field": (
        {"messages": [{"role": "user", "content": "x", "mood": 1}]}, "messages[0].mood", "unknown_parameter", "mood: it"
    ),
    "a part without text": (
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text", None, "no text"
    ),
    "a call's arguments": (
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
        None, None, "should be a JSON object",
    ),
    "two tools of a name": ({"tools": [CALCULATE, CALCULATE]}, "tools", None, "same name"),
    "a tool that is none": ({"tools": [{"type": "retrieval"}]}, "tools[0].type", None, "'retrieval'"),
    "no such tool": (
        {"tools": [CALCULATE], "tool_choice": {"type": "function", "function": {"name": "g"}}},
        "tool_choice", None, "'g'",
    ),
    "no tool": ({"tool_choice": "required"}, "tool_choice", None, "no tool is offered"),
    "a choice": ({"tools": [CALCULATE], "tool_choice": "maybe"}, "tool_choice", None, "'maybe'"),
    "too large a form": ({"tools": [{"function": {"name": "x" * 300_000}}]}, None, None, "tools is larger"),
    "an extension's": ({"headrace": {"magic": True}}, "headrace.magic", "unknown_parameter", "magic"),
    "a switch": ({"chat_template_kwargs": {"shout": True}}, "chat_template_kwargs.shout", "unknown_parameter", "shout"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "param", "code", "words"), BAD.values(), ids=BAD)
def test_mistakes_are_named(given: dict[str, Any], param: str | None, code: str | None, words: str, live: Live) -> None:
    body = {"model": "nano", "messages": HI, **given}
    answer = httpx.post(f"{live.url}/v1/chat/completions", json=body)
    assert answer.status_code == (413 if "larger" in words else 400), answer.text
    error = answer.json()["error"]
    assert words in error["message"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
    if "for streams" not in words:
        assert httpx.post(f"{live.url}/v1/chat/completions", json={"stream": True, **body}).json() == answer.json()


def test_what_is_null_is_not_there(live: Live) -> None:
    body = {"model": "nano", "messages": HI, "max_tokens": 2, "functions": None, "nonsense": None, "temperature": None}
    assert httpx.post(f"{live.url}/v1/chat/completions", json=body).status_code == 200


def test_the_clients_exceptions(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as lost:
        client.chat.completions.create(model="gpt-4", messages=HI)  # type: ignore[arg-type]
    assert (lost.value.code, lost.value.type, lost.value.param) == ("model_not_found", "not_found_error", "model")
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(model="nano", messages=[{"role": "user", "content": "x " * 9000}])
    assert (long.value.code, long.value.param) == ("context_length_exceeded", "messages")
    assert "4096" in long.value.message
    with pytest.raises(openai.NotFoundError, match="nothing at /v1/files"):
        client.files.list()


def test_keys() -> None:
    with running(doors=Doors(keys=(Key("right"), Key("manager", frozenset({"manage"}))))) as live:
        for key, kind, code in (
            ("wrong", openai.AuthenticationError, "invalid_api_key"),
            ("manager", openai.PermissionDeniedError, None),
        ):
            with openai.OpenAI(base_url=f"{live.url}/v1", api_key=key, max_retries=0) as client:
                with pytest.raises(kind) as error:
                    client.models.list()
                assert error.value.code == code
        with openai.OpenAI(base_url=f"{live.url}/v1", api_key="right", max_retries=0) as client:
            assert client.models.list().data


def test_a_server_with_too_much_to_do(live: Live, client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.house.serving, "max_queue", 0)
    for stream in (False, True):
        with pytest.raises(openai.InternalServerError) as error:
            client.chat.completions.create(model="nano", messages=HI, stream=stream)  # type: ignore[call-overload]
        assert (error.value.status_code, error.value.type, error.value.code) == (503, "overloaded_error", "server_busy")
        assert int(error.value.response.headers["retry-after"]) > 0


def test_an_error_in_mid_stream(live: Live, client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Running.__aiter__

    async def broken(running: Running) -> Any:
        told = 0
        async for choice in original(running):
            if (told := told + 1) > 3:
                raise ModelClosed("it was closed")
            yield choice

    monkeypatch.setattr(Running, "__aiter__", broken)
    stream = client.chat.completions.create(model="nano", messages=HI, stream=True)  # type: ignore[arg-type]
    pieces = list[str | None]()
    with stream, pytest.raises(openai.APIError, match="it was closed") as error:
        pieces.extend(chunk.choices[0].delta.content for chunk in stream)
    assert pieces == ["", "Hello", "!", " I"]
    assert error.value.code == "server_busy"
    with (
        pytest.raises(openai.APIError, match="it was closed"),
        client.completions.create(model="nano", prompt="One, two,", stream=True) as text,
    ):
        list(text)

    async def unhurried() -> None:
        async with openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key="any", max_retries=0) as other:
            stream = await other.chat.completions.create(model="nano", messages=HI, stream=True)  # type: ignore[arg-type]
            with pytest.raises(openai.APIError, match="it was closed"):
                [chunk async for chunk in stream]

    asyncio.run(unhurried())
    body = {"model": "nano", "messages": HI, "stream": True}
    raw = httpx.post(f"{live.url}/v1/chat/completions", json=body).text
    assert raw.endswith(
        'data: {"error":{"message":"it was closed","type":"overloaded_error","param":null,"code":"server_busy"}}\n\n'
    )
    assert "[DONE]" not in raw
    monkeypatch.undo()
    assert client.chat.completions.create(model="nano", messages=HI).choices, "others are served"  # type: ignore[arg-type]


def test_what_is_not_ours_is_not_told(client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(running: Running) -> Any:  # noqa: ARG001
        raise ZeroDivisionError("secret")
        yield

    monkeypatch.setattr(Running, "__aiter__", broken)
    with pytest.raises(openai.InternalServerError) as error:
        client.chat.completions.create(model="nano", messages=HI)  # type: ignore[arg-type]
    assert (error.value.status_code, error.value.type) == (500, "api_error")
    assert "secret" not in str(error.value)
