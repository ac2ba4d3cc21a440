"""A model of a server: what is sent to it, what becomes of its lines, and of everything that can go wrong."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from headrace import connection
from headrace.connection import Server, same_name, url_of
from headrace.errors import (
    Forbidden,
    HeadraceError,
    KeyMissing,
    ModelNotFound,
    RequestInvalid,
    ServerFailed,
    TooLarge,
    Unreachable,
)
from headrace.events import Done, Dropped, Event, Text, Thinking, Timings, ToolCall, ToolResult, Usage
from headrace.remote import RemoteModel
from tests.fake_ollama import Fake, fake


@pytest.fixture
def server() -> Iterator[Fake]:
    with fake() as one:
        yield one


@pytest.fixture
def model(server: Fake) -> Iterator[RemoteModel]:
    with closing(RemoteModel(Server(server.url), "scripted")) as one:
        yield one


def ask(model: RemoteModel, text: str, **options: Any) -> list[Event]:
    return list(model.chat([{"role": "user", "content": text}], **options))


def said(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


# --- where it is


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("example.com", "http://example.com:11434"),
        ("example.com:80", "http://example.com:80"),
        (":8080", "http://127.0.0.1:8080"),
        ("http://example.com", "http://example.com:80"),
        ("HTTPS://Example.com", "https://example.com:443"),
        ("https://example.com:8443/ollama/", "https://example.com:8443/ollama"),
        ("example.com/a/b", "http://example.com:11434/a/b"),
        ("0.0.0.0:9", "http://127.0.0.1:9"),
        ("::1", "http://[::1]:11434"),
        ("[::1]:9", "http://[::1]:9"),
        ("[::]", "http://[::1]:11434"),
        (" 10.0.0.1 ", "http://10.0.0.1:11434"),
    ],
)
def test_addresses_are_written_as_ollamas(host: str, url: str) -> None:
    assert url_of(host) == url


@pytest.mark.parametrize("host", ["a b", "ftp://x", "x:y", "x:70000", "http://user:pw@x", "x?a=b", "[::1", "x#y"])
def test_what_is_no_address(host: str) -> None:
    with pytest.raises(RequestInvalid, match="is no server's address"):
        url_of(host)


def test_names_are_the_same_in_any_case_and_with_a_tag() -> None:
    assert same_name("NANO", ["a:7b", "nano:latest"]) == "nano:latest"
    assert same_name("a", ["a:7b"]) is None


# --- what is asked


def test_what_is_asked(model: RemoteModel, server: Fake) -> None:
    ask(model, "say hi")
    (body,) = server.chats
    assert body == {
        "model": "scripted",
        "messages": [{"role": "user", "content": "say hi"}],
        "options": {},
        "truncate": False,
        "shift": False,
        "stream": True,
    }


def test_all_that_can_be_asked(server: Fake) -> None:
    form = {"type": "object"}
    schema = {"name": "f", "description": "", "parameters": {"type": "object", "properties": {}}}
    with closing(RemoteModel(Server(server.url), "scripted", 2048, 300.0)) as model:
        options: dict[str, Any] = {"temperature": 0.5, "stop": ["END"], "seed": 7, "top_k": None}
        ask(model, "say hi", tools=[schema], format=form, think=False, context="shift", **options)
        (body,) = server.chats
        assert model.num_ctx == 2048
    assert body["options"] == {"temperature": 0.5, "stop": ["END"], "seed": 7, "num_ctx": 2048}
    assert body["tools"] == [{"type": "function", "function": schema}]
    assert (body["format"], body["think"], body["keep_alive"]) == (form, False, 300.0)
    assert (body["truncate"], body["shift"]) == (True, False)


@pytest.mark.parametrize(
    ("context", "ollama"),
    [
        ("error", {"truncate": False, "shift": False}),
        ("shift", {"truncate": True, "shift": False}),
        ("truncate", {"truncate": True, "shift": False}),
    ],
)
def test_what_becomes_of_what_does_not_fit_is_asked_in_our_words_where_they_are_known(
    context: str, ollama: dict[str, bool], server: Fake
) -> None:
    for beside, asked in (({}, ollama), ({"headrace": {"version": "1"}}, {"headrace": {"context": context}})):
        server.beside = beside
        with closing(RemoteModel(Server(server.url), "scripted")) as model:
            ask(model, "say hi", context=context)
        body = server.chats[-1]
        assert {name: body[name] for name in ("truncate", "shift", "headrace") if name in body} == asked


def test_for_ever_is_minus_one(server: Fake) -> None:
    with closing(RemoteModel(Server(server.url), "scripted", keep_alive_s=float("inf"))) as model:
        ask(model, "say hi")
    assert server.chats[0]["keep_alive"] == -1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"temperature": -1}, "temperature is -1 but should be a number from 0 to 100"),
        ({"temprature": 1}, "unknown parameter 'temprature'"),
        ({"format": {"gbnf": "x"}}, "a grammar"),
        ({"tools": "all"}, "tools is 'all'"),
        ({"context": "roll"}, "context is 'roll'"),
    ],
)
def test_what_cannot_be_asked_is_not_sent(
    options: dict[str, Any], sentence: str, model: RemoteModel, server: Fake
) -> None:
    with pytest.raises(RequestInvalid, match=sentence):
        ask(model, "say hi", **options)
    assert not server.chats


# --- what it answers


def test_pieces_and_figures(model: RemoteModel) -> None:
    *pieces, done = ask(model, "say one |two\u2028|three\u0085")  # which some take for ends of lines
    assert pieces == [Text("one "), Text("two\u2028"), Text("three\u0085")]
    assert isinstance(done, Done)
    assert (done.reason, done.usage, done.dropped, done.warnings) == ("stop", Usage(26, 10), None, ())
    assert done.timings == Timings(1.5, 0.5, 2.0, done.timings.first_token_s)
    assert 0 < done.timings.first_token_s < 90
    assert model.load_s == 1.0


def test_thinking_is_apart(model: RemoteModel) -> None:
    assert ask(model, "think")[:2] == [Thinking("let me see"), Text("thought")]


@pytest.mark.parametrize("reason", ["length", "repetition"])
def test_why_it_ended(reason: str, model: RemoteModel) -> None:
    done = ask(model, reason)[-1]
    assert isinstance(done, Done)
    assert done.reason == reason


def test_what_our_own_server_says_beside_it(model: RemoteModel) -> None:
    done = ask(model, "extras")[-1]
    assert isinstance(done, Done)
    assert done.reason == "repetition"
    assert done.usage == Usage(26, 10, forced_tokens=3, cached_tokens=6)
    assert done.dropped == Dropped(2, 120)
    assert done.warnings == ("malformed_tool_call",)
    assert model.num_ctx == 512


# --- tools


def look(name: str) -> str:
    """Looks at a file."""
    return f"{name} is there"


def test_tools_run_here_and_their_results_go_back(model: RemoteModel, server: Fake) -> None:
    events = ask(model, 'call look {"name": "a.txt"}', tools=[look], run_tools=True)
    call = ToolCall("call_ab12", "look", {"name": "a.txt"})
    assert events[:2] == [call, ToolResult("call_ab12", "look", "a.txt is there")]
    assert said(events) == "look says a.txt is there"
    done = events[-1]
    assert isinstance(done, Done)
    assert (done.reason, done.usage) == ("stop", Usage(52, 20))
    asked, result = server.chats[1]["messages"][1:]
    function = {"index": 0, "name": "look", "arguments": {"name": "a.txt"}}
    assert asked == {"role": "assistant", "content": "", "tool_calls": [{"id": "call_ab12", "function": function}]}
    assert result == {
        "role": "tool",
        "content": "a.txt is there",
        "tool_name": "look",
        "tool_call_id": "call_ab12",
    }


def test_without_running_them_the_answer_ends_at_the_calls(model: RemoteModel, server: Fake) -> None:
    events = ask(model, 'call look {"name": "a.txt"}', tools=[look])
    assert [type(event) for event in events] == [ToolCall, Done]
    assert isinstance(events[-1], Done)
    assert events[-1].reason == "tool_calls"
    assert len(server.chats) == 1


def test_who_does_not_consent_is_told(model: RemoteModel) -> None:
    events = ask(model, 'call look {"name": "a.txt"}', tools=[look], run_tools=True, approve=lambda _: "not today")
    assert "error: not today" in said(events)


def test_after_the_last_round_there_are_no_tools(
    model: RemoteModel, server: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.remote.MAX_ROUNDS", 0)
    assert said(ask(model, 'call look {"name": "a"}', tools=[look], run_tools=True)) == ""
    monkeypatch.setattr("headrace.remote.MAX_ROUNDS", 1)

    def again(name: str) -> str:
        """Asks for itself."""
        return name

    # The result is what the fake server is asked next, as the last message: "call again ..."
    events = ask(model, 'call again {"name": "x"}', tools=[again], run_tools=True)
    assert "tools" in server.chats[-2]
    assert "tools" not in server.chats[-1]
    assert said(events) == "again says x"


# --- what goes wrong


def test_an_unknown_model_is_told_which_there_are(server: Fake) -> None:
    with closing(Server(server.url)) as one, pytest.raises(ModelNotFound) as raised:
        RemoteModel(one, "nonesuch")
    assert str(raised.value) == f"there is no model 'nonesuch' at {server.url}: it has scripted:latest, other:7b"


def test_a_long_list_is_cut() -> None:
    with fake(names=[f"m{number}" for number in range(30)]) as server, closing(Server(server.url)) as one:
        with pytest.raises(ModelNotFound, match=r"m18, m19 and 10 more$"):
            RemoteModel(one, "nonesuch")
        server.names = []
        with pytest.raises(ModelNotFound, match=r"it has none$"):
            RemoteModel(one, "nonesuch")


def test_where_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with closing(Server(f"127.0.0.1:{port}")) as one, pytest.raises(Unreachable) as raised:
        one.names()
    assert str(raised.value) == (
        f"nothing answers at http://127.0.0.1:{port} (Connection refused): start a server with `headrace serve`, or "
        "say with --host where one is"
    )


def test_keys() -> None:
    with fake(key="secret") as server:
        for key, sentence in ((None, "it wants a key: give one with --api-key"), ("wrong", "does not know the key")):
            with closing(Server(server.url, key)) as one, pytest.raises(KeyMissing, match=sentence):
                one.names()
        with closing(Server(server.url, "secret")) as one:
            assert one.names() == server.names
        assert server.keys == [None, "Bearer wrong", "Bearer secret"]
        with pytest.raises(RequestInvalid, match="no header can carry"):
            Server(server.url, "se\ncret")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RequestInvalid),
        (403, Forbidden),
        (413, TooLarge),
        (418, RequestInvalid),
        (500, ServerFailed),
        (501, ServerFailed),
        (503, ServerFailed),
    ],
)
def test_a_refusal_is_what_it_would_be_here(status: int, kind: type[HeadraceError], model: RemoteModel) -> None:
    with pytest.raises(kind, match=f"it is status {status}") as raised:
        ask(model, f"status {status}")
    assert type(raised.value) is kind


def test_a_server_of_another_kind(server: Fake) -> None:
    with closing(Server(f"{server.url}/elsewhere")) as one, pytest.raises(RequestInvalid, match="has no /api/tags"):
        one.names()


def test_a_redirection_is_not_followed(model: RemoteModel) -> None:
    with pytest.raises(RequestInvalid, match="sends to http://elsewhere/"):
        ask(model, "move")


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ("error", r"an error was encountered while running the model: CUDA error\\n\\x1b\[31m$"),
        ("cut", "ended the answer in its middle"),
        ("junk", "what it answers to /api/chat is no JSON object"),
        ('wrong {"message": []}', r"message is \[\] where it should be of another type"),
        ('wrong {"message": {"content": 3}}', "content is 3 where"),
        ('wrong {"message": {"tool_calls": [{}]}}', "a tool call should have a function"),
        ('wrong {"message": {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}', "a tool call should"),
        ('wrong {"message": {"thinking": true}}', "thinking is true where"),
    ],
)
def test_what_cannot_be_understood_is_the_servers_fault(question: str, sentence: str, model: RemoteModel) -> None:
    with pytest.raises(ServerFailed, match=sentence) as raised:
        ask(model, question)
    assert str(raised.value).isprintable()


def test_what_was_said_before_an_error_was_said(model: RemoteModel) -> None:
    events = model.chat([{"role": "user", "content": "error"}])
    assert next(events) == Text("half an ")
    with pytest.raises(ServerFailed):
        next(events)


def test_endless_lines_end(model: RemoteModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LARGEST_BYTES", 300)
    with pytest.raises(ServerFailed, match="a line of its answer is longer"):
        ask(model, "say " + "x" * 500_000)
    with pytest.raises(ServerFailed, match="its answer is longer"):
        RemoteModel(model.server, "scripted")


def test_leaving_an_answer_closes_its_connection(model: RemoteModel, server: Fake) -> None:
    events = model.chat([{"role": "user", "content": "slow"}])
    assert next(events) == Text("on ")
    assert not server.gone.is_set()
    del events
    assert server.gone.wait(60)
    assert said(ask(model, "say still here")) == "still here"


def test_a_proxy_is_not_asked_for_this_machine(server: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with closing(Server(server.url)) as one:
        assert one.names() == server.names


# --- what it is


def test_what_is_shown_of_it(model: RemoteModel, server: Fake) -> None:
    assert model.can_think
    assert model.template == "{{ .System }}\n{{ .Prompt }}"
    assert model.parameters == {"num_ctx": "8192", "temperature": "0.7", "stop": ["<|end|>", "<|eot|>"]}
    assert model.num_ctx == 4096, "as it is loaded"
    server.running = []
    assert model.num_ctx == 131072, "the most it has"


def test_unloading(server: Fake) -> None:
    with closing(Server(server.url)) as one:
        assert [loaded["name"] for loaded in one.loaded()] == ["scripted:latest"]
        one.unload("scripted")
        assert server.asked[-1] == ("/api/generate", {"model": "scripted", "keep_alive": 0, "stream": False})
        with pytest.raises(ModelNotFound, match="it has scripted:latest"):
            one.unload("nonesuch")
