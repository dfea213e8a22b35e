//! Proves that
//! - data flows on after a FIN from either side, and arrives whole;
//! - a reset from either side reaches the other, and the conn is forgotten;
//! - an idle TCP conn expires: both ends are reset, or (by service) hear nothing;
//! - an idle UDP conn expires, and the next datagram opens a new one;
//! - a server that drains keeps its conns and gets no new ones; one removed loses them only if asked;
//! - a first packet that is no SYN, a service without a server and a limit are answered as the service
//!   says.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{
    Arm, Capture, Daemon, Lab, Load, abort, accept_one, connect, listen, wait_until,
};

const SOON: Duration = Duration::from_secs(4);

/// A lab whose two servers listen on port 80, with short timeouts.
struct Pair {
    lab: Lab,
    listeners: [TcpListener; 2],
}

impl Pair {
    fn new() -> Option<Self> {
        Self::on(Arm::Two)
    }

    fn on(arm: Arm) -> Option<Self> {
        let lab = Lab::new(arm, Load::Light)?;
        let listeners = [0, 1]
            .map(|index| listen(&lab.servers[index], &format!("{}:80", lab.server_address(index))));
        Some(Self { lab, listeners })
    }

    fn config(&self) -> Value {
        let mut config = self.lab.config();
        config["conntrack"]["timeouts"] =
            json!({ "tcp_closing": "2s", "tcp_closed": "1s", "udp_oneway": "1s", "udp": "2s" });
        config
    }

    /// A connection through the VIP; rr gives the first to server 0, the second to server 1.
    #[track_caller]
    fn open(&self, server: usize) -> (TcpStream, TcpStream) {
        let client = connect(&self.lab.client, &format!("{}:80", self.lab.vip())).unwrap();
        let (peer, address) = accept_one(&self.listeners[server]);
        assert!(address.ip().to_string().starts_with("198.18.0.1"), "{address} is no LIP");
        (client, peer)
    }
}

#[track_caller]
fn says(mut from: &TcpStream, mut to: &TcpStream, text: &[u8]) {
    from.write_all(text).unwrap();
    let mut got = vec![0; text.len()];
    to.read_exact(&mut got).unwrap();
    assert_eq!(got, text);
}

#[track_caller]
fn is_reset(mut stream: &TcpStream) {
    let error = stream.read(&mut [0; 1]).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
}

#[track_caller]
fn hears_nothing(mut stream: &TcpStream, time: Duration) {
    stream.set_read_timeout(Some(time)).unwrap();
    let error = stream.read(&mut [0; 1]).expect_err("silence");
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
}

#[test]
fn data_flows_on_after_a_fin_two_arm() {
    data_flows_on_after_a_fin(Arm::Two);
}

#[test]
fn data_flows_on_after_a_fin_one_arm() {
    data_flows_on_after_a_fin(Arm::One);
}

fn data_flows_on_after_a_fin(arm: Arm) {
    let Some(pair) = Pair::on(arm) else { return };
    let daemon = Daemon::start(&pair.lab, &pair.config());
    let megabyte: Vec<u8> = (0..1 << 20).map(|n: u32| (n >> 3) as u8).collect();
    for client_first in [true, false] {
        let (client, server) = pair.open(usize::from(!client_first));
        let (early, late) = if client_first { (client, server) } else { (server, client) };
        says(&early, &late, b"that is all from me");
        early.shutdown(Shutdown::Write).unwrap();
        assert_eq!((&late).read(&mut [0; 1]).unwrap(), 0, "the FIN arrives");
        // Longer than the first FIN's own way through the states would take.
        thread::sleep(Duration::from_millis(500));
        let received = thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut all = Vec::new();
                (&early).read_to_end(&mut all).unwrap();
                all
            });
            (&late).write_all(&megabyte).unwrap();
            late.shutdown(Shutdown::Write).unwrap();
            reader.join().unwrap()
        });
        assert!(received == megabyte, "{} bytes arrived", received.len());
    }
    wait_until("both conns are forgotten", SOON, || daemon.conns() == 0);
    daemon.stop();
}

#[test]
fn a_reset_from_either_side_arrives_two_arm() {
    a_reset_from_either_side_arrives(Arm::Two);
}

