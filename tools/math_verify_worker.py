#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A worker (docs/rewards/external.md) that judges answers of mathematics with math-verify.

  match  {"candidate", "gold": [[spelling, ...], ...]} -> {"match": index of the first gold answer that is equal, or -1}
  score  a row -> {"value": different gold answers hit / num_answers}

Both sides are parsed, the gold answer as a formula, the candidate as a formula and as text that may hold one.
"""

import functools
import importlib.metadata
import json
import logging
import os
import sys

from math_verify import parse, verify

PROTOCOL = 1


# No time limits of the library's own: they go by the clock and would turn a busy machine into wrong verdicts. The time
# limit of the worker's owner is the one that counts.
def parse_text(text):
    return parse(text, parsing_timeout=None)


@functools.lru_cache(maxsize=65536)
def parse_gold(text):
    """A gold answer is a formula."""
    return parse_text(text if "$" in text else f"${text}$") or parse_text(text)


@functools.lru_cache(maxsize=65536)
def parse_candidate(text):
    """A candidate may be a formula, or a sentence that holds one: both readings."""
    readings = [parse_text(text)]
    if "$" not in text:
        readings.append(parse_text(f"${text}$"))
    return [reading for reading in readings if reading]


def equal(gold, candidate):
    return any(verify(parse_gold(gold), reading, timeout_seconds=None) for reading in parse_candidate(candidate))


def match(candidate, gold):
    for index, spellings in enumerate(gold):
        if any(equal(spelling, candidate) for spelling in spellings):
            return index
    return -1


def match_item(item):
    return {"match": match(item["candidate"], item["gold"])}


def score_item(item):
    gold = [[g] if isinstance(g, str) else [g["answer"], *g.get("aliases", [])] for g in item["example"]["gold"]]
    hit = {match(answer["text"], gold) for answer in item["answers"] if answer["text"]} - {-1}
    return {"value": len(hit) / item["num_answers"]}


KINDS = {"match": match_item, "score": score_item}


def judge(request):
    work = KINDS[request["kind"]]
    results = []
    for item in request["items"]:
        try:
            results.append(work(item))
        except Exception as error:  # an answer that breaks the library is one failed item, not the end of the worker
            results.append({"error": f"{type(error).__name__}: {error}"})
    return {"id": request["id"], "results": results}


def main():
    # The protocol owns standard output; what libraries print goes to standard error.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    logging.disable(logging.WARNING)
    for line in sys.stdin:
        request = json.loads(line)
        if "plural_worker" in request:
            reply = {"plural_worker": PROTOCOL, "name": f"math-verify {importlib.metadata.version('math-verify')}"}
        else:
            reply = judge(request)
        out.write(json.dumps(reply) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
