"""Ollama's API in bytes: frames, statuses, and what its own client cannot send."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import msgspec
import pytest

from headrace import events
from headrace.server.ollama import VERSION
from headrace.server.ollama import requests as requests
from headrace.server.ollama.answers import REASONS
from headrace.server.ollama.embeddings import MOST_TEXTS
from headrace.server.wire import Fields
from tests.server.live import Live, running

HELLO = [{"role": "user", "content": "Hello!"}]
GREETING = "Hello! I am nano. Ask me for a calculation, the time, a date or a conversion."
CALCULATE = {
    "type": "function",
    "function": {
        "name": "calculate",
        "description": "Works out an arithmetic expression.",
        "parameters": {
            "type": "object",
            "properties": {"expression": {"type": "string"}},
            "required": ["expression"],
        },
    },
}
UNKNOWN_BLOB = f"/api/blobs/sha256:{'0' * 64}"


@pytest.fixture
def own() -> Iterator[Live]:
    """A server for a test that changes what it has loaded, or ends it."""
    with running() as one:
        yield one


def post(live: Live, path: str, **body: Any) -> httpx.Response:
    return httpx.post(live.url + path, json=body, timeout=60)


def answered(live: Live, path: str, **body: Any) -> dict[str, Any]:
    response = post(live, path, **{"model": "nano", "stream": False, **body})
    assert response.status_code == 200, response.text
    return dict(response.json())


def refused(live: Live, path: str, status: int, **body: Any) -> str:
    response = post(live, path, **{"model": "nano", **body})
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    (field,) = response.json()
    assert field == "error"
    return str(response.json()["error"])


# --- frames


def masked(text: str) -> list[str]:
    """Lines, without what differs from one time to the next."""
    text = re.sub(r'"(\w+_duration|\w+_ms)":[0-9.e+]+', r'"\1":0', text)
    text = re.sub(r'"created_at":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"', '"created_at":"T"', text)
    text = re.sub(r'"(prompt_cached_tokens|forced_tokens)":\d+', r'"\1":0', text)
    text = re.sub(r'"id":"call_[a-z0-9]{8}"', '"id":"call_X"', text)
    assert text.endswith("\n")
    return text.removesuffix("\n").split("\n")


def end(prompt: int, answer: int, reason: str, said: str, *, window: int = 4096, context: str = "") -> str:
    """What the last frame has at its end."""
    return (
        f'"done":true,"done_reason":"{said}",{context}"total_duration":0,"load_duration":0,'
        f'"prompt_eval_count":{prompt},"prompt_eval_duration":0,"eval_count":{answer},"eval_duration":0,'
        f'"headrace":{{"reason":"{reason}","num_ctx":{window},"prompt_cached_tokens":0,"forced_tokens":0,'
        '"timings":{"queue_ms":0,"prompt_ms":0,"decode_ms":0,"first_token_ms":0}}}'
    )


def test_frames_of_a_chat(live: Live) -> None:
    response = post(live, "/api/chat", model="nano", messages=HELLO, options={"num_predict": 3, "num_ctx": 64})
    assert response.headers["content-type"] == "application/x-ndjson"
    head = '{"model":"nano","created_at":"T","message":{"role":"assistant","content":'
    assert masked(response.text) == [
        f'{head}"Hello"}},"done":false}}',
        f'{head}"!"}},"done":false}}',
        f'{head}" I"}},"done":false}}',
        f'{head}""}},{end(11, 3, "length", "length", window=64)}',
    ]


def test_frames_of_a_call(live: Live) -> None:
    asked = [{"role": "user", "content": "What is 37 * 12?"}]
    response = post(live, "/api/chat", model="nano", messages=asked, tools=[CALCULATE])
    head = '{"model":"nano","created_at":"T","message":{"role":"assistant","content":""'
    call = '{"id":"call_X","function":{"index":0,"name":"calculate","arguments":{"expression":"37 * 12"}}}'
    assert masked(response.text) == [
        f'{head},"tool_calls":[{call}]}},"done":false}}',
        f"{head}}},{end(83, 15, 'tool_calls', 'stop')}",
    ]


def test_frames_of_generate(live: Live) -> None:
    asked = {"raw": True, "logprobs": True, "options": {"num_predict": 1}}
    response = post(live, "/api/generate", model="nano", prompt="<|im_start|>assistant\n", **asked)
    first, last = masked(response.text)
    head = '{"model":"nano","created_at":"T","response":'
    found = re.fullmatch(re.escape(head) + r'"(\w+)","done":false,"logprobs":\[(.*)\]\}', first)
    (entry,) = json.loads(f"[{found[2]}]")
    assert entry == {"token": found[1], "logprob": entry["logprob"], "bytes": list(found[1].encode())}
    assert last == f'{head}"",{end(4, 1, "length", "length")}'
    spoken = post(live, "/api/generate", model="nano", prompt="Hello!", options={"num_predict": 1}).text
    context = re.search(r'"context":(\[[0-9,]+\]),', spoken)
    assert len(json.loads(context[1])) == 12
    assert masked(spoken)[-1] == f'{head}"",{end(11, 1, "length", "length", context=context[0])}'


def test_frames_of_loading_and_unloading(own: Live) -> None:
    for path, empty in (
        ("/api/chat", '"message":{"role":"assistant","content":""}'),
        ("/api/generate", '"response":""'),
    ):
        for more, reason in ({}, "load"), ({"keep_alive": 0}, "unload"):
            response = post(own, path, model="nano", **more)
            assert response.headers["content-type"] == "application/json"
            expected = f'{{"model":"nano","created_at":"T",{empty},"done":true,"done_reason":"{reason}"}}'
            assert masked(response.text + "\n") == [expected]
            assert [model["name"] for model in running_models(own)] == (["nano:latest"] if reason == "load" else [])


def test_frames_of_a_pull(live: Live) -> None:
    lines = [json.loads(line) for line in post(live, "/api/pull", name="Nano").text.splitlines()]
    digest, size = lines[1]["digest"], lines[1]["total"]
    assert re.fullmatch("sha256:[0-9a-f]{64}", digest)
    assert lines == [
        {"status": "pulling manifest"},
        {"status": f"pulling {digest[7:19]}", "digest": digest, "total": size, "completed": size},
        {"status": "verifying sha256 digest"},
        {"status": "writing manifest"},
        {"status": "success"},
    ]


def test_an_error_amid_the_frames_is_the_last_of_them() -> None:
    body = {"model": "nano", "prompt": "The", "raw": True, "options": {"num_ctx": 4000}}
    with (
        running(grace_s=0) as live,
        httpx.stream("POST", f"{live.url}/api/generate", json=body, timeout=60) as response,
    ):
        lines = response.iter_lines()
        assert json.loads(next(lines))["done"] is False
        live.server.should_exit = True
        *_, last = lines
    assert response.status_code == 200
    assert json.loads(last) == {"error": "the server is shutting down: try again later"}


# --- routes


def test_methods(live: Live) -> None:
    """HEAD where Ollama has it, 405 for every other method."""
    routes = {
        "/": "GET HEAD",
        "/api/version": "GET HEAD",
        "/api/tags": "GET HEAD",
        "/api/ps": "GET",
        UNKNOWN_BLOB: "HEAD POST",
        "/api/delete": "DELETE",
        **{f"/api/{verb}": "POST" for verb in ("show", "generate", "chat", "embed", "embeddings")},
        **{f"/api/{verb}": "POST" for verb in ("pull", "push", "create", "copy")},
    }
    for path, methods in routes.items():
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
            response = httpx.request(method, live.url + path)
            assert (response.status_code == 405) == (method not in methods.split()), (method, path)
            if method == "HEAD":
                assert response.content == b""
    assert httpx.get(live.url).text == "Ollama is running"
    assert httpx.get(f"{live.url}/api/version").json() == {"version": VERSION}
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)
    lost = httpx.get(f"{live.url}/api/other")
    assert (lost.status_code, list(lost.json())) == (404, ["error"])


@pytest.mark.parametrize("path", ["chat", "generate", "embed", "embeddings", "show", "pull", "push", "create", "copy"])
def test_bodies_are_checked(path: str, live: Live) -> None:
    url = f"{live.url}/api/{path}"
    for body, sentence in (
        (b"", "missing request body"),
        (b" ", "missing request body"),
        (b"{", "the body is not JSON"),
        (b"[]", "the body should be a JSON object"),
        (b'{"nonsense": 1}', "nonsense: it is not supported here"),
    ):
        response = httpx.post(url, content=body)
        assert (response.status_code, sentence in response.json()["error"]) == (400, True), response.text
    nameless = httpx.post(url, json={}).json()["error"]
    assert nameless == ('source "" is invalid' if path == "copy" else "model is required")


def test_fields_of_the_wrong_type_are_named(live: Live) -> None:
    for path, body, sentence in (
        ("/api/chat", {"messages": [{"role": "user", "content": 3}]}, "messages[0].content: expected"),
        ("/api/chat", {"messages": "Hi"}, "messages: expected"),
        ("/api/chat", {"stream": "yes"}, "stream: expected"),
        ("/api/chat", {"options": []}, "options: expected"),
        ("/api/chat", {"keep_alive": True}, "keep_alive: expected"),
        ("/api/chat", {"headrace": {"expert": True}}, "expert"),
        ("/api/generate", {"prompt": ["a"]}, "prompt: expected"),
        ("/api/generate", {"context": ["a"]}, "context[0]: expected"),
        ("/api/embed", {"input": [1]}, "input[0]: expected"),
        (
            "/api/embed",
            {"input": ["x"] * (MOST_TEXTS + 1)},
            f"input has {MOST_TEXTS + 1} texts: {MOST_TEXTS} is the most",
        ),
        ("/api/embed", {"input": "x", "dimensions": -1}, "dimensions is -1 but should be"),
        ("/api/embed", {"input": "x", "dimensions": 257}, "dimensions is 257 but this model has 256"),
    ):
        assert sentence in refused(live, path, 400, **body)


ODD = (
    *(
        None,
        True,
        0,
        -1,
        1.5,
        1e308,
        10**30,
        "",
        "x",
        "\x00",
        "<|im_end|>",
        "\ud800",
        [],
        [None],
        [[]],
        [{}],
        ["x"],
        [-1],
    ),
    *({}, {"x": None}, {"role": "user"}, {"type": "object"}, {"name": 3}, [{"function": {}}], [{"role": "tool"}]),
    *({"temperature": 1e308}, {"seed": 2**64}, {"stop": "x"}, {"num_ctx": 1}, {"num_predict": 0}, {"experts": True}),
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [requests.Chat, requests.Generate, requests.Embed, requests.Embeddings, requests.Show])
def test_no_value_of_a_field_is_a_fault_of_ours(kind: type[Fields], live: Live) -> None:
    """Each field with every odd value: it is answered, or refused with a sentence."""
    path = f"{live.url}/api/{kind.__name__.lower()}"
    usual = {"model": "nano", "prompt": "Hello!", "messages": HELLO, "input": "x", "options": {"num_predict": 1}}
    fields = [field.encode_name for field in msgspec.structs.fields(kind)]
    known = {name: value for name, value in usual.items() if name in fields}
    with httpx.Client(timeout=60) as client:
        for name in fields:
            for value in ODD:
                response = client.post(path, content=json.dumps({**known, name: value}))
                assert response.status_code in (200, 400, 404, 422), (name, value, response.text)
                whole = [json.loads(line) for line in response.text.splitlines()]
                assert "error" in whole[-1] if response.status_code != 200 else "error" not in whole[-1], (name, value)


def test_null_is_as_if_it_were_not_there(live: Live) -> None:
    message = {"role": "user", "content": "Hello!", "images": None, "tool_calls": None, "thinking": None, "odd": 1}
    nothing = dict.fromkeys(("tools", "format", "think", "keep_alive", "truncate", "logprobs"))
    said = answered(live, "/api/chat", messages=[message], options={"seed": None}, **nothing)
    assert said["message"] == {"role": "assistant", "content": GREETING}


def test_what_changes_nothing_is_taken(live: Live) -> None:
    assert answered(live, "/api/chat", messages=HELLO, runner="mlx")["message"]["content"] == GREETING
    account = {"insecure": True, "username": "x", "password": "y"}
    assert answered(live, "/api/pull", **account) == {"status": "success"}
    assert "take another name" in post(live, "/api/create", model="nano", info={"context_length": 1}).json()["error"]


# --- keep_alive


def running_models(live: Live) -> list[Mapping[str, Any]]:
    return list(httpx.get(f"{live.url}/api/ps").json()["models"])


def test_a_model_is_unloaded_after_its_answer(own: Live) -> None:
    answered(own, "/api/chat", messages=HELLO)
    assert running_models(own)
    answered(own, "/api/chat", messages=HELLO, keep_alive="0s")
    for _ in range(200):
        if not running_models(own):
            return
        time.sleep(0.05)
    raise AssertionError("it is still loaded")


def test_a_keep_alive_that_is_none(live: Live) -> None:
    for path in ("/api/chat", "/api/generate", "/api/embed", "/api/embeddings"):
        sentence = refused(live, path, 400, keep_alive="5 parsecs")
        assert sentence.startswith("keep_alive is '5 parsecs' but should be a duration")


# --- what is asked of the model


def test_options_are_honoured_ignored_or_refused_by_name(live: Live) -> None:
    everything = {
        "temperature": 0,
        "top_k": 40.0,
        "top_p": 0.9,
        "min_p": 0.05,
        "repeat_penalty": 1.0,
        "repeat_last_n": 64,
        "presence_penalty": 0.0,
        "frequency_penalty": 0,
        "seed": -1,
        "stop": [],
        "num_predict": -2,
        "num_ctx": 512,
        "typical_p": 1.0,
        "tfs_z": 1,
        "mirostat": 0,
        "mirostat_tau": 5.0,
        "mirostat_eta": 0.1,
        "num_keep": 4,
        "penalize_newline": True,
        "numa": False,
        "num_batch": 512,
        "num_gpu": 99,
        "main_gpu": 0,
        "low_vram": False,
        "f16_kv": True,
        "vocab_only": False,
        "use_mmap": True,
        "use_mlock": False,
        "num_thread": 8,
        "draft_num_predict": 4,
        "logits_all": False,
        "embedding_only": False,
    }
    said = answered(live, "/api/chat", messages=HELLO, options=everything)
    assert (said["message"]["content"], said["headrace"]["num_ctx"]) == (GREETING, 512)
    for options, sentence in (
        ({"temperature": 200}, "temperature is 200 but should be a number from 0 to 100"),
        ({"temperature": "hot"}, "temperature is 'hot' but should be a number"),
        ({"top_k": 1.5}, "top_k is 1.5 but should be a whole number"),
        ({"num_predict": -3}, "num_predict is -3 but should be"),
        ({"num_ctx": 0}, "num_ctx is 0 but should be a whole number from 1"),
        ({"num_ctx": True}, "num_ctx is True but should be"),
        ({"stop": [""]}, "stop should be a text or a list of texts"),
        ({"typical_p": 0.7}, "options.typical_p is 0.7 but only 1 is supported"),
        ({"typical_p": True}, "options.typical_p is True but only 1 is supported"),
        ({"mirostat": 2}, "options.mirostat is 2 but only 0"),
        ({"penalize_newline": False}, "options.penalize_newline is False but only true"),
        ({"temprature": 1}, "options.temprature: there is no such option here"),
    ):
        for path in ("/api/chat", "/api/generate", "/api/embed", "/api/embeddings"):
            assert sentence in refused(live, path, 400, options=options)


def test_parameters_that_are_left_out_are_the_models(live: Live) -> None:
    """nano's are greedy: Ollama's own defaults would draw."""
    texts = {
        answered(live, "/api/generate", prompt="The", raw=True, options={"num_predict": 20})["response"] for _ in "12"
    }
    greedy = answered(live, "/api/generate", prompt="The", raw=True, options={"num_predict": 20, "temperature": 0})
    assert texts == {greedy["response"]}


def long_chat() -> list[dict[str, str]]:
    turns = [("user", "Hello!"), ("assistant", GREETING)] * 12
    return [
        {"role": role, "content": content} for role, content in [("system", "Be kind."), *turns, ("user", "Hello!")]
    ]


def test_a_chat_that_is_too_long(live: Live) -> None:
    window = {"options": {"num_ctx": 256, "num_predict": 40}}
    whole = answered(live, "/api/chat", messages=long_chat(), options={"num_predict": 1})["prompt_eval_count"]
    for more in ({}, {"truncate": False}, {"shift": False, "truncate": False}):
        error = refused(live, "/api/chat", 400, messages=long_chat(), **window, **more)
        assert error.startswith("the input length exceeds the context length: ")
        assert f"it has {whole} tokens and the window holds 256" in error
    for more in ({"truncate": True}, {"shift": True}):
        said = answered(live, "/api/chat", messages=long_chat(), **window, **more)
        assert said["message"]["content"] == GREETING
        dropped = said["headrace"]["dropped"]
        assert dropped["messages"] % 2 == 0
        assert dropped["tokens"] == whole - said["prompt_eval_count"] > 0
        assert said["prompt_eval_count"] <= 256 - 40
    assert "dropped" not in answered(live, "/api/chat", messages=HELLO, truncate=True)["headrace"]


def test_what_becomes_of_a_prompt_that_does_not_fit_in_one_word(live: Live) -> None:
    """The word does what it does everywhere; beside it Ollama's fields may only say the same."""
    window = {"options": {"num_ctx": 256, "num_predict": 40}}
    turns = {"headrace": {"context": "shift"}}
    assert "window holds 256" in refused(
        live, "/api/chat", 400, messages=long_chat(), **window, headrace={"context": "error"}
    )
    by_field, by_word = (
        answered(live, "/api/chat", messages=long_chat(), **window, **more) for more in ({"shift": True}, turns)
    )
    assert by_word["headrace"]["dropped"] == by_field["headrace"]["dropped"]
    long = {"prompt": "What is the time? " * 100, **window}
    assert "window holds 256" in refused(live, "/api/generate", 400, **long, **turns)
    said = answered(live, "/api/generate", **long, headrace={"context": "truncate"})
    assert said["headrace"]["dropped"]["tokens"] > 100


