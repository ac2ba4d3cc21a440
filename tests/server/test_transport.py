"""What a connection may do: heads without end, requests ahead of their turn, readers that do not read."""

from __future__ import annotations

import json
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from tests.server import raw, tiny
from tests.server.faults import watched
from tests.server.live import Live, running
from tests.server.tiny import body, counts, gated, leases, until

SOON = {"header_s": 0.3, "body_s": 0.3, "stall_s": 0.3, "header_bytes": 4096, "body_bytes": 100_000}


@pytest.fixture(scope="module")
def strict() -> Iterator[Live]:
    """A server that has little patience."""
    with running(tiny.routes, SOON) as live:
        yield live


def well(live: Live) -> bool:
    with raw.connected(live.url) as one:
        one.sendall(raw.head("GET", "/well"))
        return raw.answer(one) == (200, b'{"well":true}')


# --- heads


@pytest.mark.parametrize("start", [b"", b"G", b"GET /well HTTP/1.1\r\nHost: loc", b"\r\n\r\n"])
def test_a_head_must_come_in_time(start: bytes, strict: Live) -> None:
    assert raw.said(strict.url, start).startswith(b"HTTP/1.1 408 Request Timeout\r\n")


def test_so_must_the_next_one_once_it_has_begun(strict: Live) -> None:
    for start in (b"GET /w", b"\r\n"):  # the latter is no beginning, but keeps a connection from being idle
        with raw.connected(strict.url) as one:
            one.sendall(raw.head("GET", "/well"))
            assert raw.answer(one)[0] == 200
            one.sendall(start)
            assert raw.ended(one).startswith(b"HTTP/1.1 408 ")


def test_a_sender_that_dribbles_has_no_more_time(strict: Live) -> None:
    with raw.connected(strict.url) as one:
        for piece in raw.head("GET", "/well", x_slow="a" * 200):
            try:
                one.sendall(bytes([piece]))
            except OSError:
                break
            time.sleep(0.02)
        assert raw.ended(one).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /well HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 5000 + b"\r\n\r\n",
        b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /well HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 3000 + b"\r\n",
    ],
)
def test_a_head_must_not_be_too_large(head: bytes, strict: Live) -> None:
    assert raw.said(strict.url, head).startswith(b"HTTP/1.1 431 ")
    assert well(strict)


@pytest.mark.parametrize(
    "start",
    [
        b"GET /well HTTP/1.1\r\nHost: localhost\r\nX: ",
        b"GET /well HTTP/1.1\r\n",
        raw.head("POST", "/tiny", transfer_encoding="chunked") + b"0\r\nTrailer: ",
        raw.head("POST", "/tiny", transfer_encoding="chunked") + b"1\r\nx\r\n1;",
    ],
)
def test_a_line_without_end_is_not_kept(start: bytes, strict: Live) -> None:
    """The parser would put it together in memory, and only then tell of it."""
    with raw.connected(strict.url) as one:
        one.sendall(start)
        sent = 0
        try:
            while sent < 64 << 20:
                sent += one.send(b"a" * (1 << 16))
        except OSError:
            pass
        assert sent < 64 << 20, "it took everything"
    assert well(strict)


# --- bodies


def test_a_body_must_come_in_time(strict: Live) -> None:
    for start in (
        raw.head("POST", "/tiny", content_length="100"),
        raw.head("POST", "/tiny", transfer_encoding="chunked"),
    ):
        answer = raw.said(strict.url, start + b"1\r\n{\r\n")
        assert raw.status(answer) == 408
        assert b"the body did not arrive within 0.3 seconds" in answer
        assert b"connection: close" in answer


def test_a_body_must_not_be_too_large_however_its_size_is_said(strict: Live) -> None:
    said = raw.said(strict.url, raw.head("POST", "/tiny", content_length="100001"))
    assert raw.status(said) == 413
    chunk = b"1000\r\n" + b" " * 0x1000 + b"\r\n"
    chunked = raw.said(strict.url, raw.head("POST", "/tiny", transfer_encoding="chunked") + chunk * 25)
    assert raw.status(chunked) == 413
    assert b"the body is larger than 0.10 MB, which is the most that is taken" in chunked
    assert well(strict)


def test_a_body_may_be_as_large_as_the_limit(strict: Live) -> None:
    asked = json.dumps(body(num_predict=1)).encode()
    full = raw.request("/tiny", asked + b" " * (100_000 - len(asked)), connection="close")
    assert raw.status(raw.said(strict.url, full)) == 200


