"""Mean and spread over seeds of the quickstart's evaluations -> results/summary.json, results/summary.md.
usage: summarise.py RUNS RESULTS SEED..."""
import json
import pathlib
import statistics
import sys

runs, results, seeds = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3:]
EVALUATIONS = ("1-base", "2-sft", "3-sft-independent", "4-rl")
COLUMNS = ["format_rate", "coverage", "unique", "brier", "ece", "auroc", "accuracy", "tokens_per_distinct_correct"]


def spread(values):
    return {"values": values, "mean": statistics.mean(values),
            "std": statistics.stdev(values) if len(values) > 1 else 0.0}


def number(value, digits=3):
    several = len(value["values"]) > 1
    return f"{value['mean']:.{digits}f}" + (f" ± {value['std']:.{digits}f}" if several else "")


def columns_of(metrics):
    """metrics: one dictionary a seed. A column that is undefined for a seed (no answer at all) is left out."""
    found = {c: [m.get(c) for m in metrics] for c in COLUMNS}
    return {c: spread(values) for c, values in found.items() if None not in values}


def row(title, entry):
    cells = [number(entry[c]) if c in entry else "-" for c in COLUMNS]
    return f"| {title} | " + " | ".join(cells) + " |"


def table(rows):
    return ["| model | " + " | ".join(COLUMNS) + " |", "| --- |" + " --- |" * len(COLUMNS), *rows]


summary = {"seeds": [int(s) for s in seeds], "evaluations": {}, "minutes": []}
by_k = {}
for name in EVALUATIONS:
    files = [json.loads((runs / f"quickstart-seed{s}" / "evals" / name / "metrics.json").read_text()) for s in seeds]
    entry = {"title": files[0]["title"], "num_answers": files[0]["num_answers"],
             "prompts": files[0]["prompts"], "samples_per_prompt": files[0]["samples_per_prompt"],
             "metrics": columns_of([f["metrics"] for f in files]), "by_num_answers": []}
    for k, _ in enumerate(files[0]["by_num_answers"]):
        entry["by_num_answers"].append({"num_answers": files[0]["by_num_answers"][k]["num_answers"],
                                        "metrics": columns_of([f["by_num_answers"][k]["metrics"] for f in files])})
    summary["evaluations"][name] = entry
for s in seeds:
    minutes = runs / f"quickstart-seed{s}" / "minutes"
    summary["minutes"].append(float(minutes.read_text()) if minutes.exists() else None)

before, after = (summary["evaluations"][n]["metrics"] for n in ("2-sft", "4-rl"))
summary["coverage_ratio"] = spread([a / b for a, b in zip(after["coverage"]["values"], before["coverage"]["values"])])
results.mkdir(parents=True, exist_ok=True)
(results / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")

of = f"Seeds {', '.join(seeds)}: mean ± standard deviation" if len(seeds) > 1 else f"Seed {seeds[0]} alone"
lines = [f"{of}, {summary['evaluations']['1-base']['prompts']} held-out categories, K = 3.", ""]
lines += table(row(e["title"], e["metrics"]) for e in summary["evaluations"].values())
ratio = summary["coverage_ratio"]
lines += ["", f"Coverage after RL over coverage after fine-tuning: {number(ratio, 2)} "
          f"({', '.join(f'{v:.2f}' for v in ratio['values'])})."]
if None not in summary["minutes"]:
    lines += [f"Minutes: {', '.join(f'{m:.1f}' for m in summary['minutes'])}."]
lines += ["", "After RL, by the K asked for:", ""]
lines += table(row(f"K = {e['num_answers']}", e["metrics"]) for e in summary["evaluations"]["4-rl"]["by_num_answers"])
(results / "summary.md").write_text("\n".join(lines) + "\n")
print("\n".join(lines))
