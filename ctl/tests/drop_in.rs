//! `ipvsadm` and `dpip` beside what DPVS 1.10.2 printed with the same services, servers and addresses.
//!
//! `dpvs/` has what a running DPVS printed, command by command. A daemon that answers with the same state is
//! asked by the same commands, and the lines are compared: their number, their order, and all of their columns.
//! Masked are only driver facts and counts that the two measure differently.

use api::Operation;
use serde_json::{Value, json};

use crate::daemon::{Daemon, answer};

/// VIP, protocol, servers, LIPs with their conns, and what passed.
fn service(vip: &str, protocol: &str, server: &str, passed: [u64; 6]) -> Value {
    let [inactive, connections, in_packets, out_packets, in_bytes, out_bytes] = passed;
    let traffic = json!({
        "active": 0, "inactive": inactive, "connections": connections, "in_packets": in_packets,
        "in_bytes": in_bytes, "out_packets": out_packets, "out_bytes": out_bytes, "refused": 0,
    });
    json!({
        "name": name(vip, protocol), "traffic": traffic,
        "config": {
            "vips": [vip], "protocol": protocol, "scheduler": "rr",
            "servers": [{ "address": server }],
            "local_pool": { "addresses": [lip(vip, protocol).0], "dev": "dpdk1" },
        },
        "servers": [{
            "address": server, "weight": 1, "effective_weight": 1, "admin": "enabled",
            "limits": {}, "leaving": false, "traffic": traffic,
        }],
        "lips": [{ "address": lip(vip, protocol).0, "dev": "dpdk1", "connections": 0 }],
    })
}

/// The name that `ipvsadm -A` gives it.
fn name(vip: &str, protocol: &str) -> String {
    let address = vip.trim_start_matches('[').replace("]:", "-").replace(':', "-");
    format!("{protocol}-{address}")
}

/// The LIP of a service, and the conns that use it.
fn lip(vip: &str, protocol: &str) -> (&'static str, u64) {
    match (vip, protocol) {
        ("10.0.0.100:80", _) => ("192.168.100.200", 1),
        ("10.0.0.100:53", _) => ("192.168.100.200", 3),
        ("[2001:db8:1::100]:53", _) => ("2001:db8:2::201", 1),
        ("[2001:db8:1::100]:80", _) => ("2001:db8:2::200", 1),
        ("[2001:db8:1::64]:53", _) => ("192.168.100.202", 1),
        _ => ("192.168.100.201", 1),
    }
}

fn services() -> Vec<Value> {
    vec![
        service("[2001:db8:1::100]:80", "tcp", "[2001:db8:2::2]:80", [1, 2, 14, 10, 1042, 930]),
        service("10.0.0.100:80", "tcp", "192.168.100.2:80", [1, 3, 21, 15, 1122, 1116]),
        service("[2001:db8:1::64]:80", "tcp", "192.168.100.2:80", [1, 2, 14, 10, 1040, 744]),
        service("10.0.0.100:53", "udp", "192.168.100.2:53", [3, 4, 14, 10, 462, 710]),
        service("[2001:db8:1::100]:53", "udp", "[2001:db8:2::2]:53", [1, 1, 3, 3, 159, 252]),
        service("[2001:db8:1::64]:53", "udp", "192.168.100.2:53", [1, 1, 3, 3, 159, 213]),
    ]
}

fn rule(protocol: &str, passed: [u64; 6]) -> Value {
    let [active, connections, in_packets, out_packets, in_bytes, out_bytes] = passed;
    json!({
        "name": protocol, "position": 1, "mappings": 1, "accepted": 0, "dropped": 0,
        "exhausted": 0, "limited": 0, "filtered": 0, "config": rule_config(protocol),
        "traffic": {
            "active": active, "inactive": 0, "connections": connections,
            "in_packets": in_packets, "in_bytes": in_bytes, "out_packets": out_packets,
            "out_bytes": out_bytes, "refused": 0,
        },
    })
}

fn rule_config(protocol: &str) -> Value {
    json!({
        "match": {
            "source": ["192.168.100.2-192.168.100.100"], "protocol": [protocol],
            "out_dev": "dpdk0",
        },
        "wan_addresses": [{ "address": "10.0.0.1", "weight": 100 }], "pooling": "arbitrary",
    })
}

fn lip_uses() -> Value {
    let of = |service: &Value| {
        let vip = service["config"]["vips"][0].as_str().unwrap();
        let protocol = service["config"]["protocol"].as_str().unwrap();
        let (address, connections) = lip(vip, protocol);
        json!({
            "service": service["name"], "vip": vip, "address": address, "dev": "dpdk1",
            "connections": connections,
        })
    };
    services().iter().map(of).collect()
}

