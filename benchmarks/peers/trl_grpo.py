"""Time of an on-policy GRPO step in TRL: P prompts x G samples x N new tokens. One JSON object on standard output."""
import argparse
import json
import os
import resource
import statistics
import tempfile
import time

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--prompts", required=True, help="JSON Lines with {'prompt': text}; P = number of lines")
parser.add_argument("--samples", type=int, default=8)
parser.add_argument("--new-tokens", type=int, default=48)
parser.add_argument("--steps", type=int, default=3)
parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
args = parser.parse_args()

if args.device == "cpu":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
import torch
import trl
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

if args.device == "cpu":
    torch.set_num_threads(2)
texts = [json.loads(line)["prompt"] for line in open(args.prompts, encoding="utf-8")]
data = Dataset.from_list([{"prompt": [{"role": "user", "content": t}]} for _ in range(args.steps) for t in texts])
tokenizer = AutoTokenizer.from_pretrained(args.model)
model = AutoModelForCausalLM.from_pretrained(args.model, dtype=getattr(torch, args.dtype))
seconds = []


class Timer(TrainerCallback):
    def on_step_begin(self, *unused, **also_unused):
        self.begin = time.perf_counter()

    def on_step_end(self, *unused, **also_unused):
        if args.device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - self.begin)


def reward(completions, completion_ids=None, **unused):
    return [float(len(text[0]["content"]) % 7) for text in completions]


with tempfile.TemporaryDirectory() as folder:
    config = trl.GRPOConfig(
        output_dir=folder, per_device_train_batch_size=len(texts) * args.samples, num_generations=args.samples,
        max_completion_length=args.new_tokens, max_steps=args.steps, learning_rate=1e-6, beta=0.0, temperature=1.0,
        report_to=[], use_cpu=args.device == "cpu", bf16=args.dtype == "bfloat16", logging_steps=1, save_strategy="no",
        gradient_checkpointing=False, generation_kwargs={"min_new_tokens": args.new_tokens}, disable_tqdm=True,
        scale_rewards="none", loss_type="dapo",
    )
    trl.GRPOTrainer(
        model=model, reward_funcs=[reward], args=config, train_dataset=data, processing_class=tokenizer, callbacks=[Timer()]
    ).train()
print(json.dumps({
    "name": f"grpo_step/trl-{trl.__version__}/{args.dtype}", "prompts": len(texts), "samples": args.samples,
    "new_tokens": args.new_tokens, "seconds": seconds[1:] or seconds,
    "median_s": statistics.median(seconds[1:] or seconds),
    "device": args.device,
    "peak_memory_gb": torch.cuda.max_memory_allocated() / 1e9 if args.device == "cuda"
    else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
}))
