"""Arithmetic: hundreds of ways of asking, one way of calling `calculate`, and the result put into words."""

# ruff: noqa: E501 (a wording stands on one line)

from __future__ import annotations

import random
from collections.abc import Callable

from recipes.nano.exchange import Call, Exchange
from recipes.nano.phrases import casual, count, decimal, figure, integer, operand, say
from recipes.nano.problems import problem
from recipes.nano.stories import framed

# What a kind of question gives: the request, the expression to call, and how the answer begins where that is not the expression.
_Asked = tuple[str, str, str]
_Kind = Callable[[random.Random, str], _Asked]

_SPELLINGS = {
    "+": ("+", "+", "+", "plus"),
    "-": ("-", "-", "-", "−", "minus"),
    "*": ("*", "*", "x", "×", "times", "multiplied by", "X"),
    "/": ("/", "/", "÷", "divided by", "over"),
    "**": ("^", "**", "to the power of", "to the power"),
    "%": ("mod", "modulo"),
}
_OPERATORS = ("*", "*", "*", "*", "+", "+", "+", "-", "-", "-", "/", "/", "/", "**", "%")

_ASK = (
    "[What is|What's|Whats|what is|How much is|What does|Calculate|Compute|Work out|Evaluate|Solve|Find|Determine] {e}[?|]",
    "[Please|Can you|Could you|Would you|Can you please|Could you please|I need you to|I want you to|I'd like you to|"
    "Go ahead and] [calculate|compute|work out|evaluate|solve|figure out|find|do|tell me|give me] {e}[?|.|]",
    "[Tell me|Give me|Show me|I need|I want to know|Do you know|Can you tell me|Let me know|I'd like to know] "
    "[what {e} is|the result of {e}|the answer to {e}|the value of {e}|how much {e} is|{e}][?|.|]",
    "{e}",
    "{e}?",
    "{e} =",
    "{e} = ?",
    "{e}=",
    "{e}=?",
    "{e} equals[?| what?|]",
    "[What do you get for|What is the result of|What is the value of|What is the answer to|What's the answer for|"
    "What will be|What would be|How much would|How much makes|How much do we get for] {e}[?|]",
    "How much does {e} [make|come to|give|equal][?|]",
    "What does {e} [make|come to|give|equal][?|]",
    "[Use the calculator|Use the calculator tool|Use calculate|With the calculator|Using your calculator]"
    "[:| to work out|, what is| for| and tell me] {e}[?|.|]",
    "[Math question|Math|Maths|Calculator|Calculation|Question|Task|Sum][:|: what is|: compute] {e}[?|]",
    "[The result of|Result of|Value of|Answer to] {e}[?|, please.|]",
)

_NAMED = {
    "*": (
        "[Multiply|Multiplying] {a} [by|with|and|times] {b}[.|]",
        "[What is|What's|Give me|Find|Calculate|Compute|Tell me] the product of {a} and {b}[?|.|]",
        "[What do I get|What do you get|What happens|What is it|How much is it] [if|when] [I|you|we] multiply {a} [by|with|and] {b}?",
        "[Can you|Could you|Please|I need you to|Help me] multiply {a} [by|with|and] {b}[?|.|]",
    ),
    "+": (
        "[Add|Sum|Add up|Sum up|Total] {a} and {b}[.|]",
        "[What is|What's|Give me|Find|Calculate|Compute|Tell me] the [sum|total] of {a} and {b}[?|.|]",
        "[What do I get|What do you get|How much is it|What is it] [if|when] [I|you|we] add {a} and {b}?",
        "[Can you|Could you|Please|I need you to|Help me] add {a} [and|to] {b}[?|.|]",
    ),
    "-": (
        "[What is|What's|Give me|Find|Calculate|Compute|Tell me] the difference [between|of] {a} and {b}[?|.|]",
        "[What do I get|What do you get|How much is left|What is left|What remains] [if|when] [I|you|we] "
        "[take {b} from {a}|subtract {b} from {a}|take {b} away from {a}]?",
        "[Subtract|Please subtract|Can you subtract|Take|Deduct] {b} from {a}[?|.|]",
        "[How much is|What is] {a} less {b}?",
    ),
    "/": (
        "[Divide|Please divide|Can you divide|Could you divide|Split] {a} by {b}[?|.|]",
        "[What is|What's|Give me|Find|Calculate|Compute|Tell me] the quotient of {a} and {b}[?|.|]",
        "[What do I get|What do you get|How much is it|What is it] [if|when] [I|you|we] divide {a} by {b}?",
        "[What is|Calculate|Compute] the ratio of {a} to {b}[?|.|]",
    ),
    "%": (
        "[What is|What's|Give me|Find|Calculate] the remainder [of {a} divided by {b}|when {a} is divided by {b}|"
        "when you divide {a} by {b}|of {a} by {b}][?|.|]",
    ),
    "**": (
        "[Raise|Please raise|Can you raise] {a} to the power [of|] {b}[?|.|]",
        "[What is|What's] {a} [raised to the power of|raised to] {b}?",
    ),
}

