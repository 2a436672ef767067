"""Step 9. ROUGE of the model against first sentence, the selection rules and a random sentence, with paired bootstrap intervals.

usage: evaluate.py MODEL TEXTS.jsonl [--beams 1,4,8] [--limit N] [--dump OUT.json] [--json-out OUT.json]
       TEXTS.jsonl: one text a line, {"article": ..., "ref": ... or "reference": ...[, "src": ..., "sents": [...]]}

float32 compute from the float16 weights, inputs cut to 512 ids as ids[:511] + [1], prefix "summarize: ".
"""
import argparse
import json
import os
import random
import re
import time

ap = argparse.ArgumentParser()
ap.add_argument("model")
ap.add_argument("texts")
ap.add_argument("--beams", default="1,4,8")
ap.add_argument("--limit", type=int, default=10**9)
ap.add_argument("--max-length", type=int, default=96)
ap.add_argument("--min-length", type=int, default=0)
ap.add_argument("--length-penalty", type=float, default=1.0)
ap.add_argument("--threads", type=int, default=1)
ap.add_argument("--dump", default="")
ap.add_argument("--json-out", default="")
a = ap.parse_args()
os.environ["OMP_NUM_THREADS"] = str(a.threads)

import numpy as np
import torch
from rouge_score import rouge_scorer
from tokenizers import Tokenizer
from transformers import T5ForConditionalGeneration
from transformers.utils import logging

from textutil import cap, compress, score, split_sents, strip_dateline, tidy

logging.set_verbosity_error()
torch.set_num_threads(a.threads)
tk = Tokenizer.from_file(a.model + "/tokenizer.json")
m = T5ForConditionalGeneration.from_pretrained(a.model, dtype=torch.float32).eval()
m.generation_config.min_length = 0
rouge = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
METRICS = ("rouge1", "rouge2", "rougeL")


def encode(t):
    ids = tk.encode("summarize: " + t).ids
    return ids if len(ids) <= 512 else ids[:511] + [1]


def generate(texts, beams):
    E = [encode(t) for t in texts]
    out = [None] * len(E)
    order = sorted(range(len(E)), key=lambda i: len(E[i]))
    bs = 16 if beams == 1 else 8
    for s in range(0, len(order), bs):
        ii = order[s : s + bs]
        L = max(len(E[i]) for i in ii)
        X = torch.tensor([E[i] + [0] * (L - len(E[i])) for i in ii])
        kw = dict(num_beams=beams, do_sample=False, max_length=a.max_length)
        if beams > 1:
            kw.update(length_penalty=a.length_penalty, min_length=a.min_length, early_stopping=False)
        with torch.no_grad():
            g = m.generate(input_ids=X, attention_mask=(X != 0).long(), **kw)
        for j, i in enumerate(ii):
            out[i] = (tk.decode(g[j].tolist()), 1 in g[j].tolist()[1:])
    return out


def rules(sents):
    b = score(dict(sents=sents, title=""))
    return cap(compress(strip_dateline(b[2]))) if b else sents[0]


def words(t):
    return re.findall(r"\w+|[^\w\s]", t.lower())


def trigrams(t):
    w = words(t)
    return list(zip(w, w[1:], w[2:]))


def boot(x, y, n=5000):
    """Mean and 95 % interval of the paired difference x - y, by bootstrap over texts."""
    d = np.asarray(x) - np.asarray(y)
    r = np.random.RandomState(0)
    b = np.sort(d[r.randint(0, len(d), (n, len(d)))].mean(1))
    return d.mean(), b[int(0.025 * n)], b[int(0.975 * n) - 1]


