#!/usr/bin/env bash
# The main job of `make quickstart`: SmolLM2-135M-Instruct learns to answer "Name 3 kinds of ..." with a set of
# answers and their probabilities. Goes on where it was stopped. SEED and OUT may be set in the environment.
set -euo pipefail
. "$(dirname "$0")/../run_common.sh"
here=$root/examples/wordnet
out=${OUT:-$root/runs/quickstart-seed$seed}
base=$home/models/SmolLM2-135M-Instruct
data=$home/data/wordnet

train() {  # train CONFIG RUN_DIR [--set ...]: fresh, or on from the newest checkpoint
  local config=$1 dir=$2; shift 2
  local resume=()
  [ -e "$dir/config.yaml" ] && resume=(--resume)
  "$plural" train "$here/$config" --set output="$dir" --set seed="$seed" --set data.train="$data/train.jsonl" "$@" "${resume[@]}"
}
evaluate() {  # evaluate NAME TITLE MODEL [options]
  local name=$1 title=$2 model=$3; shift 3
  [ -e "$out/evals/$name/metrics.json" ] || "$plural" eval --model "$model" --dtype bfloat16 --data "$data/heldout.jsonl" \
    --format compact --matcher word_set --seed "$seed" --title "$title" --out "$out/evals/$name" "$@"
}

start_run
say "1/6 base model on held-out categories"
evaluate 1-base "base model" "$base" --num-answers 3 --samples 1
say "2/6 multi-response fine-tuning (teaches the format)"
train sft.yaml "$out/sft" --set model="$base"
say "3/6 fine-tuned model on held-out categories"
evaluate 2-sft "after fine-tuning" "$out/sft/model" --num-answers 3,1,5 --samples 2
evaluate 3-sft-independent "fine-tuned, 3 single answers" "$out/sft/model" --mode independent --num-answers 3 --samples 2
say "4/6 multi-answer RL"
train rl.yaml "$out/rl" --set model="$out/sft/model"
say "5/6 trained model on held-out categories"
evaluate 4-rl "after RL" "$out/rl/model" --num-answers 3,1,2,4,5 --samples 2
say "6/6 report"
[ -e "$out/rl/evals" ] || ln -s ../evals "$out/rl/evals"
"$plural" report "$out/rl"
count_minutes
printf 'seed %s, %s minutes in all\n' "$seed" "$(cat "$out/minutes")"
