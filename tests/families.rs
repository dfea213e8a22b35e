//! Proves, two-arm and one-arm, for clients of IPv6 with servers of IPv6 and of IPv4, and for clients of IPv4 with
//! servers of IPv6, that
//! - requests are split in turn over both servers, which see a LIP of their own family;
//! - 100 MB downloaded and 100 MB uploaded arrive with the same SHA-256, and so does what iperf3 sends;
//! - datagrams go both ways, and the VIP answers ping;
//! - no packet on either side has a wrong checksum;
//! - a server's port unreachable reaches the client, and traceroute shows the balancer's own address;
//! - a smaller MTU on the client's side is found, be it ours or a router's, and one on the servers' side, by tracepath, too;
//! - a datagram that may be fragmented reaches a server of IPv6 although its headers make it larger than the MTU;
//! - servers of both families serve one VIP, and what cannot be reached is refused by name.

use std::fs;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{
    Arm, Capture, Daemon, Lab, Load, Namespace, Nginx, curl, exchange, iperf3_client,
    iperf3_server, ping, run, sha256, traceroute, udp,
};

/// The family of the clients and that of the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    pub client6: bool,
    pub server6: bool,
}

pub const FOUR: Kind = Kind { client6: false, server6: false };
pub const SIX: Kind = Kind { client6: true, server6: true };
pub const SIX_TO_FOUR: Kind = Kind { client6: true, server6: false };
pub const FOUR_TO_SIX: Kind = Kind { client6: false, server6: true };
const KINDS: [Kind; 3] = [SIX, SIX_TO_FOUR, FOUR_TO_SIX];

/// The client's address, its gateway's on the wire, and the VIP, by arm.
const CLIENT: [&str; 2] = ["2001:db8:cb::100", "2001:db8:51::100"];
const VIP: [&str; 2] = ["2001:db8:cb::10", "fd00:18::100"];
const OWN: [&str; 2] = ["2001:db8:cb::2", "fd00:18::1"];

/// A lab in which every wire has IPv6, too.
pub fn lab(arm: Arm, load: Load) -> Option<Lab> {
    let lab = Lab::new(arm, load)?;
    for namespace in [&lab.client, &lab.servers[0], &lab.servers[1]] {
        for key in ["all", "default", "eth0", "lo"] {
            namespace.sysctl(&format!("net.ipv6.conf.{key}.disable_ipv6"), "0");
        }
    }
    let add = |namespace: &Namespace, address: &str, dev: &str| {
        namespace.ip(&["addr", "add", address, "dev", dev, "nodad"]);
    };
    for (index, server) in lab.servers.iter().enumerate() {
        add(server, &format!("fd00:18::{}/64", 121 + index), "eth0");
    }
    match arm {
        Arm::Two => add(&lab.client, "2001:db8:cb::100/64", "eth0"),
        Arm::One => {
            add(&lab.client, "fd00:18::fe/64", "eth0");
            add(&lab.client, "2001:db8:51::100/128", "lo");
            let source = ["src", CLIENT[1]];
            let route = ["-6", "route", "add", "fd00:18::100", "dev", "eth0"];
            lab.client.ip(&[&route[..], &source[..]].concat());
        }
    }
    Some(lab)
}