_THINGS = [
    "apples",
    "pens",
    "books",
    "tickets",
    "boxes",
    "bottles",
    "eggs",
    "chairs",
    "coins",
    "cards",
    "pages",
    "cups",
    "bags",
    "shirts",
    "stamps",
    "cookies",
    "bricks",
    "plants",
    "pencils",
    "oranges",
    "cars",
    "bikes",
    "lamps",
    "toys",
    "keys",
    "plates",
    "flowers",
    "loaves",
    "sandwiches",
    "marbles",
    "notebooks",
    "stickers",
    "candles",
]
_NAMES = [
    "Anna",
    "Ben",
    "Tom",
    "Lucy",
    "Sara",
    "Max",
    "Emma",
    "Paul",
    "Nina",
    "Omar",
    "Mia",
    "Jack",
    "Lena",
    "Sam",
    "Kate",
    "Leo",
    "Maria",
    "John",
    "Amy",
    "David",
]
_MONEY = ("dollars", "euros", "pounds", "dollars")
_PEOPLE = ("people", "friends", "children", "students", "players", "teams", "families", "guests")

_STORIES = (
    (
        "[I buy|I bought|We buy|{n} buys|{n} bought] {a} {t} [at|for] {b} {m} each. [How much is that|What do [I|we] pay|What is the total|"
        "How much does it cost]?",
        "*",
    ),
    (
        "[I have|There are|We have|{n} has] {a} [boxes|bags|crates|packs] [with|of] {b} {t} [each|in each]. How many {t} [is that|are there|"
        "in total]?",
        "*",
    ),
    (
        "[If|Suppose] one [ticket|book|lamp|shirt|chair] costs {a} {m}, [how much do {b} cost|what do {b} cost|what is the price of {b}]?",
        "*",
    ),
    (
        "[I have|{n} has|{n} had|I had|There are|There were] {a} {t} and [get|gets|buy|finds|receive|receives] {b} more. How many "
        "[{t} |]is that[ now| in total|]?",
        "+",
    ),
    (
        "[I have|{n} has|{n} had|There were] {a} {t} and [give|gives|lose|loses|sold|eats] {b}[ away|]. How many [{t} |]are left?",
        "-",
    ),
    ("[A|The] [ticket|phone|coat|table] costs {a} {m} and [I have|{n} has|we have] {b}. How much is missing?", "-"),
    ("[Share|Split|Divide] {a} {t} [among|between|equally among] {b} {p}. How many does each get?", "/"),
    ("{a} {t} are shared [equally |]among {b} {p}. How many [{t} |]does each [one |]get?", "/"),
    ("[A car|A train|A bus|A plane] travels {a} [km|miles] per hour for {b} hours. How far does it go?", "*"),
    (
        "[I earn|{n} earns] {a} {m} [per hour|an hour|a day|a week|a month]. How much is that for {b} [hours|days|weeks|months]?",
        "*",
    ),
    (
        "[The rent|The bill|Dinner] is {a} {m}, [split|shared] [between|among|by] {b} [of us|people|friends]. How much does each pay?",
        "/",
    ),
    ("[A room|A field|A garden|A rectangle] is {a} [by|times] {b} [meters|metres|feet]. What is its area?", "*"),
)

_ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def spelled(value: int) -> str:
    """0..100 in English."""
    if value < 20:
        return _ONES[value]
    if value == 100:
        return "a hundred"
    tens, ones = divmod(value, 10)
    return _TENS[tens - 2] + (f"-{_ONES[ones]}" if ones else "")


