# SPDX-License-Identifier: Apache-2.0
"""Makes what tests/embed/minilm_test.cpp compares with: the ids that `tokenizers` gives for mixed lines and for every code point, and the
sentence embeddings that `transformers` gives.

    python minilm_parity.py MODEL_DIR OUT_DIR

Layout (integers are little-endian uint32; lines are those of tokenizer_parity.py, drawn from a fixed seed):
    lines.bin               count, then per line: size, bytes
    ids.bin                 count, then per line: number of ids, ids
    vectors.safetensors     line [n] int64, vector [n, E] float32
"""

import os
import struct
import sys

import torch
from safetensors.torch import save_file
from tokenizer_parity import draw_lines
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer

MAX_LENGTH = 256  # sentence_bert_config.json
LINES = 6000
VECTORS = 300


def code_point_lines():
    """Every code point between two letters: whether it goes, parts words, or stands alone shows in the ids."""
    points = [c for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000]
    return ["".join(f"a{chr(c)}b " for c in points[i : i + 64]).encode() for i in range(0, len(points), 64)]


def main():
    model_dir, out_dir = sys.argv[1:3]
    os.makedirs(out_dir, exist_ok=True)
    mixed = draw_lines()[:LINES]
    lines = mixed + code_point_lines()
    texts = [line.decode("utf-8", errors="replace") for line in lines]
    tokenizer = Tokenizer.from_file(os.path.join(model_dir, "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_LENGTH)
    encodings = [e.ids for e in tokenizer.encode_batch(texts)]
    with open(os.path.join(out_dir, "lines.bin"), "wb") as out:
        out.write(struct.pack("<I", len(lines)))
        for line in lines:
            out.write(struct.pack("<I", len(line)) + line)
    with open(os.path.join(out_dir, "ids.bin"), "wb") as out:
        out.write(struct.pack("<I", len(lines)))
        for ids in encodings:
            out.write(struct.pack(f"<I{len(ids)}I", len(ids), *ids))

    # As the model's card does it. Texts without words are left out: there is nothing to embed.
    chosen = [i for i in range(len(mixed)) if len(encodings[i]) > 2]
    chosen = chosen[:: max(1, len(chosen) // VECTORS)]
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = AutoModel.from_pretrained(model_dir).eval()
    vectors = []
    with torch.no_grad():
        for begin in range(0, len(chosen), 32):
            batch = [texts[i] for i in chosen[begin : begin + 32]]
            inputs = tokenizer(batch, padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
            states = model(**inputs)[0]
            mask = inputs["attention_mask"].unsqueeze(-1).to(states.dtype)
            mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
            vectors.append(torch.nn.functional.normalize(mean, p=2, dim=1))
    save_file({"line": torch.tensor(chosen), "vector": torch.cat(vectors)}, os.path.join(out_dir, "vectors.safetensors"))


if __name__ == "__main__":
    main()
