"""Writes `gguf/formats.gguf`: one small matrix in every format, and its values as `gguf` reads them.

    python make_gguf.py

Needs gguf, numpy and safetensors.
"""

from pathlib import Path

import numpy
from gguf import GGUFWriter, GGMLQuantizationType as Format, quants
from safetensors.numpy import save_file

HERE = Path(__file__).parent / "gguf"
FORMATS = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"]
# Bytes of a block, and the places of its scales (f16).
BLOCKS = {"Q4_K": (144, [0, 2]), "Q5_K": (176, [0, 2]), "Q6_K": (210, [208])}


def main():
    HERE.mkdir(exist_ok=True)
    random = numpy.random.default_rng(3)
    writer = GGUFWriter(HERE / "formats.gguf", "qwen3")
    values = {}
    for index, name in enumerate(FORMATS):
        format = Format[name]
        if name in BLOCKS:
            # gguf cannot write these, but any bytes are valid.
            size, scales = BLOCKS[name]
            data = random.integers(0, 256, (2, size), dtype=numpy.uint8)
            for place in scales:
                scale = random.uniform(0.001, 0.01, (2, 1)).astype(numpy.float16)
                data[:, place : place + 2] = scale.view(numpy.uint8)
        else:
            data = quants.quantize(random.normal(0, 1, (2, 256)).astype(numpy.float32), format)
        writer.add_tensor(f"blk.{index}.ffn_up.weight", data, raw_dtype=format)
        values[name] = quants.dequantize(data, format).astype(numpy.float32)
        assert values[name].shape == (2, 256)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save_file(values, HERE / "formats.safetensors")


main()