def arithmetic(rng: random.Random, number: str) -> Exchange:
    """Any request for the calculator; `number` is the result before, for "and times three?"."""
    follows = number and "e" not in number and rng.random() < 0.65
    if not follows and rng.random() < 0.36:
        return _exchange(rng, *problem(rng))
    kinds = _FOLLOWING if follows else _KINDS
    kind = rng.choices(list(kinds), list(kinds.values()))[0]
    user, expression, lead = kind(rng, number)
    if not follows and rng.random() < 0.08:
        user = framed(rng, user)
    return _exchange(rng, user, expression, lead)


def _exchange(rng: random.Random, user: str, expression: str, lead: str) -> Exchange:
    expressions = expression.split(" ; ")
    if len(expressions) == 2:
        calls = tuple(Call("calculate", {"expression": one}, figure(rng)) for one in expressions)
        answer = " and ".join(f"{one} = {call.result}" for one, call in zip(expressions, calls, strict=True)) + "."
        return Exchange(casual(rng, user), answer, calls)
    result = figure(rng)
    answer = f"{lead or expression + ' ='} {result}."
    return Exchange(casual(rng, user), answer, (Call("calculate", {"expression": expression}, result),), result)


def _spell(rng: random.Random, operator: str) -> str:
    """The operator with its spaces as people write it."""
    word = rng.choice(_SPELLINGS[operator])
    spaced = len(word) > 2 or rng.random() < 0.6
    return f" {word} " if spaced else word


def _operands(rng: random.Random, operator: str) -> tuple[str, str]:
    if operator == "**":
        return (decimal(rng) if rng.random() < 0.1 else str(count(rng))), str(rng.randrange(2, 21))
    a, b = operand(rng), operand(rng)
    return ("-" + a if rng.random() < 0.03 else a), b


def _binary(rng: random.Random, _: str) -> _Asked:
    operator = rng.choice(_OPERATORS)
    a, b = _operands(rng, operator)
    return say(rng, rng.choice(_ASK), e=f"{a}{_spell(rng, operator)}{b}"), f"{a} {operator} {b}", ""


def _named(rng: random.Random, _: str) -> _Asked:
    operator = rng.choice(_OPERATORS)
    a, b = _operands(rng, operator)
    return say(rng, rng.choice(_NAMED[operator]), a=a, b=b), f"{a} {operator} {b}", ""


def _chain(rng: random.Random, _: str) -> _Asked:
    """Three to five numbers, with or without parentheses, in symbols or words."""
    operators = [rng.choice("+-*/") for _ in range(rng.choice((2, 2, 2, 3, 3, 4)))]
    items = [[operand(rng)] * 2 for _ in range(len(operators) + 1)]
    if rng.random() < 0.5:
        first = rng.randrange(len(items) - 1)
        last = rng.randrange(first + 1, min(first + 3, len(items)))
        if last - first < len(items) - 1:
            for i, before, after in ((first, "(", ""), (last, "", ")")):
                items[i] = [before + text + after for text in items[i]]
    spaced = rng.random() < 0.6
    shown, called = items[0]
    for operator, (user, call) in zip(operators, items[1:], strict=True):
        symbol = rng.choice(_SPELLINGS[operator][:3]) if spaced else operator
        shown += (f" {symbol} " if spaced else symbol) + user
        called += f" {operator} {call}"
    return say(rng, rng.choice(_ASK), e=shown), called, ""


_PERCENT = (
    (
        "[What is|What's|Calculate|How much is|Find|Compute|Give me|Tell me] {p}[%| %| percent| per cent] of {a}[?|]",
        "{p}% * {a}",
        "{p}% of {a} is",
    ),
    ("{p}[%| percent] of {a}[?|]", "{p}% * {a}", "{p}% of {a} is"),
    ("[What is|How much is|Calculate] a {p}[%| percent] tip on {a}[ dollars|]?", "{p}% * {a}", "{p}% of {a} is"),
    ("[Add|Please add] {p}[%| percent][ tax| tip| VAT|] to {a}[.|]", "{a} * (1 + {p}%)", "{a} plus {p}% is"),
    (
        "[What is|How much is|Calculate] {a} plus {p}[%| percent][ tax| VAT|][?|]",
        "{a} * (1 + {p}%)",
        "{a} plus {p}% is",
    ),
    ("[Increase|Raise] {a} by {p}[%| percent][.|]", "{a} * (1 + {p}%)", "{a} plus {p}% is"),
    ("[What is|How much is] {a} [minus|less] {p}[%| percent]?", "{a} * (1 - {p}%)", "{a} minus {p}% is"),
    ("[Reduce|Decrease|Lower] {a} by {p}[%| percent][.|]", "{a} * (1 - {p}%)", "{a} minus {p}% is"),
    ("[What is|How much is] {p}[%| percent] off [of |]{a}[ dollars| euros|]?", "{a} * (1 - {p}%)", "{a} minus {p}% is"),
    (
        "[A [coat|phone|bike] costs|The price is] {a} [dollars|euros] and is {p}[%| percent] off. [What do I pay|How much is it now]?",
        "{a} * (1 - {p}%)",
        "{a} minus {p}% is",
    ),
)


