//! Every key of the schema with what a reader of the manual wants to know.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// When a change of a key takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// At once.
    Live,
    /// For conns that are opened from then on.
    NewConnections,
    /// When the daemon is started again.
    Restart,
}

/// A key of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its path; `*` stands for a name, `[]` for any item of a list.
    pub path: &'static str,
    /// What is taken if it is left out, as YAML; `None` if it must be there or nothing is taken.
    pub default: Option<&'static str>,
    /// The default of DPVS 1.10 for what is the same there; empty if there is no such thing.
    pub dpvs: &'static str,
    /// When a change takes effect.
    pub effect: Effect,
    /// One line on what it is.
    pub help: &'static str,
}

macro_rules! keys {
    ($($path:literal, $default:expr, $dpvs:literal, $effect:ident, $help:literal;)*) => {
        /// Every key that has a value, in the order of the manual.
        pub const KEYS: &[Key] = &[$(Key {
            path: $path,
            default: $default,
            dpvs: $dpvs,
            effect: Effect::$effect,
            help: $help,
        },)*];
    };
}

keys! {
    "version", Some("1"), "", Restart, "Version of the format.";
    "memory", Some("512MiB"), "all huge pages given", Restart,
        "Memory for DPDK itself; tables come on top.";
    "hugepages", Some("auto"), "required", Restart,
        "`auto` warns if there are none, `required` refuses to start, `off` uses none.";
    "eal_args", Some("[]"), "", Restart, "Arguments passed on to `rte_eal_init`.";
    "workers.cpus", Some("'1'"), "by `worker_defs`", Restart, "A set of CPUs, one worker each.";
    "workers.idle", Some("adaptive"), "poll", Restart,
        "With nothing to do, `poll` polls on and `adaptive` sleeps for microseconds.";
    "conntrack.max_connections", Some("1000000"), "2097151 for each NUMA node", Restart,
        "The most conns of each worker.";
    "conntrack.max_connections_ipv6", None, "2097151 for each NUMA node", Restart,
        "The most conns with an IPv6 side of each worker; as `max_connections` if not given.";
    "conntrack.timeouts.tcp_syn", Some("30s"), "3s, then 30s", Live,
        "Idle time of TCP before the handshake is complete.";
    "conntrack.timeouts.tcp_established", Some("15m"), "90s", Live, "Idle time of TCP after it.";
    "conntrack.timeouts.tcp_closing", Some("1m"), "7s", Live, "Idle time of TCP after a FIN.";
    "conntrack.timeouts.tcp_closed", Some("5s"), "3s", Live,
        "Idle time of TCP after both FINs or a reset.";
    "conntrack.timeouts.udp_oneway", Some("30s"), "300s", Live,
        "Idle time of UDP before there is a reply.";
    "conntrack.timeouts.udp", Some("5m"), "300s", Live, "Idle time of UDP after it.";
    "conntrack.timeouts.icmp", Some("1m"), "300s", Live, "Idle time of ICMP queries.";
    "conntrack.rs_time_wait", Some("1m"), "", Live,
        "How long a LIP port rests if the real server might take its next conn for the last one.";
    "log.level", Some("info"), "info", Live, "`error`, `warn`, `info`, `debug` or `trace`.";
    "log.format", Some("human"), "", Restart, "`human`, `json` or `journald`.";
    "shutdown.drain", Some("0s"), "", Live, "How long conns may go on after SIGTERM.";
    "nat_log.file", Some("/var/log/dpnat/nat.jsonl"), "", Live,
        "The file that events of NAT are logged to, one JSON object a line.";
    "nat_log.events", Some("off"), "", Live,
        "`mappings` as they come and go, `sessions` (conns) as they begin and end, or `off`.";
    "interfaces.*.pci", None, "all ports that EAL finds", Restart,
        "PCI address of the NIC. One of `pci` and `device` is needed.";
    "interfaces.*.device", None, "", Restart, "Any DPDK device string.";
    "interfaces.*.queues", Some("auto"), "16", Restart,
        "Receive queues: a number, or `auto` for one a worker as far as the NIC has them.";
    "interfaces.*.rx_descriptors", Some("1024"), "256", Restart,
        "Descriptors of each receive queue, 32 to 32768.";
    "interfaces.*.tx_descriptors", Some("1024"), "512", Restart,
        "Descriptors of each transmit queue, 32 to 32768.";
    "interfaces.*.mtu", Some("1500"), "1500", Restart, "Largest IP packet, 68 to 9600 bytes.";
    "interfaces.*.kni", None, "`kni_name`", Restart,
        "The kernel's interface to this one, by its name; or with the keys below.";
    "interfaces.*.kni.name", None, "`kni_name`", Restart, "Its name, at most 15 bytes.";
    "interfaces.*.kni.netns", None, "", Restart,
        "Its network namespace, a name of `ip netns` or a path; the daemon's if not given.";
    "interfaces.*.kni.persist", None, "", Restart,
        "Whether it stays, without carrier, when the daemon ends; `false` if not given.";
    "vlans.*.link", None, "`link` of `dpip vlan add`", Live, "The interface that carries its frames.";
    "vlans.*.id", None, "`id` of `dpip vlan add`", Live, "The VLAN's identifier, 1 to 4094.";
    "vlans.*.kni", None, "", Restart,
        "The kernel's interface to it, by its name; or with the keys of `interfaces.*.kni`.";
    "vlans.*.kni.name", None, "", Restart, "As of an interface.";
    "vlans.*.kni.netns", None, "", Restart, "As of an interface.";
    "vlans.*.kni.persist", None, "", Restart, "As of an interface.";
    "addresses[].address", None, "", Live, "An address of ours with its prefix length.";
    "addresses[].dev", None, "", Live, "The interface that answers for it.";
    "addresses[].active", Some("always"), "", Live, "When it is ours: `always`, or `with-kernel`: exactly while the kernel holds it on the KNI.";
    "routes[].to", None, "", Live, "The destination: a prefix or `default`.";
    "routes[].via", None, "", Live, "The router; without one, destinations are on the link.";
    "routes[].dev", None, "", Live, "The interface.";
    "routes[].metric", Some("0"), "0", Live, "Of several routes, the lowest is taken.";
    "routes[].src", None, "", Live, "The source of packets made here.";
    "routes[].mtu", None, "", Live, "Largest IP packet; the interface's if not given.";
    "routes[].type", Some("unicast"), "unicast", Live, "`local`: all addresses of the prefix are ours.";
    "neighbours[].address", None, "", Live, "IP address of a static neighbour.";
    "neighbours[].mac", None, "", Live, "Its Ethernet address.";
    "neighbours[].dev", None, "", Live, "The interface behind which it is.";
    "local_address_pools.*.addresses", None, "", NewConnections,
        "LIPs: addresses, ranges `a-b` and prefixes, at most 65536.";
    "local_address_pools.*.dev", None, "", NewConnections, "The interface that answers for them.";
    "server_groups.*.servers[].address", None, "", NewConnections,
        "Address and port of a real server.";
    "server_groups.*.servers[].weight", Some("1"), "1", NewConnections,
        "Its share of new conns, 0 to 65535; 0 is as `admin: drain`.";
    "server_groups.*.servers[].admin", Some("enabled"), "", NewConnections,
        "`enabled`; `drain` takes conns only of clients that persistence remembers; `disabled` none.";
    "server_groups.*.servers[].limits.upper", None, "0 (none)", NewConnections,
        "At this many conns it takes no new ones.";
    "server_groups.*.servers[].limits.lower", None, "0 (none)", NewConnections,
        "After that it takes new ones again below this many; `upper` if not given.";
    "server_groups.*.servers[].health", None, "", Live,
        "How this one is checked, in the place of what its service or group says; keys as below, one check or a list, `[]` for none.";
    "server_groups.*.health.type", None, "", Live,
        "What is done: `tcp` (connects), `http`, `https`, `udp`, `icmp`, `dns` or `script`. A list of checks must pass as a whole.";
    "server_groups.*.health.port", None, "", Live, "The port that is asked; the server's own if not given.";
    "server_groups.*.health.address", None, "", Live, "The address that is asked; the server's own if not given.";
    "server_groups.*.health.interval", Some("3s"), "60s (`delay_loop`)", Live, "From one check to the next.";
    "server_groups.*.health.timeout", Some("3s"), "5s (`connect_timeout`)", Live, "A check that takes longer has failed.";
    "server_groups.*.health.retries", Some("0"), "1 (`retry`)", Live,
        "How often a server that is up is asked again before the check counts as failed.";
    "server_groups.*.health.retry_delay", Some("1s"), "1s (`delay_before_retry`)", Live, "How long before it is asked again.";
    "server_groups.*.health.rise", Some("1"), "1", Live, "So many checks in a row must pass for a server to come up.";
    "server_groups.*.health.fall", Some("3"), "1", Live, "So many checks in a row must fail for a server to go down.";
    "server_groups.*.health.initial", Some("up"), "down by `alpha`", Live,
        "What a server is taken for before it was checked: `up` or `down`.";
    "server_groups.*.health.on_failure", Some("inhibit"), "remove", Live,
        "What becomes of a server that is down: `inhibit` (no new conns, those it has go on) or `remove` (it is taken out and its conns end).";
    "server_groups.*.health.flap_damping.hold", None, "", Live,
        "A server that goes down stays so for as long; twice as long each time that it goes down again within ten times as long.";
    "server_groups.*.health.flap_damping.max", Some("5m"), "", Live, "But no longer than this.";
    "server_groups.*.health.path", None, "", Live, "`http`, `https`: what is asked for; `/` if not given.";
    "server_groups.*.health.host", None, "`virtualhost`", Live,
        "`http`, `https`: the name in `Host` and in the TLS handshake; the server's address if not given.";
    "server_groups.*.health.status", Some("[]"), "200-299", Live, "`http`, `https`: statuses that are well, as `[ 200-299, 404 ]`; 200 to 299 if empty.";
    "server_groups.*.health.digest", None, "", Live, "`http`, `https`: the MD5 digest of the body, as `genhash` and `md5sum` print it.";
    "server_groups.*.health.body", None, "`regex`", Live, "`http`, `https`: a regular expression that the body must match.";
    "server_groups.*.health.body_not", None, "`regex_no_match`", Live, "`http`, `https`: a regular expression that it must not match.";
    "server_groups.*.health.send", None, "`payload`", Live, "`udp`: what is sent, in hexadecimal; nothing in a datagram if not given.";
    "server_groups.*.health.reply", None, "`require_reply`", Live,
        "`udp`: `any`, or how the answer must begin, in hexadecimal, `x` for any digit. If not given, silence is well and an ICMP error is not.";
    "server_groups.*.health.name", None, "`.`", Live, "`dns`: the name that is asked for; `.` if not given.";
    "server_groups.*.health.record", None, "SOA", Live, "`dns`: the type of record: `A`, `AAAA`, `NS`, `CNAME`, `SOA` (if not given), `MX` or `TXT`.";
    "server_groups.*.health.command", Some("[]"), "`misc_path`", Live,
        "`script`: a program by its full path and its arguments, as a list; no shell is between. Exit status 0 is well.";
    "server_groups.*.health.user", None, "root", Live, "`script`: the user that it runs as; `nobody` if not given.";
    "services.*.vips", None, "", NewConnections, "Addresses and ports that clients connect to.";
    "services.*.protocol", None, "", NewConnections, "`tcp` or `udp`.";
    "services.*.scheduler", Some("wlc"), "wlc", NewConnections,
        "`rr`, `wrr`, `wlc`, `lc`, `conhash`, `mh` (Maglev) or `sh`.";
    "services.*.hash_by", Some("source"), "source", NewConnections,
        "What `conhash`, `mh` and `sh` hash: `source` or `source-and-port`.";
    "services.*.mode", Some("fullnat"), "by `-b`, `-g`, `-i`, `-m`", NewConnections,
        "How packets are rewritten: `fullnat`, or `nat` (the destination only; DPVS has it as `-m`).";
    "services.*.client_address", None, "TOA", NewConnections,
        "How real servers learn the client's address: `toa` (TCP if not given), `proxy-v1` (TCP), `proxy-v2`, `option` (UDP, for servers with `dptoa run --udp`) or `none`.";
    "services.*.proxy_protocol.client_header", Some("replace"), "`replace`; `trust` by `-insecure`", NewConnections,
        "A header of the PROXY protocol that the client itself sends: `replace` it, or `trust` it and pass it on.";
    "services.*.proxy_protocol.datagrams", Some("each"), "first", NewConnections,
        "Which datagrams of a UDP conn have a header: `each` or the `first`.";
    "services.*.servers", Some("[]"), "", NewConnections,
        "Real servers: the name of a group, or a list of the same keys.";
    "services.*.servers[].address", None, "", NewConnections, "Address and port of a real server.";
    "services.*.servers[].weight", Some("1"), "1", NewConnections, "As in a group.";
    "services.*.servers[].admin", Some("enabled"), "", NewConnections, "As in a group.";
    "services.*.servers[].limits.upper", None, "0 (none)", NewConnections, "As in a group.";
    "services.*.servers[].limits.lower", None, "0 (none)", NewConnections, "As in a group.";
    "services.*.servers[].health", None, "", Live, "As in a group.";
    "services.*.local_pool", None, "", NewConnections,
        "LIPs: the name of a pool, or one of the same keys.";
    "services.*.local_pool.addresses", None, "", NewConnections, "As in a pool.";
    "services.*.local_pool.dev", None, "", NewConnections, "As in a pool.";
    "services.*.timeouts.tcp_syn", None, "", NewConnections, "Instead of the one in `conntrack`.";
    "services.*.timeouts.tcp_established", None, "by `--conn-timeout`", NewConnections,
        "Instead of the one in `conntrack`.";
    "services.*.timeouts.tcp_closing", None, "", NewConnections, "Instead of the one in `conntrack`.";
    "services.*.timeouts.tcp_closed", None, "", NewConnections, "Instead of the one in `conntrack`.";
    "services.*.timeouts.udp_oneway", None, "by `--conn-timeout`", NewConnections,
        "Instead of the one in `conntrack`.";
    "services.*.timeouts.udp", None, "by `--conn-timeout`", NewConnections,
        "Instead of the one in `conntrack`.";
    "services.*.persistence.timeout", None, "360s if persistent", NewConnections,
        "How long a client comes back to its real server after its last conn.";
    "services.*.persistence.prefix", Some("32"), "32", NewConnections,
        "Length of the source prefix whose IPv4 clients are taken for one.";
    "services.*.persistence.prefix_ipv6", Some("128"), "128", NewConnections,
        "The same of IPv6 clients.";
    "services.*.one_packet", Some("false"), "false", NewConnections,
        "Chooses a real server for each UDP datagram.";
    "services.*.limits.max_connections", None, "0 (none)", NewConnections,
        "The most conns at once, over all workers.";
    "services.*.on_not_syn", Some("reset"), "reset", Live,
        "What answers a TCP packet of no conn that is no SYN: `drop` or `reset`.";
    "services.*.on_no_server", Some("unreachable"), "drop", Live,
        "What a client gets without a real server: `drop`, `reset` or `unreachable`.";
    "services.*.on_limit", Some("drop"), "drop", Live,
        "What a client gets at a limit: `drop`, `reset` or `unreachable`.";
    "services.*.reset_on_expiry", Some("true"), "true", Live,
        "Resets both ends of an established TCP conn that expires.";
    "services.*.evict_idle", Some("false"), "", Live,
        "Lets long idle established conns go when the table is full.";
    "services.*.slow_start", Some("0s"), "", NewConnections,
        "How long a new real server takes to come to its full weight.";
    "services.*.health", None, "", Live,
        "How its real servers are checked, in the place of what their group says: keys of `server_groups.*.health`.";
    "services.*.check_source", None, "`bindto`", Live,
        "The address that checks come from; one of the interface's KNI if not given.";
    "services.*.quorum.weight", Some("1"), "1", Live,
        "What the real servers that are up must weigh together; with less the sorry server takes over.";
    "services.*.quorum.hysteresis", Some("0"), "0", Live,
        "The quorum is lost only with so much less, and there again only with so much more.";
    "services.*.sorry_server", None, "", Live,
        "Address and port of a server that serves while the quorum is lost.";
    "snat.*.action", Some("translate"), "", NewConnections,
        "`translate`, or `accept` to route unchanged, or `drop`.";
    "snat.*.match.source", Some("[]"), "by `src-range`", NewConnections, "Addresses, ranges and prefixes; any if empty.";
    "snat.*.match.destination", Some("[]"), "by `dst-range`", NewConnections, "Addresses, ranges and prefixes; any if empty.";
    "snat.*.match.protocol", Some("[]"), "by `proto`", NewConnections, "Names such as `tcp`, `icmp`, `vrrp`, or numbers; any if empty.";
    "snat.*.match.source_ports", Some("[]"), "", NewConnections, "Ports and ranges, of TCP and UDP; any if empty.";
    "snat.*.match.destination_ports", Some("[]"), "", NewConnections, "Ports and ranges, of TCP and UDP; any if empty.";
    "snat.*.match.in_dev", None, "by `iif`", NewConnections, "The interface that packets come in by.";
    "snat.*.match.out_dev", None, "by `oif`", NewConnections, "The interface that their route leaves by.";
    "snat.*.match.except.source", Some("[]"), "", NewConnections, "Sources that are routed unchanged, whatever rules follow.";
    "snat.*.match.except.destination", Some("[]"), "", NewConnections, "Destinations that are routed unchanged.";
    "snat.*.match.except.protocol", Some("[]"), "", NewConnections, "Protocols that are routed unchanged.";
    "snat.*.match.except.source_ports", Some("[]"), "", NewConnections, "Source ports that are routed unchanged.";
    "snat.*.match.except.destination_ports", Some("[]"), "", NewConnections, "Destination ports that are routed unchanged.";
    "snat.*.wan_addresses[]", None, "", NewConnections,
        "Outside addresses (WAN IPs): addresses, ranges and prefixes; or `interface` for the one of the interface that a packet leaves by (masquerade).";
    "snat.*.wan_addresses[].address", None, "", NewConnections, "The same, with keys of their own.";
    "snat.*.wan_addresses[].weight", Some("1"), "1", NewConnections,
        "The share of new mappings of each address, 0 to 65535; 0 means none.";
    "snat.*.wan_addresses[].admin", Some("enabled"), "", NewConnections,
        "`enabled`; `drain` and `disabled` take no new mappings.";
    "snat.*.mapping", Some("endpoint-independent"), "address-and-port-dependent", NewConnections,
        "Whether all conns from one inside address and port share an outside one: `endpoint-independent` or `address-and-port-dependent`.";
    "snat.*.filtering", Some("endpoint-independent"), "address-and-port-dependent", NewConnections,
        "Who may send to a mapping from outside: `endpoint-independent`, `address-dependent` or `address-and-port-dependent`; a mapping keeps the one that it was made with.";
    "snat.*.refresh", Some("both"), "both", NewConnections,
        "Which packets keep a conn and its mapping from ending: those of `both` sides, or `outbound` ones.";
    "snat.*.pooling", Some("paired"), "by the scheduler", NewConnections,
        "`paired`: an inside address keeps to one WAN IP; `arbitrary`: each mapping has any.";
    "snat.*.port_selection", Some("random"), "sequential", NewConnections,
        "In which order outside ports are taken: `random` or `sequential`.";
    "snat.*.ports", Some("1024-65535"), "1025-65535", NewConnections,
        "Outside ports and ICMP identifiers that are taken.";
    "snat.*.preserve_parity", Some("false"), "", NewConnections,
        "Keeps an even port even and an odd one odd.";
    "snat.*.port_rest", Some("2m"), "0s", NewConnections, "How long a freed outside port rests, of mappings made from then on.";
    "snat.*.limits.ports", Some("0"), "", Live,
        "The most outside ports of an inside address at once; 0 is no limit.";
    "snat.*.limits.sessions", Some("0"), "", Live,
        "The most conns of an inside address at once; 0 is no limit.";
    "snat.*.limits.new_sessions_per_second", Some("0"), "", Live,
        "The most new conns of an inside address in a second; 0 is no limit.";
    "snat.*.on_exhausted", Some("drop"), "drop", Live,
        "What an inside host gets if no outside port is left: `drop` or `icmp` (administratively prohibited).";
    "snat.*.mss_clamp", Some("off"), "", NewConnections,
        "Lowers the MSS of TCP handshakes: `off`, `path` (to the MTU of the way out) or bytes.";
    "snat.*.hairpin", Some("true"), "", NewConnections,
        "Lets inside hosts reach each other by their outside addresses.";
    "snat.*.timeouts.tcp_syn", Some("4m"), "3s, then 30s", NewConnections, "Idle time of TCP before the handshake is complete (RFC 5382).";
    "snat.*.timeouts.tcp_established", Some("124m"), "90s", NewConnections, "Idle time of TCP after it (RFC 5382).";
    "snat.*.timeouts.tcp_closing", Some("4m"), "7s", NewConnections, "Idle time of TCP after a FIN.";
    "snat.*.timeouts.tcp_closed", Some("4m"), "3s", NewConnections, "Idle time of TCP after both FINs or a reset (RFC 7857).";
    "snat.*.timeouts.udp_oneway", Some("5m"), "300s", NewConnections, "Idle time of UDP before there is a reply (RFC 4787).";
    "snat.*.timeouts.udp", Some("5m"), "300s", NewConnections, "Idle time of UDP after it (RFC 4787).";
    "snat.*.timeouts.icmp", Some("1m"), "300s", NewConnections, "Idle time of ICMP queries (RFC 5508).";
    "dnat.*.on", None, "", NewConnections,
        "An address of ours with a port, or a range of ports, that is connected to.";
    "dnat.*.protocol", None, "", NewConnections, "`tcp` or `udp`.";
    "dnat.*.to", None, "", NewConnections,
        "Where that leads: an address with as many ports as `on`, or a list of servers.";
    "dnat.*.to[]", None, "", NewConnections, "Address and port of one of several servers.";
    "dnat.*.to[].address", None, "", NewConnections, "The same, with keys of its own.";
    "dnat.*.to[].weight", Some("1"), "1", NewConnections, "As in a group.";
    "dnat.*.to[].admin", Some("enabled"), "", NewConnections, "As in a group.";
    "dnat.*.to[].limits.upper", None, "0 (none)", NewConnections, "As in a group.";
    "dnat.*.to[].limits.lower", None, "0 (none)", NewConnections, "As in a group.";
    "dnat.*.to[].health", None, "", Live, "As in a group.";
    "dnat.*.scheduler", Some("wlc"), "wlc", NewConnections,
        "How one of several servers is chosen; as of a service.";
    "dnat.*.source", Some("[]"), "", NewConnections,
        "Who may connect: addresses, ranges and prefixes; anybody if empty.";
    "dnat.*.in_dev", None, "", NewConnections, "The interface that clients come in by.";
    "dnat.*.source_address", Some("auto"), "", NewConnections,
        "Which source a server sees: the client's (`keep`), that of `on` (`translate`), or that of `on` only if the client is on the server's own link (`auto`).";
    "dnat.*.timeouts.tcp_syn", Some("4m"), "3s, then 30s", NewConnections, "Idle time of TCP before the handshake is complete (RFC 5382).";
    "dnat.*.timeouts.tcp_established", Some("124m"), "90s", NewConnections, "Idle time of TCP after it (RFC 5382).";
    "dnat.*.timeouts.tcp_closing", Some("4m"), "7s", NewConnections, "Idle time of TCP after a FIN.";
    "dnat.*.timeouts.tcp_closed", Some("4m"), "3s", NewConnections, "Idle time of TCP after both FINs or a reset (RFC 7857).";
    "dnat.*.timeouts.udp_oneway", Some("5m"), "300s", NewConnections, "Idle time of UDP before there is a reply (RFC 4787).";
    "dnat.*.timeouts.udp", Some("5m"), "300s", NewConnections, "Idle time of UDP after it (RFC 4787).";
    "dnat.*.timeouts.icmp", Some("1m"), "300s", NewConnections, "Idle time of ICMP queries (RFC 5508).";
    "forwarding.policy", Some("auto"), "", Live,
        "What becomes of packets to others that meet no rule: `accept`, `drop`, or `auto`: accepted if there is a rule of `snat` or `forwarding`.";
    "forwarding.reverse_path", Some("off"), "", Live,
        "Whether sources must have a route back (RFC 3704): `off`, `loose` (by any interface) or `strict` (by that which the packet came in by).";
    "forwarding.silent", Some("[]"), "", Live,
        "Interfaces by which no sender is told why its packet was dropped (RFC 5508 REQ-9), but that it was too big.";
    "forwarding.rules.*.match.source", Some("[]"), "", Live, "Addresses, ranges and prefixes; any if empty.";
    "forwarding.rules.*.match.destination", Some("[]"), "", Live, "Addresses, ranges and prefixes; any if empty.";
    "forwarding.rules.*.match.protocol", Some("[]"), "", Live, "Names such as `tcp`, `icmp`, `vrrp`, or numbers; any if empty.";
    "forwarding.rules.*.match.source_ports", Some("[]"), "", Live, "Ports and ranges, of TCP and UDP; any if empty.";
    "forwarding.rules.*.match.destination_ports", Some("[]"), "", Live, "Ports and ranges, of TCP and UDP; any if empty.";
    "forwarding.rules.*.match.in_dev", None, "", Live, "The interface that packets come in by.";
    "forwarding.rules.*.match.out_dev", None, "", Live, "The interface that their route leaves by.";
    "forwarding.rules.*.match.except.source", Some("[]"), "", Live, "Sources that are left to the policy, whatever rules follow.";
    "forwarding.rules.*.match.except.destination", Some("[]"), "", Live, "Destinations that are left to the policy.";
    "forwarding.rules.*.match.except.protocol", Some("[]"), "", Live, "Protocols that are left to the policy.";
    "forwarding.rules.*.match.except.source_ports", Some("[]"), "", Live, "Source ports that are left to the policy.";
    "forwarding.rules.*.match.except.destination_ports", Some("[]"), "", Live, "Destination ports that are left to the policy.";
    "forwarding.rules.*.action", None, "", Live,
        "`accept`, `drop`, or `reject` (ICMP administratively prohibited).";
}

