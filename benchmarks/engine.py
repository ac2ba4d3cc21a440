"""`python -m benchmarks.engine FILE`: many sequences at once, prefix cache, drafts, and what Python costs.

Asked through the public interface, and read off the engine at work. The weights may be random: nothing depends on what
the model says, and where a text must be written it is forced, a token a step. llama.cpp reads the same file in the
same run where `--llama-python` has llama-cpp-python, in processes of its own. `--write` puts the table into
docs/performance.md. Figures are kept in `--results`, so that they can be measured by and by, or some of them again.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np

import headrace
from benchmarks import page, texts, versus
from benchmarks.forced import saying
from benchmarks.watch import Step, Watch
from headrace import Done, bench, checkpoint, machine, nano
from headrace.engine.core import load_core
from headrace.engine.request import Finished
from headrace.engine.speculation import Drafter, PromptLookup
from headrace.events import Event
from headrace.text.prompt import encode_chat

TOGETHER = (1, 4, 8, 16)  # sequences that decode
SHORT_TOKENS, DECODED_TOKENS = 12, 48  # of their prompts, and of what they say
ROUNDS = 2  # in turn with the peer
TURNS, CHAT_TOKENS, SYSTEM_TOKENS, LONG_TOKENS = 10, 4096, 2048, 8192
AGAIN = 3  # requests that find their beginning in the cache, and rounds of drafts
OTHERS = 15  # that decode while somebody comes
QUESTION_TOKENS, ARRIVALS = 100, 6
GAPS = 20  # between steps before the long prompt comes
LIMIT_S = 240  # for one request, or one turn of the peer: far more than any takes
ENDS = "<!-- engine: written by benchmarks/engine.py -->", "<!-- end of engine -->"
FIRST_TOKENS = Path(__file__).parent / "first_tokens.py"
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found:
    """A row of the table, and its figures."""

    what: str
    ours: str
    beside: str = ""  # the same without what is measured
    llama: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        beside, llama = self.beside and f"; {self.beside}", self.llama and f"; llama.cpp {self.llama}"
        return f"{self.what}: {self.ours}{beside}{llama}"


@dataclass(frozen=True, slots=True)
class First:
    """A request up to its first token, from the call on: template, tokens and grammar are in it."""

    seconds: float
    stepped: int
    prompt: int


class Run:
    """One model, watched, and what all figures need of it."""

    def __init__(self, file: Path, model: headrace.Model, llama_python: str | None) -> None:
        self.file, self.model, self.llama_python = file, model, llama_python
        self.watch = Watch(model)
        self.cost = bench.Cost.of(model.checkpoint)
        self.probe = load_core().Probe(model.threads)
        nobody_ends = dict.fromkeys(model.checkpoint.end_ids, -100.0)
        self.free: dict[str, Any] = {"temperature": 1.0, "seed": 1, "loop_guard": False, "logit_bias": nobody_ends}

    @property
    def now(self) -> int:
        """The number of the next step."""
        return len(self.watch.steps)

    def fitting(self, tokens: int) -> int:
        """As many tokens, or three quarters of a window that is too small for them."""
        return min(tokens, self.model.num_ctx * 3 // 4)

    def prose(self, tokens: int, seed: int) -> str:
        return texts.prose(self.model.checkpoint.tokenizer, tokens, seed)

    def chat(self, messages: texts.Messages, tools: Any = None) -> First:
        return self._first(lambda: self.model.chat(messages, tools, num_predict=1, **self.free))

    def generate(self, text: str) -> First:
        return self._first(lambda: self.model.generate(text, num_predict=1, **self.free))

    def _first(self, ask: Callable[[], Iterator[Event]]) -> First:
        first, started = self.now, time.perf_counter()
        *_, done = within(ask())
        seconds = time.perf_counter() - started
        assert isinstance(done, Done)
        return First(seconds, sum(step.tokens for step in self.watch.since(first)), done.usage.prompt_tokens)

    def say(
        self, prompt: Sequence[int], tokens: Sequence[int], drafter: Drafter | None = None
    ) -> tuple[float, list[Step]]:
        """Seconds from the first of `tokens` to the last, and the steps that they took."""
        first = self.now
        asked = saying(self.model, prompt, tokens, drafter)
        *_, end = within(self.model._engine.submit(asked).stream())
        assert isinstance(end, Finished)
        assert asked.ids[asked.prompt_tokens : asked.length].tolist() == list(tokens)
        return end.timings.decode_s, self.watch.since(first)

    def together(self, sequences: int) -> tuple[list[tuple[Step, Step]], float]:
        """The steps in which so many sequences decoded, each one token, with the step that came next, which was like
        them; and the bytes a second that could be read."""
        prompts = [self.prose(SHORT_TOKENS, 1000 * sequences + i) for i in range(sequences)]
        before, first = self.probe.read_bytes_per_second(), self.now
        for _ in within(self.model.generate(prompts, num_predict=DECODED_TOKENS, **self.free)):
            pass
        reads = max(before, self.probe.read_bytes_per_second())
        steps = pairwise(self.watch.since(first))
        return [pair for pair in steps if all(one.rows == one.tokens == sequences for one in pair)], reads

    @contextmanager
    def decoding(self, sequences: int) -> Iterator[None]:
        """So many sequences decode beside what is done here."""
        leave = threading.Event()
        prompts = [self.prose(SHORT_TOKENS, 5000 + i) for i in range(sequences)]
        events = self.model.generate(prompts, num_predict=self.model.num_ctx - 64, **self.free)

        def listen() -> None:
            for _ in events:
                if leave.is_set():
                    return

        listener = threading.Thread(target=listen, name="listener")
        first = self.now
        listener.start()
        try:
            wait_for(lambda: any(step.rows >= sequences for step in self.watch.steps[first:]))
            yield
            if self.watch.steps[-1].rows < sequences:
                raise SystemExit(
                    "the sequences beside which this was measured ended before it: the window is too small"
                )
        finally:
            leave.set()
            listener.join()

    def peer(self, prompts: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
        """llama.cpp's seconds to the first token of each prompt, asked one after another; nothing where it is not."""
        if self.llama_python is None:
            return []
        window = max(map(len, prompts)) + 256
        command = [self.llama_python, str(FIRST_TOKENS), str(self.file), str(self.model.threads), str(window)]
        return versus.said(command, "llama.cpp", LIMIT_S, json.dumps(prompts))


