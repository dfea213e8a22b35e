//! Proves of `client_address: proxy-v1` and `proxy-v2`, for clients and servers of either family, that
//! - unmodified nginx and haproxy take the client and the VIP from the header, request by request;
//! - a server that speaks first is heard, and one megabyte sent behind the header arrives whole;
//! - it is so, too, when the first header of each connection is lost, and when a fifth of all packets is;
//! - a header that the client itself sends is replaced, or passed on where the service trusts it;
//! - each datagram of a UDP service has a header, or the first one.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

use crate::common::{
    Arm, Capture, Daemon, Lab, Load, Namespace, Nginx, accept_one, connect, curl, haproxy, listen,
    run, sha256, udp,
};
use crate::families::{FOUR, FOUR_TO_SIX, Kind, SIX, SIX_TO_FOUR, lab};

const ALL: [Kind; 4] = [FOUR, SIX, SIX_TO_FOUR, FOUR_TO_SIX];
const NGINX: u16 = 86;
const HAPROXY: u16 = 82;
const TALK: u16 = 83;
const UDP: u16 = 84;

/// Services of the first server for both versions; those of version 1 are on ports 100 higher.
fn config(kind: Kind, lab: &Lab) -> Value {
    let mut config = kind.config(lab);
    let mut services = json!({});
    for (protocol, l4_port) in [("tcp", NGINX), ("tcp", HAPROXY), ("tcp", TALK), ("udp", UDP)] {
        for (version, vport) in [("proxy-v2", l4_port), ("proxy-v1", l4_port + 100)] {
            if protocol == "udp" && version == "proxy-v1" {
                continue;
            }
            let mut service = kind.service(lab, protocol, vport);
            service["client_address"] = version.into();
            service["servers"] = json!([{ "address": kind.server(0, l4_port) }]);
            services[format!("{protocol}-{vport}")] = service;
        }
    }
    config["services"] = services;
    config
}

/// Asks who the client is, from a port of its own; what it must be told.
#[track_caller]
fn ask(kind: Kind, lab: &Lab, vport: u16, from: u16) {
    let (host, from) = (kind.host(lab), from.to_string());
    let url = format!("http://{host}:{vport}/");
    let arguments = ["-g", "--max-time", "90", "--local-port", &from, &url];
    let told = curl(&lab.client, &arguments).ok().stdout;
    let expected = format!("{} {from} {} {vport}\n", kind.client(lab), kind.vip(lab));
    assert_eq!(told, expected, "{kind:?}");
}

#[test]
fn unmodified_servers_see_the_client() {
    for (kind, arm) in ALL.into_iter().map(|kind| (kind, Arm::Two)).chain([(FOUR, Arm::One)]) {
        let Some(lab) = lab(arm, Load::Light) else { return };
        let nginx = Nginx::start(&lab, 0);
        let _haproxy = haproxy(&lab, &lab.servers[0]);
        let talker = listen(&lab.servers[0], "127.0.0.1:8300");
        let daemon = Daemon::start(&lab, &config(kind, &lab));
        let lan = Capture::start(&lab, &lab.servers[0], "eth0", "ip or ip6");
        for (n, vport) in (0..).zip([NGINX, NGINX + 100, HAPROXY, HAPROXY + 100]) {
            for again in 0..3 {
                ask(kind, &lab, vport, 40_000 + n * 10 + again);
            }
        }
        let logged = nginx.proxied();
        assert_eq!(logged.len(), 6, "{kind:?}");
        for (line, port) in logged.iter().zip([40_000, 40_001, 40_002, 40_010, 40_011, 40_012]) {
            assert!(line.starts_with(&format!("{} {port} ", kind.client(&lab))), "{line}");
            assert!(!line.ends_with(kind.client(&lab)), "the peer is a LIP: {line}");
        }

        // The server speaks first, and haproxy says to it what it was told.
        let mut stream = connect(&lab.client, &format!("{}:{TALK}", kind.host(&lab))).unwrap();
        let own = stream.local_addr().unwrap();
        let (mut told, _) = accept_one(&talker);
        told.write_all(b"220 ready\r\n").unwrap();
        let mut banner = [0; 11];
        stream.read_exact(&mut banner).unwrap();
        assert_eq!(&banner, b"220 ready\r\n");
        let mut line = [0; 256];
        let len = told.read(&mut line).unwrap();
        let line = String::from_utf8_lossy(&line[..len]);
        assert!(line.contains(&format!(" {} ", kind.client(&lab))), "{line}");
        assert!(line.contains(&format!(" {} {TALK}\r\n", own.port())), "{line}");
        drop((stream, told));

        let file = lab.path("1MB");
        let mut head = std::process::Command::new("sh");
        run(head.args(["-c", "head -c 1000000 /dev/urandom > \"$0\""]).arg(&file)).ok();
        let url = format!("http://{}:{NGINX}/uploads/1MB", kind.host(&lab));
        curl(&lab.client, &["-g", "-T", file.to_str().unwrap(), &url]).ok();
        assert_eq!(sha256(&nginx.files.join("uploads/1MB")), sha256(&file), "{kind:?}");

        lan.stop().assert_checksums();
        assert_eq!(daemon.counter("proxy.sent"), 14, "{kind:?}");
        assert_eq!(daemon.counter("proxy.acknowledged"), 14, "{kind:?}");
        daemon.stop();
    }
}

