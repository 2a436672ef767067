"""Writes `wide.jsonl` beside each small model, and `precis-mini.jsonl`: many inputs of 1 to 512 tokens, a few searches
for each, and transformers' outputs. Run `make_golden.py` first: it creates the models.

    python make_wide.py

Needs torch, transformers 5.23, tokenizers and safetensors. Takes about half an hour on one core. Every search also runs
in float64. A case is kept only if both give the same tokens, so that rounding of float32 sums decides no case.
"""

import copy
import json
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForSeq2SeqLM

HERE = Path(__file__).parent
TOP = HERE.parent.parent.parent
INPUTS = 60
ARTICLE_INPUTS = 200

SEARCHES = [
    dict(num_beams=4, num_return_sequences=3),
    dict(),
    dict(num_beams=8, min_length=10, max_length=64, num_return_sequences=8),
    dict(num_beams=3, early_stopping=True, num_return_sequences=2, length_penalty=1.5),
    dict(min_length=12, repetition_penalty=1.2),
    dict(num_beams=4, early_stopping="never", num_return_sequences=4),
    dict(num_beams=2, no_repeat_ngram_size=3, repetition_penalty=1.3, length_penalty=0.6),
    dict(no_repeat_ngram_size=2, max_length=48),
    dict(num_beams=6, early_stopping="never", length_penalty=-0.5, min_length=5),
    dict(num_beams=5, length_penalty=2.0, min_length=8, max_length=24, early_stopping=True),
]


def generate(model, ids, search, eos):
    """Returns new tokens and score of each requested sequence. A greedy score is that of the sequence's tokens."""
    settings = {"max_length": 32, "num_beams": 1, "do_sample": False, **search}
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), eos_token_id=eos, return_dict_in_generate=True,
        output_scores=True, output_logits=True, **settings,
    )
    sequences = []
    for row, sequence in enumerate(out.sequences[:, 1:].tolist()):
        # Sequences are padded to the longest hypothesis.
        ends = [index for index, token in enumerate(sequence) if token in eos]
        new = sequence[: ends[0] + 1] if ends else sequence
        if settings["num_beams"] > 1:
            score = float(out.sequences_scores[row])
        else:
            each = [logits[0].log_softmax(-1)[token].item() for logits, token in zip(out.logits, new)]
            score = sum(each) / len(new) ** settings.get("length_penalty", 1.0)
        sequences.append((new, score))
    return settings, sequences


def cases(model, double, ids, searches, eos):
    """Returns the results of the searches, and the number of cases that float32 rounding decides."""
    kept, dropped = [], 0
    for search in searches:
        settings, found = generate(model, ids, search, eos)
        exact = generate(double, ids, search, eos)[1]
        if [new for new, _ in exact] != [new for new, _ in found]:
            dropped += 1
            continue
        settings.pop("do_sample")
        settings = {key: value for key, value in settings.items() if not (key == "num_beams" and value == 1)}
        kept.append({"params": settings, "ids": [new for new, _ in found], "scores": [round(s, 6) for _, s in found]})
    return kept, dropped


def lengths(count):
    """Returns lengths from 1 to 512, most of them short."""
    return [round(1 + 511 * (index / (count - 1)) ** 1.4) for index in range(count)]


def load(folder):
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()
    eos = model.generation_config.eos_token_id
    # Each case records its whole search, so the model's own defaults must not apply.
    model.generation_config = type(model.generation_config)(
        decoder_start_token_id=model.config.decoder_start_token_id, pad_token_id=model.config.pad_token_id,
    )
    return model, copy.deepcopy(model).double(), eos if isinstance(eos, list) else [eos]


def write(path, lines, dropped):
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    print(f"{path.name}: {len(lines)} inputs, {sum(len(line['searches']) for line in lines)} searches, {dropped} dropped")


def small(kind, seed):
    model, double, eos = load(HERE / kind)
    generator = torch.Generator().manual_seed(seed)
    lines, lost = [], 0
    for index, length in enumerate(lengths(INPUTS)):
        ids = torch.tensor([torch.randint(3, 290, (length - 1,), generator=generator).tolist() + [1]])
        searches = [SEARCHES[(3 * index + step) % len(SEARCHES)] for step in range(3)]
        kept, dropped = cases(model, double, ids, searches, eos)
        lost += dropped
        lines.append({"input_ids": ids[0].tolist(), "searches": kept})
    write(HERE / kind / "wide.jsonl", lines, lost)


def embedded():
    """Returns cases of the embedded model on excerpts of sample articles: characters `begin` to `end` of `article`."""
    folder = TOP / "models/precis-mini"
    model, double, eos = load(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    articles = [json.loads(line)["article"] for line in (TOP / "samples/articles.jsonl").read_text().splitlines()]
    lines, lost = [], 0
    for index, length in enumerate(lengths(ARTICLE_INPUTS)):
        article = index % len(articles)
        text = articles[article]
        begin = min(text.find(" ", (index * 131) % max(1, len(text) // 2)) + 1, len(text) - 2)
        # A token is about four characters. The longest excerpts are truncated to the model's input length.
        end = min(len(text), begin + max(1, 4 * length))
        ids = tokenizer.encode("summarize: " + text[begin:end]).ids
        if len(ids) > 512:
            ids = ids[:511] + [1]
        searches = [dict(), dict(num_beams=4, min_length=10, max_length=64)]
        kept, dropped = cases(model, double, torch.tensor([ids]), searches, eos)
        lost += dropped
        lines.append({"article": article, "begin": begin, "end": end, "tokens": len(ids), "searches": kept})
    write(HERE / "precis-mini.jsonl", lines, lost)


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    for seed, kind in enumerate(["t5", "t5-v1_1", "mt5", "umt5"]):
        small(kind, 100 + seed)
    embedded()


main()
