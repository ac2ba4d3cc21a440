"""What registries are asked, whom we believe, what we show them, and how long we try."""

from __future__ import annotations

import ssl
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import FileInvalid, Forbidden, Offline, RequestInvalid, ServerFailed, Unreachable
from headrace.library.names import Name
from headrace.library.pull import pull
from headrace.library.registry.access import Access, Challenge
from headrace.library.registry.client import Options, Place, Registry, connect
from headrace.library.registry.hosts import Host, host_of
from headrace.library.registry.key import Key
from headrace.library.registry.patience import Passing, Patience, Settings, Stopped, retry_after
from headrace.library.registry.web import Web
from headrace.library.store import Store
from tests.library import fault_server
from tests.library.fault_server import HASTY, NoTime

AB = Place("a/b", "a/b")


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))
    for variable in ("HEADRACE_OFFLINE", "HF_HUB_OFFLINE", "HEADRACE_REGISTRIES"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def source() -> Iterator[fault_server.Registry]:
    with fault_server.registry() as found:
        found.keep(content=b"weights" * 9000)
        yield found


def asking(source: fault_server.Registry, **options: Any) -> Registry:
    return Registry(Host(source.host, plain=True), **{"settings": HASTY, "clock": NoTime(), **options})


# --- which registries


def test_only_registries_that_are_known_are_asked() -> None:
    assert host_of("registry.ollama.ai", environment={}).url == "https://registry.ollama.ai"
    assert host_of("HF.co", environment={}) == Host("hf.co", frozenset({"huggingface.co"}))
    with pytest.raises(Forbidden) as raised:
        host_of("evil.example", environment={})
    assert str(raised.value) == (
        "evil.example is none of the registries that models come from (hf.co, huggingface.co, registry.ollama.ai): "
        "name it in HEADRACE_REGISTRIES if you trust it"
    )
    for name in ("ollama.com", "registry.ollama.ai.evil.example", "localhost.evil.example", "xhf.co", "hf.co:8080", ""):
        with pytest.raises(Forbidden):
            host_of(name, environment={})


def test_the_user_may_allow_others() -> None:
    environment = {"HEADRACE_REGISTRIES": " models.example.org=auth.example.org ,Registry.Example.com:5000,"}
    assert host_of("models.example.org", environment=environment).friends == {"auth.example.org"}
    assert host_of("registry.example.com:5000", environment=environment).url == "https://registry.example.com:5000"
    assert host_of("other.example.org", also=["other.example.org"], environment={}) == Host("other.example.org")
    assert (
        host_of("other.example.org", plain=True, also=["other.example.org"], environment={}).url
        == "http://other.example.org"
    )
    assert host_of("other.example.org:443", also=["other.example.org:443"], environment={}).name == "other.example.org"


@pytest.mark.parametrize("name", ["localhost:5000", "localhost", "127.0.0.1:5000", "127.1.2.3:80"])
def test_what_is_on_this_machine_is_allowed_and_never_encrypted(name: str) -> None:
    assert host_of(name, environment={}).url == f"http://{name.removesuffix(':80')}"


@pytest.mark.parametrize("name", ["localhost:5000", "127.0.0.1:5000", "[::1]:5000"])
def test_who_asks_from_elsewhere_may_not_look_around_on_this_machine(name: str) -> None:
    with pytest.raises(Forbidden, match="HEADRACE_REGISTRIES"):
        host_of(name, loopback=False, environment={})
    assert not host_of("registry.ollama.ai", loopback=False, environment={}).plain
    assert host_of(name, loopback=False, environment={"HEADRACE_REGISTRIES": name}).plain, "it is named"


@pytest.mark.parametrize("variable", ["HEADRACE_OFFLINE", "HF_HUB_OFFLINE"])
@pytest.mark.parametrize(("value", "offline"), [("1", True), ("true", True), ("0", False), ("", False), ("No", False)])
def test_offline(variable: str, value: str, offline: bool) -> None:
    environment = {variable: value}
    if offline:
        sentence = f"hf.co is not asked, since {variable} is set: unset it to fetch what is not here"
        with pytest.raises(Offline, match=sentence):
            host_of("hf.co", environment=environment)
    else:
        host_of("hf.co", environment=environment)


@pytest.mark.parametrize(
    ("url", "anywhere", "problem"),
    [
        ("https://storage.example/x?signature=secret", True, None),
        ("https://ollama.com/token", False, None),
        ("https://storage.example/x?signature=secret", False, "https://storage.example/x, which does not speak for it"),
        ("https://ollama.com:444/token", False, "which does not speak for it"),
        ("http://storage.example/x", True, "which is not encrypted"),
        ("ftp://storage.example/x", True, "which is not encrypted"),
        ("https://127.0.0.1:11434/api/delete", True, "which is this machine"),
        ("https://localhost/x", True, "which is this machine"),
        ("https://[::1]/x", True, "which is this machine"),
        ("https://me:secret@storage.example/x", True, "which is no address to follow"),
        ("https:///x", True, "which is no address to follow"),
    ],
)
def test_where_a_registry_may_send_us(url: str, anywhere: bool, problem: str | None) -> None:
    web = Web(host_of("registry.ollama.ai", environment={}))
    if problem is None:
        assert str(web.check(httpx.URL(url), anywhere)) == url
        return
    with pytest.raises(ServerFailed) as raised:
        web.check(httpx.URL(url), anywhere)
    assert problem in str(raised.value)
    assert "secret" not in str(raised.value)


# --- how long


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("120", 120), (" 7 ", 7), ("", None), ("soon", None), ("-1", None), ("9" * 400, 999_999_999), ("1.5", None)],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    assert retry_after(text) == seconds


