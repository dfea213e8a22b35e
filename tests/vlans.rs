//! Proves that
//! - clients and servers on VLANs are served through tagged and untagged interfaces: FullNAT, both directions, with
//!   right tags, checksums and priorities on the wire, in the largest packets, whoever puts the tags in;
//! - ARP, echo and neighbour discovery have the tag of their VLAN, and an interface answers beside its VLANs;
//! - a frame with the tag of nobody's VLAN ends with a counter of its own;
//! - VLANs come and go while traffic flows, by `dpctl` and by `dpip`, and slips are refused by name;
//! - a VLAN has an interface of the kernel's own, and an address moves with it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{
    Arm, Capture, Daemon, Lab, Load, Nginx, api, http_get, iperf3_client, iperf3_server, ping, tag,
    wait_until,
};

/// The VLANs of clients and servers.
const CLIENTS: u16 = 200;
const SERVERS: u16 = 100;
/// Priorities that they send with (IEEE 802.1Q §9.6), in the tag's highest three bits.
const OF_CLIENTS: u16 = 3 << 13;
const OF_SERVERS: u16 = 5 << 13;

/// Clients and servers on VLANs.
fn lab() -> Option<Lab> {
    let lab = Lab::new(Arm::Two, Load::Light)?;
    tag(&lab, &lab.client, "eth0", OF_CLIENTS | CLIENTS);
    for server in &lab.servers {
        tag(&lab, server, "eth0", OF_SERVERS | SERVERS);
    }
    Some(lab)
}

/// What is on `wan0` and `lan0` is on VLANs of them.
fn on_vlans(mut config: Value) -> Value {
    config["vlans"] = json!({
        "wan0.200": { "link": "wan0", "id": CLIENTS },
        "lan0.100": { "link": "lan0", "id": SERVERS },
    });
    for entry in config["addresses"].as_array_mut().unwrap() {
        let dev = if entry["dev"] == "wan0" { "wan0.200" } else { "lan0.100" };
        entry["dev"] = json!(dev);
    }
    config["local_address_pools"]["lan"]["dev"] = json!("lan0.100");
    config
}

#[test]
fn clients_and_servers_may_be_on_vlans() {
    let Some(lab) = lab() else { return };
    let _nginx = Nginx::start_all(&lab);
    let daemon = Daemon::start(&lab, &on_vlans(lab.config()));
    let client = Capture::start(&lab, &lab.client, "eth0", "");
    let server = Capture::start(&lab, &lab.servers[0], "eth0", "");
    for _ in 0..4 {
        assert!(http_get(&lab.client, &lab.url("/")).starts_with("rs"));
    }
    assert_eq!(ping(&lab.client, "203.0.113.2", 5, &["-M", "do", "-s", "1472"]), 5);
    assert_eq!(ping(&lab.client, lab.vip(), 5, &[]), 5);
    assert_eq!(ping(&lab.servers[0], "198.18.0.1", 5, &[]), 5);
    let (client, server) = (client.stop(), server.stop());
    for (captured, vid, priority) in [(&client, CLIENTS, 3), (&server, SERVERS, 5)] {
        captured.assert_checksums();
        assert_eq!(captured.count(&format!("!(vlan.id == {vid})")), 0, "frames without the tag");
        // ARP and echo of ours are as urgent as the question; what is passed on, as it came.
        let echo = format!("icmp.type == 0 && vlan.priority == {priority}");
        assert!(captured.count(&echo) >= 5, "{vid}");
        assert_ne!(captured.count("arp.opcode == 2"), 0, "{vid}");
    }
    assert_eq!(server.count("tcp.dstport == 80 && !(vlan.priority == 3)"), 0);
    assert_eq!(client.count("tcp.srcport == 80 && !(vlan.priority == 5)"), 0);

    let shown = daemon.ctl.json(&["link", "show", "lan0.100"]);
    assert_eq!(shown["vlan"], json!({ "link": "lan0", "id": 100 }));
    assert_eq!((&shown["mtu"], &shown["up"]), (&json!(1500), &json!(true)));
    assert_eq!(shown["mac"], json!(lab.balancer.mac("lan0")));
    assert_eq!(shown["vlan_tags"], json!({ "taken_by_nic": true, "put_by_nic": true }));
    assert!(shown["stats"]["rx_packets"].as_u64().unwrap() > 10, "{shown}");
    daemon.stop();
}

