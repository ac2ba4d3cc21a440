"""Ways to ask for fields of a text as JSON: a grammar, since a list of ways is learnt by heart, words and all.

The parts are drawn apart from each other: who asks and why, the verb, what the fields are called and how they are
listed, what the format is called, remarks, and where the text stands. So no word but a listed one is ever a key.
"""

# ruff: noqa: E501, SIM905 (a wording stands on one line)

from __future__ import annotations

import json
import random
import re
from functools import cache

from recipes.nano import words
from recipes.nano.phrases import choose

# What no made-up key is, and no word that is put into an instruction: such a word could be read as part of the sentence.
_NO_KEYS = frozenset(
    """about above after again against ago all almost alone along already also although always among and another any anybody anyone anything are around ask away
    back because been before behind being below best better between both but can cannot could did does doing done down during each either else enough even ever
    every everybody everyone everything exactly extract few field fields fill find first for form format from get give given goes going gone got had has have having
    her here hers herself him himself his how however including input instead into its itself just key keys last least less let line list made make many maybe might
    missing more most much must myself near neither never nobody none nor nothing now null off often once one only onto other others ought our ours out output over
    own per perhaps please quite rather read really reply return said same say see seem set shall she should show since some somebody someone something sometimes soon
    still string such take tell text than thank thanks that the their theirs them themselves then there these they thing things this those though through thus too
    toward two under unless until upon use used using value values very via was well were what whatever when where whether which while who whom whose why will with
    within without word words would write written yes yet you your yours yourself json answer object array number data schema type types name names column columns""".split()
)


@cache
def content_words(count: int) -> tuple[str, ...]:
    """Frequent words that can be a key or stand in a sentence without being taken for part of its grammar."""
    return tuple(word for word in words.frequent(count) if len(word) > 2 and word not in _NO_KEYS)


# --- how the fields are listed

_AN = re.compile(r"\ba(?= (?!one\b|uni|use|eu)[aeiou])", re.IGNORECASE)
_NOUNS = ("field",) * 5 + ("key",) * 5 + ("slot", "column", "property", "attribute", "detail", "entry", "value", "item", "label", "member", "heading", "data point", "JSON key")  # fmt: skip
_PLURALS = {"property": "properties", "entry": "entries"}
_QUOTES = (('"', '"'), ('"', '"'), ("'", "'"), ("`", "`"), ("“", "”"), ("*", "*"), ("**", "**"))
_SHORT = {"string": ("string", "string", "str", "text"), "number": ("number", "number", "float"), "integer": ("integer", "number", "int"), "array": ("list", "array")}  # fmt: skip


def inline(rng: random.Random, fields: dict[str, str]) -> str:
    """The keys within a sentence: bare, quoted, numbered, with their types, in brackets."""
    keys = list(fields)
    kind = rng.random()
    if kind < 0.36:
        shown = keys
    elif kind < 0.66:
        left, right = rng.choice(_QUOTES)
        shown = [f"{left}{key}{right}" for key in keys]
    elif kind < 0.8:
        shown = _typed(
            rng,
            fields,
            (
                "{k} ({t})",
                "{k} ({t})",
                "{k}: {t}",
                "{k} [{t}]",
                "{k}:{t}",
                "`{k}` ({t})",
                '"{k}" ({t})',
                "{k} as {t}",
                "{k}<{t}>",
            ),
        )
    elif kind < 0.88 and len(keys) > 1:
        count = rng.choice(("({n}) {k}", "{n}) {k}", "{n}. {k}", "#{n} {k}", "{l}) {k}", "({l}) {k}"))
        shown = [count.format(n=at + 1, l="abcdefgh"[at], k=key) for at, key in enumerate(keys)]
    else:
        left, right = rng.choice((("[", "]"), ("(", ")"), ("{", "}"), ("<", ">"), ('["', '"]'), ("['", "']")))
        return left + (f"{left[1:]}, {left[1:]}" if len(left) > 1 else ", ").join(keys) + right
    return _joined(rng, shown)


def _joined(rng: random.Random, shown: list[str]) -> str:
    """With commas, mostly; or with an "and" before the last."""
    last = rng.choice(("and", "and", "and", ", and", "as well as", "plus", "&"))
    if len(shown) > 1 and rng.random() < 0.45:
        return ", ".join(shown[:-1]) + (last if last.startswith(",") else f" {last}") + f" {shown[-1]}"
    return rng.choice((", ", ", ", ", ", ", ", ",", "; ", " / ", " | ", " + ", " - ")).join(shown)


