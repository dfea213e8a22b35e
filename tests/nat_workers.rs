//! Proves of a gateway with two workers, each with a queue of its own of every interface, that it is one gateway:
//! - inside hosts ping, ask, fetch, upload and measure, by TCP and UDP, with two arms and with one; nothing inside
//!   is seen outside, and checksums are right;
//! - `turnutils_natdiscovery` finds the mapping and filtering that the rule is set to, and hairpinning;
//! - traceroute shows every hop, and small MTUs are found;
//! - a server behind a forwarded port goes out by one mapping from that same port, and its conns outlive the forward;
//! - a range of few ports serves the hosts of both workers.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::common::{
    Arm, Capture, Daemon, Gateway, Load, Nginx, OUTSIDE, accept_one, connect, curl, exchange,
    http_get, iperf3_client, iperf3_server, judged, listen, ping, sha256, stun_server, traceroute,
    udp,
};

/// Both ends of a conn hear each other.
#[track_caller]
fn talk(one: &mut TcpStream, other: &mut TcpStream) {
    let mut got = [0; 4];
    for (text, from_one) in [(b"ping", true), (b"pong", false)] {
        let (from, to): (&mut TcpStream, &mut TcpStream) =
            if from_one { (&mut *one, &mut *other) } else { (&mut *other, &mut *one) };
        from.write_all(text).unwrap();
        to.read_exact(&mut got).unwrap();
        assert_eq!(&got, text);
    }
}

#[track_caller]
fn open(gateway: &Gateway, address: &str, server: &TcpListener) -> (TcpStream, TcpStream) {
    let client = connect(&gateway.lab.client, address);
    let mut client = client.unwrap_or_else(|error| panic!("to {address}: {error}"));
    let (mut server, peer) = accept_one(server);
    assert_eq!(peer.ip().to_string(), OUTSIDE[0]);
    talk(&mut client, &mut server);
    (client, server)
}

