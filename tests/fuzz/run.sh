#!/usr/bin/env bash
# Builds the fuzz targets and runs them, as many at once as there are CPUs.
#
# usage: [FUZZ_SECONDS=10] tests/fuzz/run.sh [TARGET]...      each target for so many seconds
#
# Inputs that reach something new are kept in target/fuzz/TARGET/found and tried first the next time.
# One that fails is kept in target/fuzz/TARGET/failed.
set -euo pipefail
cd "$(dirname "$0")/../.."

seconds=${FUZZ_SECONDS:-10}
build=${CARGO_TARGET_DIR:-target}
targets=("$@")
if [ "${#targets[@]}" -eq 0 ]; then targets=(parse path proto conf); fi

# Only our own crates are instrumented; cargo keeps them apart from those of the tests, and takes all
# others from there.
CXX=${CXX:-clang++} RUSTC_WORKSPACE_WRAPPER=$PWD/tests/fuzz/rustc \
  ${CARGO:-cargo} build --package fuzz --features engine --bins --locked

fuzz() {
  local target=$1 folder=$build/fuzz/$1
  mkdir -p "$folder/found" "$folder/failed"
  if "$build/debug/fuzz-$target" -max_total_time="$seconds" -timeout=20 -max_len=4096 \
    -dict="tests/fuzz/dictionaries/$target" -artifact_prefix="$folder/failed/" \
    "$folder/found" "tests/fuzz/corpus/$target" >"$folder/log" 2>&1; then
    echo "fuzz $target: $(grep '^Done' "$folder/log"), $(grep -o ' cov: [0-9]*' "$folder/log" | tail -1)"
  else
    grep -v -e NEW -e REDUCE -e pulse "$folder/log" | tail -60 >&2
    echo "fuzz $target: failed; again with $build/debug/fuzz-$target INPUT; all that it said: $folder/log" >&2
    return 1
  fi
}

export -f fuzz
export seconds build
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -c 'fuzz {}'