@pytest.mark.parametrize(
    ("context", "agree", "contradict"),
    [
        ("error", [{}, {"truncate": False}, {"shift": False}], [{"truncate": True}, {"shift": True}]),
        ("shift", [{}, {"shift": True, "truncate": False}], [{"truncate": True}, {"shift": False}]),
        ("truncate", [{}, {"truncate": True, "shift": False}, {"shift": True}], [{"truncate": False}]),
    ],
)
def test_the_word_and_the_fields_may_not_contradict_each_other(
    context: str, agree: list[dict[str, bool]], contradict: list[dict[str, bool]], live: Live
) -> None:
    ours = {"headrace": {"context": context}}
    for fields in agree:
        assert answered(live, "/api/chat", messages=HELLO, **ours, **fields)["done"]
    for fields in contradict:
        ((name, value),) = fields.items()
        sentence = f'headrace.context is "{context}" but {name} is {str(value).lower()}: leave one of the two out'
        assert refused(live, "/api/chat", 400, messages=HELLO, **ours, **fields) == sentence
        assert refused(live, "/api/generate", 400, prompt="Hi", **ours, **fields) == sentence


def test_a_word_that_is_none(live: Live) -> None:
    for context in ("roll", True):
        assert "headrace.context" in refused(live, "/api/chat", 400, messages=HELLO, headrace={"context": context})
    assert answered(live, "/api/chat", messages=HELLO, headrace={"context": None})["done"]


