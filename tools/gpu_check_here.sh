#!/usr/bin/env bash
# Unpacks build/gpu-bundle.tar.gz somewhere else and runs its gpu-check with plural's Python, as on a foreign machine.
# The result is build/gpu-check.json.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tar -xzf build/gpu-bundle.tar.gz -C "$work"
"${PLURAL_HOME:-$HOME/.cache/plural}/venv/bin/python" "$work/gpu-bundle/gpu-check" --out "$PWD/build/gpu-check.json"