def _typed(rng: random.Random, fields: dict[str, str], patterns: tuple[str, ...]) -> list[str]:
    pattern = rng.choice(patterns)
    at = rng.randrange(4)
    return [pattern.format(k=key, t=_SHORT[kind][at % len(_SHORT[kind])]) for key, kind in fields.items()]


def block(rng: random.Random, fields: dict[str, str]) -> str:
    """One key a line: with dashes, numbers, quotes, types, or what it means in its own words."""
    kind = rng.random()
    if kind < 0.25:
        shown = _typed(
            rng, fields, ("{k} ({t})", "{k}: {t}", "`{k}` ({t})", "{k} - {t}", '"{k}": {t}', "{k} | {t}", "{t}: {k}")
        )
    elif kind < 0.4:
        told = rng.choice(
            (
                "{k}: the {w}",
                "{k} - the {w}",
                "`{k}`: the {w} as the text has it",
                "{k} (the {w} in question)",
                "{k}: {w}, or null",
                "{k} - which {w}?",
            )
        )
        shown = [told.format(k=key, w=in_words(key)) for key in fields]
    elif kind < 0.6:
        left, right = rng.choice(_QUOTES)
        shown = [f"{left}{key}{right}" for key in fields]
    else:
        shown = list(fields)
    mark = rng.choice(
        ("- ",) * 6 + ("* ", "* ", "• ", "{n}. ", "{n}. ", "{n}) ", "{l}) ", "", "", "  ", "  - ", "+ ", "> ", "[ ] ")
    )
    return "\n".join(mark.format(n=at + 1, l="abcdefgh"[at]) + each for at, each in enumerate(shown))


def shape(rng: random.Random, fields: dict[str, str]) -> str:
    """An empty object, a record type or a JSON Schema."""
    kind = rng.random()
    if kind < 0.1:
        members = {key: {"type": each} for key, each in fields.items()}
        schema = {"type": "object", "properties": members} | ({"required": list(fields)} if rng.random() < 0.4 else {})
        return json.dumps(schema, indent=rng.choice((None, None, 2)))
    if kind < 0.2:
        named = [key if key.isidentifier() else json.dumps(key) for key in fields]
        mark, left = (
            rng.choice((": ", ":")),
            rng.choice(("{ ", "type Record = { ", "interface Result { ", "struct { ", "{ ")),
        )
        return left + "; ".join(f"{key}{mark}{each}" for key, each in zip(named, fields.values(), strict=True)) + " }"
    if kind < 0.26:
        return "{" + ", ".join(map(json.dumps, fields)) + "}"
    empty = rng.choice(
        (
            "...",
            "...",
            '""',
            '""',
            '""',
            "null",
            '"..."',
            "_",
            "?",
            "<{t}>",
            '"{t}"',
            '"<{t}>"',
            "{t}",
            '"<{w}>"',
            "<{w}>",
            "<value>",
            "{e}",
            "{e}",
            "…",
            "___",
        )
    )
    blank = {"string": '""', "number": "0.0", "integer": "0", "array": "[]"}
    members_ = [
        f"{json.dumps(key)}: {empty.format(t=each, e=blank[each], w=in_words(key))}" for key, each in fields.items()
    ]
    if rng.random() < 0.25:
        return "{\n" + ",\n".join(f"  {member}" for member in members_) + "\n}"
    return "{" + ", ".join(members_) + "}"


def in_words(key: str) -> str:
    """`startTime`, `start_time`, `Start-Time`: start time."""
    spaced = "".join(f" {c}" if c.isupper() and p.islower() else c for p, c in zip(" " + key, key, strict=False))
    return " ".join(spaced.replace("_", " ").replace("-", " ").lower().split())


# --- the words around it: [a|b] one of them, {x} put in afterwards

