"""A server that speaks Ollama's API as Ollama does, and says what its user tells it to, wrong things too."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STAMP = {"model": "scripted:latest", "created_at": "2026-10-06T12:00:00.000000001Z"}
DETAILS = {"parent_model": "", "format": "gguf", "family": "llama", "parameter_size": "3.2B"}
SHOWN = {
    "details": {**DETAILS, "families": ["llama"], "quantization_level": "Q4_K_M"},
    "model_info": {"general.architecture": "llama", "llama.context_length": 131072, "tokenizer.ggml.tokens": None},
    "template": "{{ .System }}\n{{ .Prompt }}",
    "parameters": "num_ctx                        8192\ntemperature                    0.7\n"
    'stop                           "<|end|>"\nstop                           "<|eot|>"',
    "capabilities": ["completion", "tools", "thinking"],
    "license": "none",
}
END = {
    "done_reason": "stop",
    "total_duration": 5_000_000_000,
    "load_duration": 1_000_000_000,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 500_000_000,
    "eval_count": 10,
    "eval_duration": 2_000_000_000,
}
RUNNING = [
    {
        "name": "scripted:latest",
        "model": "scripted:latest",
        "size": 3 << 30,
        "digest": "a" * 64,
        "expires_at": "2318-10-06T12:00:00.123456789+02:00",  # for ever, as Ollama says it
        "size_vram": 0,
        "context_length": 4096,
    }
]


def line(content: str = "", /, done: bool = False, **message: Any) -> dict[str, Any]:
    end = END if done else {}
    return {**STAMP, "message": {"role": "assistant", "content": content, **message}, "done": done, **end}


def call(name: str, /, **arguments: Any) -> dict[str, Any]:
    return {"id": "call_ab12", "function": {"index": 0, "name": name, "arguments": arguments}}


@dataclass
class Fake:
    """`asked` has the path and the body of each request, `keys` what was sent as Authorization; `gone` is set when a
    client left an answer before its end."""

    url: str = ""
    key: str = ""  # that is wanted
    names: list[str] = field(default_factory=lambda: ["scripted:latest", "other:7b"])
    running: list[dict[str, Any]] = field(default_factory=lambda: RUNNING)
    beside: dict[str, Any] = field(default_factory=dict)  # Ollama's fields of /api/show
    asked: list[tuple[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)

    @property
    def chats(self) -> list[Any]:
        return [body for path, body in self.asked if path == "/api/chat"]


def answer(body: dict[str, Any]) -> Iterator[dict[str, Any] | bytes]:
    """What the last message asks for: lines, or bytes that are none."""
    turn = body["messages"][-1]
    command, _, text = turn["content"].partition(" ")
    if turn["role"] == "tool":
        yield line(f"{turn['tool_name']} says {turn['content']}")
        command = "end"
    match command:
        case "say":
            yield from (line(word) for word in text.replace("\\n", "\n").split("|"))
        case "repeat":
            yield line(json.dumps(body))
        case "think":
            yield line(thinking="let me see")
            yield line("thought")
        case "call":
            tool, _, arguments = text.partition(" ")
            if "tools" in body:
                yield line(tool_calls=[call(tool, **json.loads(arguments))])
            else:
                yield line("no tools any more")
        case "error":
            yield line("half an ")
            yield {"error": text or "an error was encountered while running the model: CUDA error\n\x1b[31m"}
            return
        case "cut":
            yield line("half an ")
            return
        case "junk":
            yield b"<html>\n"
        case "wrong":
            yield {**STAMP, **json.loads(text), "done": False}
        case "length" | "repetition":
            yield {**line("on and on"), **line(done=True), "done_reason": command}
            return
        case "extras":
            dropped = {"messages": 2, "tokens": 120}
            more = {"reason": "repetition", "num_ctx": 512, "prompt_cached_tokens": 6, "forced_tokens": 3}
            more |= {"dropped": dropped, "warnings": ["malformed_tool_call"]}
            yield {**line(done=True), "done_reason": "length", "headrace": more}
            return
        case "slow" | "silent":
            while True:
                yield line("on ") if command == "slow" else b""
                time.sleep(0.01)
    yield line(done=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: Fake

    def do_GET(self) -> None:
        self._serve(None)

    def do_POST(self) -> None:
        self._serve(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def _serve(self, body: Any) -> None:
        fake = self.fake
        fake.asked.append((self.path, body))
        fake.keys.append(self.headers["authorization"])
        if fake.key and self.headers["authorization"] != f"Bearer {fake.key}":
            return self._reply({"error": "unauthorized"}, 401)
        known = {name.removesuffix(":latest") for name in fake.names}
        if body and body["model"].removesuffix(":latest") not in known:
            return self._reply({"error": f"model '{body['model']}' not found"}, 404)
        match self.path:
            case "/api/tags":
                return self._reply({"models": [{"name": name, "model": name, "size": 1} for name in fake.names]})
            case "/api/ps":
                return self._reply({"models": fake.running})
            case "/api/show":
                return self._reply({**SHOWN, **fake.beside})
            case "/api/generate":
                return self._reply({**STAMP, "response": "", "done": True, "done_reason": "unload"})
            case "/api/chat":
                said = body["messages"][-1]["content"]
                if said.startswith("status "):
                    return self._reply({"error": f"it is {said}"}, int(said.removeprefix("status ")))
                if said == "move":
                    return self._reply({}, 301, location="http://elsewhere/")
                return self._stream(answer(body))
        return self._reply("404 page not found", 404)

    def _reply(self, value: Any, status: int = 200, **headers: str) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"content-length": str(len(content)), **headers}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, lines: Iterator[dict[str, Any] | bytes]) -> None:
        """Chunk by chunk, with some of the borders within a line: a client may count on none."""
        self.send_response(200)
        self.send_header("content-type", "application/x-ndjson")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            for one in lines:
                content = one if isinstance(one, bytes) else json.dumps(one, ensure_ascii=False).encode() + b"\n"
                for piece in (content[:7], content[7:]):
                    if piece:
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self._look()
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.fake.gone.set()
            self.close_connection = True

    def _look(self) -> None:
        """Raises OSError where nobody listens any more."""
        self.connection.setblocking(False)
        try:
            if not self.connection.recv(1):
                raise ConnectionResetError
        except BlockingIOError:
            pass
        finally:
            self.connection.setblocking(True)

    def log_message(self, *_: Any) -> None: ...


@contextmanager
def fake(**settings: Any) -> Iterator[Fake]:
    made = Fake(**settings)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Faking", (Handler,), {"fake": made}))
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
