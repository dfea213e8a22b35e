//! Proves that a LIP's port can be used again although a Linux server still has its last conn in
//! TIME_WAIT: no SYN is refused, ignored or sent twice. The server closes first, so that TIME_WAIT is
//! its own; one LIP and one server, so that the same four numbers come again.
//!
//! - clients with timestamps, more conns than there are ports;
//! - clients without timestamps: the port is taken again as long as its sequence numbers are newer;
//! - the same client port to the VIP while the conn before is closing;
//! - a conn ended by RST.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{
    Arm, Daemon, Lab, Load, Namespace, Nginx, Wrk, abort, accept_one, connect_from, listen,
};

fn one_lip_one_server(lab: &Lab) -> Value {
    let mut config = lab.config();
    config["local_address_pools"]["lan"]["addresses"] = json!(["198.18.0.10"]);
    config["services"]["web"]["servers"] = json!([{ "address": "198.18.0.121:80" }]);
    config["conntrack"]["timeouts"] = json!({ "tcp_closing": "2s", "tcp_closed": "1s" });
    config["conntrack"]["max_connections"] = 200_000.into();
    config
}

/// A TCP counter of a namespace's kernel.
fn tcp_counter(namespace: &Namespace, name: &str) -> u64 {
    let out = namespace.run("nstat", &["-asz", name]).ok().stdout;
    let line =
        out.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// More short conns than a LIP has ports; the second time round each meets a TIME_WAIT.
fn ports_come_again(timestamps: bool) {
    let Some(lab) = Lab::new(Arm::Two, Load::Heavy) else { return };
    let _nginx = Nginx::start(&lab, 0);
    // The client must not run out of ports before the LIP does.
    lab.client.sysctl("net.ipv4.ip_local_port_range", "1024 65535");
    lab.client.sysctl("net.ipv4.tcp_tw_reuse", "1");
    lab.client.sysctl("net.ipv4.tcp_timestamps", if timestamps { "1" } else { "0" });
    let daemon = Daemon::start(&lab, &one_lip_one_server(&lab));
    let start = Instant::now();
    while daemon.conns_opened() < 70_000 {
        assert!(start.elapsed() < Duration::from_secs(60), "too slow to tell");
        let arguments = ["-H", "Connection: close", &lab.url("/quiet")];
        let wrk = Wrk::run(&lab.client, 8, 4, &arguments);
        assert_eq!(wrk.errors, Vec::<String>::new());
    }
    assert_eq!(tcp_counter(&lab.client, "TcpExtTCPSynRetrans"), 0, "a SYN was not answered");
    assert_eq!(tcp_counter(&lab.servers[0], "TcpExtPAWSTimewait"), 0);
    assert_eq!(daemon.counter("drop.no-lease"), 0);
    daemon.stop();
}

#[test]
fn ports_come_again_with_timestamps() {
    ports_come_again(true);
}

#[test]
fn ports_come_again_without_timestamps() {
    ports_come_again(false);
}

/// Connects from the same port as before, as soon as the client's own kernel lets go of it.
#[track_caller]
fn again(client: &Namespace, vip: &str) -> TcpStream {
    let start = Instant::now();
    loop {
        match connect_from(client, 40_000, vip) {
            Ok(stream) => return stream,
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
                assert!(start.elapsed() < Duration::from_secs(2), "{error}");
                thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_client_port_comes_again_two_arm() {
    a_client_port_comes_again(Arm::Two);
}

#[test]
fn a_client_port_comes_again_one_arm() {
    a_client_port_comes_again(Arm::One);
}

fn a_client_port_comes_again(arm: Arm) {
    let Some(lab) = Lab::new(arm, Load::Light) else { return };
    let listener = listen(&lab.servers[0], "198.18.0.121:80");
    let daemon = Daemon::start(&lab, &one_lip_one_server(&lab));
    let vip = format!("{}:80", lab.vip());
    for round in 0..20 {
        let mut client = again(&lab.client, &vip);
        let (mut server, _) = accept_one(&listener);
        client.write_all(b"again").unwrap();
        server.read_exact(&mut [0; 5]).unwrap();
        match round % 3 {
            // The server closes first: TIME_WAIT there, and the client's port is free at once.
            0 => {
                drop(server);
                assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
                drop(client);
            }
            1 => abort(client),
            _ => {
                abort(server);
                assert!(client.read(&mut [0; 1]).is_err());
            }
        }
    }
    assert_eq!(tcp_counter(&lab.client, "TcpExtTCPSynRetrans"), 0);
    daemon.stop();
}