def test_retry_after_a_date() -> None:
    now = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
    assert retry_after("Mon, 04 May 2026 12:00:30 GMT", now) == 30
    assert retry_after("Mon, 04 May 2026 12:00:30 -0000", now) == 30
    assert retry_after("Mon, 04 May 2026 11:00:00 GMT", now) == 0


@given(st.text())
def test_retry_after_never_breaks(text: str) -> None:
    assert (retry_after(text) or 0) >= 0


def test_waits_double_up_to_a_limit() -> None:
    clock, error = NoTime(), ServerFailed("no")
    patience = Patience(Settings(first_wait_s=1, longest_wait_s=10), clock)
    for number in range(1, 8):
        patience.wait(Passing(error), number, 8)
    for seconds, most in zip(clock.waits, (1, 2, 4, 8, 10, 10, 10), strict=True):
        assert most / 2 <= seconds <= most
    with pytest.raises(ServerFailed):
        patience.wait(Passing(error), 8, 8)


def test_a_wait_ends_when_it_is_over() -> None:
    stop = Event()
    stop.set()
    with pytest.raises(Stopped):
        Patience(Settings(first_wait_s=600), stop=stop).wait(Passing(ServerFailed("no")), 1, 8)
    waiting = Event()
    patience = Patience(Settings(first_wait_s=600), stop=waiting)
    threading.Timer(0.01, waiting.set).start()
    with pytest.raises(Stopped):
        patience.wait(Passing(ServerFailed("no")), 1, 8)


# --- tokens


@pytest.mark.parametrize(
    ("header", "challenge"),
    [
        (
            'Bearer realm="https://ollama.com/token",service="ollama",scope="repository:a/b:pull,push"',
            Challenge("https://ollama.com/token", "ollama", "repository:a/b:pull,push"),
        ),
        ('bearer scope="a b" , realm=https://x.example/t', Challenge("https://x.example/t", "", "a b")),
        ('Bearer realm="https://x.example/t",error="invalid_token, really"', Challenge("https://x.example/t")),
        ('Basic realm="Registry"', None),
        ('Bearer realm="Authentication required"', None),
        ("Bearer", None),
        ("", None),
        ("Bearer " + "a" * 100_000, None),
    ],
)
def test_challenges(header: str, challenge: Challenge | None) -> None:
    assert Challenge.parse(header) == challenge


@given(st.text())
def test_challenges_never_break(text: str) -> None:
    Challenge.parse(f"Bearer {text}")


def test_the_query_of_a_token_is_in_order() -> None:
    url = Challenge("https://x.example/t?z=1", "a service", "r:a/b:pull r:c/d:pull").url({"ts": "7", "nonce": "n"})
    expected = "https://x.example/t?nonce=n&scope=r%3Aa%2Fb%3Apull&scope=r%3Ac%2Fd%3Apull&service=a+service&ts=7&z=1"
    assert url == expected


