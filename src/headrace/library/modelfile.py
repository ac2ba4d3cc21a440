"""Modelfiles: what a model is made from, and how it is to be used, as Ollama's `create` takes it.

    # a model, a GGUF file, or a folder of safetensors
    FROM lfm2:8b
    PARAMETER temperature 0.2
    SYSTEM \"\"\"You answer in
    one sentence.\"\"\"
    MESSAGE user What is a headrace?

An instruction begins a line, in letters of either case; a line that begins with # says nothing. A value goes on to the
end of the line, less the space around it. One that begins with a quote, or with three, goes on over as many lines as it
takes, until a line ends with as many; nothing in it is escaped. The rules are those of Ollama's parser; text that it
drops (characters that do not print) is kept, and what it cannot read as UTF-8 is refused.

TEMPLATE is Jinja, and never Go, as in the rest of the project.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Final, TypeVar

from headrace.engine import options
from headrace.errors import RequestInvalid, TemplateInvalid, Unsupported, UserError
from headrace.preset import Preset
from headrace.text.template import Template

T = TypeVar("T")
LARGEST_BYTES: Final = 2 << 20  # of a whole file; a template may have half of that
INSTRUCTIONS: Final = ("FROM", "PARAMETER", "TEMPLATE", "SYSTEM", "LICENSE", "MESSAGE", "REQUIRES")
ROLES: Final = ("system", "user", "assistant")
LISTS: Final = ("stop",)  # parameters of which a file may have several

FLAGS: Final = (  # parameters that are true or false
    *("numa", "use_mmap", "use_mlock", "low_vram", "f16_kv", "vocab_only", "logits_all", "embedding_only"),
    *("penalize_newline", "use_imagegen_runner"),
)

# What Ollama has beside them, and what to do instead.
REFUSED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ADAPTER": "merge the adapter into its model, and name that with FROM",
        "DRAFT": "say at the start which model drafts, with --draft",
        "RENDERER": "TEMPLATE says how messages are written",
        "PARSER": "answers are read by what the model's vocabulary has",
    }
)

_SPACE: Final = " \t\r\n"
_SKIPPED = re.compile(r"(?:[ \t\r\n]+|#[^\r\n]*)*")
_WORD = re.compile(r"[^ \t\r\n]*")
_BLANK = re.compile(r"[ \t]*")
_LINE = re.compile(r"[^\r\n]*")
_NEW_LINE = re.compile(r"\r\n|\r|\n")
_CLOSING: Final[Mapping[str, re.Pattern[str]]] = MappingProxyType(
    {quote: re.compile(quote + r"[ \t]*(?=[\r\n]|\Z)") for quote in ('"""', '"')}
)
_INTEGER = re.compile(r"[+-]?[0-9]{1,30}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,5})?")
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
_VERSION = re.compile(r"v?(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)){0,2}(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")

# Go's templates: {{ .Prompt }}, {{ $last }}, {{/* a comment */}}, {{ if ...}}, {{ range .Messages }}, none of which is
# Jinja; and {{ end }}, where nothing in the text is.
_GO_WORDS = "with|range|define|block|template|not|and|or|eq|ne|lt|le|gt|ge|len|index|slice|json|print|printf|println"
_GO = re.compile(rf"\{{\{{-?\s*(?:[.$]|/\*|(?:else )?if\s+[\w.$(\"]|(?:{_GO_WORDS})\s+\(*\s*[.$])")
_GO_END = re.compile(r"\{\{-?\s*(?:end|else)\s*-?\}\}")


@dataclass(frozen=True, slots=True)
class Message:
    """A turn of the conversation that a model begins with; `role` is one of ROLES."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Modelfile:
    """What a Modelfile, or the flags of `create`, say. None is what they do not say; "" takes away what FROM has.

    `source` is FROM's. `parameters` have Ollama's names and JSON's types; `stop` is a list. `licenses` are added to
    FROM's, one after another.
    """

    source: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    template: str | None = None
    system: str | None = None
    licenses: tuple[str, ...] = ()
    messages: tuple[Message, ...] = ()
    requires: str | None = None


# --- reading


def read(data: bytes, name: str = "Modelfile") -> Modelfile:
    """`name` is what errors call it. Raises RequestInvalid, Unsupported and TemplateInvalid, each with the line."""
    reader = _Reader(_decoded(data, name), name)
    said = [(instruction, _value(reader, instruction)) for instruction in reader.instructions()]
    last = dict(said)
    match [value for instruction, value in said if instruction == "FROM"]:
        case [str(source)]:
            pass
        case []:
            raise RequestInvalid(f"{name} has no FROM: the model that it begins with, a GGUF file, or a folder")
        case several:
            raise Unsupported(f"{name} has {len(several)} FROMs: a model is made from one model, file or folder")
    return Modelfile(
        source,
        _merged(value for instruction, value in said if instruction == "PARAMETER"),
        last.get("TEMPLATE"),
        last.get("SYSTEM"),
        tuple(value for instruction, value in said if instruction == "LICENSE"),
        tuple(value for instruction, value in said if instruction == "MESSAGE"),
        last.get("REQUIRES"),
    )


def _merged(said: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The last value of each parameter, and all of a list."""
    merged = dict[str, Any]()
    for name, value in said:
        if name in LISTS:
            merged.setdefault(name, []).extend(value)
        else:
            merged[name] = value
    return merged


