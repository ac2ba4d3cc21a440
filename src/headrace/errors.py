"""Everything that Headrace raises on purpose.

    HeadraceError
    ├── UserError                what the user can mend: one sentence, exit code 2
    │   ├── ModelNotFound        no such model, file or folder
    │   ├── FileInvalid          a model's file is damaged, incomplete or not what its name says
    │   ├── StoreRefused         the library's folder cannot be read or written: no room, no right
    │   ├── Unsupported          a well-formed thing that Headrace cannot do: an architecture, a quantisation
    │   ├── TemplateInvalid      the chat template cannot be read, or refuses these messages
    │   ├── RequestInvalid       a parameter, a message or a tool is not what is expected
    │   │   ├── FieldRefused     a field of a request is unknown, or would ask for what is not supported
    │   │   ├── TooLarge         a request's body or form is larger than the server takes
    │   │   ├── TooSlow          a request's body did not arrive in time
    │   │   ├── KeyMissing       the server wants a key that it knows
    │   │   └── Forbidden        the key, the host or the origin may not do this
    │   ├── ContextExceeded      prompt and answer do not fit the context window
    │   ├── CacheExceeded        the prompt does not fit the memory of the cache
    │   ├── Unreachable          nothing answers where a server was said to be
    │   └── Offline              the network is wanted, and the user said not to use it
    ├── ToolFailed               a tool could not do it: its text goes back to the model
    ├── ModelClosed              the model was closed before or while it answered
    ├── Busy                     others are being served, and the time that the request would wait is over
    ├── DeadlineExceeded         the request took longer than it may
    ├── ServerFailed             a server that was asked could not do it, or what it says cannot be understood
    └── CoreMissing              the native core is not built or does not load

Each has a sentence that names the thing, what was expected, and what to do. OUTCOMES says how each ends a command and
what a server answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

LONGEST_SENTENCE = 600  # characters: parts of a sentence come out of files and requests, and may be as long as those


class HeadraceError(Exception):
    """The root: catch this to catch everything that Headrace raises on purpose."""


class UserError(HeadraceError):
    """The user can mend it. Whatever the sentence quotes, it is one printable line of bounded length."""

    def __init__(self, sentence: str) -> None:
        super().__init__(_one_line(sentence))


class ModelNotFound(UserError):
    """There is no model of this name, nor a file or folder."""


class FileInvalid(UserError):
    """A file is damaged, incomplete, or not what its name says. `path` is the file."""

    def __init__(self, path: object, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = str(path)


class StoreRefused(UserError):
    """The library's folder cannot be read or written as it should: no room, no right, or something is in the way."""


class Unsupported(UserError):
    """A well-formed thing that Headrace cannot do."""


class TemplateInvalid(UserError):
    """The chat template cannot be read, or refuses these messages."""


class RequestInvalid(UserError):
    """A parameter, a message or a tool is not what is expected. `field` is that of a request's body, where one is."""

    def __init__(self, sentence: str, field: str | None = None) -> None:
        super().__init__(sentence)
        self.field = field


class FieldRefused(RequestInvalid):
    """A field of a request's body that would change the answer, if it were supported; `known` ones it never will be."""

    def __init__(self, sentence: str, field: str, known: bool) -> None:
        super().__init__(sentence, field)
        self.known = known


class TooLarge(RequestInvalid):
    """A request's body, or a schema or grammar in it, is larger than the server takes."""


class TooSlow(RequestInvalid):
    """A request's body did not arrive in time."""


class KeyMissing(RequestInvalid):
    """The server wants a key, and the request has none that it knows."""


class Forbidden(RequestInvalid):
    """The request's key does not reach so far, or its host or origin is not among those that are let in."""


