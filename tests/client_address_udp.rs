//! Proves of `client_address: option` and `dptoa run --udp` that
//! - an unmodified dnsmasq logs the client, and a program on a socket of either family sees it and answers it,
//!   also behind a service of one packet; the LIP when it is stopped, and no datagram is lost then;
//! - a datagram too large for the option goes without, and its sender is known still;
//! - neither a client of the VIP nor one who comes by himself can claim another's address;
//! - who changes from the VIP to the server itself is answered where he is, and who has no listener is told so.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::common::{Agent, Arm, Daemon, Lab, Load, Namespace, Running, Who, udp, wait_until};

const UDP: &[&str] = &["--balancer", "198.18.0.10-198.18.0.13", "--udp"];
const SERVER: &str = "198.18.0.121";

fn services(lab: &Lab, l4_ports: &[u16]) -> serde_json::Value {
    let mut config = lab.config();
    config["services"] = json!({});
    for l4_port in l4_ports {
        for one_packet in [false, true] {
            let vport = if one_packet { l4_port + 1000 } else { *l4_port };
            config["services"][format!("s{vport}")] = json!({
                "vips": [format!("{}:{vport}", lab.vip())],
                "protocol": "udp",
                "client_address": "option",
                "one_packet": one_packet,
                "servers": [{ "address": format!("{SERVER}:{l4_port}") }],
                "local_pool": "lan",
            });
        }
    }
    config
}

/// Sends a datagram of a length and returns the answer's words behind "is".
#[track_caller]
fn ask(socket: &UdpSocket, to: &str, len: usize) -> String {
    socket.send_to(&vec![b'?'; len], to).unwrap();
    let mut buffer = [0; 2048];
    let (len, from) = socket.recv_from(&mut buffer).expect("no answer");
    assert_eq!(from.to_string(), to, "the answer comes from where the question went");
    let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
    text.split_once("remote_port is ").expect("an answer").1.to_owned()
}

/// `text`, or the same as an IPv6 socket says it.
fn says(l4_port: u16, text: &str) -> String {
    if l4_port == 82 { format!("::ffff:{text}") } else { text.to_owned() }
}

#[test]
fn a_program_sees_who_sent_a_datagram_and_answers_him() {
    for arm in [Arm::Two, Arm::One] {
        let Some(lab) = Lab::new(arm, Load::Light) else { return };
        let mut agent = Agent::new(&lab);
        let _python = Who::udp(&lab, &lab.servers[0], &["v4", "81", "v6", "82"]);
        let daemon = Daemon::start(&lab, &services(&lab, &[81, 82]));
        agent.start(UDP);
        let client = udp(&lab.client, &format!("{}:0", lab.client_address()));
        let own = client.local_addr().unwrap().to_string();
        for l4_port in [81, 82] {
            for vport in [l4_port, l4_port + 1000] {
                let to = format!("{}:{vport}", lab.vip());
                // 1500 bytes with the headers: no room for the option from 1465 on. By one packet, each
                // has a port of the LIP's own, of which nothing is known then.
                for len in [1, 1464, 1472].into_iter().filter(|len| *len < 1465 || vport < 1000) {
                    assert_eq!(ask(&client, &to, len), says(l4_port, &own), "{vport} {len}");
                }
            }
        }
        assert_eq!(daemon.counter("toa.left-out"), 2);
        assert_eq!(daemon.counter("toa.inserted"), 8);
        assert_eq!(agent.counter("udp-learned"), 8);
        assert_eq!(agent.counter("udp-answered"), 10);
        assert_eq!(agent.counter("udp-replied"), 10);
        // By the second VIP, and back by the first: the same client of the same socket by another LIP's port.
        assert!(agent.counter("udp-moved") >= 2);

        // What is known stays known over a crash.
        agent.kill();
        agent.start(UDP);
        let to = format!("{}:81", lab.vip());
        assert_eq!(ask(&client, &to, 1472), own);

        // Without dptoa nothing is lost; the sender is the LIP.
        agent.stop();
        for l4_port in [81, 82] {
            let said = ask(&client, &format!("{}:{l4_port}", lab.vip()), 1);
            assert!(said.contains("198.18.0.1"), "stopped: {said}");
        }
        daemon.stop();
    }
}

/// `dnsmasq` that answers for one name, and logs who asks.
fn dnsmasq(lab: &Lab, server: &Namespace) -> Running {
    let mut command = server.command("dnsmasq");
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file="]);
    command.args(["--no-resolv", "--no-hosts", "--address=/example.test/192.0.2.55"]);
    command.args(["--log-queries", "--log-facility=-"]);
    let mut process = Running::start(&mut command, &lab.dir, "dnsmasq");
    process.wait_for_log("started", Duration::from_secs(10));
    process
}

