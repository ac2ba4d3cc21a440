"""Values of made-up tools and texts: names, places, dates, numbers and phrases, each type with a held-out share.

Whether a value is held out follows from its letters (one in eight is), so that training and test can never share one;
closed classes (colours, weekdays, months, choices of an enum) and numbers below 100 are the exception.
"""

# ruff: noqa: E501, SIM905 (lists of words)

from __future__ import annotations

import datetime
import random
import zlib
from collections.abc import Callable

from faker import Faker

from recipes.nano import words
from recipes.nano.exchange import Number
from recipes.nano.phrases import say

_COLORS = "red blue green yellow black white orange purple pink brown grey turquoise silver gold beige violet".split()
_LANGUAGES = "English French German Spanish Italian Japanese Chinese Russian Arabic Portuguese Korean Dutch Greek Polish Turkish Swedish Danish Hindi Czech Finnish Hebrew Thai".split()
_WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_MONTHS = "January February March April May June July August September October November December".split()
_CURRENCIES = "EUR USD GBP JPY CHF CAD AUD SEK NOK DKK PLN CZK INR CNY BRL MXN ZAR TRY".split()
_FOODS = "pizza|sushi|ramen|tomato soup|pancakes|lasagne|fried rice|burger|green curry|salad|tacos|omelette|risotto|apple pie|dumplings|noodles|falafel|chili|pumpkin soup|fish and chips|paella|goulash|bread|chicken wings|cheese cake|pasta|porridge|waffles|kebab|vegetable stew|hummus|lentil soup|garlic bread|roast beef|mushroom pie|rice pudding|beef stew|carrots|onions|potatoes|apples|bananas|milk|butter|eggs|flour|olive oil|honey".split(
    "|"
)
_ANIMALS = "dog cat horse rabbit parrot hamster goat sheep cow duck turtle lizard pony chicken pig donkey goldfish ferret snake budgie mouse owl".split()
_SPORTS = "football tennis basketball hockey volleyball swimming rugby cricket golf boxing cycling rowing badminton handball baseball skiing judo climbing squash running".split()
_GENRES = "jazz|rock|pop|blues|classical|folk|techno|metal|hip hop|reggae|country|soul|comedy|drama|thriller|horror|fantasy|science fiction|romance|crime|western|documentary|mystery|adventure|biography|poetry|punk|disco|ambient|opera".split(
    "|"
)
_PRODUCTS = "desk lamp|office chair|coffee machine|wireless mouse|keyboard|water bottle|backpack|running shoes|winter jacket|phone case|headphones|monitor|rain coat|garden hose|paint brush|kitchen knife|frying pan|toaster|blender|yoga mat|tent|sleeping bag|bike lock|helmet|printer paper|notebook|fountain pen|alarm clock|picture frame|bath towel|pillow|wool blanket|umbrella|suitcase|battery pack|light bulb|extension cord|power drill|hammer|ladder|tool box|garden chair|cotton shirt|leather belt|sun hat|ski gloves|camera|tripod|speaker|charger".split(
    "|"
)
_TOPICS = "climate change|renewable energy|the housing market|space travel|electric cars|healthy food|remote work|online safety|gene editing|coral reefs|the stock market|artificial intelligence|city planning|education|migration|robotics|water shortages|medieval history|jazz music|chess openings|photography|gardening|volcanoes|bird watching|sleep|nutrition|solar power|elections|public transport|food prices|quantum computers|wind farms|urban farming|board games|mental health|recycling|deep sea fishing|trade|tourism|architecture".split(
    "|"
)
_JOBS_EXTRA = "baker|nurse|sales manager|data analyst|truck driver|teacher|head of marketing|cook|project lead|electrician|accountant|receptionist|software engineer|gardener|plumber|designer|warehouse worker|office manager|carpenter|lawyer|account manager|product owner".split(
    "|"
)
_AIRPORTS = "LHR CDG FRA AMS JFK LAX SFO ORD MAD BCN FCO VIE ZRH MUC HND NRT ICN SIN SYD DXB IST LIS OSL ARN CPH HEL DUB BOS SEA DEN ATL MIA YYZ GRU EZE JNB CAI DEL BKK KUL".split()
_EXTENSIONS = "pdf txt csv docx xlsx png jpg mp3 zip json md py log pptx html".split()
_SYLLABLES = "ba be bi bo da den do el fa fi ga gor ha hil ja jo ka kel ki la len li lo ma mar mi mo na nel no o pa per ra ri ro sa sel si so ta tel ti to va vel vi wa wil ya zan zo".split()
_ENDINGS = "ton ville ford burg field mouth by wick stead bury ham port haven dale brook".split()
_FIRM_ENDINGS = "Ltd|Inc|GmbH|Labs|Group|Foods|Logistics|Systems|Partners|Bank|Motors|Energy|Books|Studios|Health|Consulting|Works|Media|Software|Travel|and Sons|Tools|Farms".split(
    "|"
)


