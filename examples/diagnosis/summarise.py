#!/usr/bin/env python3
"""Tables and plots of a finished study: results/summary.json, summary.md and *.svg. study.py calls it at its end.

Every number is a mean over seeds with the standard deviation over seeds. What is compared with the posterior is exact; what is
compared with labels (Brier score, ECE, AUROC) uses the one disease drawn for each held-out case.
"""

import json
import math
import statistics

import numpy as np

import charts
import measures
from make_data import SET_THRESHOLD

WINDOW = 5   # logged steps that a training curve is averaged over
LEVELS = (0.8, 0.82, 0.84)  # of the best mass, that steps are counted to
BASELINE = 3  # K of the comparison between sets and single answers


def spread(values):
    """Mean and standard deviation of what is defined."""
    defined = [v for v in values if v is not None and not math.isnan(v)]
    return {"values": values, "mean": statistics.mean(defined) if defined else None,
            "std": statistics.stdev(defined) if len(defined) > 1 else 0.0}


def combine(entries):
    """Objects of one shape, one a seed, as one object whose numbers are spreads. Lists are joined as far as the shortest goes."""
    first = entries[0]
    if isinstance(first, dict):
        return {key: combine([entry[key] for entry in entries]) for key in first if all(key in entry for entry in entries)}
    if isinstance(first, list):
        return [combine(list(items)) for items in zip(*entries)]
    return spread(entries)


def measure(run, seed, arm, truth, plural):
    """All numbers of one arm of one seed."""
    seed_dir = run / f"seed{seed}"
    evaluation = seed_dir / "evals" / arm.name
    diseases = [str(name) for name in truth["diseases"]]
    rows = measures.read_rows(evaluation / "samples.jsonl", diseases)
    official = json.loads((evaluation / "metrics.json").read_text(encoding="utf-8"))
    tokens_within = [point["tokens"] for point in official["curve"] if point["answers"] <= arm.k]
    posteriors = truth["heldout"]
    labels = measures.label_calibration(rows, posteriors, plural)
    entry = {
        "sets": measures.set_measures(rows, posteriors, SET_THRESHOLD, arm.k),
        "exact": measures.exact_calibration(rows, posteriors, arm.k),
        "labels": {name: value for name, value in labels.items() if isinstance(value, (int, float)) or value is None},
        "labels_by_rank": labels.get("by_class", []),
        "curve": measures.curve(rows, posteriors, SET_THRESHOLD, arm.k, tokens_within),
        "format_rate": official["metrics"]["format_rate"],
    }
    run_dir = seed_dir / arm.name
    if (run_dir / "metrics.jsonl").exists():
        with open(run_dir / "metrics.jsonl", encoding="utf-8") as lines:
            steps = [json.loads(line) for line in lines]
        entry["training_minutes"] = sum(step["time/step_s"] for step in steps) / 60
        entry["training"] = measures.training_curve(run_dir, diseases, truth["train"], arm.k)
    return entry


def merge_ranks(entries, key):
    """[{rank: ..., numbers}] of each seed by rank."""
    ranks = sorted(set.intersection(*(set(int(item[key]) for item in entry) for entry in entries)))
    table = []
    for rank in ranks:
        items = [next(item for item in entry if int(item[key]) == rank) for entry in entries]
        table.append({"rank": rank, **combine([{k: v for k, v in item.items() if k != key} for item in items])})
    return table


def reliability(entries):
    """Mean over seeds of each bin's probability and confidence, for bins with at least 1 % of the answers in every seed."""
    width = {}
    for entry in entries:
        for item in entry["bins"]:
            if item["count"] >= 0.01 * entry["count"]:
                width.setdefault(min(int(item["confidence"] * 10), 9), []).append(item)
    return [combine([{"confidence": i["confidence"], "probability": i["probability"]} for i in items])
            for _, items in sorted(width.items()) if len(items) == len(entries)]


