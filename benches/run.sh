#!/usr/bin/env bash
# Runs the benchmarks with huge pages, and gives those back that it took.
#
# usage: benches/run.sh [--quick] [--only PREFIX]      as root; see docs/benchmarks.md
set -euo pipefail
cd "$(dirname "$0")/.."

# Of 2 MiB: the largest table has 600 MiB; DPDK wants 128 MiB for each of its two processes.
pages=512
setting=/proc/sys/vm/nr_hugepages
before=$(cat "$setting")
restore() {
  if [ "$(cat "$setting")" != "$before" ]; then echo "$before" >"$setting"; fi
}
if [ "$before" -lt "$pages" ] && [ -w "$setting" ]; then
  trap restore EXIT
  echo "$pages" >"$setting"
fi
if [ "$(cat "$setting")" -lt "$pages" ]; then
  echo "bench: only $(cat "$setting") of $pages huge pages; figures will be worse" >&2
fi

target=${CARGO_TARGET_DIR:-target}
cargo bench --locked --bench suite -- --out "$target/bench" "$@"
echo "bench: $target/bench has report.json, report.md and report.svg"
