"""Step 10. Golden outputs for other implementations -> reference.jsonl.

usage: make_reference.py MODEL OUT.jsonl [TEST.jsonl N]

float32 compute from the float16 weights, one thread. Texts: reference_inputs.py (written for this project), and N short held-out
public-domain texts from TEST.jsonl.
"""
import json
import os
import sys

os.environ["OMP_NUM_THREADS"] = "1"
import torch
import transformers
from tokenizers import Tokenizer
from transformers import T5ForConditionalGeneration

from reference_inputs import T

torch.set_num_threads(1)
transformers.utils.logging.set_verbosity_error()
d, out = sys.argv[1:3]
tk = Tokenizer.from_file(d + "/tokenizer.json")
m = T5ForConditionalGeneration.from_pretrained(d, dtype=torch.float32).eval()
gc = json.load(open(d + "/generation_config.json"))
BEAM = dict(max_length=gc["max_length"], min_length=gc["min_length"], length_penalty=gc["length_penalty"], early_stopping=False)
m.generation_config = transformers.GenerationConfig(decoder_start_token_id=0, eos_token_id=1, pad_token_id=0)  # no defaults besides the arguments below

items = [(k, v) for k, v in T.items()]
if len(sys.argv) > 4:
    n, per = int(sys.argv[4]), {}
    for line in open(sys.argv[3]):
        x = json.loads(line)
        if per.get(x["src"], 0) < n // 4 and 400 < len(x["article"]) < 1700:
            per[x["src"]] = per.get(x["src"], 0) + 1
            items.append((f"public-{x['src']}-{per[x['src']]}", x["article"]))
    items = items[: len(T) + n]
rnd = lambda t: [round(float(x), 6) for x in t]
with open(out, "w") as fo:
    for k, text in items:
        ids = tk.encode("summarize: " + text).ids
        full = len(ids)
        if full > 512:
            ids = ids[:511] + [1]
        X = torch.tensor([ids])
        M = torch.ones_like(X)

        def beam(n):
            b = m.generate(input_ids=X, attention_mask=M, num_beams=n, do_sample=False, return_dict_in_generate=True, output_scores=True, **BEAM)
            s = b.sequences[0].tolist()
            return dict(params=dict(num_beams=n, **BEAM), ids=s, text=tk.decode(s), score=round(float(b.sequences_scores[0]), 5))

        with torch.no_grad():
            h = m.encoder(input_ids=X, attention_mask=M).last_hidden_state[0]
            lg = m(input_ids=X, attention_mask=M, decoder_input_ids=torch.tensor([[0]])).logits[0, 0]
            g = m.generate(input_ids=X, attention_mask=M, num_beams=1, do_sample=False, max_length=gc["max_length"])[0].tolist()
            row = dict(
                id=k, input=text, prompt_prefix="summarize: ", n_tokens_before_truncation=full, truncated=full > 512, input_ids=ids,
                encoder=dict(mean=round(h.mean().item(), 7), abs_mean=round(h.abs().mean().item(), 6), first8_of_pos0=rnd(h[0, :8]), first8_of_last=rnd(h[-1, :8]), mean_over_positions_first8=rnd(h.mean(0)[:8])),
                first_step_top5=[dict(id=int(i), token=tk.id_to_token(int(i)), logit=round(float(v), 5)) for v, i in zip(*torch.topk(lg, 5))],
                greedy=dict(params=dict(num_beams=1, max_length=gc["max_length"]), ids=g, text=tk.decode(g)),
                beam4=beam(4),
                beam8=beam(8),
            )
        fo.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
print("torch", torch.__version__, "transformers", transformers.__version__, len(items), "texts", os.path.getsize(out), "bytes")