impl Kind {
    pub fn vip(self, lab: &Lab) -> &'static str {
        if self.client6 { VIP[lab.arm as usize] } else { lab.vip() }
    }

    /// The VIP as it stands before a port.
    pub fn host(self, lab: &Lab) -> String {
        let vip = self.vip(lab);
        if self.client6 { format!("[{vip}]") } else { vip.to_owned() }
    }

    fn url(self, lab: &Lab, path: &str) -> String {
        format!("http://{}{path}", self.host(lab))
    }

    pub fn client(self, lab: &Lab) -> &'static str {
        if self.client6 { CLIENT[lab.arm as usize] } else { lab.client_address() }
    }

    fn own(self, lab: &Lab) -> &'static str {
        match (self.client6, lab.arm) {
            (true, arm) => OWN[arm as usize],
            (false, Arm::Two) => "203.0.113.2",
            (false, Arm::One) => "198.18.0.1",
        }
    }

    pub fn server(self, index: usize, l4_port: u16) -> String {
        match self.server6 {
            true => format!("[fd00:18::{}]:{l4_port}", 121 + index),
            false => format!("198.18.0.{}:{l4_port}", 121 + index),
        }
    }

    /// Both families, as words in a name.
    pub fn name(self) -> &'static str {
        match (self.client6, self.server6) {
            (false, false) => "four",
            (true, true) => "six",
            (true, false) => "six-to-four",
            (false, true) => "four-to-six",
        }
    }

    fn lips(self) -> &'static str {
        if self.server6 { "fd00:18::1" } else { "198.18.0.1" }
    }

    /// A service with both servers.
    pub fn service(self, lab: &Lab, protocol: &str, l4_port: u16) -> Value {
        json!({
            "vips": [format!("{}:{l4_port}", self.host(lab))],
            "protocol": protocol,
            "scheduler": "rr",
            "servers": [
                { "address": self.server(0, l4_port) }, { "address": self.server(1, l4_port) },
            ],
            "local_pool": if self.server6 { "lan6" } else { "lan" },
        })
    }

    pub fn config(self, lab: &Lab) -> Value {
        let (wan, lan) = lab.interfaces();
        let mut config = lab.config();
        let addresses = config["addresses"].as_array_mut().unwrap();
        addresses.push(json!({ "address": format!("{}/128", VIP[lab.arm as usize]), "dev": wan }));
        addresses.push(json!({ "address": "fd00:18::1/64", "dev": lan }));
        match lab.arm {
            Arm::Two => {
                addresses.push(json!({ "address": "2001:db8:cb::2/64", "dev": wan }));
            }
            Arm::One => {
                let routes = config["routes"].as_array_mut().unwrap();
                routes.push(json!({ "to": "::/0", "via": "fd00:18::fe", "dev": lan }));
            }
        }
        config["local_address_pools"]["lan6"] =
            json!({ "addresses": ["fd00:18::10-fd00:18::13"], "dev": lan });
        config["services"] = json!({
            "web": self.service(lab, "tcp", 80),
            "dns": self.service(lab, "udp", 53),
            "iperf": self.service(lab, "tcp", 5201),
        });
        config
    }
}

fn requests_are_split(kind: Kind, arm: Arm) {
    let Some(lab) = lab(arm, Load::Light) else { return };
    let nginx = Nginx::start_all(&lab);
    let daemon = Daemon::start(&lab, &kind.config(&lab));
    let (wan, lan) = (
        Capture::start(&lab, &lab.client, "eth0", "ip or ip6"),
        Capture::start(&lab, &lab.servers[0], "eth0", "ip or ip6"),
    );
    let url = kind.url(&lab, "/?[1-40]");
    let out = curl(&lab.client, &["-g", "-H", "Connection: close", &url.replace("[1-40]", "1")]);
    assert!(out.ok().stdout.starts_with("rs"), "one request");
    for n in 1..40 {
        curl(&lab.client, &["-g", "-H", "Connection: close", &kind.url(&lab, &format!("/?{n}"))])
            .ok();
    }
    for nginx in &nginx {
        let requests = nginx.requests();
        assert_eq!(requests.len(), 20, "{kind:?}");
        assert!(requests.iter().all(|it| it.starts_with(kind.lips())), "{kind:?}: {requests:?}");
    }
    let vip = kind.vip(&lab);
    assert_eq!(ping(&lab.client, vip, 5, &[]), 5, "{kind:?}");
    assert_eq!(ping(&lab.client, vip, 5, &["-s", "1400"]), 5, "{kind:?}");

    let any = if kind.client6 { "[::]:0" } else { "0.0.0.0:0" };
    let client = udp(&lab.client, any);
    let servers = [0, 1].map(|index| udp(&lab.servers[index], &kind.server(index, 53)));
    let at = format!("{}:53", kind.host(&lab));
    let (peer, answerer) = exchange(&client, &servers[0], &at);
    assert!(peer.ip().to_string().starts_with(kind.lips()), "{kind:?}: {peer}");
    assert_eq!(answerer.to_string(), at, "{kind:?}");
    drop(servers);
    wan.stop().assert_checksums();
    lan.stop().assert_checksums();
    assert_eq!(daemon.conns_opened(), 41, "{kind:?}");
    daemon.stop();
}

