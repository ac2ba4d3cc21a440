"""`/v1/completions` of OpenAI's API: texts that are continued as they stand, and what the model makes of each token."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from headrace.answers import Answers
from headrace.errors import FieldRefused, RequestInvalid
from headrace.events import Done, Text, Token
from headrace.jobs import MOST_LOGPROBS
from headrace.model import Model
from headrace.server.endpoint import Call, Reply, Stream
from headrace.server.lines import EVENT_STREAM
from headrace.server.openai.errors import Dialect
from headrace.server.openai.facts import FINISH_REASONS, Facts
from headrace.server.openai.legacy_logprobs import Row, Rows, columns
from headrace.server.openai.replies import answering, chunks, stopped
from headrace.server.openai.sampling import Sampled
from headrace.server.serving import Running

DIALECT = Dialect(prompt="prompt", cuts=True)
MAX_TOKENS = 16  # where a request does not say
MOST_CHOICES = 2048  # prompts times answers


class Completion(Sampled, kw_only=True):
    refused: ClassVar[Mapping[str, str]] = {
        "messages": "they are of /v1/chat/completions: give a prompt",
        "tools": "they are of /v1/chat/completions",
        "response_format": "it is of /v1/chat/completions",
    }

    prompt: str | list[str | int | list[int]]
    echo: bool = False
    logprobs: Annotated[int, Meta(ge=0, le=MOST_LOGPROBS)] | None = None
    best_of: int | None = None
    suffix: str | None = None

    def check(self) -> None:
        """Raises RequestInvalid for what is wrong whatever the model."""
        if self.best_of is not None and self.best_of != self.n:
            raise FieldRefused("best_of: answers are not ranked here: leave it out", "best_of", known=True)
        if self.suffix:
            raise FieldRefused("suffix: models here cannot fill in what stands before it", "suffix", known=True)
        super().check()
        prompts = len(self.prompts())
        if prompts * self.n > MOST_CHOICES:
            raise RequestInvalid(f"{prompts} prompts with {self.n} answers each: {MOST_CHOICES} is the most", "prompt")

    def prompts(self) -> list[str | list[int]]:
        return prompts_of(self.prompt, "prompt")


def prompts_of(given: str | Sequence[str | int | Sequence[int]], field: str) -> list[str | list[int]]:
    """A text, token ids, or a list of either, as a list. Raises RequestInvalid for a mixture, and for nothing."""
    if isinstance(given, str):
        return [given]
    if given and all(isinstance(one, int) for one in given):
        return [[one for one in given if isinstance(one, int)]]
    texts = [one if isinstance(one, str) else [*one] for one in given if not isinstance(one, int)]
    if not given or len(texts) < len(given) or len(set(map(type, texts))) > 1:
        raise RequestInvalid(f"{field} should be a text, a list of texts, token ids, or a list of those", field)
    return texts


@dataclass(slots=True)
class Prompts:
    """What is continued. Once it has been asked: `texts` as `echo` shows them, and which `began` with an added BOS."""

    asked: Completion
    texts: list[str] = field(default_factory=list)
    began: list[bool] = field(default_factory=list)

    def ask(self, model: Model) -> Answers:
        given, asked = self.asked.prompts(), self.asked
        answers = model.text_answers(
            given,
            n=asked.n,
            num_predict=MAX_TOKENS if asked.max_tokens is None else asked.max_tokens,
            logprobs=asked.logprobs,
            echo=asked.echo and asked.logprobs is not None,
            ends=asked.logprobs is not None,
            **asked.sampling(),
        )
        for place, (one, ids) in enumerate(zip(given, answers.prompt_ids, strict=True)):
            plain = model.tokenize(one) if isinstance(one, str) else one
            self.began.append(len(model.prompt(one)) > len(plain))
            whole = isinstance(one, str) and not answers.replies[place * asked.n].dropped
            self.texts.append(str(one) if whole else model.detokenize(ids[self.began[-1] :]))
        return answers


async def complete(call: Call, asked: Completion) -> Reply | Stream:
    asked.check()
    prompts = Prompts(asked)
    pieces_of = partial(_pieces, prompts)
    if asked.stream:
        stream = chunks(call, asked, "cmpl", prompts.ask, "text_completion", pieces_of)
        return Stream(EVENT_STREAM, stream, DIALECT.last_words)
    said: dict[int, Said] = {}
    async with answering(call, asked, "cmpl", prompts.ask) as (running, head, facts):
        async for piece in pieces_of(running, facts):
            said.setdefault(piece.index, Said()).add(piece)
    choices = [said[index].choice(index, asked.logprobs is not None) for index in sorted(said)]
    return Reply.json(head.reply("text_completion", choices, usage=facts.usage(), **facts.beside()))


@dataclass(frozen=True, slots=True)
class Piece:
    """What is new of one answer, and the rows of the tokens that it is made of."""

    index: int
    text: str
    rows: list[Row]
    reason: str | None = None

    def choice(self) -> dict[str, Any]:
        told = columns(self.rows) if self.rows else None
        return {"text": self.text, "index": self.index, "logprobs": told, "finish_reason": self.reason}


async def _pieces(prompts: Prompts, running: Running, facts: Facts) -> AsyncGenerator[Piece, None]:
    """All answers as they grow, each after its prompt, where that is echoed."""
    asked, tokenizer = prompts.asked, running.model.checkpoint.tokenizer
    growing = [Growing(Rows(tokenizer)) for _ in running.answers.sequences]
    async for choice in running:
        index, event, one = choice.index, choice.event, growing[choice.index]
        prompt = index // asked.n
        if isinstance(event, Token) and event.of_prompt:
            one.read += 1
            if one.read > prompts.began[prompt]:
                one.waiting.append(one.rows.row(event))
            continue
        if asked.echo and not one.echoed:
            one.echoed = True
            yield Piece(index, prompts.texts[prompt], one.taken())
        match event:
            case Token():
                facts.route(index, event)
                if asked.logprobs is not None:
                    one.waiting.append(one.rows.row(event))
            case Text(text):
                yield Piece(index, text, one.taken())
            case Done():
                facts.done[index] = event
                if stopped(running, index):
                    one.waiting.clear()  # they are the stop sequence
                yield Piece(index, "", one.taken(), FINISH_REASONS[event.reason])


@dataclass(slots=True)
class Growing:
    """One answer of a stream: how many tokens of its prompt were `read`, and the rows that wait for their text."""

    rows: Rows
    read: int = 0
    echoed: bool = False
    waiting: list[Row] = field(default_factory=list)

    def taken(self) -> list[Row]:
        taken, self.waiting = self.waiting, []
        return taken


@dataclass(slots=True)
class Said:
    """One answer, put together again."""

    texts: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    reason: str | None = None

    def add(self, piece: Piece) -> None:
        self.texts.append(piece.text)
        self.rows += piece.rows
        self.reason = piece.reason

    def choice(self, index: int, logprobs: bool) -> dict[str, Any]:
        told = columns(self.rows) if logprobs else None
        return {"text": "".join(self.texts), "index": index, "logprobs": told, "finish_reason": self.reason}