def test_one_token_serves_until_it_expires(tmp_path: Path) -> None:
    with fault_server.registry(wants="token", token_uses=3) as source:
        source.keep(content=bytes(100_000))
        pull(Name.parse(source.name()), Store(tmp_path / "store"), options=Options(settings=HASTY))
        needed = 1 + 7 + 1  # the manifest, the parts of the model, its config
        assert needed / 3 <= len(source.asks("GET /token")) <= len(source.asks("GET /v2/")) - needed


def test_a_token_that_another_thread_got_will_do() -> None:
    with fault_server.registry(wants="token") as source:
        access = Access(Web(Host(source.host, plain=True)))
        access.token = "new"
        assert access.renew(f'Bearer realm="{source.url}/token"', "old", 3) == 3
        assert access.token == "new"
        assert source.asked == []


def test_what_is_private_is_pulled_in_the_name_of_the_key(tmp_path: Path) -> None:
    key = Key(tmp_path / "home" / "id_ed25519")
    with fault_server.registry(wants="key") as source:
        raw = source.keep()
        with asking(source, key=key) as registry, pytest.raises(Forbidden, match="does not let us in"):
            registry.manifest(AB, "latest")
        assert not key.exists, "none is made to pull"
        key.sign(b"")
        with asking(source, key=key) as registry:
            assert registry.manifest(AB, "latest") == raw
        assert source.keys == [key.public_path.read_text().split()[1]]


def test_a_key_that_the_registry_does_not_know(tmp_path: Path) -> None:
    key = Key(tmp_path / "id_ed25519")
    with fault_server.registry(wants="nothing") as source:
        source.keep()
        with asking(source, key=key, push=True) as registry, pytest.raises(Forbidden) as raised:
            registry.manifest(AB, "latest")
    assert str(raised.value) == (
        f"{source.host} does not let in the owner of this key: add {key.public_path} to your account there"
    )


@pytest.mark.parametrize("header", ['Basic realm="x"', "Negotiate", ""])
def test_another_way_to_say_who_we_are(header: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def challenge(self: fault_server.Handler) -> None:
        self.refuse(401, www_authenticate=header)

    monkeypatch.setattr(fault_server.Handler, "challenge", challenge)
    with (
        fault_server.registry(wants="token") as source,
        asking(source) as registry,
        pytest.raises(Forbidden, match="wants to know who we are in a way that Headrace does not know"),
    ):
        registry.manifest(AB, "latest")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"token": 7}', b'{"token": "a\\r\\nb"}', b'{"token": "\xc3\xa9"}', b"x" * 100_000]
)
def test_a_token_that_is_none(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fault_server.Handler, "token", lambda self, _: self.reply(200, body))
    with (
        fault_server.registry(wants="token") as source,
        asking(source) as registry,
        pytest.raises(ServerFailed, match=r"no token|more than 65536 bytes"),
    ):
        registry.manifest(AB, "latest")


def test_the_hubs_token_goes_to_the_hub_alone() -> None:
    access = Access(Web(host_of("hf.co", environment={})), hub_token="hf_secret")
    assert access.show(httpx.URL("https://hf.co/v2/a/b/manifests/latest")) == "Bearer hf_secret"
    assert access.show(httpx.URL("https://huggingface.co/v2/a/b/manifests/latest")) == "Bearer hf_secret"
    for url in (
        "http://hf.co/v2",
        "https://hf.co:444/v2",
        "https://cdn.hf.co/x",
        "https://hf.co.evil.example/x",
        "https://registry.ollama.ai/v2",
    ):
        assert access.show(httpx.URL(url)) == ""
    with pytest.raises(Forbidden, match=r"hf.co refuses the token of HF_TOKEN: it may be a model that does not exist"):
        access.renew("", "")
    with pytest.raises(Forbidden, match=r"hf.co lets nobody in without a token"):
        Access(Web(host_of("hf.co", environment={}))).renew('Bearer realm="https://evil.example/"', "")


def test_the_hubs_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with connect(Name.parse("hf.co/a/b")) as registry:
        assert registry._access.show(httpx.URL("https://hf.co/v2")) == "Bearer hf_secret"
    with connect(Name.parse("a/b")) as registry:
        assert registry._access.show(httpx.URL("https://hf.co/v2")) == ""


