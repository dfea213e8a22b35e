//! Proves, two-arm and one-arm, that
//! - 200 requests are split exactly in turn, each over a conn of its own from a LIP;
//! - 100 MB downloaded and 100 MB uploaded arrive with the same SHA-256;
//! - wrk holds 10,000 connections at once and none of them fails, though a server's Ethernet address
//!   changes under way;
//! - iperf3 runs through the VIP over TCP both ways and over UDP without loss;
//! - the VIP answers ping, also with large packets;
//! - no packet on either side has a wrong checksum;
//! - two workers carry the same traffic and split it within two of exactly.

use std::fs;
use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::common::{
    Arm, Capture, Daemon, Lab, Load, Nginx, Wrk, curl, http_get, iperf3_client, iperf3_server,
    ping, run, sha256, wait_until,
};

/// Bodies of `count` requests, each over its own connection.
fn requests(lab: &Lab, count: u32) -> Vec<String> {
    let url = lab.url(&format!("/?[1-{count}]"));
    let out = curl(&lab.client, &["-H", "Connection: close", &url]).ok().stdout;
    out.lines().map(str::to_owned).collect()
}

fn answered_by(bodies: &[String], name: &str) -> usize {
    bodies.iter().filter(|body| body.starts_with(&format!("{name} "))).count()
}

fn requests_are_split_exactly(arm: Arm) {
    let Some(lab) = Lab::new(arm, Load::Light) else { return };
    let nginx = Nginx::start_all(&lab);
    let daemon = Daemon::start(&lab, &lab.config());
    let bodies = requests(&lab, 200);
    assert_eq!(bodies.len(), 200);
    assert_eq!((answered_by(&bodies, "rs1"), answered_by(&bodies, "rs2")), (100, 100));
    for pair in bodies.windows(2) {
        assert_ne!(pair[0][..3], pair[1][..3], "in turn");
    }
    for (index, nginx) in nginx.iter().enumerate() {
        let requests = nginx.requests();
        assert_eq!(requests.len(), 100, "server {index}");
        assert!(requests.iter().all(|request| request.starts_with("198.18.0.1")), "{requests:?}");
    }
    wait_until("all are counted", Duration::from_secs(3), || daemon.conns_opened() >= 200);
    assert_eq!(daemon.conns_opened(), 200);
    daemon.stop();
}

#[test]
fn requests_are_split_exactly_two_arm() {
    requests_are_split_exactly(Arm::Two);
}

#[test]
fn requests_are_split_exactly_one_arm() {
    requests_are_split_exactly(Arm::One);
}

fn a_hundred_megabytes_arrive_whole(arm: Arm) {
    let Some(lab) = Lab::new(arm, Load::Heavy) else { return };
    let nginx = Nginx::start_all(&lab);
    let daemon = Daemon::start(&lab, &lab.config());
    let file = lab.path("100MB");
    let mut head = std::process::Command::new("sh");
    run(head.args(["-c", "head -c 100000000 /dev/urandom > \"$0\""]).arg(&file)).ok();
    for nginx in &nginx {
        fs::hard_link(&file, nginx.files.join("files/100MB")).unwrap();
    }
    let (copy, sum) = (lab.path("copy"), sha256(&file));
    for _ in 0..2 {
        curl(&lab.client, &["-o", copy.to_str().unwrap(), &lab.url("/files/100MB")]).ok();
        assert_eq!(sha256(&copy), sum);
        curl(&lab.client, &["-T", file.to_str().unwrap(), &lab.url("/uploads/100MB")]).ok();
    }
    // Four conns, taken in turn: two downloads from the first server, two uploads to the second.
    assert_eq!(sha256(&nginx[1].files.join("uploads/100MB")), sum);
    daemon.stop();
}

#[test]
fn a_hundred_megabytes_arrive_whole_two_arm() {
    a_hundred_megabytes_arrive_whole(Arm::Two);
}

#[test]
fn a_hundred_megabytes_arrive_whole_one_arm() {
    a_hundred_megabytes_arrive_whole(Arm::One);
}

fn ten_thousand_connections_and_none_fails(arm: Arm) {
    let Some(lab) = Lab::new(arm, Load::Heavy) else { return };
    let _nginx = Nginx::start_all(&lab);
    let mut config = lab.config();
    // Room for all SYNs at once: wrk sends them without a pause.
    for interface in config["interfaces"].as_object_mut().unwrap().values_mut() {
        let device = interface["device"].as_str().unwrap().replace("=4096", "=16384");
        interface["device"] = device.into();
    }
    let daemon = Daemon::start(&lab, &config);
    let wrk = thread::scope(|scope| {
        let wrk = scope.spawn(|| Wrk::run(&lab.client, 10_000, 8, &[&lab.url("/quiet")]));
        // Under way, one server's Ethernet address changes, and Linux says so.
        thread::sleep(Duration::from_secs(5));
        lab.servers[0].sysctl("net.ipv4.conf.eth0.arp_notify", "1");
        lab.servers[0].ip(&["link", "set", "eth0", "address", "02:00:00:00:ab:01"]);
        wrk.join().unwrap()
    });
    assert_eq!(wrk.errors, Vec::<String>::new());
    assert!(wrk.requests >= 10_000, "{wrk:?}");
    // One more, by which wrk tries the address first.
    assert_eq!(daemon.conns_opened(), 10_001);
    daemon.stop();
}

#[test]
fn ten_thousand_connections_and_none_fails_two_arm() {
    ten_thousand_connections_and_none_fails(Arm::Two);
}

#[test]
fn ten_thousand_connections_and_none_fails_one_arm() {
    ten_thousand_connections_and_none_fails(Arm::One);
}

