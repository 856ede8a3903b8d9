#!/usr/bin/env bash
# The whole way on the 20 made-up cases of sample/, small enough for a CPU: convert, teach SmolLM2 the format (the published
# runs start from Qwen3-8B, which needs no such step), then a few RL steps with the settings of rlcr.yaml and rlvr.yaml, but
# for the sizes. It shows that everything runs, and nothing else. OUT, MODEL and PLURAL may be set in the environment;
# options (--set key=value) go to the RL steps.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
here=$root/examples/ddxplus
home=${PLURAL_HOME:-$HOME/.cache/plural}
plural=${PLURAL:-$root/build/release/bin/plural}
model=${MODEL:-$home/models/SmolLM2-135M-Instruct}
out=${OUT:-$root/runs/ddxplus-smoke}

mkdir -p "$out"
python3 "$here/convert.py" --patients "$here/sample/release_train_patients.csv" --out "$out/train.jsonl" \
  --evidences "$here/sample/release_evidences.json" --conditions "$here/sample/release_conditions.json"
common=(--set device=cpu --set data.train="$out/train.jsonl" --set checkpoint.every=0 --resume)
for arm in rlcr rlvr; do
  printf '\n== %s\n' "$arm" >&2
  "$plural" train "$here/$arm.yaml" "${common[@]}" --set task=sft --set model="$model" --set output="$out/$arm-sft" \
    --set steps=15 --set sft.rows_per_step=8 --set 'sft.confidences=[0.1, 0.2, 0.3]' \
    --set optimizer.learning_rate=2e-4 --set optimizer.warmup_steps=2
  "$plural" train "$here/$arm.yaml" "${common[@]}" --set model="$out/$arm-sft/model" --set output="$out/$arm" \
    --set steps=3 --set prompts_per_step=2 --set samples_per_prompt=4 --set sampling.max_new_tokens=160 \
    --set optimizer.warmup_steps=1 "$@"
done
