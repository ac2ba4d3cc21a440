"""A loaded model, to `chat` with: what the command line, the server and Python users hold."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from headrace import binding
from headrace.answers import Answers
from headrace.budget import Need
from headrace.checkpoint import Checkpoint, fingerprint
from headrace.engine import core, request, snapshot
from headrace.engine.cache import BlockCache
from headrace.engine.engine import Engine
from headrace.engine.packed_file import Progress, unwatched
from headrace.engine.parameters import Parameters
from headrace.engine.scheduler import Scheduler
from headrace.engine.snapshot import Snapshot
from headrace.engine.speculation import MOST_DRAFTED, Drafter, PromptLookup
from headrace.engine.status import CacheState, Status
from headrace.engine.turns import Turns
from headrace.errors import Busy, ContextExceeded, FileInvalid, ModelNotFound, RequestInvalid
from headrace.events import Choice, Event
from headrace.jobs import Job, Jobs, Message, check_size, window_of
from headrace.machine import memory_bytes, usable_threads
from headrace.text import window
from headrace.text.constraint import Constraints
from headrace.text.grammar import Grammars
from headrace.text.stream import TextStream
from headrace.tools.loop import MAX_ROUNDS, AnyTool, Approve, converse, toolbox_of
from headrace.weights.mapped import check_whole

MAX_SEQUENCES = 16  # that decode together
MOST_ANSWERS = 128  # to one request

Tools = Sequence[AnyTool] | Literal["builtin"] | None


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
        draft: Literal["lookup"] | Checkpoint | None = "lookup",
        progress: Progress = unwatched,
        turns: Turns | None = None,
    ) -> None:
        self.checkpoint = source
        self.name = source.name
        self.num_ctx = window_of(source, num_ctx)
        self.threads = usable_threads() if threads is None else threads
        check_size("threads", self.threads, 1024)
        self.kv = core.kv_type(source.weights, kv)
        small = draft if isinstance(draft, Checkpoint) else None
        blocks = Need.of(source, kv, small).blocks(self.num_ctx, cache_bytes, memory_bytes())
        options: dict[str, Any] = {"blocks": blocks, "threads": self.threads, "kv": kv, "progress": progress}
        self._draft_model = small and binding.bind_draft(small, source, slots=MAX_SEQUENCES, **options)
        native, self._files = binding.bind(source, slots=MAX_SEQUENCES, max_rewind=MOST_DRAFTED, **options)
        self._block_bytes = native.block_bytes
        gaps = np.array(source.tokenizer.gaps(source.backbone.vocab_size), np.int32)
        scheduler = Scheduler(BlockCache(blocks, core.BLOCK_TOKENS), MAX_SEQUENCES, barred=gaps)
        self._engine = Engine(native, scheduler, turns)
        self.isa = core.chosen_isa() or core.load_core().isas()[0]
        self._looking_up = draft == "lookup"
        self._constraints = Constraints(Grammars(source.tokenizer, source.backbone.vocab_size, source.end_ids))
        self._jobs = Jobs(source, self._constraints, self.num_ctx, scheduler.cache.capacity)

    @property
    def can_think(self) -> bool:
        """Whether `think` can be asked of it."""
        return self._constraints.can_think

    @overload
    def chat(
        self, messages: Sequence[Message], tools: Tools = None, run_tools: bool = False, *, n: None = None, **given: Any
    ) -> Iterator[Event]: ...

    @overload
    def chat(
        self, messages: Sequence[Message], tools: Tools = None, run_tools: bool = False, *, n: int, **given: Any
    ) -> Iterator[Choice]: ...

    def chat(
        self,
        messages: Sequence[Message],
        tools: Tools = None,
        run_tools: bool = False,
        *,
        n: int | None = None,
        format: Any = None,  # noqa: A002 - Ollama's name, and everybody's
        tool_choice: Any = "auto",
        parallel_tool_calls: bool = True,
        think: bool | None = None,
        constrain: bool = True,
        approve: Approve | None = None,
        context: window.Policy = "error",
        loop_guard: bool = True,
        logprobs: int | None = None,
        experts: bool = False,
        **parameters: Any,
    ) -> Iterator[Event] | Iterator[Choice]:
        """Answers a conversation, piece by piece: Text, Thinking, ToolCall, ToolResult, and Done at the end.

        `messages` are {"role", "content"} mappings. `tools` is None, "builtin", or a list of Python functions and
        OpenAI tool objects. With `run_tools` calls are executed and their results go back to the model, for at most
        eight rounds; without it the answer ends at the calls. `approve` is asked before a tool runs that is not marked
        `safe`: it says True, or False, or the sentence that the model is told instead; without it all may run.
        `format`, `tool_choice`, `parallel_tool_calls`, `think` and `constrain` are the form of the reply: see
        `headrace.text.constraint.Form`. `context` is what becomes of a conversation that does not fit the window: an
        "error" with both numbers, "shift" (the oldest turns are left out), or "truncate" (the beginning of a last turn
        that is too long alone, too): see `headrace.text.window`; Done says what was `dropped`. The `loop_guard` ends an
        answer that repeats itself without end: see `headrace.engine.repetition`.

        `n` answers come at once, each event in a Choice that says whose it is; the prompt is computed once, and with a
        `seed` the answers have seeds that count up from it. `logprobs` asks for a Token event for each token, with its
        log-probability and those of so many likely ones (0 to 20), `experts` for one with the experts that each layer
        chose. `parameters` are those of the command line (temperature, top_k, top_p, min_p, repeat_penalty, seed, stop,
        num_predict, ...). Raises RequestInvalid, ContextExceeded, CacheExceeded, TemplateInvalid.
        """
        options: dict[str, Any] = {
            "format": format,
            "tool_choice": tool_choice,
            "parallel_tool_calls": parallel_tool_calls,
            "think": think,
            "constrain": constrain,
            "context": context,
            "loop_guard": loop_guard,
            "logprobs": logprobs,
            "experts": experts,
            **parameters,
        }
        if n is not None:
            if run_tools:
                raise RequestInvalid("several answers cannot run tools: leave out n, or run_tools")
            return iter(self.chat_answers(messages, tools, n=n, **options))
        toolbox = toolbox_of(tools)
        job = self._jobs.of_chat(toolbox, **options)

        def answer(turns: Sequence[Message], choice: str | None) -> Iterator[Event]:
            return self._answers([job(turns, choice)]).only()

        return converse(answer, [*map(dict, messages)], toolbox, MAX_ROUNDS if run_tools else 0, approve)

    def chat_answers(
        self,
        messages: Sequence[Message],
        tools: Tools = None,
        *,
        n: int = 1,
        num_ctx: int | None = None,
        deltas: bool = False,
        **options: Any,
    ) -> Answers:
        """What `chat` answers, to be begun and read as its caller likes: see `Answers`.

        `num_ctx` is a window for this request alone, where it is smaller than the model's. With `deltas` the arguments
        of a call come as ToolCallDelta while they are written. The `options` are those of `chat`, without those that
        run tools; and `template`, the source of a chat template for this request, `after`, the token ids of an earlier
        conversation and its answer, which this one follows, and `goes_on`: the reply goes on with the text of the last
        message. Raises what `chat` does, but at once.
        """
        return self._answers([self._jobs.of_chat(toolbox_of(tools), num_ctx, deltas, **options)(messages, None)], n)

    @overload
    def generate(self, text: str, *, n: None = None, **given: Any) -> Iterator[Event]: ...

    @overload
    def generate(self, text: str, *, n: int, **given: Any) -> Iterator[Choice]: ...

    @overload
    def generate(self, text: Sequence[str], *, n: int | None = None, **given: Any) -> Iterator[Choice]: ...

    def generate(
        self,
        text: str | Sequence[str],
        *,
        n: int | None = None,
        format: Any = None,  # noqa: A002
        context: window.Policy = "error",
        loop_guard: bool = True,
        logprobs: int | None = None,
        echo: bool = False,
        experts: bool = False,
        **parameters: Any,
    ) -> Iterator[Event] | Iterator[Choice]:
        """Continues `text` as it stands, without a chat template: Text pieces, and Done at the end.

        Of several texts, or with `n`, all continuations come at once, each event in a Choice: that of continuation k of
        text i has the index i * n + k. `format` is what the continuation must be: "json", a JSON schema,
        {"regex" | "lark" | "gbnf" | "choices": ...}. `context` is what becomes of a text that does not fit the window:
        an "error" with both numbers; with "shift" or "truncate" its end is kept. With `echo` the tokens of the prompt
        come first, as Token events `of_prompt`, with log-probabilities if `logprobs` says so. `loop_guard`, `logprobs`
        and `experts` are those of `chat`.
        """
        options = {"format": format, "context": context, "loop_guard": loop_guard, "logprobs": logprobs, "echo": echo}
        options |= {"experts": experts, **parameters}
        if n is None and isinstance(text, str):
            return self.text_answers([text], **options).only()
        return iter(self.text_answers([text] if isinstance(text, str) else text, n=1 if n is None else n, **options))

    def text_answers(
        self,
        prompts: Sequence[str | Sequence[int]],
        *,
        n: int = 1,
        **options: Any,
    ) -> Answers:
        """What `generate` answers to texts or token ids, to be begun and read as its caller likes: see `Answers`.

        A prompt gets one BOS unless it begins with it. The `options` are those of `generate`; and `num_ctx`, as for
        `chat_answers`, and `ends`: the token that ends an answer has its Token event, too. Raises what `generate` does,
        but at once.
        """
        return self._answers(self._jobs.of_texts(prompts, **options), n)

    def embed(
        self,
        texts: str | Sequence[str | Sequence[int]],
        pooling: Literal["mean", "last"] = "mean",
        normalise: bool = True,
        gone: Callable[[], bool] = lambda: False,
    ) -> NDArray[np.float32]:
        """One vector for each text, [texts, hidden width]: hidden states after the last norm, pooled.

        A text may be given as its token ids, and gets one BOS in any case. "mean" is over all tokens, "last" takes the
        last one's. `normalise` scales each to length 1. The model was not trained for it: a model that was gives better
        neighbours. Where nobody waits for it any more, as `gone` says, it raises Busy after the step that runs. Raises
        RequestInvalid, ContextExceeded.
        """
        if pooling not in ("mean", "last"):
            raise RequestInvalid(f"pooling is {pooling!r} but should be mean or last")
        prompts = [self.prompt(text) for text in ([texts] if isinstance(texts, str) else texts)]
        self._check_files()
        for prompt in prompts:
            if not prompt:
                raise RequestInvalid("a text is empty, and this model has no token that would stand for it")
            if len(prompt) > self.num_ctx:
                raise ContextExceeded(len(prompt), self.num_ctx)
        pooled = np.zeros((len(prompts), self.checkpoint.backbone.hidden_size))
        for first in range(0, len(prompts), MAX_SEQUENCES):  # so that others get their turn between many
            for index, rows in self._hidden(prompts[first : first + MAX_SEQUENCES], gone):
                for row in rows:  # one by one: chunks must not change the sum
                    pooled[first + index] = row if pooling == "last" else pooled[first + index] + row
        if pooling == "mean":
            pooled /= np.array(list(map(len, prompts))).reshape(-1, 1)
        if normalise:
            pooled /= np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
        return pooled.astype(np.float32)

    def _hidden(
        self, prompts: Sequence[Sequence[int]], gone: Callable[[], bool]
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Rows of hidden states as they come, with the number of their prompt."""
        sequences = [request.Sequence.start(p, Parameters(), len(p), wants="hidden") for p in prompts]
        for index, output in request.streams(sequences, lambda: [self._engine.submit(one) for one in sequences]):
            if gone():
                raise Busy("nobody waits for these vectors any more")
            if isinstance(output, np.ndarray):
                yield index, output

    def tokenize(self, text: str, add_bos: bool = False) -> list[int]:
        """Token ids of a text, special tokens in it recognised; `add_bos` puts one BOS first unless it is there."""
        return self.checkpoint.tokenizer.encode(text, add_bos=add_bos)

    def prompt(self, text: str | Sequence[int]) -> list[int]:
        """The token ids that stand for a text, or for ids, where nothing is before it: with one BOS.

        Raises RequestInvalid for ids that are not in the vocabulary.
        """
        return self._jobs.prompt(text)

    def check_ids(self, ids: Iterable[int]) -> None:
        """Raises RequestInvalid for one that is not in the vocabulary."""
        self._jobs.check_ids(ids)

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens included."""
        return self.checkpoint.tokenizer.decode(ids, skip_special=False)

    def prefix(self, messages: Sequence[Message] = (), tools: Tools = None, think: bool | None = None) -> list[int]:
        """The token ids that all chats begin with whose first messages are these and which offer `tools`.

        Raises RequestInvalid, TemplateInvalid.
        """
        toolbox = toolbox_of(tools)
        turns = ([*messages, {"role": "user", "content": question}] for question in ("a", "Z"))
        first, second = (self._jobs.conversation(turn, toolbox, think) for turn in turns)
        return [id_ for id_, _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))]

    def prefill(self, token_ids: Sequence[int]) -> None:
        """Computes a prompt's beginning, such as `prefix` gives: the prefix cache then holds its full blocks.

        Raises ContextExceeded, CacheExceeded, RequestInvalid.
        """
        deque(self._answers([self._jobs.of_ids(token_ids, num_predict=1)]).only(), maxlen=0)

    def cached(self, token_ids: Sequence[int]) -> int:
        """How many of a prompt's first tokens the prefix cache holds now."""
        ids = np.array(token_ids, np.int32)
        return self._engine.call(lambda scheduler, _: len(scheduler.cache.match(ids))) * core.BLOCK_TOKENS

    def cache(self) -> CacheState:
        """What the prefix cache holds now, as soon as the step that runs has ended."""
        counts = self._engine.call(lambda scheduler, _: scheduler.counts())
        return CacheState.of(counts, core.BLOCK_TOKENS, self._block_bytes)

    def status(self) -> Status:
        """How many are answered or wait, and what the prefix cache holds, as far as is known without any waiting."""
        counts = self._engine.counts()
        cache = CacheState.of(counts, core.BLOCK_TOKENS, self._block_bytes)
        return Status(counts.running, counts.waiting, cache)

    def clear_cache(self) -> None:
        """Forgets what no running request uses."""
        self._engine.call(lambda scheduler, _: scheduler.cache.clear())

    def save_cache(self, path: str | Path) -> Snapshot:
        """Writes what the prefix cache holds to a file: another process that loads it need not compute it again."""
        identity = self._identity()

        def save(scheduler: Scheduler, native: Any) -> Snapshot:
            return snapshot.save(Path(path), scheduler.cache, native, identity, self.name)

        try:
            return self._engine.call(save)
        except OSError as error:
            raise FileInvalid(Path(path), f"it cannot be written: {error.strerror}") from error

    def load_cache(self, path: str | Path) -> int:
        """Adds a saved file to the prefix cache, as far as there is room; returns how many tokens it brought.

        Raises FileInvalid, and RequestInvalid for a file of another model, cache type or instruction set.
        """
        identity = self._identity()

        def load(scheduler: Scheduler, native: Any) -> int:
            return snapshot.load(Path(path), scheduler.cache, native, identity)

        try:
            return self._engine.call(load)
        except FileNotFoundError:
            raise ModelNotFound(f"{path}: there is no such saved cache") from None
        except OSError as error:
            raise FileInvalid(Path(path), f"it cannot be read: {error.strerror}") from error

    def _identity(self) -> snapshot.Identity:
        return snapshot.Identity(fingerprint(self.checkpoint), self.kv, self.isa, core.BLOCK_TOKENS, self._block_bytes)

    def logits(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """Logits [tokens, vocab] of the token that follows each of `token_ids`, which are taken as they are."""
        self._check_prompt(token_ids)
        self._check_files()
        sequence = request.Sequence.start(token_ids, Parameters(), len(token_ids), wants="logits")
        outputs = self._engine.submit(sequence).stream()
        return np.concatenate([output for output in outputs if isinstance(output, np.ndarray)])

    def close(self) -> None:
        """Ends what runs and frees the engine."""
        self._engine.close()
        if self._draft_model:
            self._draft_model.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _sequence(self, job: Job, number: int = 0) -> request.Sequence:
        source, constraint, seed = self.checkpoint, job.constraint(), job.sampling.seed
        if constraint and (job.asked.of_tokens or job.asked.echo):
            constraint.fast_forward = False  # each token gets a step of its own, for what is asked about it
        return request.Sequence.start(
            job.prompt,
            job.sampling if seed is None else replace(job.sampling, seed=seed + number),
            job.num_ctx,
            end_ids=source.end_ids,
            text=TextStream(source.tokenizer, job.sampling.stop, job.keep),
            constraint=constraint,
            asked=job.asked,
            drafter=self._drafter(),
            loop_guard=job.loop_guard,
        )

    def _drafter(self) -> Drafter | None:
        if self._draft_model:
            return self._draft_model.drafter()
        return PromptLookup() if self._looking_up else None

    def _answers(self, jobs: Sequence[Job], n: int = 1) -> Answers:
        """`n` answers to each job, all together."""
        check_size("n", n, MOST_ANSWERS)
        self._check_files()
        for job in jobs:
            job.check(self.num_ctx)
        groups = [[self._sequence(job, number) for number in range(n)] for job in jobs]
        replies = [job.reply(self.detokenize) for job in jobs for _ in range(n)]
        return Answers(groups, replies, self._engine.submit, [job.prompt for job in jobs])

    def _check_files(self) -> None:
        """The weights are mapped, not read: a file that somebody cut off is noticed here, and not where it kills."""
        check_whole(self.checkpoint.path, self._files)
        if self._draft_model:
            self._draft_model.check()

    def _check_prompt(self, ids: Sequence[int]) -> None:
        if not 0 < len(ids) <= self.num_ctx:
            raise RequestInvalid(f"{len(ids)} token ids were given: the window holds 1 to {self.num_ctx}")
        self.check_ids(ids)
