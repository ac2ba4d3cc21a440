"""Stories around a request: what people tell before they ask, roundabout questions, terse ones, unusual orders."""

# ruff: noqa: E501 (a wording stands on one line)

from __future__ import annotations

import random

from recipes.nano.phrases import say

_BEFORE = (
    "[My boss wants to know|My sister asked me|My son asked me|The form asks|The teacher asked|My friend bets I can't say|Here is what I need|"
    "What I need to know|My question|The question is|Something else|One more thing|A quick one|Just checking|Let me ask]: {q}",
    "[I'm filling in a form|I am writing a report|I'm planning something|I have no calculator here|My head hurts|I'm in a hurry|I am bad at this|"
    "I'm preparing a quiz|We are having a discussion|I keep forgetting|I tried it twice and got different results|It is late and I am tired|"
    "My computer is broken|I'm on the phone with a customer|I lost my notes|I don't trust my own head|This may sound silly|It's urgent]. {q}",
    "[You can settle this|You know these things better|Help me out here|I need your help|I need a hand|Can you help|Are you there]. {q}",
)
_AFTER = "{q} [I need it for a form.|It's for a report.|My sister wants to know.|I can't work it out.|It's for my homework.|I have to tell my boss.|We are not sure.|I keep forgetting.|I'd be grateful.|That's all I need.]"


def framed(rng: random.Random, question: str) -> str:
    """The question with something around it that is not asked."""
    if rng.random() < 0.25 and question[-1] in "?.":
        return say(rng, _AFTER, q=question)
    return say(rng, rng.choice(_BEFORE), q=question)


