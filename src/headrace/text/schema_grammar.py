"""JSON Schema -> a grammar of values in the notation of tool calls; text/pythonic.py reads back a value that fits.

Rules of our own, so that a model may write as it was trained to: strings in either quote, `True` or `true`, members in
any order, each once. What these cannot say (patterns, formats, allOf) is left to llguidance, in JSON, which reads back
just the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, floor
from typing import Any, Final

from headrace.errors import RequestInvalid
from headrace.text import number_grammar
from headrace.text.json_schema import (
    FORMATS,
    KEYWORDS,
    OF_A_TYPE,
    OF_ANY,
    TYPES,
    apart,
    bound,
    count,
    impossible,
    is_a,
    items_of,
    more_of,
    properties_of,
    refuse_unsupported,
    same,
    schemas_of,
    types_of,
    unsupported,
    without_foreign_formats,
)

_DEFINITIONS: Final = ("$defs", "definitions")

MOST_CHARACTERS: Final = 100_000  # of a string that has a maximum: more than a window holds
_MOST_DEPTH: Final = 8  # of a value that may be anything
_KEY_CHARACTERS: Final = 64
_FORMAT_CHARACTERS: Final = 254  # of a date, an address or the like: what an e-mail address may have

_PLAIN: Final = {quote: rf"[^{quote}\\\x00-\x08\x0b-\x1f\x7f]" for quote in "\"'"}
_CODE: Final = r"u([0-9a-cefA-CEF][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2})"  # no half of a surrogate pair
_ONE_CHARACTER: Final = rf"\\([\"'\\nrt]|{_CODE})"  # escapes that are one character, for strings that are counted
_ANY_ESCAPE: Final = rf"\\([^\/xuU0-7\x00-\x1f\x7f]|{_CODE}|x[0-9a-fA-F]{{2}})"  # `\d` too: its backslash stays


@dataclass(slots=True)
class Rules:
    """The lines of a Lark grammar as it is made; equal bodies share a name."""

    _lines: dict[str, str] = field(default_factory=dict)  # name -> its definition
    _names: dict[str, str] = field(default_factory=dict)  # body -> name

    def rule(self, body: str) -> str:
        return self._named(body, "v")

    def terminal(self, body: str) -> str:
        """A lexeme: one regular expression to the lexer, however it is put together."""
        return self._named(body, "T")

    def reserve(self) -> str:
        """A name for a rule that refers to itself, to be defined later."""
        name = f"r{len(self._lines)}"
        self._lines[name] = ""
        return name

    def define(self, name: str, body: str, parameter: str = "") -> None:
        self._lines[name] = f"{name}{parameter}: {body}"

    def text(self) -> str:
        return "\n".join(self._lines.values()) + "\n"

    def _named(self, body: str, prefix: str) -> str:
        if body not in self._names:
            self._names[body] = name = f"{prefix}{len(self._lines)}"
            self.define(name, body)
        return self._names[body]


@dataclass(frozen=True, slots=True)
class Member:
    """An argument or a key with its value, as it is written."""

    written: str
    required: bool


@dataclass(slots=True)
class Values:
    """Rules for the values of one schema document: `root` is where its `$ref`s point into."""

    rules: Rules
    root: Mapping[str, Any]
    _references: dict[str, str] = field(default_factory=dict)

    def value(self, schema: Any, where: str) -> str:
        """The name of a rule for what fits `schema`. Raises RequestInvalid, which begins with `where`."""
        if schema is True:
            return self.anything()
        if not isinstance(schema, Mapping):
            raise RequestInvalid(f"{where}: the schema is {json.dumps(schema, default=str)[:60]}, which no value fits")
        refuse_unsupported(schema, where)
        said = schema.keys() & (OF_A_TYPE | OF_ANY)
        match sorted(said):
            case []:
                return self.anything()
            case ["$ref"]:
                return self._reference(schema["$ref"], where)
            case ["allOf"] if len(schemas_of(schema, "allOf", where)) == 1:
                return self.value(schema["allOf"][0], where)
            case ["anyOf"]:
                return self._either(schemas_of(schema, "anyOf", where), where)
            case ["oneOf"] if self._exclusive(schemas_of(schema, "oneOf", where), where):
                return self._either(schema["oneOf"], where)
        if said & {"enum", "const"} and said <= {"enum", "const", "type"}:
            return self._literals(schema, where)
        if said <= OF_A_TYPE:
            return self._choice([self._of_type(kind, schema, where) for kind in types_of(schema, where)])
        return self._json(schema)

    def anything(self) -> str:
        """Any JSON value, up to some depth."""
        deepest = self._choice([self._of_type(kind, {}, "") for kind in ("string", "number", "boolean", "null")])
        for _ in range(_MOST_DEPTH):
            items = f'"[" ({deepest} (", " {deepest})*)? "]"'
            entry = f'{self.key({})} ": " {deepest}'
            deepest = self._choice([deepest, items, f'"{{" ({entry} (", " {entry})*)? "}}"'])
        return deepest

    def members(
        self,
        opening: str,
        members: Sequence[Member],
        closing: str,
        more: str = "",
        least: int = 0,
        most: int | None = None,
    ) -> str:
        """A rule for `members` in any order with commas between: each at most once, the required ones in any case.

        `more` is what else may come, as often as one likes. Of `members` there are `least` to `most`.
        """
        if not members and not more:
            return self.rules.rule(_quoted(opening + closing))
        # One bit of llguidance's parameter for each member that was written; those that are required come first.
        ordered = sorted(members, key=lambda member: not member.required)
        required, all_ = sum(member.required for member in ordered), len(ordered)
        complete = [f"is_ones([0:{required}])"] if required else []
        complete += [f"bit_count_ge([0:{all_}], {least})"] if least > required else []
        optional = all_ - required if most is None else most - required  # how many of them there may be
        room = [f"bit_count_lt([{required}:{all_}], {optional})"] if optional < all_ - required else []
        rest = self.rules.reserve()
        begun = [f"{member.written} {rest}::set_bit({bit})" for bit, member in enumerate(ordered)]
        later = [
            f'", " {item}{_if([f"bit_clear({bit})", *(room if bit >= required else [])])}'
            for bit, item in enumerate(begun)
        ]
        if not optional:
            del begun[required:], later[required:]
        if more:
            begun.append(f"{more} {rest}::_")
            later.append(f'", " {more} {rest}::_')
        self.rules.define(rest, "\n  | ".join([_quoted(closing) + _if(complete), *later]), "::_")
        first = self.rules.reserve()
        empty = [_quoted(closing)] if not required and not least else []
        self.rules.define(first, "\n  | ".join([*empty, *begun]), "::_")
        return self.rules.rule(f"{_quoted(opening)} {first}::0x0")

    def _of_type(self, kind: str, schema: Mapping[str, Any], where: str) -> str:
        match kind:
            case "string":
                return self._string(schema, where)
            case "integer" | "number":
                return self._number(schema, kind, where)
            case "boolean":
                return self.rules.terminal('"True" | "False" | "true" | "false"')
            case "null":
                return self.rules.terminal('"None" | "null"')
            case "array":
                return self._array(schema, where)
        return self._object(schema, where)

    def _string(self, schema: Mapping[str, Any], where: str) -> str:
        if "pattern" in schema or schema.get("format") in FORMATS:
            kept = _kept(schema, "string")
            longest = {} if "pattern" in schema else {"maxLength": _FORMAT_CHARACTERS}
            return self._json({"type": "string"} | longest | kept)
        least, most = count(schema, "minLength", where), count(schema, "maxLength", where)
        if least is None and most is None:
            return self.rules.terminal(_strings(_ANY_ESCAPE, "*"))
        if most is not None and (least or 0) > most:
            raise impossible(where)
        high = "" if most is None else min(most, MOST_CHARACTERS)
        return self.rules.terminal(_strings(_ONE_CHARACTER, f"{{{min(least or 0, MOST_CHARACTERS)},{high}}}"))

    def _number(self, schema: Mapping[str, Any], kind: str, where: str) -> str:
        if "multipleOf" in schema:
            return self._json({"type": kind} | _kept(schema, "number"))
        low, above = bound(schema, "minimum", "exclusiveMinimum", max, where)
        high, below = bound(schema, "maximum", "exclusiveMaximum", min, where)
        try:
            if kind == "number":
                return self.rules.terminal(f"/{number_grammar.decimals(low, high, above=above, below=below)}/")
            least = None if low is None else floor(low) + 1 if above else ceil(low)
            most = None if high is None else ceil(high) - 1 if below else floor(high)
            return self.rules.terminal(f"/{number_grammar.integers(least, most)}/")
        except ValueError:
            raise impossible(where) from None

    def _array(self, schema: Mapping[str, Any], where: str) -> str:
        heads, others = items_of(schema, where)
        least, most = count(schema, "minItems", where) or 0, count(schema, "maxItems", where)
        if most is not None:
            heads = heads[:most]
        places = [self.value(item, f"{where}[{place}]") for place, item in enumerate(heads)]
        tail = "" if others is False else self.value(others, f"{where}[]")
        if (most is not None and least > most) or (not tail and least > len(places)):
            raise impossible(where)
        body = ""
        if tail and (most is None or most > len(places)):
            low, high = max(least - len(places), 0), None if most is None else most - len(places)
            if places:
                body = _repeated(f'", " {tail}', low, high)
            else:
                further = _repeated(f'", " {tail}', max(low - 1, 0), None if high is None else high - 1)
                body = _optional(f"{tail} {further}", low > 0)
        for place in range(len(places) - 1, -1, -1):
            comma = '", " ' if place else ""
            body = _optional(f"{comma}{places[place]} {body}", place < least)
        return self.rules.rule(f'"[" {body} "]"')

    def _object(self, schema: Mapping[str, Any], where: str) -> str:
        if schema.get("patternProperties"):
            return self._json({"type": "object"} | _kept(schema, "object"))
        properties, required = properties_of(schema, where)
        least, most = count(schema, "minProperties", where) or 0, count(schema, "maxProperties", where)
        members = [
            Member(
                f'{self.rules.terminal(spelled(name))} ": " {self.value(inner, f"{where}.{name}")}', name in required
            )
            for name, inner in properties.items()
        ]
        further = more_of(schema)
        if further is False:
            if least > len(members) or (most is not None and most < len(required)):
                raise impossible(where)
            return self.members("{", members, "}", least=least, most=most)
        entry = f'{self.key(properties)} ": " {self.value(further, f"{where}.*")}'
        if members:
            if least > len(required) or most is not None:
                raise unsupported("minProperties" if most is None else "maxProperties", where)
            return self.members("{", members, "}", entry)
        if least > 1:  # keys of its own choice may come twice, and count once
            raise unsupported("minProperties", where)
        further = _repeated(f'", " {entry}', 0, None if most is None else max(most - 1, 0))
        entries = _optional(f"{entry} {further}", least > 0) if most != 0 else ""
        return self.rules.rule(f'"{{" {entries} "}}"')

    def key(self, taken: Mapping[str, Any]) -> str:
        """A key of the model's choice, which is none of `taken`."""
        free = _strings(_ONE_CHARACTER, f"{{1,{_KEY_CHARACTERS}}}")
        others = " | ".join(spelled(name) for name in taken)
        return self.rules.terminal(f"({free}) & ~({others})" if others else free)

    def _literals(self, schema: Mapping[str, Any], where: str) -> str:
        values = schema.get("enum", [schema.get("const")])
        if not isinstance(values, list | tuple):
            raise RequestInvalid(f"{where}: enum is {str(values)[:40]!r} but should be a list of values")
        if "const" in schema:
            values = [value for value in values if same(value, schema["const"])]
        kinds = types_of(schema, where) if "type" in schema else TYPES
        written = [spelled(value) for value in values if any(is_a(value, kind) for kind in kinds)]
        if not written:
            raise impossible(where)
        return self.rules.terminal(" | ".join(dict.fromkeys(written)))

    def _either(self, options: Sequence[Any], where: str) -> str:
        return self._choice([self.value(option, where) for option in options])

    def _choice(self, names: Sequence[str]) -> str:
        distinct = list(dict.fromkeys(names))
        return distinct[0] if len(distinct) == 1 else self.rules.rule(" | ".join(distinct))

    def _reference(self, pointer: Any, where: str) -> str:
        if pointer not in self._references:
            target = self._target(pointer, where)
            self._references[pointer] = name = self.rules.reserve()  # before its body, which may refer to it
            self.rules.define(name, self.value(target, where))
        return self._references[pointer]

    def resolved(self, schema: Mapping[str, Any], where: str) -> Mapping[str, Any]:
        """The schema itself, or what it refers to if it does nothing else."""
        for _ in range(_MOST_DEPTH):
            if "$ref" not in schema:
                return schema
            refuse_unsupported(schema, where, tuple(OF_A_TYPE | OF_ANY - {"$ref"}))
            schema = self._target(schema["$ref"], where)
        raise RequestInvalid(f"{where}: its $ref leads nowhere")

    def _target(self, pointer: Any, where: str) -> Any:
        """What a `$ref` such as "#/$defs/Point" names."""
        target: Any = self.root
        path = (
            pointer.removeprefix("#").split("/")[1:] if isinstance(pointer, str) and pointer.startswith("#") else [""]
        )
        for part in path:
            key = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(target, Mapping) or key not in target:
                raise RequestInvalid(f"{where}: $ref {str(pointer)[:60]!r} names nothing in its own schema")
            target = target[key]
        return target

    def _exclusive(self, options: Sequence[Any], where: str) -> bool:
        """Whether no value fits two of the options, as far as types and constants tell: then oneOf is anyOf."""
        seen = [self._target(o["$ref"], where) if isinstance(o, Mapping) and "$ref" in o else o for o in options]
        return all(apart(one, other) for place, one in enumerate(seen) for other in seen[:place])

    def _json(self, schema: Mapping[str, Any]) -> str:
        """In JSON, by llguidance's own rules."""
        style = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
        shared = {key: self.root[key] for key in _DEFINITIONS if key in self.root}
        return self.rules.rule(f"%json {json.dumps({'x-guidance': style} | shared | without_foreign_formats(schema))}")