_JSON = ("JSON",) * 6 + (
    "a JSON object", "a JSON object", "one line of JSON", "valid JSON", "a single JSON object", "one JSON object", "a JSON record", "a JSON dictionary", "a flat JSON object",
    "plain JSON", "raw JSON", "strict JSON", "a one-line JSON object", "well-formed JSON", "a JSON map", "proper JSON", "clean JSON", "a JSON dict", "a JSON line", "pure JSON",
)  # fmt: skip
_TEXT_NOUNS = ("text",) * 8 + (
    "message", "message", "note", "note", "passage", "snippet", "paragraph", "entry", "mail", "email", "input", "content", "document", "excerpt", "blurb", "sample", "piece of text", "bit of text",
    "fragment", "post", "notice", "memo", "report", "statement", "source", "raw text", "material", "writing", "extract", "scrap", "{w} note", "{w} text", "{w} report", "{w} message", "{w} log",
)  # fmt: skip
_VERBS = (
    "extract", "extract", "extract", "get", "get me", "pull out", "take", "read out", "find", "find", "collect", "pick", "pick out", "list", "return", "give", "give me", "write down", "fetch", "gather",
    "identify", "locate", "capture", "grab", "lift", "note down", "record", "determine", "tell me", "show", "show me", "copy", "spot", "dig out", "parse out", "look up", "retrieve", "isolate", "report",
    "supply", "provide", "work out", "filter out", "single out", "put down", "bring me", "hand me", "send me", "output", "print", "deliver", "detect", "obtain", "draw out", "scan for", "look for",
)  # fmt: skip
_POLITE = ("",) * 10 + (
    "please ", "please ", "please ", "can you ", "could you ", "could you please ", "would you ", "will you ", "kindly ", "I want you to ", "you should ", "you must ", "your task is to ", "your job is to ",
    "the task is to ", "now ", "help me [to |]", "I need you to ", "let's ", "go ahead and ", "be so kind as to ", "try to ", "we ask you to ", "I'd like you to ", "you are asked to ", "would you mind trying to ",
    "I must ask you to ", "all you have to do is ", "what you do: ", "pls ", "plz ", "next, ", "first read it, then ", "carefully ", "quickly ", "simply ", "do me a favour and ", "use your eyes and ", "it is your turn to ",
)  # fmt: skip
_ONE = (
    "{polite}{verb} {phrase} from {ref} {as}", "{polite}{verb} {phrase} from {ref} {as}", "{polite}{verb} {phrase} {as} from {ref}", "from {ref}, {polite}{verb} {phrase} {as}", "{polite}{verb} {phrase} {as}",
    "{polite}[turn|make|parse|put|translate|boil down] {ref} [into|to] {json} [with|that has|holding|made of] {phrase}", "{polite}[convert|rewrite|transform|map|reduce|restructure] {ref} [to|as|into] {json} [with|having|containing|limited to] {phrase}",
    "[I need|we need|I want|I'd like|give me|I'm after|what I need is|it should be|we expect] {json} with {phrase} for {ref}", "[I'd like|I need|we want|we are after|I am looking for] {phrase} of {ref} {as}",
    "[could|can] {ref} be [turned|put|made] into {json} with {phrase}?", "make {json} [out of|from] {ref} [whose {nouns} {are}|with the {nouns}] {list}", "{json} with {phrase}, [made|taken|built|filled] from {ref}[|, please]",
    "{list} from {ref} {as}[|, please|, thanks| please]", "{polite}read {ref} and {verb} {phrase} {as}", "go through {ref}, {verb} {phrase} and put {them} in {json}", "{polite}look at {ref} and {verb} {phrase} {as}",
    "{list}: {polite}{verb} {them} from {ref} {as}", "[write|build|create|produce|compose|generate|prepare] {json} with {phrase} from {ref}", "store {phrase} of {ref} {as}", "{polite}{verb} {ending}, {as}",
    "the {nouns} I need from {ref} {are} {list}, {as}", "{as} {polite}{verb} {phrase} from {ref}", "{polite}{verb} what {ref} says [about|for|under] {phrase} {as}", "[reply|answer|respond] with {json} that has {phrase} of {ref}",
    "for {ref}, {polite}{verb} {json} with {phrase}", "{polite}summarize {ref} {as}, using {phrase}", "[how|what] would {ref} look like as {json} with {phrase}?", "there {are} {n} {nouns} to find in {ref}: {list}. Answer {as}",
)  # fmt: skip
_ASK = (
    "{polite}{verb} {phrase} from {ref}", "{polite}{verb} {ending}", "from {ref} {polite}{verb} {ending}", "{polite}{verb} from {ref} {ending}", "{polite}read {ref} and {verb} {phrase}", "I only need {list}", "I [just|only] want {phrase}",
    "[what|which] {are} {phrase} [here|in {ref}|according to {ref}]?", "what does {ref} [say about|give for|state for|tell us about] {phrase}?", "[we|I] need {phrase}", "[we are|I am] [interested in|looking for|after] {phrase}[| and in nothing else]",
    "[the {nouns}|wanted|needed|required|what matters|what I need|what we need]: {list}", "{polite}[use|keep to|stick to] {phrase}", "the {nouns} {are} {list}", "[there {are}|you will find] {n} {nouns} [in it|in {ref}]: {list}", "only {list} matter{s3}",
    "what I need [from {ref}|here], namely {list}, [is in there|stands somewhere in it]", "{polite}{verb} what [I|we] need, namely {list}", "{list} {are} [all|what] I need", "my table has the {nouns} {list}", "the {w} form has the {nouns} {list}",
    "our {w} sheet [has|wants|takes] {ending}", "do you see {phrase} in {ref}?", "{polite}{verb} {n} [things|{nouns}]: {list}", "the program [asks for|reads|takes|expects] {ending}", "{polite}tell [me|us] {phrase}", "the object has the {nouns} {list}",
    "I am missing {phrase} [here|so far]", "{polite}fill [in|out] {phrase}", "someone must have [put|written] {phrase} in there", "[limit|restrict] yourself to {phrase}", "as {nouns} [take|use] {list}", "under the {nouns} {list}, {polite}write what {ref} says",
)  # fmt: skip
_PHRASE = ("{list}",) * 6 + (
    "the {nouns} {list}", "the {nouns} {list}", "the {nouns} {list}", "{nouns} {list}", "the {nouns} [called|named|labelled] {list}", "exactly the {nouns} {list}", "only the {nouns} {list}", "just {list}", "only {list}", "{these} {nouns} ({list})",
    "the [following|listed|wanted] {nouns} ({list})", "the {n} {nouns} {list}", "the {nouns} ({list})", "the {w} {nouns} {list}", "its {nouns} ({list})", "nothing but {list}", "what belongs to the {nouns} {list}", "what goes under {list}",
)  # fmt: skip
_ENDING = (
    "the following {nouns}: {list}", "the following: {list}", "{these} {nouns}: {list}", "{these} {n} {nouns}: {list}", "{these}: {list}", "the {nouns}: {list}", "{nouns}: {list}", "what I list: {list}", "only {these}: {list}", "the {nouns} as I name them: {list}",
    "the {nouns} below: {list}", "the {n} {nouns} that the {w} table has: {list}", "{nouns} = {list}", "{these} {nouns} -> {list}", "{list}",
)  # fmt: skip
_AS = ("as {json}",) * 5 + (
    "in JSON", "in JSON", "in JSON format", "into {json}", "and answer with {json}", "and return {json}", "and give [it|them|the result] back as {json}", "formatted as {json}", "and write {json}", "(JSON only)", "(JSON)", "and respond with {json} only",
    "in the form of {json}", "written as {json}", "and output {json}", "and say it in JSON", "and put [it|them] in {json}", "using JSON", "as JSON and nothing else", "as {json}, no other words", "by means of {json}", "so that {json} comes out",
)  # fmt: skip
_FORMAT = (
    "[the|your] [output|answer|reply|response|result] [must|should|has to|needs to|is to|shall|may only] be {json}", "[answer|reply|respond] [with|in|using] {json}[ only| and nothing else| and no other words|, nothing around it|, no prose|, please|]", "[return|give|write|output|print|send|produce] {json}[ only|, no explanation|, please|]",
    "output: {json}", "[the format|format] is JSON", "JSON only", "JSON only, please", "{json} please", "json plz", "[valid|strict|plain] json only", "no prose, [just|only] {json}", "no explanation, [just|only] {json}", "[I|we] [want|need|expect|accept] {json}[ here| back| and no more|]", "make it {json}",
    "put [it all|everything|the result] in {json}", "[the answer|it] goes straight into a program, so [write|send] {json}", "[the|my] [parser|script|program|server|database] [only takes|only reads|expects|needs|wants] {json}", "nothing but {json}[, please|]", "it must be {json}", "[write|say] it as {json}",
    "[use|choose] JSON [for the answer|as the format]", "do not [explain|comment|chat|write sentences], [write|return|give] {json}", "{json}, on one line", "[what comes back|what you send] must be {json}", "in JSON[, please|, thanks|]", "as {json}[, please|, thank you|]", "the {w} tool reads {json}", "the {w} service takes {json}",
    "Answer format: {json}", "[everything|the whole answer] on one line, JSON", "[speak|answer] only in JSON", "one line, JSON, no words around it", "[the result|this] is read by a machine: {json}", "I can only use {json}", "anything but JSON is [useless|refused|thrown away|an error]", "JSON!!", "pls json", "JSON it is",
)  # fmt: skip
_OPENERS = (
    "[hi|hello|hey|hey there|hello nano|good morning|good evening|hi there|dear assistant|ok|so|right|well|ahoy][,|!]", "you are [a data extraction engine|a parser|an extraction tool|a careful clerk|a text-to-JSON converter|an information extractor|a {w} expert|a helper for {w} data|a machine that reads {w} texts|a quiet secretary|a form reader]",
    "act as [a parser|an extraction service|a data clerk|a {w} clerk]", "I am [filling|working on|cleaning up|testing] [a {w} table|a {w} spreadsheet|our {w} list|the {w} database]", "we [collect|sort|store|log|file] {w} [notes|texts|reports|messages] [for the {w} team|in a database|all day long|in the {w} office]",
    "my [boss|teacher|colleague|sister|client|neighbour|brother] needs this [for a {w} table|for the {w} project|soon|in a hurry]", "[small|quick|one more|another|easy|next] [task|job|one|request|question]", "I need [your help|a hand|some help][| with a {noun}]", "this [should be|is] [easy|quick|simple|a bit boring]",
    "[I have|I've got|here is|there is] a {noun} [for you|that I must file|which must go in a table|about {w} things|from the {w} department|to go through]", "information extraction", "task: read and extract", "data entry", "time to [tidy up|sort] the {w} [files|papers|folder]", "sorry to bother you", "[thanks for helping|nice to meet you]",
    "extraction, {w} domain", "for our {w} [archive|records|page|app], a {noun} has to be [typed in|stored|parsed]", "the {w} [system|importer|crawler|pipeline] [broke|is down|cannot read texts], so [it is up to you|you do it]", "[please|do] read carefully", "[pay attention|be careful|be exact|be quick], [please|ok]", "I hope you can read this",
)  # fmt: skip
_CHATTER = (
    "the {noun} [comes|came] from [the {w} department|a {w} folder|a web page|an old file|a colleague|our {w} channel]", "it is one of [many|hundreds|a few] [from the {w} folder|that we have]", "[it|the {noun}] may be [a bit messy|short|odd|badly typed|about {w} matters]", "there is [more|other stuff] in it[| that nobody needs| which you can skip| that is of no use]",
    "ignore [the rest|everything else|all other details|whatever else it says]", "I did not write it[ myself|]", "[somebody|a colleague|the {w} office] [typed|sent|wrote] it [in a hurry|by hand|without much care]", "we do this for every {w} {noun}", "it will be [stored|imported|loaded] [in a {w} table|by a {w} script|together with the {w} files]",
    "order matters, so keep mine", "[the {w} people|they] were very strict about [this|that]", "the {w} and the {w} parts [don't matter|can be skipped|are of no interest]", "[you can do it|it can't be hard|should be quick]", "[I tried|my {w} script tried] and failed", "it is about {w}, I think",
)  # fmt: skip
_REMARKS = (
    "nothing else", "thanks", "thanks!", "thank you", "thx", "use null for what is missing", "null if [missing|unknown|absent|not given|not there|the text does not say]", "if [something|one of them|anything] is [missing|not mentioned|not there], [use|write|put|set it to] null", "keys [exactly|just] as written", "keep the {keys} [exactly as they are|as I wrote them|unchanged|in this order]",
    "do not [invent|make up|guess|add] anything", "[copy|take] the values [as they are|word for word|unchanged|literally]", "no [other|extra|more] keys", "no [explanation|comments|markdown|code fences|prose|chit-chat]", "don't translate or rename [anything|the keys]", "same spelling [as mine|of the keys], please", "numbers [as numbers|without quotes]", "that's all", "[cheers|many thanks|much appreciated|that would be great]",
    "missing ones are null", "unknown means null", "never leave one out", "[all|each] of them must be there, null if need be", "one object, one line", "stay with the text", "be exact", "and no other words", "no more, no less", "ok?", "go", "[please|must be] exact", "every key once", "spelling counts", "without any [explanation|introduction|remarks]",
)  # fmt: skip
_SHAPED = (
    "{polite}fill in {shape}", "{polite}fill this in: {shape}", "{polite}fill this in from {ref}: {shape}", "use this [shape|form|structure|template|pattern|format]: {shape}", "[return|write|give me|output] {json} [of this form|like this|in this shape|with this structure]: {shape}", "[the answer|the output|it] [must|should|has to] look like {shape}",
    "[the answer|the output|your reply] [must|should|has to] [match|follow|fit] [this|the {w}] [schema|template|structure|type]: {shape}", "complete {shape} with what {ref} says", "[schema|template|output format|expected output|format|structure|target|result|answer format|JSON]: {shape}", "[answer|reply|respond] with {shape}, filled [in|from {ref}]",
    "{polite}{verb} [the data|what is needed|everything needed] from {ref} as {shape}", "[map|convert|turn|parse] {ref} [to|into] {shape}", "[our|the|my] {w} [system|service|page] [takes|expects|reads] {shape}", "{polite}replace the blanks: {shape}", "I want {shape} for {ref}", "{shape} [is what I need|- fill it in|<- fill this in, please]",
)  # fmt: skip
_BLOCKS = (
    "{polite}{verb} [the following|{these}|{these} {nouns}|the following {nouns}] from {ref} {as}:", "{polite}{verb} [the following|{these}|the following {nouns}]:", "[the {nouns}|{nouns}|wanted|needed|required|keys|fields|slots|columns|I only need|what I need|schema|properties to find]:", "{json} with [the {nouns}|{these}|{these} {n} {nouns}]:",
    "{polite}[fill in|answer|complete] {these} [from {ref}|]:", "the object [must have|has|needs] [the {nouns}|{these} {nouns}]:", "[one object|one line] with the {n} {nouns}:", "from {ref} I need [the {nouns}|{these}|{these} {nouns}]:", "[the {w} form|our table|the record] has {these} {nouns}:",
)  # fmt: skip
_TERSE = (
    "{list} -> json", "json: {list}", "json plz: {list}", "{list} as json", "json ({list})", "{list}, json", "json, {nouns}: {list}", "{nouns} {list}, json", "to json: {list}", "{list} in json pls", "=> json {list}", "json w/ {list}", "need json: {list}", "{nouns}: {list} (json)", "extract: {list}. json", "{list} | json", "json pls - {list}", "json only: {list}",
    "just {list}, json", "json object, {list}", "out: json. {nouns}: {list}", "{list}? json", "json // {list}", "parse -> {list} (json)",
)  # fmt: skip
_LABELS = (
    ("Fields", "Keys", "Columns", "Slots", "Properties", "Wanted", "Needed", "To find", "Output keys", "Required", "JSON keys", "Extract", "Attributes", "Get", "Target keys", "Members", "Return"),
    ("Format", "Output", "Answer", "Reply", "Output format", "Style", "Reply format", "Result", "Type of answer"),
    ("Task", "Job", "Goal", "Instruction", "What to do", "Mission", "Role"),
    ("Rules", "Note", "Notes", "Remark", "Important", "Hint", "Constraint"),
)  # fmt: skip
_TASKS = ("[extract|find|get|copy] the {nouns}", "extraction", "information extraction", "read {ref}[| and answer in JSON]", "text to JSON", "{w} data extraction", "fill the {w} table", "parse {ref}", "slot filling", "make a record of {ref}")  # fmt: skip
_TEXT_LABELS = (
    "[Text|Text|Text|Input|Input|Message|Source|Document|Passage|Content|Note|Data|Raw text|Raw|Original|Source text|The text|INPUT|TEXT|text|input|Quote]:", "[Here it is|Here it comes|Here you go|Here goes|This is it|There you are|It reads|It says|It goes like this|Now the text|Have a look|The text follows]:",
    "[Here is|Here's|This is|Now] the {noun}:", "The {noun} [reads|says|goes|is]:", "{Noun}:", "### [Text|Input|Source]\n", "**[Text|Input]:**", "[Text|Input] ->", "[text|txt|src] =",
)  # fmt: skip
_WRAPS = (
    ('"', '"'), ('"', '"'), ('"', '"'), ("'", "'"), ("“", "”"), ('"""\n', '\n"""'), ('"""\n', '\n"""'), ('"""', '"""'), ("'''\n", "\n'''"), ("```\n", "\n```"), ("```\n", "\n```"), ("---\n", "\n---"), ("---\n", "\n---"), ("-----\n", "\n-----"), ("<text>\n", "\n</text>"), ("<text>", "</text>"),
    ("<input>\n", "\n</input>"), (">>>\n", "\n<<<"), ("<<", ">>"), ("===\n", "\n==="), ("***\n", "\n***"), ("[", "]"), ("(", ")"), ("«", "»"), ("~~~\n", "\n~~~"), ("<<<\n", "\n>>>"), ("BEGIN\n", "\nEND"), ("[text]\n", "\n[/text]"), ("####\n", "\n####"), ("<document>\n", "\n</document>"),
)  # fmt: skip
_REFS = (
    ("this {noun}", "this {noun}", "the {noun}", "this", "that {noun}", "my {noun}"),
    (
        "the {noun} above",
        "the above {noun}",
        "the {noun} that I gave",
        "what I pasted",
        "the above",
        "the preceding {noun}",
    ),
    (
        "the {noun} below",
        "the following {noun}",
        "what follows",
        "the {noun} at the end",
        "the {noun} that follows",
        "the following",
    ),
)


