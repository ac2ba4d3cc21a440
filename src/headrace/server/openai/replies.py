"""What every reply of OpenAI's API begins with, and how a request becomes answers on their way."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import headrace
from headrace.answers import Answers
from headrace.model import Model
from headrace.server.endpoint import Call
from headrace.server.lines import LAST_EVENT, server_sent
from headrace.server.log import note
from headrace.server.openai.facts import Facts
from headrace.server.openai.sampling import Sampled
from headrace.server.serving import Running


@dataclass(frozen=True, slots=True)
class Head:
    """`id`, `created` and `model` of a reply, the same in all pieces of a stream."""

    id: str
    created: int
    model: str
    fingerprint: str

    @classmethod
    def of(cls, prefix: str, name: str, digest: str, model: Model) -> Head:
        """The fingerprint tells what an answer with a seed depends on: the program, its kernels and the weights."""
        basis = f"{headrace.__version__} {digest} {model.isa} {model.kv}"
        fingerprint = f"fp_{hashlib.sha256(basis.encode()).hexdigest()[:12]}"
        return cls(f"{prefix}-{secrets.token_hex(12)}", int(time.time()), name, fingerprint)

    def reply(self, kind: str, choices: list[Any], **more: Any) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
            **more,
        }


class Piece(Protocol):
    """What a chunk says of one answer."""

    def choice(self) -> dict[str, Any]: ...


Ask = Callable[[Model], Answers]


@asynccontextmanager
async def answering(call: Call, asked: Sampled, prefix: str, ask: Ask) -> AsyncIterator[tuple[Running, Head, Facts]]:
    """Raises what `ask` does, and what `Serving.answering` does."""
    house = call.house
    name = call.model(asked.model).name
    note(call.scope, stream=asked.stream)

    def prepare(model: Model) -> Answers:
        house.shelf.facts(name)  # reads files, so in this thread; from now on they are known
        return ask(model)

    async with house.serving.answering(name, prepare, asked.keep_alive_s) as running:
        head = Head.of(prefix, name, house.shelf.facts(name).digest, running.model)
        facts = Facts.of(len(running.answers.sequences), asked.n, running.load_s, asked.experts)
        yield running, head, facts
        usage = facts.usage()
        counts = {name: usage[name] for name in ("prompt_tokens", "completion_tokens")}
        note(call.scope, **counts, reason=facts.reason)


async def chunks(
    call: Call,
    asked: Sampled,
    prefix: str,
    ask: Ask,
    kind: str,
    pieces_of: Callable[[Running, Facts], AsyncGenerator[Piece, None]],
) -> AsyncIterator[bytes]:
    """A stream of chunks. What there is to tell beside the answers is in the last one."""
    include_usage = asked.include_usage
    async with answering(call, asked, prefix, ask) as (running, head, facts):
        usage: dict[str, Any] = {"usage": None} if include_usage else {}
        async with aclosing(pieces_of(running, facts)) as pieces:
            async for piece in pieces:
                last = facts.beside() if facts.complete and not include_usage else {}
                yield server_sent(head.reply(kind, [piece.choice()], **usage, **last))
        if include_usage:
            yield server_sent(head.reply(kind, [], usage=facts.usage(), **facts.beside()))
    yield LAST_EVENT


def stopped(running: Running, index: int) -> bool:
    """Whether a stop sequence ended the answer: then its last tokens have no text."""
    text = running.answers.sequences[index].text
    return text is not None and text.stopped