#[test]
fn iperf3_runs_through_the_vip() {
    let Some(lab) = Lab::new(Arm::Two, Load::Heavy) else { return };
    let mut config = lab.config();
    for protocol in ["tcp", "udp"] {
        config["services"][format!("iperf-{protocol}")] = json!({
            "vips": [format!("{}:5201", lab.vip())],
            "protocol": protocol,
            "servers": [{ "address": "198.18.0.121:5201" }],
            "local_pool": "lan",
        });
    }
    let daemon = Daemon::start(&lab, &config);
    for arguments in [&["-t", "2"][..], &["-t", "2", "-R"], &["-t", "2", "-P", "4"]] {
        let mut server = iperf3_server(&lab, &lab.servers[0]);
        let report = iperf3_client(&lab.client, lab.vip(), arguments);
        let received = report["end"]["sum_received"]["bytes"].as_u64().unwrap();
        assert!(received > 10_000_000, "{arguments:?}: {received} bytes in two seconds");
        server.wait(Duration::from_secs(5));
    }
    let mut server = iperf3_server(&lab, &lab.servers[0]);
    let report =
        iperf3_client(&lab.client, lab.vip(), &["-u", "-b", "20M", "-l", "1400", "-t", "2"]);
    assert_eq!(report["end"]["sum"]["lost_packets"], 0, "{}", report["end"]["sum"]);
    assert!(report["end"]["sum"]["packets"].as_u64().unwrap() > 3000);
    server.wait(Duration::from_secs(5));
    daemon.stop();
}

#[test]
fn the_vip_answers_ping() {
    for arm in [Arm::Two, Arm::One] {
        let Some(lab) = Lab::new(arm, Load::Light) else { return };
        let daemon = Daemon::start(&lab, &lab.config());
        assert_eq!(ping(&lab.client, lab.vip(), 20, &[]), 20);
        assert_eq!(ping(&lab.client, lab.vip(), 5, &["-s", "1472", "-M", "do"]), 5);
        assert_eq!(ping(&lab.servers[0], "198.18.0.1", 5, &[]), 5);
        daemon.stop();
    }
}

fn no_checksum_is_wrong(arm: Arm) {
    let Some(lab) = Lab::new(arm, Load::Light) else { return };
    let mut config = lab.config();
    config["services"]["echo"] = json!({
        "vips": [format!("{}:7", lab.vip())],
        "protocol": "udp",
        "servers": [{ "address": "198.18.0.121:7" }],
        "local_pool": "lan",
    });
    let nginx = Nginx::start_all(&lab);
    for nginx in &nginx {
        fs::write(nginx.files.join("files/2MB"), vec![0xa5; 2 << 20]).unwrap();
    }
    let file = nginx[0].files.join("files/2MB");
    let daemon = Daemon::start(&lab, &config);
    let captures = [
        Capture::start(&lab, &lab.client, "eth0", ""),
        Capture::start(&lab, &lab.servers[0], "eth0", ""),
        Capture::start(&lab, &lab.servers[1], "eth0", ""),
    ];
    requests(&lab, 20);
    curl(&lab.client, &["-o", "/dev/null", &lab.url("/files/2MB")]).ok();
    curl(&lab.client, &["-T", file.to_str().unwrap(), &lab.url("/uploads/2MB")]).ok();
    ping(&lab.client, lab.vip(), 3, &["-s", "301"]);
    let echo = lab.servers[0].enter(|| UdpSocket::bind("198.18.0.121:7").unwrap());
    let client = lab.client.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    for socket in [&echo, &client] {
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    }
    for len in [0, 1, 2, 511, 1472] {
        client.send_to(&vec![0x5a; len], (lab.vip(), 7)).unwrap();
        let mut buffer = [0; 2048];
        let (got, peer) = echo.recv_from(&mut buffer).unwrap();
        assert_eq!(got, len);
        echo.send_to(&buffer[..got], peer).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), len);
    }
    // Nobody listens any more: an ICMP error comes back through the VIP.
    drop(echo);
    client.send_to(b"anyone?", (lab.vip(), 7)).unwrap();
    thread::sleep(Duration::from_millis(200));
    for capture in captures {
        capture.stop().assert_checksums();
    }
    daemon.stop();
}

#[test]
fn no_checksum_is_wrong_two_arm() {
    no_checksum_is_wrong(Arm::Two);
}

#[test]
fn no_checksum_is_wrong_one_arm() {
    no_checksum_is_wrong(Arm::One);
}

#[test]
fn two_workers_carry_the_same() {
    let Some(lab) = Lab::new(Arm::Two, Load::Heavy) else { return };
    let mut config = lab.config();
    config["workers"]["cpus"] = "0-1".into();
    for (index, name) in ["lan0", "wan0"].iter().enumerate() {
        let device = format!("{},qpairs=2", lab.device(index, name));
        config["interfaces"][name]["device"] = device.into();
    }
    let _nginx = Nginx::start_all(&lab);
    let daemon = Daemon::start(&lab, &config);
    let bodies = requests(&lab, 200);
    let difference = answered_by(&bodies, "rs1").abs_diff(answered_by(&bodies, "rs2"));
    assert_eq!(bodies.len(), 200);
    assert!(difference <= 2, "{difference} apart");
    let wrk = Wrk::run(&lab.client, 500, 3, &["-H", "Connection: close", &lab.url("/quiet")]);
    assert_eq!(wrk.errors, Vec::<String>::new());
    assert!(http_get(&lab.client, &lab.url("/")).starts_with("rs"));
    daemon.stop();
}
