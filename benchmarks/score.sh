#!/usr/bin/env bash
# plural and plain Python judging the same completions (8,192 rows x 5 answers; format multi_answer): parse and match, then coverage,
# multi-Brier, uniqueness and log-det. The two take turns, so that what else the machine does falls on both.
# usage: [TURNS=5] benchmarks/score.sh [NAME]   (default: the processor's model) -> benchmarks/results/NAME-score.json
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
home=${PLURAL_HOME:-$HOME/.cache/plural}
python=$home/venv/bin/python
name=${1:-$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -1 | tr -cs 'A-Za-z0-9\n' '-' | sed 's/-*$//')}
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT

"$python" "$root/benchmarks/score_data.py" "$home/data/wordnet/train.jsonl" "$work/rows.jsonl"
bench() { "$root/build/release/bin/score_bench" "$work/rows.jsonl" "$@" >> "$work/lines"; }
for _ in $(seq "${TURNS:-5}"); do
  bench cpu
  "$python" "$root/benchmarks/peers/python_rewards.py" "$work/rows.jsonl" >> "$work/lines"
done
if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then bench cuda; fi
"$python" "$root/benchmarks/summarise_score.py" "$work/lines" "$root/benchmarks/results/$name-score.json" \
  "$(git -C "$root" rev-parse --short HEAD)"
