"""Sentences, junk, datelines, selection and compression: the rules that make the training targets."""
import html
import re
from collections import Counter

ABBR = set(
    """mr mrs ms dr sen sens rep reps gov govs gen lt col sgt capt cmdr maj adm st jr sr inc corp co ltd vs no nos jan feb
    mar apr jun jul aug sep sept oct nov dec prof rev hon pres dept est ave blvd rd mt ft etc fig approx bros dist hr pvt cpl
    supt det atty ala ariz ark calif colo conn del fla ga ill ind kan ky la md mass mich minn miss mo mont neb nev okla ore pa
    tenn tex va vt wash wis wyo n.c s.c n.d s.d n.h n.j n.m n.y r.i w.va u.s u.n u.k u.s.a d.c e.u a.m p.m e.g i.e ph.d
    u.s.c""".split()
)
BREAK = re.compile(r'([.!?]+["\'”’)\]]*)\s+(?=["\'“‘(\[]*[A-Z0-9])')


def split_sents(text):
    """Split at . ! ? before a capital or digit, but not after an abbreviation, an initial or 'U.S.'."""
    out, last = [], 0
    for m in BREAK.finditer(text):
        part = text[last : m.end(1)]
        if m.group(1) == ".":
            w = re.search(r"(\S+)\.$", part)
            if w:
                x = w.group(1).lower().lstrip("(\"'“‘[")
                x = re.split(r"[^a-z.]", x)[-1]
                if x in ABBR or re.fullmatch(r"[a-z]", x) or re.fullmatch(r"(?:[a-z]\.)+[a-z]", x):
                    continue
        out.append(part.strip())
        last = m.end()
    if text[last:].strip():
        out.append(text[last:].strip())
    return out


JUNK = re.compile(
    r"^(advertisement|click here|sign up|read more|photo|image|caption|follow |subscribe|watch|video|e-?mail|contact|for more|to (?:view|read|watch|listen|learn|see)|"
    r"for immediate|media contact|press (?:contact|office|release)|related|see also|share|copyright|©|the following|please|updated|published|posted|###|"
    r"a (?:copy|pdf|link)|(?:the )?(?:full )?text of|attached|below is|here is the|find (?:it|more)|join |register|this (?:post|article|blog) (?:was|is)|editor)",
    re.I,
)
TERM = re.compile(r"[.!?][\"'”’)]*$")


def tidy(t):
    t = html.unescape(t)
    for a, b in (("\xa0", " "), ("\u200b", ""), ("\ufeff", ""), ("\x91", "'"), ("\x92", "'"), ("\x93", '"'), ("\x94", '"'), ("\x96", "–"), ("\x97", "—"), ("\r", " ")):
        t = t.replace(a, b)
    t = re.sub(r"\s+", " ", t).strip()
    return re.sub(r"\s+([,.;:!?])(?=\s|$)", r"\1", t)


def clean_paras(paras):
    out = []
    for p in paras:
        p = tidy(p)
        if len(p) < 25 or JUNK.match(p) or not TERM.search(p) or "http" in p[:60] or "{" in p or "|" in p[:80] or "�" in p or "Ã" in p or "â€" in p:
            continue
        out.append(p)
    return out


NOT_OURS = re.compile(
    r"copyright|©|all rights reserved|reprinted|associated press|\(AP\)|reuters|staff writer|by permission|new york times,|editorial board|"
    r"washington post,|wall street journal,|published in the|appeared in the|op-?ed",
    re.I,
)
ENGLISH = set("the of and to in a that for is on with by was as it at from be this are his has".split())


def make_doc(src, title, paras, desc="", ident=""):
    sents = []
    for p in clean_paras(paras):
        sents += split_sents(p)
        if len(sents) > 30:
            break
    sents = [s for s in sents if len(s) > 1][:30]
    words = [w.lower() for s in sents[:8] for w in re.findall(r"[A-Za-z]+", s)]
    if len(sents) < 3 or len(words) < 40 or sum(w in ENGLISH for w in words) / len(words) < 0.18:
        return None
    return dict(src=src, id=ident, title=tidy(title), desc=tidy(desc), sents=sents)


# ---- datelines --------------------------------------------------------------------------------------------------------
DATELINE = re.compile(
    r"^(?:WASHINGTON,?\s*D\.?\s?C\.?\s*[-–—:|/]*\s*(?=[A-Z])|WASHINGTON\s+(?=(?:U\.S\.|Sen|Rep|The|Today)\b)"
    r"|(?:[A-Z][\w.’'-]*,?\s+){0,6}\((?:[A-Z][A-Za-z. ]{1,24})\)\s*(?:--|—|–|-)\s*"
    r"|\((?:[A-Z][A-Za-z.]{1,14})\)\s*(?:--|—|–|-)?\s*"
    r"|\[?[A-Z][A-Z.’',/ -]{2,40}?(?:,?\s+[A-Z][\w.]+(?:\s[A-Z][\w.]+)?)?\]?\s*(?:\([^)]{2,24}\))?\s*(?:\d{1,2} \w+ )?(?:(?:--+|—|–)\s*|(?:-|:)\s+)"
    r"|[A-Z][A-Za-z.’' ]{2,24}, [A-Z][\w.]{0,11}\.?(?:,? [A-Z][a-z]+\.? \d{1,2}(?:, \d{4})?)?\s*(?:\([A-Z][\w ]+\))?\s*(?:--+|—|–|-)\s*"
    r"|[A-Z][A-Za-z.’' -]{2,24}, [A-Z][a-z]+\.? \d{1,2}(?:, \d{4})?,?\s*(?:\([A-Z][\w ]+\))?\s*(?:--+|—|–|-)\s*)"
)


