"""Runs the engines that Precis is compared with. `precis bench engine --peers` sends it JSON lines, so that one run
measures all engines in turns on the same ids.

    python serve.py FOLDER        (as models.py made it)

A line in: {"peer": NAME, "threads": 1, "ids": [[…]], "beams": 8, "batch": 8, "new_tokens": 64}
A line out: {"wall": seconds, "cpu": seconds, "ids": [[…]]} or {"error": "…"}
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

FOLDER = Path(sys.argv[1])
if "avx512f" in Path("/proc/cpuinfo").read_text():
    # CTranslate2 chooses AVX2 on some processors although AVX-512 is faster.
    os.environ.setdefault("CT2_FORCE_CPU_ISA", "AVX512")
ENGINES = {}


def ctranslate2(name, threads):
    import ctranslate2 as ct2

    kind = "int8" if "int8" in name else "f32"
    within = threads if name.endswith("-intra") else 1
    translator = ct2.Translator(
        str(FOLDER / f"ctranslate2-{kind}"), device="cpu", compute_type="int8" if kind == "int8" else "float32",
        intra_threads=within, inter_threads=threads // within,
    )

    def run(ids, beams, batch, new_tokens):
        tokens = [[f"t{i}" for i in row] for row in ids]
        results = translator.translate_batch(
            tokens, beam_size=beams, max_decoding_length=new_tokens, min_decoding_length=new_tokens,
            max_batch_size=batch, max_input_length=0,
        )
        return [[int(token[1:]) for token in result.hypotheses[0]] for result in results]

    return run


def padded(torch, rows):
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = 1
    return ids, mask


def generator(torch, model):
    def run(ids, beams, batch, new_tokens):
        # Batch texts of similar length, as a careful user would.
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        results = [None] * len(ids)
        for first in range(0, len(order), batch):
            part = order[first : first + batch]
            tokens, mask = padded(torch, [ids[index] for index in part])
            with torch.inference_mode():
                out = model.generate(
                    input_ids=tokens, attention_mask=mask, num_beams=beams, do_sample=False,
                    min_new_tokens=new_tokens, max_new_tokens=new_tokens,
                )
            for index, row in zip(part, out[:, 1:].tolist()):
                results[index] = row
        return results

    return run


def transformers(name, threads):
    import torch
    from transformers import T5ForConditionalGeneration

    torch.set_num_threads(threads)
    model = T5ForConditionalGeneration.from_pretrained(str(FOLDER / "model"), dtype=torch.float32).eval()
    return generator(torch, model)


def onnxruntime(name, threads):
    import onnxruntime as ort
    import torch
    from optimum.onnxruntime import ORTModelForSeq2SeqLM

    torch.set_num_threads(threads)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    kind = "int8" if "int8" in name else "f32"
    model = ORTModelForSeq2SeqLM.from_pretrained(
        str(FOLDER / f"onnx-{kind}"), session_options=options, use_io_binding=False, use_cache=True, use_merged="int8" not in name,
    )
    return generator(torch, model)


def engine(name, threads):
    key = (name, threads)
    if key not in ENGINES:
        make = {"ctranslate2": ctranslate2, "transformers": transformers, "onnxruntime": onnxruntime}
        ENGINES[key] = make[name.split("-")[0]](name, threads)
    return ENGINES[key]


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def answer(line):
    request = json.loads(line)
    run = engine(request["peer"], request["threads"])
    if request.get("op") == "load":
        return {}
    wall, used = time.perf_counter(), cpu()
    ids = run(request["ids"], request["beams"], request["batch"], request["new_tokens"])
    result = {"wall": time.perf_counter() - wall, "cpu": cpu() - used, "ids": ids}
    for row in ids:
        if len(row) != request["new_tokens"]:
            return {"error": f"{len(row)} tokens and not {request['new_tokens']}"}
    return result


def main():
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print to standard output
    for line in sys.stdin:
        try:
            result = answer(line)
        except Exception as error:  # noqa: BLE001 - the other engines continue
            result = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(result), file=out, flush=True)


if __name__ == "__main__":
    main()
