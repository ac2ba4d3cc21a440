"""The tools that a request offers, as far as reading their calls needs them: their names and their parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

_KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}

# A tool's name -> the JSON schema of its parameters, or None where it is not known.
Offered = Mapping[str, Mapping[str, Any] | None]


def bind(positional: Sequence[Any], keywords: dict[str, Any], parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """The arguments of a call by name. `f({"a": 1})` is `f(a=1)`; other positional arguments take the schema's order.

    Raises ValueError where the schema leaves it open which parameter is meant.
    """
    if not positional:
        return keywords
    properties = _properties(parameters)
    if len(positional) == 1 and isinstance(positional[0], dict) and not keywords:
        given: dict[str, Any] = positional[0]
        first = next(iter(properties.values()), {})
        if given.keys() <= properties.keys() or not (properties and "type" in first and _fits(given, first)):
            return given
    if len(positional) > len(properties):
        raise ValueError("more positional arguments than parameters")
    placed = dict(zip(properties, positional, strict=False))
    if placed.keys() & keywords.keys():
        raise ValueError("an argument is given by place and by name")
    if not all(_fits(value, properties[name]) for name, value in placed.items()):
        raise ValueError("the positional arguments do not fit the parameters in their order")
    return placed | keywords


def _properties(parameters: Mapping[str, Any] | None) -> Mapping[str, Mapping[str, Any]]:
    properties = (parameters or {}).get("properties")
    if not isinstance(properties, Mapping):
        return {}
    return {name: schema if isinstance(schema, Mapping) else {} for name, schema in properties.items()}


def _fits(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a value may be what a schema says, by its type and its enumeration."""
    choices, kinds = schema.get("enum"), schema.get("type", list(_KINDS))
    if isinstance(choices, list) and value not in choices:
        return False
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if not isinstance(kinds, list):
        return True
    if isinstance(value, bool):
        return "boolean" in kinds
    return any(isinstance(value, _KINDS.get(kind, (object,))) for kind in kinds if isinstance(kind, str))
