"""`headrace run`: one answer, or a conversation."""

from __future__ import annotations

import contextlib
import math
import re
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from headrace import nano
from headrace.cli import _completing
from headrace.cli._attached import read_files
from headrace.cli._display import safe
from headrace.cli._form import read_form, read_system
from headrace.cli._server import API_KEY, url_from
from headrace.errors import RequestInvalid
from headrace.text.window import POLICIES, checked

if TYPE_CHECKING:
    from headrace.cli._partner import Runtime

Command = Callable[..., Any]

SAMPLING = (
    click.option("--temperature", type=float, help="How freely to choose; 0 takes the most probable token."),
    click.option("--top-k", type=int, help="Keep the K most probable tokens; 0 keeps all."),
    click.option("--top-p", type=float, help="Keep the most probable tokens that make up this share."),
    click.option("--min-p", type=float, help="Keep tokens at least this probable, relative to the best."),
    click.option("--repeat-penalty", type=float, help="Divide the logits of tokens that already occur by this."),
    click.option("--repeat-last-n", type=int, help="How many tokens the penalties look at; -1 is all."),
    click.option("--presence-penalty", type=float, help="Subtract this from the logits of tokens that occur."),
    click.option("--frequency-penalty", type=float, help="Subtract this for every time that a token occurs."),
    click.option("--seed", type=int, help="Makes the choice repeatable."),
    click.option("--stop", multiple=True, metavar="TEXT", help="End the answer before this text (repeatable)."),
    click.option("--num-predict", type=int, metavar="TOKENS", help="The most tokens to answer with; -1 is no limit."),
)


SYSTEM = (
    click.option("--system", metavar="TEXT", help="What the model is told before the conversation."),
    click.option("--system-file", metavar="FILE", shell_complete=_completing.files, help="The same from a file."),
)
TOOLS = (
    click.option("--tools", type=click.Choice(["builtin", "none"]), help="Offer the built-in tools (nano: by itself)."),
    click.option(
        "--tool", "functions", multiple=True, metavar="MODULE:FUNCTION", help="Offer your function (repeatable)."
    ),
)


def set_by(name: str) -> dict[str, Any]:
    """Of an option that has an environment variable, too, for whoever gives it always."""
    return {"envvar": f"HEADRACE_{name}", "show_envvar": True}


NUM_CTX = click.option(
    "--num-ctx",
    type=int,
    metavar="TOKENS",
    help="The context window; by default the model card's.",
    **set_by("NUM_CTX"),
)
RUNTIME = (
    click.option(
        "--threads", type=int, help="Processors to use; by default all that this process may.", **set_by("THREADS")
    ),
    click.option(
        "--kv", type=click.Choice(["fp16", "int8", "fp32"]), help="How keys and values are kept.", **set_by("KV")
    ),
    click.option(
        "--cache-bytes",
        metavar="SIZE",
        callback=lambda _, __, text: size_bytes(text),
        help="Memory that keys and values may take: 2GB, 500MiB.",
        **set_by("CACHE_BYTES"),
    ),
)


# Options of a model that runs here, which a server has no ears for.
LOCAL: Final[Mapping[str, str]] = MappingProxyType(
    {
        "threads": "--threads",
        "kv": "--kv",
        "cache_bytes": "--cache-bytes",
        "cache": "--cache",
        "draft": "--draft",
        "grammar": "--grammar",
        "tool_choice": "--tool-choice",
    }
)


