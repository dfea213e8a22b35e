//! Proves of `dptoa` on a real server that
//! - unmodified nginx, Python, Node and Caddy (in Go) see the client's address behind FullNAT, by accept() and by
//!   getpeername(), and the LIP only when it is stopped; each of thousands of connections its own;
//! - who is not a balancer cannot forge an address, neither by an option nor by data that look like one;
//! - an IPv6 client (NAT64) is seen on sockets of both families, and by DPVS's socket option on IPv4 ones;
//! - killed, started anew or stopped and started again, it loses no client that it knew;
//! - MPTCP listeners see plain and MPTCP clients; syncookies change nothing;
//! - it runs with three capabilities, and what it cannot do it says, with exit codes.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;

use serde_json::json;

use crate::common::{
    Agent, Arm, Daemon, Lab, Load, Namespace, Nginx, RawTcp, Who, connect, dptoa, run,
};

const LIPS: &[&str] = &["--balancer", "198.18.0.10-198.18.0.13"];
const SERVER: &str = "198.18.0.121";
/// Who stands for a balancer, or for one who is none, where a test makes packets by hand.
const SENDER: &str = "198.18.0.122";

/// A lab, and servers of its first real server behind the VIP at these ports.
fn services(lab: &Lab, l4_ports: &[u16]) -> serde_json::Value {
    let mut config = lab.config();
    config["services"] = json!({});
    for l4_port in l4_ports {
        config["services"][format!("s{l4_port}")] = json!({
            "vips": [format!("{}:{l4_port}", lab.vip())],
            "protocol": "tcp",
            "client_address": "toa",
            "servers": [{ "address": format!("{SERVER}:{l4_port}") }],
            "local_pool": "lan",
        });
    }
    config
}

/// A connection that can ask more than once who it is. nginx and Node take the question for HTTP.
pub struct Asker(BufReader<TcpStream>);

impl Asker {
    #[track_caller]
    pub fn connect(namespace: &Namespace, address: &str) -> Self {
        Self(BufReader::new(connect(namespace, address).unwrap()))
    }

    /// The client's port.
    pub fn l4_port(&self) -> u16 {
        self.0.get_ref().local_addr().unwrap().port()
    }

    /// The next line that answers the question, without its beginning.
    #[track_caller]
    pub fn answer(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.0.read_line(&mut line).unwrap(), 0, "no answer");
            if let Some((_, who)) = line.split_once("Your remote_addr and remote_port is ") {
                return who.trim_end().to_owned();
            }
        }
    }

    /// Ends it with RST instead of FIN.
    pub fn abort(self) {
        crate::common::abort(self.0.into_inner());
    }

    #[track_caller]
    pub fn ask(&mut self) -> String {
        self.0.get_mut().write_all(b"GET /who HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        self.answer()
    }
}

pub fn python_says(who: &str) -> String {
    format!("{who} getpeername {who} toa -:-")
}

#[test]
fn unmodified_servers_see_the_client_and_the_lip_when_it_is_stopped() {
    for arm in [Arm::Two, Arm::One] {
        let Some(lab) = Lab::new(arm, Load::Light) else { return };
        let mut agent = Agent::new(&lab);
        let server = &lab.servers[0];
        let _nginx = Nginx::start(&lab, 0);
        let _python = Who::python(&lab, server, &["v4", "81", "v6", "82", "mptcp", "83"]);
        let _node = Who::node(&lab, server, "84");
        let _caddy = Who::caddy(&lab, server, "85");
        let daemon = Daemon::start(&lab, &services(&lab, &[80, 81, 82, 83, 84, 85]));
        let at = |l4_port: u16| format!("{}:{l4_port}", lab.vip());
        agent.start(LIPS);
        for l4_port in [80, 81, 82, 83, 84, 85] {
            let mut asker = Asker::connect(&lab.client, &at(l4_port));
            let v4 = format!("{}:{}", lab.client_address(), asker.l4_port());
            let v6 = format!("::ffff:{v4}");
            let (expected, said) = match l4_port {
                80 | 85 => (v4, asker.ask()),
                81 => (python_says(&v4), asker.answer()),
                84 => (v6, asker.ask()),
                _ => (python_says(&v6), asker.answer()),
            };
            assert_eq!(said, expected, "port {l4_port}");
        }
        assert_eq!(agent.counter("learned"), 6);
        assert_eq!(agent.counter("no-option"), 0);
        assert!(agent.counter("answered") >= 6);
        assert_eq!(agent.status()["balancers"], json!(["198.18.0.10/31", "198.18.0.12/31"]));

        agent.stop();
        for l4_port in [80, 84, 85] {
            let said = Asker::connect(&lab.client, &at(l4_port)).ask();
            assert!(said.contains("198.18.0.1"), "port {l4_port} without dptoa: {said}");
        }
        daemon.stop();
    }
}

