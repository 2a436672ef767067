"""Step 2. WORK/raw -> WORK/docs.jsonl: one document per line: src, id, title, desc (a human summary, if any), sents.

usage: clean.py WORK
"""
import glob
import html
import json
import os
import re
import sys

from textutil import NOT_OURS, make_doc, tidy


def senate(raw):
    """First line: the headline (capitals). Files without punctuation are left out."""
    for f in sorted(glob.glob(raw + "/raw/*/*.txt")):
        t = open(f, encoding="cp1252", errors="replace").read()
        w = len(t.split())
        if w < 60 or t.count(",") / w < 0.02 or t.count(".") / w < 0.025 or NOT_OURS.search(t):
            continue
        lines = [x for x in t.strip().split("\n") if x.strip()]
        title = lines[0].strip()
        body = lines[1:]
        if len(title) > 200 or re.match(r"\w+day,|united states senator|for immediate", title, re.I):
            title, body = "", lines
        yield make_doc("senate", title, body, ident="/".join(f.split("/")[-2:]))


def doj(raw):
    tag = lambda x: re.sub(r"<[^>]+>", " ", re.sub(r"</?(?:a|em|strong|b|i|u|span|sup|font)\b[^>]*>", "", x))
    for f in sorted(glob.glob(raw + "/scrape_pressRelease/pressReleases/*.html")):
        t = open(f, encoding="utf8", errors="replace").read()
        h = re.search(r'<h1 id="node-title">(.*?)</h1>', t, re.S)
        s = re.search(r'field--name-field-pr-subtitle.*?field__item even">(.*?)</div>', t, re.S)
        b = re.search(r'field--name-field-pr-body.*?field__item even">(.*?)</div>\s*</div>\s*</div>', t, re.S)
        if not h or not b or NOT_OURS.search(b.group(1)):
            continue
        ps = re.split(r"</p>|</li>|<br ?/?>|</div>", b.group(1))
        ps = [html.unescape(tag(p)).replace("\x91", "'").replace("\x92", "'").replace("\x93", '"').replace("\x94", '"').replace("\x96", "–") for p in ps]
        # "WASHINGTON  Lin Feng Xu": the dateline lost its dash in the collection
        ps = [re.sub(r"^(\s*[A-Z][A-Z. ]{4,30}?) {2,}(?=[A-Z])", r"\1 – ", p) for p in ps]
        ps = [re.sub(r"^\s*WASHINGTON\W*\s+(?=[A-Z])", "WASHINGTON – ", p) for p in ps]
        yield make_doc("doj", tag(h.group(1)), ps, tag(s.group(1)) if s else "", os.path.basename(f))


def congress(raw):
    for f in sorted(glob.glob(raw + "/output/*.txt")):
        for i, item in enumerate(re.split(r"\n?==\n", open(f, encoding="utf8", errors="replace").read())):
            m = re.match(r"\s*Title:(.*?)\n.*?Content:\s*\n(.*)", item, re.S)
            if not m or NOT_OURS.search(m.group(2)):
                continue
            # the collection breaks lines and drops spaces at links: join paragraphs and restore spaces
            t = re.sub(r"(?<=[a-z,])\n(?=[a-z(])", " ", m.group(2))
            if re.search(r"[a-z](?:today|released|introduced|joined|announced|issued)\b", t):
                continue
            t = re.sub(r"\)(?=[a-z])", ") ", t)
            yield make_doc("congress", m.group(1), t.split("\n"), ident=os.path.basename(f) + f"#{i}")


def markdown(b):
    b = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", b, flags=re.S)
    b = re.sub(r"```.*?```", "", b, flags=re.S)
    b = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", b)
    b = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", b)
    b = re.sub(r"\[([^\]]*)\]\[[^\]]*\]", r"\1", b)
    b = re.sub(r"<[^>]+>|[*_`#>]+|\{[^}]*\}", "", b)
    return b.replace("\\", "")


def front(t):
    m = re.match(r"---\s*\n(.*?)\n---\s*\n(.*)", t, re.S)
    if not m:
        return None
    get = lambda k: (re.search(rf"^{k}:\s*[>|]?-?\s*[\'\"]?(.*?)[\'\"]?\s*$", m.group(1), re.M) or [0, ""])[1].replace("''", "'").replace('\\"', '"')
    return get, m.group(2)


def posts(src, raw, desc_key):
    for f in sorted(glob.glob(raw + "/**/*.md", recursive=True)):
        r = front(open(f, encoding="utf8", errors="replace").read())
        if not r or os.path.basename(f).startswith("_"):
            continue
        get, body = r
        yield make_doc(src, get("title"), re.split(r"\n\s*\n", markdown(body)), tidy(markdown(get(desc_key))), os.path.basename(f))


def key(s):
    return re.sub(r"\W+", "", s.lower())


def main(work):
    raw = work + "/raw/"
    gens = [
        senate(raw + "senate"),
        doj(raw + "doj"),
        congress(raw + "congress"),
        posts("digitalgov", raw + "digitalgov", "summary"),
        posts("18f", raw + "18f", "excerpt"),
    ]
    seen, n = set(), {}
    with open(work + "/docs.jsonl", "w") as out:
        for g in gens:
            for d in g:
                if not d:
                    continue
                k = key(" ".join(d["sents"][:2]))  # the same release from two offices
                if k in seen:
                    continue
                seen.add(k)
                n[d["src"]] = n.get(d["src"], 0) + 1
                out.write(json.dumps(d, ensure_ascii=False) + "\n")
    print(n, sum(n.values()))


if __name__ == "__main__":
    main(sys.argv[1])