def _percent(rng: random.Random, _: str) -> _Asked:
    user, expression, lead = rng.choice(_PERCENT)
    p = str(rng.choice((5, 10, 15, 20, 25, 50, rng.randrange(1, 101), rng.randrange(1, 101), decimal(rng))))
    values = {"p": p, "a": operand(rng)}
    return say(rng, user, **values), expression.format(**values), lead.format(**values)


def _story(rng: random.Random, _: str) -> _Asked:
    user, operator = rng.choice(_STORIES)
    a, b = str(count(rng)), str(count(rng))
    if rng.random() < 0.3:
        a = operand(rng)
    things = {"t": rng.choice(_THINGS), "n": rng.choice(_NAMES), "m": rng.choice(_MONEY), "p": rng.choice(_PEOPLE)}
    return say(rng, user, a=a, b=b, **things), f"{a} {operator} {b}", ""


_FUNCTIONS = (
    (
        "[What is|What's|Calculate|Compute|Find|Give me|Work out|Tell me] the square root of {a}[?|]",
        "sqrt({a})",
        "The square root of {a} is",
    ),
    ("[square root of {a}|sqrt {a}|sqrt({a})|√{a}][?|]", "sqrt({a})", "The square root of {a} is"),
    ("[What is|What's|Calculate|How much is] [{a} squared|the square of {a}][?|]", "{a} ** 2", ""),
    ("[What is|What's|Calculate|How much is] [{a} cubed|the cube of {a}][?|]", "{a} ** 3", ""),
    ("[What is|What's|How much is|Calculate] half of {a}[?|]", "{a} / 2", ""),
    ("[What is|What's|How much is|Calculate] [double|twice] {a}[?|]", "{a} * 2", ""),
    ("[Double|Please double] {a}[.|]", "{a} * 2", ""),
    ("[What is|What's|How much is] a third of {a}[?|]", "{a} / 3", ""),
    ("[What is|What's|How much is] a quarter of {a}[?|]", "{a} / 4", ""),
    ("[What is|What's|How much is|Calculate] [three times|triple] {a}[?|]", "{a} * 3", ""),
    ("[Round|Please round|Can you round] {a}[ to a whole number|][.|?|]", "round({a})", ""),
    ("[What is|What's] the absolute value of -{a}[?|]", "abs(-{a})", ""),
)


def _function(rng: random.Random, _: str) -> _Asked:
    user, expression, lead = rng.choice(_FUNCTIONS)
    a = decimal(rng) if "Round" in user else operand(rng)
    return say(rng, user, a=a), expression.format(a=a), lead.format(a=a)


_SEVERAL = (
    ("[What is|What's|Calculate|Find|Compute|Give me|Tell me] the [sum|total] of {list}[?|.|]", "{plus}"),
    ("[Add|Add up|Sum|Sum up|Total|Please add] {list}[.|]", "{plus}"),
    ("[What is|What's|Calculate|Find|Compute|Give me|Tell me] the [average|mean] of {list}[?|.|]", "({plus}) / {n}"),
    ("[Average|Mean of|The average of] {list}[?|]", "({plus}) / {n}"),
    ("[What is|What's|Calculate|Find] the product of {list}[?|.|]", "{times}"),
    ("[Multiply|Please multiply] {list}[.|]", "{times}"),
    ("[What is|What's|Find|Which is] the [largest|biggest|maximum|highest] of {list}[?|]", "max({comma})"),
    ("[What is|What's|Find|Which is] the [smallest|lowest|minimum] of {list}[?|]", "min({comma})"),
)


