"""Step 3. Generated news articles and odd inputs -> WORK/synth.jsonl.

usage: synth.py WORK [n_articles=9000]

The public texts are about law, politics and government technology. This generator covers what they lack: sport, weather,
business, science, accidents, culture; datelines, quotes, big numbers, money, abbreviations, names with accents; leads that
only set the scene. Every article knows its own summary sentence ("gold"). People, places and firms are invented.
"""
import json
import random
import re
import sys

R = random.Random(20)
ch = R.choice

FIRST = """Maria Anna Zoë Søren Paul Ines Leah Tom Hiroko José Ana Luís Chloé Amélie Björn Åsa Jürgen Łukasz Agnieszka Petr Zdeněk
Ivana Dragan Elif Mehmet Fatima Omar Yusuf Amina Kwame Chidi Ngozi Thabo Lerato Priya Arjun Rohan Sunita Wei Li Min-jun Ji-woo
Kenji Yuki Nguyen Linh Putu Siti Aroha Tane Mele John Mary James Patricia Robert Jennifer Michael Linda David Susan Richard
Karen Daniel Nancy Mark Sandra Kevin Donna Brian Carol George Ruth Edward Sharon Ronald Laura Anthony Sarah Frank Deborah Raymond
Rachel Gregory Janet Jack Emma Dennis Helen Jerry Olivia Walter Samuel Grace Henry Victoria Carl Alice Arthur Judith Ryan Megan
Oscar Freya Ole Ingrid Matteo Giulia Pierre Sylvie Dimitri Olga Sergei Natalia Imran Aisha Carlos Lucía Diego Camila""".split()
LAST = """Müller Ångström Okafor Duarte Klein Brandt Tanabe Carvalho Moreau Wilk Lund Nowak Kowalska Novák Horváth Petrović Yılmaz
Demir Haddad Mansour Mensah Adeyemi Nkosi Dlamini Sharma Iyer Kapoor Zhang Chen Wang Park Kim Sato Suzuki Tran Pham Wijaya Rahman
Walker Harris Clark Lewis Robinson Young Allen King Wright Scott Torres Hill Flores Green Adams Nelson Baker Hall Rivera Campbell
Mitchell Carter Roberts Gomez Phillips Evans Turner Diaz Parker Cruz Edwards Collins Reyes Stewart Morris Morales Murphy Cook
Rogers Gutierrez Ortiz Morgan Cooper Peterson Bailey Reed Kelly Howard Ramos Cox Ward Richardson Watson Brooks Chavez Wood James
O'Brien O'Neill McCarthy MacDonald D'Souza van_der_Berg de_la_Cruz St._John Jensen Hansen Larsen Rossi Bianchi Fontaine Lefèvre
Ivanov Petrova Castillo Peña Muñoz Ibáñez""".split()
LAST = [x.replace("_", " ") for x in LAST]
SYL1 = """Ald Bar Bex Bran Brook Cal Carn Cold Crow Dal Dun East Elm Fair Fen Glen Green Hal Har Hart Hol Kes King Lang Lin Lock
Mar Mill Mor New North Oak Old Pem Port Quin Red Ros Salt San Sel Shel South Stan Stone Tar Thorn Ver Wal West Whit Win Wood Zel
Kor Nak Vil Tam Oso Bel Gra Est Mon Rio""".split()
SYL2 = """bury by dale don field ford gate ham haven hurst land ley ling low mere mont mouth ney ock over port rick sea shire side stead
stoke ton vale ville wall water well wick worth wood ina ova ello aro inho grad stadt berg""".split()
REAL = """Geneva Nairobi Lima Oslo Toronto Brussels Jakarta Accra Lisbon Seoul Denver Chicago Boston Atlanta Houston Phoenix Seattle
Madrid Vienna Cairo Manila Ottawa Sydney Auckland Tokyo Berlin Paris London Rome Dublin Warsaw Prague Athens Ankara Delhi Mumbai
Dhaka Hanoi Bogotá Quito Santiago Montevideo Zürich""".split()
FIRM1 = """North Blue Acme Delta Prime Summit Lumen Vertex Orbit Cedar Pioneer Harbor Silver Crown Atlas Nova Zenith Alta Boreal Kestrel
Marlin Onyx Quartz Ridge Sable Talon Ultra Vega Willow Yarrow""".split()
FIRM2 = """wind tech works gen ware soft line star grid path bank foods motors energy pharma media air steel labs rail""".split()
SUFFIX = ["Inc.", "Corp.", "Co.", "Ltd.", "plc", "AG", "Group", "Holdings", "LLC", "", "", "", ""]
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
MON = "Jan. Feb. March April May June July Aug. Sept. Oct. Nov. Dec.".split()
AGENCY = ["AP", "Reuters", "AFP", "UPI", "PNS", "Newswire", "Agency", "WIRE", "Staff", "EFE", "KNA"]
NUMW = "two three four five six seven eight nine ten eleven twelve".split()


