"""What must not take long, measured on this machine: a megabyte of awkward tags (parser_bench) and programs in the sandbox (sandbox_bench).

usage: limits.py [NAME]   (default: the processor's model) -> benchmarks/results/NAME-limits.json
"""
import json
import os
import platform
import re
import subprocess
import sys

root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def lines(program):
    done = subprocess.run([f"{root}/build/release/bin/{program}"], stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
name = sys.argv[1] if len(sys.argv) > 1 else re.sub(r"[^A-Za-z0-9]+", "-", cpu).strip("-")
commit = subprocess.run(["git", "-C", root, "rev-parse", "--short", "HEAD"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
result = {"commit": commit, "processor": cpu, "cores": os.cpu_count(), "parse_megabyte": lines("parser_bench"), "sandbox": lines("sandbox_bench")}
out = f"{root}/benchmarks/results/{name}-limits.json"
with open(out, "w", encoding="utf-8") as f:
    json.dump(result, f, indent=1)
    f.write("\n")
slowest = max(result["parse_megabyte"], key=lambda line: line["parse_ms"])
print(f"slowest megabyte: {slowest['parse_ms']:.1f} ms ({slowest['text']}, {slowest['format']}, K = {slowest['num_answers']})")
print(f"programs a minute: {max(line['programs_per_minute'] for line in result['sandbox']):.0f}")
print("written:", out)
