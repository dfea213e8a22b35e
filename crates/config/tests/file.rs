//! Files: what is right is read, what is wrong is told with its line and column.

use config::{Config, Servers, load, parse, to_json, to_yaml};

/// The file of the manual, with all sections.
const WHOLE: &str = r#"
version: 1
memory: 512MiB
hugepages: auto
eal_args: []
workers: { cpus: "1", idle: adaptive }
conntrack:
  max_connections: 1000000
  timeouts: { tcp_syn: 30s, tcp_established: 900s, tcp_closing: 60s, tcp_closed: 5s, udp_oneway: 30s, udp: 300s, icmp: 60s }
interfaces:
  wan0: { pci: "0000:81:00.0", queues: auto, rx_descriptors: 1024, mtu: 1500 }
  wan1: { pci: "0000:81:00.1", queues: 4 }
  lan0: { device: "net_af_packet0,iface=lan0" }
addresses:
  - { address: 203.0.113.10/32, dev: wan0, active: always }
  - { address: 203.0.113.2/24, dev: wan0 }
  - { address: 198.18.0.1/24, dev: lan0 }
routes:
  - { to: default, via: 203.0.113.1, dev: wan0 }
  - { to: 10.0.0.0/8, via: 198.18.0.254, dev: lan0, metric: 10, src: 198.18.0.1, mtu: 1400 }
neighbours:
  - { address: 203.0.113.1, mac: "02:00:00:00:00:01", dev: wan0 }
local_address_pools:
  lan: { addresses: [ 198.18.0.10-198.18.0.41 ], dev: lan0 }
server_groups:
  web:
    servers: [ { address: "198.18.0.121:80", weight: 100 }, { address: "198.18.0.122:80" } ]
    health: { type: tcp, port: 80, interval: 3s, timeout: 3s, rise: 1, fall: 3, on_failure: inhibit }
services:
  shop:
    vips: [ "203.0.113.10:80" ]
    protocol: tcp
    scheduler: rr
    mode: fullnat
    client_address: toa
    servers: web
    local_pool: lan
  dns:
    vips: [ 203.0.113.10:53 ]
    protocol: udp
    one_packet: true
    servers: [ { address: 198.18.0.123:53, limits: { upper: 100, lower: 90 } } ]
    local_pool: { addresses: [ 198.18.0.50, 198.18.0.64/28 ], dev: lan0 }
    timeouts: { udp: 5s }
"#;

fn errors(text: &str) -> Vec<String> {
    let errors = load(text, "dpnat.yaml").expect_err("an error");
    errors.to_string().lines().map(str::to_owned).collect()
}

#[test]
fn the_whole_schema_is_read_without_a_warning() {
    let (model, warnings) = load(WHOLE, "dpnat.yaml").unwrap();
    assert_eq!(warnings, []);
    assert_eq!(model.services["shop"].servers, Servers::Group("web".to_owned()));
    assert_eq!(model.services["shop"].resolved_servers(&model).len(), 2);
    let pool = model.services["dns"].resolved_pool(&model).unwrap();
    assert_eq!(pool.addresses.iter().map(|range| range.count()).sum::<u128>(), 17);
    let timeouts = model.services["dns"].resolved_timeouts(&model.conntrack.timeouts);
    assert_eq!((timeouts.udp.as_ms(), timeouts.udp_oneway.as_ms()), (5_000, 30_000));
}

#[test]
fn what_is_written_is_canonical_and_reads_back() {
    let (model, _) = load(WHOLE, "dpnat.yaml").unwrap();
    let yaml = to_yaml(&model).unwrap();
    for default in ["memory", "hugepages", "workers", "conntrack", "mtu: 1500", "mode", "active"] {
        assert!(!yaml.contains(default), "{default} is default:\n{yaml}");
    }
    assert!(yaml.find("  dns:") < yaml.find("  shop:"), "by name");
    assert_eq!(parse(&yaml).unwrap(), *model.config());
    assert_eq!(to_yaml(&parse(&yaml).unwrap()).unwrap(), yaml);
    assert_eq!(parse(&to_json(&model).unwrap()).unwrap(), *model.config(), "JSON is YAML");
}

