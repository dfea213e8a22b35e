//! Proves that
//! - ARP requests for our addresses are answered, with the interface's own Ethernet address, and for no
//!   other address;
//! - an address that is added is announced by gratuitous ARP, and served at once;
//! - a real server's Ethernet address may change under 1,000 open conns and none breaks;
//! - a static neighbour is used as it is and never asked for;
//! - packets wait for a neighbour that has yet to be resolved, and are not lost.

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::common::{
    Arm, Capture, Daemon, Lab, Load, Nginx, accept_one, connect, http_get, listen, ping,
};

#[test]
fn arp_is_answered_for_our_addresses_only() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let daemon = Daemon::start(&lab, &lab.config());
    let mac = lab.balancer.mac("wan0");
    let arping = |address: &str| {
        lab.client.run("ip", &["neigh", "flush", "dev", "eth0"]);
        ping(&lab.client, address, 1, &["-W", "1"]);
        lab.client.ip(&["neigh", "show", address, "dev", "eth0"])
    };
    for address in [lab.vip(), "203.0.113.2"] {
        let entry = arping(address);
        assert!(entry.contains(&mac), "{address}: {entry}");
    }
    let entry = arping("203.0.113.77");
    assert!(!entry.contains("lladdr"), "{entry}");
    daemon.stop();
}

#[test]
fn an_added_address_is_announced_and_served() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let daemon = Daemon::start(&lab, &lab.config());
    let capture = Capture::start(&lab, &lab.client, "eth0", "arp");
    daemon.ctl.run(&["address", "add", "203.0.113.11/32", "dev", "wan0"]);
    assert_eq!(ping(&lab.client, "203.0.113.11", 3, &[]), 3);
    let announced = capture.stop().fields(
        "arp.src.proto_ipv4 == 203.0.113.11 && arp.dst.proto_ipv4 == 203.0.113.11",
        &["eth.dst", "arp.src.hw_mac"],
    );
    let first = announced.first().expect("a gratuitous ARP");
    assert_eq!(first[0], "ff:ff:ff:ff:ff:ff");
    assert_eq!(first[1], lab.balancer.mac("wan0"));

    daemon.ctl.run(&["address", "del", "203.0.113.11/32", "dev", "wan0"]);
    lab.client.ip(&["neigh", "flush", "dev", "eth0"]);
    assert_eq!(ping(&lab.client, "203.0.113.11", 1, &["-W", "1"]), 0);
    daemon.stop();
}

#[test]
fn a_changing_ethernet_address_breaks_no_connection() {
    let Some(lab) = Lab::new(Arm::Two, Load::Heavy) else { return };
    let mut config = lab.config();
    config["services"]["web"]["servers"] = json!([{ "address": "198.18.0.121:80" }]);
    let listener = listen(&lab.servers[0], "198.18.0.121:80");
    let daemon = Daemon::start(&lab, &config);
    let mut pairs: Vec<_> = (0..1000)
        .map(|_| {
            let client = connect(&lab.client, &format!("{}:80", lab.vip())).unwrap();
            (client, accept_one(&listener).0)
        })
        .collect();
    for last in ["01", "02"] {
        // A new address as after a failover; Linux announces it if asked to.
        lab.servers[0].sysctl("net.ipv4.conf.eth0.arp_notify", "1");
        let mac = format!("02:00:00:00:ab:{last}");
        lab.servers[0].ip(&["link", "set", "eth0", "address", &mac]);
        for (client, server) in &mut pairs {
            client.write_all(b"ping").unwrap();
            let mut buffer = [0; 4];
            server.read_exact(&mut buffer).unwrap();
            server.write_all(b"pong").unwrap();
            client.read_exact(&mut buffer).unwrap();
            assert_eq!(&buffer, b"pong");
        }
        let neighbours = daemon.ctl.run(&["neighbour", "show"]);
        assert!(neighbours.contains(&mac), "{neighbours}");
    }
    assert_eq!(daemon.conns(), 1000);
    drop(pairs);
    daemon.stop();
}

#[test]
fn a_static_neighbour_is_never_asked_for() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let _nginx = Nginx::start_all(&lab);
    let mut config = lab.config();
    let mac = lab.servers[0].mac("eth0");
    config["neighbours"] = json!([{ "address": "198.18.0.121", "mac": mac, "dev": "lan0" }]);
    config["services"]["web"]["servers"] = json!([{ "address": "198.18.0.121:80" }]);
    let capture = Capture::start(&lab, &lab.servers[0], "eth0", "arp");
    let daemon = Daemon::start(&lab, &config);
    assert!(http_get(&lab.client, &lab.url("/")).starts_with("rs1"));
    thread::sleep(Duration::from_millis(200));
    let asked = capture.stop().count("arp.opcode == 1 && arp.dst.proto_ipv4 == 198.18.0.121");
    assert_eq!(asked, 0);
    daemon.stop();
}

#[test]
fn packets_wait_for_a_neighbour() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let _nginx = Nginx::start_all(&lab);
    let daemon = Daemon::start(&lab, &lab.config());
    let capture = Capture::start(&lab, &lab.client, "eth0", "tcp");
    // The very first packet to each server finds no neighbour.
    for _ in 0..2 {
        http_get(&lab.client, &lab.url("/"));
    }
    let syns = capture.stop().count("tcp.flags.syn == 1 && tcp.flags.ack == 0");
    assert_eq!(syns, 2, "no SYN had to be sent twice");
    daemon.stop();
}