def full():
    if R.random() < 0.03:
        return f"{ch(FIRST)} {ch('ABCDEFGHJKLMNPRSTW')}. {ch(LAST)}"
    return f"{ch(FIRST)} {ch(LAST)}"


def town():
    if R.random() < 0.2:
        return ch(REAL)
    t = ch(SYL1) + ch(SYL2)
    u = R.random()
    return f"Port {t}" if u < 0.06 else f"St. {ch(FIRST)}" if u < 0.1 else f"{t}-on-Sea" if u < 0.12 else f"New {t}" if u < 0.16 else t


def firm():
    f = ch(FIRM1) + (ch(FIRM2) if R.random() < 0.6 else " " + ch(FIRM2).capitalize())
    s = ch(SUFFIX)
    return (f + " " + s).strip(), f


def big():
    u = R.random()
    if u < 0.45:
        return f"{R.randint(1000, 999999):,}"
    if u < 0.6:
        return f"{R.randint(10, 999)}"
    if u < 0.75:
        return f"{R.randint(1, 99)}.{R.randint(1, 9)} million"
    if u < 0.85:
        return f"{R.randint(2, 900)} million"
    return f"{R.randint(1000000, 99999999):,}"


def count():
    u = R.random()
    return ch(NUMW) if u < 0.35 else str(R.randint(10, 999)) if u < 0.7 else f"{R.randint(1000, 99999):,}"


def money():
    n = big()
    u = R.random()
    if u < 0.5:
        return "$" + n
    if u < 0.62:
        return "€" + n
    if u < 0.72:
        return "£" + n
    if u < 0.78:
        return f"${R.randint(1, 99)}.{R.randint(0, 99):02d}"
    return f"{n} {ch(['dollars', 'euros', 'pounds', 'francs', 'kronor', 'pesos'])}"


def pct():
    a = f"{R.randint(1, 60)}" if R.random() < 0.4 else f"{R.randint(0, 40)}.{R.randint(1, 9)}" if R.random() < 0.7 else f"{R.randint(0, 40)}.{R.randint(1, 99):02d}"
    return a + ch([" percent", " percent", " per cent", "%", "%", " pct"])


def year():
    return str(R.randint(1950, 2030))


def date():
    u = R.random()
    m = R.randrange(12)
    return (f"{MONTHS[m]} {R.randint(1, 28)}" if u < 0.5 else f"{MON[m]} {R.randint(1, 28)}" if u < 0.7 else f"{R.randint(1, 28)} {MONTHS[m]}" if u < 0.85
            else f"{MON[m]} {R.randint(1, 28)}, {year()}")


def clock():
    return ch([f"{R.randint(1, 12)}:{R.randint(0, 59):02d} {ch(['a.m.', 'p.m.'])}", f"{R.randint(0, 23):02d}:{R.randint(0, 59):02d} GMT", f"{R.randint(1, 12)} {ch(['a.m.', 'p.m.'])}"])


