"""Creates the small random decoder-only models beside this file, and records transformers' outputs for them.

    python make_causal.py [kind …]

Needs torch, transformers 5.24, tokenizers and safetensors. Takes about half an hour on one core. Every search also runs
in float64. A case is kept only if both give the same tokens, so that rounding of float32 sums decides no case.
"""

import copy
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM, MistralConfig
from transformers import MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

HERE = Path(__file__).parent
VOCABULARY = 300
CONTEXT = 1024
PROMPTS = 200
SHAPE = dict(
    vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=CONTEXT, bos_token_id=1, pad_token_id=0, rms_norm_eps=1e-5,
)
LLAMA3 = dict(
    rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=128,
)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=256)
GEMMA = {
    "sliding_attention": dict(rope_type="default", rope_theta=10000.0),
    "full_attention": dict(rope_type="linear", rope_theta=1000000.0, factor=8.0),
}

SEARCHES = [
    dict(),
    dict(min_new_tokens=10),
    dict(max_new_tokens=5),
    dict(no_repeat_ngram_size=2),
    dict(no_repeat_ngram_size=3, repetition_penalty=1.1),
    dict(repetition_penalty=1.3),
    dict(num_beams=2),
    dict(num_beams=4, min_new_tokens=5),
    dict(num_beams=4, length_penalty=2.0, early_stopping=True),
    dict(num_beams=3, no_repeat_ngram_size=2, length_penalty=0.0),
    dict(num_beams=4, early_stopping="never", length_penalty=-1.0),
]
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
    "'\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tokenizer():
    """A byte-level BPE with two merges."""
    special = ["<pad>", "<s>", "<|im_end|>", "<|im_start|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = special + alphabet + ["th", "the"]
    made = Tokenizer(models.BPE({token: id for id, token in enumerate(tokens)}, [("t", "h"), ("th", "e")]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(special)
    return made


def randomize(model, seed):
    """Scales weights so that outputs depend on the input and terminate."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            random = torch.randn(weight.shape, generator=generator)
            if "norm" in name:
                # Gemma's weights are the difference to 1.
                weight.copy_(0.1 * random + (0 if "gemma" in model.config.model_type else 1))
            elif weight.dim() == 1:
                weight.copy_(0.3 * random)
            elif "embed_tokens" in name or "lm_head" in name:
                weight.copy_(random * (1.0 if "embed_tokens" in name else 0.35))
                weight[2] *= 1.7
            else:
                weight.copy_(random * 1.2 * weight.shape[1] ** -0.5)


def prompt(length, seed):
    """The test computes the same ids."""
    ids, state = [], seed
    for _ in range(length):
        state = (state * 1664525 + 1013904223) % 2**32
        ids.append(3 + (state >> 16) % 290)
    return ids


def generate(model, ids, search, eos):
    settings = {"max_new_tokens": 32, "num_beams": 1, "do_sample": False, **search}
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), eos_token_id=eos, pad_token_id=0, return_dict_in_generate=True,
        output_scores=True, output_logits=True, **settings,
    )
    new = out.sequences[0, ids.shape[1] :].tolist()
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
    longest = CONTEXT - CONTEXT // 4
    for index in range(PROMPTS):
        length = round(1 + (longest - 1) * (index / (PROMPTS - 1)) ** 2)
        ids = torch.tensor([prompt(length, index)])
        line = {"length": length, "seed": index, "searches": []}
        if index % 20 == 0 or index == PROMPTS - 1:
            logits = model(ids).logits[0, -1]
            states = model.model(ids).last_hidden_state[0, -1]
            line["last_state"] = [round(value, 5) for value in states.tolist()]
            line["first_logits"] = [round(value, 4) for value in logits.tolist()]
        for search in [SEARCHES[0], SEARCHES[1 + index % (len(SEARCHES) - 1)]]:
            new, score = generate(model, ids, search, eos)
            if generate(double, ids, search, eos)[0] != new:
                dropped += 1
                continue
            params = {"max_new_tokens": 32, **search}
            line["searches"].append({"params": params, "ids": new, "score": round(score, 6)})
        lines.append(line)
    lengths = [len(search["ids"]) for line in lines for search in line["searches"]]
    ended = sum(search["ids"][-1] in eos for line in lines for search in line["searches"])
    print(f"  {len(lengths)} searches, {dropped} dropped, {ended} ended by themselves, lengths {sorted(set(lengths))}")
    return lines


def write(name, model, dtype, eos):
    print(name, flush=True)
    folder = HERE / name
    folder.mkdir(parents=True, exist_ok=True)
    model.eval()
    for weight in model.parameters():
        # Compute with the rounded weights that the file stores. Buffers, such as frequencies, stay exact.
        weight.data = weight.data.to(dtype).float()
    tensors = {key: value.to(dtype).contiguous() for key, value in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        del tensors["lm_head.weight"]
    save_file(tensors, folder / "model.safetensors")
    config = json.loads(model.config.to_json_string(use_diff=False))
    config["eos_token_id"] = eos if len(eos) > 1 else eos[0]
    kept = [
        "attention_bias", "eos_token_id", "head_dim", "hidden_act", "hidden_activation", "layer_types", "mlp_bias",
        "model_type", "query_pre_attn_scalar", "rope_parameters", "sliding_window", "tie_word_embeddings",
        "use_sliding_window", *SHAPE,
    ]
    config = {key: config[key] for key in sorted(set(kept)) if config.get(key) is not None}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    tokenizer().save(str(folder / "tokenizer.json"), pretty=False)
    chat = {"bos_token": "<s>", "eos_token": "<|im_end|>", "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(chat, indent=1) + "\n")
    lines = [json.dumps(line, separators=(",", ":")) + "\n" for line in golden(model, eos)]
    (folder / "golden.jsonl").write_text("".join(lines))


def make(config_class, model_class, seed, **settings):
    model = model_class(config_class(**{**SHAPE, **settings}))
    randomize(model, seed)
    return model


KINDS = {
    "llama": lambda: (make(LlamaConfig, LlamaForCausalLM, 11, tie_word_embeddings=True), torch.float32, [2]),
    "llama3": lambda: (
        make(LlamaConfig, LlamaForCausalLM, 12, rope_parameters=LLAMA3, attention_bias=True, mlp_bias=True,
             num_key_value_heads=1, head_dim=16), torch.bfloat16, [2, 9],
    ),
    "mistral": lambda: (make(MistralConfig, MistralForCausalLM, 13, sliding_window=48), torch.float16, [2]),
    "qwen2": lambda: (make(Qwen2Config, Qwen2ForCausalLM, 14, rope_parameters=YARN), torch.bfloat16, [2]),
    "qwen3": lambda: (
        make(Qwen3Config, Qwen3ForCausalLM, 15, head_dim=16, intermediate_size=64, tie_word_embeddings=True),
        torch.bfloat16, [2],
    ),
    "gemma3": lambda: (
        make(Gemma3TextConfig, Gemma3ForCausalLM, 16, head_dim=16, query_pre_attn_scalar=24, sliding_window=40,
             num_hidden_layers=4, rope_parameters=GEMMA, layer_types=["sliding_attention"] * 2 + ["full_attention"] * 2,
             tie_word_embeddings=True), torch.bfloat16, [2],
    ),
}


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    for kind in sys.argv[1:] or KINDS:
        model, dtype, eos = KINDS[kind]()
        write(kind, model, dtype, eos)


main()