# Request, sign, answer. {d} a date, {n} an amount ("3 weeks"), {h} the same before a noun ("3-week").
LATER = (
    "[My|Our|The] [course|project|trip|holiday|training|internship|festival|exhibition] [starts|begins|started] on {d} and [lasts|takes|runs for|goes on for] {n}. [When does it end|When is it over|On what date does it end|What's the last day]?",
    "[The|My] [course|job|lease|treatment|season] [starts|begins] [on |]{d}[,|;| and is] {n}[ long|]. [What date does it end|When is it finished]?",
    "[I|We|My parents] bought [a|the] [phone|fridge|laptop|washing machine|car|watch] on {d} with a [{h} warranty|warranty of {n}|guarantee of {n}]. [When does it expire|Until when is it covered|On which day does it run out]?",
    "[The|My] [warranty|guarantee|passport|visa|licence|permit|card|contract] [was issued on|is from|dates from|started on] {d} and [is valid for|is good for|lasts|covers] {n}. [When does it expire|When must I renew it|When does it run out|Until when is it valid]?",
    "[The|An|My] invoice is dated {d} and [payable within|due in|must be paid in|is due after] {n}. [When is that|What is the due date|By what date must it be paid|When is the deadline]?",
    "[I|My sister|My aunt] got pregnant on {d}[.|;] [the baby is due|birth is expected] {n} later. [When is that|What date is that|What's the due date]?",
    "[My|Our|Her] [daughter|son|nephew|baby|puppy] was born on {d}. [When will [he|she|it] be|On what date [is|will] the child be] {n} old?",
    "[Our|The] sprint [starts|begins|started] on {d} and is {n} long. [When is the review|When does it end|What day is the last one]?",
    "[I|We] signed [a|the] [{h} lease|{h} contract|{h} agreement|contract for {n}|lease of {n}] [on|that starts on|from] {d}. [When does it end|When is it up|When are we free again]?",
    "[My|The|Our] [subscription|membership|free trial|trial|insurance|plan] [began|started|was activated] on {d} and [runs|lasts|is free for|goes] {n}. [When does it stop|When must I cancel|When is it over]?",
    "[The tenant|My flatmate|An employee] gave notice on {d}. The notice period is {n}. [When does [he|she] leave|What is the last day|When is that up]?",
    "[Milk|The cheese|This medicine|The yoghurt] was [opened|made|packed] on {d} and keeps for {n}. [Until when can I use it|When does it go bad|When does it expire]?",
    "[The library book|The tool|The loan|The bike] was [lent|borrowed|handed out] on {d} for {n}. When [must|should] it [be returned|go back|come back]?",
    "[We|They|My grandparents] married on {d}. [What date|Which day] is {n} after that?",
    "[The|My] [flight|ship|parcel|letter|train] [left|was sent|departed] on {d} and [takes|needs|is under way for] {n}. When does it arrive?",
    "I [planted|sowed] [tomatoes|carrots|beans|a tree] on {d}[;|, and] they [need|take] {n}. When [can I harvest|are they ripe|are they ready]?",
    "[After|Exactly] {n} [counted from|counting from|starting from|beginning on] {d}, [what date do we have|which day is it|what is the date]?",
    "[Starting|Counting] from {d}, [where|what date|what day] [do I land|am I on|is it] after {n}?",
    "[Starting|Beginning] {d}, {n}: [end date|last day|until when|end]?",
    "{d}, {n} later[?|: which date?|, what date?|.]",
    "[Push|Move|Shift|Postpone|Delay] [the meeting|my appointment|the deadline|the launch|the wedding] [of|from|on] {d} [back |]by {n}[. What's the new date?|: new date?|. When is it then?]",
    "[The meeting|My appointment|The deadline|The exam|The launch] [was on|was planned for|was set for] {d} [but|and] [is|was|got] [postponed|delayed|moved back|pushed back] by {n}. [When is it now|What's the new date|What is the new day]?",
    "[Our|My|The] [check-up|last service|vaccination|oil change|dentist visit] was on {d}[;|, and] the next [one |]is [due |]{n} later. [When is that|What date do I book|Which day]?",
    "[I want|I'd like|I need] to know [which date|what day|the date that] [comes|lies|is] {n} [after|past] {d}[.|]",
    "[If|When] I [start|begin] on {d} and [need|take|work] {n}, when [am I done|will I be finished|do I finish]?",
    "[We|They|I] [arrive|check in|land] on {d} and [stay|remain] [for |]{n}. [When do we leave|What's the check-out date|On which day do I go home]?",
)  # fmt: skip
EARLIER = (
    "[My|Our|The] [wedding|exam|flight|concert|party|move] is on {d}[.| and] I [must|have to|want to] [book|reply|register|pay|start learning] {n} [before|earlier]. [When is that|What date is that|By when]?",
    "[The|My] [contract|lease|subscription|insurance] [ends|runs out|expires] on {d} and [must be cancelled|has to be cancelled|needs notice] {n} [before|earlier|in advance]. [By what date|When is that|What's the last day to cancel|What day is that]?",
    "[The baby was born|My son was born|The book came out|The shop opened] on {d}[;|, and] [we moved here|I met her|it was announced|work began] {n} [before|earlier]. [When was that|What date was it|Which day was that]?",
    "[The exam|The race|The deadline|The launch|My birthday] is [on |]{d}. [What|Which] date is {n} [before that|earlier|ahead of it]?",
    "[My visa|The tickets|Applications] must be [requested|ordered|in] {n} before {d}. [When is that|What's the date|Which day is the deadline]?",
    "[Counting|Going] back {n} from {d}, [where do I end up|what date is it|which day is that]?",
    "[It is|The letter is from|The photo was taken on|My diary says] {d}[.|:] what was the date {n} [earlier|before]?",
    "{d}, {n} earlier[?|: which date?|, what date?|.]",
    "[Move|Bring|Pull] [the meeting|my appointment|the deadline|the launch] [of|from|on] {d} forward by {n}[. What's the new date?|: new date?|. When is it then?]",
    "[The meeting|My appointment|The delivery|The launch] [was planned for|was set for|was to be on] {d} but [is|was] brought forward by {n}. [When is it now|What's the new date]?",
    "[I want|I'd like|I need] to know [which date|what day|the date that] [comes|lies|is] {n} [before|ahead of] {d}[.|]",
    "[We|They|I] [finished|stopped|came back] on {d} after {n}. [When did [we|they|I] start|What was the first day|On which date did it begin]?",
)  # fmt: skip
FROM_TODAY = (
    "[I start|My friend starts|We begin] [a {h} course|a {h} diet|a {h} challenge|a {h} treatment|a {h} programme] today. [When does it end|When is it over|What's the last day|On what date is it done]?",
    "[My|The|Our] [holiday|exam|wedding|flight|delivery|meeting] is in {n}. [What date is that|Which day is that|When is that exactly|On what date is it]?",
    "[My|The] [visa|milk|ticket|voucher|parking permit|licence|coupon] [expires|runs out|ends] in {n}. [What date is that|Which day is that|When is that exactly]?",
    "[I'm|I am|We're|My boss is] [leaving|moving out|retiring|travelling|back] in {n}. [What date is that|Which date would that be|What's the date then]?",
    "[I have|We have|You get|They gave me] {n} to [pay|decide|finish|reply|hand it in][, starting today|, from today|]. [When is the deadline|What's the last date|Until which date]?",
    "[The package|My parcel|The order|The plumber] [will arrive|comes|is expected] in {n}[.|;] [on what date|which date is that|when is that]?",
    "[I want|I'd like|I need] to know [the date|what day it is|which date we have] [in {n}|{n} from now][.|]",
    "[Today plus|Now plus|From today] {n}[?|: date?|, what date?|: which day?]",
    "[If|When] I [start|sign|pay|order] today[ and it takes| and wait| with a delay of|, and then wait] {n}, [what date is it|when am I done|when is that]?",
    "[Remind myself|Note to self|For my diary]: what's the date {n} from [today|now]?",
    "[My|Our] [next appointment|next service|next check-up] is {n} from [today|now]. [What date should I write down|Which date is it|What's the date]?",
    "[I just bought|Today I got] [a phone|a fridge|a ticket|a laptop] with a [warranty|return period|validity] of {n}. [When does it end|When is it over|What's the last day]?",
)  # fmt: skip
AGO = (
    "[I moved here|We met|I stopped smoking|She left|My cat came to us|I bought it|The shop closed|The accident was|We bought the house] {n} ago. [What date was that|When was that|Which day was it|What was the date]?",
    "[The|My] [letter|parcel|bill|complaint] [was sent|was written|went out] {n} ago[.|;] [on what date|which day was that|what was the date]?",
    "[I have|She has|We have] [been ill|been waiting|worked here|lived here|known him] for {n}[ now|]. [On what date did it start|Since what date is that|When did that start|What was the first day]?",
    "[Today minus|Counting back from today|Back from today,|From today back] {n}[?|: date?|, what date?|: which day?]",
    "[I'd like to know|I need to know|Do you know|Please find out] what [the date was|day it was|date we had] {n} ago[.|]",
    "[It's|It is|That's] {n} [since|that] [I last saw him|we spoke|I arrived|my last haircut][.|:] [What date was that|When was it]?",
)  # fmt: skip
FALLS_ON = (
    "[I was|My mother was|My son was|He was|She was] born on {d}. [What weekday was that|What day of the week was it|Which weekday was it|On which weekday was that]?",
    "[The wedding|My birthday|The exam|The party|The concert|Our flight|The election] is on {d}. [Is that a {day}|What weekday is that|Which day of the week is it|Is it on a weekend|On what weekday is it]?",
    "[Is|Was|Will] {d} [a|be a] {day}[?|, or what weekday is it?|, or which day?]",
    "[Does|Did] {d} fall on a [{day}|weekend|weekday|working day]?",
    "{d}[: weekday?|, which weekday?|, day of the week?| - what day is that?| - a {day}?]",
    "[I'm told|They say|I read that|My calendar says] {d} [is|was] a {day}. Is that [right|so|true]?",
    "[Tell me|I'd like to know|I need to know|Can you say|Do you know] [on ][what|which] [weekday|day of the week] {d} [is|was|falls][.|?|]",
    "[The battle|The ship sank|The letter was written|Our house was finished|The contract was signed] on {d}. [Which|What] weekday [was that|was it]?",
    "[We|They] want to [marry|meet|move|open] on {d}[, if it is a {day}|]. What [day of the week|weekday] is [it|that]?",
)  # fmt: skip