def options(*some: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """All of them, in their order."""

    def add(command: Command) -> Command:
        for option in reversed(some):
            command = option(command)
        return command

    return add


def sampling_options(command: Command) -> Command:
    """The sampling parameters, under Ollama's names; one that is not given comes from the model."""
    return options(*SAMPLING)(command)


@click.command("run", short_help="Chat with a model, or ask it one question.")
@click.argument("model", required=False, shell_complete=_completing.models_to_run)
@click.argument("prompt", required=False)
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    metavar="FILE",
    shell_complete=_completing.files,
    help="Put this text file before the prompt (repeatable).",
)
@click.option("--continue", "latest", is_flag=True, help="Go on with the last conversation, and with its model.")
@click.option(
    "--session",
    "name",
    metavar="NAME",
    help="Go on with the conversation of this name, or of an ID of `headrace log`; begin it, if there is none.",
)
@click.option("--no-log", is_flag=True, help="Keep nothing of this conversation on this machine.", **set_by("NO_LOG"))
@click.option(
    "--host",
    is_flag=False,
    flag_value="",
    metavar="[URL]",
    help="Talk to a model of a running server, Headrace's or Ollama's; without URL, written last, to that of "
    "HEADRACE_HOST or OLLAMA_HOST, or to the one on this machine.",
)
@API_KEY
@options(*SYSTEM)
@click.option(
    "--format",
    "format_",
    metavar="json|FILE",
    shell_complete=_completing.files,
    help="Answer with JSON; FILE holds the schema that it fits.",
)
@click.option(
    "--grammar", metavar="FILE", shell_complete=_completing.files, help="Answer by a grammar: FILE.gbnf or FILE.lark."
)
@options(*TOOLS)
@click.option("--trust-tools", is_flag=True, help="Run the tools of --tool without asking.")
@click.option(
    "--tool-choice", metavar="CHOICE", help="auto, none, required, or the name of a tool that must be called."
)
@click.option("--think/--no-think", default=None, help="Think first, or do not; by default the model decides.")
@NUM_CTX
@click.option(
    "--context",
    type=click.Choice(POLICIES),
    help="When the window is full: error; shift leaves out the oldest turns, as conversations do by default; truncate "
    "also the beginning of a last message that is too long by itself.",
)
@click.option(
    "--loop-guard/--no-loop-guard", default=True, help="End an answer that repeats itself without end; on by default."
)
@options(*RUNTIME)
@click.option("--cache", metavar="NAME", help="Load what `headrace cache save NAME` saved, before the first answer.")
@click.option(
    "--draft",
    metavar="lookup|none|MODEL",
    shell_complete=_completing.models,
    default="lookup",
    help="Where guesses of the next tokens come from, which make answers faster and never change them: the text so far "
    "(lookup, the default) or a small MODEL of the same vocabulary.",
)
@click.option(
    "--keep-alive",
    metavar="DURATION",
    help="How long /load keeps the former model, or the server this one: 5m, 300, -1. The variable is for servers: it "
    "counts with --host.",
    **set_by("KEEP_ALIVE"),
)
@click.option("--hide-thinking", is_flag=True, help="Do not show what the model thinks aloud.")
@click.option(
    "--nowordwrap", "--plain", is_flag=True, help="Print what the model writes as it is: no wrapping, no Markdown."
)
@click.option("--verbose", is_flag=True, help="Print times, rates and memory after each answer.")
@sampling_options
def command(
    model: str | None,
    prompt: str | None,
    files: tuple[str, ...],
    latest: bool,
    name: str | None,
    no_log: bool,
    host: str | None,
    api_key: str | None,
    system: str | None,
    system_file: str | None,
    format_: str | None,
    grammar: str | None,
    tools: str | None,
    functions: tuple[str, ...],
    trust_tools: bool,
    tool_choice: str | None,
    think: bool | None,
    num_ctx: int | None,
    context: str | None,
    loop_guard: bool,
    threads: int | None,
    kv: str | None,
    cache_bytes: int | None,
    cache: str | None,
    draft: str,
    keep_alive: str | None,
    hide_thinking: bool,
    nowordwrap: bool,
    verbose: bool,
    **sampling: Any,
) -> None:
    """Chat with MODEL: `nano` (the embedded model, the default), `smollm2`, a GGUF file, or a model folder.

    With PROMPT, or text piped in, it answers once; otherwise it opens a conversation. Text piped in follows PROMPT.

    With --host, MODEL is the name of a model that the server has.

    Conversations are kept on this machine, for `headrace log`, --continue and --session, which make MODEL optional.
    """
    from headrace.cli import _recorder

    recorder, past = _recorder.begin(latest, name, no_log)
    if latest or name is not None:
        model, prompt = _recorder.words(model, prompt, past, None if host is None else url_from(host), api_key)
    if past and model is None and host is None:
        host = past.summary.server
    keep_alive_s = _kept_s(keep_alive, host)
    _check_place(host)
    form = read_form(format_, grammar)
    system, attached = read_system(system, system_file), read_files(files)
    question = one_shot_prompt(prompt, attached)
    from headrace.cli._session import Session, Settings  # and what they need: more than `--help` does
    from headrace.cli._tools import find_tool

    parameters = {name: value for name, value in sampling.items() if value not in (None, ())}
    if past:
        system = past.conversation.system if system is None else system
        parameters = past.conversation.parameters | parameters
        if tools is None and model in (None, past.conversation.model):
            tools = past.conversation.tools or "none"
    model = model or (past.conversation.model if past else nano.NAME)
    settings = Settings(
        system=system,
        format=form,
        tool_choice=tool_choice,
        think=think,
        show_thinking=not hide_thinking,
        verbose=verbose,
        wordwrap=not nowordwrap,
        keep_alive_s=keep_alive_s or 0.0,
        context=checked(context or ("shift" if question is None or past else "error")),
        loop_guard=loop_guard,
        parameters=parameters,
    )
    own = tuple(map(find_tool, functions))
    runtime: Runtime
    if host is not None:
        from headrace.cli._remote import RemoteRuntime

        runtime = RemoteRuntime(url_from(host), api_key, keep_alive_s)
        settings.keep_alive_s = 0.0  # which is the server's to heed
    else:
        from headrace.cli import _caches
        from headrace.cli._local import LocalRuntime

        cached = None if cache is None else (model, _caches.found(cache))  # before the model, which may take a while
        runtime = LocalRuntime(threads, kv, cache_bytes, None if draft == "none" else draft, cached)
    session = Session.open(model, settings, tools, runtime, num_ctx, own, trust_tools)
    with contextlib.closing(session):
        session.recorder, session.attached = recorder, attached
        session.messages = past.conversation.messages if past else []
        if question is None:
            from headrace.cli._repl import converse

            if past:
                click.secho(safe(f"(goes on with {_recorder.told(past)})"), dim=True, err=True)
            converse(session)
        elif not session.answer(question):
            sys.exit(1)


