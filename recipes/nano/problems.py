"""Word problems: sums that stand in a story, are asked for in a roundabout way, or come after what is not asked."""

# ruff: noqa: E501 (a wording stands on one line)

from __future__ import annotations

import random

from recipes.nano.phrases import count, decimal, integer, say

# Request, expression, and how the answer begins where that is not the expression. {x} {y} {z} are money, {a} {b} {c} any
# amounts, {k} {j} small counts, {p} a percentage, {list} several numbers; the expression holds them as figures.
PROBLEMS = (
    # Prices, totals, change
    ("[A|One|Each] {i} [costs|is|goes for|sells for] {x}. [What|How much] [would|will|do] {k} [of them |]cost[ me| us|]?", "{x} * {k}", ""),
    ("[We need|I need|{name} needs|The school ordered] {k} {t} and each [one |]costs {x}. What [is the total|does it all come to|will the bill be]?", "{k} * {x}", ""),
    ("How much [must I pay|do I owe|will I spend] for {k} {t} if [one|each|a single one] [costs|is] {x}?", "{k} * {x}", ""),
    ("[At|With] {x} [apiece|each|per {i}|a piece], what [do|would|will] {k} {t} [cost|come to]?", "{x} * {k}", ""),
    ("{k} {t} at {x}[ each| apiece|][, total?|: total?|, how much?|, how much altogether?| make how much?]", "{k} * {x}", ""),
    ("[I bought|{name} bought|We ordered|My basket has] {k} {t} at {x} each and {j} {s} at {y} each. [What is the total|How much is that altogether|How much did that cost|What's the bill]?", "{k} * {x} + {j} * {y}", ""),
    ("[The|My|Our] {i} [was|cost] {x}[,| and] the {o} {y}. [How much|What] [did I spend|is that together|was it in total|did both cost]?", "{x} + {y}", ""),
    ("[I spent|{name} spent|We paid] {x} on {t}, {y} on {s} and {z} on [transport|food|drinks|gas|lunch]. [What|How much] [is that|was it|did it come to] [in total|altogether|in all]?", "{x} + {y} + {z}", ""),
    ("[My|The|Our] [shopping|receipt|invoice|expense report] lists {x}, {y} and {z}. What's the total?", "{x} + {y} + {z}", ""),
    ("[Breakfast|The train|The hotel] was {x}, [lunch|the taxi|the museum] {y}, [dinner|the flight|the tickets] {z}. [Total|Together|Sum|All in all]?", "{x} + {y} + {z}", ""),
    ("[The bill|My lunch|It|The total] [is|was|comes to] {y} and I [pay|paid] with {x}. [How much change|What change] [do I get|should I get|am I owed|comes back]?", "{x} - {y}", ""),
    ("[I hand over|I gave the cashier|{name} pays with] {x} for [something|a {i}|groceries] that costs {y}. What's the change?", "{x} - {y}", ""),
    ("[I have|There is|We have] {x} [in my account|in my wallet|on my card|in the budget]. If [I|we] [spend|take out|pay] {y}, [what remains|how much is left|what's left]?", "{x} - {y}", ""),
    ("[From|Out of] [a budget|my salary|savings|an income] of {x} [I|we] [spent|used|paid] {y}[ and then| and] {z}. [What|How much] [is left|remains|do I have left]?", "{x} - {y} - {z}", ""),
    ("[My|Our] budget is {x}. [The|A] {i} costs {y}, [the|a] {o} {z}. How much [money |]will be left?", "{x} - {y} - {z}", ""),
    ("[I'm saving|{name} is saving|We are saving] for a {i} that costs {x}[;|,| and] so far [I|we] have {y}. How much [more do [I|we] need|is still missing]?", "{x} - {y}", ""),
    ("[I|We|{name}] started with {x} and [bought|paid for] {k} {t} at {y} each. What is left?", "{x} - {k} * {y}", ""),
    ("If [I|we|you] [save|put aside|set aside] {x} [a|every|each] [week|month|day], how much [is that|will it be|do I have] after {k} [weeks|months|days]?", "{x} * {k}", ""),
    ("[My|The|Our] [rent|subscription|phone plan|insurance|gym] [is|costs] {x} [a|per] month. [What|How much] is that [a|per] year?", "{x} * 12", ""),
    ("[I spend|We spend|{name} earns|It costs] {x} [a|each|every] week. How much is that [in|over] a year?", "{x} * 52", ""),
    ("[I get|{name} earns|They pay me] {x} [an hour|per hour]. [I|We] worked {b} hours[ last week| this month|]. How much [do I get|is my pay|should I be paid]?", "{x} * {b}", ""),
    ("[A pack|A box|A bag|A set] of {k} {t} [costs|is] {x}. [What is the price of one|What does one {i} cost|How much is each {i}]?", "{x} / {k}", ""),
    ("[I paid|{name} paid|We paid] {x} for {k} {t}. How much [was|is that for] [one|each|a single {i}]?", "{x} / {k}", ""),
    ("How many {t} at {y} each can I [buy|get|afford] with {x}?", "{x} / {y}", ""),
    # Sharing
    ("[We were|There were|There are] {k} [people|of us|friends] [at dinner|at the table|in the car|at the restaurant|on the trip] and the [bill|total] [was|came to] {x}. [What|How much] does each [person |of us |one |][pay|owe]?", "{x} / {k}", ""),
    ("[Split|Divide|Share] [a bill of {x}|{x}|the {x} bill] [evenly |equally |fairly |][between|among|by] {k}[ people| friends| colleagues| of us|][.|, please.|: how much each?|.]", "{x} / {k}", ""),
    ("{k} [friends|roommates|people|colleagues] [share|split] [a bill|the rent|a pizza bill|the costs] of {x}. [How much per person|What does each one owe|What is each share]?", "{x} / {k}", ""),
    ("[Me|My sister|{name}] and {k} friends [ate|had dinner|took a cab] for {x}. What's the share of each[ if we all pay the same|]?", "{x} / ({k} + 1)", ""),
    ("[{a}|The {a}] {t} [must|have to|should|are to] go into {k} [equal |][boxes|groups|bags|shelves|rows]. How many [go in|are in|fit in|for] each?", "{a} / {k}", ""),
    ("Into {k} [equal |][parts|groups|teams], {a} {t}: how many [each|per group|in one]?", "{a} / {k}", ""),
    ("[I want to|We should|{name} likes to] leave a tip of {p}[%| percent] on [a bill of |]{x}. [What's the tip|How much is the tip|How much is that]?", "{p}% * {x}", "{p}% of {x} is"),
    ("[A bill of|The restaurant bill is] {x} plus {p}[%| percent] tip[,|:] [split between|shared by|divided among] {k}[ people| of us|]?", "{x} * (1 + {p}%) / {k}", ""),
    # Percentages
    ("[The|A|My] {i} [costs|is|was] {x}[,| and|, but] [it's|is|now] {p}[%| percent] off[ today| this week|]. [What's the new price|What do I pay|How much is it now|What will it cost]?", "{x} * (1 - {p}%)", "{x} minus {p}% is"),
    ("[With|After|Given] a [discount|rebate|reduction|price cut] of {p}[%| percent], what [does|will] [a|the] {i} [for|at] {x} cost?", "{x} * (1 - {p}%)", "{x} minus {p}% is"),
    ("[I have a coupon for|My voucher gives|Members get] {p}[%| percent] off. What [do I pay|is left to pay] [for|on] [a|the] {x} {i}?", "{x} * (1 - {p}%)", "{x} minus {p}% is"),
    ("[My|Her|His|Our] [rent|salary|wage|electricity bill|fee] [was|is] {x} and [goes up|rises|will rise|went up|is raised] by {p}[%| percent]. What [is it|will it be] [now|then|after that]?", "{x} * (1 + {p}%)", "{x} plus {p}% is"),
    ("The [net |]price is {x}[ and|,| but] [VAT|tax|sales tax] [is {p}[%| percent]|of {p}[%| percent] comes on top|of {p}[%| percent] is added]. [What's the gross price|How much with tax|What do I pay in the end]?", "{x} * (1 + {p}%)", "{x} plus {p}% is"),
    ("[The population|The membership|Our traffic|Production] [was|stood at] {a} and [grew|has grown|increased] by {p}[%| percent]. What is it now?", "{a} * (1 + {p}%)", "{a} plus {p}% is"),
    ("[Sales|Visits|The shares|Prices|Costs] [fell|dropped|went down|shrank] [by |]{p}[%| percent] from {a}. [Where are they now|What are they now|How much is that now]?", "{a} * (1 - {p}%)", "{a} minus {p}% is"),
    ("[Of|Out of] {a} [people|students|voters|visitors|{t}], {p}[%| percent] [said yes|passed|came late|are red|liked it|were damaged]. How many [is that|are they|was that]?", "{p}% * {a}", "{p}% of {a} is"),
    ("[I earn|{name} earns|The prize is|We raised] {x} and {p}[%| percent] [of it |][goes to tax|goes to charity|is for the agency]. How much is that?", "{p}% * {x}", "{p}% of {x} is"),
    ("[What|Which] [percentage|percent|share in percent] of {b} [is|are|would be] {a}?", "{a} / {b} * 100", ""),
    ("{a} [of|out of] {b} [{t}|people|votes|points|questions][ were [good|right|sold|broken]|]. [What percentage is that|How many percent is that|What is that in percent]?", "{a} / {b} * 100", ""),
    ("[I scored|{name} got|My result was] {a} out of {b}[ in the test| in the exam|]. [What's that in percent|What percentage is it]?", "{a} / {b} * 100", ""),
    ("[The price|The rent|My weight|The stock] [went|changed|moved] from {a} to {b}. [By how many percent|What is the percentage change|What's the change in percent]?", "({b} - {a}) / {a} * 100", ""),
    ("[I put|{name} puts|We invest] {x} in [the bank|a savings account|a bond] at {p}[%| percent][ interest|]. How much interest [is that|do I get] [in|after] [one year|a year]?", "{p}% * {x}", "{p}% of {x} is"),
    ("{x} at {p}[%| percent] [compound interest|a year compounded|interest, compounded yearly,] for {k} years[: how much is it|, what does it grow to| becomes how much]?", "{x} * (1 + {p}%) ** {k}", ""),
    # Averages, sums, extremes
    ("[My|The|Her|His] [grades|marks|scores|times|bills|measurements] [are|were] {list}. [What is|What's|Tell me] [the|my] [average|mean][?|.]", "({plus}) / {n}", ""),
    ("[I|{name}|We] [ran|walked|sold|scored|slept|read] {list}[ in the last days| this week|]. [What's|What is] the [average|mean]?", "({plus}) / {n}", ""),
    ("[On average|In the mean], how much [is|are] {list}?", "({plus}) / {n}", ""),
    ("{list}[: average?|: mean?|, on average?| - the mean, please| averaged?]", "({plus}) / {n}", ""),
    ("[Here are|These are|I have] [the|my|some] [numbers|figures|values|scores]: {list}. [What do they average|Give me their mean|What is their average|Average them][?|.]", "({plus}) / {n}", ""),
    ("[Here are|These are|I have] [the|my|some] [numbers|figures|amounts|costs]: {list}. [What do they add up to|What is their sum|Add them up|What's the total][?|.]", "{plus}", ""),
    ("[On|Over] the [trip|weekend|tour] [I|we|{name}] [drove|walked|cycled|counted] {list}[ km| miles|]. [How much in total|What's the sum|How far altogether]?", "{plus}", ""),
    ("{list}[: total?|: sum?|, added up?|, all together?| summed up?]", "{plus}", ""),
    ("[These|The] [boxes|bags|parcels] weigh {list}[ kg| pounds|]. How heavy are they [together|in all|altogether]?", "{plus}", ""),
    ("[The temperatures|The bids|The offers|My times] were {list}. [Which|What] was the [highest|largest|biggest|maximum]?", "max({comma})", ""),
    ("[The prices|The bids|The offers|My times] were {list}. [Which|What] was the [lowest|smallest|minimum]?", "min({comma})", ""),
    # Counting things
    ("[A|One|Each] [box|crate|pack|shelf|bus|row] [holds|has|takes|contains] {a} {t}. How many {t} [are in|do we have with|are there in] {k} [of them|such ones]?", "{a} * {k}", ""),
    ("There are {k} rows [of|with] {j} [seats|chairs|trees|plants|desks][ each| in every row|]. How many [is that|are there] [in total|altogether|in all]?", "{k} * {j}", ""),
    ("[{name}|My brother|Our team] has {a} {t} and [{name2}|my sister|the other team] [has |]{b}. How many [do they have|are there] [together|in all|altogether]?", "{a} + {b}", ""),
    ("[{name}|My uncle] has {a} {t}, which is {b} more than [{name2} has. How many does {name2} have|I have. How many do I have|mine. How many are mine]?", "{a} - {b}", ""),
    ("[{name}|My uncle] has {k} times as many {t} as [{name2}|I do]. If the smaller number is {a}, what is the larger one?", "{k} * {a}", ""),
    ("[A|The] [farm|shop|library|school|stock] [had|started with] {a} {t}, [sold|lost|gave away] {b} and [bought|got|received] {c}. How many [are there now|does it have now|is that]?", "{a} - {b} + {c}", ""),
    ("[I had|{name} had|There were] {a} {t}. {b} [broke|were sold|got lost|were eaten] and {c} [more |][were added|came in|arrived]. How many [now|are left]?", "{a} - {b} + {c}", ""),
    ("[I am|{name} is] on page {a} of a book [with|of|that has] {b} pages. How many [pages |]are left?", "{b} - {a}", ""),
    ("[A book|The report|My novel] has {a} pages and [I read|{name} reads] {k} a day. [How many days will it take|How long will it take|How many days is that]?", "{a} / {k}", ""),
    ("[A|One] dozen {t} [costs|is|sells for] {x}. What's the price of one?", "{x} / 12", ""),
    ("How many {t} are [in |]{k} dozen?", "{k} * 12", ""),
    # Speed, area, shapes
    ("[I drove|We cycled|A train goes|{name} ran|The bus went] {a} [km|kilometers|miles] in {b} hours. [What|How fast] [was|is] [the average speed|that per hour|that on average]?", "{a} / {b}", ""),
    ("[At|Going|Doing] {b} [km/h|mph|kilometers per hour|miles an hour], how [long|many hours] [does it take for|do I need for|until I have done] {a} [km|miles|kilometers]?", "{a} / {b}", ""),
    ("[How far|What distance] [do I|does a car|will {name}] [get|go|come|travel] in {b} hours at {a} [km/h|mph|miles per hour]?", "{a} * {b}", ""),
    ("[My car|The truck|Our van] [uses|needs|burns] {a} liters per 100 km. How [much|many liters] [for|does it need for] {b} km?", "{a} * {b} / 100", ""),
    ("[The|Our|My] [living room|garden|field|carpet|wall|floor] is {a} [m|meters|metres|feet] [long and|by] {b}[ m| meters| metres| feet|][ wide|]. [What's the area|How large is it|How many square [meters|feet] is that]?", "{a} * {b}", ""),
    ("[I want to|We have to] [paint|tile|cover|carpet] a [wall|floor|room] of {a} by {b}[ meters| feet|]. How [big is the area|much area is that]?", "{a} * {b}", ""),
    ("[I need|We want|Calculate] [a fence|the fence|the perimeter] [around|of|for] a [garden|rectangle|yard|field] [of|that is] {a} by {b}[ meters| feet|][. How long will it be|. How long is the perimeter|][?|.]", "2 * ({a} + {b})", ""),
    ("[What's|What is|Find] the [area|surface] of a square [with sides of|with a side of|whose side is] {a}[ cm| m| meters| inches|][?|.]", "{a} ** 2", ""),
    ("[A|The|My] [box|tank|aquarium|pool] is {a} by {b} by {c}[ cm| m| feet|]. What [is its volume|volume does it have]?", "{a} * {b} * {c}", ""),
    ("[What's|What is] the area of a [circle|round table|round pool] with [a|the] radius [of |]{a}[ m| cm|]?", "pi * {a} ** 2", ""),
    ("[What's|What is] the [area|surface] of a triangle with [base|a base of] {a} and [height|a height of] {b}?", "{a} * {b} / 2", ""),
    ("A right triangle has legs of {a} and {b}. How long is [the hypotenuse|its longest side]?", "sqrt({a} ** 2 + {b} ** 2)", ""),
    ("[A|The] square [room|field|plot|tile] has an area of {a}[ m2| square meters| square feet|]. How long is [one|a] side?", "sqrt({a})", "The square root of {a} is"),
    # Plain sums asked for in a roundabout way
    ("[I'm wondering|I wonder|I'd love to know|I was asked|I'm curious|I can't work out|Nobody here knows|I forgot] [what|how much] {a} {times} {b} [is|makes|comes to|gives][.|]", "{a} * {b}", ""),
    ("[I'm wondering|I wonder|I'd love to know|I was asked|I'm curious|We were discussing|Nobody here knows] [what|how much] {a} {plus2} {b} [is|makes|comes to|gives][.|]", "{a} + {b}", ""),
    ("[For|In] [my homework|an exercise|a quiz|the budget|a test] [I have to|I must|we have to] [divide {a} by {b}|work out {a} divided by {b}]. [What do I write|What comes out|What is it]?", "{a} / {b}", ""),
    ("[For|In] [my homework|an exercise|a quiz|the budget|a test] [I have to|I must|we have to] [multiply {a} by {b}|work out {a} times {b}]. [What do I write|What comes out|What is it]?", "{a} * {b}", ""),
    ("[Take|Start with|Begin with] {a}, [subtract|take away|remove] {b}[ and|, then] [multiply by|times] {c}[. What do you get|: what is left][?|]", "({a} - {b}) * {c}", ""),
    ("[Take|Start with|Begin with] {a}, add {b}[ and|, then] divide [it |the sum |]by {c}[. What do you get|: result][?|]", "({a} + {b}) / {c}", ""),
    ("[The sum|Adding up] of {a} and {b}, [times|multiplied by] {c}[: what is it|][?|]", "({a} + {b}) * {c}", ""),
    ("[By how much is|How much] [{a} bigger than {b}|{a} more than {b}|larger is {a} than {b}|{b} less than {a}][?|]", "{a} - {b}", ""),
    ("[What|Which number] [must I add|do I add|has to be added] to {b} to [get|reach|make] {a}?", "{a} - {b}", ""),
    ("[How often|How many times] does {b} [fit into|go into|fit in] {a}?", "{a} / {b}", ""),
    ("[What|How much] is {a} [to the {kth}|to the power {k}|to the {kth} power|multiplied by itself {k} times]?", "{a} ** {k}", ""),
    ("[{a} squared plus {b} squared|the squares of {a} and {b} together|the square of {a} plus the square of {b}][: what is that|, how much|][?|]", "{a} ** 2 + {b} ** 2", ""),
    ("[My|His|Her|The] [teacher|boss|friend|book] [says|thinks|claims] {a} {times} {b} is {c}. [What is it really|What's the right answer|What is the true result]?", "{a} * {b}", ""),
    ("[Could you check|Check|Please verify|Can you verify] [how much|what] {a} {minus} {b} is[?|.|]", "{a} - {b}", ""),
    ("[The|My] [sum|task|exercise|question|problem] [is|I am stuck on is|reads|goes][:|: compute|: work out] {a} {sign} {b}", "{a} {op} {b}", ""),
    ("[This one|One more|Next exercise|Exercise {k}|Problem {k}][:| is| reads:] {a} {sign} {b}[ = ?|]", "{a} {op} {b}", ""),
    ("{a} and {b}, [multiplied|multiply them|their product|multiplied together]?", "{a} * {b}", ""),
    ("{a} and {b}, [added|add them|their sum|added together]?", "{a} + {b}", ""),
)  # fmt: skip

