"""Every error of the tree has a sentence, an exit code and an HTTP status, and a way to run into it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.datastructures import Headers

import headrace
from headrace import checkpoint, cli, errors, loading, model
from headrace.cli._advice import of_flags
from headrace.connection import Server
from headrace.engine import core
from headrace.errors import (
    OUTCOMES,
    Busy,
    CacheExceeded,
    ContextExceeded,
    CoreMissing,
    DeadlineExceeded,
    FieldRefused,
    FileInvalid,
    Forbidden,
    HeadraceError,
    KeyMissing,
    ModelClosed,
    ModelNotFound,
    Offline,
    RequestInvalid,
    ServerFailed,
    StoreRefused,
    TemplateInvalid,
    TooLarge,
    ToolFailed,
    TooSlow,
    Unreachable,
    Unsupported,
    UserError,
)
from headrace.keys import Key
from headrace.library.names import Name
from headrace.library.pull import pull
from headrace.library.registry.hosts import check_online
from headrace.library.store import Store
from headrace.loading import residents
from headrace.server import guard, tokens, wire
from headrace.server.serving import Serving
from headrace.summary import block_bytes
from headrace.tools import builtin
from tests import random_models

ROOT = Path(__file__).parents[1]


def tree(root: type[HeadraceError]) -> Iterator[type[HeadraceError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


def test_outcomes_are_total_and_hold_nothing_else() -> None:
    assert set(OUTCOMES) == {kind for kind in tree(HeadraceError) if kind.__module__.startswith("headrace")}
    assert all(kind.__name__ in str(errors.__doc__) for kind in OUTCOMES), "the tree at the top of the file"


@pytest.mark.parametrize("kind", OUTCOMES)
def test_each_has_a_sentence_and_outcomes_that_clients_understand(kind: type[HeadraceError]) -> None:
    assert str(kind.__dict__["__doc__"]).endswith(".")
    code, status = OUTCOMES[kind]
    assert code in (1, 2)
    assert 400 <= status <= 599
    if issubclass(kind, UserError):
        assert (code, status < 500) == (2, True), "what the user can mend is not worth another try"


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_models.save_gguf(random_models.moe(), tmp_path_factory.mktemp("gguf") / "model.gguf")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return random_models.save_tokenizer(random_models.save(random_models.moe(), tmp_path / "model"))


def edit(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def without_weights(folder: Path, **_: Any) -> None:
    (folder / "model.safetensors").unlink()
    headrace.load(folder)


def without_a_shard(folder: Path, **_: Any) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    headrace.load(folder)


def cut_off(folder: Path, **_: Any) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:100])
    headrace.load(folder)


def another_family(folder: Path, **_: Any) -> None:
    edit(folder, model_type="mamba")
    headrace.load(folder)


def another_architecture(gguf: Path, tmp_path: Path, **_: Any) -> None:
    length = b"\7\0\0\0\0\0\0\0"
    content = gguf.read_bytes().replace(length + b"lfm2moe", length + b"mistral", 1)
    (tmp_path / "other.gguf").write_bytes(content)
    headrace.load(tmp_path / "other.gguf")


def a_large_window(gguf: Path, monkeypatch: pytest.MonkeyPatch, **_: Any) -> None:
    monkeypatch.setattr(model, "memory_bytes", lambda: 800_000)
    headrace.load(gguf, num_ctx=512)


def a_large_model(gguf: Path, monkeypatch: pytest.MonkeyPatch, **_: Any) -> None:
    monkeypatch.setattr(model, "memory_bytes", lambda: 100_000)
    headrace.load(gguf, num_ctx=512)


def a_large_cache(gguf: Path, monkeypatch: pytest.MonkeyPatch, **_: Any) -> None:
    monkeypatch.setattr(model, "memory_bytes", lambda: 1_100_000)
    headrace.load(gguf, num_ctx=512, cache_bytes=1_000_000)


def an_unreadable_template(folder: Path, **_: Any) -> None:
    (folder / "chat_template.jinja").write_text("{{ bos_token }}\n{% if %}")
    headrace.load(folder)


def a_template_that_refuses(folder: Path, **_: Any) -> None:
    (folder / "chat_template.jinja").write_text("{{ raise_exception('begin with a system turn') }}")
    ask(folder)


def ask(path: Path, messages: Any = ({"role": "user", "content": "Hi"},), tools: Any = None, **parameters: Any) -> None:
    with headrace.load(path, num_ctx=64) as loaded:
        list(loaded.chat(messages, tools=tools, **parameters))


def ask_with_a_small_cache(path: Path, messages: Any) -> None:
    source = checkpoint.read(path)
    with headrace.load(path, cache_bytes=block_bytes(source)) as loaded:
        list(loaded.chat(messages))


def ask_after_closing(gguf: Path, **_: Any) -> None:
    loaded = headrace.load(gguf)
    loaded.close()
    list(loaded.generate("Hi"))


def two_at_once(gguf: Path, **_: Any) -> None:
    with loading.residents(max_models=1) as models, models.lease(str(gguf)), models.lease("nano", timeout_s=0):
        pass


def pull_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **_: Any) -> None:
    monkeypatch.setenv("HEADRACE_OFFLINE", "1")
    pull(Name.parse("hf.co/a/b"), Store(tmp_path / "store"))


def ask_where_nobody_is(**_: Any) -> None:
    with closing(Server("127.0.0.1:1")) as server:
        server.names()


def ask_one_that_hangs_up(monkeypatch: pytest.MonkeyPatch, **_: Any) -> None:
    def cut(*_: object, **__: object) -> None:
        raise httpx.ReadError("[Errno 104] Connection reset by peer")

    monkeypatch.setattr(httpx.Client, "stream", cut)
    ask_where_nobody_is()


def without_the_core(monkeypatch: pytest.MonkeyPatch, **_: Any) -> None:
    monkeypatch.setitem(sys.modules, "headrace._core", None)
    core.load_core()


# What somebody does -> what it raises, and all that it says. {folder} and the like are the test's own paths.
def a_slow_body(**_: Any) -> None:
    async def never() -> Any:
        await asyncio.sleep(60)

    asyncio.run(wire.read_body(never, {}, wire.Limits(body_s=0.01)))


def knock(headers: dict[str, str]) -> None:
    doors = guard.Doors.of([Key("secret", frozenset({"infer"}))], (), ())
    guard.Guard(None, doors, None)._check_key({"path": "/api/push"}, Headers(headers))  # type: ignore[arg-type]


def a_link_in_the_library(tmp_path: Path, **_: Any) -> None:
    (tmp_path / "blobs").symlink_to(tmp_path)
    with Store(tmp_path).writing() as session:
        session.add(b"data", "text/plain")


def an_answer_that_takes_too_long(**_: Any) -> None:
    async def ask_it() -> None:
        with residents() as models:
            serving = Serving(models, deadline_s=0.001)
            async with serving.answering("nano", lambda model: model.text_answers(["x"])) as running:
                async for _ in running:
                    pass

    asyncio.run(ask_it())


PROVOCATIONS: dict[str, tuple[Callable[..., None], type[HeadraceError], str]] = {
    "a name that is no model": (
        lambda **_: headrace.load("nanoo").close(),
        ModelNotFound,
        "there is no model 'nanoo': did you mean nano? `headrace list` shows those that are here, and with --available "
        "those that can be pulled; a GGUF file or a model folder can be given, too",
    ),
    "a folder that is no model": (
        lambda tmp_path, **_: headrace.load(tmp_path).close(),
        ModelNotFound,
        "{tmp_path}: a model folder has a config.json, and this one has none",
    ),
    "a folder without weights": (
        without_weights,
        ModelNotFound,
        "{folder}: there are no weights: expected model.safetensors or its shards",
    ),
    "a missing shard": (
        without_a_shard,
        FileInvalid,
        "{folder}: the shard model-00002-of-00002.safetensors is missing: download it again",
    ),
    "a file that is cut off": (
        cut_off,
        FileInvalid,
        "{folder}/model.safetensors: the header claims {claimed} bytes: the file is cut off or not safetensors",
    ),
    "a file of another kind": (
        lambda folder, **_: headrace.load(folder / "config.json").close(),
        FileInvalid,
        "{folder}/config.json: this is not a GGUF file: it does not begin with GGUF",
    ),
    "a folder of another family": (
        another_family,
        Unsupported,
        "{folder}/config.json: model_type 'mamba' is not supported, only lfm2, lfm2_moe, llama",
    ),
    "a GGUF file of another architecture": (
        another_architecture,
        Unsupported,
        "{tmp_path}/other.gguf: architecture 'mistral' is not supported, only lfm2, lfm2moe, llama",
    ),
    "a window beyond the model's": (
        lambda gguf, **_: headrace.load(gguf, num_ctx=1024).close(),
        RequestInvalid,
        "num_ctx is 1024 but should be a whole number from 1 to 512",
    ),
    "a window larger than memory": (
        a_large_window,
        RequestInvalid,
        "model needs 0.73 MB for its weights and 0.27 MB for a window of 512 tokens, but this machine has 0.80 MB of "
        "memory: ask for a window of at most 64 tokens with --num-ctx",
    ),
    "a model larger than memory": (
        a_large_model,
        RequestInvalid,
        "model needs 0.73 MB for its weights and 0.27 MB for a window of 512 tokens, but this machine has 0.10 MB of "
        "memory: take a smaller model",
    ),
    "a cache larger than memory": (
        a_large_cache,
        RequestInvalid,
        "model needs 0.73 MB for its weights and may take 1.00 MB for its cache, but this machine has 1.10 MB of "
        "memory: give the cache less with --cache-bytes",
    ),
    "a draft model of another vocabulary": (
        lambda gguf, **_: headrace.load(gguf, draft="nano").close(),
        Unsupported,
        "the draft model nano has another vocabulary: its token 8 is '<|tool_list_start|>' and not '!': take one "
        "that has the same tokenizer",
    ),
    "an unreadable template": (
        an_unreadable_template,
        TemplateInvalid,
        "the chat template cannot be read: line 2: Expected an expression, got 'end of statement block'",
    ),
    "a template that refuses": (
        a_template_that_refuses,
        TemplateInvalid,
        "the chat template refuses these messages: begin with a system turn",
    ),
    "a prompt that is too long": (
        lambda gguf, **_: ask(gguf, [{"role": "user", "content": "x" * 100}]),
        ContextExceeded,
        "the prompt has 117 tokens but the context window holds 64: shorten it, load the model with a larger num_ctx, "
        "or let chat and generate cut it with context='truncate'",
    ),
    "a prompt that the cache has no memory for": (
        lambda gguf, **_: ask_with_a_small_cache(gguf, [{"role": "user", "content": "x" * 100}]),
        CacheExceeded,
        "the prompt has 117 tokens but the cache has memory for 64: shorten it, or load the model with more "
        "cache_bytes",
    ),
    "a parameter out of its range": (
        lambda gguf, **_: ask(gguf, temperature=-1),
        RequestInvalid,
        "temperature is -1 but should be a number from 0 to 100",
    ),
    "a parameter that does not exist": (
        lambda gguf, **_: ask(gguf, temprature=1),
        RequestInvalid,
        "unknown parameter 'temprature': the parameters are frequency_penalty, logit_bias, min_p, num_predict, "
        "presence_penalty, repeat_last_n, repeat_penalty, seed, stop, temperature, top_k, top_p",
    ),
    "a message without a role": (
        lambda gguf, **_: ask(gguf, [{"content": "Hi"}]),
        RequestInvalid,
        "message 1 has the role None: expected system, user, assistant or tool",
    ),
    "a tool that is none": (
        lambda gguf, **_: ask(gguf, tools=[7]),
        RequestInvalid,
        "7 is not a tool: give a JSON schema with a name, or a Python function",
    ),
    "a tool that cannot do it": (lambda **_: builtin.calculate("1 / 0"), ToolFailed, "division by zero"),
    "a model that was closed": (
        ask_after_closing,
        ModelClosed,
        "the model is closed: load it again to ask more of it",
    ),
    "no room beside one that is in use": (
        two_at_once,
        Busy,
        "nano needs room, and all models that are loaded are in use: try again later",
    ),
    "a server that is not there": (
        ask_where_nobody_is,
        Unreachable,
        "nothing answers at http://127.0.0.1:1 (Connection refused): start a server with `headrace serve`, or say with "
        "--host where one is",
    ),
    "a pull without the network": (
        pull_offline,
        Offline,
        "hf.co is not asked, since HEADRACE_OFFLINE is set: unset it to fetch what is not here",
    ),
    "a server that hangs up": (
        ask_one_that_hangs_up,
        ServerFailed,
        "http://127.0.0.1:1 ended the connection: Connection reset by peer",
    ),
    "a registry, where nothing may be fetched": (
        lambda **_: check_online("hf.co", {"HEADRACE_OFFLINE": "1"}),
        Offline,
        "hf.co is not asked, since HEADRACE_OFFLINE is set: unset it to fetch what is not here",
    ),
    "a field that a request cannot have": (
        lambda **_: wire.decode(b'{"promt": "x"}', tokens.Tokenize, wire.Limits()),
        FieldRefused,
        "promt: it is not supported here, and would change the answer: did you mean prompt?",
    ),
    "a form that is too large": (
        lambda **_: wire.check_form("format", {"enum": ["x" * 30_000]}, wire.Limits(form_bytes=20_000)),
        TooLarge,
        "format is larger than 0.02 MB, which is the most that is taken",
    ),
    "a body that does not come": (
        a_slow_body,
        TooSlow,
        "the body did not arrive within 0.01 seconds",
    ),
    "a request without a key": (
        lambda **_: knock({}),
        KeyMissing,
        "this server wants a key: send it as `Authorization: Bearer KEY`",
    ),
    "a key that may only infer": (
        lambda **_: knock({"authorization": "Bearer secret"}),
        Forbidden,
        "the key does not have the scope 'manage'",
    ),
    "a link where the library writes": (
        a_link_in_the_library,
        StoreRefused,
        "{tmp_path}/blobs should be a folder and is a link or a file: move it away",
    ),
    "a request that takes too long": (
        an_answer_that_takes_too_long,
        DeadlineExceeded,
        "it took longer than the 0.001 seconds that a request may",
    ),
    "no native core": (
        without_the_core,
        CoreMissing,
        "the native core of Headrace does not load (import of headrace._core halted; None in sys.modules): build it "
        "with `pip install .` in the project",
    ),
}


@pytest.mark.parametrize(("provoke", "kind", "sentence"), PROVOCATIONS.values(), ids=PROVOCATIONS)
def test_what_goes_wrong_is_one_sentence(
    provoke: Callable[..., None],
    kind: type[HeadraceError],
    sentence: str,
    folder: Path,
    gguf: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    claimed = int.from_bytes((folder / "model.safetensors").read_bytes()[:8], "little")
    with pytest.raises(HeadraceError) as raised:
        provoke(folder=folder, gguf=gguf, tmp_path=tmp_path, monkeypatch=monkeypatch)
    assert type(raised.value) is kind
    assert str(raised.value) == sentence.format(folder=folder, tmp_path=tmp_path, claimed=claimed)
    with pytest.raises(SystemExit) as stopped:
        cli.fail(raised.value)
    assert stopped.value.code == OUTCOMES[kind].exit_code
    said = of_flags(raised.value) if kind in (ContextExceeded, CacheExceeded) else str(raised.value)
    assert capsys.readouterr().err == f"Error: {said}\n"


def test_every_kind_is_provoked() -> None:
    assert {kind for _, kind, _ in PROVOCATIONS.values()} == set(OUTCOMES) - {HeadraceError, UserError}


def test_a_sentence_is_one_printable_line_of_bounded_length_whatever_it_quotes() -> None:
    sentence = str(FileInvalid("m.gguf", f"key is '{'x' * 10_000}\n\x1b[31m' but should be a number"))
    assert sentence.isprintable()
    assert len(sentence) < 700
    assert sentence.startswith("m.gguf: key is 'xxx")
    assert sentence.endswith("xx\\n\\x1b[31m' but should be a number")


# --- make ------------------------------------------------------------------------------------------------------------


def make(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`make install` into a folder of its own, with no programs but the shell's."""
    programs = tmp_path / "bin"
    programs.mkdir(exist_ok=True)
    for name in ("sh", "make", "mkdir", "touch", "echo", "test", "dirname"):
        for place in ("/bin", "/usr/bin"):
            if (Path(place) / name).exists() and not (programs / name).exists():
                (programs / name).symlink_to(Path(place) / name)
    return subprocess.run(
        [str(programs / "make"), "install", f"VENV={tmp_path / 'venv'}", *(f"{k}={v}" for k, v in environment.items())],
        cwd=ROOT,
        env={"PATH": str(programs), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )


needs_make = pytest.mark.skipif(
    not any(Path(place, "make").exists() for place in ("/bin", "/usr/bin")), reason="make is not installed"
)


@needs_make
def test_make_with_an_old_python(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    aged = f'exec {sys.executable} -c "import sys; sys.version_info = (3, 9, 18); $2"'
    old.write_text(f'#!/bin/sh\n[ "$1" = -V ] && echo Python 3.9.18 && exit\n{aged}\n')
    old.chmod(0o755)
    done = make(tmp_path, PYTHON=str(old))
    assert done.returncode == 2
    sentence = f"Headrace needs Python 3.11 or newer, and {old} is Python 3.9.18: use make PYTHON=python3.12"
    assert sentence in done.stdout.splitlines()
    assert not (tmp_path / "venv").exists()


@needs_make
def test_make_without_a_compiler(tmp_path: Path) -> None:
    done = make(tmp_path, PYTHON=sys.executable)
    assert done.returncode == 2
    sentence = "Headrace needs a C++ compiler: install g++ or clang, or name yours with CXX=..."
    assert sentence in done.stdout.splitlines()
    assert not (tmp_path / "venv").exists()