# Each event: scene-setting openers, gold sentences, further sentences, quotes. {x} slots are filled by one binding per article.
EVENTS = [
    dict(k="storm", gold=[
        "At least {n1} people were killed and more than {b1} homes were left without power when Storm {first} hit {town} overnight",
        "Flooding in {town} forced {b1} people to leave their homes after {n1} days of heavy rain",
        "A tornado tore through {town} on {day}, destroying {n1} houses and injuring {n2} people",
        "Storm {first} killed {n1} people in {town} and cut power to {b1} homes",
        "Heavy snow closed {n1} roads around {town} and left {b1} travelers stranded on {day}"],
        more=["Winds reached {n3} miles per hour.", "Rescue teams used boats to reach people on the roofs of their houses.", "Damage was put at {m1}, the regional government said.", "Schools will stay closed until {day2}.", "The storm is expected to weaken as it moves inland.", "About {b2} customers of {firm} were still without electricity at {clock}.", "Two airports were closed and trains were stopped.", "{per2}, head of the weather service in {town2}, said rivers would keep rising.", "It was the worst storm in the region since {year}."],
        scene=["The wind came first.", "Nobody in {town} had seen anything like it.", "The water rose for hours in the dark."],
        q=["We have lost everything", "The roof went in one piece", "I have never heard a sound like that", "We are asking people to stay at home"]),
    dict(k="sport", gold=[
        "{team1} beat {team2} {s1}-{s2} on {day} in front of a record crowd of {b1}",
        "Two late goals from substitute {per1} gave {team1} a {s1}-{s2} win over champions {team2} in the cup final on {day}",
        "{per1} scored {n1} points as {team1} defeated {team2} {s3}-{s4} to reach the semifinals",
        "{per1} won the {town} Open on {day}, beating {per2} 6-{s2}, 7-6, 6-{s2}",
        "{team1} signed striker {per1} from {team2} for {m1}",
        "{per1} set a world record of {n3}.{n4} seconds in the 400 meters in {town} on {day}"],
        more=["The visitors had not lost in {n2} matches.", "{last1}, who is {age}, had played only twice this season.", "It was the club's first trophy since {year}.", "Coach {per3} said his team had stopped playing too early.", "A penalty was saved in the {n4}th minute.", "The next match is on {date} in {town2}.", "Tickets had sold out in {n4} minutes, the club said.", "{per4} was sent off before half-time."],
        scene=["For an hour it looked like a dull evening.", "They had waited a long time for this.", "It was raining when the teams came out."],
        q=["I still don't believe it", "We made it hard for ourselves", "This is for the fans", "We never stopped running"]),
    dict(k="results", gold=[
        "{firm} said its {quarter}-quarter profit rose {pct} to {m1} as sales of {product} grew",
        "{firm} reported a loss of {m1} for the {quarter} quarter after revenue fell {pct}",
        "Sales at {firm} rose {pct} to {m1} in the {quarter} quarter of {year}",
        "{firm} will cut {b1} jobs, or {pct} of its work force, after a fall in demand for {product}",
        "{firm} agreed to buy {firm2} for {m1} in cash",
        "Shares in {firm} fell {pct} on {day} after the company cut its forecast for {year}"],
        more=["Earnings per share were ${s1}.{n5}, compared with ${s2}.{n6} a year earlier.", "Analysts had expected revenue of {m2}.", "Chief executive {per1} said demand had been weaker in {town}.", "The company, based in {town}, employs {b2} people.", "Shares closed at ${n3}.{n5}.", "The board will propose a dividend of {m3} a share.", "It plans to open {n1} new sites by {year}.", "{firms} was founded in {year2} by {per2}.", "Competitors such as {firm3} have also warned of lower profits."],
        scene=["It has been a hard year for makers of {product}.", "Investors had been warned."],
        q=["We are on the right road", "This was a difficult decision", "Costs are still too high", "We see strong demand ahead"]),
    dict(k="recall", gold=[
        "{firm} is recalling {b1} {product} because a fault could cause fires",
        "{firm} has stopped selling its {product} after {n1} customers were hurt",
        "Regulators ordered {firm} to recall {b1} {product} sold in {n2} countries"],
        more=["The recall covers items made between {month} {year} and {month2} {year2}.", "Owners can get a free repair within {n2} weeks.", "The company knows of {n1} fires, none of which led to injuries.", "The repairs could cost about {m1}.", "Customers can call 1-800-{n3}-{y4} from {clock} to {clock}.", "The fault is in a part made by {firm2}."],
        scene=["The first complaint came in {month}."],
        q=["We apologize to every customer", "Safety comes first", "We should have acted sooner"]),
    dict(k="city", gold=[
        "The city of {town} will close its {age}-year-old {building} to cars from next {season} after engineers found cracks in {n1} of its main supports",
        "{town} will spend {m1} on a new {building} that will open in {year}",
        "The {town} council voted {s3} to {s4} on {day} to raise property taxes by {pct}",
        "The mayor of {town}, {per1}, resigned on {day} after {n1} months in office",
        "{town} has become the first city in the country to ban {product} from its center",
        "A plan to build {b1} homes on the old {building} in {town} was rejected on {day}"],
        more=["The work is expected to take {n2} months.", "About {b2} vehicles pass every day.", "Shop owners said they feared losing customers.", "Opposition members called the plan late and badly prepared.", "An inspection in {year} had already warned of rust.", "A public meeting will be held at the town hall at {clock} on {day2}.", "The money will come from the state and from a loan of {m2}.", "Councilor {per2} voted against it.", "Bus route No. {n4} will run every {n4} minutes."],
        scene=["The argument has gone on for years.", "People in {town} had stopped believing in it."],
        q=["We only just recovered from the flood", "This will change the city", "Nobody asked us", "We had no choice"]),
    dict(k="crime", gold=[
        "Police in {town} arrested {n1} people on {day} in connection with the theft of {m1} from a bank",
        "A {age}-year-old man was sentenced to {n1} years in prison for stealing {m1} from {firm}",
        "Two former managers of {firm} were charged on {day} with hiding losses of {m1}",
        "A judge in {town} on {day} ordered {firm} to pay {m1} to {b1} former workers",
        "A jury found {per1} guilty of fraud on {day} after a trial that lasted {n1} weeks"],
        more=["Prosecutor {per2} said the scheme began in {year}.", "The defense said it would appeal.", "The case number is {n3}-{y4}.", "Investigators searched {n2} homes and found {b2} documents.", "Sgt. {per3} of the {town} police said a witness had called at {clock}.", "The maximum sentence is {n2} years.", "Bail was set at {m2}.", "The next hearing is on {date}."],
        scene=["It looked like an ordinary delivery.", "The phone rang shortly after {clock}."],
        q=["This was about greed", "Justice has been done", "My client is innocent", "They thought that nobody would notice"]),
    dict(k="science", gold=[
        "Scientists have found {n1} new species of {animal} in a cave near {town}",
        "The space probe {probe} has sent back its first pictures of the asteroid {town}, showing a surface covered with boulders",
        "A new {disease} vaccine protected {n1} out of {n2} children in a trial of {b1} people, researchers in {town} said",
        "People who sleep less than {n1} hours a night are {pct} more likely to develop {disease}, a study of {b1} adults has found",
        "Researchers at the University of {town} have built a battery that can be charged in {n1} minutes",
        "The number of {animal} in the {town} valley has fallen by {pct} since {year}"],
        more=["The results were published in the journal on {day}.", "Side effects were mild.", "The study followed {b1} people for {n2} years.", "The work was paid for with {m1} from the government.", "Dr. {per1}, who led the work, said more tests were needed.", "Prof. {per2} of {town2}, who did not take part, called the finding surprising.", "The team used {n4} cameras and a drone.", "It weighs {s1}.{s2} kg and is about {n3} cm long.", "A second trial will start in {month}."],
        scene=["It began as a student project.", "At first they thought it was a mistake."],
        q=["Every picture changes our plans", "We checked it three times", "This is only the beginning", "Nobody had looked there before"]),
    dict(k="accident", gold=[
        "{n1} people were killed and {n2} injured when a bus ran off a road near {town} on {day}",
        "Twenty-six pupils and two teachers from {town} were rescued from a cave on {day} night after heavy rain had blocked the exit for {n1} hours",
        "A fire at a {firm} warehouse in {town} killed {n1} workers on {day}",
        "A small plane carrying {n1} people made an emergency landing on a highway near {town} on {day}",
        "A ferry with {b1} passengers on board ran aground off {town} early on {day}"],
        more=["The cause is not known.", "The driver, a {age}-year-old man from {town2}, survived.", "{n2} ambulances and two helicopters were sent.", "Traffic was blocked until {clock}.", "The police asked witnesses to call 555-{y4}.", "Fire chief {per1} said the building had no sprinklers.", "It was the {n2}th accident on the road this year.", "The families have been informed."],
        scene=["It began as an ordinary trip.", "The road was dry and the sun was shining.", "They sang the whole time."],
        q=["There was smoke everywhere", "I heard a bang and then nothing", "We were very lucky", "They were calm the whole time"]),
    dict(k="politics", gold=[
        "Parliament voted {n3} to {n4} on {day} for a law that bans {product} from {year}",
        "{party} leader {per1} won the presidential election with {pct} of the vote",
        "The government will spend {m1} on {topic} over the next {n1} years",
        "President {per1} will visit {town} on {day} for talks about {topic}",
        "The United Nations said on {day} that {b1} people need help after the fighting near {town}",
        "The U.S. and {country} signed an agreement on {topic} in {town} on {day}"],
        more=["The opposition said it would go to court.", "Turnout was {pct2}.", "The law takes effect on {date}.", "Prime Minister {per2} called it a good day.", "Sen. {per3} of the {party} party voted against it.", "The E.U. has promised {m2}.", "Critics say that the plan costs too much.", "Talks will go on in {town2} at {clock}.", "A similar bill failed in {year}."],
        scene=["The vote came after midnight.", "There were no speeches this time."],
        q=["This is a good day for the country", "We will not give up", "The numbers do not add up", "Now the work begins"]),
    dict(k="economy", gold=[
        "The central bank raised its main interest rate by a quarter of a point to {r1} percent on {day}",
        "Inflation fell to {r1} percent in {month}, the lowest rate in {n1} years",
        "The economy grew {r1} percent in the {quarter} quarter, the statistics office said",
        "Unemployment rose to {r1} percent in {month} as {b1} people lost their jobs",
        "Oil prices rose above ${n3} a barrel on {day} after {country} cut its output"],
        more=["It was the {n1}th increase in a row.", "Economists had expected {r2} percent.", "Two of the nine members of the committee voted against it.", "The currency rose {pct} against the euro.", "The Dow Jones index closed at {b1}.{n5}.", "Families will pay about ${n4} more per month.", "The next meeting is on {date}.", "Exports were worth {m1}, up from {m2} in {year}.", "Governor {per1} said that prices were still rising too fast."],
        scene=["Few people were surprised.", "The markets had been nervous for days."],
        q=["Prices are still rising too fast", "We are not there yet", "This will hurt small firms"]),
    dict(k="culture", gold=[
        "The {town} museum reopened on {day} after a {n1}-year renovation and drew {b1} visitors",
        "{per1} won the {year} {town} prize for a novel about {topic}",
        "A painting by {per1} was sold for {m1} at an auction in {town} on {day}",
        "The {town} film festival opened on {day} with a film by {per1} about {topic}",
        "Café {last2} in {town} won the national coffee prize on {day}",
        "A small robot that returns books to their shelves has started work at a public library in {town}"],
        more=["Entry is free until {date}.", "The prize is worth {m1}.", "The jury praised its humor.", "About {b2} tickets have been sold.", "{last1}, {age}, lives in {town2} with {n1} cats.", "It was painted in {year2}.", "The city paid {m2} for it.", "Visitors waited up to {n1} hours.", "Some guests have already given it a name."],
        scene=["The doors opened at {clock}.", "There was a long line on the street."],
        q=["I cried when I heard it", "Now we have more time for the children", "It was worth the wait", "I thought it was a joke"]),
    dict(k="transport", gold=[
        "Train services between {town} and {town2} will be stopped for {n1} days in {month} so that old tracks can be replaced",
        "Pilots at {firm} will strike for {n1} days from {date} over pay",
        "A new ferry between {town} and {town2} will cut the journey to {n1} minutes",
        "{firm} will start flights from {town} to {town2} on {date}",
        "Drivers in {town} will pay {m1} to enter the center from {date}"],
        more=["Buses will run every {n4} minutes.", "Tickets stay valid.", "About {b1} passengers are affected.", "The work costs {m2}.", "The union wants {pct} more money.", "The company called the strike irresponsible.", "Talks broke down at {clock} on {day2}.", "The line was built in {year2}."],
        scene=["Commuters have heard this before."],
        q=["We have no other choice", "It will be worth it in the end", "Nobody told us anything"]),
    dict(k="school", gold=[
        "Schools in {town} will start at {clock} from next year so that pupils can sleep longer",
        "The University of {town} will offer free tuition to families who earn less than {m1} a year",
        "Teachers in {n1} districts around {town} went on strike on {day} over pay",
        "A school in {town} has replaced homework with {n1} hours of sport a week"],
        more=["The change affects {b1} students.", "Parents were asked in {month}; {pct} were in favor.", "Principal {per1} said attendance had improved.", "The union is asking for {pct2} more.", "It will cost {m2} a year.", "{per2}, a mother of {n1}, called it a good idea."],
        scene=["The bell rings later now."],
        q=["I like it", "The children are less tired", "We want to be taken seriously"]),
    dict(k="nature", gold=[
        "A forest fire near {town} has burned {b1} acres and is {pct} contained",
        "An earthquake with a magnitude of {s1}.{s2} struck near {town} on {day}, killing {n1} people",
        "A {animal1} that escaped from the {town} zoo was found in a garden {n1} miles away on {day}",
        "Farmers around {town} expect the smallest harvest since {year} after {n1} weeks without rain"],
        more=["About {b2} people had to leave their homes.", "More than {n3} firefighters are at work.", "The quake struck at {clock} at a depth of {n4} km.", "Zoo director {per1} thanked the police.", "The damage is estimated at {m1}.", "No rain is expected before {day2}.", "It weighs {n3} pounds and is {n1} years old."],
        scene=["It was still dark when the phones rang."],
        q=["We heard it before we saw it", "It came within a mile of the school", "She was not even scared"]),
]
ATTR = ["officials said", "police said", "the company said on {day}", "the mayor said on {day}", "according to a report published on {day}", "the agency announced", "a spokeswoman said", "according to {per5}", "{per5} said on {day}", "the ministry said in a statement"]
PRODUCTS = "electric vans,baby monitors,phones,plastic bags,e-bikes,heat pumps,coffee machines,car seats,video games,solar panels,frozen pizzas,medical devices,washing machines,smart watches,garden tools,energy drinks,batteries,running shoes,toasters,laptops".split(",")
TOPICS = "trade,clean water,migration,rail lines,climate change,hospitals,fishing rights,school meals,cyber security,public housing,war and memory,family life,border controls,artificial intelligence,forests,flood protection".split(",")
ANIMALS = "frogs,bats,beetles,otters,wolves,eagles,red pandas,salmon,spiders,storks".split(",")
DISEASES = "malaria,flu,diabetes,asthma,measles,heart disease,depression,polio".split(",")
COUNTRIES = "Canada,Japan,Brazil,Kenya,Norway,Chile,India,Poland,Ghana,South Korea,Mexico,New Zealand,Portugal,Vietnam".split(",")
BUILDINGS = "harbor bridge,concert hall,bus station,town hall,stadium,market hall,hospital,railway tunnel,power plant,swimming pool".split(",")


