#!/usr/bin/env bash
# Format, header and document checks on everything; clang-tidy on the sources that differ from BASE.
#   usage: tools/lint.sh [BUILD]      BASE=main (a commit or branch; BASE=all checks every source)
set -uo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/release}
base=${BASE:-main}
failed=0

step() { echo "lint: $1" >&2; shift; "$@" || failed=1; }

check_format() { git ls-files '*.h' '*.cpp' '*.cu' '*.cuh' | xargs -r clang-format --dry-run --Werror; }

run_tidy() {
  local files=()
  if [ "$base" = all ]; then
    mapfile -t files < <(git ls-files 'app/*.cpp' 'lib/*.cpp' 'rewards/*.cpp')
  else
    mapfile -t files < <({ git diff --name-only --diff-filter=d "$base" -- '*.cpp'
                           git ls-files --others --exclude-standard -- '*.cpp'; } |
                         grep -E '^(app|lib|rewards)/' | sort -u)
  fi
  [ ${#files[@]} -eq 0 ] && return
  # clang cannot read g++'s precompiled headers: the same commands without them.
  local commands
  commands=$(mktemp -d)
  sed -E 's/-Winvalid-pch//g; s/-include [^ ]*cmake_pch\.hxx//g' "$build/compile_commands.json" > "$commands/compile_commands.json"
  printf '%s\n' "${files[@]}" | xargs -P 2 -n 1 clang-tidy --quiet -p "$commands"
  local status=$?
  rm -rf "$commands"
  return $status
}

step "format" check_format
step "public headers" python3 tools/check_headers.py --build "$build"
step "documents" python3 tools/check_docs.py
step "clang-tidy" run_tidy
[ $failed -eq 0 ] && echo "lint: all good" >&2
exit $failed