# --- the key


def test_a_key_is_made_once_and_for_us_alone(tmp_path: Path) -> None:
    key = Key(tmp_path / "home" / "id_ed25519")
    first = key.sign(b"data")
    assert stat.S_IMODE(key.path.stat().st_mode) == 0o600
    assert {path.name for path in key.path.parent.iterdir()} == {"id_ed25519", "id_ed25519.pub"}
    assert key.public_path.read_text().startswith("ssh-ed25519 ")
    assert Key(key.path).sign(b"data") == first
    assert first.startswith(key.public_path.read_text().split()[1] + ":")


@pytest.mark.parametrize("content", [b"", b"no key", b"\xff" * 100, b"x" * 100_000])
def test_a_key_that_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "id_ed25519"
    path.write_bytes(content)
    with pytest.raises(FileInvalid, match="this is no ed25519 key without a passphrase: move it away, and one is made"):
        Key(path).sign(b"")
    assert path.read_bytes() == content


def test_a_key_of_another_kind(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    path = tmp_path / "id_ed25519"
    private = generate_private_key(SECP256R1())
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    with pytest.raises(FileInvalid, match="no ed25519 key without a passphrase"):
        Key(path).sign(b"")


def test_a_key_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "home").write_bytes(b"")
    with pytest.raises(FileInvalid, match="the key cannot be read or made"):
        Key(tmp_path / "home" / "id_ed25519").sign(b"")


def test_many_who_need_a_key_at_once_have_the_same(tmp_path: Path) -> None:
    signatures = list[str]()
    threads = [
        threading.Thread(target=lambda: signatures.append(Key(tmp_path / "id_ed25519").sign(b""))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(signatures) == 8
    assert len(set(signatures)) == 1


# --- the way there


def test_a_proxy_of_the_environment_is_for_other_machines(
    source: fault_server.Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_REGISTRIES", "registry.test")
    monkeypatch.setenv("HTTP_PROXY", source.url)
    with connect(Name.parse("http://registry.test/a/b", insecure=True)) as registry:
        assert registry.manifest(AB, "latest") == source.manifests["a/b:latest"]
    assert source.asked == ["GET http://registry.test/v2/a/b/manifests/latest"]
    source.asked.clear()
    with connect(Name.parse(source.name())) as registry:
        registry.manifest(AB, "latest")
    assert source.asked == ["GET /v2/a/b/manifests/latest"]


@pytest.mark.parametrize("proxy", ["gopher://proxy.example", "http://[::1", "socks5://proxy.example"])
def test_a_proxy_that_cannot_be_used(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(RequestInvalid, match="HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names cannot be used"):
        connect(Name.parse("a/b"))


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of 127.0.0.1, vouched for by nobody; with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key, name = Ed25519PrivateKey.generate(), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    built = built.serial_number(1).not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    built = built.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
    path = tmp_path / "certificate.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(built.sign(key, None).public_bytes(Encoding.PEM) + private)
    return path


@pytest.mark.parametrize("is_trusted", [False, True])
def test_a_registry_shows_a_certificate(certificate: Path, is_trusted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setattr(Host, "is_loopback", False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with fault_server.registry(context) as source, Registry(Host(source.host), settings=HASTY) as registry:
        raw = source.keep()
        if is_trusted:
            assert registry.manifest(AB, "latest") == raw
        else:
            with pytest.raises(Unreachable, match="shows a certificate that nobody vouches for"):
                registry.manifest(AB, "latest")


def test_whoever_waits_for_an_encrypted_answer_is_woken(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setattr(Host, "is_loopback", False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    at_byte, ended = Event(), Event()
    with fault_server.registry(context, stops_at=1) as source:
        source.keep(content=bytes(10 << 10))
        source.at_byte = (1, at_byte)
        patient = Settings(stall_s=600)
        digest = max(source.blobs, key=lambda one: len(source.blobs[one]))
        with Registry(Host(source.host), settings=patient) as registry:

            def read() -> None:
                with suppress(Passing), registry.blob(AB, digest) as response:
                    for _ in response.iter_raw():
                        pass
                ended.set()

            thread = threading.Thread(target=read)
            thread.start()
            assert at_byte.wait(10)
            registry.hang_up()
            assert ended.wait(10)
            thread.join()
