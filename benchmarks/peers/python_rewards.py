"""The rewards of score_bench in plain Python, written as the reference implementation writes its own: a regular expression for each block,
a loop over completions, numpy's slogdet. One JSON object on standard output, with the time of each part and the mean of each reward.

It is spared what the reference does repeatedly: a completion is parsed once for all rewards, a prompt's gold answers are normalised once, and
n-grams are hashed once.

usage: python_rewards.py ROWS.jsonl [--answers 5]    (ROWS: from score_data.py)
"""
import argparse
import json
import math
import re
import string
import time
import unicodedata

import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("rows")
parser.add_argument("--answers", type=int, default=5)
args = parser.parse_args()
K = args.answers
SCALE = 10.0
DIMENSIONS = 1024

ANSWER = [re.compile(rf"<answer{i}>(.*?)</answer{i}>", re.DOTALL) for i in range(1, K + 1)]
CONFIDENCE = [re.compile(rf"<confidence{i}>(.*?)</confidence{i}>", re.DOTALL) for i in range(1, K + 1)]
THINK = re.compile(r"<think>(.*?)</think>", re.DOTALL)
ANALYSIS = re.compile(r"<analysis>(.*?)</analysis>", re.DOTALL)
ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normal_form(text):
    text = unicodedata.normalize("NFC", text).lower().translate(PUNCTUATION)
    return " ".join(ARTICLES.sub(" ", text).split())


def confidence_of(text):
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


def parse(completion):
    """Answers (normal forms, None = absent), confidences (None = absent or no number from 0 to 1), all blocks found, format."""
    think = THINK.search(completion)
    body = completion[think.end():] if think else completion
    answers, confidences, complete = [], [], True
    for i in range(K):
        found = ANSWER[i].search(body)
        answers.append(normal_form(found.group(1).strip()) if found else None)
        found = CONFIDENCE[i].search(body)
        confidences.append(confidence_of(found.group(1).strip()) if found else None)
        complete = complete and answers[-1] is not None and found is not None
    format_ok = complete and None not in confidences and think is not None and ANALYSIS.search(body) is not None
    return answers, confidences, complete, format_ok


def gold_index(gold):
    table = {}
    for i, entry in enumerate(gold):
        for text in [entry["answer"], *entry["aliases"]]:
            table.setdefault(normal_form(text), i)
    return table


def coverage(answers, matches):
    return len({m for m in matches if m is not None}) / K


def brier(answers, confidences, format_ok, matches):
    if not format_ok or len(set(answers)) != K or sum(confidences) > 1 + 1e-6:
        return 0.0
    return 1.0 - sum((q - (m is not None)) ** 2 for q, m in zip(confidences, matches)) / K


def uniqueness(answers, complete):
    return float(complete and len(set(answers)) == K)


bucket_of = {}


def bucket(gram):
    found = bucket_of.get(gram)
    if found is None:
        value = 2166136261
        for byte in gram.encode():
            value = ((value ^ byte) * 16777619) & 0xFFFFFFFF
        found = bucket_of[gram] = value % DIMENSIONS
    return found


def embed(text):
    vector = np.zeros(DIMENSIONS)
    for word in text.split():
        marked = f"<{word}>"
        for n in (3, 4, 5):
            for at in range(len(marked) - n + 1):
                vector[bucket(marked[at : at + n])] += 1
        vector[bucket(marked)] += 1
    length = np.linalg.norm(vector)
    return vector / length if length > 0 else vector


def log_det(answers):
    stated = [answer for answer in answers if answer]
    if not stated:
        return 0.0
    vectors = np.stack([embed(answer) for answer in stated])
    return np.linalg.slogdet(np.eye(len(stated)) + SCALE * vectors @ vectors.T)[1] / (K * math.log1p(SCALE))


rows = [json.loads(line) for line in open(args.rows, encoding="utf-8")]
seconds, totals = {}, {}
clock = time.perf_counter()


def lap(name, values=None):
    global clock
    now = time.perf_counter()
    seconds[name] = now - clock
    if values is not None:
        totals[name] = sum(values) / len(values)
    clock = time.perf_counter()


parsed, tables = [], {}
for row in rows:
    answers, confidences, complete, format_ok = parse(row["completion"])
    if row["id"] not in tables:
        tables[row["id"]] = gold_index(row["gold"])
    matches = [tables[row["id"]].get(answer) if answer else None for answer in answers]
    parsed.append((answers, confidences, complete, format_ok, matches))
lap("parse")
lap("coverage", [coverage(a, m) for a, q, complete, ok, m in parsed])
lap("brier", [brier(a, q, ok, m) for a, q, complete, ok, m in parsed])
lap("uniqueness", [uniqueness(a, complete) for a, q, complete, ok, m in parsed])
lap("log_det", [log_det(a) for a, q, complete, ok, m in parsed])
print(json.dumps({
    "name": "score/python", "device": "cpu", "rows": len(rows), "answers": K, "seconds": seconds,
    "total_s": sum(seconds.values()), "means": totals,
}))
