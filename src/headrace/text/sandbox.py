"""The sandbox in which a chat template runs: transformers' environment, with a budget of work.

A template comes out of a model's file, so it is foreign code. It sees plain data only, may neither reach for attributes
nor change what it is given, and pays for what it does before it is done: a turn of a loop and a call for the nodes of
their bodies; a filter, an operation, a comparison, a printed value for the size of what goes in and of what may come
out. So one that loops, calls itself, doubles a list or pads to a billion spaces ends in a sentence, soon and small.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, Never

import jinja2
from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

# Far beyond any context window (128k tokens are about half a million characters).
MAX_PROMPT_CHARACTERS: Final = 64 * 2**20
MAX_TEMPLATE_CHARACTERS: Final = 2**20
MAX_INTEGER_BITS: Final = 4096

# A unit is a node of the template that runs, an item of a list, or 16 characters: 20 to 300 ns, and some 40 bytes.
WORK: Final = 8_000_000
_CHARACTERS: Final = 16

# The budget is a variable, and a filter takes from it, under names that no template can write.
_BUDGET, _PAY, _WEIGH, _COPY, _JOIN = " budget", " pay", " weigh", " copy", " join"

_CHEAP_FILTERS: Final = frozenset({"attr", "count", "d", "default", "first", "items", "last", "length", "random"})
_LENGTH_FILTERS: Final = frozenset({"list", "reverse", "striptags", "title", "urlize", "wordcount", "wordwrap"})
_PADDING: Final = frozenset({"batch", "center", "indent", "slice", "tojson"})
_PADDING_METHODS: Final = frozenset({"center", "expandtabs", "ljust", "rjust", "zfill"})
_SPLITTING_METHODS: Final = frozenset({"rsplit", "split", "splitlines"})
_NO_TEXT_METHODS: Final = frozenset({"encode", "maketrans", "to_bytes", "translate"})  # bytes and tables: for no prompt
_WIDE_FORMAT: Final = re.compile(r"%[^a-zA-Z%]*(\*|\d{5})|\{[^{}]*:[^{}]*(\{|\d{5})")


class Refusal(TemplateError):
    """The template called `raise_exception`."""


class Budget:
    """What a rendering may still spend."""

    __slots__ = ("left",)

    def __init__(self, work: int) -> None:
        self.left = work

    def spend(self, units: int) -> None:
        self.left -= units
        if self.left < 0:
            raise SecurityError("it works without end, or on more than any prompt holds")

    def weigh(self, *values: Any) -> int:
        """The units of values, all that is in them counted as often as it is printed; at most a little over `left`."""
        total, stack = 0, list(values)
        while stack and total <= self.left:
            item = stack.pop()
            total += 1
            match item:
                case str():
                    total += len(item) // _CHARACTERS
                case dict():
                    total += 2 * len(item)
                    if total <= self.left:
                        stack += [*item.keys(), *item.values()]
                case list() | tuple():
                    total += len(item)
                    if total <= self.left:
                        stack += item
                case range():
                    total += len(item)
        return total


def compiled(source: str) -> jinja2.Template:
    """Raises Jinja's errors, and SecurityError for a source of a length that no template has."""
    if len(source) > MAX_TEMPLATE_CHARACTERS:
        raise SecurityError(f"it has {len(source)} characters: at most {MAX_TEMPLATE_CHARACTERS} are expected")
    environment = _environment()
    tree = environment.parse(source)
    _price(tree)
    tree.set_environment(environment)
    return environment.from_string(tree)


def with_budget(variables: dict[str, Any]) -> dict[str, Any]:
    """The variables of one rendering."""
    return variables | {_BUDGET: Budget(WORK)}