def _kept_s(keep_alive: str | None, host: str | None) -> float | None:
    """What a server is told by the variable must not make a conversation here hold two models."""
    source = click.get_current_context().get_parameter_source("keep_alive")
    if keep_alive is None or (host is None and source is ParameterSource.ENVIRONMENT):
        return None
    return duration_s(keep_alive)


def _check_place(host: str | None) -> None:
    """Raises RequestInvalid for options of the other place: what has no effect would be missed."""
    context = click.get_current_context()

    def given(name: str) -> bool:
        return context.get_parameter_source(name) is ParameterSource.COMMANDLINE

    if host is None:
        if given("api_key"):
            raise RequestInvalid("--api-key is for a server: say which with --host")
        return
    for name, flag in LOCAL.items():
        if given(name):
            raise RequestInvalid(
                f"{flag} is for a model that runs here: a server that --host names decides that itself"
            )
    if not context.params["loop_guard"]:
        raise RequestInvalid("--no-loop-guard is for a model that runs here: Ollama's API has no word for it")


def duration_s(text: str, option: str = "--keep-alive") -> float:
    """Seconds of an Ollama duration: "5m", "1h30m", "300" (seconds); negative is for ever."""
    if re.fullmatch(r"-?\d+(\.\d+)?", text):
        seconds = float(text)
        return seconds if seconds >= 0 else math.inf
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text.removeprefix("-"):
        raise click.BadParameter(f"{text!r} is not a duration: write 5m, 300 (seconds) or -1", param_hint=option)
    seconds = sum(float(number) * {"ms": 1e-3, "s": 1, "m": 60, "h": 3600}[unit] for number, unit in parts)
    return math.inf if text.startswith("-") else seconds


UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def size_bytes(text: str | None, option: str = "--cache-bytes") -> int | None:
    """Bytes of "2GB", "500MiB", "1.5g" or "4000000"."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]i?)?b?", text.strip(), re.IGNORECASE)
    if not found:
        raise click.BadParameter(f"{text!r} is not a size: write 2GB, 500MiB or a number of bytes", param_hint=option)
    return int(float(found[1]) * UNITS[(found[2] or "").lower()])


def one_shot_prompt(prompt: str | None, attached: str = "") -> str | None:
    """The prompt and what is piped in, or None for a conversation. Raises UsageError when there is neither, and no file
    that is asked about."""
    if sys.stdin is None or sys.stdin.isatty():
        return prompt
    piped = sys.stdin.read().strip()
    parts = [part for part in (prompt, piped) if part]
    if not parts and not attached:
        raise click.UsageError("there is no prompt: give one after MODEL, or pipe some text in")
    return "\n".join(parts)
