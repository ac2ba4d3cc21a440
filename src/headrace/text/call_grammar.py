"""Tools -> a grammar of calls to them, as models of the family write them: `[f(a="x", n=1), g()]`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from headrace.errors import RequestInvalid
from headrace.text.json_schema import count, impossible, more_of, properties_of, refuse_unsupported
from headrace.text.pythonic import parse_calls
from headrace.text.schema_grammar import Member, Rules, Values, spelled

MOST_CALLS: Final = 32  # in one list: a model that repeats itself must come to an end

_IDENTIFIER: Final = re.compile(r"[^\W\d]\w*")
_OF_ALTERNATIVES: Final = ("anyOf", "oneOf", "allOf", "enum", "const", "patternProperties")


def call_list(tools: Sequence[Mapping[str, Any]], end: str, parallel: bool = True) -> str:
    """A Lark grammar of one list of calls (of one call, unless `parallel`) and what follows it, `end`.

    Of arguments that a tool's schema does not name there are none, unless it says `additionalProperties`. Raises
    RequestInvalid for a schema that is none, or that says what a grammar cannot.
    """
    rules = Rules()
    calls = rules.rule(" | ".join(dict.fromkeys(_call(tool, rules) for tool in tools)))
    more = f' (", " {calls}){{0,{MOST_CALLS - 1}}}' if parallel else ""
    return f'start: "[" {calls}{more} "]" {end}\n{rules.text()}'


def _call(tool: Mapping[str, Any], rules: Rules) -> str:
    function: Any = tool.get("function", tool)
    name = function["name"]
    _check_name(name)
    where = f"tool {name}"
    parameters = function.get("parameters") or {}
    if not isinstance(parameters, Mapping):
        raise RequestInvalid(f"{where}: parameters is a {type(parameters).__name__} but should be a JSON schema")
    values = Values(rules, parameters)
    schema = values.resolved(parameters, where)
    refuse_unsupported(schema, where, _OF_ALTERNATIVES)
    properties, required = properties_of(schema, where)
    members = [
        Member(_argument(key, values.value(inner, f"{where}: argument {key}"), rules), key in required)
        for key, inner in properties.items()
    ]
    if "additionalProperties" in schema and (further := more_of(schema)) is not False:
        # All in one `**{...}`: an argument that came twice could not be read.
        entry = f'{values.key(properties)} ": " {values.value(further, f"{where}: other arguments")}'
        members.append(Member(f'"**{{" {entry} (", " {entry})* "}}"', required=False))
    least, most = (count(schema, keyword, where) for keyword in ("minProperties", "maxProperties"))
    if (least or 0) > len(members) or (most is not None and most < len(required)):
        raise impossible(where)
    return values.members(f"{name}(", members, ")", least=least or 0, most=most)


def _argument(name: str, value: str, rules: Rules) -> str:
    if _IDENTIFIER.fullmatch(name):
        return f'"{name}=" {value}'
    return f'"**{{" {rules.terminal(spelled(name))} ": " {value} "}}"'


def _check_name(name: str) -> None:
    """A name that would not be read back as one cannot be called."""
    try:
        found = parse_calls(f"[{name}()]")
    except ValueError:
        found = []
    if found != [(name, {})]:
        raise RequestInvalid(
            f"the tool name {name[:60]!r} cannot be written as a call: use letters, digits, underscores, dashes and "
            "dots, or pass constrain=False"
        )
