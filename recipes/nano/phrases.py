"""How a wording is made: alternatives in brackets, values in braces, and the carelessness of people who type."""

# ruff: noqa: E501 (a wording stands on one line)

from __future__ import annotations

import random
import re

_CHOICE = re.compile(r"\[([^\[\]]*)\]")


def say(rng: random.Random, pattern: str, **values: object) -> str:
    """`"[What is|What's] {a}?"` with one alternative of each bracket (they nest) and the values filled in."""
    return choose(rng, pattern).format(**values)


def choose(rng: random.Random, pattern: str) -> str:
    """One alternative of each bracket."""
    while found := _CHOICE.search(pattern):
        pattern = pattern[: found.start()] + rng.choice(found[1].split("|")) + pattern[found.end() :]
    return pattern


def casual(rng: random.Random, text: str) -> str:
    """The same request as someone might type it: a greeting before it, no capital, no question mark, a "please"."""
    text = casual_start(rng, text)
    if rng.random() < 0.3 and text[-1] in "?.":
        text = text[:-1]
    if rng.random() < 0.06 and text[-1].isalnum():
        text += say(rng, " for [me|me|us|my [sister|friend|class|project|list]][|?|, please]")
    if rng.random() < 0.08 and text[-1].isalnum():
        text += say(rng, "[ please| pls| please?|, please.| thanks|, thank you|?| ?|!]")
    elif rng.random() < 0.06:
        text += say(
            rng, "[ Please.| Thanks!| Thank you.| Please be quick.| I need it for [school|work|a recipe|my homework].]"
        )
    return text


def casual_start(rng: random.Random, text: str) -> str:
    """A greeting before it, or no capital."""
    if rng.random() < 0.06:
        text = (
            say(rng, "[Hi|Hello|Hey|Hi there|Good morning|Hey nano|Ok|OK|So|Please|Quick question][, |! |: |. ]") + text
        )
    if rng.random() < 0.35 and text[1:2].islower() and not text.startswith("I'"):
        text = text[0].lower() + text[1:]
    return text


_DIGITS = (1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 4, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9)


def integer(rng: random.Random, digits: int | None = None) -> str:
    """A whole number without leading zeros; one in eight is round or full of zeros, as prices and populations are."""
    digits = digits or rng.choice(_DIGITS)
    if digits == 1:
        return str(rng.randrange(10))
    if rng.random() < 0.125:
        return rng.choice("123456789") + "".join(rng.choice("0000000123456789") for _ in range(digits - 1))
    return str(rng.randrange(10 ** (digits - 1), 10**digits))


def decimal(rng: random.Random) -> str:
    whole = integer(rng, rng.choice((1, 1, 2, 2, 3, 4)))
    return f"{whole}.{''.join(rng.choice('0123456789') for _ in range(rng.choice((1, 1, 1, 2, 2, 2, 3, 4))))}"


def operand(rng: random.Random) -> str:
    return decimal(rng) if rng.random() < 0.18 else integer(rng)


def count(rng: random.Random) -> int:
    """A number as people count days and things: mostly small."""
    return rng.choice((rng.randrange(1, 13), rng.randrange(1, 100), rng.randrange(1, 1000)))


def figure(rng: random.Random) -> str:
    """What a tool says: any number, with no relation to the question, so that only copying it can be right."""
    kind = rng.random()
    if kind < 0.55:
        text = integer(rng, rng.randrange(1, 14))
    elif kind < 0.95:
        digits = rng.choice((1, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9))
        fraction = "".join(rng.choice("0123456789") for _ in range(digits - 1)) + rng.choice("123456789")
        text = f"{integer(rng, rng.choice((1, 1, 2, 2, 3, 3, 4, 5, 6)))}.{fraction}"
    elif kind < 0.97:
        text = integer(rng, rng.randrange(14, 31))
    else:
        text = f"{rng.randrange(1, 10)}.{rng.randrange(1, 10 ** rng.randrange(1, 9))}e{rng.choice('+-')}{rng.randrange(7, 40):02}"
    return "-" + text if rng.random() < 0.1 and text != "0" else text
