"""Step 8. A checkpoint -> a Hugging Face T5 folder: float16 safetensors, configs, tokenizer.

usage: export.py WORK CHECKPOINT_DIR OUT
"""
import json
import os
import shutil
import sys

import torch
from safetensors.torch import save_file

work, ck, out = sys.argv[1:4]
os.makedirs(out, exist_ok=True)
sd = torch.load(ck + "/ck.pt", weights_only=False)["m"]
# shared.weight is the only embedding matrix; its copies are omitted
keep = {k: v for k, v in sd.items() if k not in ("lm_head.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")}
print("tensors", len(keep), "parameters", sum(v.numel() for v in keep.values()), "largest weight", max(v.abs().max().item() for v in keep.values()))
save_file({k: v.to(torch.float16).contiguous() for k, v in keep.items()}, out + "/model.safetensors", metadata={"format": "pt"})
layers = 1 + max(int(k.split(".")[2]) for k in keep if k.startswith("encoder.block"))
GEN = dict(max_length=96, min_length=0, num_beams=4, length_penalty=1.0, early_stopping=False)
config = dict(
    architectures=["T5ForConditionalGeneration"], model_type="t5", vocab_size=8000, d_model=256, d_kv=64, d_ff=1024, num_layers=layers, num_decoder_layers=layers,
    num_heads=4, relative_attention_num_buckets=32, relative_attention_max_distance=128, dropout_rate=0.0, layer_norm_epsilon=1e-6, initializer_factor=1.0,
    feed_forward_proj="relu", is_encoder_decoder=True, is_gated_act=False, dense_act_fn="relu", use_cache=True, pad_token_id=0, eos_token_id=1,
    decoder_start_token_id=0, tie_word_embeddings=True, n_positions=512, torch_dtype="float16",
    task_specific_params=dict(summarization=dict(prefix="summarize: ", no_repeat_ngram_size=0, **GEN)),
)
gen = dict(_from_model_config=True, bos_token_id=None, decoder_start_token_id=0, eos_token_id=1, pad_token_id=0, **GEN)
tok = dict(tokenizer_class="PreTrainedTokenizerFast", model_max_length=512, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", clean_up_tokenization_spaces=False)
special = dict(pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
for name, x in (("config", config), ("generation_config", gen), ("tokenizer_config", tok), ("special_tokens_map", special)):
    with open(f"{out}/{name}.json", "w") as f:
        json.dump(x, f, indent=2)
        f.write("\n")
shutil.copy(work + "/tokenizer.json", out + "/tokenizer.json")
os.chmod(out + "/model.safetensors", 0o644)
size = os.path.getsize(out + "/model.safetensors")
assert size <= 16_000_000, size
print(out, size, "bytes")
