"""Tool lists and JSON schemas drawn at random: every keyword that calls are constrained by, everything bounded."""

from __future__ import annotations

import random
from typing import Any

WORDS = (
    "city",
    "count",
    "unit",
    "from",
    "class",
    "x",
    "max_items",
    "é",
    "Name",
    "query",
    "the-key",
    "a b",
    "2nd",
    "if",
)
TEXTS = ("red", "it's", 'say "hi"', "a\\b", "new\nline", "<|tool_call_end|>", "", "日本", "True", "1", "</s>", "a,b)]")
PATTERNS = ("^[a-z]{2,5}$", "^[A-Z]{3}-[0-9]{4}$", "^(on|off)$", '^"[a-z]{1,3}"$')
FORMATS = ("date", "time", "date-time", "ipv4", "uuid")


class Draw:
    """Schemas from a seed. None is deeper than `depth`."""

    def __init__(self, seed: int, depth: int = 2) -> None:
        self.random = random.Random(seed)
        self.depth = depth

    def tools(self) -> list[dict[str, Any]]:
        """One to four tools, some as OpenAI objects and some bare, some whose names begin alike."""
        names = self.random.sample(("get", "get_weather", "getter", "files.search", "f", "Ünï_code", "set"), 4)
        return [self.tool(name) for name in names[: self.random.randint(1, 4)]]

    def tool(self, name: str) -> dict[str, Any]:
        function: dict[str, Any] = {"name": name, "description": "does something"}
        if self.random.random() < 0.95:
            function["parameters"] = self.parameters()
        return {"type": "function", "function": function} if self.random.random() < 0.5 else function

    def parameters(self) -> dict[str, Any]:
        schema = self.object_(self.depth)
        schema.pop("minProperties", None)
        if self.random.random() < 0.15:
            schema = {"type": "object", "$defs": {"Inner": self.schema(1)}, **schema}
            schema["properties"]["inner"] = {"$ref": "#/$defs/Inner"}
            schema["required"] = [*schema.get("required", []), "inner"]
            schema.pop("maxProperties", None)
        return schema

    def schema(self, depth: int) -> Any:
        kinds = [self.string, self.string, self.integer, self.number, self.boolean, self.null, self.enum, self.const]
        if depth:
            kinds += [self.array, self.array, self.tuple_, self.object_, self.either, self.map_]
        kind = self.random.choice(kinds)
        made: Any = kind(depth)
        if self.random.random() < 0.2:
            made |= {"description": "what it is", "title": "T", "default": None, "x-order": 1}
        return made

    def string(self, _: int) -> dict[str, Any]:
        pick = self.random.random()
        if pick < 0.15:
            return {"type": "string", "pattern": self.random.choice(PATTERNS)}
        if pick < 0.3:
            return {"type": "string", "format": self.random.choice((*FORMATS, "password")), "maxLength": 40}
        low = self.random.randint(0, 6)
        return {"type": "string", "maxLength": low + self.random.randint(0, 30)} | ({"minLength": low} if low else {})

    def integer(self, _: int) -> dict[str, Any]:
        low = self.random.randint(-(10 ** self.random.randint(0, 6)), 10 ** self.random.randint(0, 6))
        schema = {"type": "integer", "minimum": low, "maximum": low + self.random.randint(5, 10**5)}
        return schema | ({"multipleOf": 3} if self.random.random() < 0.2 else {})

    def number(self, _: int) -> dict[str, Any]:
        low = round(self.random.uniform(-1000, 1000), self.random.randint(0, 3))
        high = round(low + self.random.uniform(0.01, 500), 3)
        names = self.random.choice([("minimum", "maximum"), ("exclusiveMinimum", "exclusiveMaximum")])
        return {"type": "number", names[0]: low, names[1]: high}

    def boolean(self, _: int) -> dict[str, Any]:
        return {"type": "boolean"}

    def null(self, _: int) -> dict[str, Any]:
        return {"type": "null"}

    def enum(self, _: int) -> dict[str, Any]:
        values = self.random.sample(
            [*TEXTS, 1, 10, 2.5, True, None, [1, "a"], {"k": [None]}], self.random.randint(1, 5)
        )
        return {"enum": values}

    def const(self, _: int) -> dict[str, Any]:
        return {"const": self.random.choice([*TEXTS, 0, -7, 1.5, False, ["x"]])}

    def array(self, depth: int) -> dict[str, Any]:
        low = self.random.randint(0, 2)
        schema: dict[str, Any] = {"type": "array", "items": self.schema(depth - 1)}
        return schema | {"maxItems": low + self.random.randint(0, 3)} | ({"minItems": low} if low else {})

    def tuple_(self, depth: int) -> dict[str, Any]:
        heads = [self.schema(depth - 1) for _ in range(self.random.randint(1, 3))]
        return {"type": "array", "prefixItems": heads, "items": False, "minItems": self.random.randint(0, len(heads))}

    def map_(self, depth: int) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": self.schema(depth - 1), "maxProperties": 3}

    def object_(self, depth: int) -> dict[str, Any]:
        names = self.random.sample(WORDS, self.random.randint(0, 5))
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {name: self.schema(max(depth - 1, 0)) for name in names},
        }
        required = [name for name in names if self.random.random() < 0.5]
        if required:
            schema["required"] = required
        if self.random.random() < 0.2:
            schema["additionalProperties"] = False
        if len(required) < len(names) and self.random.random() < 0.2:
            schema["maxProperties"] = self.random.randint(max(len(required), 1), len(names))
        if names and self.random.random() < 0.1:
            schema["minProperties"] = 1
        return schema

    def either(self, depth: int) -> dict[str, Any]:
        pick = self.random.random()
        if pick < 0.4:
            return {"type": ["string", "integer", "null"], "maxLength": 8, "minimum": 0, "maximum": 99}
        if pick < 0.7:
            return {"oneOf": [self.boolean(0), self.string(0), self.integer(0)]}
        return {"anyOf": [self.schema(depth - 1), {"type": "null"}]}
