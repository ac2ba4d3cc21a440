"""The official Python client of Ollama, blocking and asynchronous, on a server with nano."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import ollama
import pytest
from pydantic import BaseModel

from tests.server import thinker
from tests.server.live import Live, running

HELLO = [{"role": "user", "content": "Hello!"}]
GREETING = "Hello! I am nano. Ask me for a calculation, the time, a date or a conversion."
SUM = {"role": "user", "content": "What is 37 * 12?"}


def calculate(expression: str) -> str:
    """Works out an arithmetic expression.

    Args:
      expression: what to work out

    Returns:
      str: its value
    """
    return str(eval(expression))


class Person(BaseModel):
    name: str
    company: str


class Blocking:
    """The blocking client; what it streams comes as a list."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            with ollama.Client(host=self.url) as client:
                got = getattr(client, name)(*args, **kwargs)
                return list(got) if kwargs.get("stream") else got

        return called


class Asynchronous(Blocking):
    """The asynchronous one, each call in a loop of its own."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def work(*args: Any, **kwargs: Any) -> Any:
            async with ollama.AsyncClient(host=self.url) as client:
                got = await getattr(client, name)(*args, **kwargs)
                return [part async for part in got] if kwargs.get("stream") else got

        return lambda *args, **kwargs: asyncio.run(work(*args, **kwargs))


@pytest.fixture(params=[Blocking, Asynchronous])
def client(request: pytest.FixtureRequest, live: Live) -> Any:
    return request.param(live.url)


@pytest.fixture(scope="module")
def thinking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Blocking]:
    path = thinker.write(tmp_path_factory.mktemp("models") / "thinker.gguf")
    with running(models=[str(path)]) as one:
        yield Blocking(one.url)


def refused(status: int, call: Callable[[], object]) -> str:
    with pytest.raises(ollama.ResponseError) as caught:
        call()
    assert caught.value.status_code == status
    return str(caught.value.error)


def test_chat(client: Any) -> None:
    whole = client.chat("nano", HELLO)
    assert (whole.message.role, whole.message.content) == ("assistant", GREETING)
    assert (whole.model, whole.done, whole.done_reason) == ("nano", True, "stop")
    assert (whole.prompt_eval_count, whole.eval_count) == (11, 22)
    assert whole.total_duration > whole.eval_duration > 0
    assert whole.load_duration > 0
    assert whole.prompt_eval_duration > 0
    assert abs(datetime.fromisoformat(whole.created_at) - datetime.now(UTC)) < timedelta(hours=1)


def test_chat_streamed(client: Any) -> None:
    parts = client.chat("NANO:latest", HELLO, stream=True)
    assert "".join(part.message.content for part in parts) == GREETING
    assert len(parts) > 10
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert {part.model for part in parts} == {"NANO:latest"}
    assert parts[-1].eval_count == 22


def test_generate(client: Any) -> None:
    whole = client.generate("nano", "Hello!")
    assert (whole.response, whole.done_reason) == (GREETING, "stop")
    assert len(whole.context) == whole.prompt_eval_count + whole.eval_count
    parts = client.generate("nano", "Hello!", stream=True)
    assert "".join(part.response for part in parts) == GREETING
    assert parts[-1].context == whole.context


def test_generate_goes_on_from_its_context(client: Any) -> None:
    """As if all of it had been said in one chat."""
    first = client.generate("nano", "Hello!")
    second = client.generate("nano", "Who are you?", context=first.context)
    chat = [*HELLO, {"role": "assistant", "content": first.response}, {"role": "user", "content": "Who are you?"}]
    whole = client.chat("nano", chat)
    assert (second.response, second.prompt_eval_count) == (whole.message.content, whole.prompt_eval_count)
    assert second.context[: len(first.context)] == first.context


def test_generate_raw_and_with_a_system_and_a_template(client: Any) -> None:
    prompt = "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n"
    raw = client.generate("nano", prompt, raw=True)
    assert (raw.response, raw.context) == (GREETING, None)
    turn = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    template = turn + "{{ '<|im_start|>assistant\\n' }}"
    templated = client.generate("nano", "Hello!", template=template)
    assert (templated.response, templated.prompt_eval_count) == (GREETING, 11)
    with_system = client.generate("nano", "Hello!", system="Be brief.")
    as_chat = client.chat("nano", [{"role": "system", "content": "Be brief."}, *HELLO])
    assert (with_system.response, with_system.prompt_eval_count) == (as_chat.message.content, as_chat.prompt_eval_count)


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_and_its_result_answered(stream: bool, client: Any) -> None:
    said = client.chat("nano", [SUM], tools=[calculate], stream=stream)
    parts = said if stream else [said]
    (message,) = [part.message for part in parts if part.message.tool_calls]
    (call,) = message.tool_calls
    assert (call.function.name, call.function.arguments) == ("calculate", {"expression": "37 * 12"})
    assert parts[-1].done_reason == "stop"
    result = {"role": "tool", "tool_name": "calculate", "content": calculate(**call.function.arguments)}
    answer = client.chat("nano", [SUM, message, result], tools=[calculate])
    assert answer.message.content == "37 * 12 = 444."
    assert answer.message.tool_calls is None


def test_tools_only_where_they_are_offered(client: Any) -> None:
    assert client.chat("nano", [SUM]).message.tool_calls is None


def test_a_schema_is_kept(client: Any) -> None:
    text = "Extract name, company as JSON from this text: Ada Lovelace works at Acme."
    said = client.chat("nano", [{"role": "user", "content": text}], format=Person.model_json_schema())
    assert Person.model_validate_json(said.message.content).company == "Acme"
    generated = client.generate("nano", text, format=Person.model_json_schema())
    assert generated.response == said.message.content
    assert client.chat("nano", HELLO, format="json", options={"num_predict": 200}).message.content[0] in "{["
    assert client.chat("nano", HELLO, format="").message.content == GREETING


def test_logprobs(client: Any) -> None:
    for said in (
        client.chat("nano", HELLO, logprobs=True, top_logprobs=2),
        client.generate("nano", "Hello!", logprobs=True, top_logprobs=2),
    ):
        assert "".join(entry.token for entry in said.logprobs) == GREETING
        assert all(entry.logprob <= 0 and len(entry.top_logprobs) == 2 for entry in said.logprobs)
        assert [entry.top_logprobs[0].token for entry in said.logprobs] == [entry.token for entry in said.logprobs]
    parts = client.chat("nano", HELLO, logprobs=True, stream=True)
    streamed = [entry for part in parts for entry in part.logprobs or []]
    assert [entry.token for entry in streamed] == [entry.token for entry in said.logprobs]
    assert all(part.logprobs[0].token == part.message.content for part in parts[:-1])
    assert client.chat("nano", HELLO).logprobs is None


def test_options(client: Any) -> None:
    few = client.chat("nano", HELLO, options={"num_predict": 3, "num_gpu": 99, "num_thread": 1})
    assert (few.message.content, few.done_reason, few.eval_count) == ("Hello! I", "length", 3)
    stopped = client.chat("nano", HELLO, options=ollama.Options(stop=[" nano"]))
    assert (stopped.message.content, stopped.done_reason) == ("Hello! I am", "stop")
    hot = {"temperature": 5.0, "min_p": 0.0, "num_predict": 12, "seed": 7}
    drawn = [client.generate("nano", "The", raw=True, options=hot | more).response for more in ({}, {}, {"seed": 8})]
    assert drawn[0] == drawn[1] != drawn[2]
    at_random = {client.generate("nano", "The", raw=True, options=hot | {"seed": -1}).response for _ in range(3)}
    assert len(at_random) > 1
    assert "options" not in refused(400, lambda: client.chat("nano", HELLO, options={"top_p": 1.5}))


def test_a_stop_sequence_has_no_logprobs(client: Any) -> None:
    for stream in (False, True):
        said = client.chat("nano", HELLO, logprobs=True, options={"stop": [" nano."]}, stream=stream)
        entries = [entry.token for part in (said if stream else [said]) for entry in part.logprobs or []]
        assert "".join(entries) == "Hello! I am"


def test_lines_end_where_they_end(client: Any) -> None:
    """Python's idea of a line has more ends than one."""
    strange = "a\u2028b\u2029c\x85d"
    parts = client.generate("nano", "x", raw=True, format={"choices": [strange]}, stream=True)
    assert "".join(part.response for part in parts) == strange


