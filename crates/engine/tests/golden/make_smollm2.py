"""Writes `smollm2.jsonl`: outputs of SmolLM2-135M-Instruct for 200 parts of the sample articles and two long texts.

    python make_smollm2.py SmolLM2-135M-Instruct.Q4_1.gguf

Needs torch, transformers 5.24, tokenizers and gguf. Takes about ten minutes on one core. transformers reads the same
file, dequantized to float32. A greedy case is kept only if the best logit leads by MARGIN at every token, so that
rounding of float32 sums decides no case.
"""

import json
import sys
from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).parent
SAMPLES = HERE.parent.parent.parent.parent / "samples/articles.jsonl"
PARTS = 200
SYSTEM = "You summarize news articles in one sentence."
USER = "Summarize this article in one sentence:\n\n"
NEW_TOKENS = 24
MARGIN = 2e-3
BATCH = 8


def checksum(ids):
    """The test computes the same number."""
    total = 0
    for id in ids:
        total = (total * 31 + id) % 2**32
    return total


def prompt(tokenizer, text):
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER + text}]
    rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return tokenizer(rendered, add_special_tokens=False)["input_ids"]


def generate(model, prompts, search):
    """Returns the new tokens of each prompt, and whether float32 could have decided them."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[2] * (longest - len(ids)) + ids for ids in prompts])
    mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts])
    out = model.generate(
        ids, attention_mask=mask, do_sample=False, eos_token_id=2, pad_token_id=2, return_dict_in_generate=True,
        output_logits=True, **{"num_beams": 1, "repetition_penalty": 1.0, **search},
    )
    results = []
    for row, sequence in enumerate(out.sequences[:, longest:].tolist()):
        new = sequence[: sequence.index(2) + 1] if 2 in sequence else sequence
        best = [logits[row].topk(2).values for logits in out.logits[: len(new)]]
        close = len(search) == 1 and any(first - second < MARGIN for first, second in best)
        results.append((new, close))
    return results


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    path = Path(sys.argv[1])
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    # transformers forgets that the tokenizer splits digits.
    digits = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(digits)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    articles = [json.loads(line)["article"] for line in SAMPLES.read_text().splitlines()]
    lines, prompts = [], []
    for index in range(PARTS):
        article = index % len(articles)
        text = articles[article]
        length = round(1 + 899 * (index / (PARTS - 1)) ** 2.5)
        begin = min(text.find(" ", (index * 131) % max(1, len(text) // 2)) + 1, len(text) - 2)
        # A token is about four characters.
        end = min(len(text), begin + max(1, 4 * length))
        lines.append({"article": article, "begin": begin, "end": end})
        prompts.append(prompt(tokenizer, text[begin:end]))
    for copies in [3, 6]:
        lines.append({"article": 0, "copies": copies})
        prompts.append(prompt(tokenizer, " ".join(articles[:copies])))
    batches = [range(first, min(first + BATCH, PARTS)) for first in range(0, PARTS, BATCH)] + [[PARTS], [PARTS + 1]]
    jobs = [(list(batch), {"max_new_tokens": NEW_TOKENS}) for batch in batches]
    jobs += [([index], {"max_new_tokens": 96}) for index in range(3, PARTS, 50)]
    jobs += [([index], {"max_new_tokens": NEW_TOKENS, "num_beams": 3}) for index in range(7, PARTS, 20)]
    penalties = {"max_new_tokens": NEW_TOKENS, "repetition_penalty": 1.2, "no_repeat_ngram_size": 3}
    jobs += [([index], penalties) for index in range(13, PARTS, 20)]
    for line, ids in zip(lines, prompts):
        line |= {"tokens": len(ids), "checksum": checksum(ids), "searches": []}
    dropped = 0
    for number, (batch, search) in enumerate(jobs):
        for index, (new, close) in zip(batch, generate(model, [prompts[index] for index in batch], search)):
            dropped += close
            if not close:
                lines[index]["searches"].append({"params": search, "ids": new})
        print(number, len(jobs), batch[-1], len(prompts[batch[-1]]), dropped, flush=True)
    with open(HERE / "smollm2.jsonl", "w") as file:
        for line in lines:
            file.write(json.dumps(line, separators=(",", ":")) + "\n")


main()
