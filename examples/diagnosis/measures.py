"""What the known posterior says about sets of answers. Rows are completions of `plural eval` (samples.jsonl).

`probability` below is the exact posterior probability of a stated disease: the chance that it is the one that was drawn as the
label. A text that names no disease has probability 0. A disease stated twice counts once, where it stands first.
"""

import collections
import dataclasses
import json
import math
import subprocess

import numpy as np


@dataclasses.dataclass
class Row:
    """One completion."""

    case: int
    diseases: list  # of the answers as written: index, or -1 for a text that names none
    names: list  # their texts, lower case
    confidences: list  # None where none from 0 to 1 is stated
    correct: list  # by the drawn label
    tokens: int


def read_rows(path, diseases):
    """The rows of a samples file; `diseases` are the names in the order of the posteriors."""
    number = {name: d for d, name in enumerate(diseases)}
    rows = []
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            # A number that a completion leaves out is an answer without a text.
            answers = [answer for answer in record["answers"] if answer["text"]]
            names = [answer["text"].lower() for answer in answers]
            stated = [answer["confidence"] for answer in answers]
            rows.append(Row(
                case=int(record["id"].rsplit("-", 1)[1]),
                diseases=[number.get(name, -1) for name in names],
                names=names,
                confidences=[q if q is not None and 0 <= q <= 1 else None for q in stated],
                correct=[bool(answer["correct"]) for answer in answers],
                tokens=record["tokens"],
            ))
    return rows


def firsts(items):
    """Positions at which an item occurs for the first time."""
    seen = set()
    return [i for i, item in enumerate(items) if not (item in seen or seen.add(item))]


def found(row, limit=None):
    """The different diseases among the first answers of a row."""
    return {d for d in row.diseases[:limit] if d >= 0}


def probabilities(row, posterior):
    """Of each answer; a repetition has none left."""
    first = set(firsts(row.names))
    return [float(posterior[d]) if d >= 0 and i in first else 0.0 for i, d in enumerate(row.diseases)]


def ranking(row):
    """Positions of the answers by falling confidence, ties as written, those without one last."""
    return sorted(range(len(row.names)), key=lambda i: -1 if row.confidences[i] is None else row.confidences[i], reverse=True)


def by_case(rows):
    cases = {}
    for row in rows:
        cases.setdefault(row.case, []).append(row)
    return cases


def chances(rows, taken, more):
    """{text: chance} that an answer is among those of `taken` whole rows and the first `more` of one other row, all drawn from
    `rows` without replacement. 0 <= taken < number of rows."""
    others = len(rows) - 1
    wholes = [set(row.names) for row in rows]
    count = collections.Counter(name for whole in wholes for name in whole)
    missed = dict.fromkeys(count, 0.0)
    for row, whole in zip(rows, wholes):  # the one other row
        prefix = set(row.names[:more])
        for name in missed.keys() - prefix:
            without = others - (count[name] - (name in whole))
            missed[name] += math.comb(without, taken) / math.comb(others, taken)
    return {name: 1 - value / len(rows) for name, value in missed.items()}


def curve(rows, posteriors, threshold, k, tokens_within, most=10):
    """What the first 1 ... `most` answers bring when rows of K = `k` answers are drawn one after the other: means over cases, each
    the exact mean over all choices of the case's rows. `mass`: probability that the true disease is among them; `recall`: share
    of the set label; `unique`: different answers. tokens_within[j - 1] = mean tokens of a row when its j-th answer is written."""
    cases = by_case(rows)
    diseases = {name: d for row in rows for name, d in zip(row.names, row.diseases) if d >= 0}
    most = min(most, k * min(len(own) for own in cases.values()))
    whole_row = float(np.mean([row.tokens for row in rows]))
    points = []
    for answers in range(1, most + 1):
        taken, more = divmod(answers - 1, k)
        more += 1  # answers of the last row
        mass, recall, unique = [], [], []
        for case, own in cases.items():
            chance = chances(own, taken, more)
            members = plausible(posteriors[case], threshold)
            hit = {diseases[name]: value for name, value in chance.items() if name in diseases}
            mass.append(sum(posteriors[case][d] * value for d, value in hit.items()))
            recall.append(sum(value for d, value in hit.items() if d in members) / len(members))
            unique.append(sum(chance.values()))
        tokens = taken * whole_row + (whole_row if more == k else tokens_within[more - 1])
        points.append({"answers": answers, "tokens": tokens, "mass": float(np.mean(mass)), "recall": float(np.mean(recall)),
                       "unique": float(np.mean(unique))})
    return points


def plausible(posterior, threshold):
    """The set label: all diseases of at least this probability, or the likeliest one."""
    members = set(np.flatnonzero(posterior >= threshold).tolist())
    return members or {int(posterior.argmax())}