def test_a_text_that_is_too_long(live: Live) -> None:
    text = "What is the time? " * 100
    window = {"options": {"num_ctx": 128, "num_predict": 8}}
    for raw in (False, True):
        error = refused(live, "/api/generate", 400, prompt=text, raw=raw, **window)
        assert re.search(r"it has \d{3} tokens and the window holds 128", error)
        said = answered(live, "/api/generate", prompt=text, raw=raw, truncate=True, **window)
        assert said["prompt_eval_count"] <= 120
        assert said["headrace"]["dropped"]["tokens"] > 100
    # The only turn of a chat is not dropped: a shift does not help.
    assert "window holds 128" in refused(live, "/api/generate", 400, prompt=text, shift=True, **window)
    for path, field in (("/api/embed", "input"), ("/api/embeddings", "prompt")):
        error = refused(live, path, 400, **{field: text}, options={"num_ctx": 128})
        assert re.search(r"it has \d{3} tokens and the window holds 128", error)
    cut = answered_embedding(live, input=text, truncate=True, options={"num_ctx": 128})
    assert cut["prompt_eval_count"] == 128
    assert (
        cut["embeddings"]
        == answered_embedding(live, input=text * 2, truncate=True, options={"num_ctx": 128})["embeddings"]
    )


def answered_embedding(live: Live, **body: Any) -> dict[str, Any]:
    return dict(post(live, "/api/embed", model="nano", **body).json())


