//! Proves of the NAT gateway under bad input and little room that
//! - a host for whom no outside port is left is told by ICMP (administratively prohibited), and what is open goes
//!   on; another host has its own share;
//! - limits of an inside host are kept, and seen;
//! - forged inside sources from outside are dropped by name, and floods to ports that nobody has, while a
//!   transfer goes on whole;
//! - an unexpected SYN is answered by port unreachable, but not before six seconds; two hosts that open
//!   towards each other at the same time meet.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use testkit::pkt;

use crate::common::{
    Arm, Capture, Daemon, Gateway, Injector, Load, Namespace, Nginx, OUTSIDE, curl, exchange,
    http_get, ping, sha256, udp, wait_until,
};

#[test]
fn exhaustion_is_told_and_breaks_nothing() {
    let Some(gateway) = Gateway::new(Arm::Two, Load::Light) else { return };
    let (lab, host) = (&gateway.lab, &gateway.lab.servers[0]);
    let daemon = Daemon::start_with(lab, &gateway.config());
    daemon.ctl.run(&["snat", "set", "office", "--wan", "203.0.113.20", "--ports", "5000-5003"]);
    let inner = Capture::start(lab, host, "eth0", "icmp");
    let server = udp(&lab.client, "192.0.2.80:53");
    let sockets = [0; 4].map(|_| udp(host, "0.0.0.0:0"));
    for socket in &sockets {
        let (seen, _) = exchange(socket, &server, "192.0.2.80:53");
        assert!((5000..=5003).contains(&seen.port()), "{seen}");
    }
    let fifth = udp(host, "0.0.0.0:0");
    fifth.connect("192.0.2.80:53").unwrap();
    fifth.send(b"who am I?").unwrap();
    let error = fifth.recv(&mut [0; 16]).expect_err("there is no port left");
    assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{error}");
    for socket in &sockets {
        exchange(socket, &server, "192.0.2.80:53");
    }
    // TCP has ports of its own.
    let _nginx = Nginx::start_in(lab, &lab.client, "web", OUTSIDE[0]);
    http_get(host, "http://192.0.2.80/");
    let inner = inner.stop();
    inner.assert_checksums();
    let rows = inner.fields("icmp.type == 3 && icmp.code == 13", &["ip.src", "ip.dst"]);
    assert_eq!(rows, [["10.0.0.1,10.0.0.5", "10.0.0.5,192.0.2.80"]]);
    assert_eq!(daemon.ctl.json(&["snat", "show", "office"])["exhausted"], 1);
    let pools = daemon.ctl.json(&["snat", "pools"]);
    let ports = pools[0]["ports"].as_array().unwrap();
    let of_udp = ports.iter().find(|usage| usage["protocol"] == "udp").unwrap();
    assert_eq!(of_udp["taken"], 4, "{pools}");

    // By default there is silence.
    daemon.ctl.run(&["snat", "set", "office", "--on-exhausted", "drop"]);
    let sixth = udp(host, "0.0.0.0:0");
    sixth.connect("192.0.2.80:53").unwrap();
    sixth.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    sixth.send(b"who am I?").unwrap();
    let error = sixth.recv(&mut [0; 16]).expect_err("there is no port left");
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
    assert_eq!(daemon.counter("drop.wan-exhausted"), 1);
    daemon.stop();
}

#[test]
fn an_inside_host_has_no_more_than_its_share() {
    let Some(gateway) = Gateway::new(Arm::Two, Load::Light) else { return };
    let (lab, [host, other]) = (&gateway.lab, &gateway.lab.servers);
    let daemon = Daemon::start_with(lab, &gateway.config());
    let server = udp(&lab.client, "192.0.2.80:53");
    let ask = |socket: &UdpSocket| exchange(socket, &server, "192.0.2.80:53");
    let is_refused = |host: &Namespace| {
        let before = daemon.counter("drop.subscriber-limit");
        let socket = udp(host, "0.0.0.0:0");
        socket.send_to(b"who am I?", "192.0.2.80:53").unwrap();
        wait_until("it is refused", Duration::from_secs(3), || {
            daemon.counter("drop.subscriber-limit") == before + 1
        });
    };
    daemon.ctl.run(&["snat", "set", "office", "--max-ports", "2", "--on-exhausted", "drop"]);
    let sockets = [udp(host, "0.0.0.0:0"), udp(host, "0.0.0.0:0")];
    sockets.iter().for_each(|socket| {
        ask(socket);
    });
    is_refused(host);
    ask(&udp(other, "0.0.0.0:0"));
    ask(&sockets[0]);
    let usage = daemon.ctl.json(&["snat", "subscriber", "10.0.0.5"])["usage"][0].clone();
    assert_eq!((&usage["rule"], &usage["ports"]), (&"office".into(), &2.into()), "{usage}");

    daemon.ctl.run(&["snat", "set", "office", "--max-ports", "0", "--max-sessions", "3"]);
    let third = udp(host, "0.0.0.0:0");
    ask(&third);
    is_refused(host);
    ask(&third);

    daemon.ctl.run(&[
        "snat",
        "set",
        "office",
        "--max-sessions",
        "0",
        "--new-sessions-per-second",
        "5",
    ]);
    let many: Vec<_> = (0..50).map(|_| udp(host, "0.0.0.0:0")).collect();
    let before = daemon.counter("drop.subscriber-limit");
    many.iter().for_each(|socket| drop(socket.send_to(b"who am I?", "192.0.2.80:53")));
    wait_until("most are refused", Duration::from_secs(3), || {
        daemon.counter("drop.subscriber-limit") >= before + 20
    });
    server.set_nonblocking(true).unwrap();
    while server.recv(&mut [0; 64]).is_ok() {}
    server.set_nonblocking(false).unwrap();
    ask(&sockets[1]);
    assert_ne!(daemon.ctl.json(&["snat", "show", "office"])["limited"], 0);
    daemon.stop();
}