def _budget(context: Context) -> Budget:
    budget: Budget = context.parent[_BUDGET]
    return budget


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox, with an error at once where a template reaches for a private attribute, and prices."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return attr not in _NO_TEXT_METHODS and super().is_safe_attribute(obj, attr, value)

    def unsafe_undefined(self, obj: Any, attribute: str) -> jinja2.Undefined:
        if attribute.startswith("_"):
            raise SecurityError(f"it reaches for the attribute {attribute!r}")
        return super().unsafe_undefined(obj, attribute)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        _budget(context).spend(_operation_work(_budget(context), operator, left, right))
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805  Jinja's names
        budget = _budget(__context)
        if isinstance(__obj, Macro | LoopContext):  # their bodies pay for themselves
            budget.spend(len(args) + len(kwargs))
        else:
            budget.spend(_call_work(budget, __obj, args, kwargs))
        return super().call(__context, __obj, *args, **kwargs)


def _operation_work(budget: Budget, operator: str, left: Any, right: Any) -> int:
    match operator, left, right:
        case "%", str(), _:
            return _format_work(budget, left, "%", (right,))
        case "*", (str() | list() | tuple()), int():
            return _repeated(left, right)
        case "*", int(), (str() | list() | tuple()):
            return _repeated(right, left)
        case (("*" | "**"), int(), int()):
            bits = left.bit_length() * (abs(right) if operator == "**" else 1) + right.bit_length()
            if bits > MAX_INTEGER_BITS:
                raise SecurityError(f"the result of {operator} has more than {MAX_INTEGER_BITS} bits")
        case "+", (list() | tuple()), (list() | tuple()):
            return len(left) + len(right)
        case "+", str(), str():
            return (len(left) + len(right)) // _CHARACTERS
    return 1


def _repeated(sequence: str | Sequence[Any], times: int) -> int:
    size = len(sequence) * max(0, times)
    return size // _CHARACTERS if isinstance(sequence, str) else size