def test_a_window_is_no_larger_than_the_models(live: Live) -> None:
    assert answered(live, "/api/chat", messages=HELLO, options={"num_ctx": 100_000})["headrace"]["num_ctx"] == 4096


@pytest.mark.parametrize("stream", [False, True])
def test_experts(stream: bool, live: Live) -> None:
    body = {"model": "nano", "messages": HELLO, "stream": stream, "headrace": {"experts": True}}
    *frames, last = map(json.loads, httpx.post(f"{live.url}/api/chat", json=body).text.splitlines())
    assert not any("headrace" in frame for frame in frames)
    tokens = last["headrace"]["experts"]
    assert len(tokens) == 21  # without the end
    for layers in tokens:
        assert len(layers) == 11
        for chosen in layers:
            assert len({expert for expert, _ in chosen}) == 2
            assert sum(weight for _, weight in chosen) == pytest.approx(1, abs=1e-4)
    assert answered(live, "/api/generate", prompt="Hello!", headrace={"experts": True})["headrace"]["experts"] == tokens
    assert "experts" not in answered(live, "/api/chat", messages=HELLO, headrace={})["headrace"]


def test_bytes_of_a_character_that_is_several_tokens(live: Live) -> None:
    said = answered(
        live,
        "/api/generate",
        prompt="x",
        raw=True,
        logprobs=True,
        format={"choices": ["𝄞"]},
    )
    assert said["response"] == "𝄞"
    assert bytes(byte for entry in said["logprobs"] for byte in entry["bytes"]) == "𝄞".encode()
    assert len(said["logprobs"]) > 1