def main():
    T = [json.loads(x) for x in open(a.texts)][: a.limit]
    arts = [t["article"] for t in T]
    refs = [re.sub(r"\s+", " ", t.get("ref") or t.get("reference") or t.get("summary")) for t in T]
    sents = [t.get("sents") or split_sents(tidy(t["article"])) for t in T]
    rnd = random.Random(3)
    rows = {"random sentence": [rnd.choice(s) for s in sents], "first sentence": [s[0] for s in sents], "rules": [rules(s) for s in sents]}
    done = {}
    for b in map(int, a.beams.split(",")):
        t = time.time()
        g = generate(arts, b)
        name = "model, greedy" if b == 1 else f"model, {b} beams"
        rows[name], done[name] = [x[0] for x in g], [x[1] for x in g]
        print(f"{name}: {time.time() - t:.0f} s", flush=True)
    sc = {k: [{q: 100 * s[q].fmeasure for q in METRICS} for s in (rouge.score(r, p) for r, p in zip(refs, v))] for k, v in rows.items()}
    groups = [("all", list(range(len(T))))]
    for src in sorted({t.get("src", "") for t in T}):
        ii = [i for i, t in enumerate(T) if t.get("src", "") == src]
        if src and 10 <= len(ii) < len(T):
            groups.append((src, ii))
    out = dict(n=len(T), systems={}, differences={}, outputs={}, sources={})
    for name, ii in groups:
        print(f"\n### {name}, {len(ii)} texts\n| system | R-1 | R-2 | R-L | words |\n| --- | --- | --- | --- | --- |")
        for k in rows:
            v = [float(np.mean([sc[k][i][q] for i in ii])) for q in METRICS]
            print(f"| {k} | {v[0]:.2f} | {v[1]:.2f} | {v[2]:.2f} | {np.mean([len(rows[k][i].split()) for i in ii]):.1f} |")
            (out["systems"] if name == "all" else out["sources"].setdefault(name, {}))[k] = [round(x, 2) for x in v]
    print("\n| difference, 95 % interval | R-1 | R-2 | R-L |\n| --- | --- | --- | --- |")
    for k in done:
        for base in ("first sentence", "rules", "random sentence"):
            v = [boot([s[q] for s in sc[k]], [s[q] for s in sc[base]]) for q in METRICS]
            print(f"| {k} - {base} | " + " | ".join("%+.2f (%+.2f to %+.2f)" % x for x in v) + " |")
            out["differences"][f"{k} - {base}"] = [[round(float(y), 2) for y in x] for x in v]
    v = [boot([s[q] for s in sc["rules"]], [s[q] for s in sc["first sentence"]]) for q in METRICS]
    print("| rules - first sentence | " + " | ".join("%+.2f (%+.2f to %+.2f)" % x for x in v) + " |")
    print("\n| output | trigrams in the article | garbled (under half of them) | ends in a sentence end | reached the end mark | more than one sentence | equal to the first sentence |\n| --- | --- | --- | --- | --- | --- | --- |")
    for k in done:
        cov = tot = bad = 0
        for art, p in zip(arts, rows[k]):
            have = set(trigrams(tk.decode(tk.encode(art).ids)))
            q = trigrams(p)
            c = sum(x in have for x in q)
            cov, tot, bad = cov + c, tot + len(q), bad + (c < 0.5 * len(q))
        n = len(T)
        norm = lambda s: tk.decode(tk.encode(s).ids)
        r = [100 * cov / tot, 100 * bad / n, 100 * np.mean([bool(re.search(r"[.!?][\"')]*$", p)) for p in rows[k]]), 100 * np.mean(done[k]),
             100 * np.mean([len(split_sents(p)) > 1 for p in rows[k]]), 100 * np.mean([p == norm(s[0]) for p, s in zip(rows[k], sents)])]
        print(f"| {k} | " + " | ".join("%.1f %%" % x for x in r) + " |")
        out["outputs"][k] = [round(float(x), 1) for x in r]
    if a.json_out:
        json.dump(out, open(a.json_out, "w"), indent=1)
    if a.dump:
        with open(a.dump, "w") as f:
            for i, t in enumerate(T):
                f.write(json.dumps(dict(src=t.get("src"), ref=refs[i], **{k: v[i] for k, v in rows.items()}), ensure_ascii=False) + "\n")


main()