def _decoded(data: bytes, name: str) -> str:
    """UTF-8, or what its first bytes say that it is, as editors on Windows have it."""
    if len(data) > LARGEST_BYTES:
        raise RequestInvalid(f"{name} has {len(data)} bytes, and a Modelfile at most {LARGEST_BYTES}")
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as problem:
        line = 1 + len(re.findall(rb"\r\n|\r|\n", data[: problem.start]))
        raise RequestInvalid(f"{name} line {line}: it should be UTF-8 text, and this is not") from None


def _value(reader: _Reader, instruction: str) -> Any:
    """What an instruction says: a text, and of a PARAMETER its name and value."""
    match instruction:
        case "FROM":
            return _source(reader)
        case "PARAMETER":
            name = reader.word("PARAMETER needs a name and a value, such as PARAMETER temperature 0.2")
            text = reader.value(f"PARAMETER {name[:40]}", or_empty=False)
            return name, reader.checked(partial(parameter, name), text)
        case "TEMPLATE":
            return reader.checked(check_template, reader.value("TEMPLATE"))
        case "SYSTEM" | "LICENSE":
            return reader.value(instruction)
        case "MESSAGE":
            return _message(reader)
        case "REQUIRES":
            return reader.checked(version, reader.value("REQUIRES", or_empty=False))
    if instead := REFUSED.get(instruction):
        raise Unsupported(f"{reader.place}: {instruction} is not supported: {instead}")
    known = ", ".join(INSTRUCTIONS)
    raise RequestInvalid(f"{reader.place}: there is no instruction {instruction[:40]!r}: they are {known}")


def _source(reader: _Reader) -> str:
    if source := reader.value("FROM", or_empty=False):
        return source
    raise RequestInvalid(f"{reader.place}: FROM should name a model, a GGUF file or a folder")


def _message(reader: _Reader) -> Message:
    role = reader.word("MESSAGE needs a role and a text, such as MESSAGE user Hello")
    if role not in ROLES:
        raise RequestInvalid(f"{reader.place}: MESSAGE has the role {role[:40]!r}: expected {', '.join(ROLES)}")
    return Message(role, reader.value(f"MESSAGE {role}"))


class _Reader:
    """A position in the text; errors name the line on which the instruction begins that is being read."""

    __slots__ = ("begin", "name", "position", "text")

    def __init__(self, text: str, name: str) -> None:
        self.text, self.name, self.position, self.begin = text, name, 0, 0

    @property
    def place(self) -> str:
        return f"{self.name} line {1 + len(_NEW_LINE.findall(self.text, 0, self.begin))}"

    def instructions(self) -> Iterator[str]:
        """Each in upper case; its value is to be taken before the next."""
        while (begin := self._match(_SKIPPED).end()) < len(self.text):
            self.begin = begin
            yield self._match(_WORD)[0].upper()

    def word(self, expected: str) -> str:
        """The word between an instruction and its value."""
        self._match(_BLANK)
        if not (found := self._match(_WORD)[0]):
            raise RequestInvalid(f"{self.place}: {expected}")
        return found

    def value(self, of: str, or_empty: bool = True) -> str:
        """To the end of the line, or in quotes. Raises RequestInvalid where there is none, or no end of it."""
        self._match(_BLANK)
        if quote := next((quote for quote in _CLOSING if self.text.startswith(quote, self.position)), ""):
            return self._quoted(quote, of)
        found = self._match(_LINE)[0].rstrip(_SPACE)
        if not found:
            empty = ': write "" for an empty one' if or_empty else ""
            raise RequestInvalid(f"{self.place}: {of} needs a value{empty}")
        return found

    def _quoted(self, quote: str, of: str) -> str:
        begin = self.position + len(quote)
        closing = _CLOSING[quote].search(self.text, begin)
        if closing is None:
            raise RequestInvalid(f"{self.place}: {of} begins with {quote} and no line after it ends with {quote}")
        self.position = closing.end()
        return self.text[begin : closing.start()]

    def checked(self, check: Callable[[str], T], text: str) -> T:
        """What `check` makes of a value; its errors name the line."""
        try:
            return check(text)
        except UserError as error:
            raise type(error)(f"{self.place}: {error}") from None

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """Each pattern matches at every place, be it nothing."""
        found = pattern.match(self.text, self.position)
        assert found is not None
        self.position = found.end()
        return found


# --- values


