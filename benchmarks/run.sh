#!/usr/bin/env bash
# plural and its peers at the same work, one after the other on this machine: sampling speed and the time of a GRPO
# step (SmolLM2-135M, 4 prompts x 8 samples x 48 new tokens); and MB/s of plural's tokenizer on WordNet's training file.
# Writes benchmarks/results/<name>.json. A program that fails ends it, with what it said.
# usage: [DTYPES=bfloat16] benchmarks/run.sh [NAME]   (default: the processor's model; both dtypes)
# Scoring of completions has a script of its own, benchmarks/score.sh, which is run at the end.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
home=${PLURAL_HOME:-$HOME/.cache/plural}
bin=$root/build/release/bin
model=$home/models/SmolLM2-135M-Instruct
prompts=$root/benchmarks/prompts.jsonl
name=${1:-$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -1 | tr -cs 'A-Za-z0-9\n' '-' | sed 's/-*$//')}
out=$root/benchmarks/results/$name.json
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
lines=$work/lines

"$root/benchmarks/peers/setup.sh"
run() {
  printf '== %s\n' "$*" >&2
  if ! "$@" > "$work/output" 2> "$work/errors"; then
    cat "$work/errors" >&2
    printf 'benchmarks/run.sh: failed: %s\n' "$*" >&2
    exit 1
  fi
  tail -1 "$work/output" | tee -a "$lines" >&2
}
run "$bin/tokenizer_bench" "$model" "$home/data/wordnet/train.jsonl"
for dtype in ${DTYPES:-bfloat16 float32}; do
  run "$bin/generate_bench" "$model" "$prompts" $dtype cpu 8 48 3
  run "$home/venv-peers/bin/python" "$root/benchmarks/peers/transformers_generate.py" --model "$model" --prompts "$prompts" --dtype $dtype
done
for dtype in ${DTYPES:-bfloat16 float32}; do
  run "$bin/train_step_bench" "$model" "$prompts" $dtype cpu 8 48 4
  run "$home/venv-peers/bin/python" "$root/benchmarks/peers/trl_grpo.py" --model "$model" --prompts "$prompts" --dtype $dtype
done
mkdir -p "$(dirname "$out")"
"$home/venv/bin/python" "$root/benchmarks/summarise.py" "$lines" "$out" "$(git -C "$root" rev-parse --short HEAD)"
"$root/benchmarks/score.sh" "$name"
