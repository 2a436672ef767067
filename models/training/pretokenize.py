"""Step 6. train/val.jsonl -> train/val.pkl: the same examples as arrays of piece ids, sentence by sentence.

usage: pretokenize.py WORK
"""
import json
import pickle
import re
import sys

import numpy as np
from tokenizers import Tokenizer

from textutil import BAD_START


def main(work):
    tk = Tokenizer.from_file(work + "/tokenizer.json")
    enc = lambda L: [np.array(e.ids[:-1], dtype=np.uint16) for e in tk.encode_batch(L)]
    for name in ("val", "train"):
        out = []
        for line in open(f"{work}/{name}.jsonl"):
            d = json.loads(line)
            S = d["s"][:20]
            C = [c for c in d["c"] if c]
            ids = enc(S + [d["t"]] + C + ([d["h"]] if d["h"] else []))
            k = len(S)
            it = iter(ids[k + 1 :])
            # sentences that could come first without being the news: quotes, those that start with a pronoun, those without a name or number
            q = [i for i in range(1, k) if len(ids[i]) < 40 and (S[i][0] in "\"“'" or BAD_START.match(S[i]) or not re.search(r"\d|\s\W?[A-Z]", S[i]))]
            out.append(dict(src=d["src"], q=q, s=ids[:k], t=ids[k], c=[next(it) if c else None for c in d["c"]], h=ids[-1] if d["h"] else None))
        pickle.dump(out, open(f"{work}/{name}.pkl", "wb"), protocol=4)
        print(name, len(out), "M pieces", sum(len(x) for r in out for x in r["s"]) / 1e6, "target pieces p50/p95", np.percentile([len(r["t"]) for r in out], [50, 95]))


if __name__ == "__main__":
    main(sys.argv[1])
