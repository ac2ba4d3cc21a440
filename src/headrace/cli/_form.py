"""What files say of an answer: a system prompt; its form, as a JSON schema, a GBNF or a Lark grammar."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from headrace.errors import FileInvalid, ModelNotFound, RequestInvalid

JSON: Final = "json"
GRAMMARS: Final[Mapping[str, str]] = MappingProxyType({".gbnf": "gbnf", ".lark": "lark"})
LARGEST_BYTES: Final = 2**20


def read_form(format_: str | None, grammar: str | None) -> Any:
    """What `Model.chat` takes as its format. Raises RequestInvalid, FileInvalid, ModelNotFound."""
    if format_ is not None and grammar is not None:
        raise RequestInvalid("--format and --grammar both say what the answer must be: give one of them")
    if grammar is not None:
        path = Path(grammar).expanduser()
        if path.suffix not in GRAMMARS:
            raise RequestInvalid(f"{grammar} is no grammar by its name: expected {' or '.join(GRAMMARS)}")
        return {GRAMMARS[path.suffix]: _text(path)}
    if format_ is None or format_ == JSON:
        return format_
    if not format_:
        raise RequestInvalid("--format is empty: give json, or a file with a JSON schema")
    path = Path(format_).expanduser()
    try:
        schema = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise FileInvalid(
            path, f"not valid JSON ({error}): --format takes json, or a file with a JSON schema"
        ) from None
    if not isinstance(schema, dict):
        raise FileInvalid(path, "should hold a JSON schema, which is an object")
    return schema


def read_system(text: str | None, file: str | None) -> str | None:
    """What the model is told first, without the line ends after it. Raises RequestInvalid, FileInvalid."""
    if text is not None and file is not None:
        raise RequestInvalid("--system and --system-file both say what the model is told: give one of them")
    if file is None:
        return text
    try:
        return Path(file).expanduser().read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise FileInvalid(file, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise FileInvalid(file, "should be UTF-8 text, which --system-file takes") from None


def instruction(form: Any) -> str | None:
    """What the model is told of it: a grammar holds a model to a form, it does not make it think of one."""
    if form == JSON:
        return "Answer with JSON only."
    if is_schema(form):
        return f"Answer with JSON only, which fits this JSON schema: {json.dumps(form, ensure_ascii=False)}"
    return None


def is_schema(form: Any) -> bool:
    return isinstance(form, dict) and not form.keys() & set(GRAMMARS.values())


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise FileInvalid(path, f"larger than {LARGEST_BYTES >> 20} MiB: no schema or grammar is")
        return path.read_text(encoding="utf-8")
    except IsADirectoryError:
        raise ModelNotFound(f"{str(path)!r} is a folder: give json, or a file") from None
    except FileNotFoundError:
        raise ModelNotFound(f"there is no file {str(path)!r}: give json, or a file that exists") from None
    except (OSError, UnicodeDecodeError) as error:
        raise FileInvalid(path, f"cannot be read ({error})") from None
