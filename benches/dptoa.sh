#!/usr/bin/env bash
# Connections a second that an unmodified nginx takes with and without dptoa, and the CPU time that the server takes
# for each, in alternating rounds: straight from the client, whom dptoa then believes, and through dpnatd, which puts
# option 254 on them.
#
# usage: benches/dptoa.sh [ROUNDS] [SECONDS]     as root; DPNAT_BIN: where the binaries are
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${1:-7} seconds=${2:-3}
bin=$(realpath "${DPNAT_BIN:-target/release}")
namespaces=(client balancer rs1 switch)
vip=203.0.113.10
source tests/demo-common.sh

client() { ip netns exec "$id-client" "$@"; }
rs1() { ip netns exec "$id-rs1" "$@"; }

make_namespaces
make_cgroup
plug balancer lan0
plug rs1 eth0
plug client eth1
link balancer wan0 client eth0
ip -n "$id-rs1" addr add 198.18.0.121/24 dev eth0
ip -n "$id-client" addr add 198.18.0.99/24 dev eth1
ip -n "$id-client" addr add 203.0.113.100/24 dev eth0
: >"$work/100MB"
serve rs1 198.18.0.121
cat >"$work/dpnat.yaml" <<CONF
version: 1
memory: 128MiB
hugepages: off
interfaces:
  lan0: { device: "net_af_packet0,iface=lan0,framecnt=4096" }
  wan0: { device: "net_af_packet1,iface=wan0,framecnt=4096" }
addresses:
  - { address: $vip/32, dev: wan0 }
  - { address: 203.0.113.2/24, dev: wan0 }
  - { address: 198.18.0.1/24, dev: lan0 }
local_address_pools:
  lan: { addresses: [ 198.18.0.10-198.18.0.13 ], dev: lan0 }
services:
  web:
    vips: [ "$vip:80" ]
    protocol: tcp
    servers: [ { address: "198.18.0.121:80" } ]
    local_pool: lan
CONF
start dpnatd balancer dpnatd --config "$work/dpnat.yaml"
wait_for "dpnatd is ready" dpctl version

agent() { dptoa --pins "$work/bpf/dptoa" "$@"; }
with() {
  setpriv --pdeathsig KILL -- dptoa --pins "$work/bpf/dptoa" run --cgroup "$cgroup" \
    --balancer 198.18.0.10-198.18.0.13 --balancer 198.18.0.99 >"$work/dptoa.log" 2>&1 &
  pid[dptoa]=$!
  wait_for "dptoa is attached" agent status
}
without() {
  kill -TERM "${pid[dptoa]}"
  wait "${pid[dptoa]}"
  unset "pid[dptoa]"
}
used() { awk '/^usage_usec/ { print $2 }' "$cgroup/cpu.stat"; }
measure() { # ADDRESS FILE: adds a line "<connections a second> <ns of CPU for each>"
  local before requests
  before=$(used)
  requests=$(client wrk -t1 -c32 -d"${seconds}s" -H 'Connection: close' "http://$1/" |
    awk '/ requests in / { print $1 }')
  echo "$((requests / seconds)) $((($(used) - before) * 1000 / requests))" >>"$2"
}
both() { # with|without
  measure 198.18.0.121 "$work/direct-$1"
  measure "$vip" "$work/balanced-$1"
}
summary() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)], "(" v[1] " to " v[NR] ")" }'; }

# What comes first in one round comes last in the next, so that a machine which gets slower slows both.
for ((round = 0; round < rounds; round++)); do
  if ((round % 2)); then with && both with && without && both without; fi
  if ((round % 2 == 0)); then both without && with && both with && without; fi
done
ratio() { # FILE FILE COLUMN
  paste "$1" "$2" | awk -v a="$3" '{ printf "%.2f\n", $a / $(a + 2) }' | summary
}
echo "medians of $rounds rounds of ${seconds} s (lowest to highest)"
for how in direct balanced; do
  for agent in without with; do
    echo "$how, $agent dptoa: $(cut -d' ' -f1 "$work/$how-$agent" | summary) connections/s," \
      "$(cut -d' ' -f2 "$work/$how-$agent" | summary) ns of CPU each"
  done
  echo "$how, with / without in a round: connections $(ratio "$work/$how-with" "$work/$how-without" 1)," \
    "CPU $(ratio "$work/$how-with" "$work/$how-without" 2)"
done
