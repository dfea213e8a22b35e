//! Proves of destination NAT that
//! - a port of a WAN IP leads to an inside server, which sees the client's own address, by TCP and UDP;
//! - so does a range, port by port, and a list of servers, in turn;
//! - who may not connect is dropped by name;
//! - inside hosts reach the server by the outside address, wherever it stands, and so it works with one arm.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use crate::common::{
    Arm, Capture, Daemon, Gateway, Load, Namespace, OUTSIDE, accept_one, connect, exchange, listen,
    udp, wait_until,
};

/// Connects, has something answered, and says whom the server saw.
#[track_caller]
fn talk(client: &Namespace, address: &str, server: &TcpListener) -> SocketAddr {
    let mut client =
        connect(client, address).unwrap_or_else(|error| panic!("to {address}: {error}"));
    let (mut server, peer) = accept_one(server);
    assert_eq!(client.peer_addr().unwrap().to_string(), address);
    let mut got = [0; 8];
    server.write_all(b"SSH-2.0-").unwrap();
    client.read_exact(&mut got).unwrap();
    client.write_all(&got).unwrap();
    server.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"SSH-2.0-");
    peer
}

#[test]
fn a_port_of_ours_is_an_inside_servers() {
    let Some(gateway) = Gateway::new(Arm::Two, Load::Light) else { return };
    let (lab, outside) = (&gateway.lab, &gateway.lab.client);
    let daemon = Daemon::start_with(lab, &gateway.config());
    let inner = Capture::start(lab, &gateway.branch, "eth0", "tcp");
    let outer = Capture::start(lab, outside, "eth0", "ip");
    let ssh = listen(&gateway.branch, "172.16.102.6:22");
    assert_eq!(talk(outside, "203.0.113.20:10106", &ssh).ip().to_string(), OUTSIDE[0]);
    // The server itself goes out as any other inside host.
    let web = listen(outside, "192.0.2.81:80");
    let seen = talk(&gateway.branch, "192.0.2.81:80", &web).ip().to_string();
    assert!(gateway.is_wan_address(&seen), "{seen}");
    let (inner, outer) = (inner.stop(), outer.stop());
    inner.assert_checksums();
    outer.assert_checksums();
    gateway.assert_nothing_inside(&outer);
    let rule = daemon.ctl.json(&["dnat", "show", "ssh"]);
    assert_eq!(rule["traffic"]["connections"], 1, "{rule}");
    daemon.stop();
}

#[test]
fn ranges_and_several_servers() {
    let Some(gateway) = Gateway::new(Arm::Two, Load::Light) else { return };
    let (lab, outside) = (&gateway.lab, &gateway.lab.client);
    let daemon = Daemon::start_with(lab, &gateway.config());
    daemon.ctl.run(&[
        "dnat",
        "add",
        "media",
        "--on",
        "203.0.113.20:6000-6099",
        "--protocol",
        "udp",
        "--to",
        "10.0.0.5:7000-7099",
    ]);
    for (on, to) in [(6000, 7000), (6042, 7042), (6099, 7099)] {
        let server = udp(&lab.servers[0], &format!("10.0.0.5:{to}"));
        let client = udp(outside, "192.0.2.80:0");
        let on = format!("203.0.113.20:{on}");
        let (seen, answerer) = exchange(&client, &server, &on);
        assert_eq!(seen, client.local_addr().unwrap());
        assert_eq!(answerer.to_string(), on);
    }
    let client = udp(outside, "192.0.2.80:0");
    client.send_to(b"beyond", "203.0.113.20:6100").unwrap();
    wait_until("no port beyond the range", Duration::from_secs(3), || {
        daemon.counter("drop.no-mapping") == 1
    });

    daemon.ctl.run(&[
        "dnat",
        "add",
        "web",
        "--on",
        "203.0.113.21:80",
        "--protocol",
        "tcp",
        "--to",
        "10.0.0.5:80",
        "--to",
        "10.0.0.6:80",
        "--scheduler",
        "rr",
    ]);
    let servers = [listen(&lab.servers[0], "10.0.0.5:80"), listen(&lab.servers[1], "10.0.0.6:80")];
    for server in [&servers[0], &servers[1], &servers[0], &servers[1]] {
        assert_eq!(talk(outside, "203.0.113.21:80", server).ip().to_string(), OUTSIDE[0]);
    }
    daemon.stop();
}

