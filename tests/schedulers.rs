//! Proves by real requests that
//! - wrr splits by weight exactly, and a weight of 0 gets nothing;
//! - a change of weight takes effect with the next connection;
//! - sh, mh and conhash send one client to one server, and the next client may go to another;
//! - persistence keeps a client's prefix on its server until it times out;
//! - one-packet scheduling sends each datagram of one socket to the next server;
//! - a server's connection limit is kept, and the rest goes to the others.

use std::net::UdpSocket;
use std::time::Duration;

use serde_json::json;

use crate::common::{Arm, Daemon, Lab, Load, Nginx, accept_one, connect, curl, listen, wait_until};

/// How many of `count` requests each of the two servers answered.
fn split(lab: &Lab, count: usize, source: &str) -> (usize, usize) {
    let url = lab.url(&format!("/?[1-{count}]"));
    let arguments = ["-H", "Connection: close", "--interface", source, &url];
    let out = curl(&lab.client, &arguments).ok().stdout;
    let of = |name: &str| out.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!(of("rs1") + of("rs2"), count);
    (of("rs1"), of("rs2"))
}

#[test]
fn weights_are_exact_and_change_at_once() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let _nginx = Nginx::start_all(&lab);
    let mut config = lab.config();
    config["services"]["web"]["scheduler"] = "wrr".into();
    config["services"]["web"]["servers"][0]["weight"] = 3.into();
    let daemon = Daemon::start(&lab, &config);
    assert_eq!(split(&lab, 80, "203.0.113.100"), (60, 20));
    daemon.ctl.run(&["server", "set", "web", "198.18.0.121:80", "--weight", "0"]);
    assert_eq!(split(&lab, 10, "203.0.113.100"), (0, 10));
    daemon.ctl.run(&["server", "set", "web", "198.18.0.121:80", "--weight", "4"]);
    assert_eq!(split(&lab, 50, "203.0.113.100"), (40, 10));
    daemon.stop();
}

#[test]
fn hashes_keep_a_client_on_one_server() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let _nginx = Nginx::start_all(&lab);
    let sources: Vec<String> = (101..125).map(|host| format!("203.0.113.{host}")).collect();
    for source in &sources {
        lab.client.ip(&["addr", "add", &format!("{source}/24"), "dev", "eth0"]);
    }
    let daemon = Daemon::start(&lab, &lab.config());
    for scheduler in ["sh", "mh", "conhash"] {
        daemon.ctl.run(&["service", "set", "web", "--scheduler", scheduler]);
        let mut first = 0;
        for source in &sources {
            match split(&lab, 3, source) {
                (3, 0) => first += 1,
                (0, 3) => {}
                both => panic!("{scheduler}: {source} went to {both:?}"),
            }
        }
        assert!((1..sources.len()).contains(&first), "{scheduler}: all clients to one server");
    }
    daemon.stop();
}

#[test]
fn persistence_lasts_for_its_time() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let _nginx = Nginx::start_all(&lab);
    lab.client.ip(&["addr", "add", "203.0.113.101/24", "dev", "eth0"]);
    lab.client.ip(&["addr", "add", "203.0.113.201/24", "dev", "eth0"]);
    let mut config = lab.config();
    config["services"]["web"]["persistence"] = json!({ "timeout": "2s", "prefix": 26 });
    config["conntrack"]["timeouts"] = json!({ "tcp_closed": "100ms", "tcp_closing": "100ms" });
    let daemon = Daemon::start(&lab, &config);
    // 100 and 101 are of one /26; 201 is of another.
    assert_eq!(split(&lab, 5, "203.0.113.100"), (5, 0));
    assert_eq!(split(&lab, 5, "203.0.113.101"), (5, 0));
    assert_eq!(split(&lab, 5, "203.0.113.201"), (0, 5));
    std::thread::sleep(Duration::from_secs(4));
    // Round robin goes on where it was: the first server is next, whoever asks.
    assert_eq!(split(&lab, 5, "203.0.113.201"), (5, 0));
    daemon.stop();
}

#[test]
fn each_datagram_goes_to_the_next_server() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let mut config = lab.config();
    config["services"]["dns"] = json!({
        "vips": [format!("{}:53", lab.vip())],
        "protocol": "udp",
        "scheduler": "rr",
        "one_packet": true,
        "servers": [{ "address": "198.18.0.121:53" }, { "address": "198.18.0.122:53" }],
        "local_pool": "lan",
    });
    let daemon = Daemon::start(&lab, &config);
    let servers = [0, 1].map(|index| {
        let address = format!("{}:53", lab.server_address(index));
        let socket = lab.servers[index].enter(|| UdpSocket::bind(address).unwrap());
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket
    });
    let client = lab.client.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    client.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    client.connect((lab.vip(), 53)).unwrap();
    for round in 0..10_u8 {
        let server = &servers[usize::from(round % 2)];
        client.send(&[round]).unwrap();
        let mut buffer = [0; 8];
        let (_, lip) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(buffer[0], round);
        server.send_to(&[round + 100], lip).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 1);
        assert_eq!(buffer[0], round + 100);
    }
    daemon.stop();
}

#[test]
fn a_servers_limit_is_kept() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let mut config = lab.config();
    config["services"]["web"]["servers"][0]["limits"] = json!({ "upper": 2, "lower": 1 });
    config["conntrack"]["timeouts"] = json!({ "tcp_closed": "200ms", "tcp_closing": "500ms" });
    let listeners =
        [0, 1].map(|n| listen(&lab.servers[n], &format!("{}:80", lab.server_address(n))));
    let daemon = Daemon::start(&lab, &config);
    let vip = format!("{}:80", lab.vip());
    let open = |server: usize| {
        let client = connect(&lab.client, &vip).unwrap();
        (client, accept_one(&listeners[server]).0)
    };
    let mut first: Vec<_> = vec![open(0)];
    let mut second = vec![open(1)];
    first.push(open(0));
    // Full: all that follow go to the other, and they still do when one conn has ended.
    for _ in 0..5 {
        second.push(open(1));
    }
    first.pop();
    wait_until("one conn is forgotten", Duration::from_secs(4), || daemon.conns() == 7);
    second.push(open(1));
    // What the daemon says of its conns is a moment old.
    wait_until("the new one is counted", Duration::from_secs(4), || daemon.conns() == 8);
    // Below the lower threshold it takes conns again: one of the next two, whoever's turn it is.
    first.pop();
    wait_until("both are forgotten", Duration::from_secs(4), || daemon.conns() == 7);
    let clients = [(); 2].map(|()| connect(&lab.client, &vip).unwrap());
    let taken = accept_one(&listeners[0]);
    drop((first, second, clients, taken));
    daemon.stop();
}