def checked(modelfile: Modelfile) -> Modelfile:
    """One that was put together from flags or a request, as `read` would give it. Raises what `read` does.

    `stop` may be one text, and a parameter that is None is not given.
    """
    given = {name: value for name, value in modelfile.parameters.items() if value is not None}
    check_parameters(given)
    for name in LISTS:
        if isinstance(value := given.get(name), str):
            given[name] = [value]
    for message in modelfile.messages:
        if message.role not in ROLES:
            raise RequestInvalid(f"MESSAGE has the role {message.role[:40]!r}: expected {', '.join(ROLES)}")
    texts = [modelfile.source, modelfile.template, modelfile.system, *modelfile.licenses, *given.get("stop", ())]
    for text in filter(None, [*texts, *(message.content for message in modelfile.messages)]):
        _check_unicode(text)
    if modelfile.template is not None:
        check_template(modelfile.template)
    requires = None if modelfile.requires is None else version(modelfile.requires)
    return replace(modelfile, parameters=given, requires=requires)


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RequestInvalid(f"{text[:40]!r} holds half of a surrogate pair, which is no character") from None


def parameter(name: str, text: str) -> Any:
    """A parameter as JSON has it; of `stop`, a list of one. Raises RequestInvalid, with what was expected."""
    value: Any = [text] if name in LISTS else _scalar(name, text)
    check_parameters({name: value})
    return value


def check_parameters(given: Mapping[str, Any]) -> None:
    """Raises RequestInvalid for a name that there is not, and for a value that it cannot have."""
    options.read(given, place="PARAMETER ")
    for name, value in given.items():
        if name in options.IGNORED and not (isinstance(value, bool | int | float) and abs(value) < 2**63):
            raise RequestInvalid(f"PARAMETER {name} is {value!r} but should be a number, true or false")


def _scalar(name: str, text: str) -> Any:
    """The number, or true or false, that a text stands for; a text that is neither stays one, for the error."""
    if name in FLAGS or not _NUMBER.fullmatch(text):
        return True if text in _TRUE else False if text in _FALSE else text
    return int(text) if _INTEGER.fullmatch(text) else float(text)


def version(text: str) -> str:
    """A version of Ollama, without its "v". Raises RequestInvalid."""
    if len(text) > 100 or not _VERSION.fullmatch(text):
        raise RequestInvalid(f"REQUIRES is {text[:40]!r} but should be a version, such as 0.14.0")
    return text.removeprefix("v")


def check_template(text: str) -> str:
    """The text itself. Raises TemplateInvalid if it is Go's, or no Jinja."""
    if looks_like_go(text):
        raise TemplateInvalid("TEMPLATE is a Go template, and should be Jinja: leave it out to use the model's own")
    return Template(text).source


def looks_like_go(text: str) -> bool:
    """Whether a template is in Go's language, which Ollama's models have."""
    return bool(_GO.search(text) or ("{%" not in text and _GO_END.search(text)))


# --- writing


def of(preset: Preset, source: str, licenses: Iterable[str] = (), requires: str | None = None) -> Modelfile:
    """What makes of `source` what a model with this preset is, as far as a Modelfile can say it."""
    parameters = dict(preset.parameters) | ({} if preset.num_ctx is None else {"num_ctx": preset.num_ctx})
    if stop := parameters.pop("stop", ()):
        parameters["stop"] = [stop] if isinstance(stop, str) else list(stop)
    messages = [Message(one["role"], one["content"]) for one in preset.messages if one["role"] in ROLES]
    template, system = preset.template or None, preset.system or None
    return Modelfile(source, parameters, template, system, tuple(licenses), tuple(messages), requires)


def write(modelfile: Modelfile) -> str:
    """The text from which `read` gives the same. Raises RequestInvalid for what no Modelfile can hold."""
    lines = [f"FROM {_shown(modelfile.source, 'FROM')}"]
    for instruction, text in (("TEMPLATE", modelfile.template), ("SYSTEM", modelfile.system)):
        if text is not None:
            lines.append(f"{instruction} {_shown(text, instruction)}")
    lines += [f"PARAMETER {name} {one}" for name, value in modelfile.parameters.items() for one in _values(name, value)]
    lines += [f"MESSAGE {one.role} {_shown(one.content, 'MESSAGE')}" for one in modelfile.messages]
    lines += [f"LICENSE {_shown(text, 'LICENSE')}" for text in modelfile.licenses]
    if modelfile.requires is not None:
        lines.append(f"REQUIRES {modelfile.requires}")
    return "\n".join(lines) + "\n"


def _values(name: str, value: Any) -> Sequence[str]:
    """One text for each time that the parameter is to be written."""
    if name in LISTS:
        return [_shown(text, f"PARAMETER {name}") for text in value]
    return [str(value).lower() if isinstance(value, bool) else repr(value)]


def _shown(text: str, of: str) -> str:
    """A value as it is where that can be, else in quotes, in three if it has one."""
    if text and text == text.strip(_SPACE) and not text.startswith('"') and not re.search(r"[\r\n]", text):
        return text
    quote = '"""' if '"' in text else '"'
    if re.search(r'"""[ \t]*[\r\n]', text):
        raise RequestInvalid(f'{of} has a line that ends with """: no Modelfile can hold that')
    return f"{quote}{text}{quote}"
