#!/usr/bin/env bash
# SmolLM2-135M-Instruct learns to answer a small programming problem with several programs and their probabilities of
# being right. Goes on where it was stopped. Options (--set key=value) go to every command; SEED, OUT (the runs), RESULTS
# (the summary), MODEL and PLURAL may be set in the environment.
set -euo pipefail
. "$(dirname "$0")/../run_common.sh"
here=$root/examples/code
out=${OUT:-$root/runs/code-seed$seed}
base=${MODEL:-$home/models/SmolLM2-135M-Instruct}
overrides=("$@")

train() {  # train NAME MODEL: NAME.yaml, fresh or on from the newest checkpoint
  "$plural" train "$here/$1.yaml" --set output="$out/$1" --set seed="$seed" --set model="$2" \
    --set data.train="$here/data/$1.jsonl" ${overrides[@]+"${overrides[@]}"} --resume
}
evaluate() {  # evaluate NAME TITLE MODEL [options]: the held-out problems
  local name=$1 title=$2 model=$3; shift 3
  [ -e "$out/evals/$name/metrics.json" ] || "$plural" eval --config "$here/rl.yaml" ${overrides[@]+"${overrides[@]}"} \
    --model "$model" --dtype bfloat16 --data "$here/data/heldout.jsonl" --seed "$seed" --title "$title" \
    --out "$out/evals/$name" "$@"
}

start_run
say "1/6 base model on held-out problems"
evaluate 1-base "base model" "$base" --num-answers 3
say "2/6 fine-tuning on reference programs (teaches the format)"
train sft "$base"
say "3/6 fine-tuned model on held-out problems"
evaluate 2-sft "after fine-tuning" "$out/sft/model" --num-answers 3,1
evaluate 3-sft-independent "fine-tuned, 3 single programs" "$out/sft/model" --mode independent --num-answers 3
say "4/6 multi-answer RL, programs run against their tests"
train rl "$out/sft/model"
say "5/6 trained model on held-out problems"
evaluate 4-rl "after RL" "$out/rl/model" --num-answers 3,1,2
say "6/6 report"
[ -e "$out/rl/evals" ] || ln -s ../evals "$out/rl/evals"
"$plural" report "$out/rl"
count_minutes
python3 "$root/examples/summarise_run.py" "$out" "${RESULTS:-$here/results}"