# {a} the earlier date, {b} the later one.
BETWEEN = (
    "[I was|We were|She was|My parents were] [in {place}|on holiday|away|in hospital|at sea] from {a} [to|until|till] {b}. [How many days is that|How long was [it|that]|How many days were that|How many days]?",
    "[My|Our|The] [holiday|course|trip|project|exhibition|lease|season|internship] [starts|begins|started] on {a} and [ends|ended|finishes|is over] on {b}. [How many days does it last|How long is it|How many days is that|How long does it take]?",
    "[The project|Work on the bridge|The strike|The war|The course] [began|started] {a} and [ended|stopped|was over] {b}. [How long did it take|How long did it last|How many days was it]?",
    "[We|They|I] [moved in|arrived|checked in|came] on {a} and [moved out|left|checked out|went home] on {b}. [How many days did [we|they|I] stay|How long were [we|they|I] there|How many days was that]?",
    "[My|Our] [rent|subscription|ticket|insurance|pass] [runs|is paid|is valid|goes] from {a} to {b}. [How many days [are|is] that|How long is it|For how many days do I pay]?",
    "[My|Our] [ticket|visa|licence|contract] was issued on {a} and expires on {b}. [How many days is it valid|How long is it good for|How many days [are|is] that]?",
    "[He|She|My grandfather|The painter|The king] was born on {a} and died on {b}. [How many days did [he|she] live|How old was that in days|How many days was that]?",
    "[My|Her|His] [brother|sister|son|daughter] was born on {a}, [mine|I|my cousin|the second child] on {b}. How many days [older is the first|lie between|are they apart|separate us]?",
    "[The|Our] sprint [goes|runs] from {a} to {b}. How many days [do we have|is it|are that]?",
    "[I ordered it|The parcel was sent|I applied|The letter was posted|I sent it] on {a} and [it came|the answer came|it arrived|I heard back] on {b}. How many days did it take?",
    "[My|The] last [visit|check-up|haircut|payment|oil change] was [on |]{a}, the next is [on |]{b}. How many days [are in between|lie between|apart are they|between them]?",
    "[Between|From] {a} [and|to] {b}[,|:] [how many days pass|how many days go by|how many days do I have|what is the number of days|how long is that]?",
    "{a} [to|until|till|->|through] {b}[: how many days?|, in days?|, days?|: number of days?| in days|]",
    "[It ends|I return|We come back|It is due] on {b}[; it began|; I leave|, and we leave|, and it starts] on {a}. How many days is that?",
    "[If|When|Suppose] I [start|leave|begin] on {a} and [stop|return|finish] on {b}, [how many days am I busy|how many days is that|how long am I gone|how long does it take]?",
    "[I need|I'd like to know|Tell me|I want to know|Can you tell me] how [many days|long] [passed|it is|lie|there are|elapsed] [between {a} and {b}|from {a} to {b}|from {a} until {b}][.|?|]",
    "[How many nights|How many days] [are there|do we pay|is it] if we [check in|arrive] on {a} and [check out|leave] on {b}?",
    "[On {a} I planted|I planted on {a}] [a tree|tomatoes|beans][.| and] on {b} [I picked the first fruit|it bloomed|it was ripe]. [How many days did that take|How many days later is that]?",
    "[The invoice is dated|I lent him money on|The fine is from|The bill is from] {a} and [was paid on|he paid on|I paid it on] {b}. [How many days late is that|How many days later is that|How many days did that take]?",
    "[How long did|For how many days did] [the exhibition|the trip|the treatment|the trial|his term] last[, which ran|, which went|, if it went] from {a} to {b}?",
    "[Take|Consider|Here are|I have] two dates[: |, ]{a} and {b}. [How far apart are they|How many days lie between them|What is the difference in days]?",
    "[Dates|First date|Start]: {a}[ /|,|;] [end: |second date: |]{b}. [How many days|Difference in days|Days between them]?",
)  # fmt: skip
UNTIL = (
    "[My|Our|The] [wedding|exam|holiday|flight|party|concert|deadline|trip|birthday] is on {b}. [How many days [do I have left|are left|until then|to go|is it until then]|How long do I have to wait]?",
    "[The|My] [visa|contract|warranty|lease|offer|trial|passport] [expires|runs out|ends|is over] on {b}. [How many days are left|How many days do I still have|How long is it still valid|How many days remain]?",
    "[I'm getting married|We're moving|She is due|I retire|The shop opens|I fly home|We leave] on {b}[.|;] how many days [is that from now|are left|are there still|do I have|to go]?",
    "[The rent|The bill|My essay|The report|The tax return] is due [on |]{b}. [How many days do I have|How many days are left|How much time, in days, is left]?",
    "[We count the days to|The children wait for|I'm looking forward to|I can't wait for] {b}. How many [are left|more days|days is it still]?",
    "[From today|From now|Starting today] [to|until|till] {b}[: how many days?|, how many days?|?| in days?]",
    "[Today|Now] [to|until|till|->] {b}[: days?|, days?|, how many days?| in days]",
    "{b} is [still far away|coming|not so far|my big day][.|:] [How many days from today|How many days away is it|How many days is it from now]?",
    "[I'd like to know|I need to know|Can you tell me|Please tell me|Do you know] how [many days away {b} is|many days it is until {b}|many days remain until {b}|long it is until {b}][.|?|]",
    "[If I start today and finish|If we leave today and return|If it begins today and ends] on {b}, how many days is [that|it]?",
    "[On {b} my trip starts|On {b} we move|On {b} school begins]. [How many more days|How many days until then|How long until then]?",
)  # fmt: skip
SINCE = (
    "[I was born on {a}. How many days old am I|[My daughter|Our cat|She] was born on {a}. How many days old is she|[I was|He was|My uncle was] born on {a}. [How many days ago was that|How many days is that]]?",
    "[I stopped smoking|We moved here|I started this job|They got married|We met|The shop opened|My lease began|She left] on {a}. [How many days ago was that|How many days is that now|How long is that in days|How many days has it been]?",
    "[My|The|Our] last [haircut|holiday|accident|visit|payment|backup|message] was on {a}. [How many days ago was that|How many days has it been|How long ago is that]?",
    "[I have lived here|I've been working here|We have been married|I've been ill|She's been away] since {a}. [How many days is that|How long is that in days|How many days are that by now]?",
    "[I ordered it|I sent the letter|I applied|The parcel left|I complained] on {a} and [nothing came|I'm still waiting|have no answer|heard nothing]. How many days [have I waited|is that now|is it already]?",
    "[Since|From] {a} [until today|to today|till now|until now][: how many days?|, how many days?|, in days?|?]",
    "[I'd like to know|I need to know|Can you tell me|Please tell me|Do you know] how [many days ago {a} was|many days have passed since {a}|long ago {a} was|many days lie between {a} and today][.|?|]",
    "[How many days|For how many days] [have I been|has she been|have we been] [here|clean|married|on the road|a member] if [I|it] [started|began] on {a}?",
    "[The photo|The letter|The bill|The newspaper] is [dated|from] {a}. How many days old is it[ today|]?",
)  # fmt: skip
TRIPS = (
    "Paris",
    "Spain",
    "Japan",
    "Rome",
    "the Alps",
    "Norway",
    "Canada",
    "Berlin",
    "Kenya",
    "Peru",
    "Bali",
    "the mountains",
)