def test_top_logprobs_have_a_limit(live: Live) -> None:
    for count in (-1, 21):
        for path in ("/api/chat", "/api/generate"):
            error = refused(live, path, 400, logprobs=True, top_logprobs=count)
            assert error == "top_logprobs must be between 0 and 20"
    entries = answered(live, "/api/chat", messages=HELLO, logprobs=True, top_logprobs=20)["logprobs"]
    assert {len(entry["top_logprobs"]) for entry in entries} == {20}
    assert "top_logprobs" not in answered(live, "/api/chat", messages=HELLO, logprobs=True)["logprobs"][0]
    assert "logprobs" not in answered(live, "/api/chat", messages=HELLO, top_logprobs=3)


def test_history_as_clients_write_it(live: Live) -> None:
    """Arguments as an object or as its JSON, roles in any case."""
    answers = []
    for arguments in ({"expression": "37 * 12"}, '{"expression": "37 * 12"}'):
        call = {
            "id": "call_1",
            "type": "function",
            "function": {"index": 0, "name": "calculate", "arguments": arguments},
        }
        chat = [
            {"role": "User", "content": "What is 37 * 12?"},
            {"role": "ASSISTANT", "tool_calls": [call]},
            {"role": "Tool", "content": "444", "tool_name": "calculate", "tool_call_id": "call_1"},
        ]
        answers.append(answered(live, "/api/chat", messages=chat, tools=[CALCULATE]))
    assert [one["message"]["content"] for one in answers] == ["37 * 12 = 444."] * 2
    assert answers[0]["prompt_eval_count"] == answers[1]["prompt_eval_count"]
    wrong = {"role": "assistant", "tool_calls": [{"function": {"name": "calculate", "arguments": "{"}}]}
    assert "arguments of the tool call 'calculate'" in refused(live, "/api/chat", 400, messages=[*chat[:1], wrong])
    assert "has the role ''" in refused(live, "/api/chat", 400, messages=[{"content": "x"}])


