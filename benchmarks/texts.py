"""What `benchmarks.engine` asks: prose of a given length, a chat, tools, and texts that copy their prompt or do not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headrace.text.tokenizer import Tokenizer

PASSAGE = (Path(__file__).parent / "passage.txt").read_text(encoding="utf-8")
REPLY_TOKENS = 48  # of a turn of a chat

Messages = list[dict[str, Any]]


def prose(tokenizer: Tokenizer, tokens: int, seed: int) -> str:
    """About so many tokens of the passage's words, in an order of their own for each seed."""
    words, rng = PASSAGE.split(), np.random.default_rng(seed)
    lengths = {word: len(tokenizer.encode(f" {word}")) for word in words}
    chosen = list[str]()
    while tokens > 0:
        chosen.append(words[rng.integers(len(words))])
        tokens -= lengths[chosen[-1]]
    return " ".join(chosen)


def conversation(tokenizer: Tokenizer, turns: int, tokens: int) -> Messages:
    """About so many tokens in turns, the last of them the user's."""
    asked = tokens // turns - REPLY_TOKENS
    messages = Messages()
    for turn in range(turns):
        messages += [
            {"role": "user", "content": prose(tokenizer, asked, 2 * turn)},
            {"role": "assistant", "content": prose(tokenizer, REPLY_TOKENS, 2 * turn + 1)},
        ]
    return messages[:-1]


def _tool(name: str, description: str, **parameters: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": parameters, "required": list(parameters)[:1]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


TOOLS = [
    _tool(
        "find_orders",
        "Find the orders of a customer, the latest first.",
        customer={"type": "string", "description": "The customer's number or e-mail address."},
        since={"type": "string", "description": "The first day, as YYYY-MM-DD."},
        state={"type": "string", "enum": ["open", "paid", "sent", "returned"]},
    ),
    _tool(
        "refund",
        "Pay back an order, or a part of it.",
        order={"type": "string", "description": "The number of the order."},
        amount={"type": "number", "description": "In euros; all of it if it is left out."},
        reason={"type": "string"},
    ),
    _tool(
        "send_message",
        "Write to a customer.",
        customer={"type": "string"},
        text={"type": "string", "description": "Plain text, without a greeting: it is added."},
        urgent={"type": "boolean"},
    ),
    _tool(
        "stock",
        "How many pieces of an article there are, and where.",
        article={"type": "string", "description": "The article's number, as on the label."},
        warehouses={"type": "array", "items": {"type": "string"}},
    ),
]


def with_tools(tokenizer: Tokenizer, system_tokens: int, question: int) -> Messages:
    """A system prompt of about so many tokens, the same for all, and a short question, another for each number."""
    return [
        {"role": "system", "content": prose(tokenizer, system_tokens, 100)},
        {"role": "user", "content": prose(tokenizer, 24, 200 + question)},
    ]


@dataclass(frozen=True, slots=True)
class Writing:
    """A prompt, and what is to be written after it."""

    name: str
    prompt: str
    answer: str


def writings() -> list[Writing]:
    """Three that copy from their prompt, and one that does not."""
    *begun, going_on = PASSAGE.strip().split("\n\n")
    return [
        _edited_records(),
        _edited_code(),
        _quotations(),
        Writing("prose that goes on", "\n\n".join(begun), going_on),
    ]


def _edited_records() -> Writing:
    """A list of records, one field of every third of which becomes another."""
    names, towns = ["Ada", "Bela", "Carl", "Dora", "Emil", "Fee"], ["Ulm", "Graz", "Bern", "Lyon"]
    records = [
        {"id": 4001 + 37 * i, "name": names[i % 6], "town": towns[i % 4], "paid": i % 2 == 0, "visits": 3 + i * i % 17}
        for i in range(9)
    ]
    edited = [record | {"town": "Wien"} if i % 3 == 1 else record for i, record in enumerate(records)]
    asked = "Every third of these customers has moved to Wien. Write the list as it is now.\n\n"
    return Writing("editing JSON", f"{asked}{_lines(records)}\n\n", _lines(edited))


def _lines(records: list[dict[str, Any]]) -> str:
    return "[\n" + ",\n".join(f"  {json.dumps(record)}" for record in records) + "\n]\n"


_CODE = '''\
def moving_average(values, width):
    """The mean of each `width` neighbouring values."""
    if width < 1:
        raise ValueError("width must be positive")
    total = sum(values[:width])
    means = [total / width]
    for place in range(width, len(values)):
        total += values[place] - values[place - width]
        means.append(total / width)
    return means


def crossings(values, level):
    """Where the values rise above a level."""
    found = []
    for place in range(1, len(values)):
        if values[place - 1] <= level < values[place]:
            found.append(place)
    return found
'''


def _edited_code() -> Writing:
    """Two functions, in which a parameter gets another name."""
    asked = "Rename `values` to `samples` in this module and change nothing else.\n\n```python\n"
    return Writing("editing code", f"{asked}{_CODE}```\n\n```python\n", _CODE.replace("values", "samples") + "```\n")


def _quotations() -> Writing:
    """Sentences of a text, word for word, as JSON."""
    sentences = PASSAGE.replace("\n\n", " ").split(". ")
    quoted = {f"quotation {i + 1}": sentences[place] + "." for i, place in enumerate((2, 5, 8, 12))}
    asked = "Quote four sentences of this text that speak of water, word for word, as JSON.\n\n"
    return Writing("extraction", f"{asked}{PASSAGE}\n", json.dumps(quoted, indent=2, ensure_ascii=False) + "\n")