def strip_dateline(s):
    r = DATELINE.sub("", s, count=1)
    return cap(r) if len(r) > 20 and r != s else s


def cap(s):
    return s[0].upper() + s[1:] if s and s[0].islower() else s


# ---- compression ------------------------------------------------------------------------------------------------------
ATTRIB = re.compile(
    r",\s+(?:according to [^,;]{3,80}(?:, [^,;]{3,40})?|(?:(?!which|who|but|and|as|when|while|after)[\w.'’-]+ ){0,6}(?:said|says|announced|reported|"
    r"reports|told [^,.;]{3,40}|sources say|officials say|showed|show)(?: (?:on |in |late |early |in a [\w ]{3,30})?[A-Z]?[^,.;]{0,40})?)\.$"
)
RELATIVE = re.compile(r",\s+(?:who|which|whose)\s+[^,;.]{5,110},\s+")
PARENS = re.compile(r"\s*\([^()]{1,80}\)")
TAIL = re.compile(r",\s+(?:while|although|though|even as|saying|adding|citing|which|who|but|amid)\s")
TAIL_LONG = re.compile(r",\s+(?:including|where|as well as|along with|such as|especially|particularly|after|in which|which|who|as|so that|because|with)\s")


def compress(s):
    """Drop parts that a one-sentence summary does not need: parentheses, a trailing attribution, one relative clause, an overlong tail."""
    t = PARENS.sub("", s)
    q = ATTRIB.sub(".", t)
    if len(q.split()) >= 8 and not q.count('"') % 2 and "?." not in q:
        t = q
    q = RELATIVE.sub(" ", t, count=1)
    if q != t and len(q.split()) >= 8 and q[0].isupper():
        t = q
    if len(t.split()) > 30:
        for m in list(TAIL.finditer(t))[::-1]:
            h = t[: m.start()]
            if len(h.split()) >= 14 and h.count('"') % 2 == 0 and h.count("“") == h.count("”"):
                t = h + "."
                break
    if len(t.split()) > 36:
        for m in list(TAIL_LONG.finditer(t))[::-1]:
            h = t[: m.start()]
            if len(h.split()) >= 16 and h.count('"') % 2 == 0 and h.count("“") == h.count("”"):
                t = h + "."
                break
    return re.sub(r"\s+", " ", t).strip()


def finish(s):
    """A sentence as a target: no dateline, compressed, starting with a capital and ending in a sentence end; None if that fails."""
    c = cap(compress(strip_dateline(s)))
    return c if c and re.search(r"[.!?][\"”')]*$", c) else None


# ---- selection --------------------------------------------------------------------------------------------------------
STOP = set(
    """a an the and or but if of to in on at for with by from as is are was were be been being it its this that these those he
    she they we i you his her their our your my not no do does did have has had will would can could should may might must than
    then so such about into over after before up down out off more most some any all also just only who whom which what when
    where why how there here said says say told mr mrs ms dr""".split()
)
WORD = re.compile(r"[a-z0-9]+")
BAD_START = re.compile(r"^(but|and|so|he|she|it|they|this|that|these|those|his|her|their|i|we|you|my|our|yet|or|now|still|then|here|there|yes|no|what|why|how|if)\b", re.I)


def content(s):
    return [w[:6] for w in WORD.findall(s.lower().replace("'s", "")) if w not in STOP and len(w) > 1]


def score(doc):
    """The best of the first six sentences: (score, position, sentence), or None. Centrality + overlap with the title + position."""
    S = doc["sents"][:12]
    T = set(content(doc.get("title", "")))
    C = [set(content(s)) for s in S]
    df = Counter(w for c in C for w in c)
    best = None
    for i, s in enumerate(S[:6]):
        n = len(s.split())
        if n < 7 or n > 55 or not C[i]:
            continue
        sc = sum(min(df[w] - 1, 3) for w in C[i]) / (9 * len(C[i]) ** 0.5)
        sc += len(T & C[i]) / max(3, len(T)) if T else 0
        sc += (0.55, 0.15, 0.05, 0, 0, 0)[i]
        if BAD_START.match(strip_dateline(s)):
            sc -= 0.35
        if "?" in s:
            sc -= 0.3
        if s[0] in "\"“'":
            sc -= 0.35
        if re.search(r"\b(I|I'm|I've|my|we|our|you|your)\b", s):
            sc -= 0.25
        if n < 10:
            sc -= 0.15
        if s.rstrip()[-1] == ":":
            sc -= 0.3
        if best is None or sc > best[0]:
            best = (sc, i, s)
    return best