# What the clock is asked, by the answer.
CLOCK = {
    "It is {time}.": (
        "[My|The|Our] [train leaves|meeting starts|shop closes|bus goes|film begins] at {hour}. [Am I late|Do I still have time|Will I make it]? What time is it[ now|]?",
        "[I lost|I forgot|I broke|I can't see|I left] my watch[ at home|]. [What time is it|Could you tell me the time|How late is it]?",
        "[Is it|Isn't it] [already|still|past|not yet|nearly] [noon|midnight|{hour} o'clock|morning|lunchtime|evening|too late to call]?",
        "[I'd like to know|I wonder|I'm wondering|Would you know|Can you see|Any idea|I need to know] [what time it is|how late it is|what the time is][ now|][.|?|]",
        "[My phone is dead|The clock on the wall stopped|All clocks here are wrong|The power was out][.|, so|:] [what time is it|how late is it|what's the right time]?",
        "[For the log|For the record|For my notes][:|,] [what is the time|the current time|the time now][?|, please.]",
        "[Time now|Clock|Now|Hour and minute|The exact time|Current hour][?|, please?|!]",
        "[I have to take my pills|The cake comes out|I must pick up the kids|My show starts] at {hour}. What does the clock say?",
    ),
    "Today is {weekday}, {date}.": (
        "[I'm signing|I have to date|I'm filling in|I am writing] a [letter|form|cheque|contract]. [What is the date today|What's today's date|Which date do I put]?",
        "[I'd like to know|I wonder|I'm wondering|Would you know|Any idea|I need to know|I've lost track of] [what date it is|what day it is|today's date|which day we have][ today|][.|?|]",
        "[For the log|For the record|For my notes][:|,] [what is the date|today's date|the date today][?|, please.]",
        "[I just woke up|I was on holiday too long|I always forget|I've no calendar here]. [What day is it|What is the date|Which date is it][ today|]?",
        "[Is today|Isn't today|Is it] [the first of the month|already the {nth}|the {nth}|my birthday, the {nth} of {month}]?",
        "[Calendar|Today|Date today|Current date][?|, please?|: date?]",
    ),
    "Today is {weekday}.": (
        "[Is it|Is today|Isn't it|Isn't today] [a |already |really |]{day}[?| today?| or not?]",
        "[Is it|Is today|Do we have] [the weekend|a weekday|a working day|{day} yet|{day} already][?| today?]",
        "[The bins go out|The market is|My class is|Choir is] on {day}[s|]. [Is that today|What weekday is it today|Is it {day} today]?",
        "[I think|My wife says|He says|I thought] [it's|it is|today is] {day}. [Is that right|Am I right|True|Which weekday is it]?",
        "[I'd like to know|I wonder|Can you say|I need to know|Do you know] [which weekday it is|what day of the week it is|which weekday we have][ today|][.|?|]",
    ),
    "It is {time} on {weekday}, {date}.": (
        "[I need|Please give me|For the log I need|Stamp this:|For the report:] [the date and the time|both date and time|time and date|today's date and the time][.|, please.|]",
        "[I'm writing minutes|I am logging an error|I'm signing in a visitor]. [What are date and time|What's the date and time|What date and time do I write]?",
        "[I'd like to know|Can you tell me|I need to know] [what day and what time it is|both the time and the date|the full date and time][.|?|]",
    ),
    "It is {year}.": (
        "[Do we write|Is it|Are we in] [the year |already |still |]{y}[ already| yet| now|]?",
        "[I need the year for a form|I'm writing a copyright notice|I lost track]. [Which year is it|What year do we have]?",
        "[I'd like to know|I wonder|I forgot|Can you say] [what year it is|which year we have|the current year][.|]",
    ),
    "It is {month}.": (
        "[Is it|Are we in|Do we have] {month}[ already| yet| now|]?",
        "[I'd like to know|I wonder|I forgot|Can you say] [what month it is|which month we have|the current month][.|]",
    ),
}  # fmt: skip
CLOCK_WEIGHTS = (8, 6, 5, 3, 2, 1)
THERE = "It is {time} in {city}."
DAY_THERE = "It is {time} on {weekday}, {date} in {city}."
ELSEWHERE = (
    ("[My|Our] [sister|brother|friend|boss|daughter|aunt|colleague|customer] [lives|works|is|studies] in {c}. [What time is it there|What's the time there|What's the time for [her|him]|How late is it there][ now|]?", THERE),
    ("[I want|I need|I have] to [call|phone|ring|text] [my mother|a friend|a client|our office|someone|my cousin] in {c}. [What time is it there|Is it too late there|What's the time there|How late is it there][ now|]?", THERE),
    ("[Our|The|My] [office|team|factory|supplier|support desk|headquarters] [in {c}] [opens|closes|starts work|goes home] at {hour}. [What time is it there|Is it open yet|Is somebody there now|Are they still there]?", THERE),
    ("[I'm|We're|My parents are] [flying|travelling|going|moving] to {c}. [What time is it there|What's the local time there|How late is it there][ now| at the moment|]?", THERE),
    ("[Are people|Is everyone|Are they|Is my friend] in {c} [asleep|awake|at work|having lunch|up] [now|already|yet]?", THERE),
    ("[Is it|Isn't it] [night|morning|already dark|still early|past midnight|already late|office hours|lunchtime|evening] in {c}[ now| yet| right now|]?", THERE),
    ("[Is it|Is it already|Is it still] {day} in {c}[ now| yet|]?", DAY_THERE),
    ("[What day|Which day|What date|Which weekday|What's the date|What is the date] [is it |][now |]in {c}[?|]", DAY_THERE),
    ("[What is|What's|Tell me|Give me|I need] the date and [the |]time in {c}[?|.|]", DAY_THERE),
    ("{c}[: time?| time| time?|, time?|, what time?| - how late is it?|, local time| now?| local time?|: what time is it?]", THERE),
    ("[In|For] {c}, [what time is it|what's the time|how late is it][ now| at the moment|]?", THERE),
    ("[I'd like to know|I wonder|I'm wondering|I need to know|Do you happen to know] [what time it is|how late it is|the time|the local time] in {c}[ now|][.|?|]", THERE),
    ("[What does|What would] [a clock|the clock|my watch|a watch] [show|say|read] in {c}[ now| right now|]?", THERE),
    ("[The webinar|The match|The stream|The call] [is on|is given in|starts by|runs on] {c} time. What time is it there[ now|]?", THERE),
    ("[What is|What's|Tell me|Show me|Give me] [{c} time|the {c} time|the local time of {c}|local time for {c}|{c}'s time][ now|][?|.|]", THERE),
    ("[It's {hour} here|Here it is late|I just got up|It's dark here]. [And|What about|How late is it|What time is it] in {c}?", THERE),
    ("[What hour|Which hour|How many hours into the day] is it [now |]in {c}[?|]", THERE),
)  # fmt: skip
ZONED = (
    "[What time is it|What is the time|Current time|Time|What's the time|Tell me the time] in [the |][time |]zone {z}[?|, please.|]",
    "[Time zone|Zone|My time zone is|Use the zone|The server runs on][:|] {z}[.|;|:] [what time is it|the time there|what is the time|current time]?",
    "{z}[: time?| time?| - what time?|, now?| time now]",
    "[I need|Give me|Show me] [the time|the current time] [for|in] {z}[.|, please.|]",
)  # fmt: skip
UTC = (
    "[What's|What is|Tell me|Give me|Show me|I need] [the time in UTC|UTC time|the UTC time|the current UTC time|UTC][ now| right now|][?|.|]",
    "[The logs|The servers|My timestamps|Our satellites] [are in|use|run on] UTC. [What time is it there|What time is that now|What's the time in it now|What is the time]?",
    "[UTC|UTC now|UTC time|Time in UTC|Current UTC|utc time now][?|, please.|]",
    "[How late is it|What time is it|What's the time] [in|by] [UTC|coordinated universal time|Coordinated Universal Time|universal time (UTC)][?|]",
)  # fmt: skip
HOURS = (
    "nine",
    "ten",
    "eight",
    "noon",
    "5 pm",
    "9:30",
    "18:00",
    "6 pm",
    "half past two",
    "7",
    "8:15",
    "3",
    "four",
    "11 am",
    "20:45",
)