def _kept(schema: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """What llguidance needs to know of a schema, in the schema's order: the same schema is always the same grammar."""
    return {key: value for key, value in schema.items() if key in KEYWORDS[kind]}


def spelled(value: Any) -> str:
    """The ways to write one value, as alternatives of a terminal."""
    match value:
        case True | False:
            return f'"{value}" | "{str(value).lower()}"'
        case None:
            return '"None" | "null"'
        case str():
            written = json.dumps(value, ensure_ascii=False).replace("<|", "\\u003c|")
            other = "" if "\\" in written or "'" in value else f" | {_quoted(chr(39) + value + chr(39))}"
            return _quoted(written) + other
        case list() | tuple():
            return " ".join(['"["', *_separated([f"({spelled(item)})" for item in value]), '"]"'])
        case Mapping():
            entries = [f'({spelled(str(key))}) ": " ({spelled(item)})' for key, item in value.items()]
            return " ".join(['"{"', *_separated(entries), '"}"'])
    return _quoted(json.dumps(value))


def _separated(items: Sequence[str]) -> list[str]:
    return [part for place, item in enumerate(items) for part in (['", "', item] if place else [item])]


def _strings(escape: str, repeated: str) -> str:
    """A string in either quote, of `repeated` characters; `escape` is what may stand for one after a backslash."""
    return " | ".join(f"/{quote}({plain}|{escape}){repeated}{quote}/" for quote, plain in _PLAIN.items())


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _optional(body: str, required: bool) -> str:
    return body if required else f"({body})?"


def _repeated(body: str, low: int, high: int | None) -> str:
    """`body` from `low` to `high` times; None is no limit."""
    if high is None:
        return f"({body})*" if not low else f"({body}){{{low},}}"
    return f"({body}){{{low},{high}}}" if high else ""


def _if(conditions: Sequence[str]) -> str:
    if not conditions:
        return ""
    condition = conditions[0] if len(conditions) == 1 else f"and({', '.join(conditions)})"
    return f" %if {condition}"
