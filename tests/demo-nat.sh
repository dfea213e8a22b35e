#!/usr/bin/env bash
# Inside hosts, the NAT gateway, the router above it and a host in the Internet, each in a network
# namespace of its own; and the proof that they reach each other by dpnatd.
#
# usage: tests/demo-nat.sh [1|2]     one-arm or two-arm (default); DPNAT_BIN: where the binaries are
#
# Every command is printed before it runs. Every proof is one line: check | command | expected |
# measured. The exit code is 0 only if all of them held. Nothing is left behind, whatever happens.
set -euo pipefail
cd "$(dirname "$0")/.."

arm=${1:-2}
bin=$(realpath "${DPNAT_BIN:-target/release}")
case $arm in
1) scenario=conf/nat-gateway-one-arm.yaml wan=192.168.1.200 inside=192.168.1.204
  hops="192.168.1.202 192.168.1.253 192.0.2.80" ;;
2) scenario=conf/nat-gateway.yaml wan=203.0.113.20 inside=10.0.0.5
  hops="10.0.0.1 203.0.113.1 192.0.2.80" ;;
*) echo "usage: tests/demo-nat.sh [1|2]" >&2 && exit 2 ;;
esac
namespaces=(inside other gateway router internet switch)
source tests/demo-common.sh

inside() { ip netns exec "$id-inside" "$@"; }
other() { ip netns exec "$id-other" "$@"; }
gateway() { ip netns exec "$id-gateway" "$@"; }
internet() { ip netns exec "$id-internet" "$@"; }

wire() {
  make_namespaces
  plug inside eth0
  plug other eth0
  link router far internet eth0
  ip -n "$id-router" addr add 192.0.2.1/24 dev far
  ip -n "$id-internet" addr add 192.0.2.80/24 dev eth0
  ip -n "$id-internet" addr add 100.64.0.9/32 dev lo
  ip -n "$id-internet" route add default via 192.0.2.1
  ip -n "$id-router" route add 100.64.0.0/10 via 192.0.2.80
  ip netns exec "$id-router" sysctl -qw net.ipv4.ip_forward=1 net.ipv4.icmp_ratelimit=0
  if [ "$arm" = 2 ]; then
    plug gateway lan0
    link gateway wan0 router eth0
    ip -n "$id-router" addr add 203.0.113.1/24 dev eth0
    ip -n "$id-router" route add 10.0.0.0/8 via 203.0.113.2
    ip -n "$id-inside" addr add 10.0.0.5/24 dev eth0
    ip -n "$id-other" addr add 10.0.0.254/24 dev eth0
    ip -n "$id-other" addr add 172.16.102.6/32 dev lo
    ip -n "$id-inside" route add default via 10.0.0.1
    ip -n "$id-other" route add default via 10.0.0.1 src 172.16.102.6
  else
    plug gateway eth0
    plug router eth0
    ip -n "$id-router" addr add 192.168.1.253/24 dev eth0
    ip -n "$id-inside" addr add 192.168.1.204/24 dev eth0
    ip -n "$id-other" addr add 192.168.1.201/24 dev eth0
    ip -n "$id-inside" route add default via 192.168.1.200
    ip -n "$id-other" route add default via 192.168.1.200
  fi
}

say "Inside hosts, the gateway, the router above it, and the Internet"
echo "inside … stands for ip netns exec $id-inside …; other, gateway and internet likewise"
wire
head -c 100000000 /dev/urandom >"$work/100MB"
serve internet 192.0.2.80
if [ "$arm" = 2 ]; then server=172.16.102.6; else server=192.168.1.201; fi
serve other "$server"

say "The gateway's kernel takes no part"
check "no address" "" "gateway ip -4 -brief addr show scope global"
check "no forwarding" 0 "gateway sysctl -n net.ipv4.ip_forward"
check "no nftables rule" "" "gateway nft list ruleset"
check "so nothing passes yet" "no answer" "inside ping -q -c 1 -W 1 192.0.2.80 >/dev/null 2>&1 || echo no answer"