#[test]
fn large_transfers_go_through_vlans() {
    let Some(lab) = lab() else { return };
    let mut config = on_vlans(lab.config());
    config["services"]["web"]["vips"] = json!([format!("{}:5201", lab.vip())]);
    config["services"]["web"]["servers"] = json!([{ "address": "198.18.0.121:5201" }]);
    let daemon = Daemon::start(&lab, &config);
    for direction in [&["-n", "20M"][..], &["-n", "20M", "-R"]] {
        let _server = iperf3_server(&lab, &lab.servers[0]);
        let told = iperf3_client(&lab.client, lab.vip(), direction);
        assert!(told["end"]["sum_sent"]["bytes"].as_u64().unwrap() >= 20 << 20, "{told}");
    }
    assert_eq!(daemon.counter("drop.no-room") + daemon.counter("drop.unknown-vlan"), 0);
    daemon.stop();
}

#[test]
fn an_interface_serves_beside_its_vlans() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let _nginx = Nginx::start_all(&lab);
    // One server is on a VLAN, with a subnet of its own.
    lab.servers[1].ip(&["addr", "flush", "dev", "eth0"]);
    lab.servers[1].ip(&["addr", "add", "198.18.1.122/24", "dev", "eth0"]);
    tag(&lab, &lab.servers[1], "eth0", SERVERS);
    let mut config = lab.config();
    config["vlans"] = json!({ "lan0.100": { "link": "lan0", "id": SERVERS } });
    let addresses = config["addresses"].as_array_mut().unwrap();
    addresses.push(json!({ "address": "198.18.1.1/24", "dev": "lan0.100" }));
    // A LIP leads home only by its own network.
    config["services"]["tagged"] = json!({
        "vips": [format!("{}:81", lab.vip())], "protocol": "tcp",
        "servers": [{ "address": "198.18.1.122:80" }],
        "local_pool": { "addresses": ["198.18.1.10"], "dev": "lan0.100" },
    });
    config["services"]["web"]["servers"] = json!([{ "address": "198.18.0.121:80" }]);
    let daemon = Daemon::start(&lab, &config);
    for _ in 0..2 {
        assert!(http_get(&lab.client, &lab.url("/")).starts_with("rs1"));
        assert!(http_get(&lab.client, &format!("http://{}:81/", lab.vip())).starts_with("rs2"));
    }
    assert_eq!(ping(&lab.servers[0], "198.18.0.1", 3, &[]), 3);
    assert_eq!(ping(&lab.servers[1], "198.18.1.1", 3, &[]), 3);
    // Of a VLAN that is nobody's here.
    assert_eq!(daemon.counter("drop.unknown-vlan"), 0);
    tag(&lab, &lab.servers[1], "eth0", SERVERS + 1);
    assert_eq!(ping(&lab.servers[1], "198.18.1.1", 3, &["-W", "1"]), 0);
    assert_ne!(daemon.counter("drop.unknown-vlan"), 0);
    daemon.stop();
}

