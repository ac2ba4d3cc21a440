"""Everything that Headrace raises on purpose.

    HeadraceError
    ├── UserError                what the user can mend: one sentence, exit code 2
    │   ├── ModelNotFound        no such model, file or folder
    │   ├── FileInvalid          a model's file is damaged, incomplete or not what its name says
    │   ├── Unsupported          a well-formed thing that Headrace cannot do: an architecture, a quantisation
    │   ├── TemplateInvalid      the chat template cannot be read, or refuses these messages
    │   ├── RequestInvalid       a parameter, a message or a tool is not what is expected
    │   └── ContextExceeded      prompt and answer do not fit the context window
    ├── ToolFailed               a tool could not do it: its text goes back to the model
    ├── ModelClosed              the model was closed before or while it answered
    └── CoreMissing              the native core is not built or does not load

Each has a sentence that names the thing, what was expected, and what to do.
"""

from __future__ import annotations


class HeadraceError(Exception):
    """The root: catch this to catch everything that Headrace raises on purpose."""


class UserError(HeadraceError):
    """The user can mend it."""


class ModelNotFound(UserError):
    """There is no model of this name, nor a file or folder."""


class FileInvalid(UserError):
    """A file is damaged, incomplete, or not what its name says. `path` is the file."""

    def __init__(self, path: object, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = str(path)


class Unsupported(UserError):
    """A well-formed thing that Headrace cannot do."""


class TemplateInvalid(UserError):
    """The chat template cannot be read, or refuses these messages."""


class RequestInvalid(UserError):
    """A parameter, a message or a tool is not what is expected."""


class ContextExceeded(UserError):
    """The prompt, or the prompt and its answer, do not fit the context window (both in tokens)."""

    def __init__(self, prompt_tokens: int, num_ctx: int) -> None:
        super().__init__(
            f"the prompt has {prompt_tokens} tokens but the context window holds {num_ctx}: "
            "shorten it, or ask for a larger window with --num-ctx"
        )
        self.prompt_tokens = prompt_tokens
        self.num_ctx = num_ctx


class ToolFailed(HeadraceError):
    """A tool could not do what it was asked: the sentence goes back to the model as the tool's answer."""


class ModelClosed(HeadraceError):
    """The model was closed before or while it answered."""


class CoreMissing(HeadraceError):
    """The native core is not built for this Python, or does not load on this machine."""