@pytest.mark.parametrize(
    ("content", "status"),
    [
        # Two sizes, or none that is one: whoever stands before this server might read another request in it.
        (raw.head("POST", "/tiny", content_length="5", transfer_encoding="chunked") + b"0\r\n\r\n", 400),
        (raw.head("POST", "/tiny", transfer_encoding="chunked", content_length="5") + b"0\r\n\r\n", 400),
        (b"POST /tiny HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}}", 400),
        (raw.head("POST", "/tiny", content_length="-1"), 400),
        (raw.head("POST", "/tiny", content_length="2x") + b"{}", 400),
        (raw.head("POST", "/tiny", content_length="9" * 30), 400),
        (raw.head("POST", "/tiny", transfer_encoding="chunked, identity") + b"0\r\n\r\n", 400),
        (raw.head("POST", "/tiny", transfer_encoding="xchunked") + b"0\r\n\r\n", 400),
        (raw.head("POST", "/tiny", transfer_encoding="chunked") + b"zz\r\n", 400),
        (raw.head("POST", "/tiny", transfer_encoding="chunked") + b"fffffffffffffffff\r\n", 400),
        (b"POST /tiny HTTP/1.1\r\nHost: localhost\r\nContent-Length : 2\r\n\r\n{}", 400),
        (b"GET /well HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n", 400),
        (b"GET /well HTTP/1.1\r\nHost: localhost\r\nX: a\nInjected: b\r\n\r\n", 400),
        (b"GET /well HTTP/1.1\r\nHost: localhost\r\n folded: b\r\n\r\n", 400),
        (b"GET /w\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /well HTTP/9.9\r\nHost: localhost\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    ],
)
def test_what_is_not_one_clear_request_is_none(content: bytes, status: int, strict: Live) -> None:
    answer = raw.said(strict.url, content)
    assert raw.status(answer) == status
    assert answer.count(b"HTTP/1.1 ") == 1
    assert well(strict)


def test_what_follows_a_body_is_no_header(strict: Live) -> None:
    """The host and the origin were checked: a trailer must not take their place, nor add to them."""
    asked = raw.head("POST", "/tiny", transfer_encoding="chunked", connection="close")
    content = json.dumps(body(num_predict=1)).encode()
    chunks = b"%x\r\n%s\r\n0\r\n" % (len(content), content)
    assert (
        raw.status(raw.said(strict.url, asked + chunks + b"Host: evil.example\r\nOrigin: http://evil\r\n\r\n")) == 200
    )


def test_a_client_that_would_rather_speak_http_2_is_answered(strict: Live) -> None:
    """Java's does so by default."""
    asked = raw.request(
        "/tiny",
        body(num_predict=1),
        connection="Upgrade, HTTP2-Settings",
        upgrade="h2c",
        HTTP2_Settings="AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
    )
    with raw.connected(strict.url) as one:
        one.sendall(asked)
        assert raw.answer(one)[0] == 200


def test_a_client_may_wait_to_be_told_to_go_on(strict: Live) -> None:
    content = json.dumps(body(num_predict=1)).encode()
    with raw.connected(strict.url) as one:
        one.sendall(raw.head("POST", "/tiny", expect="100-continue", content_length=str(len(content))))
        assert raw.answer(one) == (100, b"")
        one.sendall(content)
        assert raw.answer(one)[0] == 200
    refused = raw.head("POST", "/tiny", expect="100-continue", content_length="1000000")
    assert raw.status(raw.said(strict.url, refused)) == 413


# --- one after another


def test_requests_that_come_at_once_are_answered_in_their_order(strict: Live) -> None:
    with raw.connected(strict.url) as one:
        one.sendall(b"".join(raw.head("GET", path) for path in ("/well", "/nowhere", "/well")))
        assert [raw.answer(one)[0] for _ in range(3)] == [200, 404, 200]


def test_too_many_at_once_are_refused(strict: Live) -> None:
    with gated(strict.house) as gate, raw.connected(strict.url) as one:
        one.sendall(raw.request("/tiny", body(num_predict=2)))
        assert gate.waiting.wait(20)
        one.sendall(raw.head("GET", "/well") * 1000)
        assert raw.ended(one) in (b"", b"<reset>")
        gate.permits.release(1)
        until(lambda: counts(strict.house) == (0, 0))


@pytest.mark.parametrize(
    "ahead", [b"nonsense\r\n\r\n", b"GET /well HTT", raw.head("POST", "/tiny", content_length="-1")]
)
def test_nothing_goes_into_the_middle_of_an_answer(ahead: bytes, strict: Live) -> None:
    """uvicorn would write a refusal of the next request into the stream of this one."""
    with gated(strict.house) as gate, raw.connected(strict.url) as one:
        gate.permits.release(3)
        one.sendall(raw.request("/tiny", body(stream=True, num_predict=100)))
        got = one.recv(1 << 16)
        assert raw.status(got) == 200
        one.sendall(ahead)
        rest = got + raw.ended(one)
        assert rest.count(b"HTTP/1.1") == 1
        assert b"0\r\n\r\n" not in rest[-5:]
        gate.permits.release(1)
        until(lambda: counts(strict.house) == (0, 0))


def test_who_goes_away_is_noticed_with_requests_ahead_too(strict: Live) -> None:
    with gated(strict.house) as gate:
        with raw.connected(strict.url) as one:
            one.sendall(raw.request("/tiny", body()) + raw.head("GET", "/well"))
            assert gate.waiting.wait(20)
        until(lambda: leases(strict.house) == 0)
        gate.permits.release(1)
        until(lambda: counts(strict.house) == (0, 0))
        assert gate.steps == 1


# --- who does not read


def test_a_reader_that_does_not_read_is_let_go(strict: Live) -> None:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, port = re.search(r"//(.*):(\d+)", strict.url).groups()  # type: ignore[union-attr]
        one.connect((host, int(port)))
        one.sendall(raw.request("/flood", {}))
        until(lambda: tiny.FLOODS)
        until(lambda: not tiny.FLOODS)
    assert well(strict)


# --- who goes away


class Ending:
    """Answers without reading the body. After its head the client goes away, which nobody in the server notices."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces, self.go = pieces, threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as ASGI has it
        size = str(sum(map(len, self.pieces))).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", size)]})
        assert self.go.wait(20)  # nothing else runs in the loop meanwhile
        for left, piece in zip(reversed(range(len(self.pieces))), self.pieces, strict=True):
            await send({"type": "http.response.body", "body": piece, "more_body": left > 0})


@pytest.mark.parametrize("pieces", [[b""], [b"x"] * 20], ids=["nothing more", "pieces"])
def test_who_resets_the_connection_is_no_error(pieces: Sequence[bytes]) -> None:
    """There is more of the body to come, so the server tells that its answer is whole, to somebody who has gone."""
    ending = Ending(pieces)
    with watched() as faults, running(lambda _: [Route("/ending", ending, methods=["POST"])]) as live:
        with raw.connected(live.url) as one:
            one.sendall(raw.head("POST", "/ending", content_length="100"))
            assert b"\r\n\r\n" in one.recv(1 << 16)
            (connection,) = live.server.server_state.connections
            served = connection.transport.get_extra_info("socket")  # type: ignore[union-attr]
            reset(one)
        watch = select.poll()
        watch.register(served.fileno(), 0)
        until(lambda: any(event & select.POLLHUP for _, event in watch.poll(0)))
        ending.go.set()
        until(lambda: not live.server.server_state.connections)
    assert not faults


def test_an_answer_that_is_not_all_sent_at_its_end_arrives_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.server.transport.LINGER_S", 0.1)
    large = b"x" * (32 << 20)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(large)(scope, receive, send)

    def over(live: Live) -> bool:
        return any(getattr(one, "_lingering", False) for one in list(live.server.server_state.connections))

    with watched() as faults, running(lambda _: [Mount("/large", app)]) as live, raw.connected(live.url) as one:
        one.sendall(raw.head("POST", "/large/", content_length="100"))
        until(lambda: over(live))
        assert raw.answer(one) == (200, large)
        assert raw.ended(one) == b""
    assert not faults


def reset(one: socket.socket) -> None:
    """Closes it as a program does that ends in the midst of it."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()


# --- small writes


def test_no_piece_waits_for_the_one_before(strict: Live) -> None:
    """To be acknowledged, which clients delay: 40 ms for each answer, whose head and body are two writes."""
    with raw.connected(strict.url) as one:
        one.sendall(raw.head("GET", "/well"))
        assert raw.answer(one)[0] == 200
        served = [each.transport.get_extra_info("socket") for each in list(strict.server.server_state.connections)]  # type: ignore[union-attr]
        assert served
        assert all(each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for each in served)


# --- how many


def test_a_new_connection_is_none_of_the_idle_ones() -> None:
    """Each of these comes to the others in another place of their set."""
    with running(tiny.routes, {"connections": 2}) as live, ExitStack() as opened:
        for _ in range(40):
            one = opened.enter_context(raw.connected(live.url))
            one.sendall(raw.head("GET", "/well"))
            assert raw.answer(one)[0] == 200
            until(lambda: all(getattr(one, "idle", False) for one in list(live.server.server_state.connections)))


def test_idle_connections_make_room_and_others_do_not() -> None:
    with running(tiny.routes, {"connections": 2}) as live:
        with raw.connected(live.url) as idle, raw.connected(live.url) as young:
            idle.sendall(raw.head("GET", "/well"))
            assert raw.answer(idle)[0] == 200
            young.sendall(b"GET /w")
            until(lambda: any(getattr(one, "idle", False) for one in list(live.server.server_state.connections)))
            with raw.connected(live.url) as third:
                third.sendall(raw.head("GET", "/well"))
                assert raw.answer(third)[0] == 200
                assert raw.ended(idle) == b""
                third.sendall(b"GET /w")
                time.sleep(0.1)
                late = raw.said(live.url, b"")
                assert raw.status(late) == 503
                assert b"retry-after: 1" in late
        until(lambda: well(live))