# {x} the value with its unit ("5 km"), {h} the same before a noun ("5-km"), {w} the unit asked for; by quantity, "" is any.
CONVERSIONS = {
    "": (
        "[I'd like to know|I wonder|I'm wondering|Do you know|I need to know|Can you tell me|I was asked] [how much {x} is in {w}|what {x} is in {w}|how many {w} {x} is|how many {w} {x} make][.|?|]",
        "[The label|The manual|The sign|The book|My note|The package|The data sheet] says {x}. [What|How much] is [that|it] in {w}?",
        "[The label|The manual|The form|My colleague|The data sheet] [wants|needs|asks for|expects] {w}[, but|;| and] I [have|only have|measured] {x}[.|: what do I write?|. How much is that?|. What should I enter?]",
        "[I only understand|I think in|Here we use|We only know] {w}[.|;|:] [what|how much] is {x}?",
        "{w} [in|from|for] {x}[?|, please|: how many?|]",
        "[How many|Number of] {w}[:|,] {x}[?|]",
        "[I have|We got|There is] {x} and [need|want] [it|that] in {w}[.|. What is it?|: how much?]",
        "{x}, [but in {w}|in {w} please|expressed in {w}|how many {w}|{w}][?|.|]",
        "[Into|To] {w}[,|:] [convert|change|turn] {x}[.|, please.|]",
        "[If|When] [someone says|the screen shows|I read] {x}, [how many {w} is that|how many {w} is it|what is it in {w}]?",
        "[Please|Could you|Can you] [put|express|write|restate|give] {x} [into|as|in] {w}[?|.| for me?]",
        "[Is|Are] {x} [more|less] than {k} {w}? [What is it exactly|How much is it in {w}]?",
        "[Converted|Changed|Translated] [to|into] {w}, [what is {x}|how much is {x}|{x} is how much]?",
        "[What is|What's|Give me] the equivalent [of|for|to] {x} in {w}[?|.|]",
    ),
    "length": (
        "[I ran|{name} swam|We hiked|I cycled|They drove] {x} [today|yesterday|this morning|on Sunday]. [How many {w} is that|What's that in {w}|How far is it in {w}]?",
        "[I'm|My son is|The door is|The tree is|The river is|{name} is] {x} [tall|high|long|wide]. [What's that in {w}|How many {w} is that|In {w}, how much is it]?",
        "[The next station|The beach|Her village|The airport] is {x} away. How [far is that in {w}|many {w} is that]?",
        "[It was|We did|She won] a {h} [race|walk|trip|ride]. How many {w} [is that|were that]?",
    ),
    "mass": (
        "[My suitcase|The baby|Our dog|The parcel|The truck|The piano|{name}] weighs {x}. [What's that in {w}|How many {w} is that|In {w}, how heavy is that]?",
        "[The recipe|Grandma's cake|My bread] [calls for|needs|takes] {x} of [flour|butter|sugar|meat]. [How many {w} is that|What is that in {w}|How much in {w}]?",
        "[I lost|I gained|We picked|They sold] {x}[ of apples| last year|]. [How much is that in {w}|How many {w} are that]?",
    ),
    "volume": (
        "[The recipe|Grandma's soup|This cocktail|The sauce] [calls for|needs|takes|uses] {x} of [milk|water|oil|cream|stock]. [How many {w} is that|What is that in {w}|How much in {w}]?",
        "[The tank|My bottle|The pool|The barrel|The pot|A bucket] [holds|takes|contains] {x}. [How many {w} is that|What's that in {w}|How many {w} fit in]?",
        "[I poured|I drank|We used|It leaked] {x} [of water |]today. [How many {w} was that|What's that in {w}]?",
        "[My measuring cup|The jug|The spoon] only shows {w}. [How much is|How many are|What are] {x}?",
    ),
    "temperature": (
        "[The oven should be|Bake it|Heat it up] [at |to |]{x}[.|;] [what's that in {w}|my oven shows {w}: what do I set|how much is that in {w}]?",
        "[It's|It is|The forecast says|The thermometer shows|The water is|My fever is] {x}[ today| outside| now|]. [What's that in {w}|How much is that in {w}|How hot is it in {w}]?",
        "[The freezer|The sauna|The engine|The lab] [is kept at|runs at|reaches] {x}. [What is that in {w}|How much in {w}]?",
    ),
    "speed": (
        "[The limit|The speed limit|The wind|Our boat|The train|A cheetah|My car] [is|does|runs at|reaches] {x}. [How fast is that in {w}|What's that in {w}|How many {w} is that]?",
        "[The police caught me|I was driving|{name} rides|The storm moves] at {x}. [What is that in {w}|How fast is that in {w}]?",
    ),
    "area": (
        "[Our flat|The farm|The park|My garden|The forest|The new office|The field] [has|covers|measures|is] {x}. [How many {w} is that|What's that in {w}|How big is it in {w}]?",
        "[I'm renting|I bought|They sell|We own] [a place|land|a plot] of {x}. [How many {w} is that|What's that in {w}|How large is it in {w}]?",
        "[The fire burned|The lake covers|The paint covers] {x}. [How many {w} is that|How much is it in {w}]?",
    ),
    "time": (
        "[The film|The flight|The battery|My shift|The talk|The download] [lasts|takes|is|needs] {x}. [How many {w} is that|What's that in {w}|How long is it in {w}]?",
        "[I slept|We waited|{name} trained|I worked|It rained] [for |]{x}. [How many {w} was that|How long is that in {w}|What is it in {w}]?",
        "[It was|I have|She booked] a {h} [trip|break|course|wait]. How many {w} is that?",
    ),
    "data": (
        "[The file|My photo folder|The backup|The video|The game] [is|has|takes up|needs] {x}. [How many {w} is that|What's that in {w}|How big is it in {w}]?",
        "[My plan|The stick|The phone|The disk] [has|includes|offers|comes with] {x}[ of space| of storage|]. [How many {w} is that|What's that in {w}]?",
    ),
}  # fmt: skip

