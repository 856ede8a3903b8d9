"""Sampling speed of transformers: P prompts x G samples x N new tokens. One JSON object on standard output."""
import argparse
import json
import statistics
import time

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--prompts", required=True, help="JSON Lines with {'prompt': text}")
parser.add_argument("--samples", type=int, default=8)
parser.add_argument("--new-tokens", type=int, default=48)
parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
parser.add_argument("--repeats", type=int, default=3)
args = parser.parse_args()

if args.device == "cpu":
    torch.set_num_threads(2)
tokenizer = AutoTokenizer.from_pretrained(args.model, padding_side="left")
if tokenizer.pad_token is None:
    tokenizer.pad_token = tokenizer.eos_token
model = AutoModelForCausalLM.from_pretrained(args.model, dtype=getattr(torch, args.dtype)).eval().to(args.device)
texts = [
    tokenizer.apply_chat_template(
        [{"role": "user", "content": json.loads(line)["prompt"]}], tokenize=False, add_generation_prompt=True
    )
    for line in open(args.prompts, encoding="utf-8")
]
rows = tokenizer([t for t in texts for _ in range(args.samples)], return_tensors="pt", padding=True, add_special_tokens=False)
rows = rows.to(args.device)
seconds = []
with torch.no_grad():
    for repeat in range(args.repeats + 1):
        new_tokens = args.new_tokens if repeat else 4
        begin = time.perf_counter()
        model.generate(
            **rows, do_sample=True, temperature=1.0, top_k=0, max_new_tokens=new_tokens, min_new_tokens=new_tokens,
            pad_token_id=tokenizer.pad_token_id,
        )
        if args.device == "cuda":
            torch.cuda.synchronize()
        if repeat:
            seconds.append(time.perf_counter() - begin)
tokens = rows["input_ids"].shape[0] * args.new_tokens
print(json.dumps({
    "name": f"generate/transformers-{transformers.__version__}/{args.dtype}", "rows": rows["input_ids"].shape[0],
    "new_tokens": args.new_tokens, "device": args.device, "seconds": seconds, "tokens_per_s": tokens / statistics.median(seconds),
}))
