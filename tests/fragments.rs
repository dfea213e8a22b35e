//! Proves, over TAP devices (a packet socket of `net_af_packet` would put fragments together before we see
//! them), that
//! - the VIP answers pings of 4000 bytes;
//! - datagrams of 8000 bytes go through a VIP to a server, and its answers come back.

use serde_json::json;

use crate::common::{Arm, Daemon, Lab, Load, ping, udp};

/// Datagrams, one after the other.
const DATAGRAMS: usize = 50;

#[test]
fn large_pings_and_datagrams_go_through_a_vip() {
    let Some(lab) = Lab::unwired(Arm::Two, Load::Light) else { return };
    let mut config = lab.config();
    for (index, interface) in ["lan0", "wan0"].into_iter().enumerate() {
        config["interfaces"][interface]["device"] =
            format!("net_tap{index},iface={interface}").into();
    }
    config["services"]["dns"] = json!({
        "vips": [format!("{}:53", lab.vip())],
        "protocol": "udp",
        "servers": [{ "address": "198.18.0.121:5300" }],
        "local_pool": "lan",
    });
    let daemon = Daemon::start(&lab, &config);
    // The kernel's ends of the devices are in the balancer's namespace; so client and server are there, too.
    let both = &lab.balancer;
    for (interface, mac, address) in [
        ("wan0", "02:00:00:00:ac:01", "203.0.113.100/24"),
        ("lan0", "02:00:00:00:ac:02", "198.18.0.121/24"),
    ] {
        both.ip(&["link", "set", interface, "address", mac]);
        both.ip(&["link", "set", interface, "up"]);
        both.ip(&["addr", "add", address, "dev", interface]);
    }
    assert_eq!(ping(both, lab.vip(), 20, &["-s", "4000"]), 20);

    let (client, server) = (udp(both, "203.0.113.100:0"), udp(both, "198.18.0.121:5300"));
    let mut buffer = vec![0; 9000];
    for n in 0..DATAGRAMS {
        let question: Vec<u8> = (0..8000).map(|at| (at * 7 + n) as u8).collect();
        client.send_to(&question, (lab.vip(), 53)).unwrap();
        let (len, peer) = server.recv_from(&mut buffer).expect("the datagram does not arrive");
        assert!(buffer[..len] == question, "datagram {n} arrives changed");
        assert!(peer.to_string().starts_with("198.18.0.1"), "from a LIP and not {peer}");
        let answer: Vec<u8> = question.iter().rev().copied().collect();
        server.send_to(&answer, peer).unwrap();
        let (len, peer) = client.recv_from(&mut buffer).expect("the answer does not arrive");
        assert!(buffer[..len] == answer, "answer {n} arrives changed");
        assert_eq!(peer.to_string(), format!("{}:53", lab.vip()));
    }
    // Each ping was three pieces, and each of them was answered.
    assert!(daemon.counter("answer.echo") >= 60);
    daemon.stop();
}
