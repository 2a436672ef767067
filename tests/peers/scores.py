"""Compares `POST /v1/scores` with rouge-score and sacrebleu."""

import json
import random

from rouge_score import rouge_scorer
from sacrebleu.metrics import BLEU

from product import REPOSITORY

KINDS = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
PAIRS = 300
AT_ONCE = 20
ODD = [
    "U.S. prices rose 3.5% to $1,000.50; nobody minded!",
    "Straße, naïve café — “quoted” … and 雨が降った。",
    "a a a a b b a",
    "İstanbul'da yağmur yağdı.",
    "\u212a elvin Ⅷ ½ ﬁ",
    "don't can't it's O'Neill's",
    "<skipped> &amp; &lt;tag&gt; -hyphen-ated-",
    "x",
]


def texts(rng):
    articles = [json.loads(line) for line in (REPOSITORY / "samples/articles.jsonl").read_text().splitlines()]
    sentences = [part for article in articles for part in article["article"].split(". ")] + ODD
    return lambda: "\n".join(
        " ".join(rng.sample(words, rng.randint(1, len(words))) if rng.random() < 0.3 else words)
        for words in (sentence.split() for sentence in rng.sample(sentences, rng.randint(1, 3)))
        if words
    ) or "rain"


def peers(reference, summary, bleu, plain, stemmed):
    found = {}
    for name, scorer in [("rouge", plain), ("rouge_stemmed", stemmed)]:
        for kind, score in scorer.score(reference, summary).items():
            found[name, kind] = (score.precision, score.recall, score.fmeasure)
    found["bleu", ""] = bleu.corpus_score([summary], [[reference]]).score
    return found


def check(product, seed):
    rng = random.Random(seed)
    text = texts(rng)
    bleu = BLEU()
    plain = rouge_scorer.RougeScorer(KINDS)
    stemmed = rouge_scorer.RougeScorer(KINDS, use_stemmer=True)
    compared = 0
    pairs = [(text(), text()) for _ in range(PAIRS)]
    for begin in range(0, PAIRS, AT_ONCE):
        some = pairs[begin : begin + AT_ONCE]
        for is_stemmed in [False, True]:
            body = {"pairs": [{"reference": a, "summary": b} for a, b in some], "stemmed": is_stemmed}
            answer = product.call("/v1/scores", body)
            while not answer["done"]:
                answer = product.call(f"/v1/scores/{answer['id']}?wait=30")
            for (reference, summary), found in zip(some, answer["pairs"], strict=True):
                wanted = peers(reference, summary, bleu, plain, stemmed)
                name = "rouge_stemmed" if is_stemmed else "rouge"
                for kind in KINDS:
                    parts = [found[kind][part] for part in ["precision", "recall", "fmeasure"]]
                    equal(kind, parts, list(wanted[name, kind]), (reference, summary))
                    compared += 3
                equal("bleu", [found["bleu"]], [wanted["bleu", ""]], (reference, summary))
                compared += 1
    print(f"scores: {compared} values of {PAIRS} pairs as rouge-score and sacrebleu")


def equal(what, found, wanted, pair):
    if any(abs(a - b) > 1e-9 for a, b in zip(found, wanted, strict=True)):
        raise SystemExit(f"{what}: {found}, but the peer has {wanted} for {pair!r}")
