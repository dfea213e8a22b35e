#!/usr/bin/env bash
# How long control takes with many services: to apply 10,000 of them with 10 real servers each in one transaction, to
# list them by `ipvsadm -ln`, and to add one real server among them by `ipvsadm -a`, from the command to its answer,
# which comes when all workers run the change. Each is timed as a whole process.
#
# usage: benches/services.sh [SERVICES] [SERVERS] [ROUNDS]     as root; DPNAT_BIN: where the binaries are
set -euo pipefail
cd "$(dirname "$0")/.."

services=${1:-10000} servers=${2:-10} rounds=${3:-9}
bin=$(realpath "${DPNAT_BIN:-target/release}")
work=$(mktemp -d)
export DPNAT_SOCKET=$work/dpnat.sock DPNAT_STATE=$work/state
trap 'kill "$daemon" 2>/dev/null; wait "$daemon" 2>/dev/null; rm -rf "$work"' EXIT

cat >"$work/dpnat.yaml" <<'CONF'
version: 1
memory: 128MiB
hugepages: off
conntrack: { max_connections: 65536 }
interfaces:
  lan0: { device: net_null0 }
addresses:
  - { address: 198.18.0.1/15, dev: lan0 }
local_address_pools:
  lan: { addresses: [ 198.18.0.10-198.18.0.41 ], dev: lan0 }
CONF

# Each service has a VIP and port of its own, and servers that others do not have.
python3 - "$services" "$servers" >"$work/many.yaml" <<'PY'
import sys
services, servers = int(sys.argv[1]), int(sys.argv[2])
print("services:")
for s in range(services):
    vip = f"10.{s >> 16 & 255}.{s >> 8 & 255}.{s & 255}:80"
    print(f"  tcp-{s}:\n    vips: [ \"{vip}\" ]\n    protocol: tcp\n    scheduler: rr\n    local_pool: lan\n    servers:")
    for r in range(servers):
        print(f"      - {{ address: \"198.19.{s >> 8 & 255}.{s & 255}:{8000 + r}\", weight: 100 }}")
PY

"$bin/dpnatd" --config "$work/dpnat.yaml" >"$work/log" 2>&1 &
daemon=$!
for _ in $(seq 200); do
  "$bin/dpctl" version >"$work/version" 2>&1 && break
  sleep 0.05
done
grep -q dpnatd "$work/version" || { cat "$work/log" >&2; exit 1; }

python3 - "$bin/dpctl" "$work/many.yaml" "$rounds" <<'PY'
import statistics, subprocess, sys, time
dpctl, many, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])

def timed(*words):
    begun = time.perf_counter()
    done = subprocess.run([dpctl, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    took = (time.perf_counter() - begun) * 1000
    if done.returncode:
        sys.exit(f"{words}: {done.stderr}")
    return took

def told(what, times):
    low, middle, high = min(times), statistics.median(times), max(times)
    print(f"{what:14} {middle:9.1f} ms ({low:.1f} to {high:.1f} in {len(times)} runs)")

empty = "services: {}\n"
applied = []
for number in range(rounds):
    if number:
        subprocess.run([dpctl, "apply", "--prune", "-f", "-"], input=empty, text=True, check=True, stdout=subprocess.DEVNULL)
    applied.append(timed("apply", "-f", many))
told("apply", applied)
told("ipvsadm -ln", [timed("ipvsadm", "-ln") for _ in range(rounds)])
one = lambda number: ("ipvsadm", "-a", "-t", "10.0.19.136:80", "-r", f"198.19.254.{number}:80", "-b")
told("ipvsadm -a", [timed(*one(number)) for number in range(1, rounds + 1)])
PY