#[test]
fn nothing_is_all_defaults() {
    for text in
        ["", "# only this\n", "---\n", "version: 1\n", "services:\nroutes:\ninterfaces: ~\n"]
    {
        assert_eq!(parse(text).unwrap(), Config::default(), "{text:?}");
    }
    assert_eq!(
        to_yaml(&Config::default()).unwrap(),
        "version: 1\ninterfaces: {}\nvlans: {}\naddresses: []\nroutes: []\nneighbours: []\n\
         local_address_pools: {}\nserver_groups: {}\nservices: {}\nsnat: {}\ndnat: {}\n"
    );
}

#[test]
fn unknown_keys_are_errors_with_their_place() {
    let text =
        "services:\n  shop:\n    vips: [ 203.0.113.10:80 ]\n    protocol: tcp\n    sheduler: rr\n";
    assert_eq!(
        errors(text),
        ["dpnat.yaml:5:5: services.shop.sheduler: unknown key; did you mean `scheduler`?"]
    );
    assert_eq!(
        errors("nat64: {}\n")[0].split("; ").next().unwrap(),
        "dpnat.yaml:1:1: nat64: unknown key"
    );
    assert_eq!(
        errors("server_groups:\n  web:\n    servers: []\n    heallth: { type: tcp }\n"),
        ["dpnat.yaml:4:5: server_groups.web.heallth: unknown key; did you mean `health`?"]
    );
    let inline =
        "services:\n  a:\n    vips: []\n    protocol: tcp\n    local_pool: { adresses: [] }\n";
    assert_eq!(
        errors(inline),
        ["dpnat.yaml:5:19: services.a.local_pool.adresses: unknown key; did you mean `addresses`?"]
    );
}

#[test]
fn wrong_types_are_errors_with_their_place() {
    for (text, expected) in [
        ("version: one", "1:10: version: `one` is not a number from 0 to 4294967295"),
        (
            "memory: 512",
            "1:9: memory: `512` is not a size; write a whole number and KiB, MiB, GiB or TiB, as in `512MiB`",
        ),
        ("workers: { idle: lazy }", "1:18: workers.idle: `lazy` is not `poll` or `adaptive`"),
        (
            "workers: { cpus: 1-x }",
            "1:18: workers.cpus: `1-x` is not a set of CPUs; write numbers and ranges as in `1-8,17`",
        ),
        ("workers: [ 1 ]", "1:10: workers: a sequence is not a map of keys"),
        ("services: [ a ]", "1:11: services: a sequence is not a map keyed by name"),
        ("routes: { a: b }", "1:9: routes: a map is not a list"),
        (
            "shutdown: { drain: 5 }",
            "1:20: shutdown.drain: `5` is not a duration; write a whole number and ms, s, m or h, as in `30s`",
        ),
        (
            "interfaces: { a: { pci: x, queues: 0 } }",
            "1:36: interfaces.a.queues: 0 is not `auto` or a number from 1 to 65535",
        ),
        (
            "server_groups:\n  web:\n    servers:\n    - address: 198.18.0.1:80\n      weight: 65536",
            "5:15: server_groups.web.servers[0].weight: 65536 is not a number from 0 to 65535",
        ),
        (
            "server_groups: { web: { servers: [ { weight: 1 } ] } }",
            "1:36: server_groups.web.servers[0]: `address` is missing",
        ),
        (
            "services: { a: { vips: [ x:80 ], protocol: tcp } }",
            "1:24: services.a.vips[0]: `x:80` is not an address and a port such as 203.0.113.10:80 or [2001:db8::1]:80",
        ),
        (
            "services: { a: { vips: [], protocol: sctp } }",
            "1:38: services.a.protocol: `sctp` is not `tcp` or `udp`",
        ),
        (
            "services: { a: { vips: [], protocol: udp, one_packet: yes } }",
            "1:55: services.a.one_packet: `yes` is not `true` or `false`",
        ),
        (
            "addresses: [ { address: 198.18.0.1/24, dev: lan0, active: sometimes } ]",
            "1:59: addresses[0].active: `sometimes` is not `always` or `with-kernel`",
        ),
    ] {
        assert_eq!(errors(text), [format!("dpnat.yaml:{expected}")], "{text}");
    }
}

