"""Messages -> prompt text: the model's own Jinja template, in a sandbox set up as transformers sets it up.

sandbox.py has the environment; here are what goes into it and what becomes of its errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import jinja2
from jinja2.exceptions import SecurityError, TemplateSyntaxError

from headrace.errors import TemplateInvalid
from headrace.text import continuation, sandbox
from headrace.text.messages import plain, plain_messages, plain_tools
from headrace.text.sandbox import MAX_PROMPT_CHARACTERS


def _shipped(dialect: str) -> str:
    return (Path(__file__).parent / "templates" / f"{dialect}.jinja").read_text(encoding="utf-8")


# The architectures' own templates, for files without one: LFM2's, and LFM2.5's where `<think>` is one token.
FALLBACK_LFM2: Final = _shipped("lfm2")
FALLBACK_LFM25: Final = _shipped("lfm2.5")


class Template:
    """A compiled chat template. `special_tokens` (bos_token, eos_token, ...) are variables of it."""

    __slots__ = ("_compiled", "_special_tokens", "source")

    def __init__(self, source: str, special_tokens: Mapping[str, str] | None = None) -> None:
        """Raises TemplateInvalid where `source` is no Jinja."""
        self.source = source
        self._special_tokens = dict(special_tokens or {})
        try:
            self._compiled = sandbox.compiled(source)
        except TemplateSyntaxError as problem:
            raise TemplateInvalid(
                f"the chat template cannot be read: line {problem.lineno}: {problem.message}"
            ) from problem
        except Exception as problem:  # the compiler folds constants, so it runs a little of the template
            raise TemplateInvalid(f"the chat template cannot be read: {_sentence(problem)}") from problem

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Any] | None = None,
        add_generation_prompt: bool = True,
        **kwargs: Any,
    ) -> str:
        """The prompt, byte for byte as transformers' `apply_chat_template(tokenize=False)` gives it.

        `kwargs` are further variables of the template. With `continue_final_message` (True, or the name of a field) the
        prompt ends inside the last message, and there is no generation prompt. Raises RequestInvalid for messages or
        tools of the wrong shape, TemplateInvalid where the template refuses them, fails, or does what it may not.
        """
        goes_on = kwargs.pop("continue_final_message", False)
        variables = {"documents": None} | self._special_tokens | plain(kwargs, "a template variable")
        chat = plain_messages(messages)
        variables |= {"tools": plain_tools(tools), "add_generation_prompt": add_generation_prompt and not goes_on}
        if not goes_on:
            return self._rendered(chat, variables)
        said = continuation.mark(chat, goes_on, self.source)
        return continuation.cut(self._rendered(chat, variables), said)

    def _rendered(self, chat: list[dict[str, Any]], variables: Mapping[str, Any]) -> str:
        try:
            return _bounded(self._compiled, {**variables, "messages": chat})
        except SecurityError as problem:
            raise TemplateInvalid(f"the chat template does what it may not: {_sentence(problem)}") from problem
        except sandbox.Refusal as problem:
            raise TemplateInvalid(f"the chat template refuses these messages: {_sentence(problem)}") from problem
        except TemplateInvalid:
            raise
        except Exception as problem:  # foreign code may fail in any way
            raise TemplateInvalid(_failure(problem, chat)) from problem


def _bounded(template: jinja2.Template, variables: Mapping[str, Any]) -> str:
    pieces, length = [], 0
    for piece in template.generate(sandbox.with_budget(dict(variables))):
        pieces.append(piece)
        length += len(piece)
        if length > MAX_PROMPT_CHARACTERS:
            raise TemplateInvalid(f"the chat template prints more than {MAX_PROMPT_CHARACTERS} characters")
    return "".join(pieces)


def _sentence(problem: Exception) -> str:
    return str(problem) or type(problem).__name__


def _failure(problem: Exception, chat: list[dict[str, Any]]) -> str:
    sentence = f"the chat template fails on these messages: {_sentence(problem)}"
    empty = [f"{place} ({turn['role']})" for place, turn in enumerate(chat, 1) if "content" not in turn]
    return f"{sentence} (without content: message {', '.join(empty)})" if empty else sentence
