#!/usr/bin/env bash
# The quickstart over three seeds (about an hour on 2 cores), then results/summary.json and results/summary.md: mean and
# spread. Goes on where it was stopped.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
home=${PLURAL_HOME:-$HOME/.cache/plural}
runs=${RUNS:-$root/runs}
for seed in ${SEEDS:-1 2 3}; do
  SEED=$seed OUT=$runs/quickstart-seed$seed "$root/examples/wordnet/quickstart.sh"
done
"$home/venv/bin/python" "$root/examples/wordnet/summarise.py" "$runs" "$root/examples/wordnet/results" ${SEEDS:-1 2 3}