def test_several_calls_are_counted(live: Live) -> None:
    asked = [{"role": "user", "content": "What is 37 * 12, and what is 5 + 6?"}]
    calls = answered(live, "/api/chat", messages=asked, tools=[CALCULATE])["message"]["tool_calls"]
    assert [call["function"]["index"] for call in calls] == [0, 1]
    assert [call["function"]["arguments"]["expression"] for call in calls] == ["37 * 12", "5 + 6"]
    assert len({call["id"] for call in calls}) == 2


def test_the_types_of_a_union_as_the_python_client_writes_them(live: Live) -> None:
    parameters = {"type": "object", "properties": {"expression": {"type": "string, integer"}}}
    tool = {"type": "function", "function": {**CALCULATE["function"], "parameters": parameters}}
    body = {"messages": [{"role": "user", "content": "What is 37 * 12?"}]}
    said = answered(live, "/api/chat", **body, tools=[tool])
    assert said["message"]["tool_calls"][0]["function"]["arguments"] == {"expression": "37 * 12"}


def test_an_assistants_last_words_are_gone_on_with(live: Live) -> None:
    said = answered(live, "/api/chat", messages=[*HELLO, {"role": "assistant", "content": "Hello! I am"}])
    assert said["message"]["content"] == GREETING.removeprefix("Hello! I am")