#[test]
fn dnsmasq_logs_the_client() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let mut agent = Agent::new(&lab);
    let dnsmasq = dnsmasq(&lab, &lab.servers[0]);
    let daemon = Daemon::start(&lab, &services(&lab, &[53]));
    let vip = format!("@{}", lab.vip());
    let dig = |l4_port: &str| {
        let words = ["+short", "+tries=1", "+time=5", "-p", l4_port, &vip, "example.test"];
        lab.client.run("dig", &words).ok().stdout.trim().to_owned()
    };
    let logged = |who: &str| {
        let line = format!("query[A] example.test from {who}");
        wait_until(&line, Duration::from_secs(20), || dnsmasq.log().contains(&line));
    };
    // A server without an agent gets the option and takes no notice of it.
    assert_eq!(dig("53"), "192.0.2.55");
    logged("198.18.0.1");
    assert!(!dnsmasq.log().contains(lab.client_address()));
    agent.start(UDP);
    for vport in ["53", "1053"] {
        assert_eq!(dig(vport), "192.0.2.55");
        logged(lab.client_address());
    }
    agent.stop();
    daemon.stop();
}

/// Sends from a port of a namespace, 0 for any, with IP option 31 for 192.0.2.7, and prints the answer.
#[track_caller]
fn forge(namespace: &Namespace, l4_port: u16, to: &str) -> String {
    let script = "import socket, sys\n\
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
        s.settimeout(5)\n\
        s.bind(('0.0.0.0', int(sys.argv[3])))\n\
        s.setsockopt(socket.IPPROTO_IP, 4, bytes([31, 8, 1, 1, 192, 0, 2, 7]))\n\
        s.sendto(b'?', (sys.argv[1], int(sys.argv[2])))\n\
        print(s.recv(200).decode().split()[-1], s.getsockname()[1])";
    let (address, to) = to.split_once(':').unwrap();
    let words = ["-c", script, address, to, &l4_port.to_string()];
    namespace.run("python3", &words).ok().stdout.trim_end().to_owned()
}

#[test]
fn nobody_claims_anothers_address() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let mut agent = Agent::new(&lab);
    let _python = Who::udp(&lab, &lab.servers[0], &["v4", "81"]);
    let daemon = Daemon::start(&lab, &services(&lab, &[81]));
    agent.start(UDP);
    for (namespace, own, to) in [
        (&lab.client, lab.client_address(), format!("{}:81", lab.vip())),
        (&lab.servers[1], "198.18.0.122", format!("{SERVER}:81")),
    ] {
        let said = forge(namespace, 0, &to);
        let (who, l4_port) = said.split_once(' ').unwrap();
        assert_eq!(who, format!("{own}:{l4_port}"));
    }
    assert_eq!(agent.counter("udp-learned"), 1);
    daemon.stop();
}

/// What it has said while it was one does not stay, either.
#[test]
fn who_was_a_balancer_speaks_for_nobody() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let mut agent = Agent::new(&lab);
    let _python = Who::udp(&lab, &lab.servers[0], &["v4", "81"]);
    let (file, former) = (lab.path("balancers"), &lab.servers[1]);
    std::fs::write(&file, "198.18.0.122\n").unwrap();
    agent.start(&["--balancer-file", file.to_str().unwrap(), "--udp"]);
    let to = format!("{SERVER}:81");
    assert_eq!(forge(former, 4321, &to), "192.0.2.7:257 4321");
    std::fs::write(&file, "198.18.0.10\n").unwrap();
    agent.start_anew();
    assert_eq!(forge(former, 4321, &to), "198.18.0.122:4321 4321");
}

#[test]
fn a_client_is_answered_where_it_comes_from() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let mut agent = Agent::new(&lab);
    let _python = Who::udp(&lab, &lab.servers[0], &["v4", "81"]);
    // The other server is the client here: it reaches the VIP by the balancer, and the server by itself.
    let client = &lab.servers[1];
    client.ip(&["route", "add", lab.vip(), "via", "198.18.0.1"]);
    let mut config = services(&lab, &[81]);
    // One that nobody serves, with the option on.
    config["services"]["nobody"] = config["services"]["s81"].clone();
    config["services"]["nobody"]["vips"] = json!([format!("{}:9", lab.vip())]);
    config["services"]["nobody"]["servers"] = json!([{ "address": format!("{SERVER}:9") }]);
    let daemon = Daemon::start(&lab, &config);
    agent.start(UDP);
    let socket = udp(client, "198.18.0.122:4444");
    for to in [format!("{}:81", lab.vip()), format!("{SERVER}:81"), format!("{}:81", lab.vip())] {
        assert_eq!(ask(&socket, &to, 1), "198.18.0.122:4444", "{to}");
    }

    let client = udp(&lab.client, "203.0.113.100:0");
    client.connect((lab.vip(), 9)).unwrap();
    client.send(b"anybody?").unwrap();
    let error = client.recv(&mut [0; 16]).expect_err("nobody is there");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    agent.process().signal(Signal::TERM);
    daemon.stop();
}