def test_embed(client: Any) -> None:
    one, both = client.embed("nano", "cat"), client.embed("nano", ["cat", "dog"])
    assert len(one.embeddings) == 1
    assert both.embeddings[0] == one.embeddings[0] != both.embeddings[1]
    assert sum(x * x for x in both.embeddings[1]) == pytest.approx(1, abs=1e-5)
    assert both.prompt_eval_count > one.prompt_eval_count > 0
    short = client.embed("nano", "cat", dimensions=8).embeddings[0]
    scale = sum(x * x for x in one.embeddings[0][:8]) ** 0.5
    assert short == pytest.approx([x / scale for x in one.embeddings[0][:8]], abs=1e-6)
    assert client.embed("nano", []).embeddings == client.embed("nano", "").embeddings == []
    texts = [f"text {number}" for number in range(40)]
    many = client.embed("nano", texts)
    first, last, both = (client.embed("nano", some).prompt_eval_count for some in (texts[:16], texts[16], texts[:17]))
    assert first + last == both
    assert many.embeddings[37] == client.embed("nano", "text 37").embeddings[0]


def test_embeddings(client: Any) -> None:
    vector, unit = client.embeddings("nano", "cat").embedding, client.embed("nano", "cat").embeddings[0]
    length = sum(x * x for x in vector) ** 0.5
    assert abs(length - 1) > 0.1
    assert [x / length for x in vector] == pytest.approx(unit, abs=1e-5)
    assert client.embeddings("nano", "").embedding == []