say "dpnatd, with interfaces only"
{
  echo "version: 1"
  sed -n '/^interfaces:/,/^$/p' "$scenario"
  echo "memory: 128MiB"
  echo "hugepages: off"
} >"$work/dpnat.yaml"
run cat "$work/dpnat.yaml"
start dpnatd gateway dpnatd --config "$work/dpnat.yaml"
wait_for "dpnatd is ready" dpctl version

say "Configured by commands"
if [ "$arm" = 2 ]; then
  run dpctl address add 203.0.113.2/24 dev wan0
  run dpctl address add 203.0.113.20/32 dev wan0
  run dpctl address add 10.0.0.1/24 dev lan0
  run dpctl route add default via 203.0.113.1 dev wan0
  run dpctl route add 172.16.0.0/12 via 10.0.0.254 dev lan0
  run dpctl snat add office --source 10.0.0.0/8,172.16.0.0/12 --out-dev wan0 --wan 203.0.113.20 \
    --except-destination 100.64.0.0/10 --except-protocol vrrp
else
  run dpctl address add 192.168.1.202/24 dev eth0
  run dpctl address add 192.168.1.200/32 dev eth0
  run dpctl route add default via 192.168.1.253 dev eth0
  run dpctl snat add cloud-services --destination 100.64.0.0/10 --action accept
  run dpctl snat add internet --source 192.168.0.0/16 --wan 192.168.1.200 \
    --except-destination 192.168.1.0/24 --except-protocol vrrp
fi
run dpctl dnat add web --on $wan:8080 --protocol tcp --to $server:80
run dpctl snat show

say "From inside"
check "ping" "5 received" "inside ping -n -q -c 5 -i 0.05 192.0.2.80 | grep -o '[0-9]* received'"
check "curl, and whom the server sees" "$wan" "inside curl -sS -m 5 http://192.0.2.80/peer"
check "an exception is not translated" "$inside" "inside curl -sS -m 5 http://100.64.0.9/peer"
check "traceroute" "$hops" "inside traceroute -n -q 1 -w 2 192.0.2.80 | awk 'NR > 1 { print \$2 }'"
sum=$(sha256sum <"$work/100MB")
check "100 MB up" 201 "inside curl -sS -m 60 -T $work/100MB -o /dev/null -w '%{http_code}' http://192.0.2.80/uploads/"
check "  and whole" "$sum" "cat $work/internet/uploads/100MB | sha256sum"

say "A port that leads inside"
check "from outside" "other" "internet curl -sS -m 5 http://$wan:8080/"
check "the server sees the client" "192.0.2.80" "internet curl -sS -m 5 http://$wan:8080/peer"
check "from inside" "other" "inside curl -sS -m 5 http://$wan:8080/"
check "  by the outside address" "$wan" "inside curl -sS -m 5 http://$wan:8080/peer"
check "any other port is closed" "no answer" "internet curl -sS -m 2 http://$wan:8081/ >/dev/null 2>&1 || echo no answer"

say "What the daemon says"
run dpctl snat show
run dpctl snat mappings
run dpctl snat subscriber $inside
run dpctl snat pools
run dpctl dnat show
run dpctl explain --in "$([ "$arm" = 2 ] && echo lan0 || echo eth0)" --from $inside:40000 --to 192.0.2.80:443
run dpctl counters --nonzero
check "every packet has its end" 0 "dpctl --json stats | jq .ledger.difference"

say "The end"
run kill -TERM "${pid[dpnatd]}"
status=0
wait "${pid[dpnatd]}" || status=$?
unset "pid[dpnatd]"
check "exit code of dpnatd" 0 "echo $status"
check "no socket left" gone "test -e $DPNAT_SOCKET || echo gone"
check "no process left" "" "ip netns pids $id-gateway"

finish