/// Drops what arrives at a server and fits some conditions of nft.
fn lose(server: &Namespace, conditions: &str) {
    server.run("nft", &["add table inet loss"]).ok();
    let chain = "add chain inet loss in { type filter hook input priority 0; }";
    server.run("nft", &[chain]).ok();
    server.run("nft", &[&format!("add rule inet loss in {conditions} counter drop")]).ok();
}

#[test]
fn a_header_that_is_lost_is_sent_again() {
    for kind in [FOUR, SIX, SIX_TO_FOUR] {
        let Some(lab) = lab(Arm::Two, Load::Light) else { return };
        let _nginx = Nginx::start(&lab, 0);
        let _haproxy = haproxy(&lab, &lab.servers[0]);
        let daemon = Daemon::start(&lab, &config(kind, &lab));
        // IP, TCP with timestamps and the header, no more: of each two the first one is lost.
        let ip = if kind.server6 { 40 } else { 20 };
        let len = ip + 32 + if kind.client6 { 52 } else { 28 };
        let first =
            format!("tcp dport {{ {NGINX}, {HAPROXY} }} meta length {len} numgen inc mod 2 0");
        lose(&lab.servers[0], &first);
        for n in 0..10 {
            ask(kind, &lab, if n < 5 { NGINX } else { HAPROXY }, 41_000 + n);
        }
        assert!(daemon.counter("proxy.resent") >= 10, "{kind:?}");
        assert_eq!(daemon.counter("proxy.given-up"), 0, "{kind:?}");
        daemon.stop();
    }
}

#[test]
fn a_fifth_of_all_packets_may_be_lost() {
    for kind in [FOUR, SIX] {
        let Some(lab) = lab(Arm::Two, Load::Light) else { return };
        let _nginx = Nginx::start(&lab, 0);
        let daemon = Daemon::start(&lab, &config(kind, &lab));
        lose(&lab.servers[0], &format!("tcp dport {NGINX} numgen random mod 5 0"));
        for n in 0..20 {
            ask(kind, &lab, NGINX, 42_000 + n);
            ask(kind, &lab, NGINX + 100, 43_000 + n);
        }
        assert_eq!(daemon.counter("proxy.given-up"), 0, "{kind:?}");
        daemon.stop();
    }
}

