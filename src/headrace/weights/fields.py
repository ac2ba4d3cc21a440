"""Checked reading of what a file says of itself: config.json, GGUF metadata and the like are all keys and values."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.errors import FileInvalid

LARGEST = 2**31 - 1  # no dimension, count or id of a real model comes near


@dataclass(frozen=True, slots=True)
class Fields:
    """A mapping whose values come from `source` (a file's name, for the error) and are checked when they are read.

    A default makes a key optional; `None` counts as absent, as in JSON written by transformers. Raises FileInvalid.
    """

    source: str
    values: Mapping[str, Any]

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def integer(self, key: str, default: int | None = None, *, least: int = 0, most: int = LARGEST) -> int:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise FileInvalid(self.source, f"{key} is {value!r} but should be a whole number from {least} to {most}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
            raise FileInvalid(self.source, f"{key} is {value!r} but should be a number")
        return float(value)

    def flag(self, key: str, default: bool | None = None) -> bool:
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise FileInvalid(self.source, f"{key} is {value!r} but should be true or false")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        value = self._get(key, default)
        if not isinstance(value, str):
            raise FileInvalid(self.source, f"{key} is {value!r} but should be text")
        return value

    def _get(self, key: str, default: Any) -> Any:
        value = self.values.get(key)
        if value is not None:
            return value
        if default is None:
            raise FileInvalid(self.source, f"{key} is missing")
        return default
