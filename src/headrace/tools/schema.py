"""A Python function as the model sees it: name, one line, and a JSON schema of its parameters.

Everything comes from the function itself: types from the hints, words from the docstring (its first line, and its
`Args:` section) or from `Annotated[str, "words"]`. What a schema cannot say is refused when the function is offered.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from headrace.errors import RequestInvalid

Function = Callable[..., Any]
Schema = dict[str, Any]

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def schema_of(function: Function) -> Schema:
    """The tool `{"name", "description", "parameters"}` that a function is; RequestInvalid says why it cannot be one."""
    name = _name_of(function)
    summary, words = _read_docstring(inspect.getdoc(function) or "")
    hints = _hints_of(function, name)
    properties: dict[str, Schema] = {}
    required: list[str] = []
    for parameter in _parameters_of(function, name):
        if parameter.name not in hints:
            raise RequestInvalid(
                f"tool {name}: parameter {parameter.name} has no type hint: write {parameter.name}: str"
            )
        hint, note = _unwrap(hints[parameter.name])
        schema = _schema_of_hint(hint, f"tool {name}: parameter {parameter.name}")
        description = words.get(parameter.name) or note
        properties[parameter.name] = {**schema, "description": description} if description else schema
        if parameter.default is inspect.Parameter.empty:
            required.append(parameter.name)
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"name": name, "description": summary, "parameters": parameters}


def parameters_of(tool: Mapping[str, Any] | Function | str) -> tuple[str, Mapping[str, Any] | None]:
    """A tool's name and the JSON schema of its parameters, or None where there is none: of an OpenAI tool, the function
    object in it, a Python function, or just a name. Raises RequestInvalid for what is none of these."""
    if isinstance(tool, str):
        return tool, None
    schema = tool if isinstance(tool, Mapping) else schema_of(tool) if callable(tool) else {}
    inner = schema.get("function", schema)
    name = inner.get("name") if isinstance(inner, Mapping) else None
    if not isinstance(name, str) or not name:
        raise RequestInvalid(
            f"{tool!r} is not a tool: expected an object with a name, a Python function, or the name of a tool"
        )
    parameters = inner.get("parameters")
    return name, parameters if isinstance(parameters, Mapping) else None


def fits(value: object, schema: Schema) -> bool:
    """Whether a value is what `schema_of` described: an integer is a number too, a boolean is neither."""
    if "anyOf" in schema:
        return any(fits(value, option) for option in schema["anyOf"])
    if "enum" in schema:
        return any(type(value) is type(option) and value == option for option in schema["enum"])
    if isinstance(schema.get("type"), list):
        return any(fits(value, {"type": kind}) for kind in schema["type"])
    match schema.get("type"):
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "null":
            return value is None
        case "array":
            return isinstance(value, list) and all(fits(item, schema.get("items", {})) for item in value)
        case "object":
            inner = schema.get("additionalProperties", {})
            return isinstance(value, dict) and all(isinstance(k, str) and fits(v, inner) for k, v in value.items())
    return True


def describe(schema: Schema) -> str:
    """A schema in words, for the sentence that says what was expected."""
    if "anyOf" in schema:
        return " or ".join(describe(option) for option in schema["anyOf"])
    if "enum" in schema:
        return "one of " + ", ".join(repr(option) for option in schema["enum"])
    if isinstance(schema.get("type"), list):
        return " or ".join(describe({"type": kind}) for kind in schema["type"])
    if schema.get("type") == "array" and schema.get("items"):
        return f"an array whose items are each {describe(schema['items'])}"
    names = {"integer": "an integer", "array": "an array", "object": "an object", "null": "null"}
    kind = schema.get("type", "value")
    return names.get(kind, f"a {kind}")


def _name_of(function: Function) -> str:
    name = getattr(function, "__name__", None)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise RequestInvalid(f"tool {function!r} has no usable name: give a function made with def")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise RequestInvalid(f"tool {name} is asynchronous: give a plain function")
    return name


def _parameters_of(function: Function, name: str) -> list[inspect.Parameter]:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        raise RequestInvalid(
            f"tool {name} has no signature that can be read: wrap it in a function of your own"
        ) from None
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise RequestInvalid(
                f"tool {name}: parameter *{parameter.name} has no name of its own: spell the parameters out"
            )
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise RequestInvalid(
                f"tool {name}: parameter {parameter.name} is positional-only: tools are called by name"
            )
    return parameters


def _hints_of(function: Function, name: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        raise RequestInvalid(
            f"tool {name}: its type hints cannot be read ({error}): use types that are imported"
        ) from error


def _unwrap(hint: Any) -> tuple[Any, str]:
    """`Annotated[T, "words"]` as T and its words."""
    if typing.get_origin(hint) is not Annotated:
        return hint, ""
    inner, *extras = typing.get_args(hint)
    return inner, next((extra for extra in extras if isinstance(extra, str)), "")


SIMPLE = types.MappingProxyType(
    {str: "string", int: "integer", float: "number", bool: "boolean", list: "array", dict: "object", type(None): "null"}
)


def _schema_of_hint(hint: Any, where: str) -> Schema:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _schema_of_hint(arguments[0], where)
    if origin is Literal:
        return _literal(arguments, where)
    if origin in (typing.Union, types.UnionType):
        return _union([_schema_of_hint(argument, where) for argument in arguments])
    if origin is list:
        return {"type": "array", "items": _schema_of_hint(arguments[0], where)}
    if origin is dict and arguments[0] is str:
        return {"type": "object"} if arguments[1] is Any else _mapping(_schema_of_hint(arguments[1], where))
    if isinstance(hint, type) and hint in SIMPLE:
        return {"type": SIMPLE[hint]}
    shown = getattr(hint, "__name__", None) if isinstance(hint, type) else None
    raise RequestInvalid(
        f"{where} has the type {shown or hint}: use str, int, float, bool, list, dict, Literal or None"
    )


def _mapping(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def _literal(values: tuple[Any, ...], where: str) -> Schema:
    kinds = list(dict.fromkeys(SIMPLE.get(type(value), "") for value in values))
    if not set(kinds) <= {"string", "integer", "boolean", "null"}:
        raise RequestInvalid(f"{where} has a Literal that JSON cannot say: use strings, integers, booleans or None")
    return {"type": kinds[0] if len(kinds) == 1 else kinds, "enum": list(values)}


def _union(options: list[Schema]) -> Schema:
    if all(option.keys() == {"type"} for option in options):
        return {"type": [option["type"] for option in options]}
    return {"anyOf": options}


def _read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """The first line, and what an `Args:` section (or `Parameters:`) says about each parameter."""
    lines = text.splitlines()
    words: dict[str, str] = {}
    current, margin, inside = "", 0, False
    for line in lines:
        if re.fullmatch(r"(Args|Arguments|Parameters):", line):
            inside = True
        elif inside and line and not line.startswith(" "):
            inside = False  # the next section
        elif inside and line.strip():
            indent = len(line) - len(line.lstrip())
            entry = re.match(r"\s+(\w+)\s*(?:\([^)]*\))?:\s*(.*)", line)
            if entry and (not current or indent <= margin):
                current, margin = entry[1], indent
                words[current] = entry[2].strip()
            elif current:
                words[current] = f"{words[current]} {line.strip()}".strip()
    return (lines[0].strip() if lines else ""), words