#[test]
fn neighbours_of_ipv6_are_found_on_vlans() {
    let Some(lab) = lab() else { return };
    for key in ["all", "default", "eth0"] {
        lab.client.sysctl(&format!("net.ipv6.conf.{key}.disable_ipv6"), "0");
    }
    lab.client.ip(&["addr", "add", "2001:db8:cb::100/64", "dev", "eth0", "nodad"]);
    let mut config = on_vlans(lab.config());
    let addresses = config["addresses"].as_array_mut().unwrap();
    addresses.push(json!({ "address": "2001:db8:cb::2/64", "dev": "wan0.200" }));
    let capture = Capture::start(&lab, &lab.client, "eth0", "");
    let daemon = Daemon::start(&lab, &config);
    assert_eq!(ping(&lab.client, "2001:db8:cb::2", 5, &[]), 5);
    // Announcements and reports come in the first seconds.
    wait_until("it is announced", Duration::from_secs(10), || {
        let known = lab.client.ip(&["-6", "neigh", "show", "2001:db8:cb::2"]);
        known.contains(&lab.balancer.mac("wan0"))
    });
    let captured = capture.stop();
    assert_eq!(captured.count("!(vlan.id == 200)"), 0);
    for kind in [135, 136, 143] {
        assert_ne!(captured.count(&format!("icmpv6.type == {kind}")), 0, "{kind}");
    }
    daemon.stop();
}