#[test]
fn requests_are_split_by_all_kinds_two_arm() {
    for kind in KINDS {
        requests_are_split(kind, Arm::Two);
    }
}

#[test]
fn requests_are_split_by_all_kinds_one_arm() {
    for kind in KINDS {
        requests_are_split(kind, Arm::One);
    }
}

#[test]
fn large_transfers_arrive_whole() {
    for kind in KINDS {
        let Some(lab) = lab(Arm::Two, Load::Heavy) else { return };
        let nginx = Nginx::start_all(&lab);
        let daemon = Daemon::start(&lab, &kind.config(&lab));
        let file = lab.path("100MB");
        let mut head = std::process::Command::new("sh");
        run(head.args(["-c", "head -c 100000000 /dev/urandom > \"$0\""]).arg(&file)).ok();
        for nginx in &nginx {
            fs::hard_link(&file, nginx.files.join("files/100MB")).unwrap();
        }
        let (copy, sum) = (lab.path("copy"), sha256(&file));
        let url = kind.url(&lab, "/files/100MB");
        curl(&lab.client, &["-g", "-o", copy.to_str().unwrap(), &url]).ok();
        assert_eq!(sha256(&copy), sum, "{kind:?}");
        // The first server has sent, and it is the second one's turn.
        let url = kind.url(&lab, "/uploads/100MB");
        curl(&lab.client, &["-g", "-T", file.to_str().unwrap(), &url]).ok();
        assert_eq!(sha256(&nginx[1].files.join("uploads/100MB")), sum, "{kind:?}");
        // Its control connection and that of the data must meet one server.
        daemon.ctl.run(&["server", "set", "iperf", &kind.server(1, 5201), "--weight", "0"]);
        for direction in [&["-t", "2"][..], &["-t", "2", "-R"]] {
            let _server = iperf3_server(&lab, &lab.servers[0]);
            let summary = iperf3_client(&lab.client, kind.vip(&lab), direction);
            let bytes = summary["end"]["sum_received"]["bytes"].as_f64().unwrap();
            assert!(bytes > 1e6, "{kind:?} {direction:?}: {bytes}");
        }
        daemon.stop();
    }
}

#[test]
fn what_servers_and_the_balancer_say_reaches_the_client() {
    for kind in KINDS {
        let Some(lab) = lab(Arm::Two, Load::Light) else { return };
        let _nginx = Nginx::start_all(&lab);
        let daemon = Daemon::start(&lab, &kind.config(&lab));
        let any = if kind.client6 { "[::]:0" } else { "0.0.0.0:0" };
        let client = lab.client.enter(|| UdpSocket::bind(any).unwrap());
        client.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        client.connect((kind.vip(&lab), 53)).unwrap();
        client.send(b"a question").unwrap();
        let error = client.recv(&mut [0; 16]).expect_err("nobody is there");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{kind:?}: {error}");

        let family = if kind.client6 { "-6" } else { "-4" };
        let by = |arguments: &[&str]| {
            let source = [family, "-s", kind.client(&lab)];
            traceroute(&lab.client, kind.vip(&lab), &[&source[..], arguments].concat())
        };
        let hops = [kind.own(&lab), kind.vip(&lab)];
        assert_eq!(by(&["-T", "-p", "80"]), hops, "{kind:?}");
        assert_eq!(by(&["-U", "-p", "53"]), hops, "{kind:?}");
        assert_eq!(by(&["-I"]), [kind.vip(&lab)], "{kind:?}");
        daemon.stop();
    }
}

/// A download by a client behind a narrow link; what was told on the servers' side.
fn download(lab: &Lab, kind: Kind, client: &Namespace, daemon: &Daemon<'_>) -> Vec<Vec<String>> {
    let capture = Capture::start(lab, &lab.servers[0], "eth0", "ip or ip6");
    let size = ["-g", "-o", "/dev/null", "-w", "%{size_download}", "-m", "10"];
    for _ in 0..2 {
        let got = curl(client, &[&size[..], &[&kind.url(lab, "/files/1MB")]].concat());
        assert_eq!(got.ok().stdout, (1 << 20).to_string(), "{kind:?}:\n{}", daemon.log());
    }
    let captured = capture.stop();
    captured.assert_checksums();
    match kind.server6 {
        true => captured.fields("icmpv6.type == 2", &["ipv6.src", "icmpv6.mtu"]),
        false => captured.fields("icmp.type == 3 && icmp.code == 4", &["ip.src", "icmp.mtu"]),
    }
}