def test_a_template_is_jinja_in_the_sandbox(live: Live) -> None:
    for go in (
        "{{ .Prompt }}",
        "{{ if .System }}{{ .System }}{{ end }}",
        "{{- range .Messages }}x{{ end }}",
        "{{ . }}",
    ):
        assert "Go's template language" in refused(live, "/api/generate", 400, prompt="x", template=go)
    for broken in ("{% if %}", "{{ messages.__class__ }}", "{{ raise_exception('no') }}"):
        assert "the chat template" in refused(live, "/api/generate", 422, prompt="x", template=broken)
    endless = "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}"
    assert "works without end" in refused(live, "/api/generate", 422, prompt="x", template=endless)
    huge = "x" * (live.house.limits.template_bytes + 1)
    assert "template is larger than" in refused(live, "/api/generate", 413, prompt="x", template=huge)


def test_raw_excludes_what_is_for_chats(live: Live) -> None:
    for more in ({"template": "{{ messages }}"}, {"system": "x"}, {"context": [1]}):
        error = refused(live, "/api/generate", 400, prompt="x", raw=True, **more)
        assert error == "raw mode does not support template, system, or context"
    assert "token id 99999 is out of range" in refused(live, "/api/generate", 400, prompt="x", context=[99999])


def test_the_prompt_instead_of_its_answer(live: Live) -> None:
    said = answered(live, "/api/chat", messages=HELLO, _debug_render_only=True)
    prompt = "<|startoftext|><|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n"
    assert said["_debug_info"] == {"rendered_template": prompt, "image_count": 0}
    assert (
        answered(live, "/api/generate", prompt="Hello!", _debug_render_only=True)["_debug_info"] == said["_debug_info"]
    )


def test_forms_that_are_none(live: Live) -> None:
    assert "format is 'yaml' but should be" in refused(live, "/api/chat", 400, messages=HELLO, format="yaml")
    assert "Invalid type: strnig" in refused(live, "/api/chat", 400, messages=HELLO, format={"type": "strnig"})
    large = {"type": "object", "properties": {f"p{i}" * 10: {"type": "string"} for i in range(10_000)}}
    assert "format is larger than" in refused(live, "/api/chat", 413, messages=HELLO, format=large)
    tools = [{**CALCULATE, "padding": "x" * live.house.limits.form_bytes}]
    assert "tools is larger than" in refused(live, "/api/chat", 413, messages=HELLO, tools=tools)
    assert refused(live, "/api/chat", 400, messages=HELLO, tools=[{"type": "function"}])


def test_every_reason_has_one_of_ollamas() -> None:
    reasons = set(events.Reason.__args__)
    assert set(REASONS) <= reasons
    assert {REASONS.get(reason, "stop") for reason in reasons} == {"stop", "length"}


def test_cached_tokens_are_told(own: Live) -> None:
    chat = [{"role": "user", "content": "What is the time? " * 60}]
    first, second = (answered(own, "/api/chat", messages=chat, options={"num_predict": 1}) for _ in "12")
    assert first["headrace"]["prompt_cached_tokens"] == 0
    assert 0 < second["headrace"]["prompt_cached_tokens"] < second["prompt_eval_count"] == first["prompt_eval_count"]
