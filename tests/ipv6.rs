//! Proves that
//! - neighbour solicitations for our IPv6 addresses, link-local ones too, are answered with the interface's
//!   own Ethernet address, and for no other address; Linux takes the answers, and tshark finds them right;
//! - echo to them is answered, small and in the largest packets that the link takes;
//! - an address that is added is tried, announced and reported to multicast routers, and answers at once;
//! - another station that would take an address of ours finds that it is taken;
//! - stations that ask for us are known, static neighbours stay, and `dpctl` shows either family alone.

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{Arm, Capture, Daemon, Lab, Load, ping, wait_until};

const VIP: &str = "2001:db8:cb::10";
const OWN: &str = "2001:db8:cb::2";
const CLIENT: &str = "2001:db8:cb::100";

/// The two-arm topology with IPv6 on the client's link.
fn lab() -> Option<Lab> {
    let lab = Lab::new(Arm::Two, Load::Light)?;
    for key in ["all", "default", "eth0"] {
        lab.client.sysctl(&format!("net.ipv6.conf.{key}.disable_ipv6"), "0");
    }
    lab.client.ip(&["addr", "add", &format!("{CLIENT}/64"), "dev", "eth0", "nodad"]);
    Some(lab)
}

fn config(lab: &Lab) -> Value {
    let mut config = lab.config();
    let addresses = config["addresses"].as_array_mut().unwrap();
    addresses.extend([
        json!({ "address": format!("{VIP}/128"), "dev": "wan0" }),
        json!({ "address": format!("{OWN}/64"), "dev": "wan0" }),
        json!({ "address": "fd00:18::1/64", "dev": "lan0" }),
    ]);
    let routes = config["routes"].as_array_mut().unwrap();
    routes.push(json!({ "to": "default", "via": "fe80::1", "dev": "wan0" }));
    config
}

/// The link-local address that is made of an Ethernet address (RFC 4291 appendix A).
fn link_local(mac: &str) -> String {
    let octets: Vec<u8> =
        mac.split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect();
    let [a, b, c, d, e, f] = octets.try_into().unwrap();
    let address = format!("fe80::{:02x}{b:02x}:{c:02x}ff:fe{d:02x}:{e:02x}{f:02x}", a ^ 2);
    address.parse::<std::net::Ipv6Addr>().unwrap().to_string()
}

#[test]
fn neighbours_find_our_addresses_and_no_others() {
    let Some(lab) = lab() else { return };
    let daemon = Daemon::start(&lab, &config(&lab));
    let mac = lab.balancer.mac("wan0");
    let local = link_local(&mac);
    let capture = Capture::start(&lab, &lab.client, "eth0", "icmp6");
    for address in [VIP, OWN, &local] {
        lab.client.ip(&["-6", "neigh", "flush", "dev", "eth0"]);
        // A link-local address is one on each link: ping is told which.
        let zone = if *address == local { "%eth0" } else { "" };
        assert_eq!(ping(&lab.client, &format!("{address}{zone}"), 3, &[]), 3, "{address}");
        let entry = lab.client.ip(&["-6", "neigh", "show", address, "dev", "eth0"]);
        assert!(entry.contains(&mac), "{address}: {entry}");
    }
    assert_eq!(ping(&lab.client, VIP, 3, &["-s", "1452"]), 3, "1500 bytes with their headers");
    for address in ["2001:db8:cb::77", "fe80::77%eth0"] {
        assert_eq!(ping(&lab.client, address, 1, &["-W", "1"]), 0, "{address}");
    }
    let captured = capture.stop();
    let answers = captured.fields(
        "icmpv6.type == 136 && icmpv6.nd.na.flag.s == 1",
        &["icmpv6.nd.na.target_address", "icmpv6.opt.linkaddr", "ipv6.hlim"],
    );
    let ours: Vec<_> = answers.iter().filter(|answer| answer[1] == mac).collect();
    assert!(ours.len() >= 3, "{answers:?}");
    assert!(ours.iter().all(|answer| answer[2] == "255"), "{answers:?}");
    assert_eq!(captured.count("icmpv6.checksum.status == 0 || _ws.malformed"), 0);
    daemon.stop();
}