def asked(rng: random.Random, text: str, fields: dict[str, str]) -> str:
    """A request for the `fields` (keys, in order, with their JSON types) of a text."""
    parts = _parts(rng)
    joint = rng.choices((" ", "\n", "\n\n"), (64, 24, 12))[0]
    where = rng.choices((0, len(parts), rng.randrange(len(parts) + 1)), (32, 46, 22))[0]
    near = 1 if where == 0 else 2 if where == len(parts) else 0
    careless = rng.random()
    filled = [_filled(rng, part, fields, near, careless < 0.2) for part in parts]
    if 0.1 < careless < 0.35 and joint != " ":  # within a line, only a full stop says where the keys end
        filled = [part if part.endswith("...") else part.removesuffix(".") for part in filled]
    before, after = _together(filled[:where], joint), _together(filled[where:], joint)
    return _around(rng, before, text, after)


def _parts(rng: random.Random) -> list[str]:
    """The patterns of an instruction, a sentence each, in their order."""
    kind = rng.choices((_one, _two, _shaped, _blocks, _labelled, _terse), (27, 26, 14, 15, 9, 9))[0]
    parts = kind(rng)
    if kind in (_terse, _labelled):
        return [rng.choice(_OPENERS), *parts] if rng.random() < 0.12 else parts
    if rng.random() < 0.28:
        parts.insert(rng.randrange(len(parts) + 1), rng.choice(_CHATTER))
    if rng.random() < 0.42:
        parts.insert(0, rng.choice(_OPENERS))
    if rng.random() < 0.42:
        parts.append(rng.choice(_REMARKS))
        if rng.random() < 0.2:
            parts.append(rng.choice(_REMARKS))
    return parts


