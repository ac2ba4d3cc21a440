"""Messages to text and back, without running a model: what `chat` does before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from headrace.checkpoint import Checkpoint
from headrace.errors import RequestInvalid
from headrace.library import opening
from headrace.text.calls import Reply, read_reply
from headrace.text.repair import write_calls
from headrace.text.template import Template
from headrace.tools.schema import Function, parameters_of, schema_of

__all__ = ["Reply", "parse_reply", "render"]

# What a template alone does not say: the family's.
_SPECIAL_TOKENS: Final = {"bos_token": "<|startoftext|>", "eos_token": "<|im_end|>"}


class Loaded(Protocol):
    """A `Model`, as far as its template goes."""

    @property
    def checkpoint(self) -> Checkpoint: ...


def render(
    template: Loaded | Template | str | Path,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any] | Function | str] | None = None,
    add_generation_prompt: bool = True,
    repair: bool = True,
    **template_kwargs: Any,
) -> str:
    """The prompt of a conversation, as text.

    `template` is a loaded model, a model's name or path, or the text of a Jinja template (what holds `{{` or `{%`).
    `tools` are Python functions, or OpenAI tools and bare function objects, which the template gets as they are. With
    `repair`, calls of earlier turns are written into the text of their turns, and content that is null is empty;
    without, it is transformers' `apply_chat_template(tokenize=False)`, byte for byte. `template_kwargs` are variables
    of the template, and transformers' `continue_final_message`.
    Raises RequestInvalid, TemplateInvalid, and what reading a model raises.
    """
    found = _template_of(template)
    turns = write_calls(messages, found) if repair else messages
    if isinstance(tools, list | tuple):
        tools = [schema_of(tool) if callable(tool) else tool for tool in tools]
    return found.render(turns, tools, add_generation_prompt, **template_kwargs)


def parse_reply(
    text: str, tools: Sequence[Mapping[str, Any] | Function | str] | None = None, thinking: bool = False
) -> Reply:
    """What a model's reply says: `content`, `thinking`, `tool_calls` (each `name` and `arguments`) and `warnings`.

    `tools` are those that were offered: OpenAI tools, bare function objects, Python functions, or names alone; [] where
    none was, None where it is not known. With `thinking` a `</think>` is honoured whose `<think>` stood in the prompt.
    `warnings` are "unknown_tool" and "malformed_tool_call". Raises RequestInvalid for what is no tool.
    """
    if not isinstance(text, str):
        raise RequestInvalid(f"the reply is a {type(text).__name__}: expected text")
    if tools is not None and not isinstance(tools, list | tuple):
        raise RequestInvalid(f"tools is a {type(tools).__name__}: expected a list of tools")
    return read_reply(text, None if tools is None else dict(map(parameters_of, tools)), thinking)


def _template_of(template: Loaded | Template | str | Path) -> Template:
    if isinstance(template, Template):
        return template
    if isinstance(template, str) and ("{{" in template or "{%" in template):
        return Template(template, _SPECIAL_TOKENS)
    if isinstance(template, str | Path):
        return opening.read(template).template
    return template.checkpoint.template