#[test]
fn each_of_thousands_of_connections_has_its_own_client() {
    /// Enough that ports of clients and of the LIPs mix well.
    const CONNECTIONS: usize = 4000;
    const THREADS: usize = 4;
    let count: usize = std::env::var("DPNAT_CLIENTS").map_or(CONNECTIONS, |n| n.parse().unwrap());
    let Some(lab) = Lab::new(Arm::Two, Load::Heavy) else { return };
    let mut agent = Agent::new(&lab);
    let _python = Who::python(&lab, &lab.servers[0], &["v4", "80"]);
    let daemon = Daemon::start(&lab, &services(&lab, &[80]));
    agent.start(LIPS);
    let (lab, address) = (&lab, format!("{}:80", lab.vip()));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..count / THREADS {
                    let mut asker = Asker::connect(&lab.client, &address);
                    let who = format!("{}:{}", lab.client_address(), asker.l4_port());
                    assert_eq!(asker.answer(), python_says(&who));
                    // By RST, so that no port of the client rests in TIME_WAIT.
                    asker.abort();
                }
            });
        }
    });
    let counters =
        ["learned", "no-option", "untrusted", "no-memory"].map(|name| agent.counter(name));
    assert_eq!(counters, [count as u64, 0, 0, 0]);
    assert!(daemon.counter("toa.inserted") >= count as u64);
    assert_eq!(daemon.counter("toa.left-out"), 0);
    daemon.stop();
}

/// Option 254 of an IPv4 client.
const OPTION: [u8; 8] = [254, 8, 0x12, 0x34, 192, 0, 2, 7];
const OPTION_SAYS: &str = "192.0.2.7:4660";

/// Option 254 of an IPv6 client: 2001:db8::7.
const OPTION6: [u8; 20] =
    [254, 20, 0x12, 0x34, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
const OPTION6_SAYS: &str = "2001:db8::7:4660";

/// What Python says of a handshake made by hand, from a sender's port to one of the server.
#[track_caller]
fn handshake(lab: &Lab, from: &str, to: &str, options: &[u8], data: &[u8]) -> String {
    let mut tcp = RawTcp::open(&lab.servers[1], from, to);
    tcp.ack(options, data);
    let line = tcp.read();
    let (_, said) = line.trim_end().split_once("remote_port is ").expect("an answer");
    said.to_owned()
}

#[test]
fn who_is_no_balancer_cannot_forge() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let mut agent = Agent::new(&lab);
    let _python = Who::python(&lab, &lab.servers[0], &["v4", "81", "v6", "82"]);
    RawTcp::silence(&lab.servers[1]);
    let to = |l4_port: u16| format!("{SERVER}:{l4_port}");
    let from = |l4_port: u16| format!("{SENDER}:{l4_port}");

    agent.start(LIPS);
    for (l4_port, data) in [(1001, &b""[..]), (1002, b"data")] {
        let said = handshake(&lab, &from(l4_port), &to(81), &OPTION, data);
        assert_eq!(said, python_says(&from(l4_port)));
        let said = handshake(&lab, &from(l4_port), &to(82), &OPTION6, data);
        assert_eq!(said, python_says(&format!("::ffff:{SENDER}:{l4_port}")));
    }
    assert_eq!((agent.counter("untrusted"), agent.counter("learned")), (4, 0));
    agent.stop();

    // From a balancer the same is believed, but only what is an option, and the first one.
    agent.start(&["--balancer", &format!("{SENDER}/32")]);
    let said = handshake(&lab, &from(2001), &to(81), &OPTION, b"");
    assert_eq!(said, python_says(OPTION_SAYS));
    let said = handshake(&lab, &from(2002), &to(81), &[], &OPTION);
    assert_eq!(said, python_says(&from(2002)), "data are no option");
    let said = handshake(&lab, &from(2003), &to(81), &[0, 0, 0, 0], &OPTION);
    assert_eq!(said, python_says(&from(2003)), "nor are data behind the end of the options");
    let second = [254, 8, 0, 99, 198, 51, 100, 1];
    let said = handshake(&lab, &from(2004), &to(81), &[OPTION, second].concat(), b"");
    assert_eq!(said, python_says(OPTION_SAYS), "the balancer's is the first");
    let said = handshake(&lab, &from(2005), &to(81), &[254, 9, 1, 1, 1, 1, 1, 1], b"");
    assert_eq!(said, python_says(&from(2005)), "an option that overruns");
    assert_eq!(agent.counter("no-option"), 3);

    lab.servers[0].sysctl("net.ipv4.tcp_syncookies", "2");
    let said = handshake(&lab, &from(2006), &to(81), &OPTION, b"");
    assert_eq!(said, python_says(OPTION_SAYS), "with syncookies");
}

