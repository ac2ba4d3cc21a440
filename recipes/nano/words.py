"""Word lists: what texts are made of, and what people ask a model about that it cannot help with."""

# ruff: noqa: E501, SIM905 (a wording stands on one line)

from __future__ import annotations

from functools import cache

from wordfreq import top_n_list

COMMON = """
a able about above across add after afternoon again against age ago agree air all allow almost alone along already also always am among
an and animal another answer any anyone anything appear apple are area arm army around arrive art as ask at away baby back bad bag ball
bank bar base be bear beat beautiful became because become bed been before began begin behind being believe below best better between
big bird black blood blue board boat body bone book born both bottle bottom box boy branch bread break breakfast bridge bright bring
broken brother brown build building burn bus business busy but buy by cake call came can car card care carry case cat catch cause
center central chair chance change cheap check cheese chicken child children choose church circle city class clean clear clever climb
clock close clothes cloud coat coffee cold color come common company complete computer control cook cool copy corn corner correct cost
could count country course cover cow create cross cry cup cut daily dance danger dark daughter day dead deal dear decide deep desk
did die different difficult dinner direct dirty do doctor does dog done don't door doubt down draw dream dress drink drive drop dry duck
during each ear early earth east easy eat egg eight either else empty end energy engine enjoy enough enter even evening ever every
everyone everything exact example except eye face fact fair fall family famous far farm farmer fast fat father favorite feel feet few
field fight fill film final find fine finger finish fire first fish five flat floor flower fly follow food foot for force foreign forest
forget form forward found four fox free fresh friend from front fruit full fun funny game garden gate gave general get girl give glad
glass go goes gold gone good got grass great green grew ground group grow guess had hair half hand happen happy hard has hat have he
head health hear heard heart heat heavy held hello help her here high hill him his history hit hold hole home hope horse hot hour house how
however huge hundred hungry hurry hurt I ice idea if ill important in inside instead interest into iron is island it it's job join
jump jumps jumped just keep kept key kill kind king kitchen knew know lady lake land language large last late laugh law lay lazy lead leaf
learn least leave left leg lesson let letter life light like line list listen little live long look lost lot loud love low lunch
machine made main make man many map mark market matter may maybe me mean meat meet member men message metal middle might mile milk
mind minute miss money month moon more morning most mother mountain mouse mouth move much music must my name near neck need never new
news next nice night nine no noise none north nose not note nothing notice now number object ocean of off offer office often oil old on
once one only open or orange order other our out over own page paint pair paper parent park part party pass past path pay peace people
perhaps person phone picture piece place plan plane plant play please pocket point police poor possible power prepare present press
pretty price problem program promise public pull push put question queen quick quickly quiet quite rabbit race radio rain rainy ran
reach read ready real reason receive red remember repeat rest rice rich ride right ring rise river road rock roll roof room round rule
run sad safe said sail salt same sand sat save saw say school science sea season seat second see seem sell send sentence serve set seven
several shall shape share sharp she sheep ship shirt shoe shop short should show side sight sign silver simple since sing sister sit six
size skin sky sleep slow slowly small smell smile snow so soft soil some someone something sometimes son song soon sorry sound soup south
space speak special spell spend spring square stand star start state station stay step still stone stop store storm story street strong
student study such sugar summer sun sure surprise sweet swim table take talk tall taste tea teach teacher team tell ten test than thank
that the their them then there these they thick thin thing think third this those though thought thousand three through throw time
tiny to today together told tomorrow tonight too took tool top total touch toward town train tree trip trouble true trust try turn
twelve twenty two uncle under understand until up us use usual very village visit voice wait walk wall want war warm was wash watch
water way we wear weather week well went were west wet what wheel when where which while white who whole why wide wife wild will win
wind window winter wish with without woman wonder wood word work world would write wrong yard year yellow yes yesterday yet you young your zero
""".split()