_ITEMS = (
    "tickets", "books", "bottles", "chairs", "cards", "cups", "bags", "shirts", "pencils", "lamps", "plates", "notebooks",
    "pizzas", "coffees", "mugs", "stamps", "pears", "bikes", "jackets", "hats", "cakes", "tables", "phones", "candles",
    "cookies", "plants", "posters", "towels", "helmets", "tires", "puzzles", "melons", "sandwiches", "bricks", "sofas", "rings",
)  # fmt: skip
_NAMES = (
    "Anna", "Ben", "Tom", "Lucy", "Sara", "Max", "Emma", "Paul", "Nina", "Omar", "Mia", "Jack", "Lena", "Sam", "Kate", "Leo",
    "Maria", "John", "Amy", "David", "Priya", "Chen", "Fatima", "Luis", "Olga", "Kenji", "Aisha", "Pierre", "Greta", "Noah",
)  # fmt: skip
_MONEY = ("${}", "${}", "{} dollars", "€{}", "{} euros", "{} €", "£{}", "{} pounds", "{}", "{} USD", "{} EUR")
_SIGNS = (("*", "* x × times"), ("+", "+ + plus"), ("-", "- - minus"), ("/", "/ ÷ :"))
_SPELLED = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def problem(rng: random.Random) -> tuple[str, str, str]:
    """A request, the expression to call and how the answer begins."""
    pattern, expression, lead = rng.choice(PROBLEMS)
    shown: dict[str, str] = {}
    called: dict[str, str] = {}
    money = rng.choice(_MONEY)
    for key in "xyz":
        called[key] = _price(rng)
        shown[key] = money.format(_with_commas(rng, called[key]))
    for key in "abc":
        called[key] = amount(rng, whole="{t}" in pattern)
        shown[key] = _with_commas(rng, called[key])
    for key in "kj":
        called[key] = str(rng.choice((rng.randrange(2, 13), rng.randrange(2, 13), rng.randrange(2, 100))))
        figures = rng.random() < 0.7 or len(called[key]) > 2 or int(called[key]) > 12
        shown[key] = called[key] if figures else _SPELLED[int(called[key])]
    shown["kth"] = ordinal(called["k"])
    shown["p"] = called["p"] = percentage(rng)
    items = [amount(rng) for _ in range(rng.choice((2, 3, 3, 3, 4, 4, 5, 6)))]
    shown["list"] = ", ".join(items[:-1]) + rng.choice((" and ", " and ", ", and ", ", ")) + items[-1]
    called |= {"plus": " + ".join(items), "comma": ", ".join(items), "n": str(len(items))}
    operator, signs = rng.choice(_SIGNS)
    called["op"], shown["sign"] = operator, rng.choice(signs.split())
    shown |= {
        "times": rng.choice(("times", "x", "*", "multiplied by", "×")),
        "plus2": rng.choice(("plus", "+", "and", "added to")),
        "minus": rng.choice(("minus", "-", "less")),
    }
    things, others = rng.sample(_ITEMS, 2)
    shown |= {"t": things, "i": _singular(things), "s": others, "o": _singular(others)}
    shown["name"], shown["name2"] = rng.sample(_NAMES, 2)
    user = say(rng, pattern, **shown)
    return user[0].upper() + user[1:], expression.format(**called), lead.format(**called)


