"""Whatever a registry answers, an error of ours comes out, soon, and what is kept is what the manifest says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.errors import HeadraceError
from headrace.library.manifest import CONFIG, LARGEST_BYTES, OLLAMA, Layer, build, digest_of
from headrace.library.names import Name
from headrace.library.progress import Progress
from headrace.library.pull import pull
from headrace.library.push import push
from headrace.library.registry import web
from headrace.library.registry.client import Options, Place, Registry, connect
from headrace.library.registry.patience import Passing, Settings
from headrace.library.registry.span import opened
from headrace.library.store import Store
from tests.library.fault_server import NoTime
from tests.library.stores import install

CONTENT = b"weights" * 10
LAYER = Layer(OLLAMA + "model", digest_of(CONTENT), len(CONTENT))
HEAD = Layer(CONFIG, digest_of(b"{}"), 2)
PLACE = Place("a/b", "somebody's a/b")
NAME = Name.parse("localhost:5000/a/b")
NUMBERS = ["0", "1", "10", "39", "69", "70", "71", "-1", "9" * 18, "9" * 19, "9" * 400, "1e3", "٣", "0x10", "", "*"]
SENTENCES = [
    *("", "bytes", "Bearer", "Bearer realm", 'Bearer realm="', 'Bearer realm="://"', 'Bearer realm="http://["'),
    *('Bearer realm="https://localhost:5000/t"', 'Bearer realm="http://localhost:5000/t",scope="' + "a " * 3000),
    *('Bearer realm="http://localhost:5000/\x7f\xa0"', "Basic realm=x", 'Bearer realm="http://user:x@localhost:5000/"'),
    *("/", "//", "///", "?", "#", "http://", "http:///", "https://[", "http://[::1", "http://localhost:99999/", "\x00"),
    *("http://localhost:5000/v2/", "//localhost:5000/x", "http://127.0.0.1:1/", "file:///etc/passwd", "data:,x"),
    *("http://localhost:5000/%ff%00", "http://ä.example/", "http://xn--a/", "x" * 9000, "\\\\host\\x", "http://a b/"),
    *(LAYER.digest, HEAD.digest, "sha256:", "gzip", "identity", "Wed, 21 Oct 2015 07:28:00 GMT", "9" * 20),
]  # fmt: skip
RANGES = st.builds("bytes {}-{}/{}".format, *[st.sampled_from(NUMBERS)] * 3)
VALUES = st.sampled_from([*NUMBERS, *SENTENCES]) | RANGES | st.text(max_size=20)
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            *("content-range", "content-length", "content-encoding", "location", "docker-upload-location", "range"),
            *("www-authenticate", "docker-content-digest", "retry-after", "content-type", "transfer-encoding"),
        ]
    ),
    VALUES,
    max_size=4,
)
STATUSES = st.sampled_from([200, 201, 202, 204, 206, 301, 307, 308, 400, 401, 403, 404, 416, 429, 500, 503, 599])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just(10**400),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["token", "access_token", "errors", "message", "code", "error"]), inner)
    ),
    max_leaves=6,
)
BODIES = st.one_of(
    st.sampled_from([CONTENT, CONTENT[:9], CONTENT + b"!", b"", b"{}", build(HEAD, [LAYER]), b"[" * 100_000]),
    st.binary(max_size=90),
    JSON.map(json.dumps).map(str.encode),
)
ADDRESSES = (
    VALUES
    | st.text(max_size=12).map(lambda text: f"http://localhost:5000/{text}")
    | st.text(max_size=8).map(lambda text: f"http://{text}/")
)
REALMS = ADDRESSES.map(lambda address: {"www-authenticate": f'Bearer realm="{address}",service="s"'})
ASKS = {"www-authenticate": 'Bearer realm="http://localhost:5000/token",service="s",scope="a"'}
TOKENS = st.one_of(JSON, st.fixed_dictionaries({"token": JSON | st.text(max_size=9)})).map(json.dumps).map(str.encode)
# What is right up to a point gets further than what is wrong from the beginning.
ANYTHING = st.tuples(STATUSES, HEADERS, BODIES)
MOVED = st.tuples(st.sampled_from([301, 307]), st.fixed_dictionaries({"location": ADDRESSES}), st.just(b""))
ASKED = st.tuples(st.just(401), REALMS | st.just(ASKS), st.just(b""))
GIVEN = st.tuples(st.just(200), st.just({}), TOKENS)
PART = st.tuples(st.just(206), st.fixed_dictionaries({"content-range": RANGES}), BODIES)
UPLOAD = st.tuples(st.just(202), st.fixed_dictionaries({"location": ADDRESSES, "range": VALUES}), st.just(b""))
ANSWERS = st.lists(st.one_of(ANYTHING, MOVED, ASKED, GIVEN, PART, UPLOAD), min_size=1, max_size=5) | st.tuples(
    st.just((401, ASKS, b"")), GIVEN, ANYTHING
).map(list)
Answers = list[tuple[int, dict[str, str], bytes]]


@contextmanager
def answering(answers: Answers) -> Iterator[None]:
    """Each question is answered by the next one, and those after the last by the last."""
    left = iter(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        status, headers, body = next(left, answers[-1])
        request.read()
        raw = [(name.encode(), text.encode("utf-8", "surrogatepass")) for name, text in headers.items()]
        return httpx.Response(status, headers=raw, stream=httpx.ByteStream(body))

    client = httpx.Client

    def mocked(**given: Any) -> httpx.Client:
        given.pop("limits")
        return client(**given, transport=httpx.MockTransport(answer))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(web.httpx, "Client", mocked)
        yield


OPTIONS = Options(settings=Settings(connections=2, part_bytes=30, chunk_bytes=30, first_tries=2, tries=2))


def options(folder: Path) -> Options:
    return replace(OPTIONS, clock=NoTime(), key=folder / "key")


def ask(registry: Registry, question: str) -> object:
    match question:
        case "manifest":
            return registry.manifest(PLACE, "latest")
        case "digest":
            return registry.manifest_digest(PLACE, "latest")
        case "put":
            return registry.put_manifest(PLACE, "latest", build(HEAD, [LAYER]))
        case "has":
            return registry.has_blob(PLACE, LAYER.digest)
    with opened(registry, PLACE, LAYER, 10, 40, question == "range") as span:
        found = b"".join(span.pieces)
        assert len(found) == (LAYER.size if not span.is_range else len(found))
        assert span.start + len(found) <= LAYER.size
        return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("answers")


@settings(max_examples=60)
@given(ANSWERS)
@example([(401, {"www-authenticate": 'Bearer realm="http://xn--a/"'}, b"")])
@example([(401, {"www-authenticate": 'Bearer realm="http://["'}, b"")])
@example([(307, {"location": "http://xn--a/"}, b"")])
@example([(307, {"location": "http://["}, b"")])
@example([(401, ASKS, b""), (200, {}, b'{"token": 3}')])
@example([(206, {"content-range": "bytes 10-19/70"}, CONTENT)])
@example([(401, ASKS, b""), (200, {}, b'{"token": "\\u0000"}')])
@pytest.mark.parametrize("question", ["manifest", "digest", "put", "has", "range", "whole"])
def test_whatever_is_answered_is_taken_or_refused(folder: Path, question: str, answers: Answers) -> None:
    with answering(answers), connect(NAME, options(folder)) as registry:
        try:
            found = ask(registry, question)
        except (HeadraceError, Passing):
            return
        assert question != "digest" or found is None or len(str(found)) == 71
        assert not isinstance(found, bytes) or len(found) <= LARGEST_BYTES


@settings(max_examples=100)
@given(ANSWERS)
def test_whatever_is_answered_to_a_pull(folder: Path, answers: Answers) -> None:
    store = Store(folder / "pulled")
    with answering([(200, {}, build(HEAD, [LAYER])), *answers]):
        try:
            pull(NAME, store, options=options(folder))
        except HeadraceError:
            assert store.names() == []
        else:
            assert store.verify(NAME) == []
            store.remove(NAME)


@settings(max_examples=100)
@given(ANSWERS)
def test_whatever_is_answered_to_a_push(folder: Path, answers: Answers) -> None:
    store, steps = Store(folder / "pushed"), list[Progress]()
    if not store.has_model(NAME):
        install(store, str(NAME), CONTENT)
    with answering(answers), suppress(HeadraceError):
        push(NAME, store, steps.append, options(folder))
    assert store.verify(NAME) == []