def set_measures(rows, posteriors, threshold, k):
    """Means over rows. `mass`: probability that the true disease is among the answers; `best_mass`: of the best K diseases;
    `regret`: what is missing; `top1`: probability of the most confident answer, `top1_regret`: what the likeliest has more;
    `hits`, `recall`, `coverage`: answers in the set label, their share of the label, of min(K, label); `unique`: different
    answers; `tokens`."""
    columns = {name: [] for name in ("mass", "best_mass", "regret", "top1", "top1_regret", "hits", "recall", "coverage", "unique",
                                     "tokens")}
    for row in rows:
        posterior = posteriors[row.case]
        best = float(np.sort(posterior)[::-1][:k].sum())
        mass = sum(float(posterior[d]) for d in found(row))
        order = ranking(row)
        top1 = probabilities(row, posterior)[order[0]] if order else 0.0
        members = plausible(posterior, threshold)
        hits = len(found(row) & members)
        values = (mass, best, best - mass, top1, float(posterior.max()) - top1, hits, hits / len(members),
                  hits / min(k, len(members)), len(set(row.names)), row.tokens)
        for column, value in zip(columns.values(), values):
            column.append(value)
    return {name: float(np.mean(column)) for name, column in columns.items()}


def stated(row, posterior):
    """(confidence, probability, correct, rank) of the different answers of a row that state a confidence."""
    rank = {position: place for place, position in enumerate(ranking(row), start=1)}
    chance = probabilities(row, posterior)
    return [(row.confidences[i], chance[i], row.correct[i], rank[i]) for i in firsts(row.names) if row.confidences[i] is not None]


def exact_calibration(rows, posteriors, k, bins=10):
    """Confidences q against exact probabilities p, without the noise of labels. `squared_error`: mean (q - p)^2, what the Brier
    score loses by q not being p; `irreducible`: mean p (1 - p), what it loses anyway; `ece`: over equal-width bins; `by_rank`: the
    same for the most confident answer, the next ...; `bins`: count, mean q and mean p."""
    table = [entry for row in rows for entry in stated(row, posteriors[row.case])]
    q, p = (np.array([entry[i] for entry in table], dtype=float) for i in (0, 1))
    rank = np.array([entry[3] for entry in table], dtype=int)
    ranks = [{"rank": r, **calibration_of(q[rank == r], p[rank == r], bins)} for r in range(1, k + 1) if (rank == r).any()]
    for entry in ranks:
        del entry["bins"]
    return {**calibration_of(q, p, bins), "by_rank": ranks}


def calibration_of(q, p, bins):
    place = np.minimum((q * bins).astype(int), bins - 1)
    full = [b for b in range(bins) if (place == b).any()]
    table = [{"count": int((place == b).sum()), "confidence": float(q[place == b].mean()), "probability": float(p[place == b].mean())}
             for b in full]
    gaps = [bin_["count"] * abs(bin_["confidence"] - bin_["probability"]) for bin_ in table]
    return {
        "count": len(q),
        "mean_confidence": float(q.mean()) if len(q) else math.nan,
        "mean_probability": float(p.mean()) if len(q) else math.nan,
        "squared_error": float(((q - p) ** 2).mean()) if len(q) else math.nan,
        "irreducible": float((p * (1 - p)).mean()) if len(q) else math.nan,
        "ece": sum(gaps) / len(q) if len(q) else math.nan,
        "bins": table,
    }


def label_calibration(rows, posteriors, plural):
    """What `plural metrics` says of the same answers: Brier score with its parts, ECE and AUROC by the drawn labels, total
    variation and KL from the exact posterior, and Brier and ECE by rank (the classes)."""
    lines = []
    for row in rows:
        entries = stated(row, posteriors[row.case])
        if entries:
            columns = {"confidence": [e[0] for e in entries], "correct": [e[2] for e in entries],
                       "probability": [e[1] for e in entries], "class": [str(e[3]) for e in entries]}
            lines.append(json.dumps(columns))
    if not lines:
        return {}
    done = subprocess.run([str(plural), "metrics", "--bootstrap", "0"], input="\n".join(lines) + "\n", capture_output=True,
                          text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"`plural metrics` failed with code {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def training_curve(run_dir, diseases, posteriors, k):
    """[(step, share)]: the probability that the sets of a step hold, as a share of what the best sets of the same cases hold."""
    points = []
    for path in sorted((run_dir / "samples").glob("step_*.jsonl"), key=lambda path: int(path.stem.split("_")[1])):
        rows = read_rows(path, diseases)
        mass = sum(float(posteriors[row.case][d]) for row in rows for d in found(row))
        best = sum(float(np.sort(posteriors[row.case])[::-1][:k].sum()) for row in rows)
        points.append((int(path.stem.split("_")[1]), mass / best))
    return points


def running_mean(points, window):
    """Each value with the `window` - 1 before it; where there are fewer, those."""
    values = [value for _, value in points]
    return [(step, float(np.mean(values[max(0, i - window + 1) : i + 1]))) for i, (step, _) in enumerate(points)]


def first_step(points, level):
    """The first step at which the curve is at `level` or above; None if it never is."""
    return next((step for step, value in points if value >= level), None)