def test_the_list_and_what_it_shows(client: Any) -> None:
    (nano,) = [model for model in client.list().models if model.model == "nano:latest"]
    assert nano.size > 10**7
    assert nano.modified_at.tzinfo is not None
    assert (nano.details.format, nano.details.family, nano.details.parameter_size) == ("gguf", "lfm2moe", "13.76M")
    shown = client.show("nano")
    assert shown.details == nano.details
    assert shown.modified_at == nano.modified_at
    assert shown.capabilities == ["completion", "tools"]
    assert shown.modelinfo["general.architecture"] == "lfm2moe"
    assert shown.modelinfo["lfm2moe.context_length"] == 4096
    assert shown.modelinfo["lfm2moe.expert_count"] == 8
    assert "im_start" in shown.template
    assert shown.parameters.splitlines()[0].split() == ["temperature", "0"]
    assert shown.license == "apache-2.0"


def test_what_runs(client: Any) -> None:
    client.chat("nano", HELLO, keep_alive="1h")
    (nano,) = [model for model in client.ps().models if model.name == "nano:latest"]
    left = nano.expires_at - datetime.now(UTC)
    assert timedelta(minutes=50) < left < timedelta(minutes=70)
    assert nano.size > 10**7
    assert nano.size_vram == 0
    assert nano.context_length == 4096
    assert nano.digest == next(model.digest for model in client.list().models if model.model == nano.name)
    client.chat("nano", HELLO, keep_alive=-1)
    assert client.ps().models[0].expires_at.year > 2200


def test_pull_of_what_is_there(client: Any) -> None:
    parts = client.pull("nano", stream=True)
    assert [part.status.split()[0] for part in parts] == ["pulling", "pulling", "verifying", "writing", "success"]
    assert parts[1].completed == parts[1].total > 10**7
    assert client.pull("nano").status == "success"


def test_unknown_models(client: Any) -> None:
    for call in (
        lambda: client.chat("other", HELLO),
        lambda: client.chat("other", HELLO, stream=True),
        lambda: client.generate("other", "x"),
        lambda: client.embed("other", "x"),
        lambda: client.embeddings("other", "x"),
        lambda: client.show("other"),
        lambda: client.delete("other"),
        lambda: client.copy("other", "x"),
        lambda: client.push("other"),
    ):
        assert refused(404, call).startswith("model 'other' not found")


def test_what_no_model_here_can_do(client: Any) -> None:
    assert refused(400, lambda: client.chat("nano", HELLO, think=True)) == '"nano" does not support thinking'
    assert refused(400, lambda: client.chat("nano", HELLO, think="high", stream=True)).endswith("support thinking")
    assert refused(400, lambda: client.generate("nano", "x", think=True)) == '"nano" does not support thinking'
    assert client.chat("nano", HELLO, think=False).message.content == GREETING
    assert refused(400, lambda: client.generate("nano", "x", suffix="y")) == '"nano" does not support insert'
    image = {"role": "user", "content": "What is this?", "images": [b"\x89PNG"]}
    assert refused(400, lambda: client.chat("nano", [*HELLO, image])).startswith("messages[1].images: ")
    assert refused(400, lambda: client.generate("nano", "x", images=[b"\x89PNG"])).startswith("images: ")
    assert refused(400, lambda: client.generate("nano", "x", width=64)).startswith("width: ")


def test_thinking(thinking: Blocking) -> None:
    short = {"options": {"num_predict": 8}}
    assert thinking.show("thinker").capabilities == ["completion", "tools", "thinking"]
    for think in (True, "low", "high"):
        said = thinking.chat("thinker", HELLO, think=think, **short)
        assert said.message.thinking
        assert said.message.content == ""
    parts = thinking.chat("thinker", HELLO, think=True, stream=True, **short)
    assert "".join(part.message.thinking or "" for part in parts) == said.message.thinking
    assert thinking.generate("thinker", "Hello!", think=True, **short).thinking == said.message.thinking
    for think in (False, None):
        said = thinking.chat("thinker", HELLO, think=think)
        assert (said.message.content, said.message.thinking) == (GREETING, None)
    error = refused(400, lambda: thinking.chat("thinker", HELLO, think="deep"))
    assert error == 'invalid think value: "deep" (must be "high", "medium", "low", "max", true, or false)'


def test_a_thought_is_carried_on(thinking: Blocking) -> None:
    """A turn of the model's as it came, thinking and all, can be sent back."""
    said = thinking.chat("thinker", HELLO, think=True, options={"num_predict": 4})
    again = thinking.chat("thinker", [*HELLO, said.message, *HELLO])
    assert again.done_reason == "stop"
