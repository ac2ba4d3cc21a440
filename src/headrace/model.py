"""`load` a model, then `chat` with it: what the command line, the server and Python users hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from mmap import mmap
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from headrace import checkpoint
from headrace.checkpoint import Checkpoint
from headrace.engine import core, packed, request
from headrace.engine.cache import BlockCache
from headrace.engine.engine import Engine
from headrace.engine.request import Finished, Parameters
from headrace.engine.residents import KEEP_ALIVE_S, Candidate, Residents
from headrace.engine.scheduler import Scheduler
from headrace.engine.speculation import MOST_DRAFTED, PromptLookup
from headrace.engine.turns import Turns
from headrace.errors import ContextExceeded, FileInvalid, RequestInvalid
from headrace.events import Done, Dropped, Event, Text, ToolCall
from headrace.machine import format_bytes, memory_bytes, usable_threads
from headrace.summary import block_bytes
from headrace.summary import memory_bytes as needed_bytes
from headrace.text import window
from headrace.text.calls import ReplyParser
from headrace.text.constraint import Constraint, Constraints, Form
from headrace.text.grammar import Grammars
from headrace.text.prompt import encode_chat
from headrace.text.repair import write_calls
from headrace.text.stream import TextStream
from headrace.tools.loop import MAX_ROUNDS, AnyTool, Approve, Toolbox, converse, toolbox_of
from headrace.tools.schema import parameters_of
from headrace.weights.mapped import check_whole, files_behind
from headrace.weights.tensor import Weights

MAX_SEQUENCES = 16  # that decode together
MOST_BLOCKS = 2**24  # of a cache; memory runs out long before
CACHED_WINDOWS = 16  # full windows that the cache holds at most, unless it is told a size
KEPT_TOKENS = (
    "<|tool_call_start|>",
    "<|tool_call_end|>",
    "<think>",
    "</think>",
)  # the reply's structure, for the parser

Message = Mapping[str, Any]
Tools = Sequence[AnyTool] | Literal["builtin"] | None


def load(
    name_or_path: str | Path,
    *,
    num_ctx: int | None = None,
    threads: int | None = None,
    kv: str | None = None,
    cache_bytes: int | None = None,
    progress: packed.Progress = lambda *_: None,
) -> Model:
    """Loads `nano` (the embedded model), `smollm2` (where its package is installed), a GGUF file, or a model folder.

    `num_ctx` is the context window in tokens (default: the model card's), `threads` the processors to use (default: as
    many as this process may keep busy), `kv` how keys and values are kept: "fp16" (the default) or "int8", which takes
    half the memory and is faster in long contexts. `cache_bytes` is the memory that keys and values may take, all
    sequences and what is kept of ended ones together (default: what 16 full windows need, but not more than half of
    what the weights leave of the memory); none of it is taken before it is used. A large GGUF is packed at its first
    start, into the user's cache: `progress` is told the bytes done, and all. Raises a UserError that says what is wrong
    with the file or the numbers.
    """
    source = checkpoint.read(name_or_path)
    return Model(source, num_ctx=num_ctx, threads=threads, kv=kv, cache_bytes=cache_bytes, progress=progress)


def residents(
    budget_bytes: int | None = None,
    *,
    max_models: int | None = None,
    keep_alive_s: float = KEEP_ALIVE_S,
    num_ctx: int | None = None,
    threads: int | None = None,
    kv: str | None = None,
    cache_bytes: int | None = None,
) -> Residents[Model]:
    """Several models, each loaded when it is first leased by a name or path as `load` knows them. See `Residents`.

    `num_ctx`, `threads`, `kv` and `cache_bytes` (by default one full window) are those of `load`, for each of them;
    they step in turns, so each has all `threads`.
    """
    find = partial(candidate, num_ctx=num_ctx, threads=threads, kv=kv, cache_bytes=cache_bytes)
    return Residents(find, budget_bytes, max_models=max_models, keep_alive_s=keep_alive_s)


def candidate(
    name_or_path: str | Path,
    *,
    num_ctx: int | None = None,
    threads: int | None = None,
    kv: str | None = None,
    cache_bytes: int | None = None,
) -> Candidate[Model]:
    """A model that may be loaded, and what it takes: its weights and its cache, by default one window of `num_ctx`.

    Raises a UserError that says what is wrong with the file or the numbers.
    """
    source = checkpoint.read(name_or_path)
    window = _window(source, num_ctx)

    needed = needed_bytes(source, window, kv)
    cache = needed["cache"] if cache_bytes is None else cache_bytes

    def load_it(turns: Turns) -> Model:
        return Model(source, num_ctx=window, threads=threads, kv=kv, cache_bytes=cache, turns=turns)

    return Candidate(needed["weights"] + cache, load_it)


class Model:
    """A loaded model. Safe to use from several threads; `close` it, or use it in a `with` block, to free its memory.

    Models that are given the same `turns` share the threads of the machine: they step one at a time.
    """

    def __init__(
        self,
        source: Checkpoint,
        *,
        num_ctx: int | None = None,
        threads: int | None = None,
        kv: str | None = None,
        cache_bytes: int | None = None,
        progress: packed.Progress = lambda *_: None,
        turns: Turns | None = None,
    ) -> None:
        self.checkpoint = source
        self.name = source.name
        self.num_ctx = _window(source, num_ctx)
        self.threads = usable_threads() if threads is None else threads
        _check_size("threads", self.threads, 1024)
        self.kv = core.kv_type(source.weights, kv)
        _check_memory(source, self.num_ctx, self.kv, memory_bytes())
        blocks = _blocks(source, self.num_ctx, self.kv, cache_bytes, memory_bytes())
        check_whole(source.path, _files(source.weights))
        weights = packed.in_panels(source.path, source.weights, progress)
        self._files = _files(weights)
        try:
            native = core.build(
                source.plan,
                weights,
                vocab_size=source.backbone.vocab_size,
                blocks=blocks,
                threads=self.threads,
                kv=self.kv,
                draft_slots=MAX_SEQUENCES,
                max_rewind=MOST_DRAFTED,
            )
        except ValueError as error:  # weights whose shapes do not fit each other
            raise FileInvalid(source.path, str(error)) from None
        gaps = np.array(source.tokenizer.gaps(source.backbone.vocab_size), np.int32)
        scheduler = Scheduler(BlockCache(blocks, core.BLOCK_TOKENS), MAX_SEQUENCES, barred=gaps)
        self._engine = Engine(native, scheduler, turns)
        self._constraints = Constraints(Grammars(source.tokenizer, source.backbone.vocab_size, source.end_ids))
        self._kept = {id_ for name in KEPT_TOKENS if (id_ := source.tokenizer.id_of(name)) is not None}

    @property
    def can_think(self) -> bool:
        """Whether `think` can be asked of it."""
        return self._constraints.can_think

    def chat(
        self,
        messages: Sequence[Message],
        tools: Tools = None,
        run_tools: bool = False,
        *,
        format: Any = None,  # noqa: A002 - Ollama's name, and everybody's
        tool_choice: Any = "auto",
        parallel_tool_calls: bool = True,
        think: bool | None = None,
        constrain: bool = True,
        approve: Approve | None = None,
        context: window.Policy = "error",
        loop_guard: bool = True,
        **parameters: Any,
    ) -> Iterator[Event]:
        """Answers a conversation, piece by piece: Text, Thinking, ToolCall, ToolResult, and Done at the end.

        `messages` are {"role", "content"} mappings. `tools` is None, "builtin", or a list of Python functions and
        OpenAI tool objects. With `run_tools` calls are executed and their results go back to the model, for at most
        eight rounds; without it the answer ends at the calls. `approve` is asked before a tool runs that is not marked
        `safe`: it says True, or False, or the sentence that the model is told instead; without it all may run.
        `format`, `tool_choice`, `parallel_tool_calls`, `think` and `constrain` are the form of the reply: see
        `headrace.text.constraint.Form`. `context` is what becomes of a conversation that does not fit the window: an
        "error" with both numbers, "shift" (the oldest turns are left out), or "truncate" (the beginning of a last turn
        that is too long alone, too): see `headrace.text.window`; Done says what was `dropped`. The `loop_guard` ends an
        answer that repeats itself without end: see `headrace.engine.repetition`. `parameters` are those of the command
        line (temperature, top_k, top_p, min_p, repeat_penalty, seed, stop, num_predict, ...). Raises RequestInvalid,
        ContextExceeded, TemplateInvalid.
        """
        toolbox, sampling = toolbox_of(tools), self._parameters(parameters)
        form = Form(format, tool_choice, parallel_tool_calls, think, constrain)
        policy = window.checked(context)

        def answer(turns: Sequence[Message], choice: str | None) -> Iterator[Event]:
            chosen = form if choice is None else form.with_choice(choice)
            return self._answer(turns, toolbox, sampling, chosen, policy, loop_guard)

        return converse(answer, [*map(dict, messages)], toolbox, MAX_ROUNDS if run_tools else 0, approve)

    def generate(
        self,
        text: str,
        *,
        format: Any = None,  # noqa: A002
        context: window.Policy = "error",
        loop_guard: bool = True,
        **parameters: Any,
    ) -> Iterator[Event]:
        """Continues `text` as it stands, without a chat template: Text pieces, and Done at the end.

        `format` is what the continuation must be: "json", a JSON schema, {"regex" | "lark" | "gbnf" | "choices": ...}.
        `context` is what becomes of a text that does not fit the window: an "error" with both numbers; with "shift" or
        "truncate" its end is kept. `loop_guard` is that of `chat`.
        """
        prompt, sampling = self.tokenize(text, add_bos=True), self._parameters(parameters)
        constraint, dropped = self._constraints.of_text(format), None
        if window.checked(context) != "error":
            head = len(self.checkpoint.tokenizer.with_bos([]))
            prompt, dropped = window.end_of(prompt, head, self._window(sampling))
        return self._generate(prompt, sampling, constraint=constraint, loop_guard=loop_guard, dropped=dropped)

    def tokenize(self, text: str, add_bos: bool = False) -> list[int]:
        """Token ids of a text, special tokens in it recognised; `add_bos` puts one BOS first unless it is there."""
        return self.checkpoint.tokenizer.encode(text, add_bos=add_bos)

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens included."""
        return self.checkpoint.tokenizer.decode(ids, skip_special=False)

    def logits(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """Logits [tokens, vocab] of the token that follows each of `token_ids`, which are taken as they are."""
        self._check_ids(token_ids)
        self._check_files()
        sequence = request.Sequence.start(token_ids, Parameters(), len(token_ids), wants="logits")
        outputs = self._engine.submit(sequence).stream()
        return np.concatenate([output for output in outputs if isinstance(output, np.ndarray)])

    def close(self) -> None:
        """Ends what runs and frees the engine."""
        self._engine.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _parameters(self, given: Mapping[str, Any]) -> Parameters:
        return self.checkpoint.defaults.parameters.override(**given)

    def _window(self, sampling: Parameters) -> window.Window:
        return window.Window.of(self.num_ctx, sampling.num_predict)

    def _prompt(
        self, messages: Sequence[Message], toolbox: Toolbox, sampling: Parameters, form: Form, policy: str
    ) -> window.Prompt:
        """The prompt of a conversation, or of what of it fits the window, and what was left out."""
        source = self.checkpoint
        switch = {} if form.think is None else {"enable_thinking": form.think}  # for templates that have one

        def encode(turns: Sequence[Message]) -> list[int]:
            turns = write_calls(turns, source.template)
            prompt = encode_chat(source.template, source.tokenizer, turns, tools=toolbox.schemas or None, **switch)
            return self._constraints.think(prompt, form.think)[0]

        match policy:
            case "shift":
                return window.shift(messages, encode, self._window(sampling))
            case "truncate":
                return window.truncate(messages, encode, source.tokenizer.without_first, self._window(sampling))
        return encode(messages), None

    def _answer(
        self,
        messages: Sequence[Message],
        toolbox: Toolbox,
        sampling: Parameters,
        form: Form,
        policy: str,
        loop_guard: bool,
    ) -> Iterator[Event]:
        """The events of one assistant turn."""
        prompt, dropped = self._prompt(messages, toolbox, sampling, form, policy)
        _, thinking = self._constraints.think(prompt, form.think)  # which has been done to the prompt
        constraint = self._constraints.of_reply(form, toolbox.schemas, thinking)
        parser, called = ReplyParser(thinking, dict(map(parameters_of, toolbox.schemas))), False
        for event in self._generate(prompt, sampling, self._kept, constraint, loop_guard, dropped):
            parsed = parser.feed(event.text) if isinstance(event, Text) else parser.finish()
            called |= any(isinstance(one, ToolCall) for one in parsed)
            yield from parsed
            if isinstance(event, Done):
                reason = "tool_calls" if called and event.reason == "stop" else event.reason
                yield replace(event, reason=reason, warnings=tuple(parser.warnings))

    def _generate(
        self,
        prompt: list[int],
        sampling: Parameters,
        keep: set[int] | None = None,
        constraint: Constraint | None = None,
        loop_guard: bool = True,
        dropped: Dropped | None = None,
    ) -> Iterator[Text | Done]:
        source = self.checkpoint
        if len(prompt) >= self.num_ctx:
            raise ContextExceeded(len(prompt), self.num_ctx)
        self._check_files()
        text = TextStream(source.tokenizer, sampling.stop, keep or ())
        sequence = request.Sequence.start(
            prompt,
            sampling,
            self.num_ctx,
            end_ids=source.end_ids,
            text=text,
            constraint=constraint,
            drafter=PromptLookup(),
            loop_guard=loop_guard,
        )
        for output in self._engine.submit(sequence).stream():
            if isinstance(output, Text):
                yield output
            elif isinstance(output, Finished):
                yield Done(output.reason, output.usage, output.timings, dropped=dropped)

    def _check_files(self) -> None:
        """The weights are mapped, not read: a file that somebody cut off is noticed here, and not where it kills."""
        check_whole(self.checkpoint.path, self._files)

    def _check_ids(self, ids: Sequence[int]) -> None:
        if not 0 < len(ids) <= self.num_ctx:
            raise RequestInvalid(f"{len(ids)} token ids were given: the window holds 1 to {self.num_ctx}")
        vocab_size = self.checkpoint.backbone.vocab_size
        for id_ in ids:
            if not 0 <= id_ < vocab_size:
                raise RequestInvalid(f"token id {id_} is out of range: the model has {vocab_size} tokens")


def _files(weights: Weights) -> tuple[mmap, ...]:
    return files_behind(tensor.data for tensors in weights.values() for tensor in tensors)


def _window(source: Checkpoint, num_ctx: int | None) -> int:
    """In tokens: what was asked for, else the model's own."""
    window = source.context_length if num_ctx is None else num_ctx
    _check_size("num_ctx", window, source.backbone.max_position_embeddings)
    return window


def _check_size(name: str, value: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise RequestInvalid(f"{name} is {value!r} but should be a whole number from 1 to {most}")


def _check_memory(source: Checkpoint, num_ctx: int, kv: str, available: int | None) -> None:
    """RequestInvalid unless weights and one full window fit into `available` bytes of memory (None: not known)."""
    needed = needed_bytes(source, num_ctx, kv)
    if available is None or needed["total"] <= available:
        return
    weights, cache, memory = map(format_bytes, (needed["weights"], needed["cache"], available))
    advice = "ask for a smaller window with --num-ctx" if needed["weights"] < available else "take a smaller model"
    raise RequestInvalid(
        f"{source.name} needs {weights} for its weights and {cache} for a window of {num_ctx} tokens, "
        f"but this machine has {memory} of memory: {advice}"
    )


def _blocks(source: Checkpoint, num_ctx: int, kv: str, cache_bytes: int | None, available: int | None) -> int:
    """Blocks of the cache: as many as `cache_bytes` pay for, or what is sensible in `available` bytes of memory."""
    each = block_bytes(source, kv)
    window = -(-num_ctx // core.BLOCK_TOKENS)
    if cache_bytes is None:
        spare = None if available is None else (available - needed_bytes(source, 0, kv)["weights"]) // 2 // each
        return window * CACHED_WINDOWS if spare is None else max(1, min(window * CACHED_WINDOWS, spare))
    if isinstance(cache_bytes, bool) or not isinstance(cache_bytes, int) or cache_bytes < each:
        raise RequestInvalid(
            f"cache_bytes is {cache_bytes!r} but should be a whole number from {each} on: a block of "
            f"{core.BLOCK_TOKENS} tokens takes that much"
        )
    return min(cache_bytes // each, MOST_BLOCKS)