def team():
    return town().split("-")[0] + ch([" United", " City", " Rovers", " Tigers", " Hawks", "", "", " Wanderers", " Athletic", " FC"])


def binding():
    f1, f1s = firm()
    p = [full() for _ in range(6)]
    s = sorted(R.sample(range(0, 8), 2), reverse=True)
    s3 = sorted(R.sample(range(60, 130), 2), reverse=True)
    return dict(
        town=town(), town2=town(), day=ch(DAYS), day2=ch(DAYS), date=date(), clock=clock(), year=year(), year2=year(), month=ch(MONTHS), month2=ch(MONTHS), season=ch(["spring", "summer", "fall", "winter"]),
        first=ch(FIRST), last1=p[1].split(" ", 1)[1], last2=ch(LAST), per1=p[1], per2=p[2], per3=p[3], per4=p[4], per5=p[5], firm=f1, firms=f1s, firm2=firm()[0], firm3=firm()[1],
        team1=team(), team2=team(), n1=ch([count(), ch(NUMW), str(R.randint(10, 60))]), n2=ch([count(), str(R.randint(11, 90))]), n3=R.randint(100, 480), n4=R.randint(10, 89), n5=f"{R.randint(0, 99):02d}", n6=f"{R.randint(0, 99):02d}",
        y4=f"{R.randint(0, 9999):04d}", b1=big(), b2=big(), m1=money(), m2=money(), m3=money(), pct=pct(), pct2=pct(), s1=s[0], s2=s[1], s3=s3[0], s4=s3[1], age=R.randint(17, 94),
        r1=f"{R.randint(0, 14)}.{R.randint(1, 9)}", r2=f"{R.randint(0, 14)}.{R.randint(1, 9)}", quarter=ch(["first", "second", "third", "fourth"]), product=ch(PRODUCTS), topic=ch(TOPICS), animal=ch(ANIMALS), animal1=ch("bat beetle otter wolf deer red-panda salmon spider stork bear python".split()), disease=ch(DISEASES),
        country=ch(COUNTRIES), building=ch(BUILDINGS), probe=ch(FIRST), party=ch(["Reform", "Green", "Liberal", "Labor", "National", "Democratic", "Conservative", "Center"]))