fn addresses(dev: &str) -> Value {
    let all = [
        ("10.0.0.100/32", "dpdk0", "vip"),
        ("2001:db8:1::100/128", "dpdk0", "vip"),
        ("2001:db8:1::64/128", "dpdk0", "vip"),
        ("10.0.0.1/16", "dpdk0", "wan"),
        ("192.168.100.1/24", "dpdk1", "local"),
        ("fe80::94ca:c3ff:fe07:a8a/64", "dpdk0", "local"),
        ("fe80::20b3:2ff:fe66:d676/64", "dpdk1", "local"),
        ("192.168.100.200/32", "dpdk1", "lip"),
        ("192.168.100.201/32", "dpdk1", "lip"),
        ("192.168.100.202/32", "dpdk1", "lip"),
        ("2001:db8:2::200/128", "dpdk1", "lip"),
        ("2001:db8:2::201/128", "dpdk1", "lip"),
    ];
    let on = |(_, on, _): &&(&str, &str, &str)| dev.is_empty() || dev == format!("dev={on}");
    let info = |(address, dev, role): &(&str, &str, &str)| json!({ "address": address, "dev": dev, "active": "always", "role": role });
    all.iter().filter(on).map(info).collect()
}

fn routes() -> Value {
    let fixed = [
        ("10.0.0.0/16", "dpdk0"),
        ("192.168.100.0/24", "dpdk1"),
        ("2001:db8:2::/64", "dpdk1"),
        ("2001:db8:1::/64", "dpdk0"),
    ];
    let fixed = fixed.map(
        |(to, dev)| json!({ "to": to, "dev": dev, "metric": 0, "mtu": 1500, "origin": "static" }),
    );
    let connected = [
        ("10.0.0.0/16", "dpdk0", "10.0.0.1"),
        ("192.168.100.0/24", "dpdk1", "192.168.100.1"),
        ("fe80::/64", "dpdk0", "fe80::94ca:c3ff:fe07:a8a"),
        ("fe80::/64", "dpdk1", "fe80::20b3:2ff:fe66:d676"),
    ];
    let connected = connected.map(|(to, dev, src)| json!({ "to": to, "dev": dev, "metric": 0, "mtu": 1500, "src": src, "origin": "connected" }));
    fixed.into_iter().chain(connected).collect()
}

fn links() -> Value {
    let link = |name: &str, mac: &str, stats: [u64; 4]| {
        let [rx_packets, tx_packets, rx_bytes, tx_bytes] = stats;
        json!({
            "name": name, "device": "net_af_packet0,iface=wan", "driver": "net_af_packet",
            "mac": mac, "mtu": 1500, "up": true, "speed_mbps": 10_000, "duplex": "full",
            "rx_queues": 1, "tx_queues": 1, "rx_descriptors": 1024, "tx_descriptors": 1024,
            "steering": "one worker",
            "stats": {
                "rx_packets": rx_packets, "rx_bytes": rx_bytes, "rx_missed": 0, "rx_errors": 0,
                "rx_no_buffer": 0, "tx_packets": tx_packets, "tx_bytes": tx_bytes,
                "tx_errors": 0,
            },
        })
    };
    json!([
        link("dpdk0", "96:ca:c3:07:0a:8a", [100, 84, 7550, 7523]),
        link("dpdk1", "22:b3:02:66:d6:76", [92, 100, 7685, 7360]),
    ])
}

fn neighbours() -> Value {
    let neighbour = |(address, dev, mac, state): (&str, &str, &str, &str)| json!({ "address": address, "dev": dev, "mac": mac, "state": state });
    [
        ("10.0.0.2", "dpdk0", "76:bc:37:c6:12:8b", "reachable"),
        ("192.168.100.2", "dpdk1", "16:7e:9b:48:98:1c", "reachable"),
        ("2001:db8:2::2", "dpdk1", "16:7e:9b:48:98:1c", "reachable"),
        ("2001:db8:1::2", "dpdk0", "76:bc:37:c6:12:8b", "reachable"),
        ("fe80::147e:9bff:fe48:981c", "dpdk1", "16:7e:9b:48:98:1c", "probe"),
    ]
    .map(neighbour)
    .into_iter()
    .collect()
}