#[test]
fn who_may_not_connect_is_dropped() {
    let Some(gateway) = Gateway::new(Arm::Two, Load::Light) else { return };
    let (lab, outside) = (&gateway.lab, &gateway.lab.client);
    let daemon = Daemon::start_with(lab, &gateway.config());
    daemon.ctl.run(&[
        "dnat",
        "add",
        "syslog",
        "--on",
        "203.0.113.20:514",
        "--protocol",
        "udp",
        "--to",
        "10.0.0.5:514",
        "--source",
        "192.0.2.80",
        "--in-dev",
        "wan0",
    ]);
    let server = udp(&lab.servers[0], "10.0.0.5:514");
    let friend = udp(outside, "192.0.2.80:0");
    exchange(&friend, &server, "203.0.113.20:514");
    let stranger = udp(outside, "192.0.2.81:0");
    stranger.send_to(b"let me in", "203.0.113.20:514").unwrap();
    wait_until("it is dropped", Duration::from_secs(3), || daemon.counter("drop.filtered") == 1);
    server.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(server.recv(&mut [0; 16]).is_err());
    exchange(&friend, &server, "203.0.113.20:514");
    daemon.stop();
}

#[test]
fn inside_hosts_come_in_by_the_outside_address() {
    let Some(gateway) = Gateway::new(Arm::Two, Load::Light) else { return };
    let lab = &gateway.lab;
    let daemon = Daemon::start_with(lab, &gateway.config());
    daemon.ctl.run(&[
        "dnat",
        "add",
        "near",
        "--on",
        "203.0.113.20:80",
        "--protocol",
        "tcp",
        "--to",
        "10.0.0.6:80",
    ]);
    // On the client's own link the server sees us: it would answer its neighbour directly.
    let near = listen(&lab.servers[1], "10.0.0.6:80");
    let seen = talk(&lab.servers[0], "203.0.113.20:80", &near).ip().to_string();
    assert_eq!(seen, "203.0.113.20");
    // So would the router that another server is behind.
    let far = listen(&gateway.branch, "172.16.102.6:22");
    let seen = talk(&lab.servers[0], "203.0.113.20:10106", &far).ip().to_string();
    assert_eq!(seen, "203.0.113.20");
    // A server may come in by its own outside address.
    let seen = talk(&lab.servers[1], "203.0.113.20:80", &near).ip().to_string();
    assert_eq!(seen, "203.0.113.20");
    assert_eq!(daemon.counter("drop.no-mapping"), 0);
    daemon.stop();
}

#[test]
fn forwards_work_with_one_arm() {
    let Some(gateway) = Gateway::new(Arm::One, Load::Light) else { return };
    let lab = &gateway.lab;
    let daemon = Daemon::start_with(lab, &gateway.config());
    daemon.ctl.run(&[
        "dnat",
        "add",
        "ssh",
        "--on",
        "192.168.1.200:10106",
        "--protocol",
        "tcp",
        "--to",
        "192.168.1.204:22",
    ]);
    let ssh = listen(&lab.servers[0], "192.168.1.204:22");
    let seen = talk(&lab.client, "192.168.1.200:10106", &ssh).ip().to_string();
    assert_eq!(seen, OUTSIDE[0], "the server answers by us: it may see the client");
    let seen = talk(&lab.servers[1], "192.168.1.200:10106", &ssh).ip().to_string();
    assert_eq!(seen, "192.168.1.200", "a neighbour would be answered directly");
    daemon.stop();
}