#[test]
fn a_smaller_mtu_is_found() {
    for kind in KINDS {
        for mtu in [1400, 1280] {
            let Some(lab) = lab(Arm::Two, Load::Light) else { return };
            let mut config = kind.config(&lab);
            config["interfaces"]["wan0"]["mtu"] = mtu.into();
            let nginx = Nginx::start_all(&lab);
            for nginx in &nginx {
                fs::write(nginx.files.join("files/1MB"), vec![0xa5; 1 << 20]).unwrap();
            }
            let daemon = Daemon::start(&lab, &config);
            let rows = download(&lab, kind, &lab.client, &daemon);
            let told = match kind {
                SIX => mtu,
                SIX_TO_FOUR => mtu - 20,
                _ => mtu + 20,
            };
            let first = rows.first().unwrap_or_else(|| panic!("{kind:?} {mtu}: nobody was told"));
            assert_eq!(first[1], told.to_string(), "{kind:?} {mtu}");
            daemon.stop();
        }
    }
}

/// A client behind a router whose link to it is narrow: only the router can tell the server.
#[test]
fn a_routers_word_of_it_passes_through_the_vip() {
    for kind in KINDS {
        let Some(lab) = lab(Arm::Two, Load::Light) else { return };
        let router = &lab.client;
        let client = Namespace::create(format!("{}-behind", router.name()));
        client.sysctl("net.ipv6.conf.all.disable_ipv6", "0");
        client.sysctl("net.ipv6.conf.default.disable_ipv6", "0");
        router.link("narrow", &client, "eth0");
        router.ip(&["link", "set", "narrow", "mtu", "1300"]);
        router.ip(&["addr", "add", "192.0.2.1/24", "dev", "narrow"]);
        router.ip(&["addr", "add", "2001:db8:7::1/64", "dev", "narrow", "nodad"]);
        router.sysctl("net.ipv4.ip_forward", "1");
        router.sysctl("net.ipv6.conf.all.forwarding", "1");
        client.ip(&["addr", "add", "192.0.2.7/24", "dev", "eth0"]);
        client.ip(&["addr", "add", "2001:db8:7::7/64", "dev", "eth0", "nodad"]);
        client.ip(&["route", "add", "default", "via", "192.0.2.1"]);
        client.ip(&["-6", "route", "add", "default", "via", "2001:db8:7::1"]);
        let mut config = kind.config(&lab);
        config["routes"] = json!([
            { "to": "192.0.2.0/24", "via": "203.0.113.100", "dev": "wan0" },
            { "to": "2001:db8:7::/64", "via": "2001:db8:cb::100", "dev": "wan0" },
        ]);
        let nginx = Nginx::start_all(&lab);
        for nginx in &nginx {
            fs::write(nginx.files.join("files/1MB"), vec![0xa5; 1 << 20]).unwrap();
        }
        let daemon = Daemon::start(&lab, &config);
        let rows = download(&lab, kind, &client, &daemon);
        let first = rows.first().unwrap_or_else(|| panic!("{kind:?}: the server was not told"));
        assert!(first[0].starts_with(kind.lips()), "{kind:?}: from the LIP: {first:?}");
        let told = match kind {
            SIX => 1300,
            SIX_TO_FOUR => 1280,
            _ => 1320,
        };
        assert_eq!(first[1], told.to_string(), "{kind:?}");
        daemon.stop();
    }
}

