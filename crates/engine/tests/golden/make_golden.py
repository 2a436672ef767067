"""Creates the small random models beside this file, and records transformers' outputs for them.

    python make_golden.py [folder]

Needs torch, transformers 5.23, tokenizers and safetensors. Takes a few minutes on one core. Every search also runs in
float64. A case is kept only if both give the same tokens, so that rounding of float32 sums decides no case.
"""

import copy
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import MT5Config, MT5ForConditionalGeneration, T5Config, T5ForConditionalGeneration
from transformers import UMT5Config, UMT5ForConditionalGeneration

HERE = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
VOCABULARY = 300
SHAPE = dict(
    vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_decoder_layers=2, num_heads=4,
    relative_attention_num_buckets=32, relative_attention_max_distance=128, dropout_rate=0.0,
    pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
)

SEARCHES = [
    dict(),
    dict(min_length=10),
    dict(max_length=5),
    dict(no_repeat_ngram_size=2),
    dict(no_repeat_ngram_size=1, max_length=40),
    dict(repetition_penalty=1.5),
    dict(repetition_penalty=0.7, no_repeat_ngram_size=3),
    dict(num_beams=2),
    dict(num_beams=4),
    dict(num_beams=4, min_length=10, max_length=64),
    dict(num_beams=8, min_length=10, max_length=64),
    dict(num_beams=16, max_length=20),
    dict(num_beams=4, length_penalty=2.0),
    dict(num_beams=4, length_penalty=0.0),
    dict(num_beams=4, length_penalty=-1.5),
    dict(num_beams=4, early_stopping=True),
    dict(num_beams=4, early_stopping=True, length_penalty=2.0, min_length=6, no_repeat_ngram_size=3),
    dict(num_beams=4, early_stopping="never"),
    dict(num_beams=4, early_stopping="never", length_penalty=2.0, max_length=20),
    dict(num_beams=3, early_stopping="never", length_penalty=-1.0),
    dict(num_beams=5, no_repeat_ngram_size=2),
    dict(num_beams=4, repetition_penalty=1.3),
    dict(num_beams=4, max_length=2),
]
LENGTHS = [1, 7, 33, 20, 150, 300]


def tokenizer():
    """A Unigram tokenizer with byte fallback: 3 special tokens, 256 bytes, a few words."""
    words = "the of to and a in is it on that summarize : city bridge river town mayor said will open close day".split()
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(f"<0x{byte:02X}>", -12.0) for byte in range(256)]
    pieces += [("▁", -3.0)] + [("▁" + word, -4.0 - 0.1 * index) for index, word in enumerate(words)]
    pieces += [(letter, -6.0) for letter in "aeinorst"]
    assert len(pieces) <= VOCABULARY
    made = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Strip()])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    made.add_special_tokens(["<pad>", "</s>", "<unk>"])
    return made