#[test]
fn a_reset_from_either_side_arrives_one_arm() {
    a_reset_from_either_side_arrives(Arm::One);
}

fn a_reset_from_either_side_arrives(arm: Arm) {
    let Some(pair) = Pair::on(arm) else { return };
    let daemon = Daemon::start(&pair.lab, &pair.config());
    let (client, server) = pair.open(0);
    says(&client, &server, b"hello");
    abort(client);
    is_reset(&server);
    let (client, server) = pair.open(1);
    says(&server, &client, b"welcome");
    abort(server);
    is_reset(&client);
    wait_until("both conns are forgotten", SOON, || daemon.conns() == 0);
    daemon.stop();
}

#[test]
fn an_idle_connection_expires_and_both_ends_are_reset() {
    let Some(pair) = Pair::new() else { return };
    let mut config = pair.config();
    config["services"]["web"]["timeouts"] = json!({ "tcp_established": "1s" });
    let daemon = Daemon::start(&pair.lab, &config);
    let (client, server) = pair.open(0);
    // Kept alive beyond its timeout by traffic in one direction only.
    for _ in 0..8 {
        thread::sleep(Duration::from_millis(300));
        says(&client, &server, b"still here");
    }
    is_reset(&client);
    is_reset(&server);
    wait_until("the conn is forgotten", SOON, || daemon.conns() == 0);
    daemon.stop();
}

#[test]
fn an_idle_connection_expires_in_silence_if_the_service_says_so() {
    let Some(pair) = Pair::new() else { return };
    let mut config = pair.config();
    config["services"]["web"]["timeouts"] = json!({ "tcp_established": "1s" });
    config["services"]["web"]["reset_on_expiry"] = false.into();
    let daemon = Daemon::start(&pair.lab, &config);
    let (client, server) = pair.open(0);
    says(&client, &server, b"hello");
    wait_until("the conn is forgotten", SOON * 2, || daemon.conns() == 0);
    hears_nothing(&client, Duration::from_millis(300));
    hears_nothing(&server, Duration::from_millis(300));
    daemon.stop();
}

#[test]
fn idle_udp_expires_and_opens_anew() {
    let Some(pair) = Pair::new() else { return };
    let mut config = pair.config();
    config["services"]["echo"] = json!({
        "vips": [format!("{}:7", pair.lab.vip())],
        "protocol": "udp",
        "scheduler": "rr",
        "servers": [{ "address": "198.18.0.121:7" }, { "address": "198.18.0.122:7" }],
        "local_pool": "lan",
    });
    let daemon = Daemon::start(&pair.lab, &config);
    let servers = [0, 1].map(|index| {
        let address = format!("{}:7", pair.lab.server_address(index));
        let socket = pair.lab.servers[index].enter(|| UdpSocket::bind(address).unwrap());
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket
    });
    let client = pair.lab.client.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    client.set_read_timeout(Some(SOON)).unwrap();
    client.connect((pair.lab.vip(), 7)).unwrap();
    let mut buffer = [0; 64];
    for server in &servers {
        for _ in 0..3 {
            client.send(b"ping").unwrap();
            let (_, lip) = server.recv_from(&mut buffer).unwrap();
            server.send_to(b"pong", lip).unwrap();
            assert_eq!(client.recv(&mut buffer).unwrap(), 4);
        }
        wait_until("one conn is counted", SOON, || daemon.conns() == 1);
        // Expired, so that the next datagram goes to the next server.
        wait_until("the conn is forgotten", SOON * 2, || daemon.conns() == 0);
    }
    daemon.stop();
}

#[test]
fn a_draining_server_keeps_what_it_has_two_arm() {
    a_draining_server_keeps_what_it_has(Arm::Two);
}

#[test]
fn a_draining_server_keeps_what_it_has_one_arm() {
    a_draining_server_keeps_what_it_has(Arm::One);
}