_PHRASES = frozenset(("topic", "food", "product", "job", "company", "title", "animal", "sport", "genre"))
ANY_WORDS = 0.25  # of such values in training are words that no list holds, which only their place can tell


def is_held_out(text: str) -> bool:
    return zlib.crc32(text.casefold().encode()) % 8 == 0


class Values:
    """Draws values of a type; with `held` only held-out ones, else never one of them."""

    def __init__(self, rng: random.Random, held: bool = False) -> None:
        self.rng, self.held = rng, held
        self._faker = Faker("en_US")
        self._faker.seed_instance(rng.getrandbits(32))
        self._makers: dict[str, Callable[[], str]] = {
            "person": self._person, "first_name": self._first_name, "city": self._city, "country": self._faker.country, "company": self._company,
            "job": self._job, "email": self._email, "phone": self._phone, "url": self._url, "date": self._date, "longdate": self._longdate,
            "time": self._time, "text": self._phrase, "sentence": self._sentence, "word": self._word, "topic": lambda: rng.choice(_TOPICS),
            "food": lambda: rng.choice(_FOODS), "product": self._product, "title": self._title, "artist": self._artist, "id": self._id, "code": self._code,
            "path": self._path, "filename": self._filename, "hashtag": lambda: "#" + self._camel(), "username": self._username, "ticker": lambda: self._letters(rng.choice((3, 4))),
            "zip": lambda: f"{rng.randrange(10000, 99999)}", "street": self._street, "year": lambda: str(rng.choice((rng.randrange(1900, 2031), rng.randrange(1990, 2031)))),
        }  # fmt: skip
        self._closed: dict[str, list[str]] = {
            "color": _COLORS, "language": _LANGUAGES, "weekday": _WEEKDAYS, "month": _MONTHS, "currency": _CURRENCIES, "animal": _ANIMALS, "sport": _SPORTS,
            "genre": _GENRES, "airport": _AIRPORTS,
        }  # fmt: skip

    def draw(self, kind: str) -> str | Number | list[str | Number]:
        """A value of a type as catalogues write it: `city`, `int 1 9`, `oneof a|b`, `list person`."""
        name, _, rest = kind.partition(" ")
        if name == "list":
            drawn = (self.draw(rest) for _ in range(self.rng.choice((2, 2, 3, 3, 4))))
            return list(dict.fromkeys(each for each in drawn if not isinstance(each, list)))
        figures = rest[:1].isdigit()
        if name in ("oneof", *_PHRASES) and not figures and not self.held and self.rng.random() < ANY_WORDS:
            return self._apart(self._any_words)
        if name in ("enum", "oneof"):
            return self._apart(lambda: self.rng.choice(rest.split("|")), free=name == "oneof")
        if name in ("int", "number"):
            low, high = (float(bound) for bound in rest.split())
            return Number(self._apart(lambda: self._number(low, high, name == "int")))
        if name in ("year", "percent", "money"):
            makers = {
                "year": self._makers["year"],
                "percent": lambda: str(self.rng.randrange(1, 101)),
                "money": self._money,
            }
            return Number(self._apart(makers[name]))
        if name in self._closed:
            return self.rng.choice(self._closed[name])
        return self._apart(self._makers[name])

    def knows(self, kind: str) -> bool:
        name, _, rest = kind.partition(" ")
        return (
            name in self._makers
            or name in self._closed
            or name in ("percent", "money")
            or (name in ("int", "number", "enum", "oneof", "list") and bool(rest))
        )

    def _apart(self, make: Callable[[], str], free: bool = True) -> str:
        """A value on this side of the split; small numbers and closed choices may be on either."""
        for _ in range(200):
            text = make()
            small = text.isdigit() and len(text) < 3
            if not free or small or is_held_out(text) == self.held:
                return text
        return text

    def _any_words(self) -> str:
        return " ".join(self.rng.sample(words.frequent(8000), self.rng.choice((1, 1, 2, 2, 3))))

    def _word(self) -> str:
        """Half of them everyday ones, half any of the more frequent ones."""
        return self.rng.choice(words.COMMON if self.rng.random() < 0.5 else words.frequent(5000))

    def _number(self, low: float, high: float, whole: bool) -> str:
        if not whole:
            places = self.rng.choice((1, 1, 1, 2, 2, 3))
            return f"{self.rng.uniform(low, high):.{places}f}"
        if high > 1000 and self.rng.random() < 0.4:  # people like round numbers
            step = 10 ** (len(str(int(high))) - 2)
            return str(max(int(low), round(self.rng.uniform(low, high) / step) * step))
        return str(self.rng.randint(int(low), int(high)))

    def _money(self) -> str:
        return (
            f"{self.rng.choice((self.rng.uniform(1, 100), self.rng.uniform(1, 1000), self.rng.uniform(1, 20000))):.2f}"
        )

    def _invented(self, count: int) -> str:
        return "".join(self.rng.choice(_SYLLABLES) for _ in range(count)).capitalize()

    def _first_name(self) -> str:
        kind = self.rng.random()
        return (
            self._invented(2)
            if kind < 0.15
            else self.rng.choice(words.NAMES[:45])
            if kind < 0.3
            else self._faker.first_name()
        )

    def _person(self) -> str:
        kind = self.rng.random()
        last = self._invented(self.rng.choice((2, 3))) if kind < 0.25 else self._faker.last_name()
        if kind > 0.95:
            return f"{self.rng.choice(('Dr.', 'Mr.', 'Mrs.', 'Ms.', 'Prof.'))} {last}"
        return f"{self._first_name()} {last}"

    def _city(self) -> str:
        kind = self.rng.random()
        if kind < 0.3:
            return self._invented(self.rng.choice((1, 2))) + self.rng.choice(_ENDINGS)
        if kind < 0.5:
            return self.rng.choice([place for place in words.PLACES[30:] if place[0].isupper()])
        return self._faker.city()

    def _company(self) -> str:
        kind = self.rng.random()
        if kind < 0.4:
            return self._faker.company().replace("-", " ")
        first = self._invented(self.rng.choice((2, 3))) if kind < 0.7 else self.rng.choice(words.COMMON).capitalize()
        return f"{first} {self.rng.choice(_FIRM_ENDINGS)}" if self.rng.random() < 0.85 else first

    def _job(self) -> str:
        return (
            self.rng.choice(_JOBS_EXTRA)
            if self.rng.random() < 0.5
            else self._faker.job().split(",")[0].split("/")[0].lower()
        )

    def _email(self) -> str:
        first, last = self._first_name().lower(), self._faker.last_name().lower()
        user = self.rng.choice(
            (
                first,
                f"{first}.{last}",
                last,
                f"{first}_{last}",
                f"{first}{self.rng.randrange(1, 99)}",
                "info",
                "office",
                "sales",
            )
        )
        domain = self.rng.choice(
            (self._invented(2).lower(), self.rng.choice(words.COMMON).lower().replace("'", ""), "example", "mail")
        )
        return f"{user}@{domain}.{self.rng.choice(('com', 'com', 'org', 'net', 'io', 'co', 'eu'))}"

    def _phone(self) -> str:
        digits = "".join(self.rng.choice("0123456789") for _ in range(11))
        return self.rng.choice(
            (
                f"+{digits[0]} {digits[1:4]} {digits[4:7]} {digits[7:]}",
                f"{digits[:3]}-{digits[3:6]}-{digits[6:10]}",
                f"0{digits[:3]} {digits[3:9]}",
                f"+44 {digits[:4]} {digits[4:10]}",
                f"555-{digits[:4]}",
            )
        )

    def _url(self) -> str:
        host = f"{self.rng.choice(words.COMMON).lower().replace(chr(39), '')}{self.rng.choice(('', '', '-' + self.rng.choice(words.COMMON).lower()))}.{self.rng.choice(('com', 'org', 'net', 'io'))}"
        tail = self.rng.choice(
            (
                "",
                "",
                f"/{self.rng.choice(words.COMMON).lower()}",
                f"/{self.rng.choice(words.COMMON).lower()}/{self.rng.randrange(1, 999)}",
            )
        )
        return f"{self.rng.choice(('https://', 'https://', 'https://www.', 'http://', ''))}{host}{tail}"

    def _date(self) -> str:
        return (datetime.date(2020, 1, 1) + datetime.timedelta(days=self.rng.randrange(4000))).isoformat()

    def _longdate(self) -> str:
        year, month, day = self._date().split("-")
        name, number = _MONTHS[int(month) - 1], str(int(day))
        return self.rng.choice(
            (
                f"{name} {number}, {year}",
                f"{number} {name} {year}",
                f"{name} {number}",
                f"{number} {name}",
                f"{name[:3]} {number}, {year}",
                f"{number}.{int(month)}.{year}",
                f"{month}/{day}/{year}",
            )
        )

    def _time(self) -> str:
        minute = self.rng.choice((0, 0, 15, 30, 30, 45, self.rng.randrange(60)))
        return f"{self.rng.randrange(24):02}:{minute:02}"

    def _phrase(self) -> str:
        a, b, c = (self._word() for _ in range(3))
        noun, other = self.rng.choice(words.THINGS), self.rng.choice(_PRODUCTS)
        return say(self.rng, "[{a} {b}|{a} {b} {c}|[buy|order|check|clean|fix|bring|return|sell|paint] the {o}|call {n}|{n}|the {a} {b}|[new|old|first|second|big] {o}|"
                   "{n} [meeting|report|plan|notes|budget|trip]|{a} and {b}|[running late|see you soon|lunch at noon|thank you for your help|please call me back]|{o} for {p}|{o}]",
                   a=a, b=b, c=c, n=noun, o=other, p=self.rng.choice(words.NAMES))  # fmt: skip

    def _sentence(self) -> str:
        kind = self.rng.random()
        if kind < 0.4:
            return " ".join(self._word() for _ in range(self.rng.randrange(3, 9))).capitalize() + self.rng.choice(
                ("", ".", ".", "!", "?")
            )
        return say(self.rng, "[I will be {n} minutes late|The {o} [arrived|is broken|looks great|was too small|came too late]|[Please|Can you] bring the {o}|{p} [called|is ill today|cannot come|says hello]|"
                   "[The meeting|Lunch|The call|Training] is [moved to|at] {t}|[We are out of|I need|Who has] {f}|Happy birthday, {p}|[Great|Good|Nice] work on the {o}|See you at {t}|"
                   "[My|The] {o} does not [work|start|fit]|[Do not|Never] forget the {o}][|.|!]",
                   n=self.rng.choice((5, 10, 15, 20)), o=self.rng.choice(_PRODUCTS), p=self._first_name(), t=self._time(), f=self.rng.choice(_FOODS))  # fmt: skip

    def _product(self) -> str:
        kind = self.rng.random()
        if kind < 0.2:
            return f"{self.rng.choice(_COLORS)} {self.rng.choice(_PRODUCTS)}"
        return (
            f"{self._invented(2)} {self.rng.choice((100, 200, 300, 3, 5, 7, 'Pro', 'Mini', 'Plus', 'X2'))}"
            if kind < 0.35
            else self.rng.choice(_PRODUCTS)
        )

    def _title(self) -> str:
        a, b = (self._word().capitalize() for _ in range(2))
        return self.rng.choice(
            (
                f"The {a} {b}",
                f"{a} and {b}",
                f"{a} {b}",
                f"The {a} of {b}",
                f"{self._invented(2)}",
                f"A {a} in {self._city()}",
                f"{a} of the {b}",
                f"The {a}",
                f"My {a} {b}",
            )
        )

    def _artist(self) -> str:
        a = self._word().capitalize()
        return self.rng.choice((self._person(), f"The {a}s", f"{a} {self._invented(2)}", self._invented(3)))

    def _letters(self, count: int) -> str:
        return "".join(self.rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(count))

    def _id(self) -> str:
        number = self.rng.randrange(10 ** self.rng.choice((2, 3, 4, 5)), 10**5 * 9)
        return self.rng.choice(
            (
                f"{self._letters(3)}-{number}",
                f"{self._letters(2)}{number}",
                f"{self._letters(1)}-{number}",
                f"{number}",
                f"{number}",
                f"{self._letters(3).lower()}-{number}",
                f"{self._letters(2)}-{number % 1000}-{number % 97}",
            )
        )

    def _code(self) -> str:
        return "".join(self.rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ23456789") for _ in range(self.rng.choice((4, 5, 6))))

    def _lower(self) -> str:
        return self._word().lower().replace("'", "")

    def _camel(self) -> str:
        return self._lower() + (self._lower().capitalize() if self.rng.random() < 0.5 else "")

    def _filename(self) -> str:
        a, b = self._lower(), self._lower()
        stem = self.rng.choice(
            (
                a,
                f"{a}_{b}",
                f"{a}-{b}",
                f"{a}_{self.rng.randrange(1, 30)}",
                f"{a}{self.rng.randrange(2019, 2030)}",
                f"{a.capitalize()} {b}",
            )
        )
        return f"{stem}.{self.rng.choice(_EXTENSIONS)}"

    def _path(self) -> str:
        parts = [self._lower() for _ in range(self.rng.choice((1, 2, 2, 3)))]
        root = self.rng.choice(("/", "/home/", "~/", "/var/", "./", "/data/"))
        return root + "/".join(parts) + ("/" + self._filename().replace(" ", "_") if self.rng.random() < 0.4 else "")

    def _username(self) -> str:
        a = self._first_name().lower()
        return self.rng.choice(
            (
                a,
                f"{a}{self.rng.randrange(1, 99)}",
                f"{a}_{self._lower()}",
                f"{self._lower()}{self._lower()}",
                f"{a[0]}{self._faker.last_name().lower()}",
                f"@{a}",
            )
        )

    def _street(self) -> str:
        return f"{self.rng.randrange(1, 400)} {self._faker.street_name()}"
