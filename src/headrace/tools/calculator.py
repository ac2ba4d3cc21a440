"""Arithmetic by a grammar of our own: nothing that is written here is ever run as Python.

    sum      := product (("+" | "-") product)*
    product  := unary (("*" | "/" | "//" | "%") unary)*
    unary    := ("-" | "+") unary | power
    power    := postfix (("**" | "^") unary)?
    postfix  := atom "%"*
    atom     := number | "pi" | name "(" sum ("," sum)* ")" | "(" sum ")"

A `%` that a number, a name or "(" follows is the modulo (with the divisor's sign); any other is a percent, a hundredth:
`80 * 15%` is 12. `x`, `×`, `·` stand for `*`, `÷` for `/`, `−` for `-`. Functions: sqrt abs round min max.

Numbers are exact fractions until an irrational operation makes them floats, so 0.1 + 0.2 is 0.3. Whole results are
ints, others floats of ten significant digits, or rounded to ones where that is finer. Every size is checked before the
work is done, so nothing hangs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from types import MappingProxyType

from headrace.errors import ToolFailed

MAX_CHARACTERS = 500
MAX_DEPTH = 50
MAX_DIGITS = 1000
SIGNIFICANT_DIGITS = 10

Number = Fraction | float

_TOKEN = re.compile(
    r"\s*(?:([0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?)|([A-Za-z]+)|(\*\*|//|\S))"
)
_SPELLINGS = MappingProxyType({"x": "*", "X": "*", "×": "*", "·": "*", "÷": "/", "−": "-", "^": "**"})
_SYMBOLS = frozenset({"+", "-", "*", "/", "//", "%", "**", "(", ")", ","})


def evaluate(expression: str) -> int | float:
    """The value of an expression; ToolFailed says what is wrong with it."""
    if len(expression) > MAX_CHARACTERS:
        raise ToolFailed(f"the expression is longer than {MAX_CHARACTERS} characters")
    parser = _Parser(_tokens(expression))
    try:
        return _rounded(parser.whole())
    except ZeroDivisionError:
        raise ToolFailed("division by zero") from None
    except OverflowError:
        raise ToolFailed("the result is too large") from None


def _tokens(expression: str) -> list[str]:
    tokens: list[str] = []
    position, end = 0, len(expression.rstrip())
    while position < end:
        found = _TOKEN.match(expression, position)
        assert found is not None  # any character that is not a space is a token
        number, name, symbol = found.groups()
        token = number or name or symbol
        token = _SPELLINGS.get(token, token)
        if symbol and token not in _SYMBOLS:
            raise ToolFailed(f"unexpected {symbol!r} in the expression")
        tokens.append(token)
        position = found.end()
    return tokens


class _Parser:
    """Recursive descent that computes as it reads."""

    __slots__ = ("depth", "position", "tokens")

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.position = 0
        self.depth = 0

    def whole(self) -> Number:
        value = self.sum()
        if self.peek():
            raise ToolFailed(f"unexpected {self.peek()!r} in the expression")
        return value

    def peek(self, ahead: int = 0) -> str:
        index = self.position + ahead
        return self.tokens[index] if index < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.position += 1
        return token

    def expect(self, token: str) -> None:
        if self.peek() != token:
            raise ToolFailed(f"expected {token!r} but found {self.peek()!r}" if self.peek() else f"missing {token!r}")
        self.position += 1

    def sum(self) -> Number:
        value = self.product()
        while self.peek() in ("+", "-"):
            value = _apply(self.take(), value, self.product())
        return value

    def product(self) -> Number:
        value = self.unary()
        while self.peek() in ("*", "/", "//", "%"):
            value = _apply(self.take(), value, self.unary())
        return value

    def unary(self) -> Number:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ToolFailed(f"the expression is nested deeper than {MAX_DEPTH}")
        sign = self.take() if self.peek() in ("-", "+") else ""
        value = self.unary() if sign else self.power()
        self.depth -= 1
        return -value if sign == "-" else value

    def power(self) -> Number:
        base = self.postfix()
        if self.peek() != "**":
            return base
        self.take()
        return _power(base, self.unary())  # the exponent binds to the right and may have a sign

    def postfix(self) -> Number:
        value = self.atom()
        while self.peek() == "%" and not _begins_operand(self.peek(1)):
            self.take()
            value = value / 100
        return value

    def atom(self) -> Number:
        token = self.take()
        if token == "(":
            value = self.sum()
            self.expect(")")
            return value
        if token[:1].isdigit() or token[:1] == ".":
            return _number(token)
        if token.isalpha():
            return self.named(token.lower())
        raise ToolFailed(f"unexpected {token!r} in the expression" if token else "the expression is not complete")

    def named(self, name: str) -> Number:
        if name == "pi":
            return math.pi
        if name not in _FUNCTIONS:
            raise ToolFailed(f"unknown name {name!r}: the functions are {', '.join(_FUNCTIONS)}")
        self.expect("(")
        arguments = [self.sum()]
        while self.peek() == ",":
            self.take()
            arguments.append(self.sum())
        self.expect(")")
        return _FUNCTIONS[name](arguments)


def _begins_operand(token: str) -> bool:
    return token == "(" or token.isalpha() or token[:1].isdigit() or token[:1] == "."


def _number(text: str) -> Fraction:
    mantissa, _, exponent = text.lower().partition("e")
    if len(mantissa) + abs(int(exponent or 0)) > MAX_DIGITS:
        raise _too_large()
    return Fraction(mantissa.rstrip(".")) * Fraction(10) ** int(exponent or 0)


def _too_large() -> ToolFailed:
    return ToolFailed(f"a number has more than {MAX_DIGITS} digits")


def _checked(value: Number) -> Number:
    """Refuses what has grown too large; so no operation ever starts from more than MAX_DIGITS digits."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise OverflowError
    elif max(abs(value.numerator), value.denominator).bit_length() > MAX_DIGITS * math.log2(10):
        raise _too_large()
    return value


