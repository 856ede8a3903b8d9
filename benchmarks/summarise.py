"""Turns the lines that benchmarks/run.sh collected into one results file and a table with the ratios."""
import json
import os
import platform
import sys

lines, out, commit = sys.argv[1:4]
rows = [json.loads(line) for line in open(lines, encoding="utf-8") if line.strip()]
cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
result = {"commit": commit, "processor": cpu, "cores": os.cpu_count(), "results": rows, "ratios": {}}


def find(prefix):
    return next((r for r in rows if r["name"].startswith(prefix[0]) and r["name"].endswith(prefix[1])), None)


for dtype in ("bfloat16", "float32"):
    ours, theirs = find(("generate/plural", dtype)), find(("generate/transformers", dtype))
    if ours and theirs:
        result["ratios"][f"generate/{dtype}: plural tokens/s over transformers"] = ours["tokens_per_s"] / theirs["tokens_per_s"]
    ours, theirs = find(("grpo_step/plural", dtype)), find(("grpo_step/trl", dtype))
    if ours and theirs:
        result["ratios"][f"grpo_step/{dtype}: TRL seconds over plural"] = theirs["median_s"] / ours["median_s"]
with open(out, "w", encoding="utf-8") as f:
    json.dump(result, f, indent=1)
    f.write("\n")


def speed(row):
    if "encode_mb_per_s" in row:
        return f"{row['encode_mb_per_s']:8.1f} MB/s encode, {row['encode_lines_mb_per_s']:.1f} line by line, {row['decode_mb_per_s']:.1f} decode"
    return f"{row['tokens_per_s']:8.0f} tokens/s" if "tokens_per_s" in row else f"{row['median_s']:8.1f} s a step"


for row in rows:
    print(f"{row['name']:45s} {speed(row)}")
for key, value in result["ratios"].items():
    print(f"{key:60s} {value:6.2f}")
print("written:", out)
