"""Who is let in, and who is told why not, before anything else of the request is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from headrace.errors import FileInvalid, RequestInvalid
from headrace.keys import Key, first_secret, read_keys
from headrace.server.guard import Doors, check_bind, is_loopback
from tests.server import raw, tiny
from tests.server.live import Live, running


def asked(live: Live, host: str, path: str = "/well") -> bytes:
    return raw.said(live.url, f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode("latin-1"))


# --- where it listens


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.5.5.5"])
def test_this_machine_needs_no_key(host: str) -> None:
    assert is_loopback(host)
    check_bind(host, [], insecure=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.1", "example.org", "127.0.0.1.nip.io", "127.1"])
def test_other_machines_need_one(host: str) -> None:
    with pytest.raises(RequestInvalid, match="give a key with --api-key"):
        check_bind(host, [], insecure=False)
    check_bind(host, [Key("secret")], insecure=False)
    check_bind(host, [], insecure=True)


# --- hosts


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:11434",
        "LOCALHOST.",
        "127.0.0.1:80",
        "[::1]:11434",
        "10.1.2.3",
        "app.localhost",
        "0.0.0.0",
    ],
)
def test_local_names_and_addresses_are_hosts(host: str, tiny_live: Live) -> None:
    assert raw.status(asked(tiny_live, host)) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:11434",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "localhost@evil.example",
        "evil.example#localhost",
        "notlocalhost",
        "[::1",
        "",
    ],
)
def test_a_name_that_was_made_to_mean_this_machine_is_none(host: str, tiny_live: Live) -> None:
    answer = asked(tiny_live, host)
    assert raw.status(answer) == 403
    assert b"is not one that this server answers to: allow it with --allow-host" in answer


def test_a_request_names_one_host(tiny_live: Live) -> None:
    twice = b"GET /well HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    assert raw.status(raw.said(tiny_live.url, twice)) == 400
    none = raw.said(tiny_live.url, b"GET /well HTTP/1.0\r\n\r\n")
    assert raw.status(none) == 403


def test_a_host_can_be_allowed() -> None:
    with running(tiny.routes, doors=Doors.of([], ["Models.Example:11434"], [])) as live:
        assert raw.status(asked(live, "models.example")) == 200
        assert raw.status(asked(live, "MODELS.example:80")) == 200
        assert raw.status(asked(live, "other.example")) == 403


@pytest.mark.parametrize("path", ["/well/", "/well//", "/api/pull/"])
def test_no_host_is_sent_back_as_a_place_to_go(path: str, tiny_live: Live) -> None:
    """A slash too many would be answered with an address that is made of the client's own Host."""
    answer = asked(tiny_live, "10.1.2.3:666", path)
    assert raw.status(answer) == 404
    assert b"10.1.2.3" not in answer
    assert b"location" not in answer.lower()


# --- origins

LOCAL_PAGES = [
    "http://localhost",
    "http://localhost:3000",
    "https://127.0.0.1:8443",
    "http://[::1]:5",
    "tauri://localhost",
]
OTHER_PAGES = [
    "http://evil.example",
    "https://localhost.evil.example",
    "http://evil.example:11434",
    "null",
    "http://[",
    "file://",
    "chrome-extension://abc",
    "ftp://localhost",
    "",
    "*",
]


@pytest.mark.parametrize("origin", LOCAL_PAGES)
def test_pages_of_this_machine_may_ask(origin: str, tiny_live: Live) -> None:
    answer = httpx.get(f"{tiny_live.url}/well", headers={"Origin": origin})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == origin
    assert answer.headers["vary"] == "Origin"