def merge(entries):
    """The seeds' entries of one arm."""
    merged = {name: combine([entry[name] for entry in entries]) for name in ("sets", "curve", "format_rate", "labels")}
    exact = [entry["exact"] for entry in entries]
    merged["exact"] = combine([{k: v for k, v in e.items() if k not in ("bins", "by_rank")} for e in exact])
    merged["exact_by_rank"] = merge_ranks([e["by_rank"] for e in exact], "rank")
    merged["labels_by_rank"] = merge_ranks([entry["labels_by_rank"] for entry in entries], "class")
    merged["reliability"] = reliability(exact)
    if all("training" in entry for entry in entries):
        smooth = [measures.running_mean(entry["training"], WINDOW) for entry in entries]
        merged["training"] = [{"step": line[0][0], "share": spread([value for _, value in line])} for line in zip(*smooth)]
        merged["steps_to"] = {str(level): spread([measures.first_step(line, level) for line in smooth]) for level in LEVELS}
        merged["training_minutes"] = spread([entry["training_minutes"] for entry in entries])
    return merged


# ---------------------------------------------------------------------------------------------------------------------------


def number(value, digits=3):
    if value["mean"] is None:
        return "-"
    several = len(value["values"]) > 1
    return f"{value['mean']:.{digits}f}" + (f" ± {value['std']:.{digits}f}" if several else "")


def table(head, rows):
    return ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head), *("| " + " | ".join(row) + " |" for row in rows), ""]


def set_table(arms, merged):
    names = ("mass", "regret", "recall", "coverage", "unique", "top1", "top1_regret", "tokens")
    rows = [[arm.title, str(arm.k), number(merged[arm.name]["format_rate"])] +
            [number(merged[arm.name]["sets"][n], 1 if n == "tokens" else 3) for n in names] for arm in arms]
    return table(["model", "K", "format", *names], rows)


def calibration_table(arms, merged):
    columns = [("exact", "mean_confidence"), ("exact", "mean_probability"), ("exact", "squared_error"), ("exact", "ece"),
               ("labels", "brier"), ("labels", "brier_reliability"), ("labels", "brier_resolution"), ("labels", "ece"),
               ("labels", "auroc"), ("labels", "total_variation"), ("labels", "kl")]
    head = ["model", "mean q", "mean p", "(q - p)^2", "exact ECE", "Brier", "reliability", "resolution", "ECE", "AUROC", "TV", "KL"]
    none = spread([None])
    rows = [[arm.title, *(number(merged[arm.name][part].get(name, none)) for part, name in columns)] for arm in arms]
    return table(head, rows)


def rank_table(arms, merged):
    rows = []
    for arm in arms:
        labels = {entry["rank"]: entry for entry in merged[arm.name]["labels_by_rank"]}
        for entry in merged[arm.name]["exact_by_rank"]:
            of_labels = labels.get(entry["rank"])
            rows.append([arm.title, str(entry["rank"]), number(entry["mean_confidence"]), number(entry["mean_probability"]),
                         number(entry["squared_error"]), number(entry["ece"]),
                         number(of_labels["brier"]) if of_labels else "-", number(of_labels["ece"]) if of_labels else "-"])
    return table(["model", "rank", "mean q", "mean p", "(q - p)^2", "exact ECE", "Brier", "ECE"], rows)


def steps_table(arms, merged):
    def cell(value):
        reached = sum(v is not None for v in value["values"])
        if not reached:
            return "never"
        return number({**value, "values": [v for v in value["values"] if v is not None]}, 0) + (
            "" if reached == len(value["values"]) else f" ({reached} of {len(value['values'])} seeds)")

    rows = [[arm.title, *(cell(merged[arm.name]["steps_to"][str(level)]) for level in LEVELS),
             number(merged[arm.name]["training_minutes"], 1)] for arm in arms if "steps_to" in merged[arm.name]]
    return table(["model", *(f"steps to {level:.0%} of the best" for level in LEVELS), "minutes"], rows)


def equal_recall_table(arms, merged):
    """Tokens at which each arm's curve reaches the recall that single answers have after K samples, and after ten."""
    reference = merged.get("rlvr_single")
    if not reference:
        return []
    goals = [point for point in reference["curve"] if round(point["answers"]["mean"]) in (BASELINE, len(reference["curve"]))]
    rows = []
    for arm in arms:
        cells = []
        for goal in goals:
            reached = next((p for p in merged[arm.name]["curve"] if p["recall"]["mean"] >= goal["recall"]["mean"] - 1e-12), None)
            cells.append(f"{reached['tokens']['mean']:.1f} ({reached['answers']['mean']:.0f} answers)" if reached else "not reached")
        rows.append([arm.title, *cells])
    head = [f"tokens to recall {goal['recall']['mean']:.3f} (RLVR-Single after {goal['answers']['mean']:.0f})" for goal in goals]
    return ["### Tokens to the recall of single answers", "", *table(["model", *head], rows)]