/// The key of a path pattern, such as `services.*.scheduler`.
pub(crate) fn key(pattern: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == pattern)
}

/// When a change of what a pattern names takes effect: as late as the latest key below it.
pub(crate) fn effect(pattern: &str) -> Effect {
    let below = |key: &&Key| {
        key.path
            .strip_prefix(pattern)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let mut effects = KEYS.iter().filter(below).map(|key| key.effect);
    let first = effects.next().unwrap_or(Effect::Live);
    effects.fold(first, |latest, effect| match (latest, effect) {
        (Effect::Restart, _) | (_, Effect::Restart) => Effect::Restart,
        (Effect::NewConnections, _) | (_, Effect::NewConnections) => Effect::NewConnections,
        (Effect::Live, Effect::Live) => Effect::Live,
    })
}

/// The keys as Markdown tables, one for each section.
pub fn markdown() -> String {
    let mut text = String::new();
    let mut section = "";
    for key in KEYS {
        let own = key.path.split(['.', '[']).next().unwrap_or(key.path);
        let own = if own == key.path { "Daemon" } else { own };
        if own != section {
            section = own;
            let title = if own == "Daemon" { own.to_owned() } else { format!("`{own}`") };
            let _ = write!(
                text,
                "\n## {title}\n\n| key | default | DPVS's default | takes effect | meaning |\n\
                 |---|---|---|---|---|\n"
            );
        }
        let code = |value: &str| format!("`{value}`");
        let default =
            key.default.map(|default| code(default.trim_matches('\''))).unwrap_or_default();
        let effect = match key.effect {
            Effect::Live => "at once",
            Effect::NewConnections => "new conns",
            Effect::Restart => "restart",
        };
        let Key { path, dpvs, help, .. } = key;
        let _ = writeln!(text, "| `{path}` | {default} | {dpvs} | {effect} | {help} |");
    }
    text
}
