"""Messages -> prompt text: the model's own Jinja template, in a sandbox set up as transformers sets it up.

A template comes out of a model's file, so it is foreign code: it sees plain data only, may neither reach for attributes
nor change what it is given, and its output and its products are bounded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Never

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from headrace.errors import TemplateInvalid
from headrace.text.messages import plain, plain_messages, plain_tools

# Far beyond any context window (128k tokens are about half a million characters).
MAX_PROMPT_CHARACTERS: Final = 64 * 2**20


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
            self._compiled = _environment().from_string(source)
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

        `kwargs` are further variables of the template. Raises RequestInvalid for messages or tools of the wrong shape,
        TemplateInvalid where the template refuses them, fails, or does what it may not.
        """
        variables = {"documents": None} | self._special_tokens | plain(kwargs, "a template variable")
        chat = plain_messages(messages)
        variables |= {"messages": chat, "tools": plain_tools(tools), "add_generation_prompt": add_generation_prompt}
        try:
            return _bounded(self._compiled, variables)
        except SecurityError as problem:
            raise TemplateInvalid(f"the chat template does what it may not: {_sentence(problem)}") from problem
        except _Refusal as problem:
            raise TemplateInvalid(f"the chat template refuses these messages: {_sentence(problem)}") from problem
        except TemplateInvalid:
            raise
        except Exception as problem:  # foreign code may fail in any way
            raise TemplateInvalid(_failure(problem, chat)) from problem


class _Refusal(TemplateError):
    """The template called `raise_exception`."""


def _bounded(template: jinja2.Template, variables: Mapping[str, Any]) -> str:
    pieces, length = [], 0
    for piece in template.generate(variables):
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


# What follows is transformers' environment: same options, filters, globals and tags.


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox, with an error at once where a template reaches for a private attribute, and a bound on `*` and `**`,
    the cheapest ways to fill the memory."""

    intercepted_binops = frozenset({"*", "**"})

    def unsafe_undefined(self, obj: Any, attribute: str) -> jinja2.Undefined:
        if attribute.startswith("_"):
            raise SecurityError(f"it reaches for the attribute {attribute!r}")
        return super().unsafe_undefined(obj, attribute)

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        if _result_size(operator, left, right) > MAX_PROMPT_CHARACTERS:
            raise SecurityError(f"the result of {operator} is larger than {MAX_PROMPT_CHARACTERS}")
        return super().call_binop(context, operator, left, right)


def _result_size(operator: str, left: Any, right: Any) -> int:
    """How large a product or power gets: characters or items of a sequence, bits of an integer; 0 for the rest."""
    match left, right:
        case (str() | list() | tuple(), int()):
            return len(left) * right
        case (int(), str() | list() | tuple()):
            return left * len(right)
        case (int(), int()):
            return left.bit_length() * (right if operator == "**" else 1) + right.bit_length()
    return 0


class _Generation(Extension):
    """`{% generation %}`: marks what the model said, for training; the text is as without it."""

    tags = {"generation"}  # noqa: RUF012  Jinja reads it from the class

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

    def _said(self, caller: Callable[[], str]) -> str:
        return caller()


class _Dict:
    """`dict` without the attributes of the type."""

    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Namespace(Namespace):
    """`namespace` that takes no attribute with an underscore in front."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *rest = args
        attributes = dict(*rest, **kwargs)
        for name in attributes:
            _public(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _public(name)
        super().__setitem__(name, value)


def _public(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot have the attribute {name!r}")


def _environment() -> ImmutableSandboxedEnvironment:
    environment = _Environment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    environment.filters["tojson"] = _tojson
    environment.globals |= {
        "raise_exception": _raise_exception,
        "strftime_now": _strftime_now,
        "dict": _Dict(),
        "namespace": _Namespace,
    }
    return environment


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON with Python's separators; Jinja's own filter would escape HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: object) -> Never:
    raise _Refusal(str(message))


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)