# {q} the text in quotes, {t} without them, at the end or on lines of its own; {k} what is counted.
QUOTED = (
    "{q}[: how many {k}?| - how many {k} is that?| has how many {k}?| contains how many {k}?|: {k}?| – number of {k}?]",
    "[My|The|Our] [caption|slogan|title|headline|tweet|motto|subject line|first line|answer] [is|reads|goes|says][:|] {q}. How many {k} [is that|does it have|are in it|has it]?",
    "[I wrote|She said|The sign says|He texted me|I posted|The note says][:|] {q}. [How many {k} is that|How many {k} are in it|Count the {k}|How many {k} did [I|you] see][?|.]",
    "[The form|The website|My teacher|The editor] [limits|restricts|counts] [the |]{k}. [How many|What number of them] does {q} have?",
    "[I'd like to know|I wonder|Can you tell me|I need to know|Tell me] [how many {k} {q} has|how many {k} there are in {q}|the number of {k} in {q}|how many {k} are in {q}][.|?|]",
    "[Consider|Take|Look at|Here is] [this|my|the] [sentence|text|phrase|line|poem|message][:|,] {q}. [How many {k} does it have|How many {k} are there|What's the number of {k}|How many {k} do you count]?",
    "[For|In] {q}, [how many {k} are there|what is the number of {k}|count the {k}|how many {k} do you get]?",
    "[If|When] I [post|print|engrave|send] {q}, how many {k} [is that|do I use|do I pay for]?",
    "{q} - [I need|please count|give me|tell me|count] the [number of |]{k}[.|]",
    "[Engraving|Printing|A telegram|The ad] is paid by {k}. How many [are in|does it make for|has] {q}?",
    "[Is|Would] {q} [within|under|over|be more than|be below] {n} {k}? [How many is it|Count them|How many are there][?|.]",
    "[Does|Will] {q} fit [in|into] {n} {k}? [How many has it|How many are they|What's the count]?",
)  # fmt: skip
PLAIN = (
    "[How many {k}|Count the {k}|{k}|Number of {k}|I need the number of {k}|Tell me the number of {k}|{k} count][?|, please|][:|:\n|\n|\n\n]{gap}{t}",
    "{t}\n[\n|][How many {k} is that?|How many {k} are there?|Number of {k}?|Count the {k}.|How many {k} does this text have?|{k}?]",
    "[I wrote this|Here is my text|This is my draft|Here's the message|This is the paragraph][.|,|;] [how many {k} [is it|does it have|are there]|count the {k}, please|tell me the number of {k}][:|?|?\n|:\n]{gap}{t}",
    "[My editor|My teacher|The form|The contest] [asks|wants to know|needs to know] how many {k} [there are in this|this has|are in here|I wrote]:[ |\n]{t}",
    "[The text|My text|Text|Draft][:|:\n]{gap}{t}\n[How many {k}?|{k}?|How many {k} does it have?|Please count the {k}.]",
)  # fmt: skip
EVERYTHING = (
    "[I need|Give me|Can I have|I'd like|Show me] [all counts|all figures|the full statistics|everything you can count|the length in every respect] [for|of|in|about] {q}[.|?|, please.]",
    "[My|The] [caption|slogan|draft|abstract] [is|reads]: {q}. [What are its statistics|Analyze it|Give me its statistics|Count everything][?|.]",
    "{q}[: statistics?|: all counts| - analyse this| - text statistics, please|: count everything]",
    "[How long is|What is the size of|How big is] {q}, in [words, characters and lines|characters, words and sentences|every respect]?",
)  # fmt: skip
BOTH = (
    "[How many words and characters|How many words and how many characters] [are in|are there in|does this have:|has] {q}[?|]",
    "[My|The] [caption|slogan|draft|abstract] [is|reads]: {q}. How many words and characters [is that|does it have]?",
    "[Words and characters|Word and character count|Count words and characters] [of|in|for] {q}[?|, please.|.|]",
)  # fmt: skip
