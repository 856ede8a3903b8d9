"""Turns the lines that benchmarks/score.sh collected into one results file and a table: medians over the turns, and how many times faster.

The means of the rewards must agree between the programs: otherwise they did not do the same work, and nothing is written.
"""
import json
import os
import platform
import statistics
import sys

lines, out, commit = sys.argv[1:4]
rows = [json.loads(line) for line in open(lines, encoding="utf-8") if line.strip()]
by_name = {}
for row in rows:
    by_name.setdefault(row["name"], []).append(row)
python = by_name["score/python"]
for row in rows:
    for reward, mean in row["means"].items():
        if abs(mean - python[0]["means"][reward]) > 1e-5:
            sys.exit(f"{row['name']}: mean {reward} is {mean}, Python has {python[0]['means'][reward]}: not the same work")


def seconds(turns, part):
    return statistics.median(turn["total_s"] if part == "total" else turn["seconds"][part] for turn in turns)


def pure(turns):
    return statistics.median(sum(s for part, s in turn["seconds"].items() if part != "parse") for turn in turns)


parts = [*python[0]["seconds"], "total"]
cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
result = {"commit": commit, "processor": cpu, "cores": os.cpu_count(), "rows": python[0]["rows"], "answers": python[0]["answers"],
          "turns": len(python), "means": python[0]["means"], "median_s": {}, "times_faster": {}}
for name, turns in by_name.items():
    result["median_s"][name] = {part: seconds(turns, part) for part in parts} | {"scoring after parsing": pure(turns)}
for name in by_name:
    if name != "score/python":
        ours, theirs = result["median_s"][name], result["median_s"]["score/python"]
        result["times_faster"][name] = {part: theirs[part] / ours[part] for part in ours}
os.makedirs(os.path.dirname(out), exist_ok=True)
with open(out, "w", encoding="utf-8") as f:
    json.dump(result, f, indent=1)
    f.write("\n")
for name, medians in result["median_s"].items():
    for part, value in medians.items():
        faster = result["times_faster"].get(name, {}).get(part)
        print(f"{name:22s} {part:22s} {1000 * value:10.2f} ms" + (f" {faster:8.1f} x" if faster else ""))
print("written:", out)
