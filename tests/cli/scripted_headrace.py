"""The command line with models that do what their user says: run as a program by test_answers.py."""

from __future__ import annotations

import itertools
import json
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import headrace.cli._fetching
import headrace.loading
import headrace.model
from headrace.cli import main
from headrace.events import Done, Dropped, Event, Text, Thinking, Timings, ToolCall, Usage
from headrace.tools.loop import converse, toolbox_of


class Scripted:
    """Answers what stands last, after any files: `say TEXT` (\\n is a new line), `think`, `repeat` (all it was given,
    as JSON), `call TOOL NAME`, `loop`, `forget MESSAGES`, `slow` and `silent`."""

    num_ctx = 4096

    def __init__(self, name: str, *, threads: int | None = None, **_: object) -> None:
        self.name = name
        self.threads = threads
        print(f"opened {name}", file=sys.stderr, flush=True)  # noqa: T201

    def close(self) -> None:
        print(f"closed {self.name}", file=sys.stderr, flush=True)  # noqa: T201

    def chat(self, messages: list[Any], **given: Any) -> Iterator[Event]:
        print("asked", file=sys.stderr, flush=True)  # noqa: T201
        command, _, text = messages[-1]["content"].rpartition("\n\n")[2].partition(" ")
        match command:
            case "say":
                yield from map(Text, text.replace("\\n", "\n"))
            case "think":
                yield Thinking("let me see")
                yield Text("thought")
            case "call":
                yield from self._call(*text.split(), **given)
                return
            case "loop":
                yield Text("on and on")
                yield Done("repetition", Usage(1, 1), Timings(0, 0, 0, 0))
                return
            case "forget":
                yield Text("what?")
                yield Done("stop", Usage(1, 1), Timings(0, 0, 0, 0), dropped=Dropped(int(text), 120))
                return
            case "repeat":
                yield Text(json.dumps({"messages": messages, "given": given}))
            case "slow" | "silent":
                for word in itertools.chain(["begun "], itertools.repeat("on ")) if command == "slow" else ():
                    yield Text(word)
                    time.sleep(0.05)
                while True:
                    time.sleep(0.05)
        yield Done("stop", Usage(1, 1), Timings(0, 0, 0, 0))

    def _call(self, tool: str, name: str, tools: Any, approve: Any, **_: object) -> Iterator[Event]:
        def answer(messages: Any, _: str | None) -> Iterator[Event]:
            if not messages:
                yield ToolCall("call_0", tool, {"name": name})
            yield Done("stop", Usage(1, 1), Timings(0, 0, 0, 0))

        return converse(answer, [], toolbox_of(tools), 1, approve)


headrace.loading.load = Scripted  # type: ignore[assignment]
headrace.cli._fetching.fetch_if_missing = lambda _: None  # whatever its name, a scripted model is there
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background begins with it ignored
main()
