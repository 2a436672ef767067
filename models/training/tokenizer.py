"""Step 5. A Unigram tokenizer of 8,000 pieces with byte fallback, trained on the training texts -> WORK/tokenizer.json.

usage: tokenizer.py WORK
"""
import json
import random
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

V = 8000
# Punctuation is a piece of its own, so that a word is the same piece before a comma and at the end of a sentence. Not split: commas and
# points inside numbers (77,410) and the points of abbreviations (U.S., Sen., a.m.), so that they do not look like the end of a sentence.
PUNCT = r'▁?[("\[]|[,;:!?)"\]](?!\d)|(?<!\d)[,;:!?)"\]]|(?:(?<=[a-z]{4})|(?<=[\d)"%]))\.(?=$|["\')\]])'


def main(work):
    rnd = random.Random(0)
    norm = normalizers.Sequence(
        [normalizers.NFKC()]
        + [normalizers.Replace(a, b) for a, b in (("“", '"'), ("”", '"'), ("’", "'"), ("‘", "'"))]
        + [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    )
    pre = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always"), pre_tokenizers.Split(Regex(PUNCT), "isolated")])
    by = {}
    for line in open(work + "/train.jsonl"):
        d = json.loads(line)
        by.setdefault(d["src"], []).append(" ".join(d["s"][:12]))
    text = []
    for src, chars in (("senate", 5.5e6), ("doj", 2.5e6), ("congress", 1.2e6), ("digitalgov", 1.5e6), ("18f", 0.5e6), ("synth", 3e6), ("odd", 0.3e6)):
        rnd.shuffle(by[src])
        n = 0
        for t in by[src]:
            text.append(t.upper() if rnd.random() < 0.02 else t)
            n += len(t)
            if n > chars:
                break
    tk = Tokenizer(models.Unigram())
    tk.normalizer, tk.pre_tokenizer = norm, pre
    tk.train_from_iterator(
        text,
        trainers.UnigramTrainer(vocab_size=V - 2 - 256 + 1, special_tokens=["<unk>"], unk_token="<unk>", shrinking_factor=0.75, n_sub_iterations=2, max_piece_length=16, show_progress=False),
    )
    voc = [v for v in json.loads(tk.to_str())["model"]["vocab"] if v[0] != "<unk>"]
    # a comma or point inside a number goes with the digit after it
    digits = [(x + d, -5.0) for x in ",." for d in "0123456789"]
    voc = [v for v in voc if v[0] not in dict(digits)]
    voc = voc[: V - 3 - 256 - len(digits)] + digits
    low = min(s for _, s in voc)
    full = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)] + [(f"<0x{b:02X}>", low - 10.0) for b in range(256)] + [(p, s) for p, s in voc]
    out = Tokenizer(models.Unigram(full, unk_id=2, byte_fallback=True))
    out.normalizer, out.pre_tokenizer = norm, pre
    out.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(replacement="▁", prepend_scheme="always")])
    out.add_special_tokens([AddedToken(x, special=True, normalized=False) for x in ("<pad>", "</s>", "<unk>")])
    out.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    assert out.get_vocab_size() == V, out.get_vocab_size()
    out.save(work + "/tokenizer.json")
    ok = n = c = k = 0
    for line in open(work + "/test.jsonl"):
        a = json.loads(line)["article"]
        e = out.encode(a)
        n += 1
        ok += out.decode(e.ids) == norm.normalize_str(a)
        c += len(a)
        k += len(e.ids)
        assert 2 not in e.ids
    print(f"round trip {ok}/{n}, {c / k:.2f} characters a piece")
    for s in ("crowd of 77,410 on Tuesday.", "naïve café 日本 😀 “quotes”", "TRAIN SERVICES WILL BE STOPPED", "$1,234,567.89 up 12.75%"):
        print(out.encode(s).tokens)


if __name__ == "__main__":
    main(sys.argv[1])
