#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs cases through plural-oracle: the committed ones, and the large oracle files where they lie beside the checkout.

  oracle_test.py golden   tests/golden/reward_cases.jsonl; `expected` null = undefined or an error
  oracle_test.py large    ../shared/oracle/*.jsonl with its own checker; exits 77 (skipped) where it is absent
"""
import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

SOURCE = Path(os.environ.get("PLURAL_SOURCE_DIR", Path(__file__).resolve().parents[2]))
ORACLE = Path(os.environ["PLURAL_BIN"]) / "plural-oracle"


def same(wanted, found, tolerance):
    if wanted is None or found is None:
        return wanted is None and found is None
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(k in found and same(v, found[k], tolerance) for k, v in wanted.items())
    if isinstance(wanted, list):
        return isinstance(found, list) and len(wanted) == len(found) and all(
            same(a, b, tolerance) for a, b in zip(wanted, found))
    return isinstance(found, (int, float)) and math.isfinite(found) and abs(wanted - found) <= tolerance * max(1.0, abs(wanted))


def run_golden():
    cases = [json.loads(line) for line in open(SOURCE / "tests/golden/reward_cases.jsonl", encoding="utf-8")]
    feed = "".join(json.dumps({k: v for k, v in c.items() if k not in ("expected", "tol")}) + "\n" for c in cases)
    done = subprocess.run([str(ORACLE)], input=feed.encode(), stdout=subprocess.PIPE, check=True)
    replies = {r["case_id"]: r for r in map(json.loads, done.stdout.decode().splitlines())}
    wrong = 0
    for case in cases:
        reply = replies.get(case["case_id"])
        if reply is None or not same(case["expected"], reply.get("value"), case["tol"]):
            wrong += 1
            print("wrong:", case["case_id"], case["function"], "expected", case["expected"], "got", reply)
    print(f"{len(cases) - wrong} of {len(cases)} cases agree")
    return 1 if wrong or not cases else 0


def run_large():
    folder = SOURCE.parent / "shared" / "oracle"
    if not (folder / "check_cases.py").is_file():
        print(f"skipped: {folder} is not there")
        return 77
    options, command = ["--skip-tag", "math"], [str(ORACLE)]
    if importlib.util.find_spec("math_verify"):
        options = []
        command += ["--math-worker", sys.executable, str(SOURCE / "tools/math_verify_worker.py")]
    else:
        print("without the cases of mathematics: math-verify is not installed")
    codes = [subprocess.call([sys.executable, str(folder / "check_cases.py"), str(cases), "--right", *options, "--",
                              *command]) for cases in sorted(folder.glob("*.jsonl"))]
    return 1 if any(codes) or not codes else 0


if __name__ == "__main__":
    sys.exit(run_golden() if sys.argv[1:] == ["golden"] else run_large())