#[test]
fn forged_sources_and_floods_do_no_harm() {
    let Some(gateway) = Gateway::new(Arm::Two, Load::Heavy) else { return };
    let (lab, host) = (&gateway.lab, &gateway.lab.servers[0]);
    let nginx = Nginx::start_in(lab, &lab.client, "web", OUTSIDE[0]);
    let daemon = Daemon::start_with(lab, &gateway.config());
    assert_eq!(ping(host, OUTSIDE[0], 1, &[]), 1);

    let injector = Injector::start(lab, &gateway.router, "eth0");
    let (from, to) = (gateway.router.mac("eth0"), lab.balancer.mac("wan0"));
    let forged = |source: &str, destination: &str| {
        pkt().eth(&from[..], &to[..]).ipv4(source, destination).udp(1_000, 2_000).payload("forged")
    };
    let inside = Capture::start(lab, &lab.servers[1], "eth0", "udp");
    for (source, destination) in
        [("10.0.0.5", "10.0.0.6"), ("172.16.102.6", "10.0.0.6"), ("10.0.0.5", "203.0.113.20")]
    {
        injector.send(&forged(source, destination).build());
    }
    wait_until("they are dropped", Duration::from_secs(3), || {
        daemon.counter("drop.reverse-path") == 3
    });
    // An error about a packet that nobody has sent.
    let quoted = pkt().ipv4("203.0.113.20", "192.0.2.80").udp(40_000, 53);
    let error = pkt().eth(&from[..], &to[..]).ipv4("192.0.2.80", "203.0.113.20");
    injector.send(&error.icmp(3, 3, 0).quote(&quoted).build());
    wait_until("it is dropped", Duration::from_secs(3), || {
        daemon.counter("drop.icmp-no-conn") == 1
    });
    assert_eq!(inside.stop().count("udp"), 0);

    let file = lab.path("30MB");
    fs::write(&file, (0..30_000_000_u32).map(|n| (n >> 7) as u8).collect::<Vec<_>>()).unwrap();
    let flood = udp(&lab.client, "192.0.2.81:0");
    let done = AtomicBool::new(false);
    let flooded = thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            let mut count = 0_u32;
            while !done.load(Ordering::Relaxed) {
                // Beyond the ports that the transfer or the forward could have.
                let port = 1 + count % 1_000;
                // A full queue of the sender is no matter.
                let _ = flood.send_to(b"is anybody there?", format!("203.0.113.20:{port}"));
                count += 1;
            }
            count
        });
        let url = format!("http://{}/uploads/30MB", OUTSIDE[0]);
        let uploaded = curl(host, &["-T", file.to_str().unwrap(), &url]);
        done.store(true, Ordering::Relaxed);
        uploaded.ok();
        flooding.join().unwrap()
    });
    assert_eq!(sha256(&nginx.files.join("uploads/30MB")), sha256(&file));
    assert!(flooded > 1_000, "{flooded}");
    assert!(daemon.counter("drop.no-mapping") > 1_000);
    daemon.stop();
}

/// Connects from a port, and waits longer than the kernel's first retransmissions take.
fn connect_patiently(
    namespace: &Namespace,
    from: &str,
    to: &str,
) -> (Duration, std::io::Result<TcpStream>) {
    let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let start = Instant::now();
    let attempt = namespace.enter(|| -> std::io::Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&from.into())?;
        socket.connect_timeout(&to.into(), Duration::from_secs(20))?;
        Ok(socket.into())
    });
    (start.elapsed(), attempt)
}