def dateline(t):
    m = R.randrange(12)
    d = R.randint(1, 28)
    dash = ch([" - ", " -- ", " — ", " – "])
    T = t.upper()
    return ch([f"{T}{dash}", f"{T} ({ch(AGENCY)}){dash}", f"{T}, {MON[m]} {d} ({ch(AGENCY)}){dash}", f"{T}, {MONTHS[m]} {d}{dash}", f"{t}, {MONTHS[m]} {d}{dash}", f"({ch(AGENCY)}) ", f"{T}, {ch(COUNTRIES)} ({ch(AGENCY)}){dash}", f"{T} – ", f"{t} ({ch(AGENCY)}){dash}"])


def up(s):
    return s[0].upper() + s[1:]


def article():
    e = ch(EVENTS)
    b = binding()
    fill = lambda t: re.sub(r"\.\.+$", ".", t.format(**b))
    gold = up(fill(ch(e["gold"])))
    end = lambda s: s if s.endswith(".") else s + "."
    lead = gold
    u = R.random()
    if u < 0.45:
        lead = gold + ", " + fill(ch(ATTR))
    elif u < 0.52:
        lead = gold + " (" + ch(["photo", "see map", f"No. {R.randint(1, 40)}", "updated", b["year"]]) + ")"
    lead = end(lead)
    gold = end(gold)
    more = [up(fill(x)) for x in R.sample(e["more"], min(len(e["more"]), R.randint(2, 8)))]
    speaker = b["per3"]
    q = ch(e["q"])
    quote = ch([f'"{q}," said {speaker}, {b["age"]}, who lives nearby.', f'"{q}," {speaker} said.', f'{speaker} said: "{q}."', f'"{q}," said {speaker} of {b["town2"]}. "{ch(e["q"])}."', f'“{q},” said {speaker}.'])
    more.insert(R.randint(0, len(more)), quote)
    if R.random() < 0.35:  # background from another story
        e2 = ch(EVENTS)
        b2 = binding()
        more.append(ch(["Also on {day}, ", "Separately, ", "In other news, ", "Meanwhile, "]).format(**b2) + end(ch(e2["gold"]).format(**b2)))
    dl = dateline(b["town"]) if R.random() < 0.4 else ""
    u = R.random()
    if u < 0.16 and e["scene"]:
        sents = [dl + up(fill(ch(e["scene"]))), lead] + more
        pos = 1
    elif u < 0.26:
        sents = [dl + f'"{q}," said {speaker}.', lead] + more
        pos = 1
    else:
        sents = [dl + lead] + more
        pos = 0
    return dict(src="synth", title="", sents=sents, gold=gold, pos=pos)


