"""Headrace runs Liquid AI's LFM2 mixture-of-experts models on the machine you have.

    import headrace

    with headrace.load("nano") as model:
        for event in model.chat([{"role": "user", "content": "What is 37 * 12?"}], tools="builtin", run_tools=True):
            print(event)

Names are imported when they are first used, so that `import headrace` costs little.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.errors import (
        Busy,
        CacheExceeded,
        ContextExceeded,
        CoreMissing,
        FileInvalid,
        HeadraceError,
        ModelClosed,
        ModelNotFound,
        RequestInvalid,
        TemplateInvalid,
        ToolFailed,
        Unsupported,
        UserError,
    )
    from headrace.events import (
        Choice,
        Done,
        Dropped,
        Event,
        Text,
        Thinking,
        Timings,
        Token,
        ToolCall,
        ToolCallDelta,
        ToolResult,
        Usage,
    )
    from headrace.loading import load
    from headrace.model import Model
    from headrace.tools.loop import Tool, safe
    from headrace.transcript import Transcript
    from headrace.words import Reply, parse_reply, render

__version__ = "0.1.0"

_HOMES = {
    "headrace.loading": ("load",),
    "headrace.model": ("Model",),
    "headrace.tools.loop": ("Tool", "safe"),
    "headrace.transcript": ("Transcript",),
    "headrace.words": ("Reply", "parse_reply", "render"),
    "headrace.events": (
        "Choice",
        "Done",
        "Dropped",
        "Event",
        "Text",
        "Thinking",
        "Timings",
        "Token",
        "ToolCall",
        "ToolCallDelta",
        "ToolResult",
        "Usage",
    ),
    "headrace.errors": (
        "Busy",
        "CacheExceeded",
        "ContextExceeded",
        "CoreMissing",
        "FileInvalid",
        "HeadraceError",
        "ModelClosed",
        "ModelNotFound",
        "RequestInvalid",
        "TemplateInvalid",
        "ToolFailed",
        "Unsupported",
        "UserError",
    ),
}

__all__ = [
    "Busy",
    "CacheExceeded",
    "Choice",
    "ContextExceeded",
    "CoreMissing",
    "Done",
    "Dropped",
    "Event",
    "FileInvalid",
    "HeadraceError",
    "Model",
    "ModelClosed",
    "ModelNotFound",
    "Reply",
    "RequestInvalid",
    "TemplateInvalid",
    "Text",
    "Thinking",
    "Timings",
    "Token",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolFailed",
    "ToolResult",
    "Transcript",
    "Unsupported",
    "Usage",
    "UserError",
    "load",
    "parse_reply",
    "render",
    "safe",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'headrace' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
