#!/usr/bin/env bash
# A client, the balancer and two nginx servers, each in a network namespace of its own; and the proof
# that what passes between them passes through dpnatd, whichever families they have, and that the servers
# see the client.
#
# usage: tests/demo.sh [1|2]     one-arm or two-arm (default); DPNAT_BIN: where the binaries are
#
# Every command is printed before it runs. Every proof is one line: check | command | expected |
# measured. The exit code is 0 only if all of them held. Nothing is left behind, whatever happens.
set -euo pipefail
cd "$(dirname "$0")/.."

arm=${1:-2}
bin=$(realpath "${DPNAT_BIN:-target/release}")
case $arm in
1)
  vip=198.18.0.100 client_address=192.0.2.100 vip_dev=lan0 gateway=198.18.0.254 scenario=conf/one-arm.yaml
  vip6=fd00:18::100 client6=2001:db8:51::100
  ;;
2)
  vip=203.0.113.10 client_address=203.0.113.100 vip_dev=wan0 gateway=203.0.113.1 scenario=conf/two-arm.yaml
  vip6=2001:db8:cb::10 client6=2001:db8:cb::100
  ;;
*) echo "usage: tests/demo.sh [1|2]" >&2 && exit 2 ;;
esac
namespaces=(client balancer rs1 rs2 switch)
source tests/demo-common.sh

client() { ip netns exec "$id-client" "$@"; }
balancer() { ip netns exec "$id-balancer" "$@"; }
rs1() { ip netns exec "$id-rs1" "$@"; }
rs2() { ip netns exec "$id-rs2" "$@"; }

wire() {
  make_namespaces
  plug balancer lan0
  plug rs1 eth0
  plug rs2 eth0
  ip -n "$id-rs1" addr add 198.18.0.121/24 dev eth0
  ip -n "$id-rs2" addr add 198.18.0.122/24 dev eth0
  with_ipv6 rs1 eth0 fd00:18::121/64
  with_ipv6 rs2 eth0 fd00:18::122/64
  if [ "$arm" = 2 ]; then
    link balancer wan0 client eth0
    ip -n "$id-client" addr add 203.0.113.100/24 dev eth0
    with_ipv6 client eth0 $client6/64
  else
    # The client's namespace is its own gateway: the client's address is not on the wire, and the real
    # servers have no route to it.
    plug client eth0
    ip -n "$id-client" addr add 198.18.0.254/24 dev eth0
    ip -n "$id-client" addr add 192.0.2.100/32 dev lo
    ip -n "$id-client" route add $vip dev eth0 src 192.0.2.100
    with_ipv6 client eth0 fd00:18::fe/64
    ip -n "$id-client" addr add $client6/128 dev lo
    ip -n "$id-client" -6 route add $vip6 dev eth0 src $client6
  fi
}

say "A client, the balancer, two real servers, and the switch between them"
echo "client … stands for ip netns exec $id-client …; balancer, rs1 and rs2 likewise"
wire
make_cgroup
head -c 100000000 /dev/urandom >"$work/100MB"
serve rs1 198.18.0.121
serve rs2 198.18.0.122

say "The balancer's kernel takes no part"
run balancer ip -brief link
check "no address" "" "balancer ip -4 -brief addr show scope global"
check "no forwarding" 0 "balancer sysctl -n net.ipv4.ip_forward"
check "no nftables rule" "" "balancer nft list ruleset"
# By ping: the kernel would hold a SYN, and send it once somebody answers its ARP.
check "so nothing passes yet" "no answer" "client ping -q -c 1 -W 1 $vip >/dev/null 2>&1 || echo no answer"

say "dpnatd, with interfaces only"
{
  echo "version: 1"
  sed -n '/^interfaces:/,/^$/p' "$scenario"
  echo "memory: 128MiB"
  echo "hugepages: off"
} >"$work/dpnat.yaml"
run cat "$work/dpnat.yaml"
start dpnatd balancer dpnatd --config "$work/dpnat.yaml"
wait_for "dpnatd is ready" dpctl version

say "Configured by commands"
if [ "$arm" = 2 ]; then run dpctl address add 203.0.113.2/24 dev wan0; fi
run dpctl address add $vip/32 dev $vip_dev
run dpctl address add 198.18.0.1/24 dev lan0
run dpctl route add default via $gateway dev $vip_dev
run dpctl service add shop --vip $vip:80 --protocol tcp --scheduler rr
run dpctl lip add shop 198.18.0.10-198.18.0.13 dev lan0
run dpctl server add shop 198.18.0.121:80
run dpctl server add shop 198.18.0.122:80
check "$scenario is the same" 0 "dpctl --json diff --prune -f $scenario | jq '.changes | length'"

say "Traffic"
twohundred() { for _ in {1..200}; do client curl -sS -m 5 "http://$vip/"; done; }
check "ping the VIP" "5 received" "client ping -n -q -c 5 -i 0.05 $vip | grep -o '[0-9]* received'"
check "200 curls in turn" "100 rs1 100 rs2" "twohundred | sort | uniq -c | awk '{ print \$1, \$2 }'"
sum=$(sha256sum <"$work/100MB")
check "100 MB down" "$sum" "client curl -sS -m 60 http://$vip/files/100MB | sha256sum"
check "100 MB up" 201 "client curl -sS -m 60 -T $work/100MB -o /dev/null -w '%{http_code}' http://$vip/uploads/"
check "  and whole" "$sum" "cat $work/rs?/uploads/100MB | sha256sum"