def within(events: Iterable[T]) -> Iterator[T]:
    """The same, as long as they come within the limit."""
    started = time.perf_counter()
    for event in events:
        yield event
        if time.perf_counter() - started > LIMIT_S:
            raise SystemExit(f"a request took more than {LIMIT_S} seconds: this machine is too slow for these figures")


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(LIMIT_S * 100):
        if condition():
            return
        time.sleep(0.01)
    raise SystemExit(f"nothing came within {LIMIT_S} seconds")


# --- one function for each figure


def decode(run: Run) -> Iterator[Found]:
    """Tokens a second of all sequences together, and the share of the reads that the machine gives."""
    speeds, shares, theirs = defaultdict[int, list[float]](list), defaultdict[int, list[float]](list), defaultdict(list)
    rows = [{"kind": "decode", "tokens": 24, "depth": SHORT_TOKENS, "sequences": n} for n in TOGETHER]
    for _ in range(ROUNDS):
        for n in TOGETHER:
            steps, reads = run.together(n)
            period = median(after.started - before.started for before, after in steps)
            speeds[n].append(n / period)
            bytes_ = run.cost.step_bytes(n, SHORT_TOKENS + DECODED_TOKENS // 2, run.model.kv)
            shares[n].append(bytes_ / period / reads)
        if run.llama_python:
            for row in versus.turn(run.llama_python, "llama.cpp", run.file, rows, run.model.threads, LIMIT_S):
                theirs[row["sequences"]].append(row["tokens_per_s"])
    for n in TOGETHER:
        speed, share = median(speeds[n]), median(shares[n])
        peer = median(theirs[n]) if theirs[n] else None
        yield Found(
            f"decode, {n} together" if n > 1 else "decode, one alone",
            f"{speed:.1f} tok/s",
            f"{share:.0%} of the reads",
            f"{peer:.1f} tok/s" if peer else "",
            {"sequences": n, "tokens_per_s": speed, "share_of_limit": share, "llama_tokens_per_s": peer},
        )


def chat(run: Run) -> Iterator[Found]:
    """Turn 10 of a chat whose nine turns were asked and answered here."""
    tokens = run.fitting(CHAT_TOKENS)
    messages = texts.conversation(run.model.checkpoint.tokenizer, TURNS, tokens)
    run.model.clear_cache()
    cold = run.chat(messages)
    run.model.clear_cache()
    prompts = [encoded(run, messages[: 2 * turn + 1]) for turn in range(TURNS)]
    for prompt, after in pairwise(prompts):
        run.say(prompt, reply(run, prompt, after))
    ways = [
        [*messages[:-1], {"role": "user", "content": run.prose(tokens // TURNS - texts.REPLY_TOKENS, 300 + i)}]
        for i in range(AGAIN)
    ]
    warm = [run.chat(way) for way in ways]
    nine = [*prompts[-2], *reply(run, prompts[-2], prompts[-1])]
    theirs = run.peer([nine, *(encoded(run, way) for way in ways[:2])])
    yield found_again(f"turn {TURNS} of a chat of {cold.prompt:,} tokens", warm, cold, theirs[1:])


def system(run: Run) -> Iterator[Found]:
    """A request whose system prompt and tools another one had, too."""
    tokenizer, tools = run.model.checkpoint.tokenizer, texts.TOOLS
    bare = common(*(encoded(run, texts.with_tools(tokenizer, 0, i), tools) for i in range(2)))
    tokens = min(SYSTEM_TOKENS, run.model.num_ctx // 2) - bare
    asked = [texts.with_tools(tokenizer, tokens, i) for i in range(AGAIN + 1)]
    run.chat([{"role": "user", "content": "Go on."}], tools)  # grammars are compiled once
    run.model.clear_cache()
    cold = run.chat(asked[0], tools)
    warm = [run.chat(messages, tools) for messages in asked[1:]]
    prompts = [encoded(run, messages, tools) for messages in asked[:2]]
    theirs = run.peer(prompts)
    shared = common(*prompts)
    yield found_again(
        f"second request with the same {shared:,} tokens of system prompt and tools", warm, cold, theirs[1:]
    )


def found_again(what: str, warm: Sequence[First], cold: First, theirs: Sequence[Mapping[str, Any]]) -> Found:
    """`theirs` are the peer's first and second such request."""
    seconds, stepped = median(one.seconds for one in warm), median(one.stepped for one in warm)
    peer = [f"{one['seconds']:.2f} s ({one['stepped']:,} stepped)" for one in theirs]
    return Found(
        f"{what}: first token",
        f"{seconds:.2f} s ({stepped:,.0f} stepped)",
        f"cold {cold.seconds:.2f} s ({cold.stepped:,}): {seconds / cold.seconds:.3f} of it",
        ", the next time ".join(peer),
        {
            "seconds": seconds,
            "stepped": stepped,
            "prompt_tokens": cold.prompt,
            "cold_seconds": cold.seconds,
            "cold_stepped": cold.stepped,
            "ratio": seconds / cold.seconds,
            "llama": list(theirs),
        },
    )


def drafts(run: Run) -> Iterator[Found]:
    """Writing a given text with prompt lookup and without, in turn. The tokens are nano's, whose vocabulary was
    learnt: that of random weights may be of letters."""
    words = checkpoint.read(nano.NAME).tokenizer
    for writing in texts.writings():
        prompt, answer = words.encode(writing.prompt), words.encode(writing.answer)
        run.say(prompt, answer[:4])  # its prompt is in the cache from here on, and a step's cost is known
        drafted, plain = list[tuple[float, list[Step]]](), list[tuple[float, list[Step]]]()
        for _ in range(AGAIN):
            drafted.append(run.say(prompt, answer, PromptLookup()))
            plain.append(run.say(prompt, answer))
        yield of_drafts(f"{writing.name}, {len(answer)} tokens", len(answer) - 1, drafted, plain)


def of_drafts(
    what: str, tokens: int, drafted: Sequence[tuple[float, list[Step]]], plain: Sequence[tuple[float, list[Step]]]
) -> Found:
    """`tokens` were written after the first one: in seconds, and steps, of which the first gave that one."""
    speed, without = (tokens / median(seconds for seconds, _ in each) for each in (drafted, plain))
    steps = median(len(each) - 1 for _, each in drafted)
    tried = median(sum(step.tokens - 1 for step in each[1:]) for _, each in drafted)
    accepted = (tokens - steps) / steps
    return Found(
        what,
        f"{speed:.1f} tok/s, {accepted:.2f} drafted tokens accepted a step",
        f"no drafts {without:.1f} tok/s: {speed / without:.2f} x",
        figures={
            "tokens": tokens,
            "tokens_per_s": speed,
            "without_tokens_per_s": without,
            "ratio": speed / without,
            "steps": steps,
            "drafted": tried,
            "accepted_per_step": accepted,
        },
    )


def arrival(run: Run) -> Iterator[Found]:
    """Somebody asks while others decode; when in their step is left to chance."""
    rng = np.random.default_rng(3)
    questions = [run.prose(QUESTION_TOKENS, 400 + i) for i in range(2 * ARRIVALS)]
    idle = [run.generate(question).seconds for question in questions[:ARRIVALS]]
    busy = list[float]()
    with run.decoding(OTHERS):
        for question in questions[ARRIVALS:]:
            time.sleep(rng.uniform(0, 0.5))
            busy.append(run.generate(question).seconds)
    yield Found(
        f"a question of {QUESTION_TOKENS} tokens while {OTHERS} decode: first token",
        f"{median(busy):.2f} s, at most {max(busy):.2f}",
        f"nobody else {median(idle):.2f} s: {median(busy) / median(idle):.2f} x",
        figures={"seconds": median(busy), "most_seconds": max(busy), "idle_seconds": median(idle)},
    )


def gap(run: Run) -> Iterator[Found]:
    """How long the others wait for a token while a long prompt is computed. Each step gives every one of them one."""
    long = run.prose(run.fitting(LONG_TOKENS), 500)
    with run.decoding(OTHERS):
        begun = run.now
        wait_for(lambda: run.now >= begun + GAPS)
        first = run.now
        asked = run.generate(long)
        steps = [step for step in run.watch.since(first - GAPS) if step.rows >= OTHERS]
    alone, beside = gaps(steps[:GAPS]), gaps(steps[GAPS - 1 :])
    yield Found(
        f"a prompt of {asked.prompt:,} tokens while {OTHERS} decode: longest wait for a token of theirs",
        f"{max(beside):.2f} s, median {median(beside):.2f}",
        f"nobody else {median(alone):.2f} s; its own first token after {asked.seconds:.1f} s",
        figures={
            "prompt_tokens": asked.prompt,
            "most_seconds": max(beside),
            "median_seconds": median(beside),
            "alone_seconds": median(alone),
            "first_token_s": asked.seconds,
            "steps": len(beside),
        },
    )


def python(run: Run) -> Iterator[Found]:
    """What a step takes outside the core."""
    for n in (1, 16):
        pairs = run.together(n)[0]
        parts = {
            "scheduling": median(step.scheduled - step.scheduling for step, _ in pairs),
            "the batch": median(step.started - step.scheduled for step, _ in pairs),
            "committing": median(step.committed - step.ended for step, _ in pairs),
            "between": median(after.scheduling - before.committed for before, after in pairs),
        }
        outside = median(after.started - before.ended for before, after in pairs)
        period = median(after.started - before.started for before, after in pairs)
        yield Found(
            f"Python's share of a step, {n} together" if n > 1 else "Python's share of a step, one alone",
            f"{outside * 1e6:.0f} us, {outside / period:.1%}",
            ", ".join(f"{name} {seconds * 1e6:.0f}" for name, seconds in parts.items()) + " us",
            figures={"sequences": n, "outside_s": outside, "share": outside / period, "step_s": period, **parts},
        )


FIGURES = {each.__name__: each for each in (decode, chat, system, drafts, arrival, gap, python)}


# --- what they are made of


def encoded(run: Run, messages: texts.Messages, tools: Any = None) -> list[int]:
    """The prompt of a conversation, as `chat` makes it."""
    source = run.model.checkpoint
    return encode_chat(source.template, source.tokenizer, messages, tools=tools)


def reply(run: Run, prompt: Sequence[int], after: Sequence[int]) -> Sequence[int]:
    """What stands in the next turn's prompt behind this one's, up to the end of the reply."""
    assert list(after[: len(prompt)]) == list(prompt), "the template changes past turns: no prefix can be found again"
    end = next(place for place in range(len(prompt), len(after)) if after[place] in run.model.checkpoint.end_ids)
    return after[len(prompt) : end + 1]


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens are the same at the beginning of both."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def gaps(steps: Iterable[Step]) -> list[float]:
    return [after.ended - before.ended for before, after in pairwise(steps)]


def table(found: Mapping[str, Any]) -> list[str]:
    lines = ["|  | headrace | beside it | llama.cpp |", "|---|---|---|---|"]
    rows = (row for each in found.values() for row in each["rows"])
    return lines + [f"| {row['what']} | {row['ours']} | {row['beside']} | {row['llama']} |" for row in rows]


def facts(found: Mapping[str, Any]) -> str:
    files, threads = ({each[name] for each in found.values()} for name in ("file", "threads"))
    reads = [each["read_gb_per_s"] for each in found.values()]
    return (
        f"{', '.join(f'`{file}`' for file in sorted(files))}, {', '.join(map(str, sorted(threads)))} threads, medians."
        f" The machine gave {min(reads):.0f} to {max(reads):.0f} GB/s of reads (median {median(reads):.0f})."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument(
        "file", type=Path, help="a GGUF file; `headrace bench --synthetic lfm2:8b --out FILE` makes one"
    )
    parser.add_argument("--only", default=",".join(FIGURES), help=f"of {', '.join(FIGURES)}")
    parser.add_argument("--llama-python", help="a Python that has llama-cpp-python (default: llama.cpp is left out)")
    parser.add_argument("--threads", type=int, default=machine.usable_threads())
    parser.add_argument(
        "--results", type=Path, default=Path("engine.json"), help="kept, but for what is measured again"
    )
    parser.add_argument("--json", action="store_true", help="the figures as JSON; the lines go to stderr")
    parser.add_argument("--write", action="store_true", help="write the table into docs/performance.md")
    options = parser.parse_args(arguments)
    names = options.only.split(",")
    if unknown := set(names) - FIGURES.keys():
        parser.error(f"--only names {min(unknown)!r}: expected of {', '.join(FIGURES)}")
    say = partial(print, file=sys.stderr if options.json else sys.stdout, flush=True)
    found = json.loads(options.results.read_text()) if options.results.exists() else {}
    with headrace.load(options.file, threads=options.threads) as model:
        run = Run(options.file, model, options.llama_python)
        for name in names:
            before, rows = run.probe.read_bytes_per_second(), list[Found]()
            for row in FIGURES[name](run):
                rows.append(row)
                say(row)
            reads = max(before, run.probe.read_bytes_per_second())
            of = {"file": options.file.name, "threads": options.threads, "read_gb_per_s": reads / 1e9}
            found[name] = {**of, "rows": [asdict(row) for row in rows]}
            options.results.write_text(json.dumps(found, indent=1))
        found = {name: found[name] for name in FIGURES if name in found}
        page_part = "\n".join([facts(found), "", *table(found)])
    say(f"\n{page_part}")
    if options.json:
        print(json.dumps(found, indent=1))
    if options.write:
        page.replace(PAGE, ENDS, page_part)


if __name__ == "__main__":
    main()
