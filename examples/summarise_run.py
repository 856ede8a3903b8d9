"""The evaluations of one run of an example (its run.sh) -> RESULTS/summary.json, RESULTS/summary.md.
usage: summarise_run.py RUN RESULTS"""

import json
import pathlib
import sys

# metrics.json's name -> column
COLUMNS = {"format_rate": "format", "accuracy": "answers right", "any_correct": "a right one among K", "coverage": "coverage",
           "pass@1": "most confident right", "unique": "different answers", "brier": "Brier", "ece": "ECE",
           "tokens": "tokens"}


def row(title, metrics):
    values = [metrics.get(name) for name in COLUMNS]
    digits = [1 if name == "tokens" else 3 for name in COLUMNS]
    cells = ["-" if value is None else f"{value:.{d}f}" for value, d in zip(values, digits)]
    return f"| {title} | " + " | ".join(cells) + " |"


run, results = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
evaluations = {file.parent.name: json.loads(file.read_text()) for file in sorted(run.glob("evals/*/metrics.json"))}
first = next(iter(evaluations.values()))
minutes = float((run / "minutes").read_text())

lines = [f"Seed {first['seed']} alone, {first['prompts']} held-out prompts, {first['samples_per_prompt']} samples each; "
         f"{minutes:.1f} minutes in all.", "",
         "| model | K | " + " | ".join(COLUMNS.values()) + " |", "| --- |" + " --- |" * (1 + len(COLUMNS))]
summary = {"seed": first["seed"], "minutes": minutes, "evaluations": {}}
for name, evaluation in evaluations.items():
    for by_k in evaluation["by_num_answers"]:
        lines.append(row(f"{evaluation['title']} | {by_k['num_answers']}", by_k["metrics"]))
    summary["evaluations"][name] = {
        "title": evaluation["title"], "prompts": evaluation["prompts"],
        "samples_per_prompt": evaluation["samples_per_prompt"],
        "by_num_answers": [{"num_answers": by_k["num_answers"],
                            "metrics": {column: by_k["metrics"].get(column) for column in COLUMNS}}
                           for by_k in evaluation["by_num_answers"]]}
results.mkdir(parents=True, exist_ok=True)
(results / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
(results / "summary.md").write_text("\n".join(lines) + "\n")
print("\n".join(lines))