def randomize(model, seed):
    """Scales weights so that outputs depend on the input and terminate."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 1:
                weight.copy_(1 + 0.1 * torch.randn(weight.shape, generator=generator))
            elif "relative_attention_bias" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator))
            elif "shared" in name or "lm_head" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * (1.0 if "shared" in name else 0.35))
                weight[1] *= 2.2
            else:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 1.2 * weight.shape[1] ** -0.5)


def inputs(seed):
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randint(3, 290, (length - 1,), generator=generator).tolist() + [1] for length in LENGTHS]
    return [torch.tensor([ids]) for ids in made]


def generate(model, ids, search, eos):
    settings = {"max_length": 32, "num_beams": 1, "do_sample": False, **search}
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), eos_token_id=eos, return_dict_in_generate=True,
        output_scores=True, output_logits=True, **settings,
    )
    new = out.sequences[0, 1:].tolist()
    if settings["num_beams"] > 1:
        # Sequences are padded to the longest hypothesis.
        ends = [index for index, token in enumerate(new) if token in eos]
        new = new[: ends[0] + 1] if ends else new
        return new, float(out.sequences_scores[0])
    log_probabilities = [logits[0].log_softmax(-1)[token].item() for logits, token in zip(out.logits, new)]
    return new, sum(log_probabilities) / len(new) ** settings.get("length_penalty", 1.0)


def golden(model, eos):
    """Returns the lines of golden.jsonl: intermediate values of the model, and results of searches."""
    double = copy.deepcopy(model).double()
    lines, dropped = [], 0
    for ids in inputs(5):
        states = model.encoder(ids).last_hidden_state[0]
        logits = model(input_ids=ids, decoder_input_ids=torch.tensor([[0]])).logits[0, -1]
        searches = []
        for search in SEARCHES:
            new, score = generate(model, ids, search, eos)
            if generate(double, ids, search, eos)[0] != new:
                dropped += 1
                continue
            searches.append({"params": {"max_length": 32, **search}, "ids": new, "score": round(score, 6)})
        lines.append({
            "input_ids": ids[0].tolist(),
            "last_state": [round(value, 5) for value in states[-1].tolist()],
            "first_logits": [round(value, 4) for value in logits.tolist()],
            "searches": searches,
        })
    lengths = [len(search["ids"]) for line in lines for search in line["searches"]]
    ended = sum(search["ids"][-1] in eos for line in lines for search in line["searches"])
    print(f"  {len(lengths)} searches, {dropped} dropped, {ended} ended by themselves, lengths {sorted(set(lengths))}")
    return lines


def warped(scores, temperature, top_k, top_p):
    """Probabilities after temperature, top-k and top-p."""
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    scores = scores[None]
    scores = TemperatureLogitsWarper(temperature)(None, scores) if temperature != 1.0 else scores
    scores = TopKLogitsWarper(top_k)(None, scores) if top_k else scores
    scores = TopPLogitsWarper(top_p)(None, scores) if top_p < 1 else scores
    return scores.softmax(-1)[0]


def sampling(model):
    """Returns the exact distribution of the first token, and the frequencies that transformers' beam sampling draws."""
    ids = inputs(5)[3]
    logits = model(input_ids=ids, decoder_input_ids=torch.tensor([[0]])).logits[0, -1].double()
    first = []
    for temperature, top_k, top_p in [(1.0, 50, 1.0), (0.7, 0, 1.0), (1.5, 20, 0.8), (2.0, 0, 0.9), (1.0, 1, 1.0)]:
        probabilities = warped(logits, temperature, top_k, top_p)
        kept = {str(token): round(p, 7) for token, p in enumerate(probabilities.tolist()) if p > 0}
        first.append({"params": {"temperature": temperature, "top_k": top_k, "top_p": top_p}, "probabilities": kept})
    beams = []
    for search in [
        dict(num_beams=2, top_k=4, max_length=4),
        dict(num_beams=3, top_k=6, top_p=0.9, temperature=1.3, max_length=3, length_penalty=0.5),
    ]:
        torch.manual_seed(3)
        copies = ids.repeat(20_000, 1)
        out = model.generate(copies, attention_mask=torch.ones_like(copies), do_sample=True, **search)
        counts = {}
        for row in out[:, 1:].tolist():
            row = row[: row.index(1) + 1] if 1 in row else row
            counts[" ".join(map(str, row))] = counts.get(" ".join(map(str, row)), 0) + 1
        beams.append({"params": search, "counts": dict(sorted(counts.items(), key=lambda item: -item[1]))})
    return {"input_ids": ids[0].tolist(), "first_token": first, "beam_sampling": beams}


def write(name, model, dtype, eos, shards=1):
    print(name)
    folder = HERE / name
    folder.mkdir(parents=True, exist_ok=True)
    model = model.to(dtype).float().eval()  # compute with the rounded weights that the file stores
    tensors = {key: value.to(dtype).contiguous() for key, value in model.state_dict().items()}
    same = ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"]
    if torch.equal(tensors["lm_head.weight"], tensors["shared.weight"]):
        same.append("lm_head.weight")
    tensors = {key: value for key, value in tensors.items() if key not in same}
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
    else:
        keys, names = sorted(tensors), {}
        for shard in range(shards):
            file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
            save_file({key: tensors[key] for key in keys[shard::shards]}, folder / file)
            names.update({key: file for key in keys[shard::shards]})
        index = {"metadata": {"total_size": sum(value.nbytes for value in tensors.values())}, "weight_map": names}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")
    kind = model.config.model_type
    config = {"architectures": [type(model).__name__], "model_type": kind, "is_encoder_decoder": True, **SHAPE}
    config |= {"feed_forward_proj": model.config.feed_forward_proj, "layer_norm_epsilon": 1e-6, "n_positions": 512}
    config["tie_word_embeddings"] = "lm_head.weight" in same
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    generation = {"decoder_start_token_id": 0, "eos_token_id": eos if len(eos) > 1 else eos[0], "max_length": 32}
    (folder / "generation_config.json").write_text(json.dumps(generation) + "\n")
    tokenizer().save(str(folder / "tokenizer.json"), pretty=False)
    with open(folder / "golden.jsonl", "w") as file:
        for line in golden(model, eos):
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
    if kind == "t5" and shards == 1:
        (folder / "sampling.json").write_text(json.dumps(sampling(model), separators=(",", ":")) + "\n")


def make(config_class, model_class, seed, **settings):
    config = config_class(**SHAPE, **settings)
    model = model_class(config)
    if settings.get("tie_word_embeddings") is False:
        # transformers 5 always ties the head to the embedding. Load a file with a separate head untied.
        model.lm_head.weight = torch.nn.Parameter(torch.empty(VOCABULARY, SHAPE["d_model"]))
    randomize(model, seed)
    return model


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    t5 = make(T5Config, T5ForConditionalGeneration, 1, feed_forward_proj="relu")
    write("t5", t5, torch.float32, [1])
    gated = dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    write("t5-v1_1", make(T5Config, T5ForConditionalGeneration, 2, **gated), torch.bfloat16, [1, 9], shards=2)
    write("mt5", make(MT5Config, MT5ForConditionalGeneration, 3, **gated), torch.float16, [1])
    umt5 = make(UMT5Config, UMT5ForConditionalGeneration, 4, feed_forward_proj="gated-gelu")
    write("umt5", umt5, torch.float16, [1])


main()
