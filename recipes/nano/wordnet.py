"""Near words out of WordNet's files, checked against word vectors, for synonyms.py.

WordNet says what may mean the same, in any of a word's senses; the vectors, whether it mostly does; GROUPS, what both
miss of the words that people use to programs.
"""

# ruff: noqa: E501, SIM905 (lists of words)

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from recipes.nano import vectors, words

MOST = 6  # near words of one word
LEAST = -0.33  # what WordNet and the vectors together must say of two words
SAME, ABOVE, BELOW = 0.35, 0.0, -0.15  # what it adds that two words mean the same, or one a kind of the other
SELDOM, NEVER = 0.12, 0.03  # of a word's uses: such parts of speech get no near words; are passed over

# Words of measure and number are values or half of one; the others have near words of little sense.
_KEPT = frozenset(
    """second minute hour day week month year decade century quarter today tomorrow yesterday tonight morning afternoon evening night noon midnight
    monday tuesday wednesday thursday friday saturday sunday january february march april june july august september october november december
    zero three four five seven eight nine eleven twelve twenty thirty forty fifty hundred thousand million billion dozen half double single twice
    dollar euro pound cent penny mile meter metre inch foot feet gram kilo litre liter degree celsius percent left right north south east west
    male female father mother brother sister wife husband true false first third last next like want name help hello sorry thanks good very well yes
    know think have being person people thing things kind sort lot bit way ways look looks looking going getting making taking giving having
    doing come went gone goes keep kept seem still even ever never always often soon later early late enough quite rather almost already maybe
    called word line point part side case fact mind brain turn turned turning hand head work works working""".split()
)
# Of the same thing, in the words of requests: verbs, then nouns, then adjectives.
_GROUPS = {
    "v": """book reserve|buy purchase order|cancel drop|delete remove erase|remove delete erase|reach contact|continue resume|miss skip|follow track pursue|drop cancel|find locate seek search|fetch retrieve obtain|schedule arrange plan|send deliver transmit
    create build generate produce|compose draft write|update revise modify change|edit modify revise alter|check verify inspect examine|compute calculate determine
    begin start launch|stop halt quit end|finish complete conclude|pause suspend halt|repair mend restore|assign allocate|hire recruit employ|rent lease hire
    sell trade|gather collect assemble|join attend enter|leave exit depart|share distribute|publish release post issue|post publish submit|submit file lodge|order request purchase buy|play perform run|reset restore|remind prompt alert
    approve accept authorize confirm|reject refuse decline deny|choose select pick|pick select choose|compare contrast match|convert transform change translate
    shift move transfer|transfer move shift|record register note log|store save preserve|save store preserve|raise increase lift boost|increase raise expand boost|reduce decrease lower cut
    lower reduce decrease|measure assess gauge|estimate assess predict|predict forecast project|explain describe clarify|describe explain outline|report announce notify
    notify inform alert warn|inform notify tell|track monitor follow trace|monitor track watch observe|watch view observe|translate render interpret|combine merge join unite
    merge combine unite|split divide separate|attach connect link join|connect link join attach|open unlock|close shut|lock secure seal|block prevent stop|enable activate allow permit
    activate enable trigger|adjust modify alter tune|organize arrange sort|sort arrange order|classify categorize|rank rate grade order|rate score grade|review evaluate assess examine
    evaluate assess review judge|test try examine check|clean wash wipe|dispatch send ship|ship send deliver dispatch|refund repay return|repay refund|pay settle|charge bill invoice
    invite ask summon|call phone ring|contact reach call phone|reply respond answer|answer reply respond|request ask seek|subscribe enrol register|register enrol record
    upload send load|download fetch|copy duplicate clone|duplicate copy clone|replace substitute swap exchange|exchange swap trade|swap exchange switch trade|install fit mount
    prepare ready arrange|cook prepare make|visit see tour|travel journey go|drive steer ride|carry transport bring|lend loan|borrow loan|donate give contribute|award grant give
    analyze examine study inspect|examine inspect study check|investigate examine explore probe|count tally number|display show present|list enumerate itemize|summarize outline condense
    remember recall|train teach coach|teach instruct train|learn study|deposit place put|withdraw remove take|extend prolong lengthen expand|renew extend|delay postpone defer|postpone delay defer
    water irrigate|plant sow|grow raise cultivate|heat warm|cool chill|dim lower darken|mute silence|scan search inspect|print publish|sign endorse|trim cut clip|arrange organize plan
    set configure adjust|reset restore|leave exit depart|write compose draft pen|read scan|hold keep|rate score grade judge|limit cap restrict bound
    switch change swap toggle|flag mark report|stay remain|enter input insert|block ban bar stop|note record write|mark label tag|sync update match|charge bill|add insert include append
    return restore|cover include|apply request use|ask query question|brew make prepare|claim demand request|clear empty erase|correct fix amend|deploy launch release|detect find spot
    ban block forbid|discard remove trash|dispute challenge contest|empty clear|encrypt encode protect|execute run perform|export save extract|import load bring|feed nourish|fill load
    filter screen sift|forward send pass|freeze stop suspend|grab get take|guess estimate|handle manage process|hide conceal mask|highlight mark stress|host hold run|identify recognize name
    ignore skip disregard|implement apply execute|improve better enhance|include add contain|interview question|keep hold retain|label tag mark|load fill|lock secure seal|log record note
    mention cite|mow cut trim|name label|nominate propose name|observe watch|offer propose|paint color|park leave|pay settle|plug connect|polish shine|pull draw|push press|quote cite
    rebuild restore|recommend suggest propose|recover restore retrieve|redeem use exchange|reduce lower cut decrease|refill replenish|reject refuse deny|relocate move transfer|rename retitle
    reorder rearrange|rescue save|resolve solve settle|restart reboot resume|resume continue restart|retire withdraw|reverse undo|revoke cancel withdraw|roll spin|rotate turn spin|route direct send
    sample try taste|serve provide|shorten cut trim|sing perform|skip omit pass|solve resolve|speak talk|spell write|stream play|strike hit|suggest recommend propose|supply provide
    support back|suspend pause halt|talk speak chat|terminate end stop|toggle switch|trade exchange swap|undo reverse|unite join|use apply employ|vote choose|wait stay|walk stroll|wrap pack cover
    book reserve""",
    "n": """price cost charge fee|cost price expense charge|fee charge price|bill invoice charge|invoice bill statement|receipt record ticket|meeting appointment conference gathering
    appointment meeting date|event occasion|reservation booking|booking reservation|message note text letter|note message comment memo|comment remark note|remark comment|email mail message
    mail post email|picture photo image|photo picture image photograph|image picture photo|film movie picture|movie film picture|song track tune|track song tune|play drama show
    city town place|town city village|place location spot site|location place site position|site location place|address location|shop store outlet|store shop market|job position task post
    task job assignment duty|job employment work|salary pay wage income|wage salary pay|employee worker staff|worker employee laborer|staff personnel employees|boss manager chief|manager boss director
    client customer buyer|customer client buyer shopper|guest visitor|visitor guest|passenger traveler rider|trip journey voyage tour|journey trip voyage|flight trip plane|car vehicle auto automobile
    vehicle car automobile|truck lorry vehicle|road street route|street road avenue|route path way road|house home residence|home house residence|apartment flat unit|flat apartment|room space
    doctor physician medic|illness disease sickness|disease illness condition|medicine drug medication|medication medicine drug|drug medicine medication|symptom sign|teacher instructor tutor
    student pupil learner|lesson class session|class course lesson|course class program|test exam examination|exam test examination|grade mark score|score mark points result|result outcome finding
    error fault mistake bug|mistake error fault|problem issue trouble|issue problem matter|bug error fault|answer reply response|reply answer response|question query inquiry|query question request
    file document record|document file paper|folder directory|directory folder|list catalog|record entry file|entry record item|item article object product|product item article goods
    goods products items merchandise|package parcel box|parcel package box|box container case|quantity amount number|amount quantity sum total|sum total amount|total sum amount|size dimensions magnitude
    speed velocity pace rate|distance length range|height elevation altitude|elevation height altitude|weight mass|duration length period time|length duration extent|period span term duration
    deadline limit date|plan scheme program|schedule timetable agenda plan|timetable schedule|reminder note alert|alarm alert warning|alert warning notice alarm|notice announcement notification
    report account statement summary|summary outline overview abstract|overview summary|description account|title heading name|heading title|label tag mark|tag label|category class type group
    type kind sort category|group team set|team group crew squad|club society association|company firm business corporation|firm company business|business company firm|account profile
    user member|member participant|participant entrant member|password passcode|code cipher|key password|link connection|server host machine|machine device appliance|device gadget machine instrument
    tool instrument device|computer machine pc|screen display monitor|display screen|phone telephone mobile|lamp light|light lamp|heating heater|temperature heat warmth|weather conditions
    forecast prediction outlook|prediction forecast|rain rainfall shower|wind breeze|food meal dish|meal dinner lunch dish|dish meal plate|recipe formula|ingredient component element|drink beverage
    book volume text novel|author writer|writer author|article story piece essay|story tale narrative|chapter section|section part division|law statute rule act|rule law regulation|contract agreement deal
    agreement contract deal|loan credit advance|debt loan liability|tax levy duty|budget allowance|payment fee remittance|discount reduction rebate|profit gain earnings|income earnings revenue|revenue income
    stock inventory supply|share stock|currency money|money cash funds|cash money|gift present|present gift|party celebration gathering|game match contest|match game contest|contest competition match
    garden yard|plant flower|animal creature beast|pet animal|dog hound puppy|cat kitten|field area domain|area zone region|zone area region|region area district|border boundary edge
    damage harm injury|accident crash incident|incident event accident|delay wait|version edition release|copy duplicate reproduction|name title|language tongue|sound noise audio|noise sound|volume loudness level
    claim demand|complaint grievance objection|opinion view belief|goal aim target objective|target goal objective aim|reason cause motive|method way approach technique|phase stage step
    sample specimen example|example instance sample|model pattern version|pattern design model|shape form figure|color hue shade|fabric cloth material|clothes clothing garments|shoe boot
    card pass|ticket pass admission|number count figure|code cipher|library archive collection|robot machine|train railway|bike bicycle cycle|oven stove cooker|container box vessel
    ride trip lift|rental lease hire|parking garage|text words passage|name title label|door gate entrance|page sheet|leave holiday vacation|basket cart|hold delay|lock bolt latch|row line|light lamp
    rate price|tank container|level grade stage|quote estimate|policy rules plan|news headlines|insurance coverage cover|chart graph diagram|graph chart diagram|timer clock|clock timer|video clip recording
    clip video|cart basket trolley|taxi cab|cab taxi|queue line|limit maximum cap ceiling|music songs tunes|playlist mix|claim demand|survey poll questionnaire|poll survey vote|hotel inn lodging
    blinds shutters shades curtains|power electricity energy|energy power electricity|electricity power energy|priority importance urgency|newsletter bulletin|letter mail|service help|vacuum hoover
    sentence phrase|phrase expression|owner holder proprietor|delivery shipment|shipment delivery cargo|subscription membership|membership subscription|office workplace|flag mark banner|driver chauffeur
    stay visit|recording tape audio|chat conversation talk|conversation talk chat|history past record|shopping groceries purchases|certificate diploma|diploma degree certificate|mode setting
    setting option|option choice setting|battery cell|value amount figure worth|pause break|paper document sheet|episode instalment|sheet page|channel station|holiday vacation break|vacation holiday
    offer deal proposal|blog site|website site page|update revision news|application program app|app application program|program application software|station stop|search hunt|start beginning
    end finish close|order request|purchase order|seat chair place|room space|status state condition|calendar diary agenda|diary journal|journal diary log|log record journal|user person
    index list catalog|points score credits|score points result|word term|term period|request query|address location|return comeback|flight plane|water|customer client buyer
    article story piece|home house residence|issue problem topic|client customer buyer|zone area region|contact person friend|survey poll|meeting appointment conference gathering|port harbor dock
    campaign drive effort|parcel package box|test exam trial|machine device|member participant|image picture photo|language tongue|cost price expense|membership subscription|episode show
    bottle flask|cup mug|bag sack|box case crate|bed couch|wall fence|floor storey level|ceiling roof|kitchen cookhouse|tap faucet|pipe tube|wire cable|cable wire cord|engine motor|motor engine
    tyre tire wheel|fuel gas petrol|petrol fuel gas|ship boat vessel|boat ship vessel|sea ocean|ocean sea|forest woods|mountain peak hill|hill mount|river stream|beach shore coast|island isle
    storm tempest|snow snowfall|sky heavens|star sun|earth world globe|country nation state land|nation country state|citizen resident|resident inhabitant citizen|population people
    crime offence offense|police cops|prison jail|judge referee|lawyer attorney counsel|attorney lawyer|court tribunal|army military forces|soldier trooper|weapon arm gun|war conflict|fight battle
    patient case|nurse caregiver|hospital clinic|clinic hospital practice|surgery operation|operation procedure|treatment therapy cure|therapy treatment|diet food|exercise workout training|workout exercise training
    muscle strength|body frame|child kid youngster|kid child|baby infant|parent guardian|family relatives household|friend buddy pal|neighbor resident|partner companion|colleague coworker associate
    king ruler monarch|leader chief head|president leader|candidate applicant nominee|applicant candidate|volunteer helper|assistant helper aide|expert specialist|engineer technician|artist painter creator
    singer vocalist performer|band group|concert show gig|theater playhouse stage|museum gallery|gallery museum|painting picture canvas|sculpture statue|novel book|poem verse|dictionary lexicon
    fault defect error|defect fault flaw|rest|people|camera cam|school academy college|access entry|curtains blinds|tutor teacher|spelling writing|fridge refrigerator|speaker loudspeaker|warning alert caution|danger risk hazard|risk danger hazard|safety security|security safety protection|permission approval consent|permit license
    license permit|rights permissions|role function position|skill ability talent|experience background|interview conversation|career profession job|profession occupation job|occupation job profession
    department division section|headquarters base|factory plant works|warehouse depot storehouse|supplier vendor provider|vendor seller supplier|seller vendor|buyer purchaser customer|investment asset
    interest return|bank lender|bond security|expense cost spending|donation gift contribution|charity foundation|coupon voucher discount|voucher coupon|sale deal|bargain deal|bid offer|auction sale
    brand label make|label tag sticker|logo emblem symbol|symbol sign mark|sign mark symbol|signal sign|pixel dot|photo picture image|font typeface|background backdrop|layout arrangement design|draft sketch outline
    sketch drawing draft|drawing sketch picture|map chart plan|guide manual handbook|manual guide handbook|tip hint suggestion|hint tip clue|advice guidance counsel|help assistance aid|rule law regulation
    database store|backup copy|cluster group|node point|network net web|port socket|request query|user account|session meeting|token pass|variable parameter|function routine|script program|folder directory""",
    "a": """quick fast rapid|fast quick rapid|cheap inexpensive affordable|expensive costly|big large huge|large big|small little tiny|current present existing|recent latest new|latest newest recent|correct right accurate
    important major key|urgent pressing|broken damaged faulty|damaged broken|empty vacant blank|vacant empty free|available free open|main principal chief|nearby close near|near close|complete full entire|entire whole complete
    initial first original|final last|annual yearly|daily everyday|sick ill|ill sick|healthy fit|famous celebrated renowned|angry furious mad|happy glad pleased|difficult hard tough|easy simple|safe secure|hidden secret
    full complete whole|free available open|valid correct legitimate|extra additional spare|near close nearby|clean tidy spotless|dirty filthy soiled|hot warm|cold chilly cool|warm hot|wet damp|dry arid|loud noisy
    quiet silent|bright light|dark dim|heavy weighty|strong powerful sturdy|weak feeble frail|long lengthy|short brief|high tall|deep profound|wide broad|narrow thin|thick dense|thin slim|young youthful
    old ancient aged|early premature|late delayed|rich wealthy|poor needy|good fine|great big|terrible awful dreadful|wrong incorrect mistaken|true real|false untrue|public open|private personal secret
    personal private own|official formal|legal lawful|illegal unlawful|dangerous risky hazardous|rare scarce unusual|common usual ordinary|usual normal regular|normal regular usual|strange odd weird|special particular
    popular favorite|favorite preferred beloved|active live|automatic automated|digital electronic|foreign overseas|local nearby|outdoor outside|indoor inside|maximum highest top|minimum lowest least|average mean typical""",
}


