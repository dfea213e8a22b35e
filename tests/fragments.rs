//! Proves, over TAP devices (a packet socket of `net_af_packet` would put fragments of IPv4 together before we see
//! them), that
//! - VIPs of both families answer pings of 4000 bytes;
//! - datagrams of 8000 bytes go through a VIP to a server, and its answers come back, whichever families both have.

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{Arm, Daemon, Lab, Load, ping, udp, wait_until};
use crate::families::{FOUR, FOUR_TO_SIX, Kind, SIX, SIX_TO_FOUR};

/// Datagrams of a kind, one after the other.
const DATAGRAMS: usize = 50;

/// The VIPs' ports by kind.
const KINDS: [(Kind, u16); 4] = [(FOUR, 53), (SIX, 53), (SIX_TO_FOUR, 54), (FOUR_TO_SIX, 54)];

fn config(lab: &Lab) -> Value {
    let mut config = SIX.config(lab);
    for (index, interface) in ["lan0", "wan0"].into_iter().enumerate() {
        config["interfaces"][interface]["device"] =
            format!("net_tap{index},iface={interface}").into();
    }
    config["services"] = json!({});
    for (kind, vport) in KINDS {
        config["services"][kind.name()] = json!({
            "vips": [format!("{}:{vport}", kind.host(lab))],
            "protocol": "udp",
            "servers": [{ "address": kind.server(0, 5300) }],
            "local_pool": if kind.server6 { "lan6" } else { "lan" },
        });
    }
    config
}

#[test]
fn large_pings_and_datagrams_go_through_a_vip() {
    let Some(lab) = Lab::unwired(Arm::Two, Load::Light) else { return };
    let daemon = Daemon::start(&lab, &config(&lab));
    // The kernel's ends of the devices are in the balancer's namespace; so client and server are there, too.
    let both = &lab.balancer;
    for (interface, mac, addresses) in [
        ("wan0", "02:00:00:00:ac:01", ["203.0.113.100/24", "2001:db8:cb::100/64"]),
        ("lan0", "02:00:00:00:ac:02", ["198.18.0.121/24", "fd00:18::121/64"]),
    ] {
        both.sysctl(&format!("net.ipv6.conf.{interface}.disable_ipv6"), "0");
        both.ip(&["link", "set", interface, "address", mac]);
        both.ip(&["link", "set", interface, "up"]);
        both.ip(&["addr", "add", addresses[0], "dev", interface]);
        both.ip(&["addr", "add", addresses[1], "dev", interface, "nodad"]);
    }
    for kind in [FOUR, SIX] {
        let answers = || ping(both, kind.vip(&lab), 1, &[]) == 1;
        wait_until("the VIP answers", Duration::from_secs(20), answers);
        assert_eq!(ping(both, kind.vip(&lab), 20, &["-s", "4000"]), 20, "{kind:?}");
    }
    // Each ping was three pieces, and each of them was answered.
    assert!(daemon.counter("answer.echo") >= 120);

    let mut buffer = vec![0; 9000];
    for (kind, vport) in KINDS {
        let host = if kind.client6 { "[2001:db8:cb::100]:0" } else { "203.0.113.100:0" };
        let (client, server) = (udp(both, host), udp(both, &kind.server(0, 5300)));
        let vip = format!("{}:{vport}", kind.host(&lab));
        for n in 0..DATAGRAMS {
            let question: Vec<u8> = (0..8000).map(|at| (at * 7 + n) as u8).collect();
            client.send_to(&question, &vip).unwrap();
            let (len, peer) = server.recv_from(&mut buffer).expect("the datagram does not arrive");
            assert!(buffer[..len] == question, "{kind:?}: datagram {n} arrives changed");
            let lip = if kind.server6 { "[fd00:18::1" } else { "198.18.0.1" };
            assert!(peer.to_string().starts_with(lip), "{kind:?}: from a LIP and not {peer}");
            let answer: Vec<u8> = question.iter().rev().copied().collect();
            server.send_to(&answer, peer).unwrap();
            let (len, peer) = client.recv_from(&mut buffer).expect("the answer does not arrive");
            assert!(buffer[..len] == answer, "{kind:?}: answer {n} arrives changed");
            assert_eq!(peer.to_string(), vip);
        }
    }
    daemon.stop();
}
