# SPDX-License-Identifier: Apache-2.0
"""Greedy completions of `transformers` for 50 prompts, as JSON: {"prompts": [[id]], "completions": [[id]]}.

generation_parity.py MODEL_DIR NEW_TOKENS
"""
import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

THINGS = ["garment", "tool", "bird", "tree", "metal", "fish", "boat", "drink", "insect", "fruit", "game", "dance", "hat",
          "cheese", "weapon", "bone", "gem", "vehicle", "flower", "soup", "bread", "dog", "lizard", "cloth", "knot"]
SHAPES = ["Name three kinds of {}.", "Write one short sentence about a {} that you saw on a rainy day in 1987, and then "
          "say in a few words why anybody should care about it:"]


def main():
    folder, new_tokens = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(2)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    prompts, completions = [], []
    for shape in SHAPES:
        texts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": shape.format(thing)}], tokenize=False, add_generation_prompt=True
            )
            for thing in THINGS
        ]
        rows = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.no_grad():
            out = model.generate(**rows, do_sample=False, max_new_tokens=new_tokens, pad_token_id=tokenizer.eos_token_id)
        for ids, mask, full in zip(rows["input_ids"], rows["attention_mask"], out):
            prompts.append(ids[mask.bool()].tolist())
            completion = full[len(ids):].tolist()
            if tokenizer.eos_token_id in completion:  # what follows the end token is padding
                completion = completion[: completion.index(tokenizer.eos_token_id) + 1]
            completions.append(completion)
    json.dump({"prompts": prompts, "completions": completions}, sys.stdout)


main()
