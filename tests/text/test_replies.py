"""docs/tools.md says what becomes of a reply: each row of its tables is a test."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import headrace
from headrace import Text, Thinking, ToolCall, ToolCallDelta
from headrace.text.calls import CALL_END, CALL_START, ReplyParser
from headrace.tools.schema import parameters_of

PAGE = (Path(__file__).parents[2] / "docs" / "tools.md").read_text(encoding="utf-8")
SIGNS = {"«": CALL_START, "»": CALL_END, "⏎": "\n", "\\|": "|"}


def rows(name: str) -> list[Any]:
    """The rows below each mark of this name, cell by cell."""
    tables = re.findall(rf"<!-- {name} -->\n(?:\|.*\n){{2}}((?:\|.*\n)+)", PAGE)
    cut = [re.split(r"(?<!\\)\|", row)[1:-1] for table in tables for row in table.splitlines()]
    return [pytest.param(*map(str.strip, cells[1:]), id=cells[0].strip()) for cells in cut]


def code(cell: str) -> str:
    """What stands in back-ticks, however many; a space on both sides keeps it from those inside."""
    ticks = len(cell) - len(cell.lstrip("`"))
    text = cell[ticks:-ticks]
    text = text[1:-1] if text[0] == text[-1] == " " else text
    for sign, meaning in SIGNS.items():
        text = text.replace(sign, meaning)
    return text


def tools_of(cell: str) -> list[Any] | None:
    if not cell:
        return None
    if code(cell) == "none":
        return []
    tools: list[Any] = []
    for name, parameters in re.findall(r"([^,(]+)(?:\(([^)]*)\))?,? ?", code(cell)):
        named = [parameter.partition(": ") for parameter in parameters.split(", ")] if parameters else []
        properties = {parameter: {"type": kind} if kind else {} for parameter, _, kind in named}
        tools.append({"name": name, "parameters": {"type": "object", "properties": properties}} if named else name)
    return tools


def calls_of(cell: str) -> list[tuple[str, str]]:
    """Names and arguments; as JSON, so that their order and 1 beside 1.0 count."""
    parts = [code(call).partition(" {") for call in filter(None, cell.split(" · "))]
    return [(name, json.dumps(json.loads("{" + arguments), ensure_ascii=False)) for name, _, arguments in parts]


def told(calls: list[ToolCall]) -> list[tuple[str, str]]:
    return [(call.name, json.dumps(call.arguments, ensure_ascii=False)) for call in calls]


@pytest.mark.parametrize(("offered", "reply", "calls", "content", "warnings"), rows("replies"))
def test_replies(offered: str, reply: str, calls: str, content: str, warnings: str) -> None:
    tools, text = tools_of(offered), code(reply)
    found = headrace.parse_reply(text, tools)
    assert told(found.tool_calls) == calls_of(calls)
    assert found.content == (code(content) if content else "")
    assert found.warnings == ([code(warnings)] if warnings else [])
    assert found.thinking == ""
    for size in (1, 2, 3, 5, 11):
        parser = ReplyParser(offered=None if tools is None else dict(map(parameters_of, tools)))
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        events = [event for piece in pieces for event in parser.feed(piece)] + parser.finish()
        assert [event for event in events if isinstance(event, ToolCall)] == found.tool_calls
        assert "".join(event.text for event in events if isinstance(event, Text)).strip() == found.content
        assert parser.warnings == found.warnings


@pytest.mark.parametrize(("thinking", "reply", "thought", "content", "calls"), rows("thoughts"))
def test_thoughts(thinking: str, reply: str, thought: str, content: str, calls: str) -> None:
    found = headrace.parse_reply(code(reply), thinking={"True": True, "False": False}[code(thinking)])
    assert found.thinking == (code(thought) if thought else "")
    assert found.content == (code(content) if content else "")
    assert told(found.tool_calls) == calls_of(calls)


def test_the_tables_are_read() -> None:
    assert len(rows("replies")) > 80
    assert len(rows("thoughts")) == 10


def test_the_python_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(snippet, "docs/tools.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "get_weather {'city': 'Paris'} '' []" in printed
    assert f'<|im_start|>assistant\n{CALL_START}[get_weather(city="Paris")]{CALL_END}<|im_end|>' in printed


EXAMPLES = Path(__file__).parents[3] / "shared" / "data" / "toolcalls" / "examples.jsonl"
# Those that are no reply of their own, and how they are read instead.
NO_REPLY = {
    "llama.cpp/partial_call_streaming": "a stream in the middle of a call: what is known of it by then",
    "llama.cpp/continuation_content": "goes on with a turn that the prompt began: together with it",
    "llama.cpp/continuation_reasoning": "goes on with thinking that the prompt began: together with it",
}


def examples() -> list[dict[str, Any]]:
    if not EXAMPLES.exists():
        return []
    return [json.loads(line) for line in EXAMPLES.read_text(encoding="utf-8").splitlines()]


def test_the_examples_are_all_there() -> None:
    if not EXAMPLES.exists():
        pytest.skip("../shared/data/toolcalls/examples.jsonl is not beside this checkout")
    assert len(examples()) == 47


@pytest.mark.parametrize("example", examples(), ids=lambda example: example["id"])
def test_examples_by_others(example: dict[str, Any]) -> None:
    text, expected = example["raw_output"], example["expect"]
    if example.get("partial"):
        (asked,) = expected["tool_calls"]
        events = ReplyParser(deltas=True).feed(text)
        assert all(isinstance(event, ToolCallDelta) and event.name == asked["name"] for event in events)
        deltas = [event.arguments for event in events if isinstance(event, ToolCallDelta)]
        assert "".join(deltas) == asked["arguments_partial"]
        return
    if begun := example.get("prefill"):
        closed = "</think>" if begun["content"] else ""
        text = f"<think>{begun['thinking']}{closed}{begun['content']}{text}"
    reply = headrace.parse_reply(text, example.get("tools"), thinking=example.get("think_enabled", False))
    found = {
        "content": reply.content,
        "thinking": reply.thinking,
        "tool_calls": [{"name": call.name, "arguments": call.arguments} for call in reply.tool_calls],
    }
    for field in example["asserts"]:
        assert found[field] == expected[field]


def test_the_examples_that_are_no_reply() -> None:
    odd = {example["id"] for example in examples() if example.get("partial") or example.get("prefill")}
    assert odd == (NO_REPLY.keys() if examples() else set())


def test_what_is_no_reply_or_tool_is_a_sentence() -> None:
    with pytest.raises(headrace.RequestInvalid, match="the reply is a bytes: expected text"):
        headrace.parse_reply(b"")  # type: ignore[arg-type]
    with pytest.raises(headrace.RequestInvalid, match="tools is a dict: expected a list"):
        headrace.parse_reply("", {"name": "f"})  # type: ignore[arg-type]
    for tool in (5, {}, {"function": 1}, {"name": ""}, None):
        with pytest.raises(headrace.RequestInvalid, match="is not a tool"):
            headrace.parse_reply("", [tool])  # type: ignore[list-item]


def test_tools_come_in_four_forms() -> None:
    def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    parameters = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
    bare = {"name": "add", "parameters": parameters}
    for tool in (add, bare, {"type": "function", "function": bare}):
        (call,) = headrace.parse_reply(f"{CALL_START}[add(1, 2)]{CALL_END}", [tool]).tool_calls
        assert call.arguments == {"a": 1, "b": 2}
    assert headrace.parse_reply("[add(a=1)]", ["add"]).tool_calls[0].arguments == {"a": 1}
    assert headrace.parse_reply(f"{CALL_START}[add(1)]{CALL_END}", ["add"]).warnings == ["malformed_tool_call"]


def test_content_never_holds_what_looks_like_a_special_token() -> None:
    sentinels = ["<|im_end|>", "<|im_start|>", "<|endoftext|>", "<|tool_response_end|>", "<|reserved_41|>", "<|pad|>"]
    for text in (
        *sentinels,
        "<|im_<|im_end|>end|>",
        f"<|im_{CALL_START}[f()]{CALL_END}end|>",
        f"{CALL_START}<|pad|>(]",
    ):
        content = headrace.parse_reply(f"a{text}b").content
        assert content.startswith("a")
        assert "<|" not in content
    assert headrace.parse_reply("<think><|im_end|></think>x").thinking == "<|im_end|>"


def test_thinking_does_not_depend_on_the_pieces() -> None:
    parser = ReplyParser(thinking=True)
    events = [event for piece in "Hm.</think>\n Yes" for event in parser.feed(piece)] + parser.finish()
    assert "".join(event.text for event in events if isinstance(event, Thinking)) == "Hm."
    assert "".join(event.text for event in events if isinstance(event, Text)) == "Yes"