LOWER = "rain north south market weather train council budget school river music garden winter coffee island report game team price water light market news update breaking summary hello test".split()


def odd():
    """Inputs that are not articles. The answer is the input itself (or its first sentence)."""
    u = R.random()
    if u < 0.25:
        s = ch([ch(LOWER), up(ch(LOWER)), ch(LOWER).upper(), ch(FIRST), ch(LAST), town(), firm()[0], big(), year()])
        return dict(src="odd", title="", sents=[s], gold=s, pos=0)
    if u < 0.4:
        s = " ".join(ch([ch(LOWER), up(ch(LOWER)), ch(FIRST), town(), big()]) for _ in range(R.randint(2, 7)))
        return dict(src="odd", title="", sents=[s], gold=s, pos=0)
    a = article()
    if u < 0.65:  # one or two plain sentences
        s = [x for x in a["sents"] if '"' not in x and "“" not in x][: R.randint(1, 2)]
        if a["pos"] < len(s):
            return dict(a, src="odd", sents=s)
        return dict(src="odd", title="", sents=[a["gold"]], gold=a["gold"], pos=0)
    if u < 0.75:  # code
        v = [ch(LOWER) for _ in range(6)]
        s = ch([f"fn {v[0]}() {{ let {v[1]} = vec![{R.randint(1, 9)}, {R.randint(1, 99)}]; {v[2]}({v[1]}.iter().map(|x| x * {R.randint(2, 9)})); }}",
                f"def {v[0]}({v[1]}, {v[2]}): return {v[1]}[{R.randint(0, 9)}] + {v[2]}.{v[3]}()", f"SELECT {v[0]}, COUNT(*) FROM {v[1]} WHERE {v[2]} > {R.randint(1, 999)} GROUP BY {v[0]};",
                f'{{"{v[0]}": {R.randint(0, 9)}, "{v[1]}": ["{v[2]}", "{v[3]}"], "{v[4]}": null}}', f"$ {v[0]} --{v[1]}={R.randint(1, 64)} -{v[2][0]} ./{v[3]}/{v[4]}.txt | {v[5]}"])
        return dict(src="odd", title="", sents=[s], gold=s, pos=0)
    if u < 0.85:  # tags around an article
        t = ch(["p", "div", "li", "td"])
        return dict(a, src="odd", sents=[f"<{t}>{s}</{t}>" for s in a["sents"]])
    if u < 0.93:  # other alphabets
        w = ch(["日本の審査員", "Привет мир", "你好世界", "Καλημέρα", "مرحبا", "안녕하세요", "😀🎉", "ñandú garçon", "שלום", "Größe straße", "ประเทศไทย", "ありがとう", "⚽🏆🔥", "Çağrı İstanbul"])
        g = a["gold"].rstrip(".") + " " + w + "."
        s = list(a["sents"])
        s[a["pos"]] = g
        return dict(a, src="odd", sents=s, gold=g)
    return dict(a, src="odd", sents=[s.upper() for s in a["sents"]], gold=a["gold"].upper())


def main(work, n=9000):
    with open(work + "/synth.jsonl", "w") as f:
        for i in range(n):
            f.write(json.dumps(article(), ensure_ascii=False) + "\n")
        for i in range(n // 5):
            f.write(json.dumps(odd(), ensure_ascii=False) + "\n")
    print("synthetic articles", n, "odd inputs", n // 5)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 9000)