@pytest.mark.parametrize("origin", OTHER_PAGES)
def test_pages_of_others_may_not(origin: str, tiny_live: Live) -> None:
    for ask in (httpx.get, httpx.options):
        answer = ask(f"{tiny_live.url}/well", headers={"Origin": origin, "Access-Control-Request-Method": "GET"})
        assert answer.status_code == 403
        assert "may not ask this server: allow them with --allow-origin" in answer.text
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_an_origin_can_be_allowed_and_there_is_no_wildcard() -> None:
    with running(tiny.routes, doors=Doors.of([], [], ["https://App.Example/"])) as live:
        good = httpx.get(f"{live.url}/well", headers={"Origin": "https://app.example"})
        assert good.headers["access-control-allow-origin"] == "https://app.example"
        assert httpx.get(f"{live.url}/well", headers={"Origin": "https://app.example.org"}).status_code == 403
        assert "access-control-allow-origin" not in httpx.get(f"{live.url}/well").headers
    for origin in ("*", "https://*", "app.example", "http://["):
        with pytest.raises(RequestInvalid, match="should be one origin"):
            Doors.of([], [], [origin])
    for host in ("*", "", "*.example"):
        with pytest.raises(RequestInvalid, match="should be a name"):
            Doors.of([], [host], [])


def test_a_preflight_is_answered_without_a_key() -> None:
    with running(tiny.routes, doors=Doors([Key("secret")])) as live:
        asked = {
            "Origin": "http://localhost:3000",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, x-mine",
        }
        answer = httpx.options(f"{live.url}/tiny", headers=asked)
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
        assert answer.headers["access-control-allow-headers"] == "authorization, x-mine"
        assert answer.headers["access-control-allow-methods"] == "GET, HEAD, POST, DELETE"
        # Its page can read why it was refused.
        refused = httpx.get(f"{live.url}/well", headers={"Origin": "http://localhost:3000"})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "http://localhost:3000"


# --- keys

KEYS = [Key("both"), Key("asks", frozenset({"infer"})), Key("manages", frozenset({"manage"})), Key("schlüssel#1")]


@pytest.fixture(scope="module")
def locked() -> Iterator[Live]:
    with running(tiny.routes, doors=Doors.of(KEYS, [], [])) as live:
        yield live


@pytest.mark.parametrize(
    ("key", "infer", "manage"),
    [("both", 200, 200), ("asks", 200, 403), ("manages", 403, 200), ("schlüssel#1", 200, 200), ("bot", 401, 401)],
)
def test_a_key_reaches_as_far_as_its_scopes(key: str, infer: int, manage: int, locked: Live) -> None:
    for headers in ({b"Authorization": b"bearer  " + key.encode()}, {b"X-Api-Key": key.encode()}):
        assert httpx.get(f"{locked.url}/well", headers=headers).status_code == infer
        assert httpx.post(f"{locked.url}/api/pull", json={}, headers=headers).status_code == manage
        assert httpx.post(f"{locked.url}/api/%70ull", json={}, headers=headers).status_code == manage


def test_without_a_key_nothing_is_told(locked: Live) -> None:
    answer = httpx.get(f"{locked.url}/well")
    assert answer.status_code == 401
    assert "this server wants a key: send it as `Authorization: Bearer KEY`" in answer.text
    for wrong in ("Basic both", "Bearer", "Bearer both2", "Bearer BOTH", "both"):
        assert httpx.get(f"{locked.url}/well", headers={"Authorization": wrong}).status_code == 401
    assert httpx.get(f"{locked.url}/nowhere").status_code == 401


def test_who_has_a_key_is_no_page(locked: Live) -> None:
    asked = "GET /well HTTP/1.1\r\nHost: far.example\r\nAuthorization: Bearer both\r\nConnection: close\r\n\r\n"
    assert raw.status(raw.said(locked.url, asked.encode())) == 200


