#!/usr/bin/env bash
# Packs what a GPU machine without internet needs into build/gpu-bundle.tar.gz (under 60 MB): the command, the CUDA
# tests, the benchmarks, the CUDA module, the system libraries they use, small data, and gpu-check. The machine brings
# LibTorch 2.11 for CUDA 13.0 in its Python's torch wheel.
#   usage: tools/gpu_bundle.sh [BUILD [BUNDLE.tar.gz]]
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/release}
home=${PLURAL_HOME:-$HOME/.cache/plural}
model=$home/models/SmolLM2-135M-Instruct
limit_bytes=60000000
goal=${2:-build/gpu-bundle.tar.gz}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bundle=$work/gpu-bundle
mkdir -p "$bundle"/{bin,lib,data,source}

# The tests that ctest would run on a GPU, with their commands and environments.
ctest --test-dir "$build" --show-only=json-v1 > "$work/ctest.json"
python3 tools/gpu_bundle/list_tests.py "$work/ctest.json" > "$bundle/tests.json"
programs=("$build/bin/plural")
mapfile -t -O 1 programs < <(python3 -c 'import json, sys
for test in json.load(open(sys.argv[1]))["tests"]: print(test["program"])' "$bundle/tests.json" | sort -u | sed "s|^|$build/bin/|")
for bench in "$build"/bin/{model,generate,train_step,score}_bench; do
  [ -x "$bench" ] && programs+=("$bench")
done
module=$build/bin/libplural_cuda.so
for program in "${programs[@]}"; do strip -s -o "$bundle/bin/$(basename "$program")" "$program"; done
if [ -f "$module" ]; then
  strip --strip-unneeded -o "$bundle/lib/libplural_cuda.so" "$module"
else
  module=
  echo "gpu-bundle: $build has no libplural_cuda.so (nvcc was not found when it was configured):" \
       "the bundle can only report that everything is skipped" >&2
fi

python3 tools/gpu_bundle/copy_libraries.py "$bundle/lib" "${programs[@]}" ${module:+"$module"}

grep -v '^#' tools/gpu_bundle/files.txt | while read -r pattern; do
  cp --parents $pattern "$bundle/source/"  # unquoted: a glob
done
cp tools/gpu_bundle/gpu_check.py "$bundle/gpu-check"
chmod +x "$bundle/gpu-check"
cp tools/gpu_bundle/{tiny_model.json,rl.yaml,sft.yaml} "$bundle/data/"
cp "$model"/{config.json,tokenizer.json,tokenizer_config.json} "$bundle/data/"
head -40 "$home/data/wordnet/train.jsonl" > "$bundle/data/train.jsonl"
python3 benchmarks/score_data.py "$home/data/wordnet/train.jsonl" "$bundle/data/score_rows.jsonl"
cp benchmarks/prompts.jsonl "$bundle/data/"
mkdir "$bundle/peers"
cp benchmarks/peers/{transformers_generate,trl_grpo}.py "$bundle/peers/"
python3 - "$bundle/about.json" <<'PY'
import json, re, subprocess, sys
version = re.search(r'PLURAL_VERSION "(.*)"', open("include/plural/version.h").read())[1]
commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
changed = bool(subprocess.run(["git", "status", "--porcelain", "-uno"], capture_output=True, text=True).stdout)
json.dump({"version": version, "commit": commit, "uncommitted_changes": changed}, open(sys.argv[1], "w"))
PY

tar -C "$work" -c gpu-bundle | gzip -9 > "$goal.part"
mv "$goal.part" "$goal"
bytes=$(stat -c %s "$goal")
echo "$goal: $((bytes / 1000000)) MB" >&2
if [ "$bytes" -gt $limit_bytes ]; then
  echo "gpu-bundle: that is over $((limit_bytes / 1000000)) MB; the largest files:" >&2
  (cd "$bundle" && du -a . | sort -rn | head -12 >&2)
  exit 1
fi
