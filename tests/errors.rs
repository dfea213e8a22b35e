//! Proves that
//! - a real server's ICMP port unreachable reaches the client through the VIP;
//! - a real server that is off the wire makes the client's connection fail with host unreachable;
//! - traceroute through the VIP shows the balancer's own address, by UDP, TCP and ICMP;
//! - a smaller MTU on either side is found: fragmentation needed is sent, and is passed on.

use std::fs;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::{
    Arm, Capture, Daemon, Lab, Load, Namespace, Nginx, connect, curl, http_get, listen, traceroute,
    wait_until,
};

#[test]
fn port_unreachable_reaches_the_client() {
    for arm in [Arm::Two, Arm::One] {
        let Some(lab) = Lab::new(arm, Load::Light) else { return };
        let mut config = lab.config();
        config["services"]["dns"] = json!({
            "vips": [format!("{}:53", lab.vip())],
            "protocol": "udp",
            "servers": [{ "address": "198.18.0.121:5353" }],
            "local_pool": "lan",
        });
        let daemon = Daemon::start(&lab, &config);
        let capture = Capture::start(&lab, &lab.client, "eth0", "icmp");
        let client = lab.client.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        client.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        client.connect((lab.vip(), 53)).unwrap();
        client.send(b"a question").unwrap();
        let error = client.recv(&mut [0; 16]).expect_err("nobody is there");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
        // It comes from the VIP and quotes what the client sent; the LIP and the server are not in it.
        let rows = capture
            .stop()
            .fields("icmp.type == 3", &["icmp.code", "ip.src", "ip.dst", "udp.dstport"]);
        let client_address = lab.client_address();
        let [row] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!(row[0], "3");
        assert_eq!(row[1], format!("{},{client_address}", lab.vip()));
        assert_eq!(row[2], format!("{client_address},{}", lab.vip()));
        assert_eq!(row[3], "53");
        daemon.stop();
    }
}

#[test]
fn a_server_off_the_wire_is_unreachable() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let mut config = lab.config();
    config["services"]["web"]["servers"] = json!([{ "address": "198.18.0.121:80" }]);
    lab.servers[0].ip(&["link", "set", "eth0", "down"]);
    let daemon = Daemon::start(&lab, &config);
    let start = Instant::now();
    let error = connect(&lab.client, &format!("{}:80", lab.vip())).expect_err("nobody is there");
    assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{error} after {:?}", start.elapsed());
    assert_ne!(daemon.counter("drop.no-neighbour"), 0);

    // Back on the wire it is served, without anybody's help.
    lab.servers[0].ip(&["link", "set", "eth0", "up"]);
    let _listener = listen(&lab.servers[0], "198.18.0.121:80");
    // The first packet only makes the balancer ask again.
    wait_until("it is served again", Duration::from_secs(20), || {
        connect(&lab.client, &format!("{}:80", lab.vip())).is_ok()
    });
    daemon.stop();
}

#[test]
fn traceroute_shows_our_own_address() {
    for arm in [Arm::Two, Arm::One] {
        let Some(lab) = Lab::new(arm, Load::Light) else { return };
        let mut config = lab.config();
        config["services"]["dns"] = json!({
            "vips": [format!("{}:53", lab.vip())],
            "protocol": "udp",
            "servers": [{ "address": "198.18.0.121:53" }],
            "local_pool": "lan",
        });
        let _nginx = Nginx::start_all(&lab);
        let daemon = Daemon::start(&lab, &config);
        let own = match arm {
            Arm::Two => "203.0.113.2",
            Arm::One => "198.18.0.1",
        };
        let source = ["-s", lab.client_address()];
        let by = |arguments: &[&str]| {
            traceroute(&lab.client, lab.vip(), &[&source[..], arguments].concat())
        };
        // To a service the balancer is a hop, and the real server's answer comes from the VIP.
        assert_eq!(by(&["-T", "-p", "80"]), [own, lab.vip()]);
        assert_eq!(by(&["-U", "-p", "53"]), [own, lab.vip()]);
        // The VIP itself is on the balancer.
        assert_eq!(by(&["-I"]), [lab.vip()]);
        daemon.stop();
    }
}

#[test]
fn a_smaller_mtu_of_ours_is_found() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let mut config = lab.config();
    config["interfaces"]["wan0"]["mtu"] = 1400.into();
    let nginx = Nginx::start_all(&lab);
    for nginx in &nginx {
        fs::write(nginx.files.join("files/1MB"), vec![0xa5; 1 << 20]).unwrap();
    }
    let daemon = Daemon::start(&lab, &config);
    let capture = Capture::start(&lab, &lab.servers[0], "eth0", "icmp");
    let size = ["-o", "/dev/null", "-w", "%{size_download}", "-m", "10"];
    let got = curl(&lab.client, &[&size[..], &[&lab.url("/files/1MB")]].concat()).ok().stdout;
    assert_eq!(got, (1 << 20).to_string());
    assert_ne!(daemon.counter("answer.icmp-error"), 0);
    let rows = capture.stop().fields("icmp.type == 3 && icmp.code == 4", &["ip.src", "icmp.mtu"]);
    let first = rows.first().expect("the server was told");
    assert!(first[0].starts_with("198.18.0.1,"), "from our own address, not a LIP's: {first:?}");
    assert_eq!(first[1], "1400");
    daemon.stop();
}

/// A client behind a router whose link to it is narrow: only the router can tell the server.
#[test]
fn a_routers_fragmentation_needed_passes_through_the_vip() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let router = &lab.client;
    let client = Namespace::create(format!("{}-behind", router.name()));
    router.link("narrow", &client, "eth0");
    router.ip(&["link", "set", "narrow", "mtu", "1300"]);
    router.ip(&["addr", "add", "192.0.2.1/24", "dev", "narrow"]);
    router.sysctl("net.ipv4.ip_forward", "1");
    client.ip(&["addr", "add", "192.0.2.7/24", "dev", "eth0"]);
    client.ip(&["route", "add", "default", "via", "192.0.2.1"]);
    let mut config = lab.config();
    config["routes"] = json!([{ "to": "192.0.2.0/24", "via": "203.0.113.100", "dev": "wan0" }]);
    let nginx = Nginx::start_all(&lab);
    for nginx in &nginx {
        fs::write(nginx.files.join("files/1MB"), vec![0xa5; 1 << 20]).unwrap();
    }
    let daemon = Daemon::start(&lab, &config);
    let capture = Capture::start(&lab, &lab.servers[0], "eth0", "icmp");
    let size = ["-o", "/dev/null", "-w", "%{size_download}", "-m", "10"];
    let got = curl(&client, &[&size[..], &[&lab.url("/files/1MB")]].concat()).ok().stdout;
    assert_eq!(got, (1 << 20).to_string());
    let captured = capture.stop();
    captured.assert_checksums();
    let rows =
        captured.fields("icmp.type == 3 && icmp.code == 4", &["ip.src", "ip.dst", "icmp.mtu"]);
    let first = rows.first().expect("the server was told");
    let lip = first[0].split(',').next().unwrap();
    assert!(lip.starts_with("198.18.0.1"), "outer source is the LIP: {first:?}");
    assert_eq!(first[1], format!("198.18.0.121,{lip}"), "and so is the inner destination");
    assert_eq!(first[2], "1300");
    assert!(http_get(&client, &lab.url("/")).starts_with("rs"));
    daemon.stop();
}