#[test]
fn inside_hosts_use_the_internet_by_two_workers() {
    for arm in [Arm::Two, Arm::One] {
        let Some(gateway) = Gateway::new(arm, Load::Heavy) else { return };
        let lab = &gateway.lab;
        let (host, outside) = (&lab.servers[0], &lab.client);
        let nginx = Nginx::start_in(lab, outside, "web", OUTSIDE[0]);
        let daemon = Daemon::start_with(lab, &gateway.config_of_two());
        let inner = Capture::start(lab, host, "eth0", "icmp");
        let outer = Capture::start(lab, outside, "eth0", "icmp");
        assert_eq!(ping(host, OUTSIDE[0], 20, &[]), 20);
        assert_eq!(ping(host, OUTSIDE[1], 5, &["-s", "1400"]), 5);
        let socket = udp(host, "0.0.0.0:0");
        socket.connect((OUTSIDE[0], 9)).unwrap();
        socket.send(b"discard").unwrap();
        let error = socket.recv(&mut [0; 8]).expect_err("nobody is there");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{error}");
        let (inner, outer) = (inner.stop(), outer.stop());
        inner.assert_checksums();
        outer.assert_checksums();
        gateway.assert_nothing_inside(&outer);

        let mut seen = BTreeSet::new();
        for _ in 0..40 {
            let page = http_get(host, &format!("http://{}/", OUTSIDE[0]));
            let page = page.trim().strip_prefix("web ").unwrap().to_owned();
            let (address, port) = page.split_once(':').unwrap();
            assert!(gateway.is_wan_address(address), "the server sees {address}");
            seen.insert(port.split_whitespace().next().unwrap().to_owned());
        }
        assert_eq!(seen.len(), 40, "each conn has a port of its own: {seen:?}");
        let leaks = Capture::start(lab, outside, "eth0", "net 10.0.0.0/8 or host 192.168.1.204");
        let file = lab.path("20MB");
        std::fs::write(&file, (0..20_000_000_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>())
            .unwrap();
        let url = format!("http://{}/uploads/20MB", OUTSIDE[0]);
        curl(host, &["-T", file.to_str().unwrap(), &url]).ok();
        assert_eq!(sha256(&nginx.files.join("uploads/20MB")), sha256(&file));
        for arguments in [&["-t", "1", "-P", "4"][..], &["-t", "1", "-R"]] {
            let _server = iperf3_server(lab, outside);
            let summary = iperf3_client(host, OUTSIDE[1], arguments);
            let received = summary["end"]["sum_received"]["bytes"].as_u64();
            assert!(received > Some(1_000_000), "{arguments:?}: {}", summary["end"]);
        }
        let _server = iperf3_server(lab, outside);
        let arguments = ["-u", "-b", "20M", "-l", "1200", "-t", "1"];
        let sum = &iperf3_client(host, OUTSIDE[0], &arguments)["end"]["sum"];
        assert!(sum["packets"].as_u64() > Some(1_000), "{sum}");
        assert!(sum["lost_percent"].as_f64().unwrap() < 5.0, "{sum}");
        assert_eq!(leaks.stop().count("ip"), 0);
        daemon.stop();
    }
}

#[test]
fn a_stun_server_finds_one_gateway_of_two_workers() {
    let Some(gateway) = Gateway::new(Arm::Two, Load::Light) else { return };
    let _server = stun_server(&gateway);
    let daemon = Daemon::start_with(&gateway.lab, &gateway.config_of_two());
    for (mapping, filtering, wan, found) in [
        (
            "endpoint-independent",
            "endpoint-independent",
            "203.0.113.20",
            ["Endpoint Independent Mapping", "Endpoint Independent Filtering"],
        ),
        (
            "endpoint-independent",
            "address-dependent",
            "203.0.113.20",
            ["Endpoint Independent Mapping", "Address Dependent Filtering"],
        ),
        (
            "address-and-port-dependent",
            "address-and-port-dependent",
            "203.0.113.21",
            ["Address and Port Dependent Mapping", "Address and Port Dependent Filtering"],
        ),
    ] {
        let change = ["--mapping", mapping, "--filtering", filtering, "--wan", wan];
        daemon.ctl.run(&[&["snat", "set", "office"][..], &change].concat());
        // Both hosts: they may be of different workers.
        for (host, local) in gateway.lab.servers.iter().zip(gateway.inside()) {
            for (option, found) in ["-m", "-f"].iter().zip(found) {
                let told = judged(host, option, local);
                let wanted = format!("NAT with {found}!");
                assert!(told.contains(&wanted), "{mapping}, {filtering}: {told}");
            }
        }
    }
    let change = ["--mapping", "endpoint-independent", "--filtering", "endpoint-independent"];
    let change = [&change[..], &["--wan", "203.0.113.20"]].concat();
    daemon.ctl.run(&[&["snat", "set", "office"][..], &change].concat());
    for (host, local) in gateway.lab.servers.iter().zip(gateway.inside()) {
        let told = judged(host, "-H", local);
        assert!(told.contains("successful hairpinning"), "{told}");
    }
    daemon.stop();
}

/// Inside hosts meet by their outside endpoints, whichever workers they are of.
#[test]
fn inside_hosts_meet_across_two_workers() {
    let Some(gateway) = Gateway::new(Arm::Two, Load::Light) else { return };
    let lab = &gateway.lab;
    let daemon = Daemon::start_with(lab, &gateway.config_of_two());
    daemon.ctl.run(&["snat", "set", "office", "--wan", "203.0.113.20"]);
    let outside = udp(&lab.client, "192.0.2.80:53");
    let places = [&lab.servers[0], &lab.servers[1], &gateway.branch];
    let sockets = places.map(|host| udp(host, "0.0.0.0:0"));
    let seen = sockets.each_ref().map(|socket| exchange(socket, &outside, "192.0.2.80:53").0);
    for (one, own) in sockets.iter().zip(seen) {
        for (other, to) in sockets.iter().zip(seen).filter(|(_, to)| *to != own) {
            let (from, answerer) = exchange(one, other, &to.to_string());
            assert_eq!((from, answerer), (own, to), "by their outside endpoints, both ways");
        }
    }
    // Who is not there any more: the error comes back to the one who asked.
    let [one, other, _] = sockets;
    drop(other);
    one.connect(seen[1]).unwrap();
    one.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    one.send(b"still there?").unwrap();
    let error = one.recv(&mut [0; 8]).expect_err("nobody is there");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{error}");
    daemon.stop();
}

#[test]
fn hops_and_mtus_are_found_by_two_workers() {
    for arm in [Arm::Two, Arm::One] {
        let Some(gateway) = Gateway::new(arm, Load::Light) else { return };
        gateway.narrow(1300);
        let _nginx = Nginx::start_in(&gateway.lab, &gateway.lab.client, "web", OUTSIDE[0]);
        let daemon = Daemon::start_with(&gateway.lab, &gateway.config_of_two());
        let hops = match arm {
            Arm::Two => ["10.0.0.1", "203.0.113.1", OUTSIDE[0]],
            Arm::One => ["192.168.1.202", "192.168.1.253", OUTSIDE[0]],
        };
        let host = &gateway.lab.servers[0];
        for by in [&["-I"][..], &["-U", "-p", "33434"], &["-T", "-p", "80"], &[]] {
            assert_eq!(traceroute(host, OUTSIDE[0], by), hops, "{by:?}");
        }
        let told = host.run("tracepath", &["-n", OUTSIDE[0]]).ok().stdout;
        assert!(told.contains("pmtu 1300"), "{told}");
        daemon.stop();
    }
}

/// A forwarded port's server also goes out from that port; what is open goes on when the forward is changed, and
/// when it is gone.
#[test]
fn a_server_behind_two_workers_is_one_host() {
    let Some(gateway) = Gateway::new(Arm::Two, Load::Light) else { return };
    let (lab, host) = (&gateway.lab, &gateway.lab.servers[0]);
    let daemon = Daemon::start_with(lab, &gateway.config_of_two());
    daemon.ctl.run(&["snat", "set", "office", "--wan", "203.0.113.20"]);
    let add = |name, protocol, to| {
        let rule = ["--on", "203.0.113.20:6000", "--protocol", protocol, "--to", to];
        daemon.ctl.run(&[&["dnat", "add", name][..], &rule].concat());
    };
    add("media", "udp", "10.0.0.5:7000");
    add("web", "tcp", "10.0.0.5:7000");
    let server = udp(host, "10.0.0.5:7000");
    let mut seen = BTreeSet::new();
    for n in 0..16 {
        let client = udp(&lab.client, "192.0.2.80:0");
        let (from, answerer) = exchange(&client, &server, "203.0.113.20:6000");
        assert_eq!(from, client.local_addr().unwrap());
        assert_eq!(answerer.to_string(), "203.0.113.20:6000");
        let remote = udp(&lab.client, &format!("192.0.2.{}:0", 80 + n % 2));
        let to = remote.local_addr().unwrap().to_string();
        seen.insert(exchange(&server, &remote, &to).0);
    }
    assert_eq!(seen.len(), 1, "one mapping: {seen:?}");

    let old = listen(host, "10.0.0.5:7000");
    let mut conns: Vec<_> = (0..8).map(|_| open(&gateway, "203.0.113.20:6000", &old)).collect();
    daemon.ctl.run(&["dnat", "set", "web", "--to", "10.0.0.6:7000"]);
    let new = listen(&lab.servers[1], "10.0.0.6:7000");
    conns.extend((0..8).map(|_| open(&gateway, "203.0.113.20:6000", &new)));
    conns.iter_mut().for_each(|(client, server)| talk(client, server));
    daemon.ctl.run(&["dnat", "del", "web"]);
    conns.iter_mut().for_each(|(client, server)| talk(client, server));
    daemon.stop();
}

#[test]
fn a_few_ports_serve_the_hosts_of_two_workers() {
    let Some(gateway) = Gateway::new(Arm::Two, Load::Light) else { return };
    let lab = &gateway.lab;
    let daemon = Daemon::start_with(lab, &gateway.config_of_two());
    daemon.ctl.run(&["snat", "set", "office", "--wan", "203.0.113.20", "--ports", "50000-50007"]);
    let outside = udp(&lab.client, "192.0.2.80:53");
    for host in [&lab.servers[0], &lab.servers[1], &gateway.branch] {
        let (seen, _) = exchange(&udp(host, "0.0.0.0:0"), &outside, "192.0.2.80:53");
        assert!((50_000..=50_007).contains(&seen.port()), "{seen}");
    }
    let refused = daemon.ctl.try_run(&["snat", "set", "office", "--ports", "50000-50000"]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("50000"), "{}", refused.stderr);
    assert!(refused.stderr.contains("2 workers"), "{}", refused.stderr);
    daemon.stop();
}
