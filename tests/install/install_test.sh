#!/usr/bin/env bash
# usage: install_test.sh CMAKE BUILD SOURCE COMPILER TOKENIZER_DIR
set -euo pipefail
cmake=$1 build=$2 source=$3 compiler=$4 tokenizer=$5
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix

"$cmake" --install "$build" --prefix "$prefix" > "$work/install.log"

# The consumer sees a copy outside of plural's tree, so nothing but the installed files can be found.
cp -r "$source/examples/custom_reward" "$work/consumer"
"$cmake" -S "$work/consumer" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
         -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_PREFIX_PATH="$prefix"
"$cmake" --build "$work/build"
if grep -rq "$source/" "$prefix/lib/cmake" "$prefix/include"; then
  echo "the installed package points into the source tree:"
  grep -r "$source/" "$prefix/lib/cmake" "$prefix/include"
  exit 1
fi
"$work/build/custom_reward" "$tokenizer" | tee "$work/output"
[ "$(grep -c '^step ' "$work/output")" -eq 3 ]

if [ -x "$prefix/bin/plural" ]; then
  "$prefix/bin/plural" --help > "$work/help"
  grep -q train "$work/help"

  # A plugin built against the package, loaded by the installed command: the README's example.
  cp -r "$source/examples/plugin_reward" "$work/plugin"
  "$cmake" -S "$work/plugin" -B "$work/plugin/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
           -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_PREFIX_PATH="$prefix"
  "$cmake" --build "$work/plugin/build"
  cd "$work/plugin"
  export PLURAL_HOME=$work
  echo '{"completion": "<answer1>cat</answer1><confidence1>1</confidence1><answer2>a big dog</answer2><confidence2>0</confidence2>", "gold": ["cat"]}' |
    "$prefix/bin/plural" score --config brevity.yaml | tee "$work/scores"
  grep -q '"rewards":{"coverage":0.5,"brevity":0.75},"total":0.875' "$work/scores"
else
  echo "bin/plural was not installed"
  exit 1
fi
