//! What DPVS's commands have and dpnat has not, with what serves instead.

/// A thing that is refused: the command, what of it, and what serves instead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Missing {
    pub(crate) command: &'static str,
    pub(crate) what: &'static str,
    pub(crate) instead: &'static str,
}

const fn missing(command: &'static str, what: &'static str, instead: &'static str) -> Missing {
    Missing { command, what, instead }
}

pub(super) const DIRECT: &str =
    "real servers are reached by -b (FullNAT) or -m (NAT); one of them must be given";
pub(super) const SYNPROXY: &str = "there is no SYN proxy yet; leave -j out";
pub(super) const PROTOCOLS: &str = "services are of TCP (-t) and UDP (-u)";
pub(super) const FWMARK: &str = "there are no marks; name the VIP with -t or -u";
pub(super) const ENGINE: &str = "persistence is by the client's address: -p, -M";
pub(super) const CHECK: &str =
    "checks are set in the file, `health` of a service or group; `dpctl health show` shows them";
pub(super) const QUIESCENT: &str =
    "conns of a server that is taken out go on; `dpctl conn del --server RS` ends them";
pub(super) const QUIC: &str = "connection ids are not looked at; -u with -s conhash hashes clients";
pub(super) const QID: &str = "conhash hashes the client's address: --hash-target sip";
pub(super) const LISTS: &str = "there are no deny and allow lists for services yet";
pub(super) const DAEMON: &str = "connections are not copied to a second node yet";
pub(super) const SET: &str =
    "idle times are set in the file, `conntrack.timeouts`, or by --conn-timeout";
pub(super) const SCHEDULERS: &str = "there are rr, wrr, wlc, lc, conhash, mh and sh";
pub(super) const PERSISTENT_CONN: &str =
    "nobody counts them; `-ln` shows active and inactive conns";
pub(super) const SEVERAL: &str =
    "it holds for several VIPs or shared servers; use `dpctl server`, `dpctl lip`";
pub(super) const PORTS: &str = "a service has one port; name it, as in 10.0.0.100:80";
pub(super) const RULE: &str = "the rule says more than -H can; use `dpctl snat`";
pub(super) const MODES: &str = "all real servers of a service are of one mode: -b or -m";

pub(super) const TUNNEL: &str = "there are no tunnel devices; real servers are reached by routes";
pub(super) const TC: &str = "there is no traffic control";
pub(super) const LLDP: &str = "there is no LLDP; lldpd on the kernel's interface speaks it";
pub(super) const IPSET: &str =
    "there are no sets of addresses; `snat` and `forwarding` rules take lists";
pub(super) const IFTRAF: &str =
    "flows are not ranked; `dpctl conn list` and `dpctl -s service` show them";
pub(super) const FLOW: &str = "addresses of the kernel's interfaces need no flow rule";
pub(super) const QINQ: &str = "VLANs are of 802.1q, one tag a frame";
pub(super) const LINK_SET: &str =
    "interfaces are set in the file, `interfaces`, and take effect at the next start";
pub(super) const EAL_MEM: &str = "memory is planned at start: `dpnatd --check` prints the plan";
pub(super) const MADDR: &str = "no group is joined; `dpctl address show` has the addresses";
pub(super) const IPV6: &str = "packets are counted by what became of them: `dpctl counters`";
pub(super) const LIFETIME: &str = "addresses last until they are removed; leave valid_lft out";
pub(super) const SCOPE: &str = "routes to ourselves are added with `local` or scope host";
pub(super) const BOND: &str = "bonds are set in the file; `dpctl link show` has their members";

/// All of it, as `dpctl compat` prints it.
pub(crate) const MISSING: &[Missing] = &[
    missing("ipvsadm", "-g, -i, and -a without -b, -m or -J", DIRECT),
    missing("ipvsadm", "-b and -m in one service", MODES),
    missing("ipvsadm", "-j enable", SYNPROXY),
    missing("ipvsadm", "--sctp-service, -q, -1", PROTOCOLS),
    missing("ipvsadm", "-f", FWMARK),
    missing("ipvsadm", "--pe", ENGINE),
    missing("ipvsadm", "--dest-check", CHECK),
    missing("ipvsadm", "--expire-quiescent", QUIESCENT),
    missing("ipvsadm", "--quic", QUIC),
    missing("ipvsadm", "--hash-target qid", QID),
    missing("ipvsadm", "-s fo", SCHEDULERS),
    missing("ipvsadm", "-U -V -B, -O -Y -W", LISTS),
    missing("ipvsadm", "--start-daemon, --stop-daemon, -l --daemon", DAEMON),
    missing("ipvsadm", "--set, -l --timeout", SET),
    missing("ipvsadm", "-l --persistent-conn", PERSISTENT_CONN),
    missing("ipvsadm", "a service without a port", PORTS),
    missing("ipvsadm", "-a, -d, -P, -Q for one of several VIPs of a service", SEVERAL),
    missing("ipvsadm", "-a, -e, -d, -E, -D -H for a rule with exceptions or several ranges", RULE),
    missing("dpip", "tunnel", TUNNEL),
    missing("dpip", "qsch, cls", TC),
    missing("dpip", "lldp", LLDP),
    missing("dpip", "ipset", IPSET),
    missing("dpip", "iftraf", IFTRAF),
    missing("dpip", "flow", FLOW),
    missing("dpip", "vlan … proto 802.1ad", QINQ),
    missing("dpip", "link set, link add, link del", LINK_SET),
    missing("dpip", "link show BOND status", BOND),
    missing("dpip", "eal-mem", EAL_MEM),
    missing("dpip", "maddr", MADDR),
    missing("dpip", "ipv6", IPV6),
    missing("dpip", "addr add … valid_lft, prefered_lft, scope", LIFETIME),
    missing("dpip", "route add … scope kni_host", SCOPE),
];