#[test]
fn duplicates_are_errors_with_their_place() {
    for (text, expected) in [
        ("memory: 1GiB\nmemory: 2GiB", "2:1: memory: it stands here for the second time"),
        (
            "log: { level: warn, level: info }",
            "1:21: log.level: it stands here for the second time",
        ),
        (
            "services:\n  a:\n    protocol: tcp\n    vips: []\n    protocol: udp",
            "5:5: services.a.protocol: it stands here for the second time",
        ),
        (
            "interfaces:\n  a: { pci: '81:00.0' }\n  a: { pci: '81:00.1' }",
            "3:3: interfaces.a: it stands here for the second time",
        ),
        (
            "services:\n  a b: { vips: [], protocol: tcp }",
            "2:3: services.a b: the name `a b` has other characters than letters, digits, `-`, `_`, `.`",
        ),
    ] {
        assert_eq!(errors(text), [format!("dpnat.yaml:{expected}")], "{text}");
    }
}

#[test]
fn what_is_no_yaml_is_an_error_with_its_place() {
    for text in ["services: { a: [", "a: b: c", "\tmemory: 1GiB", "%", "memory: *x", "- a\n- b"] {
        let errors = errors(text);
        let place: Vec<_> = errors[0].splitn(4, ':').collect();
        assert_eq!(place[0], "dpnat.yaml");
        assert!(place[1].parse::<u32>().is_ok(), "{errors:?}");
    }
    assert!(load("version: 1\n---\nversion: 1\n", "f").is_err(), "two documents");
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned()
        + &(b'b'..=b'j')
            .map(|c| {
                let (new, old) = (char::from(c), char::from(c - 1));
                format!("{new}: &{new} [{}]\n", vec![format!("*{old}"); 9].join(","))
            })
            .collect::<String>();
    assert!(load(&bomb, "f").is_err());
}

#[test]
fn all_that_cannot_be_is_told_at_once_with_its_place() {
    let text = r#"version: 2
memory: 1MiB
conntrack:
  max_connections: 0
  timeouts:
    udp: 0s
interfaces:
  wan0:
    pci: 81:00
    mtu: 20
  lan0: { device: net_null0 }
  lan1: { device: "net_null0,copy=1" }
  lan2: {}
addresses:
  - { address: 203.0.113.0/24, dev: wan0 }
  - { address: 198.18.0.1/24, dev: lna0 }
  - { address: 198.18.0.1/24, dev: lan0 }
  - address: ff02::1/64
    dev: lan0
routes:
  - { to: default, via: 198.18.0.1, dev: lan0 }
  - { to: default, via: 224.0.0.1, dev: lan0 }
neighbours:
  - { address: 198.18.0.7, mac: "01:00:5e:00:00:01", dev: lan0 }
local_address_pools:
  empty: { addresses: [], dev: lan0 }
  lan: { addresses: [ 198.18.0.10-198.18.0.20 ], dev: lan0 }
server_groups:
  web:
    servers:
      - { address: 198.18.0.121:0 }
      - { address: 198.18.0.122:80, limits: { upper: 5, lower: 6 } }
      - { address: 198.18.0.122:80 }
services:
  a:
    vips: [ 203.0.113.10:80, 198.18.0.12:80 ]
    protocol: tcp
    one_packet: true
    servers: wbe
    local_pool: lna
  b:
    vips: [ 203.0.113.10:80 ]
    protocol: tcp
    local_pool: { addresses: [ 203.0.113.10 ], dev: lan0 }
    persistence: { timeout: 0s, prefix: 33 }
  c:
    vips: []
    protocol: udp
    on_limit: reset
    client_address: toa
"#;
    let expected = "\
1:1: version: 2 is not 1, the only version of the format
2:1: memory: 1MiB is less than the 32MiB that DPDK needs
4:3: conntrack.max_connections: 0 is not from 1 to 268435456
6:5: conntrack.timeouts.udp: 0s is no timeout: it must be 1ms or more
9:5: interfaces.wan0.pci: `81:00` is not a PCI address such as 0000:81:00.0
10:5: interfaces.wan0.mtu: 20 is not from 68 to 9600
12:11: interfaces.lan1.device: `net_null0` is the device of interface `lan0` already
13:3: interfaces.lan2: an interface needs `pci` or `device`
15:7: addresses[0].address: 203.0.113.0/24 is the network address of its subnet, not a host's
16:31: addresses[1].dev: there is no interface `lna0`; did you mean `lan0`?
17:7: addresses[2].address: 198.18.0.1 is there twice
18:5: addresses[3].address: ff02::1 is a multicast address, not a host's
21:20: routes[0].via: 198.18.0.1 is an address of ours
22:7: routes[1].to: there is a route to default with this metric already
22:20: routes[1].via: 224.0.0.1 is a multicast address, not a host's
24:28: neighbours[0].mac: 01:00:5e:00:00:01 is no station's Ethernet address
26:12: local_address_pools.empty.addresses: the pool is empty: it needs an address
31:11: server_groups.web.servers[0].address: 198.18.0.121:0: port 0 is not one that can be connected to
32:57: server_groups.web.servers[1].limits.lower: 6 is more than `upper`, 5
33:11: server_groups.web.servers[2].address: 198.18.0.122:80 is there twice
36:30: services.a.vips[1]: 198.18.0.12 is a LIP of local_address_pools.lan: it cannot be a VIP too
38:5: services.a.one_packet: one_packet is for UDP only
39:5: services.a.servers: there is no server group `wbe`; did you mean `web`?
40:5: services.a.local_pool: there is no local address pool `lna`; did you mean `lan`?
44:32: services.b.local_pool.addresses[0]: 203.0.113.10 is a VIP of this service: it cannot be a LIP
45:20: services.b.persistence.timeout: 0s is no timeout: it must be 1ms or more
45:33: services.b.persistence.prefix: 33 is not from 1 to 32
47:5: services.c.vips: 0 VIPs: a service has from 1 to 4096
49:5: services.c.on_limit: UDP has no reset; `unreachable` is like it
50:5: services.c.client_address: toa is for TCP only; of UDP, option shows the client";
    let expected: Vec<_> = expected.lines().map(|line| format!("dpnat.yaml:{line}")).collect();
    assert_eq!(errors(text), expected);
}

