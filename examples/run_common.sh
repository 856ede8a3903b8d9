# Sourced by the run scripts of the examples: where things are, and the minutes that a run takes, stops left out.
# SEED, PLURAL and PLURAL_HOME may be set. The script sets `out`, its run folder, and calls start_run.
root=$(cd "$(dirname "$0")/../.." && pwd)
home=${PLURAL_HOME:-$HOME/.cache/plural}
plural=${PLURAL:-$root/build/release/bin/plural}
seed=${SEED:-1}

say() { printf '\n== %s\n' "$*" >&2; }
start_run() {
  mkdir -p "$out/evals"
  start=$(date +%s)
  before=$(cat "$out/minutes" 2>/dev/null || echo 0)  # of earlier runs that were stopped
  trap count_minutes EXIT
}
count_minutes() { awk "BEGIN { printf \"%.1f\\n\", $before + ($(date +%s) - $start) / 60 }" > "$out/minutes"; }