fn a_draining_server_keeps_what_it_has(arm: Arm) {
    let Some(pair) = Pair::on(arm) else { return };
    let daemon = Daemon::start(&pair.lab, &pair.config());
    let (client, server) = pair.open(0);
    daemon.ctl.run(&["server", "set", "web", "198.18.0.121:80", "--admin", "drain"]);
    for _ in 0..4 {
        let (client, server) = pair.open(1);
        says(&client, &server, b"to the other");
    }
    says(&client, &server, b"still served");
    daemon.ctl.run(&["server", "set", "web", "198.18.0.121:80", "--admin", "enabled"]);
    daemon.ctl.run(&["server", "set", "web", "198.18.0.122:80", "--weight", "0"]);
    let (fresh, peer) = pair.open(0);
    says(&fresh, &peer, b"back");
    says(&client, &server, b"never noticed");
    daemon.stop();
}

#[test]
fn a_removed_server_loses_its_connections_only_if_asked() {
    let Some(pair) = Pair::new() else { return };
    let daemon = Daemon::start(&pair.lab, &pair.config());
    let (client0, server0) = pair.open(0);
    let (client1, server1) = pair.open(1);
    daemon.ctl.run(&["server", "del", "web", "198.18.0.121:80"]);
    says(&client0, &server0, b"served to the end");
    daemon.ctl.run(&["server", "del", "web", "198.18.0.122:80", "--reset"]);
    is_reset(&client1);
    is_reset(&server1);
    says(&client0, &server0, b"still");
    drop((client0, server0));
    wait_until("both conns are forgotten", SOON, || daemon.conns() == 0);
    daemon.stop();
}

#[test]
fn what_cannot_be_served_is_answered_as_the_service_says() {
    let Some(pair) = Pair::new() else { return };
    let mut config = pair.config();
    for (port, refusal) in [(81, "drop"), (82, "reset"), (83, "unreachable")] {
        config["services"][format!("none-{refusal}")] = json!({
            "vips": [format!("{}:{port}", pair.lab.vip())],
            "protocol": "tcp",
            "servers": [],
            "local_pool": "lan",
            "on_no_server": refusal,
        });
    }
    config["services"]["web"]["limits"] = json!({ "max_connections": 1 });
    config["services"]["web"]["on_limit"] = "reset".into();
    let daemon = Daemon::start(&pair.lab, &config);
    let capture = Capture::start(&pair.lab, &pair.lab.client, "eth0", "");
    let refused = |port: u16| {
        let address = format!("{}:{port}", pair.lab.vip());
        connect(&pair.lab.client, &address).expect_err("refused").kind()
    };
    assert_eq!(refused(82), ErrorKind::ConnectionRefused);
    assert_eq!(refused(83), ErrorKind::ConnectionRefused);
    let (client, server) = pair.open(0);
    assert_eq!(refused(80), ErrorKind::ConnectionRefused);
    says(&client, &server, b"within the limit");
    assert_eq!(refused(81), ErrorKind::TimedOut);
    let captured = capture.stop();
    let from_us = |filter: &str| captured.count(&format!("ip.src == 203.0.113.0/28 && {filter}"));
    assert_eq!(from_us("tcp.srcport == 81 || icmp && tcp.dstport == 81"), 0);
    assert_eq!(from_us("tcp.srcport == 82 && tcp.flags.reset == 1"), 1);
    assert_eq!(from_us("icmp.type == 3 && tcp.dstport == 83"), 1);
    assert_eq!(from_us("tcp.srcport == 80 && tcp.flags.reset == 1"), 1);
    assert_eq!((daemon.counter("answer.reset"), daemon.counter("answer.icmp-error")), (2, 1));
    daemon.stop();
}

#[test]
fn a_first_packet_that_is_no_syn_is_reset_or_dropped() {
    for (choice, reset) in [("reset", true), ("drop", false)] {
        let Some(pair) = Pair::new() else { return };
        let mut config = pair.config();
        config["services"]["web"]["on_not_syn"] = choice.into();
        let daemon = Daemon::start(&pair.lab, &config);
        let (client, server) = pair.open(0);
        says(&client, &server, b"before");
        daemon.stop();
        // The new daemon knows nothing of the conn.
        let daemon = Daemon::start(&pair.lab, &config);
        (&client).write_all(b"after").unwrap();
        if reset {
            is_reset(&client);
        } else {
            hears_nothing(&client, Duration::from_millis(700));
            assert_ne!(daemon.counter("drop.not-syn"), 0);
        }
        abort(client);
        daemon.stop();
    }
}