@dataclass(frozen=True, slots=True)
class WordNet:
    """Senses of words, `n00012345` each: the words of one, those next to it, and how much of a word's uses it is."""

    words_of: dict[str, list[str]]
    next_to: dict[str, list[tuple[float, str]]]
    share: dict[str, dict[str, float]]  # by word and sense
    uses: dict[str, dict[str, int]]  # by word and part of speech


def read(folder: Path) -> WordNet:
    """data.* and index.sense of a `dict` folder."""
    words_of: dict[str, list[str]] = {}
    next_to: dict[str, list[tuple[float, str]]] = {}
    for part, name in zip("nvar", ("noun", "verb", "adj", "adv"), strict=True):
        for line in _lines(folder / f"data.{name}"):
            fields = line.split(" | ")[0].split()
            end = 4 + 2 * int(fields[3], 16)
            words_of[part + fields[0]] = [re.sub(r"\(.*\)", "", word) for word in fields[4:end:2]]
            pointers = zip(fields[end + 1 :: 4], fields[end + 2 :: 4], fields[end + 3 :: 4], strict=False)
            next_to[part + fields[0]] = [
                (BELOW if kind == "~" else ABOVE, part + place)
                for kind, place, other in pointers
                if kind in "@~&" and other.replace("s", "a") == part
            ]
    counts: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for line in _lines(folder / "index.sense"):
        key, place, _, count = line.split()
        word, _, rest = key.partition("%")
        part = "nvara"[int(rest[0]) - 1]
        counts[word, part][part + place] = int(count) + 1
    share: dict[str, dict[str, float]] = defaultdict(dict)
    uses: dict[str, dict[str, int]] = defaultdict(dict)
    for (word, part), senses in counts.items():
        uses[word][part] = sum(senses.values())
        share[word] |= {sense: count / uses[word][part] for sense, count in senses.items()}
    return WordNet(words_of, next_to, share, uses)


