"""Generates the benchmark's inputs: a model of t5-small's shape with seeded weights in each engine's format, and texts as
token ids. Random weights take as long to multiply as trained ones, and every engine generates the same number of tokens.

    python models.py FOLDER
"""

import json
import random
import sys
from pathlib import Path

import ctranslate2
import torch
from ctranslate2.converters import TransformersConverter
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import T5Config, T5ForConditionalGeneration

VOCABULARY = 32128


def make_model(folder: Path) -> None:
    torch.manual_seed(1234)
    config = T5Config(
        vocab_size=VOCABULARY, d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_decoder_layers=6, num_heads=8,
        feed_forward_proj="relu", decoder_start_token_id=0, pad_token_id=0, eos_token_id=1, tie_word_embeddings=True,
    )
    model = T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "relative_attention_bias" in name:
                weight.normal_(0, 1.0)
        # With a standard deviation of 1, every step would repeat its input and all beams would be equal.
        model.shared.weight.mul_(0.05)
    model.save_pretrained(folder, safe_serialization=True)
    names = {"<pad>": 0, "</s>": 1, "<unk>": 2} | {f"t{i}": i for i in range(3, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(names, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))


class Names:
    """The vocabulary for CTranslate2, which reads tokens instead of ids."""

    pad_token, eos_token, unk_token = "t0", "t1", "t2"

    def get_vocab(self):
        return {f"t{i}": i for i in range(VOCABULARY)}

    def convert_ids_to_tokens(self, index):
        return f"t{index}"


class Converter(TransformersConverter):
    def load_tokenizer(self, *args, **kwargs):
        return Names()


def make_ctranslate2(model: Path, folder: Path) -> None:
    Converter(str(model)).convert(str(folder / "ctranslate2-f32"), force=True)
    Converter(str(model)).convert(str(folder / "ctranslate2-int8"), quantization="int8", force=True)


def make_onnx(model: Path, folder: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from optimum.exporters.onnx import main_export

    exported = folder / "onnx-f32"
    main_export(str(model), output=exported, task="text2text-generation-with-past", library_name="transformers")
    target = folder / "onnx-int8"
    target.mkdir(exist_ok=True)
    for file in exported.iterdir():
        # The merged decoder has its products in branches, where they are not quantized, so it is left out.
        if file.name == "decoder_model_merged.onnx":
            continue
        if file.suffix == ".onnx":
            # Quantize the weights of matrix products only, per channel, as the other engines do.
            quantize_dynamic(
                file, target / file.name, weight_type=QuantType.QInt8, per_channel=True,
                op_types_to_quantize=["MatMul"], extra_options={"MatMulConstBOnly": True},
            )
        elif file.suffix != ".onnx_data":
            (target / file.name).write_bytes(file.read_bytes())


def make_inputs(folder: Path) -> None:
    for mean, (low, high) in {120: (60, 180), 350: (200, 500), 500: (488, 512)}.items():
        rng = random.Random(mean)
        texts = []
        for _ in range(64):
            length = rng.randint(low, high)
            texts.append([rng.randint(3, 31999) for _ in range(length - 1)] + [1])
        (folder / f"inputs-{mean}.json").write_text(json.dumps(texts))


def main() -> None:
    folder = Path(sys.argv[1])
    model = folder / "model"
    folder.mkdir(parents=True, exist_ok=True)
    if not (model / "tokenizer.json").exists():
        make_model(model)
    if not (folder / "ctranslate2-int8" / "model.bin").exists():
        make_ctranslate2(model, folder)
    make_inputs(folder)
    if not (folder / "onnx-int8" / "config.json").exists():
        try:
            make_onnx(model, folder)
        except Exception as error:  # noqa: BLE001 - measure the other engines
            print(f"no ONNX model: {error}", file=sys.stderr)
    print(ctranslate2.__version__, torch.__version__)


if __name__ == "__main__":
    main()