/// Client, VIP, LIP and server, as dpnat has them: of source NAT from the inside's view.
fn connections() -> Value {
    let conn = |(protocol, state, ends): (&str, &str, [&str; 4])| {
        let expires_in_ms = if protocol == "tcp" { 6_500 } else { 300_000 };
        let [client, vip, lip, server] = ends;
        json!({
            "protocol": protocol, "state": state, "client": client, "vip": vip, "lip": lip,
            "server": server, "worker": 0, "age_ms": 1, "idle_ms": 1,
            "expires_in_ms": expires_in_ms,
        })
    };
    let (udp, tcp) = (("udp", "bidirectional"), ("tcp", "both-fin"));
    let of = |(protocol, state): (&'static str, &'static str), ends| (protocol, state, ends);
    let all = [
        of(udp, ["10.0.0.2:56572", "10.0.0.100:53", "192.168.100.200:1028", "192.168.100.2:53"]),
        of(
            udp,
            [
                "[2001:db8:1::2]:58663",
                "[2001:db8:1::64]:53",
                "192.168.100.202:1025",
                "192.168.100.2:53",
            ],
        ),
        of(
            tcp,
            [
                "[2001:db8:1::2]:56076",
                "[2001:db8:1::100]:80",
                "[2001:db8:2::200]:1026",
                "[2001:db8:2::2]:80",
            ],
        ),
        of(udp, ["10.0.0.2:43559", "10.0.0.100:53", "192.168.100.200:1026", "192.168.100.2:53"]),
        of(
            tcp,
            [
                "[2001:db8:1::2]:46828",
                "[2001:db8:1::64]:80",
                "192.168.100.201:1026",
                "192.168.100.2:80",
            ],
        ),
        of(
            udp,
            [
                "[2001:db8:1::2]:33208",
                "[2001:db8:1::100]:53",
                "[2001:db8:2::201]:1025",
                "[2001:db8:2::2]:53",
            ],
        ),
        of(tcp, ["192.168.100.2:45302", "10.0.0.2:80", "10.0.0.1:1026", "10.0.0.2:80"]),
        of(tcp, ["192.168.100.2:40298", "10.0.0.2:80", "10.0.0.1:1025", "10.0.0.2:80"]),
        of(udp, ["10.0.0.2:51673", "10.0.0.100:53", "192.168.100.200:1027", "192.168.100.2:53"]),
        of(tcp, ["10.0.0.2:56342", "10.0.0.100:80", "192.168.100.200:1028", "192.168.100.2:80"]),
        of(
            ("icmp", "bidirectional"),
            ["192.168.100.2:26128", "10.0.0.2:0", "10.0.0.1:26128", "10.0.0.2:0"],
        ),
    ];
    json!({ "connections": all.map(conn) })
}

/// A daemon in the state that DPVS was in.
fn daemon() -> Daemon {
    Daemon::answering(|operation, query| {
        Ok(match operation {
            Operation::ServiceList if query.contains("vip=") => {
                let wanted = |service: &Value| {
                    let vip = service["config"]["vips"][0].as_str().unwrap();
                    let protocol = service["config"]["protocol"].as_str().unwrap();
                    query.replace("%3A", ":") == format!("vip={vip}&protocol={protocol}")
                };
                services().into_iter().filter(wanted).collect()
            }
            Operation::ServiceList => services().into(),
            Operation::SnatList => {
                json!(
                    [rule("tcp", [2, 2, 10, 14, 842, 888]), rule("icmp", [1, 1, 3, 3, 252, 252]),]
                )
            }
            Operation::SnatPools => json!([{
                "address": "10.0.0.1", "rules": ["tcp"], "weight": 100, "admin": "enabled",
                "leaving": false, "ports": [
                    { "protocol": "tcp", "capacity": 64_512, "taken": 2, "resting": 0 },
                ],
            }]),
            Operation::LipUseList => lip_uses(),
            Operation::AddressList => addresses(query),
            Operation::RouteList => routes(),
            Operation::LinkList => links(),
            Operation::NeighbourList => neighbours(),
            Operation::ConnectionList => connections(),
            Operation::CounterList => json!([
                { "name": "buffers.total", "value": 32_767, "help": "" },
                { "name": "buffers.in-use", "value": 0, "help": "" },
            ]),
            Operation::ConfigGet => {
                let services = services();
                let named = services.iter().map(|service| {
                    (service["name"].as_str().unwrap().to_owned(), service["config"].clone())
                });
                let named: serde_json::Map<String, Value> = named.collect();
                let snat = json!({ "tcp": rule_config("tcp"), "icmp": rule_config("icmp") });
                json!({ "version": 1, "services": named, "snat": snat })
            }
            other => answer(other),
        })
    })
}