class ContextExceeded(UserError):
    """The prompt, or the prompt and its answer, do not fit the context window (both in tokens). What to do about it has
    its names in Python; `problem` is the sentence without it, for where it has others. `model_ctx` is the model's own
    window, where a request asked for a smaller one."""

    def __init__(self, prompt_tokens: int, num_ctx: int, model_ctx: int | None = None) -> None:
        self.problem = f"the prompt has {prompt_tokens} tokens but the context window holds {num_ctx}"
        self.prompt_tokens = prompt_tokens
        self.num_ctx = num_ctx
        self.model_ctx = num_ctx if model_ctx is None else model_ctx
        super().__init__(
            f"{self.problem}: shorten it, load the model with a larger num_ctx, or let chat and generate cut it with "
            "context='truncate'"
        )

    @property
    def a_larger_window_would_do(self) -> bool:
        """Whether the request may ask for one that the prompt fits."""
        return self.prompt_tokens < self.model_ctx


class CacheExceeded(UserError):
    """The prompt does not fit the memory that the cache may take (both in tokens), however long it waits. `problem` is
    the sentence without what to do about it, as above."""

    def __init__(self, prompt_tokens: int, capacity: int) -> None:
        self.problem = f"the prompt has {prompt_tokens} tokens but the cache has memory for {capacity}"
        super().__init__(f"{self.problem}: shorten it, or load the model with more cache_bytes")
        self.prompt_tokens = prompt_tokens
        self.capacity = capacity


class Unreachable(UserError):
    """Nothing answers where a server was said to be."""


class Offline(UserError):
    """The network is wanted, and the user said that it is not to be used."""


class ToolFailed(HeadraceError):
    """A tool could not do what it was asked: the sentence goes back to the model as the tool's answer."""


class ModelClosed(HeadraceError):
    """The model was closed before or while it answered."""


class Busy(HeadraceError):
    """Others are being served, and the time that this request would wait is over: it may come again."""


class DeadlineExceeded(HeadraceError):
    """The request took longer than the server lets one take."""


class ServerFailed(HeadraceError):
    """A server that was asked could not do it, or cannot be understood; its words become one printable line."""

    def __init__(self, sentence: str) -> None:
        super().__init__(_one_line(sentence))


class CoreMissing(HeadraceError):
    """The native core is not built for this Python, or does not load on this machine."""


class Outcome(NamedTuple):
    """How an error ends: the exit code of a command, the status of an HTTP answer."""

    exit_code: int
    http_status: int


# Every class of the tree. Exit code 2 is for what the user can mend. Statuses below 500 keep clients from trying again.
OUTCOMES: Mapping[type[HeadraceError], Outcome] = MappingProxyType(
    {
        HeadraceError: Outcome(1, 500),
        UserError: Outcome(2, 400),
        ModelNotFound: Outcome(2, 404),
        FileInvalid: Outcome(2, 422),
        StoreRefused: Outcome(2, 422),
        Unsupported: Outcome(2, 422),
        TemplateInvalid: Outcome(2, 422),
        RequestInvalid: Outcome(2, 400),
        FieldRefused: Outcome(2, 400),
        TooLarge: Outcome(2, 413),
        TooSlow: Outcome(2, 408),
        KeyMissing: Outcome(2, 401),
        Forbidden: Outcome(2, 403),
        ContextExceeded: Outcome(2, 400),
        CacheExceeded: Outcome(2, 400),
        Unreachable: Outcome(2, 424),
        Offline: Outcome(2, 424),
        ToolFailed: Outcome(1, 500),
        ModelClosed: Outcome(1, 503),
        Busy: Outcome(1, 503),
        DeadlineExceeded: Outcome(1, 504),
        ServerFailed: Outcome(1, 502),
        CoreMissing: Outcome(2, 500),
    }
)


def _one_line(sentence: str) -> str:
    """The middle goes first: the beginning names the thing, and the end says what to do."""
    if len(sentence) > LONGEST_SENTENCE:
        half = LONGEST_SENTENCE // 2
        sentence = f"{sentence[:half]} ... {sentence[-half:]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in sentence)
