#!/usr/bin/env bash
# PPO with a critic, from the fine-tuned model of the quickstart (examples/wordnet), which is made first when it is not
# there. Evaluation before and after, a report and a summary. Goes on where it was stopped. SEED, OUT, SFT, RESULTS (the
# summary) and PLURAL may be set.
set -euo pipefail
. "$(dirname "$0")/../run_common.sh"
out=${OUT:-$root/runs/ppo-seed$seed}
sft=${SFT:-$root/runs/quickstart-seed$seed/sft}
data=$home/data/wordnet

train() {  # train CONFIG RUN_DIR [--set ...]: fresh, or on from the newest checkpoint
  local config=$1 dir=$2; shift 2
  local resume=()
  [ -e "$dir/config.yaml" ] && resume=(--resume)
  "$plural" train "$root/examples/$config" --set output="$dir" --set seed="$seed" --set data.train="$data/train.jsonl" "$@" \
    "${resume[@]}"
}
evaluate() {  # evaluate NAME TITLE MODEL
  [ -e "$out/evals/$1/metrics.json" ] || "$plural" eval --model "$3" --dtype bfloat16 --data "$data/heldout.jsonl" \
    --format compact --matcher word_set --num-answers 3,1,5 --samples 2 --seed "$seed" --title "$2" --out "$out/evals/$1"
}

start_run
if [ ! -e "$sft/model/model.safetensors" ]; then
  say "fine-tuning, as in the quickstart"
  train wordnet/sft.yaml "$sft" --set model="$home/models/SmolLM2-135M-Instruct"
fi
say "1/4 fine-tuned model on held-out categories"
evaluate 1-sft "after fine-tuning" "$sft/model"
say "2/4 PPO with a critic"
train ppo/ppo.yaml "$out/rl" --set model="$sft/model" "$@"
say "3/4 trained model on held-out categories"
evaluate 2-ppo "after PPO" "$out/rl/model"
say "4/4 report"
[ -e "$out/rl/evals" ] || ln -s ../evals "$out/rl/evals"
"$plural" report "$out/rl"
count_minutes
python3 "$root/examples/summarise_run.py" "$out" "${RESULTS:-$root/examples/ppo/results}"