# ---------------------------------------------------------------------------------------------------------------------------


def curve_series(names, titles, merged, x, y):
    return [(titles[n], [(p[x]["mean"], p[y]["mean"], p[y]["std"]) for p in merged[n]["curve"]]) for n in names if n in merged]


def write_charts(results, arms, merged):
    """Returns [(file, what it shows)]."""
    titles = {arm.name: arm.title for arm in arms}
    sampled = ("sft_single", "sft_multi", "rlvr_single", "rlcr_single", "rlvr_multi", "rlcr_multi", "reward_to_go")
    drawn = []

    def add(file, caption, title, x_label, y_label, series, **options):
        series = [line for line in series if line[1]]
        if series:
            (results / file).write_text(charts.line_chart(title, x_label, y_label, series, **options), encoding="utf-8")
            drawn.append((file, caption))

    for y, words in (("recall", "recall of the plausible diseases"), ("mass", "probability found"), ("unique", "different answers")):
        for x, against in (("answers", "answers drawn"), ("tokens", "completion tokens")):
            add(f"{y}_by_{x}.svg", f"{words}, against {against}", words[0].upper() + words[1:], against, words,
                curve_series(sampled, titles, merged, x, y))
    confident = ("sft_multi", "rlvr_multi", "rlcr_single", "rlcr_multi", "reward_to_go", "std")
    add("reliability.svg", "stated confidence against the exact probability", "Reliability", "stated confidence", "exact probability",
        [(titles[n], [(b["confidence"]["mean"], b["probability"]["mean"], b["probability"]["std"]) for b in merged[n]["reliability"]])
         for n in confident if n in merged], x_range=(0, 1), y_range=(0, 1), diagonal=True)
    for file, names, caption in (
        ("credit.svg", ("rlcr_multi", "reward_to_go", "std", "rlvr_multi"), "learning with credit to whole sets and to single answers"),
        ("training_by_k.svg", ("rlcr_multi_k2", "rlcr_multi", "rlcr_multi_k4", "rlcr_multi_k5"), "training with K = 2 ... 5")):
        add(file, caption, caption[0].upper() + caption[1:], "step", "probability found / best",
            [(titles[n], [(p["step"], p["share"]["mean"], p["share"]["std"] if i % 10 == 0 else 0)
                          for i, p in enumerate(merged[n].get("training", []))]) for n in names if n in merged])
    return drawn


def summarise(run, results, seeds, arms, plural):
    """run: study.py's OUT, complete for these seeds and arms. Writes into `results` and prints the tables."""
    truth = np.load(run / "data" / "posteriors.npz")
    truth = {name: truth[name] for name in truth.files}
    merged = {arm.name: merge([measure(run, seed, arm, truth, plural) for seed in seeds]) for arm in arms}
    results.mkdir(parents=True, exist_ok=True)
    drawn = write_charts(results, arms, merged)
    best = np.sort(truth["heldout"], axis=1)[:, ::-1]
    reached = {str(k): float(best[:, :k].sum(axis=1).mean()) for k in range(1, 11)}
    summary = {"seeds": list(seeds), "heldout_cases": len(best), "set_threshold": SET_THRESHOLD, "best_mass": reached,
               "arms": [{"name": arm.name, "title": arm.title, "num_answers": arm.k, "labels": arm.labels,
                         **merged[arm.name]} for arm in arms]}
    (results / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")

    of = f"Seeds {', '.join(map(str, seeds))}: mean ± standard deviation" if len(seeds) > 1 else f"Seed {seeds[0]} alone"
    held = ", ".join(f"{reached[str(k)]:.3f}" for k in range(1, 6))
    lines = [f"{of}, {len(best)} held-out cases. The best sets of 1 ... 5 hold {held}.", "", "### Sets", "",
             *set_table(arms, merged), "### Confidences q against exact probabilities p", "", *calibration_table(arms, merged),
             "### By rank of the confidence", "", *rank_table(arms, merged), "### Speed of learning", "", *steps_table(arms, merged),
             *equal_recall_table(arms, merged)]
    lines += [f"![{caption}]({file})" for file, caption in drawn]
    (results / "summary.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