#[test]
fn an_added_address_is_tried_announced_and_reported() {
    let Some(lab) = lab() else { return };
    let daemon = Daemon::start(&lab, &config(&lab));
    let capture = Capture::start(&lab, &lab.client, "eth0", "ip6");
    daemon.ctl.run(&["address", "add", "2001:db8:cb::11/128", "dev", "wan0"]);
    assert_eq!(ping(&lab.client, "2001:db8:cb::11", 3, &[]), 3);
    let captured = capture.stop();
    let mac = lab.balancer.mac("wan0");

    let tried = captured.fields(
        "icmpv6.type == 135 && ipv6.src == :: && icmpv6.nd.ns.target_address == 2001:db8:cb::11",
        &["eth.src", "ipv6.dst"],
    );
    assert_eq!(tried, [[mac.as_str(), "ff02::1:ff00:11"]]);
    let announced = captured.fields(
        "icmpv6.type == 136 && icmpv6.nd.na.flag.s == 0 && icmpv6.nd.na.flag.o == 1 \
         && icmpv6.nd.na.target_address == 2001:db8:cb::11",
        &["eth.dst", "ipv6.dst", "icmpv6.opt.linkaddr"],
    );
    assert!(!announced.is_empty());
    assert_eq!(announced[0], ["33:33:00:00:00:01", "ff02::1", mac.as_str()]);
    let reported = captured.fields(
        "icmpv6.type == 143 && icmpv6.mldr.mar.multicast_address == ff02::1:ff00:11",
        &["eth.src", "ipv6.src", "ipv6.dst", "ipv6.hlim", "icmpv6.mldr.mar.record_type"],
    );
    assert!(!reported.is_empty());
    let local = link_local(&mac);
    assert_eq!(reported[0], [mac.as_str(), local.as_str(), "ff02::16", "1", "4"]);
    assert_eq!(captured.count("icmpv6.checksum.status == 0 || _ws.malformed"), 0);

    daemon.ctl.run(&["address", "del", "2001:db8:cb::11", "dev", "wan0"]);
    lab.client.ip(&["-6", "neigh", "flush", "dev", "eth0"]);
    assert_eq!(ping(&lab.client, "2001:db8:cb::11", 1, &["-W", "1"]), 0);
    daemon.stop();
}

#[test]
fn who_would_take_our_address_finds_it_taken() {
    let Some(lab) = lab() else { return };
    let daemon = Daemon::start(&lab, &config(&lab));
    lab.client.sysctl("net.ipv6.conf.eth0.accept_dad", "1");
    lab.client.ip(&["addr", "add", &format!("{VIP}/64"), "dev", "eth0"]);
    wait_until(
        "the client finds that it has the address not alone",
        Duration::from_secs(20),
        || lab.client.ip(&["-6", "addr", "show", "dev", "eth0", "dadfailed"]).contains(VIP),
    );
    daemon.stop();
}

#[test]
fn who_asks_for_us_is_known() {
    let Some(lab) = lab() else { return };
    let daemon = Daemon::start(&lab, &config(&lab));
    assert_eq!(ping(&lab.client, VIP, 1, &[]), 1);
    let mac = lab.client.mac("eth0");
    wait_until("the client is a neighbour", Duration::from_secs(20), || {
        let line = format!("{CLIENT} wan0 {mac}");
        daemon.ctl.run(&["-6", "-br", "neighbour", "show"]).contains(&line)
    });
    let change = ["neighbour", "add", "fe80::1", "lladdr", "02:00:00:00:00:99", "dev", "wan0"];
    daemon.ctl.run(&change);
    let shown = daemon.ctl.run(&["-6", "neighbour", "show"]);
    assert!(shown.contains("permanent") && !shown.contains("198.18.0."), "{shown}");

    let local = link_local(&lab.balancer.mac("lan0"));
    let addresses = daemon.ctl.run(&["-6", "-br", "address", "show", "--dev", "lan0"]);
    assert_eq!(addresses.trim(), format!("lan0 fd00:18::1/64 {local}/64"));
    let four = daemon.ctl.run(&["-4", "address", "show"]);
    assert!(!four.contains("::"), "{four}");
    let routes = daemon.ctl.run(&["-6", "-br", "route", "show"]);
    assert!(routes.contains("::/0 via fe80::1 dev wan0"), "{routes}");
    daemon.ctl.run(&["-6", "route", "del", "default"]);
    assert!(!daemon.ctl.run(&["-6", "route", "show"]).contains("fe80::1"));
    daemon.stop();
}