#[test]
fn vlans_come_and_go_while_the_daemon_runs() {
    let Some(lab) = lab() else { return };
    let _nginx = Nginx::start_all(&lab);
    let mut config = lab.config();
    let wanted = on_vlans(config.clone());
    for section in ["services", "local_address_pools", "addresses"] {
        config[section] = if section == "addresses" { json!([]) } else { json!({}) };
    }
    let daemon = Daemon::start(&lab, &config);
    daemon.ctl.run(&["link", "add", "wan0.200", "link", "wan0", "type", "vlan", "id", "200"]);
    let dpip = |line: &str| {
        let words = line.split_whitespace();
        daemon.ctl.try_run(&std::iter::once("dpip").chain(words).collect::<Vec<_>>())
    };
    assert_eq!(dpip("vlan add link lan0 proto 802.1q id 100").code, 0);
    let shown = dpip("vlan show");
    assert_eq!((shown.code, shown.stdout.as_str()), (0, ""));
    assert_eq!(
        shown.stderr,
        "wan0.200 link wan0 proto 802.1q id 200\nlan0.100 link lan0 proto 802.1q id 100\n"
    );
    let rest = json!({
        "addresses": wanted["addresses"], "local_address_pools": wanted["local_address_pools"],
        "services": wanted["services"],
    });
    std::fs::write(lab.path("rest.yaml"), rest.to_string()).unwrap();
    daemon.ctl.run(&["apply", "-f", lab.path("rest.yaml").to_str().unwrap()]);
    let capture = Capture::start(&lab, &lab.client, "eth0", "tcp or vlan");
    for _ in 0..4 {
        assert!(http_get(&lab.client, &lab.url("/")).starts_with("rs"));
    }
    let captured = capture.stop();
    captured.assert_checksums();
    assert_eq!(captured.count("tcp && !(vlan.id == 200)"), 0);
    // The workers put the tags in: the device was started for none.
    let shown = daemon.ctl.json(&["link", "show", "wan0.200"]);
    assert_eq!(shown["vlan_tags"], json!({ "taken_by_nic": false, "put_by_nic": false }));

    let refused = |line: &str, why: &str| {
        let done = daemon.ctl.try_run(&line.split_whitespace().collect::<Vec<_>>());
        assert_ne!(done.code, 0, "{line}");
        assert!(done.stderr.contains(why), "{line}: {}", done.stderr);
    };
    refused("link add wan0.0 link wan0 id 0", "0 is not from 1 to 4094");
    refused("link add wan0.4095 link wan0 id 4095", "4095 is not from 1 to 4094");
    refused("link add again link wan0 id 200", "`wan0.200` is the VLAN 200 of `wan0` already");
    refused("link add wan0.200 link wan0 id 7", "there is a VLAN `wan0.200`");
    refused("link add x link wan9 id 7", "there is no interface `wan9`");
    refused("link add x link wan0.200 id 7", "`wan0.200` is a VLAN");
    refused("link add lan0 link wan0 id 7", "there is an interface `lan0` already");
    refused("link del wan0.200", "is needed by addresses[0].dev");
    refused("link del wan0.7", "there is no VLAN `wan0.7`");
    assert_eq!(dpip("vlan del wan0.7").code, 1);
    assert_eq!(dpip("vlan add link wan0 proto 802.1ad id 7").code, 1);

    // Away and back, while a client waits: what it sends meanwhile ends, and its conn goes on.
    daemon.ctl.run(&["service", "del", "web"]);
    std::fs::write(lab.path("none.yaml"), r#"{"addresses":[],"local_address_pools":{}}"#).unwrap();
    daemon.ctl.run(&["apply", "--prune", "-f", lab.path("none.yaml").to_str().unwrap()]);
    assert_eq!(dpip("vlan del link lan0 id 100").code, 0);
    daemon.ctl.run(&["link", "del", "wan0.200"]);
    assert_eq!(dpip("vlan show").stderr, "");
    let before = daemon.counter("drop.unknown-vlan");
    assert_eq!(ping(&lab.client, "203.0.113.2", 2, &["-W", "1"]), 0);
    assert!(daemon.counter("drop.unknown-vlan") > before);
    let (status, body) =
        api(&daemon.socket, "POST", "/v1/vlans/wan0.200", r#"{"link":"wan0","id":200}"#);
    assert_eq!(status, 201, "{body}");
    assert_eq!(dpip("vlan add link lan0 id 100").code, 0);
    daemon.ctl.run(&["apply", "-f", lab.path("rest.yaml").to_str().unwrap()]);
    assert!(http_get(&lab.client, &lab.url("/")).starts_with("rs"));
    daemon.stop();
}

#[test]
fn a_vlan_has_an_interface_of_the_kernels() {
    let Some(lab) = lab() else { return };
    let _nginx = Nginx::start_all(&lab);
    let mut config = on_vlans(lab.config());
    config["vlans"]["wan0.200"]["kni"] = json!("wan0.200.kni");
    config["interfaces"]["wan0"]["kni"] = json!("wan0.kni");
    config["addresses"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "address": "203.0.113.77/32", "dev": "wan0.200", "active": "with-kernel" }));
    let daemon = Daemon::start(&lab, &config);
    assert_eq!(lab.balancer.mac("wan0.200.kni"), lab.balancer.mac("wan0"));
    lab.balancer.ip(&["addr", "add", "203.0.113.5/24", "dev", "wan0.200.kni"]);
    wait_until("the daemon knows what the kernel holds", Duration::from_secs(5), || {
        let link = daemon.ctl.json(&["link", "show", "wan0.200"]);
        link["kni"]["addresses"].as_array().unwrap().contains(&json!("203.0.113.5"))
    });
    let capture = Capture::start(&lab, &lab.client, "eth0", "");
    wait_until("the kernel answers", Duration::from_secs(5), || {
        ping(&lab.client, "203.0.113.5", 1, &["-W", "1"]) == 1
    });
    assert_eq!(ping(&lab.client, "203.0.113.5", 10, &["-M", "do", "-s", "1472"]), 10);
    assert_eq!(ping(&lab.balancer, lab.client_address(), 10, &["-I", "203.0.113.5"]), 10);
    assert!(http_get(&lab.client, &lab.url("/")).starts_with("rs"));
    // An address that goes with the kernel's: nobody's, then ours.
    assert_eq!(ping(&lab.client, "203.0.113.77", 1, &["-W", "1"]), 0);
    lab.balancer.ip(&["addr", "add", "203.0.113.77/32", "dev", "wan0.200.kni"]);
    wait_until("the address is ours", Duration::from_secs(5), || {
        ping(&lab.client, "203.0.113.77", 1, &["-W", "1"]) == 1
    });
    let captured = capture.stop();
    assert_eq!(captured.count("!(vlan.id == 200)"), 0);
    let answers =
        captured.fields("arp.opcode == 2 && arp.src.proto_ipv4 == 203.0.113.5", &["vlan.id"]);
    assert!(!answers.is_empty(), "no answer to ARP");
    daemon.stop();
}