#[test]
fn an_ipv6_client_is_seen_on_sockets_of_both_families() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let mut agent = Agent::new(&lab);
    for (index, server) in lab.servers.iter().enumerate() {
        server.sysctl("net.ipv6.conf.eth0.disable_ipv6", "0");
        let address = format!("2001:db8:1::{}/64", 121 + index);
        server.ip(&["addr", "add", &address, "dev", "eth0", "nodad"]);
    }
    let _python = Who::python(&lab, &lab.servers[0], &["v4", "81", "v6", "82", "mptcp", "83"]);
    RawTcp::silence(&lab.servers[1]);
    let from = format!("{SENDER}:1001");
    agent.start(&["--balancer", SENDER, "--balancer", "2001:db8:1::/64", "--getsockopt"]);
    assert!(agent.status()["hooks"].as_array().unwrap().contains(&json!("getsockopt")));

    // NAT64: IPv4 between balancer and server.
    for l4_port in [82, 83] {
        let said = handshake(&lab, &from, &format!("{SERVER}:{l4_port}"), &OPTION6, b"");
        assert_eq!(said, python_says(OPTION6_SAYS), "port {l4_port}");
    }
    let said = handshake(&lab, &from, &format!("{SERVER}:81"), &OPTION6, b"");
    assert_eq!(said, format!("{from} getpeername {from} toa {OPTION6_SAYS}"));
    assert_eq!(agent.counter("answered-getsockopt"), 1);
    assert_eq!(agent.counter("ipv6-on-ipv4-socket"), 2);

    // IPv6 between them: an IPv6 client, and an IPv4 one (NAT46).
    let (from, to) = ("[2001:db8:1::122]:1001", "[2001:db8:1::121]:82");
    assert_eq!(handshake(&lab, from, to, &OPTION6, b""), python_says(OPTION6_SAYS));
    let from = "[2001:db8:1::122]:1002";
    let said = handshake(&lab, from, to, &OPTION, b"");
    assert_eq!(said, python_says(&format!("::ffff:{OPTION_SAYS}")));

    // Without the hook the option is the kernel's to refuse.
    agent.stop();
    agent.start(&["--balancer", SENDER]);
    let from = format!("{SENDER}:1003");
    let said = handshake(&lab, &from, &format!("{SERVER}:81"), &OPTION6, b"");
    assert_eq!(said, python_says(&from));
}

#[test]
fn a_real_mptcp_connection_has_its_client() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let mut agent = Agent::new(&lab);
    let _python = Who::python(&lab, &lab.servers[0], &["mptcp", "83", "v6", "82"]);
    let daemon = Daemon::start(&lab, &services(&lab, &[82, 83]));
    agent.start(LIPS);
    let script = "import socket, sys\n\
        s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_MPTCP)\n\
        s.connect((sys.argv[1], int(sys.argv[2])))\n\
        print(s.getsockname()[1], s.recv(200).decode())";
    for l4_port in ["82", "83"] {
        let said = lab.client.run("python3", &["-c", script, lab.vip(), l4_port]).ok().stdout;
        let (own, said) = said.trim_end().split_once(' ').unwrap();
        let who = format!("::ffff:{}:{own}", lab.client_address());
        assert!(said.ends_with(&python_says(&who)), "port {l4_port}: {said}");
    }
    daemon.stop();
}

