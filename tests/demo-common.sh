# What the demos share: namespaces that go at the end, commands that are printed before they run, and checks.
# Read by them, not run; `namespaces` is set before, and `bin` is where the binaries are.
if [ "$(id -u)" -ne 0 ]; then
  echo "demo: network namespaces need root: sudo make demo" >&2
  exit 1
fi
for program in dpnatd dpctl dptoa; do
  [ -x "$bin/$program" ] || { echo "demo: $bin/$program is not there; run make build" >&2 && exit 1; }
done

id=dpnat-demo-$$
work=$(mktemp -d "/tmp/$id.XXXX")
declare -A pid=()
failed=0 checks=0
cgroup=
export DPNAT_SOCKET=$work/dpnat.sock DPNAT_STATE=$work/state
PATH=$bin:$PATH

cleanup() {
  set +e
  for name in "${!pid[@]}"; do kill -KILL "${pid[$name]}" 2>/dev/null; done
  wait 2>/dev/null
  for name in "${namespaces[@]}"; do
    ip netns pids "$id-$name" 2>/dev/null | xargs -r kill -KILL
    ip netns del "$id-$name" 2>/dev/null
  done
  if [ -n "$cgroup" ]; then
    echo 1 >"$cgroup/cgroup.kill"
    umount "$work/bpf"
    for _ in {1..100}; do rmdir "$cgroup" 2>/dev/null && break || sleep 0.05; done
  fi
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*" && "$@"; }

# check NAME EXPECTED COMMAND: runs the command in a shell with the functions above. What it prints,
# with a line break read as a space, is what was measured.
check() {
  local measured mark=held
  measured=$(eval "$3" 2>&1 | tr '\n' ' ') || true
  measured=${measured% }
  checks=$((checks + 1))
  if [ "$measured" != "$2" ]; then
    mark=FAILED
    failed=$((failed + 1))
  fi
  printf '%-6s | %s | %s | %s | %s\n' "$mark" "$1" "$3" "${2:-(nothing)}" "${measured:-(nothing)}"
}

alive() {
  local one
  for one in "${pid[@]}"; do kill -0 "$one" 2>/dev/null || return 1; done
}

wait_for() { # WHAT COMMAND...
  local what=$1 n
  shift
  for ((n = 0; n < 500; n++)); do
    if "$@" >/dev/null 2>&1; then return 0; fi
    alive || break
    sleep 0.02
  done
  echo "demo: waited in vain until $what" >&2
  tail -n 20 "$work"/*.log >&2
  return 1
}

start() { # NAME NAMESPACE COMMAND...
  local name=$1 namespace=$2
  shift 2
  printf '$ %s %s &\n' "$namespace" "$*"
  (
    # Real servers are in a cgroup of their own, and join it first: in a namespace its files are hidden.
    if [[ -n $cgroup && $namespace == rs* ]]; then echo $BASHPID >"$cgroup/cgroup.procs"; fi
    exec ip netns exec "$id-$namespace" setpriv --pdeathsig KILL -- "$@"
  ) >"$work/$name.log" 2>&1 &
  pid[$name]=$!
}

# A veth leaves checksums and segmentation to hardware that it does not have: off, as on a wire.
link() { # NAMESPACE INTERFACE NAMESPACE INTERFACE
  ip link add "$2" netns "$id-$1" type veth peer name "$4" netns "$id-$3"
  for end in "$1 $2" "$3 $4"; do
    set -- $end
    ip netns exec "$id-$1" ethtool -K "$2" tx off >/dev/null
    ip -n "$id-$1" link set "$2" up
  done
}

# A cgroup for the real servers, and a place for what dptoa keeps in the kernel.
make_cgroup() {
  local root
  root=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
  if [ -z "$root" ]; then
    echo "demo: dptoa needs a cgroup2 file system: mount -t cgroup2 none /sys/fs/cgroup/unified" >&2
    exit 1
  fi
  mkdir "$root/$id" "$work/bpf"
  cgroup=$root/$id
  mount -t bpf bpf "$work/bpf"
}

make_namespaces() {
  for name in "${namespaces[@]}"; do
    ip netns add "$id-$name"
    ip netns exec "$id-$name" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 \
      net.ipv6.conf.default.disable_ipv6=1
    ip -n "$id-$name" link set lo up
  done
  ip -n "$id-switch" link add switch type bridge
  ip -n "$id-switch" link set switch up
}

# Gives a namespace IPv6, on an interface with its addresses.
with_ipv6() { # NAMESPACE INTERFACE ADDRESS...
  local namespace=$1 interface=$2 address
  shift 2
  ip netns exec "$id-$namespace" sysctl -qw net.ipv6.conf.all.disable_ipv6=0 \
    net.ipv6.conf.lo.disable_ipv6=0 "net.ipv6.conf.$interface.disable_ipv6=0"
  for address; do ip -n "$id-$namespace" addr add "$address" dev "$interface" nodad; done
}

plug() { # NAMESPACE INTERFACE: into the switch
  link "$1" "$2" switch "$1"
  ip -n "$id-switch" link set "$1" master switch
}

nginx_conf() { # NAME
  cat <<CONF
user root;
pid $work/$1.pid;
error_log $work/$1-error.log;
events { worker_connections 1024; }
http {
  log_format peer '\$remote_addr \$request_method \$uri \$status';
  access_log $work/$1-access.log peer;
  client_max_body_size 0;
  client_body_temp_path $work/$1/body;
  proxy_temp_path $work/$1/proxy;
  fastcgi_temp_path $work/$1/fastcgi;
  uwsgi_temp_path $work/$1/uwsgi;
  scgi_temp_path $work/$1/scgi;
  server {
    listen 80;
    listen [::]:80;
    listen [::]:8080 ipv6only=off;
    root $work/$1;
    location / { return 200 "$1\n"; }
    location = /who { return 200 "Your remote_addr and remote_port is \$remote_addr:\$remote_port\n"; }
    location = /peer { return 200 "\$remote_addr\n"; }
    location /files/ { }
    location /uploads/ { dav_methods PUT; create_full_put_path on; }
  }
}
CONF
}

serve() { # NAME ADDRESS
  mkdir -p "$work/$1/files" "$work/$1/uploads"
  ln "$work/100MB" "$work/$1/files/100MB"
  nginx_conf "$1" >"$work/$1.conf"
  start "nginx-$1" "$1" nginx -e "$work/$1-error.log" -c "$work/$1.conf" -g "daemon off;"
  wait_for "nginx in $1 answers" "$1" curl -sf -o /dev/null "http://$2/"
  : >"$work/$1-access.log"
}

# The last line of a demo: its exit code says whether all held.
finish() {
  say "$((checks - failed)) of $checks checks held"
  [ "$failed" -eq 0 ]
}