def _one(rng: random.Random) -> list[str]:
    return [rng.choice(_ONE)]


def _two(rng: random.Random) -> list[str]:
    return _either(rng, [rng.choice(_ASK), rng.choice(_FORMAT)])


def _shaped(rng: random.Random) -> list[str]:
    part = rng.choice(_SHAPED)
    return _either(rng, [part, rng.choice(_FORMAT)]) if rng.random() < 0.6 or "{json}" not in part else [part]


def _blocks(rng: random.Random) -> list[str]:
    part = rng.choice(_BLOCKS)
    if "{json}" in part or "{as}" in part:
        return [part + "\n{block}"]
    return _either(rng, [part + "\n{block}", rng.choice(_FORMAT)])


def _terse(rng: random.Random) -> list[str]:
    part = rng.choice(_TERSE)
    return [part, rng.choice(_REMARKS)] if rng.random() < 0.15 else [part]


def _labelled(rng: random.Random) -> list[str]:
    """Lines such as `Fields: a, b` and `Format: JSON`, in any order."""
    fields, output, task, rules = (rng.choice(labels) for labels in _LABELS)
    lines = [
        (fields, rng.choice(("{list}", "{list}", "{list}", "{shape}", "\n{block}"))),
        (output, rng.choice(("{json}", "JSON", "{json} only", "JSON, one line", "{json}, no prose"))),
    ]
    if rng.random() < 0.35:
        lines.append((task, rng.choice(_TASKS)))
    if rng.random() < 0.25:
        lines.append((rules, rng.choice(_REMARKS)))
    rng.shuffle(lines)
    style = rng.choice(
        ("{l}: ",) * 6
        + ("{u}: ", "**{l}:** ", "## {l}\n", "\1{l}\2 ", "{s} = ", "- {l}: ", "{l} -> ", "# {l}: ", "<{s}>")
    )
    made = []
    for label, value in lines:
        small = label.lower().replace(" ", "_")
        head = style.replace("{l}", label).replace("{u}", label.upper()).replace("{s}", small)
        head = head.rstrip() if value.startswith("\n") else head
        made.append(f"\n{head}{value}" + (f"</{small}>" if head.startswith("<") else ""))
    return made