#[test]
fn a_known_client_stays_known() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let mut agent = Agent::new(&lab);
    let _python = Who::python(&lab, &lab.servers[0], &["v4", "80"]);
    let daemon = Daemon::start(&lab, &services(&lab, &[80]));
    let address = format!("{}:80", lab.vip());
    let file = lab.path("balancers");
    fs::write(&file, "198.18.0.10-198.18.0.13 # the pool lan\n").unwrap();
    let from_file = ["--balancer-file", file.to_str().unwrap()];
    agent.start(&from_file);

    let mut known = Asker::connect(&lab.client, &address);
    let who = format!("{}:{}", lab.client_address(), known.l4_port());
    let expected = python_says(&who);
    let still = |known: &mut Asker, when: &str| assert_eq!(known.ask(), expected, "{when}");
    let fresh = |when: &str| {
        let mut asker = Asker::connect(&lab.client, &address);
        let who = format!("{}:{}", lab.client_address(), asker.l4_port());
        assert_eq!(asker.answer(), python_says(&who), "{when}");
    };
    assert_eq!(known.answer(), expected);

    agent.kill();
    still(&mut known, "killed");
    fresh("killed");
    assert_eq!(agent.status()["running"], false);
    agent.start(&from_file);
    still(&mut known, "started after it was killed");
    fresh("started after it was killed");
    assert_eq!(agent.status()["running"], true);

    agent.start_anew();
    still(&mut known, "started anew");
    fresh("started anew");

    // A file with an error changes nothing, one without believes others.
    fs::write(&file, "198.18.0.10-198.18.0.13\nlan0\n").unwrap();
    agent.process().signal(rustix::process::Signal::HUP);
    agent
        .process()
        .wait_for_log("balancers:2: lan0 is no address", std::time::Duration::from_secs(5));
    fresh("with an error in its file");
    fs::write(&file, "192.0.2.1\n").unwrap();
    agent.start_anew();
    assert_eq!(agent.status()["balancers"], json!(["192.0.2.1/32"]));
    still(&mut known, "believing others only");
    let said = Asker::connect(&lab.client, &address).answer();
    assert!(said.starts_with("198.18.0.1"), "of whom it does not believe: {said}");

    fs::write(&file, "198.18.0.0/24\n").unwrap();
    agent.stop();
    let said = known.ask();
    let (_, peer) = said.split_once(" getpeername ").unwrap();
    assert!(peer.starts_with("198.18.0.1"), "stopped: {said}");
    assert_eq!(agent.try_status().code, 4);
    agent.start(&from_file);
    still(&mut known, "stopped and started again");
    daemon.stop();
}

#[test]
fn what_it_cannot_do_it_says() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let mut agent = Agent::new(&lab);
    let refused = |command: &mut Command, code: i32, words: &[&str]| {
        let finished = run(command);
        assert_eq!(finished.code, code, "{command:?}: {finished:?}");
        for word in words {
            assert!(finished.stderr.contains(word), "{word} is not in {}", finished.stderr);
        }
    };
    refused(Command::new(dptoa()).arg("run"), 2, &["--balancer"]);
    refused(
        agent.command().args(["run", "--balancer", "x"]),
        2,
        &["x is no address", "198.18.0.10"],
    );
    refused(&mut agent.run_command(&["--balancer-file", "/nowhere"]), 1, &["/nowhere"]);
    refused(agent.command().arg("status"), 4, &["dptoa run"]);
    refused(
        agent.command().args(["run", "--balancer", "::1", "--cgroup", "/tmp"]),
        1,
        &["/tmp", "cgroup"],
    );
    let elsewhere =
        Command::new(dptoa()).args(["--pins", "/tmp/dptoa", "status"]).output().unwrap();
    assert_eq!(elsewhere.status.code(), Some(4));
    let mut command = Command::new(dptoa());
    command.args(["--pins", "/tmp/dptoa", "run", "--balancer", "::1"]);
    refused(&mut command, 1, &["/tmp/dptoa", "mount -t bpf bpf /tmp"]);

    agent.start(LIPS);
    refused(&mut agent.run_command(LIPS), 5, &["another dptoa runs"]);
    // Another's look does not disturb.
    let checked =
        run(agent.command().args(["--json", "check", "--cgroup"]).arg(&agent.cgroup)).ok();
    let items: Vec<serde_json::Value> = serde_json::from_str(&checked.stdout).unwrap();
    let ok: HashMap<_, _> =
        items.iter().map(|item| (item["name"].as_str().unwrap(), item["ok"] == true)).collect();
    assert_eq!(ok.len(), 8);
    assert!(ok.values().all(|ok| *ok), "this kernel has it all: {ok:?}");
    agent.stop();

    // Who may not load programs is told so.
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--clear-groups", "--"]).arg(dptoa());
    let finished = run(command.args(["check"]));
    assert_eq!(finished.code, 1, "{finished:?}");
    assert!(finished.stdout.contains("CAP_BPF"), "{}", finished.stdout);
}

#[test]
fn three_capabilities_suffice() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let mut agent = Agent::new(&lab);
    let plain = agent.run_command(&["--balancer", SENDER, "--getsockopt", "--udp"]);
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-all,+bpf,+net_admin,+perfmon", "--no-new-privs", "--"]);
    command.arg(plain.get_program()).args(plain.get_args());
    agent.start_command(&mut command);
    let _python = Who::python(&lab, &lab.servers[0], &["v6", "82"]);
    RawTcp::silence(&lab.servers[1]);
    let said = handshake(&lab, &format!("{SENDER}:1"), &format!("{SERVER}:82"), &OPTION6, b"");
    assert_eq!(said, python_says(OPTION6_SAYS));
    agent.start_anew();
    agent.stop();
}

#[test]
fn it_needs_no_dpdk() {
    let needs = run(Command::new("ldd").arg(dptoa())).ok().stdout;
    assert!(!needs.contains("librte"), "{needs}");
}