def _apply(operator: str, left: Number, right: Number) -> Number:
    match operator:
        case "+":
            return _checked(left + right)
        case "-":
            return _checked(left - right)
        case "*":
            return _checked(left * right)
        case "/":
            return _checked(left / right)
        case "//":
            return _checked(_whole(left // right))
        case _:
            return _checked(left % right)


def _whole(value: Number | int) -> Number:
    return Fraction(value) if isinstance(value, int) else value


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator == 1:
        growth = max(abs(base.numerator), base.denominator).bit_length() - 1
        if growth * abs(exponent.numerator) > MAX_DIGITS * math.log2(10):
            raise _too_large()
        return _checked(Fraction(base**exponent.numerator))
    if base == 0 and exponent < 0:
        raise ZeroDivisionError
    if base < 0 and exponent != math.floor(exponent):
        raise ToolFailed("a negative number has no real power of that kind")
    return _checked(math.pow(base, exponent))


def _sqrt(value: Number) -> Number:
    if value < 0:
        raise ToolFailed("a negative number has no real square root")
    if isinstance(value, Fraction):
        root = Fraction(math.isqrt(value.numerator), math.isqrt(value.denominator))
        if root * root == value:
            return root
    return math.sqrt(value)


def _round(value: Number, digits: Number = Fraction(0)) -> Number:
    """To the nearest, halves away from zero, as taught at school."""
    if digits != math.floor(digits) or not -100 <= digits <= 100:
        raise ToolFailed("round takes a whole number of digits, at most 100")
    scale = Fraction(10) ** int(digits)
    exact = Fraction(str(value)) if isinstance(value, float) else value
    nearest = math.floor(abs(exact) * scale + Fraction(1, 2)) / scale
    return nearest if exact >= 0 else -nearest


def _function(name: str, least: int, most: int, compute: Callable[..., Number]) -> Callable[[list[Number]], Number]:
    def call(arguments: list[Number]) -> Number:
        if not least <= len(arguments) <= most:
            raise ToolFailed(f"{name} cannot take {len(arguments)} numbers")
        return compute(*arguments)

    return call


def _least(*values: Number) -> Number:
    return min(values)


def _greatest(*values: Number) -> Number:
    return max(values)


_FUNCTIONS: Mapping[str, Callable[[list[Number]], Number]] = MappingProxyType(
    {
        "sqrt": _function("sqrt", 1, 1, _sqrt),
        "abs": _function("abs", 1, 1, abs),
        "round": _function("round", 1, 2, _round),
        "min": _function("min", 1, MAX_CHARACTERS, _least),
        "max": _function("max", 1, MAX_CHARACTERS, _greatest),
    }
)


def _rounded(value: Number) -> int | float:
    if isinstance(value, Fraction) and value.denominator == 1:
        return value.numerator
    if abs(value) >= 10**SIGNIFICANT_DIGITS and (isinstance(value, Fraction) or abs(value) < 2**53):
        return int(_round(value))
    short = float(f"{float(value):.{SIGNIFICANT_DIGITS}g}")
    if value and not short:
        raise ToolFailed("the result is too small")
    return int(short) if short.is_integer() and abs(short) < 2**53 else short
