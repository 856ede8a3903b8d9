"""Completions to score, for score_bench and peers/python_rewards.py: P prompts of a data set x G completions with K answers each.

usage: score_data.py DATASET.jsonl OUT.jsonl [--prompts 512] [--samples 16] [--answers 5] [--seed 1]

Each line is an example of the data set with its completion in the format multi_answer. Answers are gold ones (a prompt's samples
repeat each other, as a policy's do), others of the data set, respellings and repetitions; some completions break the format.
"""
import argparse
import json
import random

parser = argparse.ArgumentParser()
parser.add_argument("dataset")
parser.add_argument("out")
parser.add_argument("--prompts", type=int, default=512)
parser.add_argument("--samples", type=int, default=16)
parser.add_argument("--answers", type=int, default=5)
parser.add_argument("--seed", type=int, default=1)
args = parser.parse_args()

rng = random.Random(args.seed)
examples = [json.loads(line) for line in open(args.dataset, encoding="utf-8")]
everything = [gold["answer"] for example in examples for gold in example["gold"]]
words = sorted({word for text in everything for word in text.split()})


def spelled(gold):
    text = rng.choice([gold["answer"], *gold["aliases"]])
    return rng.choice([text, text, text, text.capitalize(), f"the {text}", f"{text}."])


def completion(example, others):
    answers = []
    for _ in range(args.answers):
        draw = rng.random()
        if draw < 0.6:
            answers.append(spelled(rng.choice(example["gold"])))
        elif draw < 0.9 or not answers:
            answers.append(rng.choice(others))
        else:
            answers.append(rng.choice(answers))
    text = f"<think>{' '.join(rng.choices(words, k=40))}</think>\n"
    for i, answer in enumerate(answers, 1):
        confidence = f"{rng.random() * 2 / args.answers:.2f}" if rng.random() > 0.005 else "high"
        if rng.random() > 0.005:
            text += f"<answer{i}>{answer}</answer{i}><confidence{i}>{confidence}</confidence{i}>\n"
    return text + "<analysis>I may have missed some.</analysis>"


with open(args.out, "w", encoding="utf-8") as out:
    for p in range(args.prompts):
        example = rng.choice(examples)
        others = rng.choices(everything, k=8)
        for _ in range(args.samples):
            row = {"id": str(p), "prompt": example["prompt"], "gold": example["gold"], "completion": completion(example, others)}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
