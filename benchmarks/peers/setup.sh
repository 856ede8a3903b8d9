#!/usr/bin/env bash
# Makes ${PLURAL_HOME}/venv-peers: plural's virtual environment plus the peers that the benchmarks compare with.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
home=${PLURAL_HOME:-$HOME/.cache/plural}
peers=$home/venv-peers
if [ ! -e "$peers/.complete" ] || [ "$here/requirements.txt" -nt "$peers/.complete" ]; then
  rm -rf "$peers"
  "$home/venv/bin/python" -m venv "$peers"
  ls -d "$home"/venv/lib/python3*/site-packages > "$(echo "$peers"/lib/python3*/site-packages)/plural.pth"
  "$peers/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
  touch "$peers/.complete"
fi