def _either(rng: random.Random, parts: list[str]) -> list[str]:
    return parts if rng.random() < 0.7 else parts[::-1]


def _filled(rng: random.Random, part: str, fields: dict[str, str], near: int, small: bool) -> str:
    """The pattern with its words, a capital and a full stop, then with the keys, which stay as they are."""
    own_line = part.startswith("\n")  # a label's, which has no full stop
    polite = rng.choice(_POLITE) if part.startswith("{polite}") else rng.choice(("", "", "please "))
    text = choose(rng, part.removeprefix("\n").replace("{polite}", polite))
    refs = _REFS[rng.choice((0, near))]
    for name, options in (("as", _AS), ("phrase", _PHRASE), ("ending", _ENDING), ("verb", _VERBS), ("json", _JSON), ("ref", refs), ("noun", _TEXT_NOUNS)):  # fmt: skip
        while f"{{{name}}}" in text:
            text = text.replace(f"{{{name}}}", choose(rng, rng.choice(options)), 1)
    for name, value in _agreeing(rng, len(fields)).items():
        text = text.replace(f"{{{name}}}", value)
    while "{w}" in text:
        text = text.replace("{w}", _word(rng, fields), 1)
    text = _AN.sub("an", text)
    if small:
        text = text.lower()
    elif text[:1].islower() and not own_line and not text.startswith("json"):
        text = text[0].upper() + text[1:]
    if polite.startswith(("can", "could", "would", "will")) and text[-1] not in "?:" and "\n" not in text:
        text += "?"
    elif (text[-1].isalnum() or text[-1] in "})") and not own_line and not text.endswith(("{block}", "{shape}")):
        text += rng.choice((*"." * 9, "!"))
    for name, make in (("list", inline), ("block", block), ("shape", shape)):
        if f"{{{name}}}" in text:
            text = text.replace(f"{{{name}}}", make(rng, fields), 1)
    return ("\n" if own_line or "\n" in text else "") + text.replace("\1", "[").replace("\2", "]")