def _call_work(budget: Budget, called: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    name, owner = getattr(called, "__name__", ""), getattr(called, "__self__", None)
    if name in ("format", "format_map"):  # Jinja's, of a string: it hides which
        text = getattr(called.__wrapped__, "__self__", "") if hasattr(called, "__wrapped__") else owner
        return _format_work(budget, str(text), "{", (*args, *kwargs.values()))
    work = 8 + budget.weigh(*args, *kwargs.values())
    if not isinstance(owner, str):
        return work + (budget.weigh(owner) if isinstance(owner, list | tuple) else 0)
    work += len(owner) // (2 if name in _SPLITTING_METHODS else _CHARACTERS)
    if name in _PADDING_METHODS:
        work += sum(abs(arg) for arg in (*args, *kwargs.values()) if isinstance(arg, int)) * (1 + owner.count("\t"))
    return work + _grown(name, owner, args)


def _grown(name: str, value: Any, args: Sequence[Any]) -> int:
    """What `replace` and `join` can make: every character, or item, with another text beside it."""
    if name == "replace" and len(args) > 1 and isinstance(args[1], str):
        return (len(str(value)) + 1) * len(args[1]) // _CHARACTERS
    if name == "join" and args:
        text, items = (value, args[0]) if isinstance(value, str) else (args[0], value)
        if isinstance(text, str) and isinstance(items, list | tuple | str | dict | range):
            return len(text) * len(items) // _CHARACTERS
    return 0


def _format_work(budget: Budget, text: str, mark: str, values: tuple[Any, ...]) -> int:
    """Each place of a format may take all of its values; widths are refused beyond what a table has."""
    if _WIDE_FORMAT.search(text):
        raise SecurityError("it pads to a width without end")
    return len(text) // _CHARACTERS + text.count(mark) * budget.weigh(*values)


def _metered(plain: _Environment, name: str) -> Callable[..., Any]:
    """A filter that is paid for first. It sees the context, so Jinja never runs it while compiling."""

    @pass_context
    def run(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        budget = _budget(context)
        budget.spend(_filter_work(budget, name, value, (*args, *kwargs.values())))
        return plain.call_filter(name, value, args, kwargs, context=context)

    return run


def _filter_work(budget: Budget, name: str, value: Any, args: tuple[Any, ...]) -> int:
    if name in _CHEAP_FILTERS:
        return 8
    work = 8 + 4 * budget.weigh(value, *args) + _grown(name, value, args)
    if name in _LENGTH_FILTERS and isinstance(value, str):
        work += len(value)
    if name in _PADDING:
        lines = value.count("\n") + 1 if isinstance(value, str) else budget.weigh(value)
        work += lines * sum(
            abs(arg) if isinstance(arg, int) else len(arg) for arg in args if isinstance(arg, int | str)
        )
    if name == "format" and isinstance(value, str):
        work += _format_work(budget, value, "%", args)
    if name == "sum" and any(isinstance(arg, list | tuple) for arg in args):
        work *= work  # a sum of lists copies what it has at every step
    return work


@pass_context
def _pay(context: Context, units: int) -> bool:
    _budget(context).spend(units)
    return True


@pass_context
def _weigh(context: Context, value: Any) -> Any:
    budget = _budget(context)
    budget.spend(budget.weigh(value))
    return value


@pass_context
def _copy(context: Context, value: Any) -> Any:
    if isinstance(value, str | list | tuple | range):
        _budget(context).spend(len(value) // (_CHARACTERS if isinstance(value, str) else 1))
    return value


@pass_context
def _join(context: Context, values: list[Any]) -> str:
    budget = _budget(context)
    budget.spend(budget.weigh(values))
    return "".join(map(str, values))


_Body = nodes.For | nodes.Macro | nodes.CallBlock | nodes.Block


def _price(tree: nodes.Template) -> None:
    """Writes prices into a template: bodies pay when they are entered; comparisons, copies and `~` for sizes."""
    bodies: list[_Body] = [*tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock, nodes.Block))]  # type: ignore[list-item]
    for body in bodies:
        work = 8 + _size(body)
        body.body.insert(0, nodes.ExprStmt(_filter(_PAY, nodes.Const(work))))
        if isinstance(body, nodes.For) and body.test is not None:
            body.test = nodes.And(_filter(_PAY, nodes.Const(work)), body.test)
    for comparison in [*tree.find_all(nodes.Compare)]:
        comparison.expr = _filter(_WEIGH, comparison.expr)
        for operand in comparison.ops:
            operand.expr = _filter(_WEIGH, operand.expr)
    for test in [*tree.find_all(nodes.Test)]:
        if test.args:
            test.node, test.args = _filter(_WEIGH, test.node), [_filter(_WEIGH, arg) for arg in test.args]
    for item in [*tree.find_all(nodes.Getitem)]:
        if isinstance(item.arg, nodes.Slice):
            item.node = _filter(_COPY, item.node)
    _replace_concatenations(tree)


def _size(body: nodes.Node) -> int:
    """Nodes in a body, and its plain text."""
    return sum(
        1 + len(node.data) // _CHARACTERS if isinstance(node, nodes.TemplateData) else 1
        for node in body.find_all(nodes.Node)
    )


def _replace_concatenations(node: nodes.Node) -> None:
    for name, value in node.iter_fields():
        if isinstance(value, nodes.Node):
            _replace_concatenations(value)
            setattr(node, name, _concatenated(value))
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, nodes.Node):
                    _replace_concatenations(item)
            setattr(node, name, [_concatenated(item) for item in value])


def _concatenated(node: Any) -> Any:
    if isinstance(node, nodes.Concat):
        return _filter(_JOIN, nodes.List(node.nodes, lineno=node.lineno))
    return node


def _filter(name: str, node: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno or 1)


# What follows is transformers' environment: same options, filters, globals and tags.


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


def _environment() -> _Environment:
    plain = _Environment()
    plain.filters["tojson"] = _tojson
    environment = _Environment(
        trim_blocks=True, lstrip_blocks=True, finalize=_weigh, extensions=[_Generation, loopcontrols]
    )
    environment.filters = {name: _metered(plain, name) for name in plain.filters}
    environment.filters |= {_PAY: _pay, _WEIGH: _weigh, _COPY: _copy, _JOIN: _join}
    del environment.globals["lipsum"]  # text out of nowhere, of any length
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
    raise Refusal(str(message))


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)