def _lines(path: Path) -> Iterator[str]:
    return (line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith(" "))


class Alike:
    """How alike the vectors of two words are, beside what each is to its ten nearest ones: common words are near many."""

    def __init__(self, known: tuple[str, ...]) -> None:
        self.vectors = {word: vector for word, vector in vectors.load().items() if word in set(known)}
        table = np.stack(list(self.vectors.values()))
        crowd = np.sort(table @ table.T, axis=1)[:, -11:-1].mean(1)
        self.crowd = dict(zip(self.vectors, map(float, crowd), strict=True))

    def __call__(self, one: str, other: str) -> float:
        if one not in self.vectors or other not in self.vectors:
            return -1.0
        return 2 * float(self.vectors[one] @ self.vectors[other]) - self.crowd[one] - self.crowd[other]


def _near(net: WordNet, alike: Alike, word: str, part: str, known: frozenset[str]) -> list[str]:
    """The nearest first; where a group has the word, its own alone: such words have too many senses."""
    if word in _grouped(part):
        return _grouped(part)[word]
    found: dict[str, float] = {}
    for sense, share in net.share[word].items():
        if sense[0] != part:
            continue
        for relation, other in ((SAME, sense), *net.next_to[sense]):
            for one in net.words_of[other]:
                if one != word and one in known and net.share[one].get(other) and not (part in "na" and _is_doing(one)):
                    weight = relation + 0.3 * math.log10(share * net.share[one][other]) + alike(word, one)
                    found[one] = max(weight, found.get(one, LEAST))
    ranked = sorted((one for one, weight in found.items() if weight > LEAST), key=lambda one: (-found[one], one))
    return ranked[:MOST]