def _agreeing(rng: random.Random, count: int) -> dict[str, str]:
    """What depends on whether one field is asked for or several."""
    noun = rng.choice(_NOUNS)
    counted = rng.choice((str(count), ("one", "two", "three", "four", "five", "six", "seven", "eight")[count - 1]))
    if count == 1:
        return {"nouns": noun, "keys": noun, "these": "this", "are": "is", "them": "it", "s3": "s", "n": counted}
    nouns = _PLURALS.get(noun, noun + "s")
    return {"nouns": nouns, "keys": nouns, "these": "these", "are": "are", "them": "them", "s3": "", "n": counted}


def _word(rng: random.Random, fields: dict[str, str]) -> str:
    """An ordinary word that is in none of the keys."""
    known = " ".join(map(in_words, fields)).split()
    while (word := rng.choice(content_words(6000))) in known:
        pass
    return word


def _together(parts: list[str], joint: str) -> str:
    """A part that opens with a line break, or follows one that ends in a list, gets a line of its own."""
    made = ""
    for part in parts:
        broken = part.startswith("\n") or (made and ("\n" in made.rpartition("\n\n")[2] and joint == " "))
        between = "\n" if broken and joint == " " else joint
        made += (between if made else "") + part.removeprefix("\n")
    return made


def _around(rng: random.Random, before: str, text: str, after: str) -> str:
    """The text among the instruction, marked off by a label, by quotes, or by a line of its own."""
    label = ""
    if rng.random() < (0.2 if not before else 0.55):
        label = choose(rng, rng.choice(_TEXT_LABELS))
        noun = choose(rng, rng.choice([each for each in _TEXT_NOUNS if "{" not in each]))
        label = label.replace("{noun}", noun).replace("{Noun}", noun[0].upper() + noun[1:])
    bare = rng.random() < (0.5 if not (before and after) else 0.3)
    risky = "\n" in before and not label  # a list right before a text could be taken for its first lines
    left, right = ("", "") if bare and not risky else rng.choice(_WRAPS)
    if left in ('"', "“", "'") and left.replace("“", '"') in text:
        left, right = '"""\n', '\n"""'
    marked = bool(left) and "\n" not in text
    own = "\n" in left
    lead = ""
    if label:
        lead = (
            label if label.endswith("\n") else label + ("\n" if own or "\n" in text else rng.choice((" ", " ", "\n")))
        )
    elif before and before[-1] == "." and rng.random() < 0.3 and "\n" not in before:
        before = before[:-1] + ":"
    gap = rng.choice(("\n", "\n\n", "\n\n"))
    if not own and (before[-1:] in ".:?!" and "\n" not in before):
        gap = rng.choice((" ", " ", "\n", "\n\n"))
    if not label and not left and "\n" in text:
        gap = "\n\n"
    end = rng.choice(("\n", "\n\n")) if own or not marked else rng.choice((" ", "\n", "\n\n"))
    end = end if left else "\n\n"
    return (before + gap if before else "") + lead + left + text + right + (end + after if after else "")