def _several(rng: random.Random, _: str) -> _Asked:
    user, expression = rng.choice(_SEVERAL)
    items = [operand(rng) for _ in range(rng.choice((2, 3, 3, 3, 4, 4, 5, 6)))]
    last = rng.choice((" and ", ", and ", ", "))
    listed = ", ".join(items[:-1]) + last + items[-1]
    forms = {"plus": " + ".join(items), "times": " * ".join(items), "comma": ", ".join(items), "n": len(items)}
    return say(rng, user, list=listed), expression.format(**forms), ""


def _words(rng: random.Random, _: str) -> _Asked:
    operator = rng.choice("*+-/")
    a, b = rng.randrange(1, 101), rng.randrange(1, 101)
    if rng.random() < 0.5:
        a, b = rng.randrange(1, 13), rng.randrange(1, 21)
    one, other = (spelled(value) if rng.random() < 0.85 else str(value) for value in (a, b))
    words = [word for word in _SPELLINGS[operator] if len(word) > 2]
    ask = say(rng, rng.choice(_ASK), e=f"{one} {rng.choice(words)} {other}")
    named = say(rng, rng.choice(_NAMED[operator]), a=one, b=other)
    return rng.choice((ask, ask, named)), f"{a} {operator} {b}", ""


def _pair(rng: random.Random, _: str) -> _Asked:
    """Two questions in one sentence: two calls in one turn."""
    one, other = rng.choice("*+-/"), rng.choice("*+-/")
    a, b, c, d = (integer(rng, rng.choice((1, 2, 2, 3, 4))) for _ in range(4))
    first, second = f"{a}{_spell(rng, one)}{b}", f"{c}{_spell(rng, other)}{d}"
    user = say(
        rng,
        "[What is|What's|Calculate|Compute|What are|Work out] {x}[, and what is| and what is| and|, and also| and also] {y}[?|]",
        x=first,
        y=second,
    )
    return user, f"{a} {one} {b} ; {c} {other} {d}", ""


_FOLLOW = {
    "*": "[And|Now|Then|OK, now|Next|Great, now|] [multiply|times] [that|it|the result|this] by {b}[.|?|]",
    "+": "[And|Now|Then|OK, now|Next|Great, now|] add {b}[ to that| to it| to the result|][.|?|]",
    "-": "[And|Now|Then|OK, now|Next|Great, now|] [subtract|take away] {b}[ from that| from it|][.|?|]",
    "/": "[And|Now|Then|OK, now|Next|Great, now|] divide [that|it|the result|this] by {b}[.|?|]",
}
_FOLLOW_SHORT = "[And|What is|What's|Now|How much is|And what is] [that|it|this|the result] {op} {b}[?|]"


def _follow_up(rng: random.Random, number: str) -> _Asked:
    operator = rng.choice("*+-/")
    b = operand(rng)
    if rng.random() < 0.15:
        user, operator, b = rng.choice(
            (
                ("And half of that?", "/", "2"),
                ("Double it.", "*", "2"),
                ("And squared?", "**", "2"),
                ("What is half of that?", "/", "2"),
                ("Now double that.", "*", "2"),
            )
        )
        return user, f"{number} {operator} {b}", ""
    short = say(rng, _FOLLOW_SHORT, op=rng.choice(_SPELLINGS[operator]), b=b)
    very_short = say(
        rng, "[And |Now |]{op} {b}[?|]", op=rng.choice([w for w in _SPELLINGS[operator] if len(w) > 2]), b=b
    )
    user = rng.choice((say(rng, _FOLLOW[operator], b=b).strip(), short, very_short))
    return user[0].upper() + user[1:], f"{number} {operator} {b}", ""


def _next(rng: random.Random, _: str) -> _Asked:
    """Another sum of its own, said after one."""
    operator = rng.choice(_OPERATORS)
    a, b = _operands(rng, operator)
    user = say(
        rng,
        "[And|What about|How about|And what about|And what is|Now|OK, and|Next:|Then] {e}[?|]",
        e=f"{a}{_spell(rng, operator)}{b}",
    )
    return user, f"{a} {operator} {b}", ""


_KINDS: dict[_Kind, float] = {
    _binary: 9, _named: 5, _chain: 4, _percent: 3, _story: 3, _function: 2, _several: 2, _words: 2, _pair: 1,
}  # fmt: skip
_FOLLOWING: dict[_Kind, float] = {_follow_up: 5, _next: 4}
