"""`headrace run`: one answer, or a conversation."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import reduce
from typing import Any, Literal

import click

from headrace.checkpoint import NANO

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


def sampling_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The sampling parameters, under Ollama's names; one that is not given comes from the model."""
    return reduce(lambda wrapped, option: option(wrapped), reversed(SAMPLING), command)


@click.command("run")
@click.argument("model", default=NANO)
@click.argument("prompt", required=False)
@click.option("--num-ctx", type=int, metavar="TOKENS", help="The context window; by default the model card's.")
@click.option("--threads", type=int, help="Processors to use; by default all that this process may.")
@click.option("--tools", type=click.Choice(["builtin", "none"]), help="Offer the built-in tools (nano: by itself).")
@click.option("--verbose", is_flag=True, help="Print times, rates and memory after each answer.")
@sampling_options
def command(
    model: str,
    prompt: str | None,
    num_ctx: int | None,
    threads: int | None,
    tools: str | None,
    verbose: bool,
    **sampling: Any,
) -> None:
    """Chat with MODEL: `nano` (the embedded model, the default), a GGUF file, or a model folder.

    With PROMPT, or text piped in, it answers once; otherwise it opens a conversation. Text piped in follows PROMPT.
    """
    question = one_shot_prompt(prompt)
    from headrace.cli._session import Session  # the engine and its libraries: not needed for `--help`
    from headrace.model import load

    began = time.perf_counter()
    offered: Literal["builtin"] | None = "builtin" if tools == "builtin" or (not tools and model == NANO) else None
    parameters = {name: value for name, value in sampling.items() if value not in (None, ())}
    with load(model, num_ctx=num_ctx, threads=threads) as loaded:
        session = Session(loaded, offered, parameters, verbose=verbose, load_s=time.perf_counter() - began)
        if question is not None:
            session.answer(question)
            return
        from headrace.cli._repl import converse

        converse(session)


def one_shot_prompt(prompt: str | None) -> str | None:
    """The prompt and what is piped in, or None for a conversation. Raises UsageError when there is neither."""
    if sys.stdin is None or sys.stdin.isatty():
        return prompt
    piped = sys.stdin.read().strip()
    parts = [part for part in (prompt, piped) if part]
    if not parts:
        raise click.UsageError("there is no prompt: give one, or pipe some text in")
    return "\n\n".join(parts)