#[test]
fn a_clients_own_header_is_replaced_or_trusted() {
    for kind in [FOUR, SIX] {
        let Some(lab) = lab(Arm::Two, Load::Light) else { return };
        let _nginx = Nginx::start(&lab, 0);
        let daemon = Daemon::start(&lab, &config(kind, &lab));
        let url = format!("http://{}:{NGINX}/", kind.host(&lab));
        // curl sends a line of version 1 with its own addresses: those are also what it must be told.
        let theirs = |claimed: bool, from: &str| {
            let mut arguments = vec!["-g", "--local-port", from];
            if claimed {
                arguments.extend(["--haproxy-protocol"]);
            }
            arguments.push(&url);
            curl(&lab.client, &arguments).ok().stdout
        };
        let own = |from: &str| format!("{} {from} {} {NGINX}\n", kind.client(&lab), kind.vip(&lab));
        assert_eq!(theirs(true, "44000"), own("44000"), "{kind:?}");
        assert_eq!(daemon.counter("proxy.replaced"), 1, "{kind:?}");
        let claim = || {
            let mut stream = connect(&lab.client, &format!("{}:{NGINX}", kind.host(&lab))).unwrap();
            let claim = b"PROXY TCP4 6.6.6.6 9.9.9.9 666 999\r\nGET / HTTP/1.0\r\n\r\n";
            stream.write_all(claim).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            let own = stream.local_addr().unwrap().port();
            (text, format!("{} {own} {} {NGINX}\n", kind.client(&lab), kind.vip(&lab)))
        };
        let (text, own_text) = claim();
        assert!(text.ends_with(&own_text), "{kind:?}: {text}");

        let name = format!("tcp-{NGINX}");
        daemon.ctl.run(&["service", "set", &name, "--client-header", "trust"]);
        let (text, _) = claim();
        assert!(text.ends_with("6.6.6.6 666 9.9.9.9 999\n"), "{kind:?}: {text}");
        assert_eq!(theirs(false, "44001"), own("44001"), "who sends none gets one");
        assert_eq!(daemon.counter("proxy.passed"), 1, "{kind:?}");
        daemon.stop();
    }
}

#[test]
fn datagrams_have_a_header() {
    for kind in ALL {
        let Some(lab) = lab(Arm::Two, Load::Light) else { return };
        let daemon = Daemon::start(&lab, &config(kind, &lab));
        let server = udp(&lab.servers[0], &kind.server(0, UDP));
        let any = if kind.client6 { "[::]:0" } else { "0.0.0.0:0" };
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let octets = |text: &str| match address(text) {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        for first in [false, true] {
            if first {
                daemon.ctl.run(&["service", "set", "udp-84", "--proxy-datagrams", "first"]);
            }
            let client = udp(&lab.client, any);
            let port = client.local_addr().unwrap().port();
            let fixed = if kind.client6 { [0x21, 0x22, 0, 36] } else { [0x21, 0x12, 0, 12] };
            let header = [
                &b"\r\n\r\n\0\r\nQUIT\n"[..],
                &fixed,
                &octets(kind.client(&lab)),
                &octets(kind.vip(&lab)),
                &port.to_be_bytes(),
                &UDP.to_be_bytes(),
            ]
            .concat();
            for n in 0..3 {
                client.send_to(b"question", format!("{}:{UDP}", kind.host(&lab))).unwrap();
                let mut buffer = [0; 2048];
                let (len, peer) = server.recv_from(&mut buffer).expect("a datagram");
                let expected = match first && n > 0 {
                    true => b"question".to_vec(),
                    false => [&header[..], b"question"].concat(),
                };
                assert_eq!(buffer[..len], expected, "{kind:?} {first} {n}");
                assert_ne!(peer.ip(), IpAddr::from(Ipv4Addr::UNSPECIFIED));
                server.send_to(b"answer", peer).unwrap();
                assert_eq!(client.recv_from(&mut buffer).expect("an answer").0, 6);
            }
        }
        daemon.stop();
    }
}

/// What cannot be is refused, by the value that says so.
#[test]
fn what_makes_no_sense_is_refused() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let daemon = Daemon::start(&lab, &config(FOUR, &lab));
    for (arguments, message) in [
        (&["udp-84", "--client-address", "proxy-v1"][..], "proxy-v1 is for TCP only"),
        (&["tcp-86", "--proxy-datagrams", "first"], "TCP has no datagrams"),
        (&["tcp-86", "--client-address", "toa", "--client-header", "trust"], "there is no header"),
    ] {
        let refused = daemon.ctl.try_run(&[&["service", "set"], arguments].concat());
        assert_eq!(refused.code, 1, "{arguments:?}");
        assert!(refused.stderr.contains(message), "{}", refused.stderr);
    }
    assert!(daemon.ctl.run(&["service", "show", "tcp-86"]).contains("proxy-v2"));
    daemon.stop();
}
