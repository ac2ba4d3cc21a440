"""What a JSON schema says, read with care: it comes from users, and every keyword is enforced or refused by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

from headrace.errors import RequestInvalid

KEYWORDS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "string": frozenset({"minLength", "maxLength", "pattern", "format"}),
        "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}),
        "array": frozenset({"items", "prefixItems", "additionalItems", "minItems", "maxItems"}),
        "object": frozenset(
            {"properties", "required", "additionalProperties", "patternProperties", "minProperties", "maxProperties"}
        ),
    }
)
OF_A_TYPE: Final = frozenset({"type"}).union(*KEYWORDS.values())
OF_ANY: Final = frozenset({"$ref", "enum", "const", "anyOf", "oneOf", "allOf"})
# The rest of the specification's assertions. Any other word is an annotation, by its rules, and says nothing.
_UNSUPPORTED: Final = (
    "not", "if", "then", "else", "contains", "minContains", "maxContains", "uniqueItems", "propertyNames",
    "dependencies", "dependentRequired", "dependentSchemas", "unevaluatedItems", "unevaluatedProperties",
    "$dynamicRef", "$recursiveRef",
)  # fmt: skip
_ANNOTATIONS: Final = frozenset(
    {"$schema", "$id", "$anchor", "$defs", "definitions", "$comment", "title", "description", "default", "examples"}
    | {"deprecated", "readOnly", "writeOnly", "contentEncoding", "contentMediaType", "contentSchema"}
)
FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
)
_UNSUPPORTED_FORMATS: Final = frozenset(
    {"idn-email", "idn-hostname", "uri-reference", "iri", "iri-reference", "uri-template"}
    | {"json-pointer", "relative-json-pointer", "regex"}
)
TYPES: Final = ("string", "integer", "number", "boolean", "null", "array", "object")

MOST_MEMBERS: Final = 60  # of an object: one bit each in llguidance's 64-bit parameter


def refuse_unsupported(schema: Mapping[str, Any], where: str, also: Sequence[str] = ()) -> None:
    """Raises RequestInvalid for the first keyword that restricts a value in a way that no grammar here can."""
    for keyword in (*_UNSUPPORTED, *also):
        if keyword in schema and not (keyword == "uniqueItems" and schema[keyword] is False):
            raise unsupported(keyword, where)
    if schema.get("format") in _UNSUPPORTED_FORMATS:
        raise unsupported(f"format: {schema['format']}", where)


def looks_like_a_schema(schema: Mapping[str, Any]) -> bool:
    """Whether it is empty or has any word of the specification: misspelt words alone would allow everything."""
    return not schema or not schema.keys().isdisjoint(OF_A_TYPE | OF_ANY | _ANNOTATIONS | set(_UNSUPPORTED))


def unsupported(keyword: str, where: str) -> RequestInvalid:
    return RequestInvalid(
        f"{where}: the schema keyword {keyword!r} is not supported: leave it out, or ask for no grammar "
        "(constrain=False, no format)"
    )


def without_foreign_formats(schema: Any) -> Any:
    """A copy without any `format` that JSON Schema does not define: int32, password and the like restrict nothing."""
    match schema:
        case Mapping():
            return {
                key: value if key in ("enum", "const", "default", "examples") else without_foreign_formats(value)
                for key, value in schema.items()
                if not (key == "format" and isinstance(value, str) and value not in FORMATS | _UNSUPPORTED_FORMATS)
            }
        case list() | tuple():
            return [without_foreign_formats(item) for item in schema]
    return schema


def properties_of(schema: Mapping[str, Any], where: str) -> tuple[dict[str, Any], set[str]]:
    """The properties with their schemas, those that are only required included; and which are required."""
    properties, required = schema.get("properties") or {}, schema.get("required") or []
    if not isinstance(properties, Mapping):
        raise RequestInvalid(f"{where}: properties is {str(properties)[:40]!r} but should be an object")
    if not isinstance(required, list | tuple) or not all(isinstance(name, str) for name in required):
        raise RequestInvalid(f"{where}: required is {str(required)[:40]!r} but should be a list of names")
    named = dict(properties) | {name: True for name in required if name not in properties}
    if len(named) > MOST_MEMBERS:
        raise RequestInvalid(f"{where} has {len(named)} properties: a grammar can hold {MOST_MEMBERS}")
    return {str(name): inner for name, inner in named.items()}, set(required)


def more_of(schema: Mapping[str, Any]) -> Any:
    """The schema of properties that are not named, or False: where some are named and nothing is said of others, a
    model that makes one up is mistaken."""
    return schema.get("additionalProperties", "properties" not in schema)


def types_of(schema: Mapping[str, Any], where: str) -> list[str]:
    """The types that the schema allows; where it does not say, those that its other keywords speak of."""
    stated = schema.get("type")
    if stated is None:
        return [kind for kind, keywords in KEYWORDS.items() if keywords & schema.keys()]
    kinds = list(stated) if isinstance(stated, list | tuple) else [stated]
    for kind in kinds:
        if kind not in TYPES:
            raise RequestInvalid(f"{where}: the type is {str(kind)[:40]!r} but should be one of {', '.join(TYPES)}")
    return [kind for kind in kinds if not (kind == "integer" and "number" in kinds)]


def items_of(schema: Mapping[str, Any], where: str) -> tuple[list[Any], Any]:
    """The schemas of the first items, and that of all others; drafts before 2020 have both under other names."""
    items = schema.get("items", True)
    if isinstance(items, list | tuple):
        return list(items), schema.get("additionalItems", True)
    heads = schema.get("prefixItems", [])
    if not isinstance(heads, list | tuple):
        raise RequestInvalid(f"{where}: prefixItems is {str(heads)[:40]!r} but should be a list of schemas")
    return list(heads), items


def count(schema: Mapping[str, Any], keyword: str, where: str) -> int | None:
    found = schema.get(keyword)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float) or found < 0 or found != int(found):
        raise RequestInvalid(f"{where}: {keyword} is {str(found)[:40]!r} but should be a whole number")
    return int(found)


def bound(
    schema: Mapping[str, Any], keyword: str, exclusive: str, tighter: Callable[[Iterable[Decimal]], Decimal], where: str
) -> tuple[Decimal | None, bool]:
    """The tighter of both bounds, and whether it is left out itself."""
    bounds: list[tuple[Decimal, bool]] = []
    for name in (keyword, exclusive):
        found = schema.get(name)
        if found is None or isinstance(found, bool):  # a boolean, in draft 4, says that the other one is exclusive
            continue
        if not isinstance(found, int | float) or not math.isfinite(found):
            raise RequestInvalid(f"{where}: {name} is {str(found)[:40]!r} but should be a number")
        bounds.append((Decimal(str(found)), name == exclusive or schema.get(exclusive) is True))
    if not bounds:
        return None, False
    tightest = tighter(value for value, _ in bounds)
    return tightest, any(left_out for value, left_out in bounds if value == tightest)


def schemas_of(schema: Mapping[str, Any], keyword: str, where: str) -> Sequence[Any]:
    options = schema[keyword]
    if not isinstance(options, list | tuple) or not options:
        raise RequestInvalid(f"{where}: {keyword} is {str(options)[:40]!r} but should be a list of schemas")
    return options


def is_a(value: Any, kind: str) -> bool:
    match kind:
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "null":
            return value is None
        case "array":
            return isinstance(value, list | tuple)
        case "object":
            return isinstance(value, Mapping)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and (kind == "number" or value == int(value))


def same(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def apart(one: Any, other: Any) -> bool:
    """Whether it can be seen that no value fits both."""
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        return False
    if (first := _constants(one)) is not None and (second := _constants(other)) is not None:
        return not any(same(a, b) for a in first for b in second)
    kinds = [_kinds(schema) for schema in (one, other)]
    if all(kinds) and not kinds[0] & kinds[1]:
        return True
    if kinds != [{"object"}, {"object"}]:
        return False
    shared = set(one.get("required", ())) & set(other.get("required", ()))
    marked = [[_constants(schema.get("properties", {}).get(name, {})) for schema in (one, other)] for name in shared]
    return any(a is not None and b is not None and not any(same(x, y) for x in a for y in b) for a, b in marked)


def _constants(schema: Any) -> list[Any] | None:
    if not isinstance(schema, Mapping):
        return None
    if "const" in schema:
        return [schema["const"]]
    return schema["enum"] if isinstance(schema.get("enum"), list) else None


def _kinds(schema: Mapping[str, Any]) -> set[str]:
    """The types of a schema that names them, integers as numbers; empty where it does not."""
    stated = schema.get("type", [])
    return {"number" if kind == "integer" else str(kind) for kind in ([stated] if isinstance(stated, str) else stated)}


def impossible(where: str) -> RequestInvalid:
    return RequestInvalid(f"{where}: no value fits its schema: check its bounds")