say "What the daemon says"
run dpctl service list
run dpctl conn list
run dpctl stats
run dpctl counters --nonzero
check "its count is ours" 202 "dpctl --json stats | jq .connections.opened"
check "nginx's count, too" 202 "cat $work/rs?-access.log | wc -l"
check "peers that nginx saw" "198.18.0.10 198.18.0.11 198.18.0.12 198.18.0.13" "cut -d' ' -f1 $work/rs?-access.log | sort -u"
check "every packet has its end" 0 "dpctl --json stats | jq .ledger.difference"

say "The same servers for clients of either family: IPv6, NAT64 and NAT46"
run dpctl address add $vip6/128 dev $vip_dev
run dpctl address add fd00:18::1/64 dev lan0
if [ "$arm" = 2 ]; then run dpctl address add 2001:db8:cb::2/64 dev wan0; fi
if [ "$arm" = 1 ]; then run dpctl route add ::/0 via fd00:18::fe dev lan0; fi
service() { # NAME VIP LIPS SERVER...
  local name=$1 server
  run dpctl service add "$name" --vip "$2" --protocol tcp --scheduler rr
  run dpctl lip add "$name" "$3" dev lan0
  shift 3
  for server; do run dpctl server add "$name" "$server"; done
}
lips=198.18.0.10-198.18.0.13 lips6=fd00:18::10-fd00:18::13
service six "[$vip6]:80" $lips6 "[fd00:18::121]:80" "[fd00:18::122]:80"
service nat64 "[$vip6]:81" $lips 198.18.0.121:8080 198.18.0.122:8080
service nat46 "$vip:81" $lips6 "[fd00:18::121]:80" "[fd00:18::122]:80"
turns() { for _ in {1..20}; do client curl -gsS -m 5 "http://$1/"; done | sort | uniq -c; }
check "ping the VIP" "5 received" "client ping -n -q -c 5 -i 0.05 $vip6 | grep -o '[0-9]* received'"
check "6 to 6" "10 rs1 10 rs2" "turns [$vip6]:80 | awk '{ print \$1, \$2 }'"
check "6 to 4" "10 rs1 10 rs2" "turns [$vip6]:81 | awk '{ print \$1, \$2 }'"
check "4 to 6" "10 rs1 10 rs2" "turns $vip:81 | awk '{ print \$1, \$2 }'"
check "100 MB through NAT64" "$sum" "client curl -gsS -m 60 http://[$vip6]:81/files/100MB | sha256sum"

say "And they see the client: dptoa"
run dptoa --pins "$work/bpf/dptoa" check --cgroup "$cgroup"
printf '$ %s &\n' "dptoa --pins $work/bpf/dptoa run --cgroup $cgroup --balancer $lips --balancer $lips6"
setpriv --pdeathsig KILL -- dptoa --pins "$work/bpf/dptoa" run --cgroup "$cgroup" \
  --balancer $lips --balancer $lips6 >"$work/dptoa.log" 2>&1 &
pid[dptoa]=$!
status() { dptoa --pins "$work/bpf/dptoa" "$@" status; }
wait_for "dptoa is attached" status
who() { client curl -gsS -m 5 --local-port "$1" "http://$2/who"; }
is="Your remote_addr and remote_port is"
check "4 to 4: nginx sees the client" "$is $client_address:40001" "who 40001 $vip:80"
check "the other one, too" "$is $client_address:40002" "who 40002 $vip:80"
check "6 to 6" "$is $client6:40003" "who 40003 [$vip6]:80"
check "6 to 4" "$is $client6:40004" "who 40004 [$vip6]:81"
check "4 to 6" "$is ::ffff:$client_address:40005" "who 40005 $vip:81"
check "learned from the balancer" 5 "status --json | jq .counters.learned"
run status
run kill -TERM "${pid[dptoa]}"
wait "${pid[dptoa]}"
unset "pid[dptoa]"
lip() { who "$1" "$2" | sed "s/^$is //; s/[0-3]:[0-9]*$/n/"; }
check "stopped, they see the LIP" 198.18.0.1n "lip 40011 $vip:80"
check "6 to 6" fd00:18::1n "lip 40012 [$vip6]:80"
check "6 to 4" ::ffff:198.18.0.1n "lip 40013 [$vip6]:81"
check "4 to 6" fd00:18::1n "lip 40014 $vip:81"
check "every packet has its end" 0 "dpctl --json stats | jq .ledger.difference"

say "It is the daemon: stopped, nothing passes"
run kill -STOP "${pid[dpnatd]}"
check "paused by SIGSTOP" "no answer" "client curl -sS -m 1 http://$vip/ >/dev/null 2>&1 || echo no answer"
run kill -CONT "${pid[dpnatd]}"
check "and going on" "rs" "client curl -sS -m 5 http://$vip/ | cut -c1-2"

say "The end"
run kill -TERM "${pid[dpnatd]}"
status=0
wait "${pid[dpnatd]}" || status=$?
unset "pid[dpnatd]"
check "exit code of dpnatd" 0 "echo $status"
check "no socket left" gone "test -e $DPNAT_SOCKET || echo gone"
check "no process left" "" "ip netns pids $id-balancer"

finish