NAMES = """
Anna Ben Tom Lucy Sara Max Emma Paul Nina Omar Mia Jack Lena Sam Kate Leo Maria John Amy David Alice Bob Carol Daniel Eva Frank Grace
Henry Ivan Julia Kevin Laura Mark Nora Oscar Peter Rachel Simon Tina Victor Wendy Yara Zoe Paris London Berlin Tokyo Rome Madrid
""".split()

# What people ask about: put into the patterns of talk.py.
PLACES = """
France|Germany|Italy|Spain|Japan|China|India|Brazil|Canada|Mexico|Egypt|Kenya|Peru|Chile|Norway|Sweden|Poland|Greece|Turkey|Russia|
the United States|the UK|Australia|Argentina|Portugal|Austria|Finland|Iceland|Cuba|Thailand|Vietnam|Nigeria|Morocco|Iran|Ireland|
Paris|London|Berlin|Tokyo|Rome|Madrid|New York|Moscow|Cairo|Sydney|Vienna|Lisbon|Oslo|Chicago|Boston|Delhi|Seoul|Bangkok
""".replace("\n", "").split("|")
PEOPLE = """
Albert Einstein|Napoleon|Shakespeare|Mozart|Marie Curie|Isaac Newton|Leonardo da Vinci|Julius Caesar|Cleopatra|Barack Obama|
Elvis Presley|the president|the pope|the queen of England|Steve Jobs|Taylor Swift|Beethoven|Picasso|Gandhi|Darwin|Plato|Columbus|
Lionel Messi|Ada Lovelace|Alan Turing|Charles Dickens|Jane Austen|my neighbour|my boss|my sister|Nelson Mandela|Einstein
""".replace("\n", "").split("|")
THINGS = """
love|the sea|a cat|my dog|autumn|a dragon|the moon|friendship|a robot|winter|the rain|a pirate|a castle|football|chess|cooking|music|
art|history|physics|chemistry|biology|black holes|gravity|quantum mechanics|photosynthesis|evolution|climate change|inflation|the stock market|
democracy|the French Revolution|World War 2|the Roman Empire|dinosaurs|volcanoes|the internet|blockchain|machine learning|neural networks|Python|
Java|Linux|coffee|tea|pizza|bread|pasta|yoga|running|sleep|stress|headaches|vitamins|my garden|tomatoes|roses|cars|electric cars|
trains|space travel|Mars|the sun|the stars|whales|elephants|penguins|spiders|bees|the brain|the heart|dreams|time travel|philosophy|
happiness|money|taxes|job interviews|marketing|a birthday|a wedding|Christmas|a holiday in Spain|the theory of relativity|a good book|
the news|politics|the weather|religion|a haiku|the future|school|a letter|the alphabet|rainbows|thunder|ice cream|a bicycle
""".replace("\n", "").split("|")
LANGUAGES = (
    "French|German|Spanish|Italian|Japanese|Chinese|Russian|Latin|Arabic|Portuguese|Korean|Dutch|Greek|Polish".split(
        "|"
    )
)

# Words that say how a sentence is made and nothing of what it is about.
GRAMMAR = """
about after again also another before both could does doing done each from give have here into just like make many more
most much need only other over please should show some such take tell than that their them then there these they this
those under until want were what when where which while will with would your
""".split()

# Frequent on the web, and not what a model should be heard to say.
_UNWANTED = frozenset(
    "fuck fucking fucked shit bitch ass asshole dick cock pussy porn sex sexual nude naked rape nigga bastard tits cum slut whore damn".split()
)


@cache
def frequent(count: int) -> tuple[str, ...]:
    """The `count` most frequent English words of plain letters, most frequent first (wordfreq; its data are CC BY-SA 4.0)."""
    found = (word for word in top_n_list("en", 2 * count) if word.isascii() and word.isalpha() and len(word) > 1)
    return tuple(word for word in found if word not in _UNWANTED)[:count]