def _is_doing(word: str) -> bool:
    """As "pressing" does for "press", or "operating" for "operational": right in the dictionary, seldom in a sentence."""
    return word.endswith(("ing", "ed"))


@cache
def _grouped(part: str) -> dict[str, list[str]]:
    """The first word of each group with the others."""
    found: dict[str, list[str]] = {}
    for group in re.split(r"[|\n]", _GROUPS.get(part, "-")):
        first, *others = group.split()
        found[first] = list(dict.fromkeys((*found.get(first, ()), *others)))
    return found


def thesaurus(folder: Path) -> list[str]:
    """The lines of synonyms.tsv."""
    net = read(folder)
    common = tuple(dict.fromkeys((*words.frequent(8000), *(word for part in _GROUPS for word in _grouped(part)))))
    alike = Alike(common)
    kept = _KEPT | frozenset(words.GRAMMAR)
    known = frozenset(word for word in common if len(word) > 3 and not {word, word.removesuffix("s")} & kept)
    written = frozenset(words.frequent(25000)) - kept
    rows: dict[tuple[str, str], list[str]] = defaultdict(list)
    for word in (word for word in common if word in known and word in net.uses):
        for part, uses in net.uses[word].items():
            share = uses / sum(net.uses[word].values())
            if share < NEVER:
                continue
            meant = share >= SELDOM and part != "r" and not (part == "a" and _is_doing(word))
            near = _near(net, alike, word, part, known) if meant or word in _grouped(part) else []
            for form, made in _forms(word, part).items():
                if made in written:
                    also = (_forms(one, part)[form] for one in near)
                    rows[made, form] += [one for one in also if one in written and one not in rows[made, form]]
    useful = {word for (word, _), near in rows.items() if near}
    return [f"{word}\t{form}\t{' '.join(near[:MOST])}" for (word, form), near in sorted(rows.items()) if word in useful]


def _forms(word: str, part: str) -> dict[str, str]:
    """The word and its regular inflections; whether such a word exists is for others to say."""
    if part == "n":
        return {"n": word, "ns": _plural(word)}
    if part != "v":
        return {part: word}
    stop = word[-1] == "e" and word[-2:] not in ("ee", "oe", "ye")
    base = word[:-1] if stop else word + word[-1] if _doubles(word) else word
    past = re.sub(r"(?<=[^aeiou])y$", "i", base) + "ed"
    return {"v": word, "ing": base + "ing", "ed": past}


def _doubles(word: str) -> bool:
    """plan, planned; one syllable only."""
    return re.fullmatch(r"[^aeiou]*[aeiou][^aeiouwxy]", word) is not None


def _plural(word: str) -> str:
    if re.search(r"(s|x|z|ch|sh)$", word):
        return word + "es"
    return re.sub(r"(?<=[^aeiou])y$", "ie", word) + "s"
