"""A prompt that ends inside its last message, which the model goes on with: transformers' `continue_final_message`.

A tag is put behind what the message says; what a template prints from the tag on is cut off again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from headrace.errors import RequestInvalid, TemplateInvalid
from headrace.text.messages import THINKING

# By this name, space included, templates of the family know it, and move their calls in front of it.
_TAG: Final = "CONTINUE_FINAL_MESSAGE_TAG "


def mark(chat: list[dict[str, Any]], which: bool | str, source: str) -> str:
    """Puts the tag into the last of `chat`, checked copies of messages, and gives the text before it.

    `which` is the field to go on with, or True for its content. Raises RequestInvalid where there is none.
    """
    name = which if isinstance(which, str) else "content"
    final = chat[-1]
    said = final.get(name)
    if said is None:
        raise RequestInvalid(f"the last message has no {name!r} to go on with: give it some, or leave it out")
    names = [other for other in THINKING if final.get(other) == said] if name in THINKING else [name]
    if not any(other in source for other in names):
        raise RequestInvalid(f"the chat template knows no {name!r}: a message cannot be continued there")
    if isinstance(said, list | tuple):
        return _mark_part(said)
    if not isinstance(said, str):
        raise RequestInvalid(f"the {name!r} of the last message is a {type(said).__name__}: only text can be continued")
    for other in names:
        final[other] += _TAG
    return said


def _mark_part(parts: list[Any] | tuple[Any, ...]) -> str:
    for part in reversed(parts):
        if isinstance(part, Mapping) and isinstance(said := part.get("text"), str):
            part["text"] = said + _TAG  # type: ignore[index]
            return said
    raise RequestInvalid("the last message has no text to go on with: give it a part with text")


def cut(prompt: str, said: str) -> str:
    """The prompt up to the tag. Raises TemplateInvalid where the template dropped it, or what was said before it."""
    tag = _TAG.strip()
    if said.strip() not in prompt or tag not in prompt:
        raise TemplateInvalid("the chat template does not print the last message as it is: it cannot be continued")
    end = prompt.rindex(tag)
    return prompt[:end] if prompt.startswith(_TAG, end) else prompt[:end].rstrip()