/// The way to the servers is narrower than the clients': what they send shrinks, and tracepath finds out.
#[test]
fn a_smaller_mtu_towards_the_servers_is_found() {
    for kind in [FOUR, SIX, SIX_TO_FOUR, FOUR_TO_SIX] {
        for mtu in [1400, 1280] {
            let Some(lab) = lab(Arm::Two, Load::Light) else { return };
            let mut config = kind.config(&lab);
            config["interfaces"]["lan0"]["mtu"] = mtu.into();
            // Each probe of tracepath is for another port; at the server nobody listens.
            let traced = |l4_port| format!("{}:{l4_port}", kind.host(&lab));
            config["services"]["trace"] = kind.service(&lab, "udp", 5300);
            config["services"]["trace"]["vips"] = (5300..5340).map(traced).collect();
            let nginx = Nginx::start_all(&lab);
            let daemon = Daemon::start(&lab, &config);
            let file = lab.path("1MB");
            fs::write(&file, vec![0xa5; 1 << 20]).unwrap();
            let url = kind.url(&lab, "/uploads/1MB");
            let upload = ["-g", "-m", "10", "-T", file.to_str().unwrap(), &url];
            curl(&lab.client, &upload).ok();
            assert_eq!(sha256(&nginx[0].files.join("uploads/1MB")), sha256(&file), "{kind:?}");

            let family = if kind.client6 { "-6" } else { "-4" };
            // What the upload has taught the client is forgotten.
            lab.client.ip(&[family, "route", "flush", "cache"]);
            let words = [family, "-n", "-m", "5", "-p", "5300", kind.vip(&lab)];
            let found = lab.client.run("tracepath", &words).ok().stdout;
            let passes = match kind {
                SIX_TO_FOUR => mtu + 20,
                FOUR_TO_SIX => mtu - 20,
                _ => mtu,
            };
            let resume = format!("Resume: pmtu {passes} hops 2");
            assert!(found.contains(&resume), "{kind:?} {mtu}: no {resume} in {found}");
            daemon.stop();
        }
    }
}

/// RFC 7915 §4: a client that lets its datagrams be fragmented.
#[test]
fn what_may_be_fragmented_reaches_a_server_of_ipv6() {
    let kind = FOUR_TO_SIX;
    let Some(lab) = lab(Arm::Two, Load::Light) else { return };
    lab.client.sysctl("net.ipv4.ip_no_pmtu_disc", "1");
    let daemon = Daemon::start(&lab, &kind.config(&lab));
    let (client, server) =
        (udp(&lab.client, "0.0.0.0:0"), udp(&lab.servers[0], &kind.server(0, 53)));
    let mut buffer = [0; 2000];
    // With its headers the first one has just the MTU at the server.
    for len in [1452, 1453, 1472] {
        let question: Vec<u8> = (0..len).map(|at| (at * 7) as u8).collect();
        client.send_to(&question, (kind.vip(&lab), 53)).unwrap();
        let (got, peer) = server.recv_from(&mut buffer).expect("the datagram does not arrive");
        assert!(buffer[..got] == question, "{len} bytes arrive changed");
        server.send_to(&question, peer).unwrap();
        let got = client.recv(&mut buffer).expect("the answer does not arrive");
        assert!(buffer[..got] == question, "{len} bytes come back changed");
    }
    assert_eq!(daemon.counter("packet.fragmented"), 2);
    daemon.stop();
}

#[test]
fn servers_of_both_families_need_lips_of_both() {
    let Some(lab) = lab(Arm::Two, Load::Light) else { return };
    let _nginx = Nginx::start_all(&lab);
    let daemon = Daemon::start(&lab, &SIX.config(&lab));
    let refused = daemon.ctl.try_run(&["server", "add", "web", "198.18.0.121:80"]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("it has no IPv4 LIP"), "{}", refused.stderr);
    let mut config = SIX.config(&lab);
    config["local_address_pools"]["both"] =
        json!({ "addresses": ["fd00:18::10-fd00:18::13", "198.18.0.10"], "dev": "lan0" });
    config["services"]["web"]["local_pool"] = "both".into();
    config["services"]["web"]["servers"] =
        json!([{ "address": SIX.server(0, 80) }, { "address": SIX_TO_FOUR.server(1, 80) }]);
    daemon.reload(&config);
    crate::common::wait_until("both serve", Duration::from_secs(20), || {
        let bodies = [(); 2].map(|()| curl(&lab.client, &["-g", &SIX.url(&lab, "/")]).stdout);
        let has = |name: &str, from: &str| {
            bodies.iter().any(|body| body.starts_with(&format!("{name} {from}")))
        };
        has("rs1", "fd00:18::1") && has("rs2", "198.18.0.10")
    });
    daemon.stop();
}