def test_a_file_of_keys(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours\nalpha\nbeta infer\ngamma manage,infer # both\n\nde#lta\tmanage\n")
    assert [(key.secret, sorted(key.scopes)) for key in read_keys(file)] == [
        ("alpha", ["infer", "manage"]),
        ("beta", ["infer"]),
        ("gamma", ["infer", "manage"]),
        ("de#lta", ["manage"]),
    ]
    assert "alpha" not in repr(read_keys(file))
    for content, sentence in [
        (b"alpha admin\n", "line 1 has the scope 'admin': scopes are infer and manage"),
        (b"# nothing\n", "there is no key in it"),
        (b"\xff\xfe", "the keys cannot be read"),
    ]:
        file.write_bytes(content)
        with pytest.raises(FileInvalid, match=sentence):
            read_keys(file)
    with pytest.raises(FileInvalid, match="No such file"):
        read_keys(tmp_path / "none")
    with pytest.raises(RequestInvalid, match="a key is empty"):
        Doors.of([Key(" ")], [], [])


@pytest.mark.parametrize(
    ("text", "secret", "scopes"),
    [
        ("alpha", "alpha", {"infer", "manage"}),
        ("alpha:infer", "alpha", {"infer"}),
        ("alpha:manage", "alpha", {"manage"}),
        ("alpha:manage,infer", "alpha", {"infer", "manage"}),
        ("al:pha:infer", "al:pha", {"infer"}),
        ("alpha:admin", "alpha:admin", {"infer", "manage"}),  # a secret may have a colon in it
        ("alpha:inferior", "alpha:inferior", {"infer", "manage"}),
    ],
)
def test_a_key_with_its_scopes_behind_it(text: str, secret: str, scopes: set[str], tmp_path: Path) -> None:
    key = Key.of(text)
    assert (key.secret, key.scopes) == (secret, scopes)
    assert first_secret(f"  {text} other:manage") == secret
    (tmp_path / "keys").write_text(f"{text} # one\n")
    assert read_keys(tmp_path / "keys") == [key]


def test_a_scope_is_no_key() -> None:
    """Whoever writes it behind a space would let in everybody who can guess it."""
    for text in ("infer", "manage:infer"):
        with pytest.raises(RequestInvalid, match=r"a key is '(infer|manage)', the name of a scope"):
            Doors.of([Key("alpha"), Key.of(text)], [], [])
    with pytest.raises(RequestInvalid, match="a key is empty"):
        Doors.of([Key.of(":infer")], [], [])
    assert first_secret(" ") is None
    assert first_secret(":infer") is None


# --- before the body


@pytest.mark.parametrize("header", ["Host: evil.example", "Host: localhost\r\nOrigin: http://evil.example"])
def test_whoever_is_refused_is_so_before_the_body(header: str, tiny_live: Live) -> None:
    """The body never comes: whoever waited for it would wait for ever."""
    start = f"POST /tiny HTTP/1.1\r\n{header}\r\nContent-Length: 1000\r\n\r\n"
    answer = raw.said(tiny_live.url, start.encode())
    assert raw.status(answer) == 403
    assert b"connection: close" in answer


def test_so_is_who_has_no_key(locked: Live) -> None:
    answer = raw.said(locked.url, raw.head("POST", "/tiny", transfer_encoding="chunked"))
    assert raw.status(answer) == 401
    assert b"connection: close" in answer


def test_a_refusal_reaches_whoever_still_sends(tiny_live: Live) -> None:
    """Where the connection ended at once, the rest of the body would meet a closed door, and the answer be lost."""
    size = 8 << 20
    with raw.connected(tiny_live.url) as one:
        one.sendall(raw.head("POST", "/tiny", origin="http://evil.example", content_length=str(size)))
        one.sendall(bytes(size))
        answer = raw.ended(one)
    assert raw.status(answer) == 403
    assert answer.endswith(b"}")


def test_after_a_refusal_without_a_body_the_connection_goes_on(tiny_live: Live) -> None:
    with raw.connected(tiny_live.url) as one:
        one.sendall(raw.head("GET", "/well", origin="http://evil.example") + raw.head("GET", "/well"))
        assert raw.answer(one)[0] == 403
        assert raw.answer(one) == (200, b'{"well":true}')
        one.sendall(raw.head("GET", "/nowhere"))
        assert raw.answer(one)[0] == 404
        one.sendall(raw.head("GET", "/well"))
        assert raw.answer(one)[0] == 200
