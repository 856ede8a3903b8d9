"""Mean and spread over seeds of the quickstart's evaluations -> results/summary.json, results/summary.md."""
import json
import pathlib
import statistics
import sys

runs, results, seeds = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3:]
COLUMNS = ["format_rate", "coverage", "unique", "brier", "ece", "accuracy", "tokens_per_distinct_correct"]
results.mkdir(parents=True, exist_ok=True)
summary = {"seeds": [int(s) for s in seeds], "evaluations": {}}
for name in ("1-base", "2-sft", "3-sft-independent", "4-rl"):
    files = [json.loads((runs / f"quickstart-seed{s}" / "evals" / name / "metrics.json").read_text()) for s in seeds]
    first = [f["evaluations"][0] for f in files]
    entry = {"title": files[0]["title"], "num_answers": first[0]["num_answers"]}
    for column in COLUMNS:
        values = [e["metrics"].get(column) for e in first]
        if any(v is None for v in values):
            continue
        entry[column] = {
            "values": values,
            "mean": statistics.mean(values),
            "std": statistics.stdev(values) if len(values) > 1 else 0.0,
        }
    summary["evaluations"][name] = entry
(results / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")

lines = [f"Seeds {', '.join(seeds)}: mean ± standard deviation.", "", "| model | " + " | ".join(COLUMNS) + " |",
         "| --- |" + " --- |" * len(COLUMNS)]
for entry in summary["evaluations"].values():
    cells = [f"{entry[c]['mean']:.3f} ± {entry[c]['std']:.3f}" if c in entry else "-" for c in COLUMNS]
    lines.append(f"| {entry['title']} | " + " | ".join(cells) + " |")
(results / "summary.md").write_text("\n".join(lines) + "\n")
print("\n".join(lines))