def amount(rng: random.Random, whole: bool = False) -> str:
    """A number that things are counted or measured in: no zero."""
    if not whole and rng.random() < 0.2:
        return str(rng.randrange(1, 100)) + rng.choice((".5", ".25", ".75", f".{rng.randrange(1, 10)}"))
    if not whole and rng.random() < 0.08:
        return decimal(rng)
    text = integer(rng, rng.choice((1, 2, 2, 2, 3, 3, 3, 4, 4, 5)))
    return text if text != "0" else str(count(rng))


def ordinal(number: str) -> str:
    """1st, 2nd, 3rd, 4th, 11th, 21st."""
    return number + (
        "th" if number[-2:] in ("11", "12", "13") else {"1": "st", "2": "nd", "3": "rd"}.get(number[-1], "th")
    )


def percentage(rng: random.Random) -> str:
    return str(
        rng.choice((5, 10, 15, 20, 25, 30, rng.randrange(1, 100), rng.randrange(1, 100), f"{rng.randrange(1, 30)}.5"))
    )


def _price(rng: random.Random) -> str:
    whole = integer(rng, rng.choice((1, 2, 2, 2, 3, 3, 4, 5)))
    if rng.random() < 0.4:
        return f"{whole}.{rng.choice(('99', '50', '95', '90', '49', '20', f'{rng.randrange(1, 100):02}'))}"
    return whole if whole != "0" else str(count(rng))


def _with_commas(rng: random.Random, figure: str) -> str:
    """1250 as 1,250, one time in five."""
    whole, point, rest = figure.partition(".")
    return f"{int(whole):,}{point}{rest}" if len(whole) > 3 and rng.random() < 0.2 else figure


def _singular(things: str) -> str:
    return things.removesuffix("es") if things == "sandwiches" else things[:-1]