#[test]
fn headers_are_where_they_can_be() {
    let of = |fields: &str| format!("services:\n  a: {{ vips: [ 203.0.113.10:80 ], {fields} }}\n");
    for (fields, told) in [
        (
            "protocol: udp, client_address: proxy-v1",
            "client_address: proxy-v1 is for TCP only; of UDP, proxy-v2 shows the client",
        ),
        (
            "protocol: tcp, mode: nat, client_address: proxy-v2",
            "client_address: mode nat keeps the client's address: real servers see it as source",
        ),
        (
            "protocol: tcp, proxy_protocol: { client_header: trust }",
            "proxy_protocol.client_header: trust: there is no header, client_address is neither \
             proxy-v1 nor proxy-v2",
        ),
        (
            "protocol: tcp, client_address: proxy-v2, proxy_protocol: { datagrams: first }",
            "proxy_protocol.datagrams: first: TCP has no datagrams",
        ),
    ] {
        let errors = errors(&of(fields));
        let end = format!(": services.a.{told}");
        assert!(errors.iter().any(|error| error.ends_with(&end)), "{fields}: {errors:#?}");
    }
    for fields in [
        "protocol: tcp, client_address: proxy-v1, proxy_protocol: { client_header: trust }",
        "protocol: udp, client_address: proxy-v2, proxy_protocol: { datagrams: first }",
    ] {
        let error = load(&of(fields), "dpnat.yaml").map(drop).map_err(|error| error.to_string());
        assert!(error.as_ref().err().is_none_or(|it| !it.contains("proxy")), "{error:?}");
    }
}

#[test]
fn two_services_cannot_have_one_vip() {
    let service = "vips: [ 203.0.113.10:80 ], protocol: tcp";
    let text = format!("services:\n  a: {{ {service} }}\n  b: {{ {service} }}\n");
    assert_eq!(
        errors(&text),
        ["dpnat.yaml:3:16: services.b.vips[0]: tcp 203.0.113.10:80 belongs to service `a`"]
    );
    assert!(load(&text.replacen("tcp", "udp", 1), "f").is_ok(), "another protocol");
}