#[test]
fn an_unexpected_syn_is_answered_after_six_seconds() {
    let Some(gateway) = Gateway::new(Arm::Two, Load::Light) else { return };
    let lab = &gateway.lab;
    let daemon = Daemon::start_with(lab, &gateway.config());
    let outer = Capture::start(lab, &lab.client, "eth0", "ip");
    let (took, attempt) = connect_patiently(&lab.client, "192.0.2.80:0", "203.0.113.20:7777");
    let error = attempt.expect_err("nobody has that port");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error} after {took:?}");
    assert!(took >= Duration::from_millis(5_900), "{took:?}");
    let outer = outer.stop();
    outer.assert_checksums();
    let told = outer.fields("icmp.type == 3", &["icmp.code", "ip.src", "tcp.dstport"]);
    assert_eq!(told[0], ["3", "203.0.113.2,192.0.2.80", "7777"]);
    assert_eq!(outer.count("tcp.flags.reset == 1"), 0);
    assert_ne!(daemon.counter("drop.no-mapping"), 0);
    daemon.stop();
}

/// Both send a SYN before they see the other's. The outside host knows where to, as from a third party.
fn open_simultaneously(filtering: &str, first_from_outside: bool) {
    let Some(gateway) = Gateway::new(Arm::Two, Load::Light) else { return };
    let (lab, host, outside) = (&gateway.lab, &gateway.lab.servers[0], &gateway.lab.client);
    let _nginx = Nginx::start_in(lab, outside, "web", OUTSIDE[1]);
    let daemon = Daemon::start_with(lab, &gateway.config());
    daemon.ctl.run(&["snat", "set", "office", "--filtering", filtering]);
    let held = connect_patiently(host, "10.0.0.5:4000", "192.0.2.81:80").1.unwrap();
    let mappings = daemon.ctl.json(&["snat", "mappings", "--inside", "10.0.0.5"]);
    let mapped = mappings["mappings"][0]["outside"].as_str().unwrap().to_owned();
    let capture = Capture::start(lab, outside, "eth0", "tcp port 5555 or icmp");

    // The SYN from outside must cross the other: what comes in before it left is lost.
    let lossy = |namespace: &Namespace, rule: &str| {
        let text = format!(
            "add table ip t; add chain ip t c {{ type filter hook prerouting priority raw; }}; \
             add rule ip t c {rule} drop"
        );
        namespace.run("nft", &[&text]).ok();
    };
    let whole = |namespace: &Namespace| drop(namespace.run("nft", &["delete table ip t"]).ok());
    lossy(outside, "tcp dport 5555");
    lossy(host, "tcp sport 5555");
    let (inner, outer) = thread::scope(|scope| {
        let from_inside = || connect_patiently(host, "10.0.0.5:4000", "192.0.2.80:5555").1;
        let from_outside = || connect_patiently(outside, "192.0.2.80:5555", &mapped).1;
        let wait = || thread::sleep(Duration::from_millis(300));
        let (inner, outer);
        if first_from_outside {
            outer = scope.spawn(from_outside);
            wait();
            inner = scope.spawn(from_inside);
        } else {
            inner = scope.spawn(from_inside);
            wait();
            outer = scope.spawn(from_outside);
        }
        wait();
        whole(outside);
        whole(host);
        (inner.join().unwrap(), outer.join().unwrap())
    });
    let (mut inner, mut outer) = (inner.expect("from inside"), outer.expect("from outside"));
    let mut got = [0; 5];
    inner.write_all(b"hello").unwrap();
    outer.read_exact(&mut got).unwrap();
    outer.write_all(&got).unwrap();
    inner.read_exact(&mut got).unwrap();
    assert_eq!(outer.peer_addr().unwrap().to_string(), mapped);
    // Nobody is told that the SYN was unexpected once it was not.
    thread::sleep(Duration::from_secs(7));
    let captured = capture.stop();
    captured.assert_checksums();
    assert_eq!(captured.count("icmp"), 0);
    let crossed = "tcp.flags.syn == 1 && tcp.flags.ack == 0 && ip.src ==";
    assert_ne!(captured.count(&format!("{crossed} 192.0.2.80")), 0);
    assert_ne!(captured.count(&format!("{crossed} 203.0.113.0/24")), 0);
    drop(held);
    daemon.stop();
}

#[test]
fn both_may_open_at_the_same_time() {
    open_simultaneously("endpoint-independent", false);
}

#[test]
fn a_held_syn_is_forgotten_when_the_inside_host_opens() {
    open_simultaneously("address-and-port-dependent", true);
}
