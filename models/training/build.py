"""Step 4. docs.jsonl + synth.jsonl -> train.jsonl, val.jsonl, test.jsonl (examples as text).

usage: build.py WORK

train/val line: src, s (sentences), t (target), c (per sentence: its compressed form, null if it has none or is unchanged), h (a human summary, or null)
test line:      src, id, article, sents, ref (human title or description), held out before anything else.
"""
import json
import random
import re
import sys

from synth import big, dateline, town
from textutil import content, finish, score, strip_dateline

R = random.Random(0)
N_TEST = {"doj": 120, "senate": 100, "digitalgov": 70, "18f": 50, "congress": 20}
N_VAL = 150


def key(s):
    return re.sub(r"\W+", "", s.lower())


def reference(d):
    """The human summary of a text: the description unless it repeats the text's beginning, else the title (not in capitals)."""
    body = key(" ".join(d["sents"][:4]))
    if len(d["desc"].split()) >= 8 and d["src"] in ("digitalgov", "18f") and key(d["desc"])[:50] not in body:
        return d["desc"]
    if d["src"] in ("doj", "congress", "senate") and len(d["title"].split()) >= 6:
        return d["title"]
    return None


NUM = re.compile(r"\d[\d,]*(?:\.\d+)?")


def renumber(sents):
    """Replace each number of a text consistently, so that the model must copy numbers instead of knowing them."""
    m = {}

    def f(x):
        k = x.group(0)
        if k not in m:
            tail = "," if k.endswith(",") else ""
            b = k.rstrip(",")
            if re.fullmatch(r"(?:19|20)\d\d", b):
                v = str(R.randint(1900, 2030))
            elif R.random() < 0.4:
                v = re.sub(r"\D.*", "", big()) if len(b) < 3 else big().split(" ")[0]
            else:
                v = "".join(R.choice("123456789" if i == 0 else "0123456789") if ch.isdigit() else ch for i, ch in enumerate(b))
            m[k] = v + tail
        return m[k]

    return [NUM.sub(f, s) for s in sents]


def human(d):
    """The human description as a second target, if almost all its content is in the text."""
    h = d.get("desc") or ""
    if d["src"] == "doj" or not 7 <= len(h.split()) <= 45:
        return None
    A = set(content(" ".join(d["sents"][:14])))
    w = content(h)
    if not w or sum(x in A for x in w) / len(w) < 0.8 or re.search(r"\b(I|we|our|my)\b", h, re.I):
        return None
    h = h[0].upper() + h[1:]
    return h if re.search(r"[.!?][\"”')]*$", h) else h + "."


def record(d, augment=True):
    S = d["sents"][:22]
    if augment and R.random() < 0.4 and d["src"] not in ("synth", "odd"):
        S = renumber(S)
    if d["src"] in ("synth", "odd"):
        t = d["gold"]
    else:
        b = score(dict(sents=S, title=d["title"]))
        t = finish(b[2]) if b else None
        if not t:
            return None
        if augment and R.random() < 0.12 and strip_dateline(S[0]) == S[0]:
            S = [dateline(town()) + S[0]] + S[1:]
        u = R.random()
        if augment and u < 0.025:
            S, t = [s.upper() for s in S], t.upper()
        elif augment and u < 0.035:
            S, t = [s.lower() for s in S], t.lower()
    C = []
    for s in S[:12]:
        c = finish(s)
        C.append(c if c != s else None)
    return dict(src=d["src"], s=S, t=t, c=C, h=human(d))


def main(work):
    docs = [json.loads(x) for x in open(work + "/docs.jsonl")]
    R.shuffle(docs)
    test, rest, left = [], [], dict(N_TEST)
    for d in docs:
        r = reference(d) if left.get(d["src"], 0) else None
        if r:
            left[d["src"]] -= 1
            test.append(dict(src=d["src"], id=d["id"], article=" ".join(d["sents"]), sents=d["sents"], ref=r))
        else:
            rest.append(d)
    held = {key(s) for d in test for s in d["sents"] if len(s) > 40}
    n0 = len(rest)
    rest = [d for d in rest if sum(key(s) in held for s in d["sents"]) < 2]  # joint releases, updated versions
    print("test", len(test), "dropped from training because they share two sentences with a test text:", n0 - len(rest))
    val, train = rest[:N_VAL], rest[N_VAL:]
    syn = [json.loads(x) for x in open(work + "/synth.jsonl")]
    with open(work + "/test.jsonl", "w") as f:
        for d in test:
            f.write(json.dumps(d, ensure_ascii=False) + "\n")
    count, pos, hs = {}, [0] * 6, 0
    for name, part in (("val", val), ("train", train + syn)):
        with open(f"{work}/{name}.jsonl", "w") as f:
            for d in part:
                r = record(d, name == "train")
                if not r:
                    continue
                f.write(json.dumps(r, ensure_ascii=False) + "\n")
                count[name, r["src"]] = count.get((name, r["src"]), 0) + 1
                hs += bool(r["h"])
                if name == "val":
                    b = score(dict(sents=d["sents"], title=d["title"]))
                    pos[b[1]] += 1
    print(count, "human targets", hs, "target position in val", pos)


if __name__ == "__main__":
    main(sys.argv[1])