/// Each command of a capture, with what it printed and its exit code.
fn captured(text: &str) -> Vec<(String, Vec<String>, u8)> {
    let mut all: Vec<(String, Vec<String>, u8)> = Vec::new();
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            all.push((command.to_owned(), Vec::new(), 0));
            continue;
        }
        let Some((_, lines, code)) = all.last_mut() else { continue };
        match line.strip_prefix("[rc=").and_then(|rest| rest.strip_suffix(']')) {
            Some(number) => *code = number.parse().unwrap(),
            None => lines.push(line.to_owned()),
        }
    }
    all
}

/// Runs each command of a capture and compares what both print, as `mask` leaves it.
fn compare(text: &str, mask: impl Fn(&str, Vec<String>) -> Vec<String>) {
    let daemon = daemon();
    let all = captured(text);
    assert!(!all.is_empty());
    for (command, lines, code) in all {
        let finished = daemon.dpctl(&command);
        let ours: Vec<String> =
            finished.out.lines().chain(finished.err.lines()).map(str::to_owned).collect();
        let (theirs, ours) = (mask(&command, lines), mask(&command, ours));
        assert_eq!(ours.join("\n"), theirs.join("\n"), "{command}");
        assert_eq!(finished.code, code, "{command}");
    }
}

fn as_it_is(_: &str, lines: Vec<String>) -> Vec<String> {
    lines
}

#[test]
fn services_are_listed_as_dpvs_lists_them() {
    compare(include_str!("dpvs/ipvsadm-ln.txt"), as_it_is);
}

#[test]
fn local_addresses_are_listed_as_dpvs_lists_them() {
    compare(include_str!("dpvs/ipvsadm-G.txt"), as_it_is);
}

#[test]
fn conns_are_listed_as_dpvs_lists_them() {
    compare(include_str!("dpvs/ipvsadm-lnc.txt"), as_it_is);
}

#[test]
fn what_passed_is_listed_as_dpvs_lists_it() {
    compare(include_str!("dpvs/ipvsadm-stats.txt"), as_it_is);
}

#[test]
fn services_are_saved_as_dpvs_saves_them_and_their_local_addresses_too() {
    compare(include_str!("dpvs/ipvsadm-misc.txt"), |command, mut lines| {
        if command.contains("-S") {
            // DPVS forgets the first, and has no names.
            lines.retain(|line| !line.starts_with("--add-laddr") && !line.starts_with("#dpnat"));
        }
        // What a port is called is the system's to say.
        lines.iter().map(|line| line.replace(":http ", ":80   ")).collect()
    });
}

#[test]
fn addresses_are_listed_as_dpvs_lists_them() {
    // What is free depends on how ports are shared among servers.
    compare(include_str!("dpvs/dpip-addr-show.txt"), |_, lines| {
        let free = |line: String| match line.split_once("sa_free ") {
            Some((before, after)) => {
                let rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
                format!("{before}sa_free N{rest}")
            }
            None => line,
        };
        lines.into_iter().map(free).collect()
    });
}

#[test]
fn routes_are_listed_as_dpvs_lists_them() {
    // DPVS's table of IPv6 routes is hashed by a secret of its own, so that its order means nothing.
    compare(include_str!("dpvs/dpip-route-show.txt"), |command, mut lines| {
        if command.contains("-6") {
            lines.sort();
        }
        lines
    });
}

#[test]
fn neighbours_are_listed_as_dpvs_lists_them() {
    compare(include_str!("dpvs/dpip-neigh-show.txt"), as_it_is);
}

/// Where the words of a line begin.
fn columns(line: &str) -> Vec<usize> {
    let mut before = ' ';
    let mut starts = Vec::new();
    for (place, c) in line.chars().enumerate() {
        if c != ' ' && before == ' ' {
            starts.push(place);
        }
        before = c;
    }
    starts
}

#[test]
fn interfaces_are_listed_as_dpvs_lists_them() {
    compare(include_str!("dpvs/dpip-link-show.txt"), |command, lines| {
        let verbose = command.contains("-v") || command.contains("-s link show cpu");
        let one = |line: String| {
            if let Some((before, _)) = line.split_once("-duplex") {
                return before.to_owned();
            }
            if line.starts_with("    addr ") {
                return line.chars().take("    addr 00:00:00:00:00:00".len()).collect();
            }
            let is_values = line.starts_with("    ")
                && line.split_whitespace().all(|word| {
                    word == "-"
                        || word == "vdev"
                        || word.starts_with(|c: char| c.is_ascii_digit())
                        || word.starts_with("net_")
                });
            if verbose && is_values {
                return format!("{:?} of {}", columns(&line), line.len());
            }
            line
        };
        // The multicast addresses that a driver filters are a driver fact.
        lines.into_iter().filter(|line| !line.starts_with("        link ")).map(one).collect()
    });
}