#[test]
fn a_hundred_errors_are_enough() {
    let service = |n| format!("  s{n}: {{ vips: [ 127.0.0.1:80 ], protocol: tcp }}\n");
    let errors = errors(&format!("services:\n{}", (0..250).map(service).collect::<String>()));
    assert_eq!(errors.len(), 101);
    assert!(errors[0].starts_with("dpnat.yaml:2:17: services.s0.vips[0]: 127.0.0.1 is a loopback"));
    assert_eq!(errors[100], "dpnat.yaml: 150 more errors are left out");
}

#[test]
fn what_may_not_be_meant_is_a_warning() {
    let text = "interfaces: { lan0: { device: net_null0 } }\n\
                routes: [ { to: default, via: 203.0.113.1, dev: lan0 } ]\n\
                services: { a: { vips: [ 203.0.113.10:80 ], protocol: tcp, hash_by: source-and-port } }";
    let (_, warnings) = load(text, "f").unwrap();
    let told: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "routes[0].via: 203.0.113.1 is in no subnet of the addresses of `lan0`",
            "services.a.vips[0]: no interface answers for 203.0.113.10: it is none of `addresses`",
            "services.a: it has no real server yet",
            "services.a: it has no LIP yet: real servers cannot be reached",
            "services.a.hash_by: scheduler wlc does not hash",
        ]
    );
}

/// What is asked on a port where a header is expected is not answered, for checks send none.
#[test]
fn checks_without_a_header_are_warned_of() {
    let told = |protocol: &str, of_service: &str, of_server: &str| {
        let text = format!(
            "services: {{ a: {{ vips: [ 203.0.113.10:53 ], protocol: {protocol}, client_address: proxy-v2, \
             servers: [ {{ address: 198.18.0.121:81{of_server} }} ]{of_service} }} }}"
        );
        let (_, warnings) = load(&text, "f").unwrap();
        let told = warnings.iter().map(ToString::to_string);
        told.filter(|warning| warning.contains("PROXY")).collect::<Vec<_>>()
    };
    assert_eq!(
        told("tcp", ", health: { type: http }", ""),
        [
            "services.a.client_address: check `http` of 198.18.0.121:81 sends no PROXY protocol header, and fails \
             if a server expects one there: give it a `port` without"
        ]
    );
    for (protocol, of_service, of_server, warns) in [
        ("tcp", "", ", health: { type: https }", true),
        ("tcp", ", health: [ { type: tcp }, { type: http } ]", "", true),
        ("udp", ", health: { type: dns, name: a.example }", "", true),
        ("udp", ", health: { type: udp }", "", false),
        ("tcp", ", health: { type: tcp }", "", false),
        ("tcp", ", health: { type: http, port: 80 }", "", false),
        ("tcp", ", health: { type: http }", ", health: []", false),
        ("udp", ", health: { type: http }", "", false),
    ] {
        let told = told(protocol, of_service, of_server);
        assert_eq!(told.len(), usize::from(warns), "{protocol}{of_service}{of_server}: {told:?}");
    }
}

/// RFC 8200 §5.
#[test]
fn a_narrow_link_carries_no_ipv6() {
    let with = |mtu: u16, more: &str| {
        format!(
            "version: 1\ninterfaces:\n  lan0: {{ device: net_null0, mtu: {mtu} }}\n\
             vlans:\n  v5: {{ link: lan0, id: 5 }}\n{more}\n"
        )
    };
    for (more, path) in [
        ("addresses: [ { address: 2001:db8::1/64, dev: lan0 } ]", "addresses[0].dev"),
        ("addresses: [ { address: 2001:db8::1/64, dev: v5 } ]", "addresses[0].dev"),
        (
            "local_address_pools: { p: { addresses: [ 2001:db8::9 ], dev: lan0 } }",
            "local_address_pools.p.dev",
        ),
    ] {
        assert!(load(&with(1280, more), "test.yaml").is_ok(), "{more}");
        let refused = load(&with(1279, more), "test.yaml").unwrap_err().to_string();
        let expected = format!("{path}: `");
        assert!(refused.contains(&expected), "{refused}");
        assert!(refused.contains("has an MTU of 1279, and IPv6 needs 1280"), "{refused}");
    }
    let ipv4 = "addresses: [ { address: 192.0.2.1/24, dev: lan0 } ]";
    assert!(load(&with(576, ipv4), "test.yaml").is_ok());
}
